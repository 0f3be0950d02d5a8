//! An encoder under training: on slices on the CPU, or as a module of burn on one of its devices.

mod masks;
mod module;
mod slices;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::TrainingError;
use super::network::{Head, Layout, Pass, Vectors};
use crate::encoder::tokens::Tokens;
use crate::random::key;

pub(crate) use module::ModuleTower;
pub(crate) use slices::SliceTower;

/// A model that is trained, with its gradient and moments: one for both sides, or one for each.
pub(crate) enum Tower {
    Slices(Box<SliceTower>),
    Module(Box<ModuleTower>),
}

/// Calls a method of whichever tower it is.
macro_rules! either {
    ($tower:expr, $one:ident => $call:expr) => {
        match $tower {
            Tower::Slices($one) => $call,
            Tower::Module($one) => $call,
        }
    };
}

/// The texts of one side of a batch, what they keep, and how they are dropped.
pub(crate) struct Side<'a> {
    pub texts: &'a [&'a Tokens],
    pub head: &'a Head,
    pub chunk: usize,
    pub dropout: Option<SideDropout>,
    /// Whether a backward pass follows.
    pub trains: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct SideDropout {
    pub rate: f32,
    /// Of the weights of attention.
    pub attention: f32,
    /// Of this step and side.
    pub seed: u64,
}

/// What the forward pass of a side keeps for its backward pass.
pub(crate) struct Kept {
    pass: Pass,
    graph: Option<burn::tensor::Tensor<3>>,
}

/// Everything from which a tower goes on: its parameters, and the optimizer's moments.
pub(crate) struct State {
    pub parameters: Vec<f32>,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Kept {
    pub fn new() -> Kept {
        Kept {
            pass: Pass::new(),
            graph: None,
        }
    }
}

impl Side<'_> {
    /// Whether one chunk holds all, so that its states are kept and nothing is encoded again for the backward pass.
    fn is_kept(&self) -> bool {
        self.trains && self.texts.len() <= self.chunk
    }

    /// The dropout keys of the texts `first..first + n`: of their places in the batch, not in the chunk, so that the
    /// second pass drops what the first did.
    fn keys(&self, first: usize, n: usize) -> Vec<u64> {
        match self.dropout {
            Some(dropout) => (first..first + n)
                .map(|at| key(dropout.seed, &[at as u64]))
                .collect(),
            None => Vec::new(),
        }
    }
}

impl Tower {
    /// Where the parameters lie in [`Tower::parameters`].
    pub fn layout(&self) -> &Layout {
        either!(self, tower => tower.layout())
    }

    pub fn parameters(&self) -> Result<Cow<'_, [f32]>, TrainingError> {
        either!(self, tower => tower.parameters())
    }

    pub fn state(&self) -> Result<State, TrainingError> {
        either!(self, tower => tower.state())
    }

    pub fn restore(&mut self, state: State) {
        either!(self, tower => tower.restore(state));
    }

    /// The vectors of a side. Where all fits into one chunk, its states stay in `kept` for [`Tower::backward`].
    pub fn forward(&self, side: &Side<'_>, kept: &mut Kept) -> Result<Vectors, TrainingError> {
        either!(self, tower => tower.forward(side, kept))
    }

    /// Adds to the gradient what those of the side's vectors make of it; texts in several chunks are encoded again.
    pub fn backward(
        &mut self,
        side: &Side<'_>,
        gradients: &Vectors,
        kept: &mut Kept,
    ) -> Result<(), TrainingError> {
        either!(self, tower => tower.backward(side, gradients, kept))
    }

    /// `Σ g²`.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`] names the tensor in which it is not finite.
    pub fn square_norm(&self, step: u64) -> Result<f64, TrainingError> {
        either!(self, tower => tower.square_norm(step))
    }

    /// One step of AdamW, after which the gradient is zero again.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`] names the tensor in which a parameter is not finite.
    pub fn update(&mut self, scale: f64, rate: f64, decay: f64, step: u64) -> Result<(), TrainingError> {
        either!(self, tower => tower.update(scale, rate, decay, step))
    }

    /// Vectors of many texts without a graph, chunk by chunk.
    pub fn encode(
        &self,
        texts: &[Tokens],
        head: &Head,
        chunk: usize,
        kept: &mut Kept,
    ) -> Result<Vectors, TrainingError> {
        let texts: Vec<&Tokens> = texts.iter().collect();
        let side = Side {
            texts: &texts,
            head,
            chunk,
            dropout: None,
            trains: false,
        };
        self.forward(&side, kept)
    }
}

/// What of a tower is not finite any more.
fn diverged(layout: &Layout, values: &[f32], step: u64, prefix: &str) -> TrainingError {
    let place = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
    TrainingError::Diverged {
        step,
        what: format!("{prefix}{}", layout.name(place)),
    }
}
