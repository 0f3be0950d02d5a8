//! T5's embeddings and layers, keeping what the backward pass needs.
//!
//! Of the states that a layer keeps, `middle` is the sum between its halves, and both norms are those before a half;
//! the last norm's are in `Pass::embedded`, where BERT keeps those of its first.

use rayon::prelude::*;

use crate::encoder::forward::{BLOCK_ROWS, dense};
use crate::encoder::t5::position::distance_bias;
use crate::encoder::tokens::Tokens;

use super::super::dropout::{Drop, Site};
use super::super::{Network, Pass, attention, resize, rows};
use super::T5Layout;

impl Network {
    pub(in super::super) fn t5_embed(
        &self,
        layout: &T5Layout,
        texts: &[&Tokens],
        drop: Drop,
        pass: &mut Pass,
    ) {
        let d = layout.config.d_model;
        let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
        let learned = self.at(&layout.distances);
        pass.distances = Some(distance_bias(&layout.config, learned, longest));
        let words = self.at(&layout.words);
        let hidden = &mut pass.hidden[0];
        resize(hidden, pass.keys.len() * d);
        let ids = texts.iter().flat_map(|text| &text.ids);
        for (out, &id) in hidden.chunks_exact_mut(d).zip(ids) {
            out.copy_from_slice(&words[id as usize * d..][..d]);
        }
        drop.apply(self.isa, hidden, d, &pass.keys, Site::Embedding);
    }

    pub(in super::super) fn t5_layer(
        &self,
        layout: &T5Layout,
        l: usize,
        slot: usize,
        drop: Drop,
        pass: &mut Pass,
    ) {
        let (isa, config) = (self.isa, &layout.config);
        let (d, inner, wide) = (config.d_model, config.attention_size(), config.d_ff);
        let eps = config.layer_norm_epsilon as f32;
        let last = l + 1 == self.layers.len();
        let (packed, ranges) = (&self.layers[l], &layout.layers[l]);
        let tokens = pass.keys.len();
        let mut states = std::mem::take(&mut pass.layers[slot]);
        states.resize(tokens, d, inner, wide);
        resize(&mut states.gate, if config.gated { tokens * wide } else { 0 });
        pass.embedded.resize(tokens, d);
        let heads = config.heads(pass.distances.as_ref());
        let (before, after) = pass.hidden.split_at_mut(l + 1);
        let (input, output) = (&before[l], &mut after[0]);
        resize(output, tokens * d);

        let scale = self.at(&ranges.attention_norm);
        (
            input.par_chunks(BLOCK_ROWS * d),
            states.attention_norm.values.par_chunks_mut(BLOCK_ROWS * d),
            states.attention_norm.inverse.par_chunks_mut(BLOCK_ROWS),
            states.qkv.par_chunks_mut(BLOCK_ROWS * 3 * inner),
        )
            .into_par_iter()
            .for_each_init(
                || vec![0.0; BLOCK_ROWS * d],
                |normed, (input, values, inverse, qkv)| {
                    let normed = &mut normed[..input.len()];
                    rows::root_norm_forward(isa, input, scale, eps, values, inverse, normed);
                    packed
                        .qkv
                        .ahead
                        .product(isa, dense(normed, d), &[], qkv, 3 * inner);
                },
            );
        let weights = pass.room.drop_weights.unwrap_or(Drop::none());
        let (starts, keys) = (&pass.starts, &pass.keys);
        attention::forward(
            isa,
            heads,
            &states.qkv,
            &mut states.context,
            starts,
            (weights, keys, l),
        );
        let scales = (self.at(&ranges.dense_norm), self.at(&layout.norm));
        (
            (
                input.par_chunks(BLOCK_ROWS * d),
                states.context.par_chunks(BLOCK_ROWS * inner),
                pass.keys.par_chunks(BLOCK_ROWS),
            ),
            states.middle.par_chunks_mut(BLOCK_ROWS * d),
            (
                states.output_norm.values.par_chunks_mut(BLOCK_ROWS * d),
                states.output_norm.inverse.par_chunks_mut(BLOCK_ROWS),
            ),
            states.inner.par_chunks_mut(BLOCK_ROWS * wide),
            // No chunks at all would end the iteration.
            gates(&mut states.gate, wide, tokens),
            (
                pass.embedded.values.par_chunks_mut(BLOCK_ROWS * d),
                pass.embedded.inverse.par_chunks_mut(BLOCK_ROWS),
            ),
            output.par_chunks_mut(BLOCK_ROWS * d),
        )
            .into_par_iter()
            .for_each_init(
                || (vec![0.0; BLOCK_ROWS * d], vec![0.0; BLOCK_ROWS * wide]),
                |(sums, active), ((input, context, keys), middle, norm, inner_states, gate, end, output)| {
                    let sums = &mut sums[..input.len()];
                    let active = &mut active[..inner_states.len()];
                    packed
                        .output
                        .ahead
                        .product(isa, dense(context, inner), &[], middle, d);
                    drop.apply(isa, middle, d, keys, Site::Attention(l));
                    rows::add(isa, middle, input);
                    rows::root_norm_forward(isa, middle, scales.0, eps, norm.0, norm.1, sums);

                    packed
                        .up
                        .ahead
                        .product(isa, dense(sums, d), &[], inner_states, wide);
                    rows::activate_into(isa, config.activation, inner_states, active);
                    if let Some(map) = &packed.gate {
                        map.ahead.product(isa, dense(sums, d), &[], gate, wide);
                        rows::multiply(isa, active, gate);
                    }
                    packed.down.ahead.product(isa, dense(active, wide), &[], sums, d);
                    drop.apply(isa, sums, d, keys, Site::Output(l));
                    rows::add(isa, sums, middle);
                    if last {
                        rows::root_norm_forward(isa, sums, scales.1, eps, end.0, end.1, output);
                    } else {
                        output.copy_from_slice(sums);
                    }
                },
            );
        pass.layers[slot] = states;
    }
}

/// The gate's states of each block; empty ones for a network without a gate.
pub(super) fn gates(
    gate: &mut [f32],
    wide: usize,
    tokens: usize,
) -> impl IndexedParallelIterator<Item = &mut [f32]> {
    let mut rest = gate;
    let blocks: Vec<&mut [f32]> = (0..tokens.div_ceil(BLOCK_ROWS))
        .map(|_| {
            let here = (BLOCK_ROWS * wide).min(rest.len());
            let (block, after) = std::mem::take(&mut rest).split_at_mut(here);
            rest = after;
            block
        })
        .collect();
    blocks.into_par_iter()
}
