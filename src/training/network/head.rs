//! From hidden states to the vectors that are compared, and back.

use rayon::prelude::*;

use crate::encoder::Pooling;

use super::{Pass, by_text};

/// Vectors of several texts, any number of rows each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vectors {
    /// Elements of a vector, `D`.
    pub d: usize,
    /// Where each text's rows begin, and their number in all.
    pub starts: Vec<usize>,
    /// `[rows, D]`
    pub data: Vec<f32>,
}

impl Vectors {
    pub fn new(d: usize) -> Vectors {
        Vectors {
            d,
            starts: vec![0],
            data: Vec::new(),
        }
    }

    /// Zeros in the same shape.
    pub fn zeros(&self) -> Vectors {
        Vectors {
            d: self.d,
            starts: self.starts.clone(),
            data: vec![0.0; self.data.len()],
        }
    }

    /// Texts.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The vectors of one text, `[rows, D]`.
    pub fn of(&self, text: usize) -> &[f32] {
        &self.data[self.starts[text] * self.d..self.starts[text + 1] * self.d]
    }

    /// One vector.
    #[cfg(test)]
    pub fn row(&self, text: usize, row: usize) -> &[f32] {
        &self.data[(self.starts[text] + row) * self.d..][..self.d]
    }

    /// Puts the texts of `other` behind these.
    pub fn append(&mut self, other: &Vectors) {
        let rows = self.starts.last().copied().unwrap_or(0);
        self.starts
            .extend(other.starts[1..].iter().map(|start| rows + start));
        self.data.extend_from_slice(&other.data);
    }

    /// Texts `from..to`.
    pub fn cut(&self, from: usize, to: usize) -> Vectors {
        let first = self.starts[from];
        Vectors {
            d: self.d,
            starts: self.starts[from..=to].iter().map(|start| start - first).collect(),
            data: self.data[first * self.d..self.starts[to] * self.d].to_vec(),
        }
    }
}

/// Which vectors a text gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Head {
    /// One of each of these layers, pooled over the tokens.
    Layers {
        layers: Vec<usize>,
        pooling: Pooling,
        normalize: bool,
    },
    /// Those of the first tokens of the last layer (all tokens where there are fewer).
    Tokens { first: usize, normalize: bool },
}

impl Head {
    /// The layers that are read.
    fn layers(&self, last: usize) -> Vec<usize> {
        match self {
            Head::Layers { layers, .. } => layers.clone(),
            Head::Tokens { .. } => vec![last],
        }
    }

    fn normalize(&self) -> bool {
        match self {
            Head::Layers { normalize, .. } | Head::Tokens { normalize, .. } => *normalize,
        }
    }

    /// The vectors of the texts of a forward pass.
    pub fn vectors(&self, pass: &Pass, d: usize) -> Vectors {
        let last = pass.hidden.len() - 1;
        let layers = self.layers(last);
        let mut vectors = Vectors::new(d);
        let mut total = 0;
        for text in pass.starts.windows(2) {
            total += match self {
                Head::Layers { layers, .. } => layers.len(),
                Head::Tokens { first, .. } => (*first).min(text[1] - text[0]),
            };
            vectors.starts.push(total);
        }
        vectors.data.resize(total * d, 0.0);
        by_text(&vectors.starts, d, &mut vectors.data)
            .into_par_iter()
            .enumerate()
            .for_each(|(text, out)| {
                for (row, out) in out.chunks_exact_mut(d).enumerate() {
                    self.raw(pass, &layers, text, row, out);
                    if self.normalize() {
                        let inverse = 1.0 / length(out);
                        out.iter_mut().for_each(|x| *x = (f64::from(*x) * inverse) as f32);
                    }
                }
            });
        vectors
    }

    /// One vector before it is normalised.
    fn raw(&self, pass: &Pass, layers: &[usize], text: usize, row: usize, out: &mut [f32]) {
        let d = out.len();
        match self {
            Head::Tokens { .. } => {
                out.copy_from_slice(&pass.states(layers[0], text, d)[row * d..][..d]);
            }
            Head::Layers { pooling, .. } => {
                crate::encoder::forward::pool(pass.states(layers[row], text, d), *pooling, false, out);
            }
        }
    }

    /// Adds to `hidden`, `[tokens, D]` of one layer, what the gradients of the vectors ask for.
    pub fn backward(&self, pass: &Pass, gradients: &Vectors, layer: usize, hidden: &mut [f32]) {
        let d = gradients.d;
        let last = pass.hidden.len() - 1;
        let layers = self.layers(last);
        if !layers.contains(&layer) {
            return;
        }
        by_text(&pass.starts, d, hidden)
            .into_par_iter()
            .enumerate()
            .for_each(|(text, hidden)| {
                let tokens = hidden.len() / d;
                let mut vector = vec![0.0; d];
                for (row, gradient) in gradients.of(text).chunks_exact(d).enumerate() {
                    if matches!(self, Head::Layers { .. }) && layers[row] != layer {
                        continue;
                    }
                    let mut gradient = gradient.to_vec();
                    if self.normalize() {
                        self.raw(pass, &layers, text, row, &mut vector);
                        normalize_backward(&vector, &mut gradient);
                    }
                    let (from, to, share) = match self {
                        Head::Tokens { .. } => (row, row + 1, 1.0),
                        Head::Layers {
                            pooling: Pooling::Cls,
                            ..
                        } => (0, 1, 1.0),
                        Head::Layers {
                            pooling: Pooling::Mean,
                            ..
                        } => (0, tokens, 1.0 / tokens as f32),
                    };
                    for hidden in hidden[from * d..to * d].chunks_exact_mut(d) {
                        hidden
                            .iter_mut()
                            .zip(&gradient)
                            .for_each(|(h, g)| *h += g * share);
                    }
                }
            });
    }
}

/// A vector's length, at least 1e-12, as in `Encoder`.
fn length(x: &[f32]) -> f64 {
    let square: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    square.sqrt().max(1e-12)
}

/// From the gradient of `x / |x|` to that of `x`: `(g - y (y·g)) / |x|`.
fn normalize_backward(x: &[f32], gradient: &mut [f32]) {
    let length = length(x);
    let along: f64 = x
        .iter()
        .zip(&*gradient)
        .map(|(&x, &g)| f64::from(x) * f64::from(g))
        .sum();
    for (g, &x) in gradient.iter_mut().zip(x) {
        *g = ((f64::from(*g) - f64::from(x) * along / (length * length)) / length) as f32;
    }
}
