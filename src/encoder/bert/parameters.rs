//! All parameters of the module as one flat array, in the order of training's layout: weights `[output, input]`.

use burn::module::Param;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Gradients, Tensor};

use super::module::Bert;

/// One parameter.
enum Part<'a> {
    /// An embedding `[rows, D]`.
    Rows(&'a mut Param<Tensor<2>>),
    /// The weight of a linear map, which the module has as `[input, output]`.
    Map(&'a mut Param<Tensor<2>>),
    Vector(&'a mut Param<Tensor<1>>),
}

impl Bert {
    /// Takes all parameters from `flat`; with `tracked` their gradients can be asked for.
    pub(crate) fn set(&mut self, flat: &Tensor<1>, tracked: bool) {
        let mut at = 0;
        let mut take = |len: usize| {
            at += len;
            flat.clone().narrow(0, at - len, len)
        };
        for part in self.parts() {
            match part {
                Part::Rows(rows) => {
                    let [n, d] = rows.dims();
                    *rows = parameter(take(n * d).reshape([n, d]), tracked);
                }
                Part::Map(map) => {
                    let [input, output] = map.dims();
                    let weight = take(input * output).reshape([output, input]).transpose();
                    *map = parameter(weight, tracked);
                }
                Part::Vector(vector) => {
                    let [n] = vector.dims();
                    *vector = parameter(take(n), tracked);
                }
            }
        }
    }

    /// The gradients of all parameters that a backward pass left, as `flat` of [`Bert::set`]; zeros where it left none.
    pub(crate) fn gradient(&mut self, gradients: &mut Gradients) -> Tensor<1> {
        let parts = self.parts().into_iter().map(|part| match part {
            Part::Rows(rows) => of(rows, gradients).reshape([-1]),
            Part::Map(map) => of(map, gradients).transpose().reshape([-1]),
            Part::Vector(vector) => of(vector, gradients),
        });
        Tensor::cat(parts.collect(), 0)
    }

    fn parts(&mut self) -> Vec<Part<'_>> {
        let mut parts = vec![
            Part::Rows(&mut self.words.weight),
            Part::Rows(&mut self.positions.weight),
            Part::Rows(&mut self.types.weight),
        ];
        parts.extend(of_norm(&mut self.norm));
        for layer in &mut self.layers {
            parts.extend(of_linear(&mut layer.qkv));
            parts.extend(of_linear(&mut layer.attention_output));
            parts.extend(of_norm(&mut layer.attention_norm));
            parts.extend(of_linear(&mut layer.up));
            parts.extend(of_linear(&mut layer.down));
            parts.extend(of_norm(&mut layer.output_norm));
        }
        parts
    }
}

fn of_linear(linear: &mut Linear) -> impl Iterator<Item = Part<'_>> {
    std::iter::once(Part::Map(&mut linear.weight)).chain(linear.bias.as_mut().map(Part::Vector))
}

fn of_norm(norm: &mut LayerNorm) -> impl Iterator<Item = Part<'_>> {
    std::iter::once(Part::Vector(&mut norm.gamma)).chain(norm.beta.as_mut().map(Part::Vector))
}

fn parameter<const N: usize>(value: Tensor<N>, tracked: bool) -> Param<Tensor<N>> {
    Param::from_tensor(if tracked { value.autodiff() } else { value })
}

fn of<const N: usize>(parameter: &Param<Tensor<N>>, gradients: &mut Gradients) -> Tensor<N> {
    let value = parameter.val();
    match value.grad_remove(gradients) {
        Some(gradient) => gradient,
        None => value.inner().zeros_like(),
    }
}
