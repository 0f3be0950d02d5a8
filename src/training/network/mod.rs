//! Networks with their derivatives on slices: what training runs on the CPU.
//!
//! They compute the functions of `encoder::bert` and `encoder::t5` on the same matrix products: texts without padding,
//! weights packed once a step, activations kept for the backward pass in memory that is used again. All work is spread
//! over the current rayon pool by rows, and every sum has a fixed order, so that a run is the same to the bit on any
//! number of threads. `bert` and `t5` are the layers of each architecture, the rest serves both.

mod attention;
mod backward;
mod bert;
mod dropout;
mod forward;
mod head;
mod layout;
mod rows;
mod t5;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::encoder::Weights;
use crate::encoder::attention::DistanceBias;
use crate::encoder::forward::dense;
use crate::encoder::lanes::Isa;
use crate::encoder::matrix::{Finish, Panels, Rows, product};
use crate::encoder::tiles::{self, TilePanels};
use crate::encoder::tokens::Tokens;
use crate::training::options::Precision;

pub(crate) use self::by_text as cut_by_text;
pub(crate) use dropout::Dropout;
pub(crate) use dropout::{Drop, Site};
pub(crate) use head::{Head, Vectors};
pub(crate) use layout::Layout;

/// A model under training.
pub(crate) struct Network {
    isa: Isa,
    precision: Precision,
    pub layout: Layout,
    /// All parameters, in the order of the layout; [`Network::pack`] must follow a change.
    pub parameters: Vec<f32>,
    layers: Vec<PackedLayer>,
}

/// The weights of a linear map, packed for both directions.
struct Packed {
    /// `[input, output]`, for `x Wᵀ`.
    ahead: Right,
    /// `[output, input]`, for `dy W`.
    back: Right,
}

/// The right side of a product, as its precision packs it.
enum Right {
    Single(Panels),
    Half(TilePanels),
}

impl Right {
    fn new(isa: Isa, precision: Precision) -> Right {
        match precision.is_in_bf16() {
            true => Right::Half(TilePanels::default()),
            false => Right::Single(Panels::new(isa)),
        }
    }

    /// `x B + bias`; without `bias` where it is empty.
    fn product(&self, isa: Isa, x: Rows<'_>, bias: &[f32], out: &mut [f32], stride: usize) {
        let activation = None;
        match self {
            Right::Single(panels) => product(isa, x, panels, Finish { bias, activation }, out, stride),
            Right::Half(tiles) => tiles::product(isa, x, tiles, bias, out, stride),
        }
    }
}

struct PackedLayer {
    qkv: Packed,
    output: Packed,
    up: Packed,
    down: Packed,
    /// What the activations are multiplied with, where the architecture has it.
    gate: Option<Packed>,
}

impl Packed {
    fn new(isa: Isa, precision: Precision) -> Packed {
        Packed {
            ahead: Right::new(isa, precision),
            back: Right::new(isa, precision),
        }
    }

    fn pack(&mut self, isa: Isa, weight: &[f32], input: usize) {
        let output = weight.len() / input;
        let (ahead, back) = (&mut self.ahead, &mut self.back);
        rayon::join(
            || match ahead {
                Right::Single(panels) => panels.pack(input, output, true, |i, o| weight[o * input + i]),
                Right::Half(tiles) => tiles.pack_weight(isa, weight, input),
            },
            || match back {
                Right::Single(panels) => panels.pack_rows(dense(weight, input), input),
                Right::Half(tiles) => tiles.pack_rows(isa, weight, input),
            },
        );
    }
}

impl Network {
    pub fn new(isa: Isa, precision: Precision, weights: &Weights) -> Network {
        let (layout, parameters) = Layout::flatten(weights);
        let packed = || Packed::new(isa, precision);
        let layers = (0..layout.layers()).map(|l| PackedLayer {
            qkv: packed(),
            output: packed(),
            up: packed(),
            down: packed(),
            gate: (layout.maps(l).len() > 4).then(packed),
        });
        let mut network = Network {
            isa,
            precision,
            parameters,
            layers: layers.collect(),
            layout,
        };
        network.pack();
        network
    }

    /// Takes the parameters as they are now into the products.
    pub fn pack(&mut self) {
        let (isa, parameters, layout) = (self.isa, &self.parameters, &self.layout);
        self.layers.par_iter_mut().enumerate().for_each(|(l, layer)| {
            let PackedLayer {
                qkv,
                output,
                up,
                down,
                gate,
            } = layer;
            let all = [qkv, output, up, down].into_iter().chain(gate);
            for (packed, (range, input)) in all.zip(layout.maps(l)) {
                packed.pack(isa, &parameters[range], input);
            }
        });
    }

    /// Elements of a hidden state, `D`.
    pub fn dimension(&self) -> usize {
        self.layout.dimension()
    }

    fn at(&self, range: &std::ops::Range<usize>) -> &[f32] {
        &self.parameters[range.clone()]
    }
}

/// What a forward pass keeps of a layer.
#[derive(Default)]
struct LayerStates {
    qkv: Vec<f32>,
    context: Vec<f32>,
    attention_norm: Normed,
    /// Between the halves of the layer: `[tokens, D]`.
    middle: Vec<f32>,
    /// Before the activation `[tokens, inner]`; the backward pass puts the activations in its place.
    inner: Vec<f32>,
    /// What the activations are multiplied with `[tokens, inner]`, or nothing.
    gate: Vec<f32>,
    output_norm: Normed,
}

/// A norm's states: the normed input before scale and shift, and what it was multiplied with, one number a token.
#[derive(Default)]
struct Normed {
    values: Vec<f32>,
    inverse: Vec<f32>,
}

/// The states of a forward pass over some texts and room for its backward pass. Used again, it allocates nothing.
pub(crate) struct Pass {
    /// Where each text's tokens begin, and their number in all.
    starts: Vec<usize>,
    /// Keys of the tokens for dropout.
    keys: Vec<u64>,
    /// Hidden states `0..=L`, each `[tokens, D]`.
    hidden: Vec<Vec<f32>>,
    /// The norm that belongs to no layer: BERT's first, T5's last.
    embedded: Normed,
    /// What attention's scores are given for distances, for the longest of the texts.
    distances: Option<DistanceBias>,
    layers: Vec<LayerStates>,
    room: backward::Room,
}

impl Pass {
    pub fn new() -> Pass {
        Pass {
            starts: Vec::new(),
            keys: Vec::new(),
            hidden: Vec::new(),
            embedded: Normed::default(),
            distances: None,
            layers: Vec::new(),
            room: backward::Room::default(),
        }
    }

    /// The hidden states of one text at one layer.
    fn states(&self, layer: usize, text: usize, d: usize) -> &[f32] {
        &self.hidden[layer][self.starts[text] * d..self.starts[text + 1] * d]
    }
}

/// Cuts an array `[tokens of all texts, width]` into those of each text.
pub(crate) fn by_text<'a>(starts: &[usize], width: usize, mut all: &'a mut [f32]) -> Vec<&'a mut [f32]> {
    starts
        .windows(2)
        .map(|pair| {
            let (text, rest) = std::mem::take(&mut all).split_at_mut((pair[1] - pair[0]) * width);
            all = rest;
            text
        })
        .collect()
}

fn resize(vector: &mut Vec<f32>, len: usize) {
    vector.resize(len, 0.0);
}

fn starts(texts: &[&Tokens]) -> Vec<usize> {
    let mut starts = vec![0];
    let mut total = 0;
    for text in texts {
        total += text.ids.len();
        starts.push(total);
    }
    starts
}
