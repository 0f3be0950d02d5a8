//! The derivative of BERT's layers.

use rayon::prelude::*;

use crate::encoder::forward::{BLOCK_ROWS, dense};
use crate::encoder::tokens::Tokens;

use super::super::attention::{self, Scratch};
use super::super::dropout::{Drop, Site};
use super::super::{Network, Pass, by_text, resize, rows};
use super::BertLayout;

/// The gradients of a block's vectors, summed over its rows.
struct Sums {
    attention_norm: [Vec<f32>; 2],
    output_norm: [Vec<f32>; 2],
    output: Vec<f32>,
    up: Vec<f32>,
    down: Vec<f32>,
}

impl Network {
    pub(in super::super) fn bert_layer_backward(
        &self,
        layout: &BertLayout,
        l: usize,
        drop: Drop,
        pass: &mut Pass,
        hidden: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (d, wide) = (layout.config.hidden_size, layout.config.intermediate_size);
        let heads = layout.config.heads();
        let isa = self.isa;
        let (packed, ranges) = (&self.layers[l], &layout.layers[l]);
        let tokens = pass.keys.len();
        let (states, room) = (&mut pass.layers[l], &mut pass.room);
        resize(&mut room.down, tokens * d);
        resize(&mut room.inner, tokens * wide);
        resize(&mut room.output, tokens * d);
        resize(&mut room.context, tokens * d);
        resize(&mut room.qkv, tokens * 3 * d);

        let sums: Vec<Sums> = (
            (
                hidden.par_chunks_mut(BLOCK_ROWS * d),
                pass.keys.par_chunks(BLOCK_ROWS),
            ),
            (
                states.attention_norm.values.par_chunks(BLOCK_ROWS * d),
                states.attention_norm.inverse.par_chunks(BLOCK_ROWS),
            ),
            (
                states.output_norm.values.par_chunks(BLOCK_ROWS * d),
                states.output_norm.inverse.par_chunks(BLOCK_ROWS),
            ),
            states.inner.par_chunks_mut(BLOCK_ROWS * wide),
            room.inner.par_chunks_mut(BLOCK_ROWS * wide),
            room.down.par_chunks_mut(BLOCK_ROWS * d),
            room.output.par_chunks_mut(BLOCK_ROWS * d),
            room.context.par_chunks_mut(BLOCK_ROWS * d),
        )
            .into_par_iter()
            .map_init(
                || vec![0.0; BLOCK_ROWS * d],
                |part, ((hidden, keys), a_norm, o_norm, active, inner, down, output, context)| {
                    let part = &mut part[..hidden.len()];
                    let mut sums = Sums::new(d, wide);
                    let norm = self.at(&ranges.output_norm.scale);
                    let [scale, shift] = &mut sums.output_norm;
                    rows::norm_backward(isa, hidden, o_norm.0, o_norm.1, norm, scale, shift);
                    down.copy_from_slice(hidden);
                    drop.apply(isa, down, d, keys, Site::Output(l));
                    rows::add_columns(isa, down, &mut sums.down);
                    packed.down.back.product(isa, dense(down, d), &[], inner, wide);
                    rows::activation_backward(isa, layout.config.activation, active, inner);
                    rows::add_columns(isa, inner, &mut sums.up);
                    packed.up.back.product(isa, dense(inner, wide), &[], part, d);
                    rows::add(isa, hidden, part);
                    let norm = self.at(&ranges.attention_norm.scale);
                    let [scale, shift] = &mut sums.attention_norm;
                    rows::norm_backward(isa, hidden, a_norm.0, a_norm.1, norm, scale, shift);
                    output.copy_from_slice(hidden);
                    drop.apply(isa, output, d, keys, Site::Attention(l));
                    rows::add_columns(isa, output, &mut sums.output);
                    packed.output.back.product(isa, dense(output, d), &[], context, d);
                    sums
                },
            )
            .collect();
        let qkv_gradients = by_text(&pass.starts, 3 * d, &mut room.qkv);
        let (qkv, contexts, keys) = (&states.qkv, &room.context, &pass.keys);
        let drop_weights = room.drop_weights.unwrap_or(Drop::none());
        qkv_gradients
            .into_par_iter()
            .zip(&pass.starts)
            .with_max_len(1)
            .for_each_init(
                || Scratch::new(isa),
                |scratch, (out, &start)| {
                    let qkv = &qkv[start * 3 * d..][..out.len()];
                    let context = &contexts[start * d..][..out.len() / 3];
                    let keys = &keys[start..][..context.len() / d];
                    let dropped = (drop_weights, keys, l);
                    attention::backward(isa, heads, qkv, context, out, &mut [], dropped, scratch);
                },
            );
        let qkv_sums: Vec<Vec<f32>> = (
            room.qkv.par_chunks(BLOCK_ROWS * 3 * d),
            hidden.par_chunks_mut(BLOCK_ROWS * d),
        )
            .into_par_iter()
            .map_init(
                || vec![0.0; BLOCK_ROWS * d],
                |part, (qkv, hidden)| {
                    let part = &mut part[..hidden.len()];
                    let mut sums = vec![0.0; 3 * d];
                    rows::add_columns(isa, qkv, &mut sums);
                    packed.qkv.back.product(isa, dense(qkv, 3 * d), &[], part, d);
                    rows::add(isa, hidden, part);
                    sums
                },
            )
            .collect();

        let mut add =
            |range: &std::ops::Range<usize>, sums: &[f32]| rows::add(isa, &mut gradient[range.clone()], sums);
        for (sums, qkv) in sums.iter().zip(&qkv_sums) {
            add(&ranges.qkv.bias, qkv);
            add(&ranges.output.bias, &sums.output);
            add(&ranges.up.bias, &sums.up);
            add(&ranges.down.bias, &sums.down);
            add(&ranges.attention_norm.scale, &sums.attention_norm[0]);
            add(&ranges.attention_norm.shift, &sums.attention_norm[1]);
            add(&ranges.output_norm.scale, &sums.output_norm[0]);
            add(&ranges.output_norm.shift, &sums.output_norm[1]);
        }
        let mut weight = |range: &std::ops::Range<usize>, dy: &[f32], x: &[f32], input| {
            let gradient = &mut gradient[range.clone()];
            self.add_weight_gradient(dy, x, input, gradient, &mut room.packed);
        };
        weight(&ranges.down.weight, &room.down, &states.inner, wide);
        weight(&ranges.up.weight, &room.inner, &states.middle, d);
        weight(&ranges.output.weight, &room.output, &states.context, d);
        weight(&ranges.qkv.weight, &room.qkv, &pass.hidden[l], d);
    }

