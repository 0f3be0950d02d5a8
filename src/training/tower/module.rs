//! An encoder under training as a module of burn: what GPUs do. The parameters are one flat array on the device, in the
//! layout of training on slices; batches are padded to their longest text.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor, TensorData};

use super::masks::{Masks, Thinned};
use super::{Kept, Side, State, diverged};
use crate::encoder::bert::{Bert, BertConfig};
use crate::encoder::on_device::{Padded, normalized, read};
use crate::encoder::tokens::Tokens;
use crate::encoder::{ModelError, Weights};
use crate::training::TrainingError;
use crate::training::network::{Head, Layout, Vectors};
use crate::training::optimizer::{self, Step};

/// A module with its gradient and moments, on a device.
pub(crate) struct ModuleTower {
    config: BertConfig,
    layout: Layout,
    device: Device,
    in_bf16: bool,
    parameters: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    gradient: Option<Tensor<1>>,
    /// 1 where a parameter decays; made at the first step that asks.
    decays: Option<Tensor<1>>,
    /// The parameters as the module's, without a graph and with one.
    plain: Bert,
    tracked: Bert,
}

impl ModuleTower {
    /// `device` is one without autodiff.
    ///
    /// # Errors
    /// [`ModelError::Device`] for an architecture that has no module.
    pub fn new(all: &Weights, in_bf16: bool, device: &Device) -> Result<ModuleTower, TrainingError> {
        let Weights::Bert(weights) = all else {
            return Err(ModelError::no_module("T5").into());
        };
        let (layout, flat) = Layout::flatten(all);
        let parameters = upload(flat, device);
        let module = Bert::new(weights, device);
        let mut tower = ModuleTower {
            config: weights.config.clone(),
            layout,
            device: device.clone(),
            in_bf16,
            first: parameters.zeros_like(),
            second: parameters.zeros_like(),
            parameters,
            gradient: None,
            decays: None,
            plain: module.clone(),
            tracked: module,
        };
        tower.set();
        Ok(tower)
    }

    fn set(&mut self) {
        self.plain.set(&self.parameters, false);
        self.tracked.set(&self.parameters, true);
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn parameters(&self) -> Result<Cow<'_, [f32]>, TrainingError> {
        Ok(Cow::Owned(read(self.parameters.clone())?))
    }

    pub fn state(&self) -> Result<State, TrainingError> {
        Ok(State {
            parameters: read(self.parameters.clone())?,
            first: read(self.first.clone())?,
            second: read(self.second.clone())?,
        })
    }

    pub fn restore(&mut self, state: State) {
        self.parameters = upload(state.parameters, &self.device);
        self.first = upload(state.first, &self.device);
        self.second = upload(state.second, &self.device);
        self.set();
    }

    pub fn forward(&self, side: &Side<'_>, kept: &mut Kept) -> Result<Vectors, TrainingError> {
        let mut vectors = Vectors::new(self.layout.dimension());
        for (at, texts) in side.texts.chunks(side.chunk).enumerate() {
            let module = if side.is_kept() {
                &self.tracked
            } else {
                &self.plain
            };
            let rows = self.rows(module, side, at * side.chunk, texts);
            let read = read(rows.clone().inner())?;
            let [_, padded, d] = rows.dims();
            let mut chunk = Vectors::new(d);
            for (text, values) in texts.iter().zip(read.chunks_exact(padded * d)) {
                let own = rows_of(side.head, text);
                chunk.data.extend_from_slice(&values[..own * d]);
                chunk.starts.push(chunk.data.len() / d);
            }
            vectors.append(&chunk);
            kept.graph = side.is_kept().then_some(rows);
        }
        Ok(vectors)
    }

