use serde::Serialize;
use serde_json::Value;

use super::super::ModelError;
use super::super::attention::{DistanceBias, Heads};
use super::super::config::{Activation, Fields};

/// Tokens of a text at most where the folder does not say: T5 was trained on that many.
const TOKENS: usize = 512;

/// The architecture of a T5's encoder, as far as it changes a vector; names are those of `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct T5Config {
    /// Size of a hidden state, `D`.
    pub d_model: usize,
    /// Size of one head of attention; `num_heads * d_kv` need not be `d_model`.
    pub d_kv: usize,
    /// Size of the feed-forward part.
    pub d_ff: usize,
    /// Layers, `L`.
    pub num_layers: usize,
    /// Heads of attention.
    pub num_heads: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Buckets of distances between tokens, half of them for each direction.
    pub relative_attention_num_buckets: usize,
    /// Distance from which on all tokens share a bucket.
    pub relative_attention_max_distance: usize,
    /// Added to the mean square in every norm.
    pub layer_norm_epsilon: f64,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// Whether the activations are multiplied with a second linear map of the input (T5 1.1, mT5).
    pub gated: bool,
    /// Tokens of a text by default: `n_positions` where it is, else 512. The network itself has no limit.
    pub n_positions: usize,
}

impl T5Config {
    /// `projection` is what the feed-forward part is where the file does not say.
    pub(crate) fn parse(fields: &Fields<'_>, projection: &str) -> Result<Self, ModelError> {
        fields.refuse_decoder()?;
        let projection = fields.text("feed_forward_proj", projection);
        let (gate, name) = match projection.split_once('-') {
            Some(("gated", name)) => (true, name),
            Some(_) => {
                return Err(fields.unsupported(
                    "the feed-forward part",
                    &projection,
                    "relu and gated-gelu are",
                ));
            }
            None => (false, projection.as_str()),
        };
        // The gelu of T5 1.1 is the approximation, although its name is not.
        let usual = if projection == "gated-gelu" {
            "gelu_new"
        } else {
            name
        };
        let config = Self {
            activation: fields.activation(&fields.text("dense_act_fn", usual))?,
            gated: fields
                .json
                .get("is_gated_act")
                .and_then(Value::as_bool)
                .unwrap_or(gate),
            d_model: fields.size("d_model")?,
            d_kv: fields.size("d_kv")?,
            d_ff: fields.size("d_ff")?,
            num_layers: fields.size("num_layers")?,
            num_heads: fields.size("num_heads")?,
            vocab_size: fields.size("vocab_size")?,
            relative_attention_num_buckets: fields.size_or("relative_attention_num_buckets", 32)?,
            relative_attention_max_distance: fields.size_or("relative_attention_max_distance", 128)?,
            layer_norm_epsilon: fields.epsilon("layer_norm_epsilon", 1e-6)?,
            n_positions: fields.size_or("n_positions", TOKENS)?,
        };
        let (buckets, distance) = (
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
        );
        if buckets < 4 || distance <= buckets / 4 {
            return Err(fields.broken(format!(
                "relative_attention_num_buckets {buckets} and relative_attention_max_distance {distance} leave no \
                 buckets for distances: at least 4 are needed, and a distance above a quarter of their number"
            )));
        }
        Ok(config)
    }

    /// Size of what attention works on, `num_heads * d_kv`.
    pub(crate) fn attention_size(&self) -> usize {
        self.num_heads * self.d_kv
    }

    /// The shape of its attention.
    pub(crate) fn heads<'a>(&self, bias: Option<&'a DistanceBias>) -> Heads<'a> {
        Heads {
            heads: self.num_heads,
            size: self.d_kv,
            factor: 1.0,
            bias,
        }
    }

    /// Number of weights of the encoder.
    pub(crate) fn parameters(&self) -> u64 {
        let (d, inner, wide) = (
            self.d_model as u64,
            self.attention_size() as u64,
            self.d_ff as u64,
        );
        let layer = 4 * d * inner + (2 + u64::from(self.gated)) * d * wide + 2 * d;
        let bias = (self.relative_attention_num_buckets * self.num_heads) as u64;
        self.vocab_size as u64 * d + bias + self.num_layers as u64 * layer + d
    }
}
