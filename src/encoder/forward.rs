//! What the forward passes on slices share, whatever the architecture: linear maps, working memory, pooling.
//!
//! Texts of a batch lie one after the other without padding; all but attention works on single rows, and
//! attention on the rows of one text, so a text's vectors are the same to the bit in any company.

use super::attention::AttentionScratch;
use super::config::Activation;
use super::lanes::Isa;
use super::matrix::{Finish, Panels, Rows, product};
use super::settings::Pooling;
use super::weights::LinearWeights;

/// Rows that go through a feed-forward part together: their inner states stay in the second-level cache.
pub(crate) const BLOCK_ROWS: usize = 112;

/// A linear map, or several of one input side by side.
pub(crate) struct Linear {
    weight: Panels,
    bias: Vec<f32>,
}

/// Working memory of one thread, kept from batch to batch.
pub(crate) struct Scratch {
    /// `[tokens, D]`
    pub hidden: Vec<f32>,
    pub qkv: Vec<f32>,
    pub context: Vec<f32>,
    /// Of a block, as all that follow.
    pub inner: Vec<f32>,
    pub gate: Vec<f32>,
    pub outer: Vec<f32>,
    pub attention: AttentionScratch,
}

impl Scratch {
    /// For hidden states of `d` elements and a feed-forward part of `inner`, `gate` of them for a gate.
    pub fn new(isa: Isa, d: usize, inner: usize, gate: usize) -> Self {
        Self {
            hidden: Vec::new(),
            qkv: Vec::new(),
            context: Vec::new(),
            inner: vec![0.0; BLOCK_ROWS * inner],
            gate: vec![0.0; BLOCK_ROWS * gate],
            outer: vec![0.0; BLOCK_ROWS * d],
            attention: AttentionScratch::new(isa),
        }
    }

    /// Makes room for a batch whose attention works on `width` elements a token.
    pub fn resize(&mut self, tokens: usize, d: usize, width: usize) {
        self.hidden.resize(tokens * d, 0.0);
        self.context.resize(tokens * width, 0.0);
        self.qkv.resize(tokens * 3 * width, 0.0);
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
pub(crate) fn blocks(data: &[f32], d: usize) -> impl Iterator<Item = &[f32]> {
    data.chunks(BLOCK_ROWS * d)
}

impl Linear {
    pub fn new(isa: Isa, depth: usize, parts: &[&LinearWeights]) -> Self {
        let weights: Vec<&[f32]> = parts.iter().map(|part| part.weight.as_slice()).collect();
        Self {
            weight: Panels::from_weights(isa, depth, &weights),
            bias: parts.iter().flat_map(|part| part.bias.iter().copied()).collect(),
        }
    }

    /// One of `parts` maps of equal size that lie side by side.
    pub fn part(&self, part: usize, parts: usize) -> LinearWeights {
        let size = self.weight.columns() / parts;
        let range = part * size..(part + 1) * size;
        LinearWeights {
            bias: self.bias.get(range.clone()).unwrap_or_default().to_vec(),
            weight: self.weight.to_weight(range),
        }
    }

    pub fn apply(
        &self,
        isa: Isa,
        x: Rows<'_>,
        activation: Option<Activation>,
        out: &mut [f32],
        stride: usize,
    ) {
        let finish = Finish {
            bias: &self.bias,
            activation,
        };
        product(isa, x, &self.weight, finish, out, stride);
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
