//! Stratal: an embedded vector database with an encoder inside.

#[cfg(feature = "encoder")]
pub mod encoder;
