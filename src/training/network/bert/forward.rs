//! BERT's embeddings and layers, keeping what the backward pass needs.

use rayon::prelude::*;

use crate::encoder::forward::{BLOCK_ROWS, dense};
use crate::encoder::tokens::Tokens;

use super::super::dropout::{Drop, Site};
use super::super::{Network, Pass, attention, by_text, resize, rows};
use super::BertLayout;

impl Network {
    pub(in super::super) fn bert_embed(
        &self,
        layout: &BertLayout,
        texts: &[&Tokens],
        drop: Drop,
        pass: &mut Pass,
    ) {
        let (d, l) = (layout.config.hidden_size, layout);
        let tokens = pass.keys.len();
        let mut sums = std::mem::take(&mut pass.room.hidden);
        resize(&mut sums, tokens * d);
        let (words, places, types) = (self.at(&l.words), self.at(&l.positions), self.at(&l.types));
        by_text(&pass.starts, d, &mut sums)
            .into_par_iter()
            .zip(texts)
            .for_each(|(sums, text)| {
                for (position, (out, &id)) in sums.chunks_exact_mut(d).zip(&text.ids).enumerate() {
                    let kind = text.types.get(position).copied().unwrap_or(0) as usize;
                    let word = &words[id as usize * d..][..d];
                    let (kind, place) = (&types[kind * d..][..d], &places[position * d..][..d]);
                    for (((out, w), t), p) in out.iter_mut().zip(word).zip(kind).zip(place) {
                        *out = (w + t) + p;
                    }
                }
            });
        let eps = layout.config.layer_norm_eps as f32;
        let (scale, shift) = (self.at(&l.norm.scale), self.at(&l.norm.shift));
        pass.embedded.resize(tokens, d);
        let hidden = &mut pass.hidden[0];
        resize(hidden, tokens * d);
        (
            sums.par_chunks(BLOCK_ROWS * d),
            pass.embedded.values.par_chunks_mut(BLOCK_ROWS * d),
            pass.embedded.inverse.par_chunks_mut(BLOCK_ROWS),
            hidden.par_chunks_mut(BLOCK_ROWS * d),
            pass.keys.par_chunks(BLOCK_ROWS),
        )
            .into_par_iter()
            .for_each(|(sums, values, inverse, hidden, keys)| {
                rows::norm_forward(self.isa, sums, scale, shift, eps, values, inverse, hidden);
                drop.apply(self.isa, hidden, d, keys, Site::Embedding);
            });
        pass.room.hidden = sums;
    }

    pub(in super::super) fn bert_layer(
        &self,
        layout: &BertLayout,
        l: usize,
        slot: usize,
        drop: Drop,
        pass: &mut Pass,
    ) {
        let (d, wide) = (layout.config.hidden_size, layout.config.intermediate_size);
        let heads = layout.config.heads();
        let isa = self.isa;
        let eps = layout.config.layer_norm_eps as f32;
        let (packed, ranges) = (&self.layers[l], &layout.layers[l]);
        let tokens = pass.keys.len();
        let (before, after) = pass.hidden.split_at_mut(l + 1);
        let (input, output) = (&before[l], &mut after[0]);
        let states = &mut pass.layers[slot];
        resize(output, tokens * d);
        states.resize(tokens, d, d, wide);

        (
            input.par_chunks(BLOCK_ROWS * d),
            states.qkv.par_chunks_mut(BLOCK_ROWS * 3 * d),
        )
            .into_par_iter()
            .for_each(|(input, qkv)| {
                let bias = self.at(&ranges.qkv.bias);
                packed.qkv.ahead.product(isa, dense(input, d), bias, qkv, 3 * d);
            });
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
        (
            (
                input.par_chunks(BLOCK_ROWS * d),
                states.context.par_chunks(BLOCK_ROWS * d),
            ),
            states.attention_norm.values.par_chunks_mut(BLOCK_ROWS * d),
            states.attention_norm.inverse.par_chunks_mut(BLOCK_ROWS),
            states.middle.par_chunks_mut(BLOCK_ROWS * d),
            states.inner.par_chunks_mut(BLOCK_ROWS * wide),
            states.output_norm.values.par_chunks_mut(BLOCK_ROWS * d),
            states.output_norm.inverse.par_chunks_mut(BLOCK_ROWS),
            output.par_chunks_mut(BLOCK_ROWS * d),
            pass.keys.par_chunks(BLOCK_ROWS),
        )
            .into_par_iter()
            .for_each_init(
                || (vec![0.0; BLOCK_ROWS * d], vec![0.0; BLOCK_ROWS * wide]),
                |(sums, active),
                 (
                    (input, context),
                    a_values,
                    a_inverse,
                    middle,
                    inner,
                    o_values,
                    o_inverse,
                    output,
                    keys,
                )| {
                    let sums = &mut sums[..input.len()];
                    let active = &mut active[..inner.len()];
                    let bias = self.at(&ranges.output.bias);
                    packed.output.ahead.product(isa, dense(context, d), bias, sums, d);
                    drop.apply(isa, sums, d, keys, Site::Attention(l));
                    rows::add(isa, sums, input);
                    let norm = &ranges.attention_norm;
                    let (scale, shift) = (self.at(&norm.scale), self.at(&norm.shift));
                    rows::norm_forward(isa, sums, scale, shift, eps, a_values, a_inverse, middle);

                    let bias = self.at(&ranges.up.bias);
                    packed.up.ahead.product(isa, dense(middle, d), bias, inner, wide);
                    rows::activate_into(isa, layout.config.activation, inner, active);
                    let bias = self.at(&ranges.down.bias);
                    packed.down.ahead.product(isa, dense(active, wide), bias, sums, d);
                    drop.apply(isa, sums, d, keys, Site::Output(l));
                    rows::add(isa, sums, middle);
                    let norm = &ranges.output_norm;
                    let (scale, shift) = (self.at(&norm.scale), self.at(&norm.shift));
                    rows::norm_forward(isa, sums, scale, shift, eps, o_values, o_inverse, output);
                },
            );
    }
}
