//! Text to layer vectors: a BERT or the encoder of a T5 out of a Hugging Face folder.
//!
//! [`Encoder`] is what a user holds. Below it: `folder` reads a model folder and what it asks for, `weights` its
//! tensors, `tokens` turns text to token ids, `batch` spreads texts over threads. Of networks they know only what
//! `architecture` says; `bert` and `t5` are the networks.
//!
//! Networks are computed on slices (`forward`, `attention`, `matrix`, `elementwise`, over the `lanes` of three
//! instruction sets): texts without padding, weights packed once, bias and activation within the product. Measured on
//! two cores with AVX-512 and passages of 132 tokens, BERT takes 0.8 to 0.9 of the CPU time of ONNX Runtime's fused
//! graph. It exists as a burn module too, for any of burn's devices. Tests hold all to the reference implementation,
//! and BERT's two forms to each other.
//!
//! What a vector is: hidden state 0 is the embedding output, `l` the output of layer `l` (the last one of a T5 after
//! its final norm); the pooled vector of a layer is the state of the first token (`[CLS]`) or the mean over all
//! tokens, special ones included, and is scaled to length 1 if the settings say so. Apostrophes and all other
//! characters go to the tokenizer as they are.

mod architecture;
pub(crate) mod attention;
mod batch;
pub(crate) mod bert;
pub(crate) mod config;
pub(crate) mod elementwise;
mod error;
pub(crate) mod folder;
pub(crate) mod forward;
pub(crate) mod lanes;
mod late;
pub(crate) mod lexical;
pub(crate) mod matrix;
pub(crate) mod model;
pub(crate) mod on_device;
pub(crate) mod saving;
mod settings;
pub(crate) mod t5;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tiles;
pub(crate) mod tokens;
pub(crate) mod weights;
mod weights_file;

pub use architecture::Architecture;
pub(crate) use architecture::Weights;
pub use batch::{Embeddings, EncodeOptions, Passage};
pub use bert::{Bert, BertConfig};
pub use config::Activation;
pub use error::ModelError;
pub use folder::LengthLimits;
pub use late::LateInteraction;
pub use lexical::{Lexical, LexicalOptions};
pub use model::{Description, Encoder};
pub use settings::{EncoderSettings, Identity, Pooling, Template};
pub use t5::T5Config;
