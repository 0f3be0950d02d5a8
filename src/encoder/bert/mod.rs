//! BERT: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2019).
//!
//! The model exists twice. `module` is its definition as a burn module, for any of burn's devices, and `parameters` its
//! weights as one array for training there; `packed` computes the same function on slices, and a test holds the two
//! together.

pub(crate) mod config;
pub(crate) mod module;
pub(crate) mod packed;
mod parameters;
pub(crate) mod weights;

pub use config::BertConfig;
pub use module::Bert;
pub(crate) use packed::PackedBert;
pub(crate) use weights::{BertWeights, LayerWeights};
