//! Where BERT's tensors lie.

use std::ops::Range;

use crate::encoder::BertConfig;
use crate::encoder::bert::{BertWeights, LayerWeights};
use crate::encoder::weights::{LinearWeights, NormWeights};

use super::super::layout::{Cursor, Map};

/// The ranges of all tensors. A weight is `[output, input]`, row-major, as PyTorch has it.
#[derive(Debug, Clone)]
pub(crate) struct BertLayout {
    pub config: BertConfig,
    pub words: Range<usize>,
    pub positions: Range<usize>,
    pub types: Range<usize>,
    pub norm: NormRanges,
    pub layers: Vec<LayerRanges>,
    pub len: usize,
}

/// A layer norm's scale and shift.
#[derive(Debug, Clone)]
pub(crate) struct NormRanges {
    pub scale: Range<usize>,
    pub shift: Range<usize>,
}

/// A linear map's weight and bias.
#[derive(Debug, Clone)]
pub(crate) struct LinearRanges {
    pub weight: Range<usize>,
    pub bias: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct LayerRanges {
    /// Query, key and value, one below the other: `[3 D, D]`.
    pub qkv: LinearRanges,
    pub output: LinearRanges,
    pub attention_norm: NormRanges,
    pub up: LinearRanges,
    pub down: LinearRanges,
    pub output_norm: NormRanges,
}

impl BertLayout {
    pub fn new(config: &BertConfig) -> BertLayout {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let mut cursor = Cursor::default();
        let words = cursor.take(config.vocab_size * d);
        let positions = cursor.take(config.max_position_embeddings * d);
        let types = cursor.take(config.type_vocab_size * d);
        let norm = cursor.norm(d);
        let layers = (0..config.num_hidden_layers)
            .map(|_| LayerRanges {
                qkv: cursor.linear(3 * d, d),
                output: cursor.linear(d, d),
                attention_norm: cursor.norm(d),
                up: cursor.linear(inner, d),
                down: cursor.linear(d, inner),
                output_norm: cursor.norm(d),
            })
            .collect();
        BertLayout {
            config: config.clone(),
            words,
            positions,
            types,
            norm,
            layers,
            len: cursor.len(),
        }
    }

    /// The parameters of a model in this order.
    pub fn flatten(&self, weights: &BertWeights) -> Vec<f32> {
        let mut flat = Vec::with_capacity(self.len);
        flat.extend_from_slice(&weights.words);
        flat.extend_from_slice(&weights.positions);
        flat.extend_from_slice(&weights.types);
        let norm = |flat: &mut Vec<f32>, norm: &NormWeights| {
            flat.extend_from_slice(&norm.scale);
            flat.extend_from_slice(&norm.shift);
        };
        let linear = |flat: &mut Vec<f32>, parts: &[&LinearWeights]| {
            parts.iter().for_each(|part| flat.extend_from_slice(&part.weight));
            parts.iter().for_each(|part| flat.extend_from_slice(&part.bias));
        };
        norm(&mut flat, &weights.embedding_norm);
        for layer in &weights.layers {
            linear(&mut flat, &[&layer.query, &layer.key, &layer.value]);
            linear(&mut flat, &[&layer.attention_output]);
            norm(&mut flat, &layer.attention_norm);
            linear(&mut flat, &[&layer.up]);
            linear(&mut flat, &[&layer.down]);
            norm(&mut flat, &layer.output_norm);
        }
        flat
    }

    /// The model whose parameters lie in `flat`.
    pub fn weights(&self, flat: &[f32]) -> BertWeights {
        let norm = |ranges: &NormRanges| NormWeights {
            scale: flat[ranges.scale.clone()].to_vec(),
            shift: flat[ranges.shift.clone()].to_vec(),
        };
        // One of `parts` maps of equal size.
        let part = |ranges: &LinearRanges, part: usize, parts: usize| {
            let cut = |range: &Range<usize>| {
                let size = range.len() / parts;
                flat[range.start + part * size..range.start + (part + 1) * size].to_vec()
            };
            LinearWeights {
                weight: cut(&ranges.weight),
                bias: cut(&ranges.bias),
            }
        };
        let layers = self.layers.iter().map(|layer| LayerWeights {
            query: part(&layer.qkv, 0, 3),
            key: part(&layer.qkv, 1, 3),
            value: part(&layer.qkv, 2, 3),
            attention_output: part(&layer.output, 0, 1),
            attention_norm: norm(&layer.attention_norm),
            up: part(&layer.up, 0, 1),
            down: part(&layer.down, 0, 1),
            output_norm: norm(&layer.output_norm),
        });
        BertWeights {
            config: self.config.clone(),
            words: flat[self.words.clone()].to_vec(),
            positions: flat[self.positions.clone()].to_vec(),
            types: flat[self.types.clone()].to_vec(),
            embedding_norm: norm(&self.norm),
            layers: layers.collect(),
        }
    }

    /// The linear maps of a layer.
    pub fn maps(&self, layer: usize) -> Vec<Map> {
        let (d, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let ranges = &self.layers[layer];
        vec![
            (ranges.qkv.weight.clone(), d),
            (ranges.output.weight.clone(), d),
            (ranges.up.weight.clone(), d),
            (ranges.down.weight.clone(), inner),
        ]
    }

    /// Embeddings and weights, without biases and norms: what decays.
    pub fn matrices(&self) -> Vec<Range<usize>> {
        let mut all = vec![self.words.clone(), self.positions.clone(), self.types.clone()];
        for layer in &self.layers {
            for linear in [&layer.qkv, &layer.output, &layer.up, &layer.down] {
                all.push(linear.weight.clone());
            }
        }
        all
    }

    /// The name of the tensor that holds the element at `place`, for messages.
    pub fn name(&self, place: usize) -> String {
        let inside = |range: &Range<usize>| range.contains(&place);
        for (range, name) in [
            (&self.words, "word_embeddings"),
            (&self.positions, "position_embeddings"),
            (&self.types, "token_type_embeddings"),
        ] {
            if inside(range) {
                return format!("embeddings.{name}");
            }
        }
        for (l, layer) in self.layers.iter().enumerate() {
            let parts = [
                (&layer.qkv, "attention.self"),
                (&layer.output, "attention.output.dense"),
                (&layer.up, "intermediate.dense"),
                (&layer.down, "output.dense"),
            ];
            for (ranges, name) in parts {
                if inside(&ranges.weight) || inside(&ranges.bias) {
                    return format!("encoder.layer.{l}.{name}");
                }
            }
            for (ranges, name) in [
                (&layer.attention_norm, "attention.output.LayerNorm"),
                (&layer.output_norm, "output.LayerNorm"),
            ] {
                if inside(&ranges.scale) || inside(&ranges.shift) {
                    return format!("encoder.layer.{l}.{name}");
                }
            }
        }
        "embeddings.LayerNorm".to_owned()
    }
}

impl Cursor {
    fn norm(&mut self, d: usize) -> NormRanges {
        NormRanges {
            scale: self.take(d),
            shift: self.take(d),
        }
    }

    fn linear(&mut self, output: usize, input: usize) -> LinearRanges {
        LinearRanges {
            weight: self.take(output * input),
            bias: self.take(output),
        }
    }
}
