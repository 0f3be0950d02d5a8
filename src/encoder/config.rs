//! What `config.json` says of a BERT.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ModelError;

/// Activation of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)` with the error function.
    Gelu,
    /// The approximation with a hyperbolic tangent (`gelu_new`, `gelu_pytorch_tanh`).
    GeluNew,
    /// `max(x, 0)`.
    Relu,
}

/// The architecture, as far as it changes a vector.
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
    /// Reads and checks `config.json`; `file` is for messages.
    pub(crate) fn parse(file: &Path, json: &Value) -> Result<Self, ModelError> {
        let unsupported = |what, value: &str, supported| ModelError::Unsupported {
            file: file.to_path_buf(),
            what,
            value: value.to_string(),
            supported,
        };
        let broken = |reason: String| ModelError::Json {
            file: file.to_path_buf(),
            reason,
        };
        let number = |key: &str| -> Result<usize, ModelError> {
            let found = json
                .get(key)
                .ok_or_else(|| broken(format!("`{key}` is missing")))?;
            match found.as_u64() {
                // The bound keeps products of two sizes far from overflow.
                Some(n) if (1..=1 << 24).contains(&n) => Ok(n as usize),
                _ => Err(broken(format!("`{key}` is {found}, not a size"))),
            }
        };
        let text = |key: &str, default: &'static str| -> String {
            match json.get(key) {
                None | Some(Value::Null) => default.to_string(),
                Some(Value::String(s)) => s.clone(),
                Some(other) => other.to_string(),
            }
        };
        let kind = text("model_type", "bert");
        if kind != "bert" {
            return Err(unsupported("the architecture", &kind, "bert is"));
        }
        let position = text("position_embedding_type", "absolute");
        if position != "absolute" {
            return Err(unsupported("position embeddings", &position, "absolute are"));
        }
        if json.get("is_decoder").and_then(Value::as_bool) == Some(true) {
            return Err(unsupported("a decoder", "is_decoder", "encoders are"));
        }
        let activation = match text("hidden_act", "gelu").as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluNew,
            "relu" => Activation::Relu,
            other => {
                return Err(unsupported(
                    "the activation",
                    other,
                    "gelu, gelu_new, gelu_pytorch_tanh and relu are",
                ));
            }
        };
        let layer_norm_eps = match json.get("layer_norm_eps") {
            None => 1e-12,
            Some(value) => value
                .as_f64()
                .filter(|eps| eps.is_finite() && *eps >= 0.0)
                .ok_or_else(|| broken(format!("`layer_norm_eps` is {value}, not a small number")))?,
        };
        let config = Self {
            hidden_size: number("hidden_size")?,
            num_hidden_layers: number("num_hidden_layers")?,
            num_attention_heads: number("num_attention_heads")?,
            intermediate_size: number("intermediate_size")?,
            vocab_size: number("vocab_size")?,
            max_position_embeddings: number("max_position_embeddings")?,
            type_vocab_size: number("type_vocab_size")?,
            layer_norm_eps,
            activation,
        };
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return Err(broken(format!(
                "hidden_size {} cannot be split over num_attention_heads {}",
                config.hidden_size, config.num_attention_heads
            )));
        }
        Ok(config)
    }

    /// Size of one head of attention.
    pub(crate) fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}
