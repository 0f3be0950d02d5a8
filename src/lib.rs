//! Stratal: an embedded vector database with an encoder inside.
