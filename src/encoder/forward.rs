//! The forward pass on slices: the function that [`super::bert`] defines, for encoding on the CPU.
//!
//! Texts of a batch lie one after the other without padding; all but attention works on single rows, and
//! attention on the rows of one text, so a text's vectors are the same to the bit in any company.

use super::config::{Activation, BertConfig};
use super::elementwise::{add_norm, exponentials};
use super::lanes::Isa;
use super::matrix::{Finish, PLAIN, Panels, Rows, product};
use super::settings::Pooling;
use super::tokens::Tokens;
use super::weights::{LayerWeights, LinearWeights, NormWeights, Weights};

/// Rows that go through a feed-forward part together: their inner states stay in the second-level cache.
pub(crate) const BLOCK_ROWS: usize = 112;
/// Query rows of one head whose scores are kept at once.
const SCORE_ROWS: usize = 56;

/// A BERT with its weights packed for one instruction set.
pub(crate) struct PackedBert {
    isa: Isa,
    words: Vec<f32>,
    positions: Vec<f32>,
    types: Vec<f32>,
    norm: NormWeights,
    layers: Vec<PackedLayer>,
    d: usize,
    heads: usize,
    head_size: usize,
    inner: usize,
    eps: f32,
    activation: Activation,
}

struct Linear {
    weight: Panels,
    bias: Vec<f32>,
}

struct PackedLayer {
    qkv: Linear,
    attention_output: Linear,
    attention_norm: NormWeights,
    up: Linear,
    down: Linear,
    output_norm: NormWeights,
}

/// Working memory of one thread, kept from batch to batch.
pub(crate) struct Scratch {
    hidden: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    inner: Vec<f32>,
    outer: Vec<f32>,
    attention: AttentionScratch,
}

/// Working memory of one thread's [`attention`].
pub(crate) struct AttentionScratch {
    scores: Vec<f32>,
    sums: Vec<f32>,
    keys: Panels,
    values: Panels,
}

impl AttentionScratch {
    pub(crate) fn new(isa: Isa) -> Self {
        Self {
            scores: Vec::new(),
            sums: vec![0.0; SCORE_ROWS],
            keys: Panels::new(isa),
            values: Panels::new(isa),
        }
    }
}

impl PackedBert {
    pub(crate) fn new(isa: Isa, config: &BertConfig, weights: Weights) -> Self {
        Self {
            isa,
            words: weights.words,
            positions: weights.positions,
            types: weights.types,
            norm: weights.embedding_norm,
            layers: weights
                .layers
                .into_iter()
                .map(|layer| PackedLayer::new(isa, config, layer))
                .collect(),
            d: config.hidden_size,
            heads: config.num_attention_heads,
            head_size: config.head_size(),
            inner: config.intermediate_size,
            eps: config.layer_norm_eps as f32,
            activation: config.activation,
        }
    }

    /// The weights, unpacked.
    pub(crate) fn weights(&self) -> Weights {
        Weights {
            words: self.words.clone(),
            positions: self.positions.clone(),
            types: self.types.clone(),
            embedding_norm: self.norm.clone(),
            layers: self.layers.iter().map(PackedLayer::weights).collect(),
        }
    }

