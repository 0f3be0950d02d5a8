//! Where each tensor lies in the one flat array that parameters, gradients and moments share.

use std::ops::Range;

use crate::encoder::Weights;

use super::bert::BertLayout;
use super::t5::T5Layout;

/// The range of a linear map's weight `[output, input]` and its input's size.
pub(super) type Map = (Range<usize>, usize);

/// The ranges of all tensors. A weight is `[output, input]`, row-major, as PyTorch has it.
#[derive(Debug, Clone)]
pub(crate) enum Layout {
    Bert(BertLayout),
    T5(T5Layout),
}

/// Gives out ranges one after the other.
#[derive(Default)]
pub(super) struct Cursor(usize);

impl Cursor {
    pub fn take(&mut self, len: usize) -> Range<usize> {
        self.0 += len;
        self.0 - len..self.0
    }

    pub fn len(&self) -> usize {
        self.0
    }
}

impl Layout {
    /// The layout of a model with its parameters in this order.
    pub fn flatten(weights: &Weights) -> (Layout, Vec<f32>) {
        match weights {
            Weights::Bert(weights) => {
                let layout = BertLayout::new(&weights.config);
                let flat = layout.flatten(weights);
                (Layout::Bert(layout), flat)
            }
            Weights::T5(weights) => {
                let layout = T5Layout::new(&weights.config);
                let flat = layout.flatten(weights);
                (Layout::T5(layout), flat)
            }
        }
    }

    /// The model whose parameters lie in `flat`.
    pub fn weights(&self, flat: &[f32]) -> Weights {
        match self {
            Layout::Bert(layout) => Weights::Bert(layout.weights(flat)),
            Layout::T5(layout) => Weights::T5(layout.weights(flat)),
        }
    }

    /// Parameters in all.
    pub fn len(&self) -> usize {
        match self {
            Layout::Bert(layout) => layout.len,
            Layout::T5(layout) => layout.len,
        }
    }

    /// Layers, `L`.
    pub fn layers(&self) -> usize {
        match self {
            Layout::Bert(layout) => layout.layers.len(),
            Layout::T5(layout) => layout.layers.len(),
        }
    }

    /// Elements of a hidden state, `D`.
    pub fn dimension(&self) -> usize {
        match self {
            Layout::Bert(layout) => layout.config.hidden_size,
            Layout::T5(layout) => layout.config.d_model,
        }
    }

    /// The linear maps of a layer: query, key and value as one, output, up, down, and the gate where there is one.
    pub(super) fn maps(&self, layer: usize) -> Vec<Map> {
        match self {
            Layout::Bert(layout) => layout.maps(layer),
            Layout::T5(layout) => layout.maps(layer),
        }
    }

    /// Embeddings and weights, without biases and norms: what decays.
    pub fn matrices(&self) -> Vec<Range<usize>> {
        match self {
            Layout::Bert(layout) => layout.matrices(),
            Layout::T5(layout) => layout.matrices(),
        }
    }

    /// The name of the tensor that holds the element at `place`, for messages.
    pub fn name(&self, place: usize) -> String {
        match self {
            Layout::Bert(layout) => layout.name(place),
            Layout::T5(layout) => layout.name(place),
        }
    }
}
