//! The weights of a T5's encoder by their names in safetensors files. A decoder beside them is left alone.

use super::super::ModelError;
use super::super::weights::{LinearWeights, NamedTensor, Source};
use super::T5Config;

/// One layer's weights.
pub(crate) struct T5Layer {
    /// `[D]`
    pub attention_norm: Vec<f32>,
    pub query: LinearWeights,
    pub key: LinearWeights,
    pub value: LinearWeights,
    pub output: LinearWeights,
    /// `[D]`
    pub dense_norm: Vec<f32>,
    /// The map that is activated.
    pub up: LinearWeights,
    /// In a gated network, the map that the activations are multiplied with.
    pub gate: Option<LinearWeights>,
    pub down: LinearWeights,
}

/// All weights of an encoder, in f32. Linear maps have no bias.
pub(crate) struct T5Weights {
    pub config: T5Config,
    /// `[vocabulary, D]`
    pub words: Vec<f32>,
    /// `[buckets, heads]`, shared by all layers.
    pub distances: Vec<f32>,
    pub layers: Vec<T5Layer>,
    /// `[D]`
    pub norm: Vec<f32>,
}

const WORDS: &str = "shared.weight";
const WORDS_TOO: &str = "encoder.embed_tokens.weight";
const DISTANCES: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
const NORM: &str = "encoder.final_layer_norm.weight";

const GATE: &str = "layer.1.DenseReluDense.wi_1";

/// The name of the map that is activated.
fn up(config: &T5Config) -> &'static str {
    match config.gated {
        true => "layer.1.DenseReluDense.wi_0",
        false => "layer.1.DenseReluDense.wi",
    }
}

impl T5Weights {
    pub(crate) fn read(source: &Source<'_>, config: &T5Config) -> Result<Self, ModelError> {
        let (d, inner, wide) = (config.d_model, config.attention_size(), config.d_ff);
        let mut layers = Vec::with_capacity(config.num_layers.min(1024));
        for l in 0..config.num_layers {
            let map = |part: &str, output, input| {
                let name = format!("encoder.block.{l}.{part}.weight");
                source
                    .tensor(&name, &[output, input])
                    .map(LinearWeights::without_bias)
            };
            let norm =
                |half| source.tensor(&format!("encoder.block.{l}.layer.{half}.layer_norm.weight"), &[d]);
            layers.push(T5Layer {
                attention_norm: norm(0)?,
                query: map("layer.0.SelfAttention.q", inner, d)?,
                key: map("layer.0.SelfAttention.k", inner, d)?,
                value: map("layer.0.SelfAttention.v", inner, d)?,
                output: map("layer.0.SelfAttention.o", d, inner)?,
                dense_norm: norm(1)?,
                up: map(up(config), wide, d)?,
                gate: config.gated.then(|| map(GATE, wide, d)).transpose()?,
                down: map("layer.1.DenseReluDense.wo", d, wide)?,
            });
        }
        let words = if source.has(WORDS) || !source.has(WORDS_TOO) {
            WORDS
        } else {
            WORDS_TOO
        };
        Ok(Self {
            config: config.clone(),
            words: source.tensor(words, &[config.vocab_size, d])?,
            distances: source.tensor(
                DISTANCES,
                &[config.relative_attention_num_buckets, config.num_heads],
            )?,
            layers,
            norm: source.tensor(NORM, &[d])?,
        })
    }

    /// The tensors by the names that `read` looks for, with their shapes.
    pub(crate) fn tensors(&self) -> Vec<NamedTensor<'_>> {
        let config = &self.config;
        let (d, inner, wide) = (config.d_model, config.attention_size(), config.d_ff);
        let mut all: Vec<NamedTensor<'_>> = vec![
            (WORDS.to_owned(), vec![self.words.len() / d, d], &self.words),
            (
                DISTANCES.to_owned(),
                vec![self.distances.len() / config.num_heads, config.num_heads],
                &self.distances,
            ),
        ];
        for (l, layer) in self.layers.iter().enumerate() {
            let mut put = |part: &str, shape: Vec<usize>, values| {
                all.push((format!("encoder.block.{l}.{part}.weight"), shape, values));
            };
            put("layer.0.layer_norm", vec![d], &layer.attention_norm);
            put("layer.0.SelfAttention.q", vec![inner, d], &layer.query.weight);
            put("layer.0.SelfAttention.k", vec![inner, d], &layer.key.weight);
            put("layer.0.SelfAttention.v", vec![inner, d], &layer.value.weight);
            put("layer.0.SelfAttention.o", vec![d, inner], &layer.output.weight);
            put("layer.1.layer_norm", vec![d], &layer.dense_norm);
            put(up(config), vec![wide, d], &layer.up.weight);
            if let Some(gate) = &layer.gate {
                put(GATE, vec![wide, d], &gate.weight);
            }
            put("layer.1.DenseReluDense.wo", vec![d, wide], &layer.down.weight);
        }
        all.push((NORM.to_owned(), vec![d], &self.norm));
        all
    }
}
