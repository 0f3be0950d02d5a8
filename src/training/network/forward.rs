//! The forward pass, keeping what the backward pass needs.

use crate::encoder::tokens::Tokens;
use crate::random;

use super::dropout::Drop;
use super::{Dropout, LayerStates, Layout, Network, Normed, Pass, resize, starts};

impl Network {
    /// Computes all hidden states of some texts into `pass`. Without `keep` there can be no backward pass, and the
    /// memory of one layer's inner states serves all layers.
    pub fn forward(&self, texts: &[&Tokens], dropout: Option<Dropout<'_>>, keep: bool, pass: &mut Pass) {
        let depth = self.layers.len();
        pass.starts = starts(texts);
        let tokens = pass.starts.last().copied().unwrap_or(0);
        pass.keys.clear();
        if let Some(dropout) = dropout {
            for (text, &key) in texts.iter().zip(dropout.keys) {
                let keys = (0..text.ids.len() as u64).map(|at| random::mix(key ^ random::mix(at)));
                pass.keys.extend(keys);
            }
        } else {
            pass.keys.resize(tokens, 0);
        }
        let drop = dropout.map_or(Drop::none(), |dropout| Drop::new(dropout.rate));
        pass.room.drop = Some(drop);
        pass.room.drop_weights = dropout.map(|dropout| Drop::new(dropout.attention));
        pass.hidden.resize_with(depth + 1, Vec::new);
        let kept = if keep { depth } else { 1 };
        if pass.layers.len() < kept {
            pass.layers.resize_with(kept, LayerStates::default);
        }
        match &self.layout {
            Layout::Bert(layout) => self.bert_embed(layout, texts, drop, pass),
            Layout::T5(layout) => self.t5_embed(layout, texts, drop, pass),
        }
        for l in 0..depth {
            let slot = if keep { l } else { 0 };
            match &self.layout {
                Layout::Bert(layout) => self.bert_layer(layout, l, slot, drop, pass),
                Layout::T5(layout) => self.t5_layer(layout, l, slot, drop, pass),
            }
        }
    }
}

impl Normed {
    pub(super) fn resize(&mut self, tokens: usize, d: usize) {
        resize(&mut self.values, tokens * d);
        resize(&mut self.inverse, tokens);
    }
}

impl LayerStates {
    /// `attention` is the size of what attention works on.
    pub(super) fn resize(&mut self, tokens: usize, d: usize, attention: usize, wide: usize) {
        resize(&mut self.qkv, tokens * 3 * attention);
        resize(&mut self.context, tokens * attention);
        resize(&mut self.middle, tokens * d);
        resize(&mut self.inner, tokens * wide);
        self.attention_norm.resize(tokens, d);
        self.output_norm.resize(tokens, d);
    }
}