    pub(in super::super) fn bert_embed_backward(
        &self,
        ranges: &BertLayout,
        texts: &[&Tokens],
        drop: Drop,
        pass: &Pass,
        hidden: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (d, isa) = (ranges.config.hidden_size, self.isa);
        let scale = self.at(&ranges.norm.scale);
        let sums: Vec<[Vec<f32>; 2]> = (
            hidden.par_chunks_mut(BLOCK_ROWS * d),
            pass.keys.par_chunks(BLOCK_ROWS),
            pass.embedded.values.par_chunks(BLOCK_ROWS * d),
            pass.embedded.inverse.par_chunks(BLOCK_ROWS),
        )
            .into_par_iter()
            .map(|(hidden, keys, values, inverse)| {
                let mut sums = [vec![0.0; d], vec![0.0; d]];
                drop.apply(isa, hidden, d, keys, Site::Embedding);
                let [to_scale, to_shift] = &mut sums;
                rows::norm_backward(isa, hidden, values, inverse, scale, to_scale, to_shift);
                sums
            })
            .collect();
        for [scale, shift] in &sums {
            rows::add(isa, &mut gradient[ranges.norm.scale.clone()], scale);
            rows::add(isa, &mut gradient[ranges.norm.shift.clone()], shift);
        }
        for (text, &start) in texts.iter().zip(&pass.starts) {
            for (position, &id) in text.ids.iter().enumerate() {
                let row = &hidden[(start + position) * d..][..d];
                let kind = text.types.get(position).copied().unwrap_or(0) as usize;
                for at in [
                    ranges.words.start + id as usize * d,
                    ranges.positions.start + position * d,
                    ranges.types.start + kind * d,
                ] {
                    rows::add(isa, &mut gradient[at..at + d], row);
                }
            }
        }
    }
}

impl Sums {
    fn new(d: usize, wide: usize) -> Sums {
        let pair = || [vec![0.0; d], vec![0.0; d]];
        Sums {
            attention_norm: pair(),
            output_norm: pair(),
            output: vec![0.0; d],
            up: vec![0.0; wide],
            down: vec![0.0; d],
        }
    }
}
