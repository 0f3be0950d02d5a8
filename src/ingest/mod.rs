//! From files to passages: what is read, how it is cut, and what is passed over.
//!
//! Text and Markdown become passages, each a slice of its file; JSON lines are documents already; `.npy` files are
//! vectors. One bad file or line never stops the others: it is named, with its reason.

#[cfg(feature = "encoder")]
mod cursors;
mod error;
mod jsonl;
#[cfg(feature = "encoder")]
mod known;
pub(crate) mod lines;
mod markdown;
mod npy;
mod npy_header;
#[cfg(feature = "encoder")]
mod pair_lines;
mod passages;
#[cfg(feature = "encoder")]
mod pipeline;
#[cfg(feature = "encoder")]
mod reading;
mod record;
#[cfg(feature = "encoder")]
mod report;
mod source;
mod text;
mod walk;

pub use error::{IngestError, LineProblem, NpyProblem, Skip, SkipReason};
pub use jsonl::JsonLines;
pub use lines::{Compression, LINE_BYTES_MAX};
pub use markdown::markdown_passages;
pub use npy::{NpyElement, NpyReader, NpyWriter};
pub use passages::{PASSAGE_WORDS_LEAST, Passage, PassageLength, length_in_words};
#[cfg(feature = "encoder")]
pub use pipeline::{BadLine, Ingestion};
pub use record::{FieldNames, Record};
#[cfg(feature = "encoder")]
pub use report::{IngestProgress, IngestReport};
pub use source::{SourceKind, TEXT_FILE_BYTES_MAX, TextFile, content_hash, passage_id};
pub use text::text_passages;
pub use walk::{SourceFile, Walk, walk};
