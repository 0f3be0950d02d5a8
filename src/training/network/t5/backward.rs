//! The derivative of T5's layers.

use rayon::prelude::*;

use crate::encoder::forward::{BLOCK_ROWS, dense};
use crate::encoder::t5::position::bucket;
use crate::encoder::tokens::Tokens;

use super::super::attention::{self, Scratch};
use super::super::dropout::{Drop, Site};
use super::super::{Network, Normed, Pass, by_text, resize, rows};
use super::T5Layout;
use super::forward::gates;

impl Network {
    pub(in super::super) fn t5_layer_backward(
        &self,
        layout: &T5Layout,
        l: usize,
        drop: Drop,
        pass: &mut Pass,
        hidden: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (isa, config) = (self.isa, &layout.config);
        let (d, inner, wide) = (config.d_model, config.attention_size(), config.d_ff);
        let (packed, ranges) = (&self.layers[l], &layout.layers[l]);
        let tokens = pass.keys.len();
        if l + 1 == self.layers.len() {
            self.norm_backward(&pass.embedded, &layout.norm, hidden, gradient);
        }
        let mut states = std::mem::take(&mut pass.layers[l]);
        let mut room = std::mem::take(&mut pass.room);
        resize(&mut room.down, tokens * d);
        resize(&mut room.inner, tokens * wide);
        resize(&mut room.gate, states.gate.len());
        resize(&mut room.output, tokens * d);
        resize(&mut room.context, tokens * inner);
        resize(&mut room.qkv, tokens * 3 * inner);

        // The second half: from the sum's gradient through the maps to the norm's output, in `output`.
        (
            hidden.par_chunks(BLOCK_ROWS * d),
            pass.keys.par_chunks(BLOCK_ROWS),
            states.inner.par_chunks_mut(BLOCK_ROWS * wide),
            gates(&mut states.gate, wide, tokens),
            room.inner.par_chunks_mut(BLOCK_ROWS * wide),
            gates(&mut room.gate, wide, tokens),
            room.down.par_chunks_mut(BLOCK_ROWS * d),
            room.output.par_chunks_mut(BLOCK_ROWS * d),
        )
            .into_par_iter()
            .for_each_init(
                || vec![0.0; BLOCK_ROWS * d],
                |part, (hidden, keys, active, gate, inner, to_gate, down, normed)| {
                    down.copy_from_slice(hidden);
                    drop.apply(isa, down, d, keys, Site::Output(l));
                    packed.down.back.product(isa, dense(down, d), &[], inner, wide);
                    to_gate.copy_from_slice(&inner[..to_gate.len()]);
                    if packed.gate.is_some() {
                        rows::multiply(isa, inner, gate);
                    }
                    rows::activation_backward(isa, config.activation, active, inner);
                    packed.up.back.product(isa, dense(inner, wide), &[], normed, d);
                    if let Some(map) = &packed.gate {
                        rows::multiply(isa, to_gate, active);
                        rows::multiply(isa, active, gate);
                        let part = &mut part[..normed.len()];
                        map.back.product(isa, dense(to_gate, wide), &[], part, d);
                        rows::add(isa, normed, part);
                    }
                },
            );
        self.norm_backward(
            &states.output_norm,
            &ranges.dense_norm,
            &mut room.output,
            gradient,
        );
        rows::add(isa, hidden, &room.output);

        // The first half.
        (
            hidden.par_chunks(BLOCK_ROWS * d),
            pass.keys.par_chunks(BLOCK_ROWS),
            room.output.par_chunks_mut(BLOCK_ROWS * d),
            room.context.par_chunks_mut(BLOCK_ROWS * inner),
        )
            .into_par_iter()
            .for_each(|(hidden, keys, output, context)| {
                output.copy_from_slice(hidden);
                drop.apply(isa, output, d, keys, Site::Attention(l));
                packed
                    .output
                    .back
                    .product(isa, dense(output, d), &[], context, inner);
            });
        let heads = config.heads(pass.distances.as_ref());
        let (qkv, contexts, keys) = (&states.qkv, &room.context, &pass.keys);
        let drop_weights = room.drop_weights.unwrap_or(Drop::none());
        let distances: Vec<Vec<f32>> = by_text(&pass.starts, 3 * inner, &mut room.qkv)
            .into_par_iter()
            .zip(&pass.starts)
            .with_max_len(1)
            .map_init(
                || Scratch::new(isa),
                |scratch, (out, &start)| {
                    let qkv = &qkv[start * 3 * inner..][..out.len()];
                    let context = &contexts[start * inner..][..out.len() / 3];
                    let n = out.len() / (3 * inner);
                    let mut distances = vec![0.0; config.num_heads * (2 * n - 1)];
                    let dropped = (drop_weights, &keys[start..][..n], l);
                    attention::backward(isa, heads, qkv, context, out, &mut distances, dropped, scratch);
                    by_bucket(layout, n, &distances)
                },
            )
            .collect();
        let mut weight = |range: &std::ops::Range<usize>, dy: &[f32], x: &[f32], input| {
            let gradient = &mut gradient[range.clone()];
            self.add_weight_gradient(dy, x, input, gradient, &mut room.packed);
        };
        weight(&ranges.down, &room.down, &states.inner, wide);
        weight(&ranges.output, &room.output, &states.context, inner);
        scale_rows(&mut states.output_norm, self.at(&ranges.dense_norm));
        weight(&ranges.up, &room.inner, &states.output_norm.values, d);
        if packed.gate.is_some() {
            weight(&ranges.gate, &room.gate, &states.output_norm.values, d);
        }
        // Its weight's gradient is taken: `down` is free.
        let normed = &mut room.down;
        (
            room.qkv.par_chunks(BLOCK_ROWS * 3 * inner),
            normed.par_chunks_mut(BLOCK_ROWS * d),
        )
            .into_par_iter()
            .for_each(|(qkv, normed)| {
                packed
                    .qkv
                    .back
                    .product(isa, dense(qkv, 3 * inner), &[], normed, d);
            });
        self.norm_backward(&states.attention_norm, &ranges.attention_norm, normed, gradient);
        rows::add(isa, hidden, normed);
        scale_rows(&mut states.attention_norm, self.at(&ranges.attention_norm));
        let qkv = &mut gradient[ranges.qkv.clone()];
        self.add_weight_gradient(&room.qkv, &states.attention_norm.values, d, qkv, &mut room.packed);
        for text in &distances {
            rows::add(isa, &mut gradient[layout.distances.clone()], text);
        }
        pass.layers[l] = states;
        pass.room = room;
    }

