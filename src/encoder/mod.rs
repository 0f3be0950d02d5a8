//! Text to layer vectors: a BERT out of a Hugging Face folder.
//!
//! [`Encoder`] is what a user holds. Below it: `folder` reads a model folder, `tokens` turns text to token
//! ids, `bert` is the model's definition in burn, `forward` the same function for encoding on the CPU.

mod batch;
mod bert;
mod config;
mod elementwise;
mod error;
mod folder;
mod forward;
mod lanes;
mod matrix;
mod model;
mod settings;
#[cfg(test)]
mod tests;
mod tokens;
mod weights;

pub use batch::{Embeddings, EncodeOptions, Passage};
pub use bert::Bert;
pub use config::{Activation, BertConfig};
pub use error::ModelError;
pub use folder::LengthLimits;
pub use model::{Description, Encoder};
pub use settings::{EncoderSettings, Identity, Pooling, Template};
