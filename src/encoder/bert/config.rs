use serde::Serialize;

use super::super::ModelError;
use super::super::attention::Heads;
use super::super::config::{Activation, Fields};

/// The architecture of a BERT, as far as it changes a vector.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BertConfig {
    /// Size of a hidden state, `D`.
    pub hidden_size: usize,
    /// Layers, `L`.
    pub num_hidden_layers: usize,
    /// Heads of attention; they divide `hidden_size`.
    pub num_attention_heads: usize,
    /// Size of the feed-forward part.
    pub intermediate_size: usize,
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Rows of the position embedding: the longest text in tokens.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding.
    pub type_vocab_size: usize,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f64,
    /// Activation of the feed-forward part.
    pub activation: Activation,
}

impl BertConfig {
    pub(crate) fn parse(fields: &Fields<'_>) -> Result<Self, ModelError> {
        let position = fields.text("position_embedding_type", "absolute");
        if position != "absolute" {
            return Err(fields.unsupported("position embeddings", &position, "absolute are"));
        }
        fields.refuse_decoder()?;
        let config = Self {
            activation: fields.activation(&fields.text("hidden_act", "gelu"))?,
            layer_norm_eps: fields.epsilon("layer_norm_eps", 1e-12)?,
            hidden_size: fields.size("hidden_size")?,
            num_hidden_layers: fields.size("num_hidden_layers")?,
            num_attention_heads: fields.size("num_attention_heads")?,
            intermediate_size: fields.size("intermediate_size")?,
            vocab_size: fields.size("vocab_size")?,
            max_position_embeddings: fields.size("max_position_embeddings")?,
            type_vocab_size: fields.size("type_vocab_size")?,
        };
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return Err(fields.broken(format!(
                "hidden_size {} cannot be split over num_attention_heads {}",
                config.hidden_size, config.num_attention_heads
            )));
        }
        Ok(config)
    }

    /// The shape of its attention.
    pub(crate) fn heads(&self) -> Heads<'static> {
        let size = self.hidden_size / self.num_attention_heads;
        Heads {
            heads: self.num_attention_heads,
            size,
            factor: 1.0 / (size as f32).sqrt(),
            bias: None,
        }
    }

    /// Number of weights.
    pub(crate) fn parameters(&self) -> u64 {
        let (d, inner) = (self.hidden_size as u64, self.intermediate_size as u64);
        let rows = (self.vocab_size + self.max_position_embeddings + self.type_vocab_size + 2) as u64;
        let layer = 4 * (d * d + d) + 2 * d * inner + inner + d + 4 * d;
        rows * d + self.num_hidden_layers as u64 * layer
    }
}
