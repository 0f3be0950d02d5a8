//! Stratal: an embedded vector database with an encoder inside.
//!
//! One directory is one database. It keeps, for every document, the vectors of several encoder layers (or those
//! that the caller brings), commits documents in durable transactions, and answers exact maximum-inner-product
//! search over them, by vector or in words.
//!
//! ```
//! use serde_json::json;
//! use stratal::{Database, Document, Element};
//!
//! # let home = tempfile::tempdir()?;
//! # let path = home.path().join("notes.stratal");
//! let db = Database::open_or_create(&path)?; // one directory, one writer
//! let notes = db.collection("notes").vectors(2, ["v"], Element::F32).open_or_create()?;
//!
//! let mut tx = db.begin();
//! tx.upsert(&notes, Document::new("btree").title("B-trees").metadata(json!({ "year": 1972 })).vector([0.6, 0.8]))?;
//! tx.upsert(&notes, Document::new("trie").vector([0.8, 0.6]))?;
//! tx.commit()?; // durable when it returns
//!
//! let hits = notes.search_vector([0.0, 1.0]).k(1).run()?;
//! assert_eq!(hits[0].id, "btree".into());
//! assert_eq!(hits[0].title.as_deref(), Some("B-trees"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With an encoder the collection takes texts and questions instead (feature `encoder`, on by default):
//!
//! ```no_run
//! # #[cfg(feature = "encoder")] {
//! use stratal::{Database, Document, Encoder};
//!
//! let db = Database::open_or_create("notes.stratal")?;
//! let notes = db.collection("notes").encoder(Encoder::from_folder("all-MiniLM-L6-v2")?).open_or_create()?;
//! notes.upsert(Document::new("btree").text("A B-tree keeps all its leaves at one depth."))?;
//! let hits = notes.search("balanced search tree").k(10).run()?;
//! # }
//! # Ok::<(), stratal::Error>(())
//! ```
//!
//! **Approximate search** walks a graph beside each large segment and says the same scores:
//! `notes.search("…").approximate().recall_target(0.95)`. Searches that miss a graph have it built in the background;
//! [`Collection::build_index`] builds it at once, [`Collection::recall`] measures what it finds on one's own data.
//!
//! **Filters** say which documents a search, a count or a deletion is about, in a program (`field("year").ge(2020)`)
//! or as text (`year >= 2020 and lang = "en"`): see the module [`filter`].
//!
//! **What it promises.** A commit is acknowledged after it is durable, whole or not at all. A [`Snapshot`] never
//! changes. A score is the inner product of the *stored* values in float64 in one fixed order of summation
//! (`stratal_kernels::inner_product`), a document's score the maximum over its layers, ties go by id; so an answer
//! depends on nothing but the data. Vectors of another model are refused ([`Error::ForeignModel`]).
//!
//! **A good guest**: nothing is printed, no signal handler is set, no global thread pool is used; handles are
//! `Clone + Send + Sync`; several databases live in one process.

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod codes;
mod collection;
mod database;
mod derived;
mod device;
mod document;
#[cfg(feature = "encoder")]
mod durable;
#[cfg(feature = "encoder")]
pub mod encoder;
mod error;
#[cfg(feature = "encoder")]
pub mod evaluation;
pub mod filter;
mod index;
#[cfg(feature = "ingest")]
pub mod ingest;
#[cfg(feature = "encoder")]
pub mod learning;
#[cfg(feature = "encoder")]
mod lexical;
#[cfg(feature = "encoder")]
mod models;
mod pairs;
mod query;
#[cfg(feature = "encoder")]
mod random;
#[cfg(feature = "encoder")]
mod reembedding;
mod schema;
mod snapshot;
#[cfg(feature = "encoder")]
pub mod training;
mod transaction;

pub use collection::{Collection, CollectionBuilder};
pub use database::{Database, DatabaseOptions, THREADS_MAX};
#[cfg(feature = "encoder")]
pub use device::burn_device;
pub use document::{Document, METADATA_BYTES_MAX, METADATA_DEPTH_MAX, Source, TEXT_BYTES_MAX};
#[cfg(feature = "encoder")]
pub use encoder::{
    Embeddings, EncodeOptions, Encoder, EncoderSettings, Identity, ModelError, Passage, Pooling, Template,
};
pub use error::{Error, Result};
pub use filter::{Filter, FilterError, FilterField, Literal, UnknownField, field, field_at, time};
pub use index::{IndexBuild, IndexProgress, IndexReport, Recall, RecallAt, RecallSample};
pub use pairs::Pair;
pub use query::{BatchSearch, Explanation, Field, Hit, PartExplanation, Search, SearchPath};
#[cfg(feature = "encoder")]
pub use reembedding::{GenerationInfo, ReembedProgress, ReembedReport, Reembedding};
pub use schema::Similarity;
pub use snapshot::{CollectionSnapshot, Snapshot, StoredDocument};
pub use stratal_kernels::Device;
pub use stratal_storage::{
    CollectionStatistics, Committed, Element, Error as StorageError, FileEntry, Id, Opened, Problem,
    Statistics, Verification, vfs,
};
pub use transaction::Transaction;
