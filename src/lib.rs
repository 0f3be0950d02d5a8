//! Stratal: an embedded vector database with an encoder inside.

mod collection;
mod database;
mod document;
#[cfg(feature = "encoder")]
pub mod encoder;
mod error;
#[cfg(feature = "ingest")]
pub mod ingest;
#[cfg(feature = "encoder")]
mod models;
mod query;
mod schema;
mod snapshot;
mod transaction;

pub use collection::{Collection, CollectionBuilder};
pub use database::{Database, DatabaseOptions};
pub use document::{Document, METADATA_BYTES_MAX, METADATA_DEPTH_MAX, Source, TEXT_BYTES_MAX};
#[cfg(feature = "encoder")]
pub use encoder::{
    Embeddings, EncodeOptions, Encoder, EncoderSettings, Identity, ModelError, Passage, Pooling, Template,
};
pub use error::{Error, Result};
pub use query::{BatchSearch, Field, Hit, Search};
pub use schema::Similarity;
pub use snapshot::{CollectionSnapshot, Snapshot, StoredDocument};
pub use stratal_storage::{
    CollectionStatistics, Committed, Element, Error as StorageError, FileEntry, Id, Opened, Problem,
    Statistics, Verification, vfs,
};
pub use transaction::Transaction;