    /// From the gradient of a norm's output to that of its input.
    fn norm_backward(
        &self,
        norm: &Normed,
        scale: &std::ops::Range<usize>,
        hidden: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (isa, d) = (self.isa, scale.len());
        let values = self.at(scale);
        let sums: Vec<Vec<f32>> = (
            hidden.par_chunks_mut(BLOCK_ROWS * d),
            norm.values.par_chunks(BLOCK_ROWS * d),
            norm.inverse.par_chunks(BLOCK_ROWS),
        )
            .into_par_iter()
            .map(|(hidden, normed, inverse)| {
                let mut sums = vec![0.0; d];
                rows::root_norm_backward(isa, hidden, normed, inverse, values, &mut sums);
                sums
            })
            .collect();
        for sums in &sums {
            rows::add(isa, &mut gradient[scale.clone()], sums);
        }
    }

    pub(in super::super) fn t5_embed_backward(
        &self,
        layout: &T5Layout,
        texts: &[&Tokens],
        drop: Drop,
        pass: &Pass,
        hidden: &mut [f32],
        gradient: &mut [f32],
    ) {
        let d = layout.config.d_model;
        drop.apply(self.isa, hidden, d, &pass.keys, Site::Embedding);
        let ids = texts.iter().flat_map(|text| &text.ids);
        for (row, &id) in hidden.chunks_exact(d).zip(ids) {
            let at = layout.words.start + id as usize * d;
            rows::add(self.isa, &mut gradient[at..at + d], row);
        }
    }
}

/// A norm's output in place of its normed input: the backward pass is through with that.
fn scale_rows(norm: &mut Normed, scale: &[f32]) {
    for row in norm.values.chunks_exact_mut(scale.len()) {
        row.iter_mut().zip(scale).for_each(|(x, scale)| *x *= scale);
    }
}

/// From gradients by head and distance, `[heads, 2 n - 1]`, to those by bucket and head.
fn by_bucket(layout: &T5Layout, n: usize, distances: &[f32]) -> Vec<f32> {
    let (config, wide) = (&layout.config, 2 * n - 1);
    let mut sums = vec![0.0f64; layout.distances.len()];
    for at in 0..wide {
        let bucket = bucket(config, at as isize - (n as isize - 1));
        for head in 0..config.num_heads {
            sums[bucket * config.num_heads + head] += f64::from(distances[head * wide + at]);
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}
