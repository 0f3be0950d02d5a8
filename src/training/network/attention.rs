//! Attention over the texts of a batch, with dropped weights, and its derivative for one text.

use rayon::prelude::*;

use crate::encoder::attention::{AttentionScratch, Heads, attention_with};
use crate::encoder::elementwise::{add, exponentials};
use crate::encoder::lanes::Isa;
use crate::encoder::matrix::{PLAIN, Panels, Rows, add_transposed_product, product};

use super::by_text;
use super::dropout::{Drop, Site};
use super::rows::softmax_backward;

/// Working memory of one thread.
pub(super) struct Scratch {
    weights: Vec<f32>,
    gradients: Vec<f32>,
    /// The weights as dropout left them.
    thinned: Vec<f32>,
    sums: Vec<f32>,
    panels: Panels,
    room: Vec<f32>,
}

impl Scratch {
    pub fn new(isa: Isa) -> Scratch {
        Scratch {
            weights: Vec::new(),
            gradients: Vec::new(),
            thinned: Vec::new(),
            sums: Vec::new(),
            panels: Panels::new(isa),
            room: Vec::new(),
        }
    }
}

/// From `qkv` `[tokens, 3 width]` of all texts, which begin at `starts`, to their `context` `[tokens, width]`. `drop` is
/// what is dropped of the weights, by the keys of all tokens and the layer.
pub(super) fn forward(
    isa: Isa,
    shape: Heads<'_>,
    qkv: &[f32],
    context: &mut [f32],
    starts: &[usize],
    (drop, keys, layer): (Drop, &[u64], usize),
) {
    let width = shape.width();
    by_text(starts, width, context)
        .into_par_iter()
        .zip(starts)
        .with_max_len(1)
        .for_each_init(
            || AttentionScratch::new(isa),
            |scratch, (context, &start)| {
                let qkv = &qkv[start * 3 * width..][..context.len() * 3];
                let keys = &keys[start..][..context.len() / width];
                attention_with(
                    isa,
                    shape,
                    qkv,
                    context,
                    scratch,
                    |head, first, weights, stride| {
                        drop.apply(isa, weights, stride, &keys[first..], Site::Weights(layer, head));
                    },
                );
            },
        );
}

/// From `gradient` `[n, width]` of the context to `qkv_gradient` `[n, 3 width]`; where scores have a bias by distance its
/// gradient is added to `distances`, `[heads, 2 n - 1]`. The weights are computed again, which costs less than keeping
/// `[heads, n, n]` of every text and layer. `drop` is what was dropped of them, by the keys of the text's tokens and the
/// layer.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    isa: Isa,
    shape: Heads<'_>,
    qkv: &[f32],
    gradient: &[f32],
    qkv_gradient: &mut [f32],
    distances: &mut [f32],
    (drop, keys, layer): (Drop, &[u64], usize),
    s: &mut Scratch,
) {
    let Heads {
        heads, size, factor, ..
    } = shape;
    let d = shape.width();
    let wide = 3 * d;
    let n = qkv.len() / wide;
    let stride = n.next_multiple_of(32);
    s.weights.resize(n * stride, 0.0);
    s.gradients.resize(n * stride, 0.0);
    s.sums.resize(n, 0.0);
    qkv_gradient.fill(0.0);
    fn of(data: &[f32], stride: usize, rows: usize) -> Rows<'_> {
        Rows { data, stride, rows }
    }
    for head in 0..heads {
        let (query, key, value) = (head * size, d + head * size, 2 * d + head * size);
        s.panels.pack(size, n, true, |i, t| qkv[t * wide + key + i]);
        product(
            isa,
            of(&qkv[query..], wide, n),
            &s.panels,
            PLAIN,
            &mut s.weights,
            stride,
        );
        if let Some(bias) = shape.bias {
            bias.add(head, 0, &mut s.weights, stride, n);
        }
        exponentials(isa, &mut s.weights, stride, n, factor, &mut s.sums);
        for (row, sum) in s.weights.chunks_exact_mut(stride).zip(&s.sums) {
            let inverse = 1.0 / sum;
            row[..n].iter_mut().for_each(|x| *x *= inverse);
        }
        s.panels.pack(size, n, true, |i, t| qkv[t * wide + value + i]);
        product(
            isa,
            of(&gradient[query..], d, n),
            &s.panels,
            PLAIN,
            &mut s.gradients,
            stride,
        );
        s.panels.pack_rows(of(&gradient[query..], d, n), size);
        let site = Site::Weights(layer, head);
        drop.apply(isa, &mut s.gradients, stride, keys, site);
        let weights = match drop.is_none() {
            true => of(&s.weights, stride, n),
            false => {
                s.thinned.clone_from(&s.weights);
                drop.apply(isa, &mut s.thinned, stride, keys, site);
                of(&s.thinned, stride, n)
            }
        };
        add_transposed_product(
            isa,
            weights,
            n,
            &s.panels,
            &mut qkv_gradient[value..],
            wide,
            &mut s.room,
        );

        softmax_backward(isa, &s.weights, &mut s.gradients, stride, n, factor);
        if shape.bias.is_some() {
            let sums = &mut distances[head * (2 * n - 1)..][..2 * n - 1];
            for (query, row) in s.gradients.chunks_exact(stride).enumerate() {
                add(isa, &mut sums[n - 1 - query..][..n], &row[..n]);
            }
        }
        let scores = of(&s.gradients, stride, n);
        s.panels.pack_rows(of(&qkv[key..], wide, n), size);
        product(isa, scores, &s.panels, PLAIN, &mut qkv_gradient[query..], wide);
        s.panels.pack_rows(of(&qkv[query..], wide, n), size);
        add_transposed_product(
            isa,
            scores,
            n,
            &s.panels,
            &mut qkv_gradient[key..],
            wide,
            &mut s.room,
        );
    }
}
