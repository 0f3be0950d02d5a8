//! An encoder under training with its gradient and moments.

use super::TrainingError;
use super::network::{Dropout, Head, Network, Pass, Vectors};
use super::optimizer::{Moments, square_norm};
use super::random::key;
use crate::encoder::tokens::Tokens;

/// A model that is trained: one for both sides, or one for each.
pub(crate) struct Tower {
    pub network: Network,
    pub gradient: Vec<f32>,
    pub moments: Moments,
}

/// The texts of one side of a batch, what they keep, and how they are dropped.
pub(crate) struct Side<'a> {
    pub texts: &'a [&'a Tokens],
    pub head: &'a Head,
    pub chunk: usize,
    /// None for evaluation.
    pub dropout: Option<SideDropout>,
}

#[derive(Clone, Copy)]
pub(crate) struct SideDropout {
    pub rate: f32,
    /// Of the weights of attention.
    pub attention: f32,
    /// Of this step and side.
    pub seed: u64,
}

impl Tower {
    pub fn new(network: Network) -> Tower {
        let len = network.layout.len();
        Tower {
            network,
            gradient: vec![0.0; len],
            moments: Moments::new(len),
        }
    }

    /// The vectors of a side. Where all fits into one chunk, its states stay in `pass` for [`Tower::backward`].
    pub fn forward(&self, side: &Side<'_>, pass: &mut Pass) -> Vectors {
        let d = self.network.dimension();
        let mut vectors = Vectors::new(d);
        let whole = side.texts.len() <= side.chunk;
        for (at, texts) in side.texts.chunks(side.chunk).enumerate() {
            self.encode(side, at * side.chunk, texts, whole, pass);
            vectors.append(&side.head.vectors(pass, d));
        }
        vectors
    }

    fn encode(&self, side: &Side<'_>, first: usize, texts: &[&Tokens], keep: bool, pass: &mut Pass) {
        // The key is the text's place in the batch, not in the chunk: the second pass drops what the first did.
        let keys: Vec<u64> = match side.dropout {
            Some(dropout) => (first..first + texts.len())
                .map(|at| key(dropout.seed, &[at as u64]))
                .collect(),
            None => Vec::new(),
        };
        let dropout = side.dropout.map(|dropout| Dropout {
            rate: dropout.rate,
            attention: dropout.attention,
            keys: &keys,
        });
        self.network.forward(texts, dropout, keep, pass);
    }

    /// Adds to the gradient what those of the side's vectors make of it; texts in several chunks are encoded again.
    pub fn backward(&mut self, side: &Side<'_>, gradients: &Vectors, pass: &mut Pass) {
        let whole = side.texts.len() <= side.chunk;
        for (at, texts) in side.texts.chunks(side.chunk).enumerate() {
            let first = at * side.chunk;
            if !whole {
                self.encode(side, first, texts, true, pass);
            }
            let gradients = gradients.cut(first, first + texts.len());
            self.network
                .backward(texts, pass, &mut self.gradient, |l, pass, hidden| {
                    side.head.backward(pass, &gradients, l, hidden);
                });
        }
    }

    /// `Σ g²`, or the tensor in which it is not finite.
    pub fn square_norm(&self, step: u64) -> Result<f64, TrainingError> {
        let square = square_norm(&self.gradient);
        if square.is_finite() {
            return Ok(square);
        }
        let place = self.gradient.iter().position(|g| !g.is_finite()).unwrap_or(0);
        Err(TrainingError::Diverged {
            step,
            what: format!("the gradient of {}", self.network.layout.name(place)),
        })
    }

    /// One step of AdamW, after which the gradient is zero again.
    pub fn update(&mut self, scale: f64, rate: f64, decay: f64, step: u64) -> Result<(), TrainingError> {
        let network = &mut self.network;
        if decay > 0.0 {
            let keep = (1.0 - rate * decay) as f32;
            for range in network.layout.matrices() {
                network.parameters[range].iter_mut().for_each(|x| *x *= keep);
            }
        }
        self.moments
            .update(&mut network.parameters, &self.gradient, scale, rate, step);
        self.gradient.fill(0.0);
        if !square_norm(&network.parameters).is_finite() {
            let place = network
                .parameters
                .iter()
                .position(|x| !x.is_finite())
                .unwrap_or(0);
            return Err(TrainingError::Diverged {
                step,
                what: network.layout.name(place),
            });
        }
        network.pack();
        Ok(())
    }
}
