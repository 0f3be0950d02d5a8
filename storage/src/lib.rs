//! The bytes of a Stratal database on disk: log, segments, snapshots.

mod catalog;
mod checksum;
mod chunk;
mod codec;
mod deletions;
mod error;
mod id;
mod layout;
mod part;
mod segment;
mod store;
pub mod vfs;
pub mod wal;

pub use catalog::Catalog;
pub use chunk::{Chunk, ChunkRow, ROW_DROPPED};
pub use deletions::{DeletionsOf, read_deletions, write_deletions};
pub use error::{Error, Result};
pub use id::{ID_BYTES_MAX, Id};
pub use layout::{DIMENSION_MAX, Element, LAYERS_MAX, Layout, ROW_ALIGNMENT};
pub use part::{Part, PartBytes, PlaneBytes};
pub use segment::{
    Companion, CompanionKind, CompanionWriter, PAYLOAD_BYTES_MAX, PayloadCursor, Segment, SegmentFile,
    SegmentPlan, UNFINISHED, VectorsWriter, write_segment,
};
pub use store::{
    Batch, CollectionSnapshot, CollectionStatistics, Committed, Derive, Expect, FileEntry, Filling,
    GenerationSpec, LivePart, Opened, Problem, Row, SegmentCompanions, Snapshot, Statistics, Store,
    StoreOptions, Vectors, Verification,
};
