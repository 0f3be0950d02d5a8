//! BERT on slices: the function that [`super::module`] defines, for encoding on the CPU, texts without padding.

use super::super::attention::{Heads, attention};
use super::super::elementwise::add_norm;
use super::super::forward::{BLOCK_ROWS, Linear, Scratch, blocks, dense};
use super::super::lanes::Isa;
use super::super::tokens::Tokens;
use super::super::weights::NormWeights;
use super::{BertConfig, BertWeights, LayerWeights};

/// A BERT with its weights packed for one instruction set.
pub(crate) struct PackedBert {
    isa: Isa,
    config: BertConfig,
    words: Vec<f32>,
    positions: Vec<f32>,
    types: Vec<f32>,
    norm: NormWeights,
    layers: Vec<PackedLayer>,
    d: usize,
    shape: Heads<'static>,
    inner: usize,
    eps: f32,
}

struct PackedLayer {
    qkv: Linear,
    attention_output: Linear,
    attention_norm: NormWeights,
    up: Linear,
    down: Linear,
    output_norm: NormWeights,
}

impl PackedBert {
    pub(crate) fn new(isa: Isa, weights: BertWeights) -> Self {
        let config = weights.config;
        Self {
            isa,
            words: weights.words,
            positions: weights.positions,
            types: weights.types,
            norm: weights.embedding_norm,
            layers: weights
                .layers
                .into_iter()
                .map(|layer| PackedLayer::new(isa, &config, layer))
                .collect(),
            d: config.hidden_size,
            shape: config.heads(),
            inner: config.intermediate_size,
            eps: config.layer_norm_eps as f32,
            config,
        }
    }

    /// The weights, unpacked.
    pub(crate) fn weights(&self) -> BertWeights {
        BertWeights {
            config: self.config.clone(),
            words: self.words.clone(),
            positions: self.positions.clone(),
            types: self.types.clone(),
            embedding_norm: self.norm.clone(),
            layers: self.layers.iter().map(PackedLayer::weights).collect(),
        }
    }

    /// Memory for [`PackedBert::hidden_states`].
    pub(crate) fn scratch(&self) -> Scratch {
        Scratch::new(self.isa, self.d, self.inner, 0)
    }

    /// Shows `see(l, states)` the hidden states of each layer `l` in `0..=last`, an array `[tokens of all texts, D]`.
    pub(crate) fn hidden_states(
        &self,
        texts: &[&Tokens],
        last: usize,
        scratch: &mut Scratch,
        mut see: impl FnMut(usize, &[f32]),
    ) {
        let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
        scratch.resize(tokens, self.d, self.d);
        self.embed(texts, &mut scratch.hidden);
        see(0, &scratch.hidden);
        for (l, layer) in self.layers.iter().enumerate().take(last) {
            self.layer(layer, texts, scratch);
            see(l + 1, &scratch.hidden);
        }
    }

    fn embed(&self, texts: &[&Tokens], hidden: &mut [f32]) {
        let d = self.d;
        let row = |table: &'_ [f32], i: usize| -> std::ops::Range<usize> {
            debug_assert!((i + 1) * d <= table.len());
            i * d..(i + 1) * d
        };
        let mut out = hidden.chunks_exact_mut(d);
        for text in texts {
            for (position, &id) in text.ids.iter().enumerate() {
                let Some(out) = out.next() else { return };
                let kind = text.types.get(position).copied().unwrap_or(0) as usize;
                let word = &self.words[row(&self.words, id as usize)];
                let kind = &self.types[row(&self.types, kind)];
                let place = &self.positions[row(&self.positions, position)];
                for (((out, w), t), p) in out.iter_mut().zip(word).zip(kind).zip(place) {
                    *out = (w + t) + p;
                }
            }
        }
        add_norm(
            self.isa,
            hidden,
            &[],
            &self.norm.scale,
            &self.norm.shift,
            self.eps,
        );
    }

    fn layer(&self, layer: &PackedLayer, texts: &[&Tokens], s: &mut Scratch) {
        let d = self.d;
        let rows = s.hidden.len() / d;
        for (hidden, qkv) in blocks(&s.hidden, d).zip(s.qkv.chunks_mut(BLOCK_ROWS * 3 * d)) {
            layer.qkv.apply(self.isa, dense(hidden, d), None, qkv, 3 * d);
        }
        let mut first = 0;
        for text in texts {
            let end = first + text.ids.len();
            attention(
                self.isa,
                self.shape,
                &s.qkv[first * 3 * d..end * 3 * d],
                &mut s.context[first * d..end * d],
                &mut s.attention,
            );
            first = end;
        }
        for first in (0..rows).step_by(BLOCK_ROWS) {
            let n = BLOCK_ROWS.min(rows - first);
            let range = first * d..(first + n) * d;
            let hidden = &mut s.hidden[range.clone()];
            let outer = &mut s.outer[..n * d];
            let context = dense(&s.context[range], d);
            layer.attention_output.apply(self.isa, context, None, outer, d);
            self.residual(&layer.attention_norm, hidden, outer);
            let inner = &mut s.inner[..n * self.inner];
            layer.up.apply(
                self.isa,
                dense(hidden, d),
                Some(self.config.activation),
                inner,
                self.inner,
            );
            layer
                .down
                .apply(self.isa, dense(inner, self.inner), None, outer, d);
            self.residual(&layer.output_norm, hidden, outer);
        }
    }

    fn residual(&self, norm: &NormWeights, hidden: &mut [f32], sum: &[f32]) {
        add_norm(self.isa, hidden, sum, &norm.scale, &norm.shift, self.eps);
    }
}

impl PackedLayer {
    fn new(isa: Isa, config: &BertConfig, layer: LayerWeights) -> Self {
        let d = config.hidden_size;
        Self {
            qkv: Linear::new(isa, d, &[&layer.query, &layer.key, &layer.value]),
            attention_output: Linear::new(isa, d, &[&layer.attention_output]),
            attention_norm: layer.attention_norm,
            up: Linear::new(isa, d, &[&layer.up]),
            down: Linear::new(isa, config.intermediate_size, &[&layer.down]),
            output_norm: layer.output_norm,
        }
    }

    fn weights(&self) -> LayerWeights {
        LayerWeights {
            query: self.qkv.part(0, 3),
            key: self.qkv.part(1, 3),
            value: self.qkv.part(2, 3),
            attention_output: self.attention_output.part(0, 1),
            attention_norm: self.attention_norm.clone(),
            up: self.up.part(0, 1),
            down: self.down.part(0, 1),
            output_norm: self.output_norm.clone(),
        }
    }
}
