//! What the engine refuses or fails at.

use stratal_storage::Id;

/// The result of a call on the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure of the engine. Match on it; the message says what failed, on what, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Storage refused or failed: locks, damage, versions, space, rules of a transaction.
    #[error(transparent)]
    Storage(#[from] stratal_storage::Error),
    /// The encoder's folder, settings or input.
    #[cfg(feature = "encoder")]
    #[error(transparent)]
    Model(#[from] crate::encoder::ModelError),
    /// Training, its data or its checkpoints.
    #[cfg(feature = "encoder")]
    #[error(transparent)]
    Training(#[from] crate::training::TrainingError),
    /// A source of documents could not be read.
    #[cfg(feature = "ingest")]
    #[error(transparent)]
    Ingest(#[from] crate::ingest::IngestError),
    /// A filter that cannot be used.
    #[error(transparent)]
    Filter(#[from] crate::FilterError),
    /// A vector has the wrong number of components.
    #[error("{what} has {got} components, and the collection {collection:?} takes {expected}")]
    Dimension {
        /// The collection.
        collection: String,
        /// Which vector: a document's layer or a query's row.
        what: String,
        /// Components expected.
        expected: usize,
        /// Components given.
        got: usize,
    },
    /// A document brings another number of layer vectors than its collection keeps.
    #[error(
        "{what} brings {got} layer vectors, and the collection {collection:?} takes {expected} ({layers})"
    )]
    Layers {
        /// The collection.
        collection: String,
        /// Which document.
        what: String,
        /// Layer vectors expected.
        expected: usize,
        /// Layer vectors given.
        got: usize,
        /// Their names.
        layers: String,
    },
    /// A component is NaN, infinite, or too large for the stored element type.
    #[error("component {component} of {what} is {value}: {why}")]
    NotFinite {
        /// Which vector.
        what: String,
        /// Which component, from 0.
        component: usize,
        /// Its value.
        value: f32,
        /// What was expected.
        why: &'static str,
    },
    /// A vector of length zero in a collection that compares by cosine.
    #[error("{what} is all zeros, which has no direction: a cosine collection cannot compare it")]
    ZeroVector {
        /// Which vector.
        what: String,
    },
    /// A document has neither vectors nor anything that the encoder could read.
    #[error("the document {id} has {missing}: {remedy}")]
    NothingToStore {
        /// The document.
        id: Id,
        /// What is missing.
        missing: &'static str,
        /// What the collection would take.
        remedy: &'static str,
    },
    /// A pair names a document that is not there.
    #[error(
        "there is no document {id} in {collection:?} for the question to be answered by: add it first, or with it"
    )]
    NoDocument {
        /// The collection.
        collection: String,
        /// The id asked for.
        id: crate::Id,
    },
    /// Vectors or a query of another encoder than the collection's.
    #[error(
        "the collection {collection:?} holds vectors of {stored}, and these are of {given}: they cannot be compared; open it with its own encoder, or re-embed it"
    )]
    ForeignModel {
        /// The collection.
        collection: String,
        /// The collection's encoder or label.
        stored: String,
        /// The one given.
        given: String,
    },
    /// A collection was opened with other settings than it was created with.
    #[error(
        "the collection {collection:?} was created with {setting} {stored}, not {given}: open it without that setting, or create another collection"
    )]
    SchemaMismatch {
        /// The collection.
        collection: String,
        /// Which setting.
        setting: &'static str,
        /// As stored.
        stored: String,
        /// As given.
        given: String,
    },
    /// A text query on a collection without an encoder, or learning where there is none to train.
    #[error("the collection {collection:?} has no encoder, {so}")]
    NoEncoder {
        /// The collection.
        collection: String,
        /// What follows from that, and what can be done.
        so: &'static str,
    },
    /// A collection's stored learning policy cannot be read.
    #[error(
        "the learning policy of {collection:?} cannot be read: set one, which takes its place ({reason})"
    )]
    LearningPolicy {
        /// The collection.
        collection: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The copy of an encoder that a collection stands on is not in the database folder.
    #[error(
        "the encoder {name} of the collection {collection:?} is missing from {path}: copy its folder there, or open the collection with it"
    )]
    MissingModel {
        /// The collection.
        collection: String,
        /// The encoder.
        name: String,
        /// Where it should be.
        path: String,
    },
    /// A name that is no layer of the collection.
    #[error("the collection {collection:?} has no layer {name:?}; it has {layers}")]
    UnknownLayer {
        /// The collection.
        collection: String,
        /// The name given.
        name: String,
        /// Those there are.
        layers: String,
    },
    /// Metadata past the limits.
    #[error("the metadata of {id} {what}")]
    Metadata {
        /// The document.
        id: Id,
        /// What is wrong with it.
        what: String,
    },
    /// A document's payload in the database cannot be decoded.
    #[error("the stored document {id} cannot be read: {what}; `verify` tells more")]
    Payload {
        /// The document.
        id: Id,
        /// What is wrong.
        what: &'static str,
    },
    /// A request that no database could answer.
    #[error("{what}")]
    Invalid {
        /// What is wrong and what would be right.
        what: String,
    },
    /// The arithmetic refused its input; the checks above should have come first.
    #[error(transparent)]
    Kernel(#[from] stratal_kernels::Error),
    /// A thread pool could not be started.
    #[error("could not start the worker threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A file beside the database could not be read or written.
    #[error("could not {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("stopped as asked; what was committed before stays")]
    Cancelled,
}
