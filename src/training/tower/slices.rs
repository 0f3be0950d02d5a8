//! An encoder under training on slices: what the CPU does.

use std::borrow::Cow;

use super::{Kept, Side, State, diverged};
use crate::encoder::tokens::Tokens;
use crate::training::TrainingError;
use crate::training::network::{Dropout, Layout, Network, Pass, Vectors};
use crate::training::optimizer::{Moments, square_norm};

/// A network with its gradient and moments.
pub(crate) struct SliceTower {
    network: Network,
    gradient: Vec<f32>,
    moments: Moments,
}

impl SliceTower {
    pub fn new(network: Network) -> SliceTower {
        let len = network.layout.len();
        SliceTower {
            network,
            gradient: vec![0.0; len],
            moments: Moments::new(len),
        }
    }

    pub fn layout(&self) -> &Layout {
        &self.network.layout
    }

    pub fn parameters(&self) -> Result<Cow<'_, [f32]>, TrainingError> {
        Ok(Cow::Borrowed(&self.network.parameters))
    }

    pub fn state(&self) -> Result<State, TrainingError> {
        Ok(State {
            parameters: self.network.parameters.clone(),
            first: self.moments.first.clone(),
            second: self.moments.second.clone(),
        })
    }

    pub fn restore(&mut self, state: State) {
        self.network.parameters = state.parameters;
        self.moments.first = state.first;
        self.moments.second = state.second;
        self.network.pack();
    }

    pub fn forward(&self, side: &Side<'_>, kept: &mut Kept) -> Result<Vectors, TrainingError> {
        let d = self.network.dimension();
        let mut vectors = Vectors::new(d);
        for (at, texts) in side.texts.chunks(side.chunk).enumerate() {
            self.encode(side, at * side.chunk, texts, side.is_kept(), &mut kept.pass);
            vectors.append(&side.head.vectors(&kept.pass, d));
        }
        Ok(vectors)
    }

    fn encode(&self, side: &Side<'_>, first: usize, texts: &[&Tokens], keep: bool, pass: &mut Pass) {
        let keys = side.keys(first, texts.len());
        let dropout = side.dropout.map(|dropout| Dropout {
            rate: dropout.rate,
            attention: dropout.attention,
            keys: &keys,
        });
        self.network.forward(texts, dropout, keep, pass);
    }

    pub fn backward(
        &mut self,
        side: &Side<'_>,
        gradients: &Vectors,
        kept: &mut Kept,
    ) -> Result<(), TrainingError> {
        for (at, texts) in side.texts.chunks(side.chunk).enumerate() {
            let first = at * side.chunk;
            if !side.is_kept() {
                self.encode(side, first, texts, true, &mut kept.pass);
            }
            let gradients = gradients.cut(first, first + texts.len());
            self.network
                .backward(texts, &mut kept.pass, &mut self.gradient, |l, pass, hidden| {
                    side.head.backward(pass, &gradients, l, hidden);
                });
        }
        Ok(())
    }

    pub fn square_norm(&self, step: u64) -> Result<f64, TrainingError> {
        let square = square_norm(&self.gradient);
        match square.is_finite() {
            true => Ok(square),
            false => Err(diverged(self.layout(), &self.gradient, step, "the gradient of ")),
        }
    }

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
            return Err(diverged(self.layout(), &self.network.parameters, step, ""));
        }
        self.network.pack();
        Ok(())
    }

    /// The gradient so far, for tests.
    #[cfg(test)]
    pub fn gradient(&self) -> &[f32] {
        &self.gradient
    }
}
