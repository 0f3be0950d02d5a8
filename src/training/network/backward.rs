//! The backward pass: from gradients of hidden states to gradients of all parameters.

use rayon::prelude::*;

use crate::encoder::forward::dense;
use crate::encoder::lanes::Isa;
use crate::encoder::matrix::{Panels, Rows, add_transposed_product};
use crate::encoder::tiles::{self, TilePanels, TransposedRows};
use crate::encoder::tokens::Tokens;

use super::dropout::Drop;
use super::{Layout, Network, Pass, resize};

/// Tokens over which a weight's gradient is summed at once: their packed rows stay in the second-level cache.
const DEPTH: usize = 256;
/// Rows of a weight whose gradient one task sums.
const WEIGHT_ROWS: usize = 56;

/// Memory of a backward pass.
#[derive(Default)]
pub(super) struct Room {
    pub drop: Option<Drop>,
    /// Of the weights of attention.
    pub drop_weights: Option<Drop>,
    /// Gradient of a layer's output, then of its input: `[tokens, D]`.
    pub hidden: Vec<f32>,
    /// Of the output of the second half, before dropout.
    pub down: Vec<f32>,
    /// Before the activation.
    pub inner: Vec<f32>,
    /// Of the map that the activations are multiplied with.
    pub gate: Vec<f32>,
    /// Of attention's output, before dropout.
    pub output: Vec<f32>,
    pub context: Vec<f32>,
    pub qkv: Vec<f32>,
    pub packed: Packed,
}

/// The two sides of a weight's gradient, packed.
#[derive(Default)]
pub(super) struct Packed {
    panels: Vec<Panels>,
    left: TransposedRows,
    right: TilePanels,
}

impl Network {
    /// Adds to `gradient` what the last forward pass (kept, over the same texts) makes of the gradients of hidden
    /// states that `seed(l, room)` adds to an array `[tokens, D]` for each layer `l`, from the last to 0.
    pub fn backward(
        &self,
        texts: &[&Tokens],
        pass: &mut Pass,
        gradient: &mut [f32],
        mut seed: impl FnMut(usize, &Pass, &mut [f32]),
    ) {
        let d = self.dimension();
        let drop = pass.room.drop.unwrap_or(Drop::none());
        let mut hidden = std::mem::take(&mut pass.room.hidden);
        hidden.clear();
        resize(&mut hidden, pass.keys.len() * d);
        for l in (0..self.layers.len()).rev() {
            seed(l + 1, pass, &mut hidden);
            match &self.layout {
                Layout::Bert(layout) => {
                    self.bert_layer_backward(layout, l, drop, pass, &mut hidden, gradient)
                }
                Layout::T5(layout) => self.t5_layer_backward(layout, l, drop, pass, &mut hidden, gradient),
            }
        }
        seed(0, pass, &mut hidden);
        match &self.layout {
            Layout::Bert(layout) => {
                self.bert_embed_backward(layout, texts, drop, pass, &mut hidden, gradient)
            }
            Layout::T5(layout) => self.t5_embed_backward(layout, texts, drop, pass, &mut hidden, gradient),
        }
        pass.room.hidden = hidden;
    }

    /// Adds `dyᵀ x` to the gradient `[output, input]` of a weight.
    pub(super) fn add_weight_gradient(
        &self,
        dy: &[f32],
        x: &[f32],
        input: usize,
        gradient: &mut [f32],
        packed: &mut Packed,
    ) {
        match self.precision.is_in_bf16() {
            true => add_weight_gradient_in_bf16(self.isa, dy, x, input, gradient, packed),
            false => add_weight_gradient(self.isa, dy, x, input, gradient, &mut packed.panels),
        }
    }
}

/// [`Network::add_weight_gradient`] in f32.
fn add_weight_gradient(
    isa: Isa,
    dy: &[f32],
    x: &[f32],
    input: usize,
    gradient: &mut [f32],
    packed: &mut Vec<Panels>,
) {
    let tokens = x.len() / input;
    let output = gradient.len() / input;
    let blocks = tokens.div_ceil(DEPTH);
    if packed.len() < blocks {
        packed.resize_with(blocks, || Panels::new(isa));
    }
    packed[..blocks]
        .par_iter_mut()
        .zip(x.par_chunks(DEPTH * input))
        .for_each(|(panels, x)| panels.pack_rows(dense(x, input), input));
    let packed = &packed[..blocks];
    gradient
        .par_chunks_mut(WEIGHT_ROWS * input)
        .enumerate()
        .with_max_len(1)
        .for_each_init(Vec::new, |room, (chunk, out)| {
            let columns = out.len() / input;
            for (panels, dy) in packed.iter().zip(dy.chunks(DEPTH * output)) {
                let rows = Rows {
                    data: &dy[chunk * WEIGHT_ROWS..],
                    stride: output,
                    rows: dy.len() / output,
                };
                add_transposed_product(isa, rows, columns, panels, out, input, room);
            }
        });
}

/// As [`add_weight_gradient`], in bf16.
fn add_weight_gradient_in_bf16(
    isa: Isa,
    dy: &[f32],
    x: &[f32],
    input: usize,
    gradient: &mut [f32],
    packed: &mut Packed,
) {
    let (left, right) = (&mut packed.left, &mut packed.right);
    left.pack(isa, dy, gradient.len() / input);
    right.pack_rows(isa, x, input);
    let (left, right) = (&*left, &*right);
    gradient
        .par_chunks_mut(tiles::BLOCK * input)
        .enumerate()
        .for_each(|(block, out)| tiles::add_transposed_product(isa, left, block, right, out));
}
