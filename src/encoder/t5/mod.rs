//! The encoder half of T5: Raffel et al., "Exploring the Limits of Transfer Learning" (2020), and of mT5, which is the
//! same network with a gated feed-forward part (T5 1.1).
//!
//! What differs from BERT: norms without mean and shift, before each half of a layer instead of after the sum; no
//! biases; products of queries and keys unscaled, with a learned number for the bucket of their distance added; no
//! position or type embeddings; a head's size apart from `D`. The last hidden state goes through one more norm.

pub(crate) mod config;
pub(crate) mod packed;
pub(crate) mod position;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod weights;

pub use config::T5Config;
pub(crate) use packed::PackedT5;
pub(crate) use weights::{T5Layer, T5Weights};
