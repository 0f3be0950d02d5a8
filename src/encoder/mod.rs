//! Text to layer vectors: a BERT out of a Hugging Face folder.
//!
//! [`Encoder`] is what a user holds. Below it: `folder` reads a model folder and what it asks for, `weights` its
//! tensors, `tokens` turns text to token ids, `batch` spreads texts over threads.
//!
//! The model exists twice. `bert` is its definition as a burn module, for training and for any of burn's devices.
//! `forward` computes the same function on slices (`matrix`, `elementwise`, over the `lanes` of three instruction
//! sets): texts without padding, weights packed once, bias and activation within the product, residual and norm in
//! one pass. Measured on two cores with AVX-512 and passages of 132 tokens it takes 0.8 to 0.9 of the CPU time of
//! ONNX Runtime's fused graph. Tests hold both to the reference implementation and to each other.
//!
//! What a vector is: hidden state 0 is the embedding output, `l` the output of layer `l`; the pooled vector of a
//! layer is the state at `[CLS]` or the mean over all tokens, special ones included, and is scaled to length 1 if
//! the settings say so. Apostrophes and all other characters go to the tokenizer as they are.

mod batch;
mod bert;
pub(crate) mod config;
pub(crate) mod elementwise;
mod error;
pub(crate) mod folder;
pub(crate) mod forward;
pub(crate) mod lanes;
pub(crate) mod matrix;
pub(crate) mod model;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tokens;
pub(crate) mod weights;

pub use batch::{Embeddings, EncodeOptions, Passage};
pub use bert::Bert;
pub use config::{Activation, BertConfig};
pub use error::ModelError;
pub use folder::LengthLimits;
pub use model::{Description, Encoder};
pub use settings::{EncoderSettings, Identity, Pooling, Template};
