//! Dropout that can be drawn again: what is dropped follows from keys, not from a state.

use crate::encoder::lanes::Isa;

use super::rows;

/// Dropout of the embeddings and of both halves of every layer before the residual sums, and of the weights of attention,
/// as BERT has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout<'a> {
    /// The share of elements set to 0, at least 0 and below 1.
    pub rate: f32,
    /// The share of the weights of attention, likewise.
    pub attention: f32,
    /// One key a text: the same key drops the same elements, in whatever company the text is.
    pub keys: &'a [u64],
}

/// A rate in the form that the arithmetic takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drop {
    threshold: u32,
    factor: f32,
}

/// Where in the network elements are dropped.
#[derive(Clone, Copy)]
pub(crate) enum Site {
    Embedding,
    Attention(usize),
    Output(usize),
    /// Of a layer and head.
    Weights(usize, usize),
}

impl Drop {
    pub fn new(rate: f32) -> Drop {
        Drop {
            threshold: (f64::from(rate) * 4_294_967_296.0) as u32,
            factor: 1.0 / (1.0 - rate),
        }
    }

    /// Whether nothing is dropped.
    pub fn is_none(self) -> bool {
        self.threshold == 0
    }

    pub fn none() -> Drop {
        Drop {
            threshold: 0,
            factor: 1.0,
        }
    }

    /// Drops elements of rows of `d` whose tokens have these keys. The derivative is the same map.
    pub fn apply(self, isa: Isa, x: &mut [f32], d: usize, keys: &[u64], site: Site) {
        if self.threshold == 0 {
            return;
        }
        rows::drop_out(isa, x, d, keys, site.number(), self.threshold, self.factor);
    }

    /// Of the numbers that 32 bits hold those below this are dropped.
    pub fn threshold(self) -> u32 {
        self.threshold
    }

    /// What the elements that stay are multiplied by.
    pub fn factor(self) -> f32 {
        self.factor
    }
}

impl Site {
    fn number(self) -> u64 {
        match self {
            Site::Embedding => 1,
            Site::Attention(layer) => 2 + 2 * layer as u64,
            Site::Output(layer) => 3 + 2 * layer as u64,
            Site::Weights(layer, head) => (1 + layer as u64) << 32 | head as u64,
        }
    }

    /// The key of a token's elements here.
    pub fn mix(self, key: u64) -> u64 {
        crate::random::mix(key ^ self.number())
    }
}
