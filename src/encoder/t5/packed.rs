//! T5's encoder on slices, texts without padding.

use super::super::attention::{Heads, attention};
use super::super::elementwise::{add, multiply, scaled_by_root_mean_square};
use super::super::forward::{BLOCK_ROWS, Linear, Scratch, blocks, dense};
use super::super::lanes::Isa;
use super::super::tokens::Tokens;
use super::position::distance_bias;
use super::{T5Config, T5Layer, T5Weights};

/// A T5 encoder with its weights packed for one instruction set.
pub(crate) struct PackedT5 {
    isa: Isa,
    config: T5Config,
    words: Vec<f32>,
    distances: Vec<f32>,
    layers: Vec<PackedLayer>,
    norm: Vec<f32>,
}

struct PackedLayer {
    attention_norm: Vec<f32>,
    qkv: Linear,
    output: Linear,
    dense_norm: Vec<f32>,
    up: Linear,
    gate: Option<Linear>,
    down: Linear,
}

impl PackedT5 {
    pub(crate) fn new(isa: Isa, weights: T5Weights) -> Self {
        let config = weights.config;
        Self {
            isa,
            words: weights.words,
            distances: weights.distances,
            layers: weights
                .layers
                .into_iter()
                .map(|layer| PackedLayer::new(isa, &config, layer))
                .collect(),
            norm: weights.norm,
            config,
        }
    }

    /// The weights, unpacked.
    pub(crate) fn weights(&self) -> T5Weights {
        T5Weights {
            config: self.config.clone(),
            words: self.words.clone(),
            distances: self.distances.clone(),
            layers: self.layers.iter().map(PackedLayer::weights).collect(),
            norm: self.norm.clone(),
        }
    }

    /// Memory for [`PackedT5::hidden_states`].
    pub(crate) fn scratch(&self) -> Scratch {
        let gate = if self.config.gated { self.config.d_ff } else { 0 };
        Scratch::new(self.isa, self.config.d_model, self.config.d_ff, gate)
    }

    /// Shows `see(l, states)` the hidden states of each layer `l` in `0..=last`, an array `[tokens of all texts, D]`.
    pub(crate) fn hidden_states(
        &self,
        texts: &[&Tokens],
        last: usize,
        s: &mut Scratch,
        mut see: impl FnMut(usize, &[f32]),
    ) {
        let (d, inner) = (self.config.d_model, self.config.attention_size());
        s.resize(texts.iter().map(|text| text.ids.len()).sum(), d, inner);
        for (out, &id) in s
            .hidden
            .chunks_exact_mut(d)
            .zip(texts.iter().flat_map(|text| &text.ids))
        {
            out.copy_from_slice(&self.words[id as usize * d..][..d]);
        }
        see(0, &s.hidden);
        let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
        let bias = distance_bias(&self.config, &self.distances, longest);
        let heads = self.config.heads(Some(&bias));
        for (l, layer) in self.layers.iter().enumerate().take(last) {
            self.layer(layer, texts, heads, s);
            if l + 1 == self.layers.len() {
                for hidden in s.hidden.chunks_mut(BLOCK_ROWS * d) {
                    let outer = &mut s.outer[..hidden.len()];
                    self.normed(hidden, &self.norm, outer);
                    hidden.copy_from_slice(outer);
                }
            }
            see(l + 1, &s.hidden);
        }
    }

    fn normed(&self, x: &[f32], scale: &[f32], out: &mut [f32]) {
        let eps = self.config.layer_norm_epsilon as f32;
        scaled_by_root_mean_square(self.isa, x, scale, eps, out);
    }

    fn layer(&self, layer: &PackedLayer, texts: &[&Tokens], heads: Heads<'_>, s: &mut Scratch) {
        let (isa, d, inner, wide) = (
            self.isa,
            self.config.d_model,
            self.config.attention_size(),
            self.config.d_ff,
        );
        for (hidden, qkv) in blocks(&s.hidden, d).zip(s.qkv.chunks_mut(BLOCK_ROWS * 3 * inner)) {
            let normed = &mut s.outer[..hidden.len()];
            self.normed(hidden, &layer.attention_norm, normed);
            layer.qkv.apply(isa, dense(normed, d), None, qkv, 3 * inner);
        }
        let mut first = 0;
        for text in texts {
            let end = first + text.ids.len();
            let qkv = &s.qkv[first * 3 * inner..end * 3 * inner];
            let context = &mut s.context[first * inner..end * inner];
            attention(isa, heads, qkv, context, &mut s.attention);
            first = end;
        }
        for (hidden, context) in s
            .hidden
            .chunks_mut(BLOCK_ROWS * d)
            .zip(s.context.chunks(BLOCK_ROWS * inner))
        {
            let rows = hidden.len() / d;
            let outer = &mut s.outer[..rows * d];
            layer.output.apply(isa, dense(context, inner), None, outer, d);
            add(isa, hidden, outer);
            self.normed(hidden, &layer.dense_norm, outer);
            let x = dense(outer, d);
            let active = &mut s.inner[..rows * wide];
            layer.up.apply(isa, x, Some(self.config.activation), active, wide);
            if let Some(gate) = &layer.gate {
                let by = &mut s.gate[..rows * wide];
                gate.apply(isa, x, None, by, wide);
                multiply(isa, active, by);
            }
            layer.down.apply(isa, dense(active, wide), None, outer, d);
            add(isa, hidden, outer);
        }
    }
}

impl PackedLayer {
    fn new(isa: Isa, config: &T5Config, layer: T5Layer) -> Self {
        let d = config.d_model;
        Self {
            qkv: Linear::new(isa, d, &[&layer.query, &layer.key, &layer.value]),
            output: Linear::new(isa, config.attention_size(), &[&layer.output]),
            up: Linear::new(isa, d, &[&layer.up]),
            gate: layer.gate.as_ref().map(|gate| Linear::new(isa, d, &[gate])),
            down: Linear::new(isa, config.d_ff, &[&layer.down]),
            attention_norm: layer.attention_norm,
            dense_norm: layer.dense_norm,
        }
    }

    fn weights(&self) -> T5Layer {
        T5Layer {
            attention_norm: self.attention_norm.clone(),
            query: self.qkv.part(0, 3),
            key: self.qkv.part(1, 3),
            value: self.qkv.part(2, 3),
            output: self.output.part(0, 1),
            dense_norm: self.dense_norm.clone(),
            up: self.up.part(0, 1),
            gate: self.gate.as_ref().map(|gate| gate.part(0, 1)),
            down: self.down.part(0, 1),
        }
    }
}