    /// Memory for [`PackedBert::hidden_states`].
    pub(crate) fn scratch(&self) -> Scratch {
        Scratch {
            hidden: Vec::new(),
            qkv: Vec::new(),
            context: Vec::new(),
            inner: vec![0.0; BLOCK_ROWS * self.inner],
            outer: vec![0.0; BLOCK_ROWS * self.d],
            attention: AttentionScratch::new(self.isa),
        }
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
        scratch.hidden.resize(tokens * self.d, 0.0);
        scratch.context.resize(tokens * self.d, 0.0);
        scratch.qkv.resize(tokens * 3 * self.d, 0.0);
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
                self.heads,
                self.head_size,
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
                Some(self.activation),
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

/// `softmax(q kᵀ / √size) v` for one text, head by head: `qkv` is `[n, 3 D]`, `context` `[n, D]`.
pub(crate) fn attention(
    isa: Isa,
    heads: usize,
    size: usize,
    qkv: &[f32],
    context: &mut [f32],
    s: &mut AttentionScratch,
) {
    let d = heads * size;
    let wide = 3 * d;
    let n = qkv.len() / wide;
    let stride = n.next_multiple_of(32);
    let factor = 1.0 / (size as f32).sqrt();
    s.scores.resize(SCORE_ROWS * stride, 0.0);
    for head in 0..heads {
        let at = head * size;
        s.keys.pack(size, n, true, |i, key| qkv[key * wide + d + at + i]);
        s.values
            .pack(n, size, false, |key, i| qkv[key * wide + 2 * d + at + i]);
        for row in (0..n).step_by(SCORE_ROWS) {
            let rows = SCORE_ROWS.min(n - row);
            let queries = Rows {
                data: &qkv[row * wide + at..],
                stride: wide,
                rows,
            };
            let scores = &mut s.scores[..rows * stride];
            product(isa, queries, &s.keys, PLAIN, scores, stride);
            let sums = &mut s.sums[..rows];
            exponentials(isa, scores, stride, n, factor, sums);
            let weights = Rows {
                data: scores,
                stride,
                rows,
            };
            let out = &mut context[row * d + at..];
            product(isa, weights, &s.values, PLAIN, out, d);
            for (i, sum) in sums.iter().enumerate() {
                let inverse = 1.0 / sum;
                out[i * d..i * d + size].iter_mut().for_each(|x| *x *= inverse);
            }
        }
    }
}

/// Rows of `width` elements without gaps.
pub(crate) fn dense(data: &[f32], width: usize) -> Rows<'_> {
    Rows {
        data,
        stride: width,
        rows: data.len() / width,
    }
}

/// Blocks of at most [`BLOCK_ROWS`] rows.
fn blocks(data: &[f32], d: usize) -> impl Iterator<Item = &[f32]> {
    data.chunks(BLOCK_ROWS * d)
}

impl Linear {
    fn new(isa: Isa, depth: usize, parts: &[&LinearWeights]) -> Self {
        let weights: Vec<&[f32]> = parts.iter().map(|part| part.weight.as_slice()).collect();
        Self {
            weight: Panels::from_weights(isa, depth, &weights),
            bias: parts.iter().flat_map(|part| part.bias.iter().copied()).collect(),
        }
    }

    /// One of `parts` maps of equal size that lie side by side.
    fn part(&self, part: usize, parts: usize) -> LinearWeights {
        let size = self.bias.len() / parts;
        let range = part * size..(part + 1) * size;
        LinearWeights {
            weight: self.weight.to_weight(range.clone()),
            bias: self.bias[range].to_vec(),
        }
    }

    fn apply(&self, isa: Isa, x: Rows<'_>, activation: Option<Activation>, out: &mut [f32], stride: usize) {
        let finish = Finish {
            bias: &self.bias,
            activation,
        };
        product(isa, x, &self.weight, finish, out, stride);
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

/// One vector out of the hidden states `[tokens, D]` of a text, scaled to length 1 if asked.
pub(crate) fn pool(states: &[f32], pooling: Pooling, normalize: bool, out: &mut [f32]) {
    let d = out.len();
    match pooling {
        Pooling::Cls => out.copy_from_slice(&states[..d]),
        Pooling::Mean => {
            out.fill(0.0);
            for row in states.chunks_exact(d) {
                out.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            let count = (states.len() / d) as f32;
            out.iter_mut().for_each(|x| *x /= count);
        }
    }
    if normalize {
        let square: f64 = out.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        // A vector of zeros stays one, as in PyTorch's normalize.
        let length = square.sqrt().max(1e-12);
        out.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}