    pub fn backward(
        &mut self,
        side: &Side<'_>,
        gradients: &Vectors,
        kept: &mut Kept,
    ) -> Result<(), TrainingError> {
        for (at, texts) in side.texts.chunks(side.chunk).enumerate() {
            let first = at * side.chunk;
            let rows = match kept.graph.take() {
                Some(rows) => rows,
                None => self.rows(&self.tracked, side, first, texts),
            };
            let [n, padded, d] = rows.dims();
            let mut values = vec![0.0; n * padded * d];
            for (text, values) in values.chunks_exact_mut(padded * d).enumerate() {
                let own = gradients.of(first + text);
                values[..own.len()].copy_from_slice(own);
            }
            let seed = Tensor::<3>::from_data(TensorData::new(values, [n, padded, d]), &self.device);
            let mut found = (rows * seed.autodiff()).sum().backward();
            let gradient = self.tracked.gradient(&mut found);
            self.gradient = Some(match self.gradient.take() {
                Some(so_far) => so_far + gradient,
                None => gradient,
            });
        }
        Ok(())
    }

    /// The vectors of a chunk of texts, `[n, rows, D]`; of texts with fewer rows than others the last mean nothing.
    fn rows(&self, module: &Bert, side: &Side<'_>, first: usize, texts: &[&Tokens]) -> Tensor<3> {
        let padded = Padded::new(texts, &self.device);
        let keys = side.keys(first, texts.len());
        let heads = self.config.num_attention_heads;
        let regime = Thinned {
            in_bf16: self.in_bf16,
            masks: (side.dropout)
                .map(|dropout| Masks::new(dropout, &keys, padded.tokens(), heads, &self.device)),
        };
        let states = padded.states(module, &self.config, &regime);
        match side.head {
            Head::Tokens { first, normalize } => {
                let last = states[states.len() - 1].clone();
                normalized(last.narrow(1, 0, padded.tokens().min(*first)), *normalize)
            }
            Head::Layers {
                layers,
                pooling,
                normalize,
            } => normalized(padded.pooled(&states, layers, *pooling), *normalize),
        }
    }

    pub fn square_norm(&self, step: u64) -> Result<f64, TrainingError> {
        let Some(gradient) = &self.gradient else {
            return Ok(0.0);
        };
        let square = self.sum_of_squares(gradient)?;
        match square.is_finite() {
            true => Ok(square),
            false => Err(diverged(
                &self.layout,
                &read(gradient.clone())?,
                step,
                "the gradient of ",
            )),
        }
    }

    pub fn update(&mut self, scale: f64, rate: f64, decay: f64, step: u64) -> Result<(), TrainingError> {
        let Some(gradient) = self.gradient.take() else {
            return Ok(());
        };
        if decay > 0.0 {
            let decays = self.decays.get_or_insert_with(|| {
                let mut decays = vec![0.0; self.layout.len()];
                self.layout
                    .matrices()
                    .into_iter()
                    .for_each(|range| decays[range].fill(1.0));
                upload(decays, &self.device)
            });
            self.parameters = self.parameters.clone() * (1.0 - decays.clone() * (rate * decay));
        }
        let Step { length, root } = Step::new(rate, step);
        let gradient = gradient * scale;
        let (b1, b2) = (optimizer::BETA_1, optimizer::BETA_2);
        self.first = self.first.clone() * b1 + gradient.clone() * (1.0 - b1);
        self.second = self.second.clone() * b2 + gradient.clone() * gradient * (1.0 - b2);
        let spread = self.second.clone().sqrt() * root + optimizer::EPSILON;
        self.parameters = self.parameters.clone() - self.first.clone() * length / spread;
        if !self.sum_of_squares(&self.parameters)?.is_finite() {
            return Err(diverged(&self.layout, &read(self.parameters.clone())?, step, ""));
        }
        self.set();
        Ok(())
    }

    fn sum_of_squares(&self, values: &Tensor<1>) -> Result<f64, TrainingError> {
        let sum = (values.clone() * values.clone()).sum();
        Ok(read(sum)?.first().copied().map_or(0.0, f64::from))
    }

    /// The gradient so far, for tests.
    #[cfg(test)]
    pub fn gradient(&self) -> Vec<f32> {
        self.gradient
            .clone()
            .map_or(Vec::new(), |gradient| read(gradient).unwrap())
    }
}

fn upload(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

/// Rows that a text has.
fn rows_of(head: &Head, text: &Tokens) -> usize {
    match head {
        Head::Layers { layers, .. } => layers.len(),
        Head::Tokens { first, .. } => (*first).min(text.ids.len()),
    }
}
