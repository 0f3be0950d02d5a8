//! Where the tensors of a T5's encoder lie.

use std::ops::Range;

use crate::encoder::T5Config;
use crate::encoder::t5::{T5Layer, T5Weights};
use crate::encoder::weights::LinearWeights;

use super::super::layout::{Cursor, Map};

/// The ranges of all tensors. A weight is `[output, input]`, row-major, as PyTorch has it.
#[derive(Debug, Clone)]
pub(crate) struct T5Layout {
    pub config: T5Config,
    pub words: Range<usize>,
    /// What the buckets of distances add to scores, `[buckets, heads]`.
    pub distances: Range<usize>,
    pub layers: Vec<LayerRanges>,
    pub norm: Range<usize>,
    pub len: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct LayerRanges {
    pub attention_norm: Range<usize>,
    /// Query, key and value, one below the other.
    pub qkv: Range<usize>,
    pub output: Range<usize>,
    pub dense_norm: Range<usize>,
    pub up: Range<usize>,
    /// Empty in a network without a gate.
    pub gate: Range<usize>,
    pub down: Range<usize>,
}

impl T5Layout {
    pub fn new(config: &T5Config) -> T5Layout {
        let (d, inner, wide) = (config.d_model, config.attention_size(), config.d_ff);
        let mut cursor = Cursor::default();
        T5Layout {
            config: config.clone(),
            words: cursor.take(config.vocab_size * d),
            distances: cursor.take(config.relative_attention_num_buckets * config.num_heads),
            layers: (0..config.num_layers)
                .map(|_| LayerRanges {
                    attention_norm: cursor.take(d),
                    qkv: cursor.take(3 * inner * d),
                    output: cursor.take(d * inner),
                    dense_norm: cursor.take(d),
                    up: cursor.take(wide * d),
                    gate: cursor.take(if config.gated { wide * d } else { 0 }),
                    down: cursor.take(d * wide),
                })
                .collect(),
            norm: cursor.take(d),
            len: cursor.len(),
        }
    }

    /// The parameters of a model in this order.
    pub fn flatten(&self, weights: &T5Weights) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.len);
        flat.extend_from_slice(&weights.words);
        flat.extend_from_slice(&weights.distances);
        for layer in &weights.layers {
            flat.extend_from_slice(&layer.attention_norm);
            for linear in [&layer.query, &layer.key, &layer.value, &layer.output] {
                flat.extend_from_slice(&linear.weight);
            }
            flat.extend_from_slice(&layer.dense_norm);
            for linear in [Some(&layer.up), layer.gate.as_ref(), Some(&layer.down)] {
                flat.extend_from_slice(linear.map_or(&[], |linear| &linear.weight));
            }
        }
        flat.extend_from_slice(&weights.norm);
        flat
    }

    /// The model whose parameters lie in `flat`.
    pub fn weights(&self, flat: &[f32]) -> T5Weights {
        let vector = |range: &Range<usize>| flat[range.clone()].to_vec();
        let linear = |range: &Range<usize>| LinearWeights::without_bias(vector(range));
        let layers = self.layers.iter().map(|layer| {
            let third = layer.qkv.len() / 3;
            let part = |i: usize| linear(&(layer.qkv.start + i * third..layer.qkv.start + (i + 1) * third));
            T5Layer {
                attention_norm: vector(&layer.attention_norm),
                query: part(0),
                key: part(1),
                value: part(2),
                output: linear(&layer.output),
                dense_norm: vector(&layer.dense_norm),
                up: linear(&layer.up),
                gate: self.config.gated.then(|| linear(&layer.gate)),
                down: linear(&layer.down),
            }
        });
        T5Weights {
            words: vector(&self.words),
            distances: vector(&self.distances),
            layers: layers.collect(),
            norm: vector(&self.norm),
            config: self.config.clone(),
        }
    }

    /// The linear maps of a layer.
    pub fn maps(&self, layer: usize) -> Vec<Map> {
        let (d, ranges) = (self.config.d_model, &self.layers[layer]);
        let mut maps = vec![
            (ranges.qkv.clone(), d),
            (ranges.output.clone(), self.config.attention_size()),
            (ranges.up.clone(), d),
            (ranges.down.clone(), self.config.d_ff),
        ];
        if self.config.gated {
            maps.push((ranges.gate.clone(), d));
        }
        maps
    }

    /// The embedding and the weights of linear maps.
    pub fn matrices(&self) -> Vec<Range<usize>> {
        let mut all = vec![self.words.clone()];
        for layer in &self.layers {
            let maps = [&layer.qkv, &layer.output, &layer.up, &layer.gate, &layer.down];
            all.extend(maps.into_iter().cloned());
        }
        all
    }

    /// The name of the tensor that holds the element at `place`, for messages.
    pub fn name(&self, place: usize) -> String {
        let inside = |range: &Range<usize>| range.contains(&place);
        for (l, layer) in self.layers.iter().enumerate() {
            for (range, name) in [
                (&layer.attention_norm, "layer.0.layer_norm"),
                (&layer.qkv, "layer.0.SelfAttention.qkv"),
                (&layer.output, "layer.0.SelfAttention.o"),
                (&layer.dense_norm, "layer.1.layer_norm"),
                (&layer.up, "layer.1.DenseReluDense.wi"),
                (&layer.gate, "layer.1.DenseReluDense.wi_1"),
                (&layer.down, "layer.1.DenseReluDense.wo"),
            ] {
                if inside(range) {
                    return format!("encoder.block.{l}.{name}");
                }
            }
        }
        let name = if inside(&self.words) {
            "shared"
        } else if inside(&self.distances) {
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"
        } else {
            "encoder.final_layer_norm"
        };
        name.to_owned()
    }
}
