//! What can go wrong between a file and its passages.

use std::fmt;
use std::path::{Path, PathBuf};

use stratal_storage::Id;

/// A source that could not be read, or a part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The system refused to open, read or write a file.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder that was asked for cannot be taken; inside a folder the same is only a [`Skip`].
    #[error("{0}")]
    Source(Skip),
    /// One line of a JSON-lines file is no document. The lines after it can still be read.
    #[error("{file}:{line}: {problem}")]
    Line {
        /// The file, as it was named to the reader.
        file: String,
        /// The line as an editor counts, from 1.
        line: u64,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// A compressed file is damaged or cut short. The lines before it were good.
    #[error("{file} is damaged after line {line}: its {format} data {source}; fetch or compress it again")]
    Compressed {
        /// The file.
        file: String,
        /// The last whole line before the damage.
        line: u64,
        /// `gzip` or `zstd`.
        format: &'static str,
        /// What the decoder said.
        source: std::io::Error,
    },
    /// An array file that is not one of vectors, or is damaged.
    #[error("{file}: {problem}")]
    Npy {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: NpyProblem,
    },
    /// One document was refused by the collection: another dimension, vectors of a stranger, metadata past the limits.
    #[error("{file}:{line}: {why}")]
    Refused {
        /// The file.
        file: String,
        /// The line, or the passage's number, from 1.
        line: u64,
        /// What the collection said.
        why: String,
    },
    /// Two fields of JSON lines are looked for under one name.
    #[error("{name:?} is to be two fields of a line at once: give each a name of its own")]
    FieldTwice {
        /// The name.
        name: String,
    },
    /// A passage length that would cut every word.
    #[error("a passage of at most {got} words is too short to hold a thought: take at least {least}")]
    PassageLength {
        /// The length asked for.
        got: usize,
        /// The least that is allowed.
        least: usize,
    },
}

impl IngestError {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> IngestError {
        IngestError::Io {
            action,
            path: path.as_ref().to_owned(),
            source,
        }
    }

    /// Whether reading can go on behind it: a bad line is one line, a damaged file is damaged to its end.
    pub fn is_one_line(&self) -> bool {
        matches!(self, IngestError::Line { .. })
    }
}

/// Why a line of a JSON-lines file is no document.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// The line is not JSON.
    #[error("not JSON: {what} (column {column})")]
    NotJson {
        /// What the parser expected.
        what: String,
        /// The column in bytes, from 1; 0 if it is not known.
        column: usize,
    },
    /// The line is JSON, but no object.
    #[error("{found}, where an object with the fields of a document belongs")]
    NotAnObject {
        /// What is there.
        found: &'static str,
    },
    /// The line holds bytes that are not UTF-8.
    #[error("not UTF-8 at byte {offset} of the line: convert the file")]
    NotUtf8 {
        /// The first bad byte of the line, from 0.
        offset: usize,
    },
    /// The line is longer than any document.
    #[error("longer than {limit} bytes, the most that one line may have")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// No id.
    #[error("no field {field:?}: every document needs an id (another field can be named as the id)")]
    MissingId {
        /// The field looked for.
        field: String,
    },
    /// An id that was on an earlier line of the same file.
    #[error("the id {id} again, which line {first} has: ids are unique in a file")]
    DuplicateId {
        /// The id.
        id: Id,
        /// The line of the first.
        first: u64,
    },
    /// An id that this run has met in an earlier file.
    #[error("the id {id} again, which an earlier file has: ids are unique in a collection")]
    IdOfEarlierFile {
        /// The id.
        id: Id,
    },
    /// Neither text for the encoder nor vectors.
    #[error("no text in {field:?} for the encoder to read, and no vectors")]
    NothingToStore {
        /// The field that would hold the text.
        field: String,
    },
    /// A field that is there twice.
    #[error("the field {field:?} twice: keep one of them")]
    DuplicateField {
        /// The field, with the path to it.
        field: String,
    },
    /// A field of the wrong type.
    #[error("the field {field:?} is {found}, where {expected} belongs")]
    WrongType {
        /// The field.
        field: String,
        /// What would be right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A component that is no finite number.
    #[error(
        "component {component} of layer {layer} in {field:?} is {found}: vectors hold finite numbers only"
    )]
    Component {
        /// The field.
        field: String,
        /// Which layer vector, from 0.
        layer: usize,
        /// Which component, from 0.
        component: usize,
        /// What is there.
        found: String,
    },
    /// Layer vectors of different lengths, or none.
    #[error("layer {layer} in {field:?} has {got} components, where {expected} belong")]
    Shape {
        /// The field.
        field: String,
        /// Which layer vector, from 0.
        layer: usize,
        /// Components of the first.
        expected: String,
        /// Components of this one.
        got: usize,
    },
}

/// Why a `.npy` file gives no vectors.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NpyProblem {
    /// The file does not begin as the format does.
    #[error("this is no .npy file: it begins with other bytes than \\x93NUMPY")]
    Magic,
    /// A version of the format that came after 3.
    #[error("version {major}.{minor} of the .npy format is newer than 3.0, the newest read here")]
    Version {
        /// Major.
        major: u8,
        /// Minor.
        minor: u8,
    },
    /// The header is not as the format says.
    #[error("its header is damaged: {what}")]
    Header {
        /// What is wrong.
        what: String,
    },
    /// A type of elements that is no float.
    #[error("its elements are {descr}, and vectors are f2, f4 or f8: save it with `.astype('float32')`")]
    ElementType {
        /// The type as the header names it.
        descr: String,
    },
    /// Column-major order.
    #[error("it is stored column by column: save it with `numpy.ascontiguousarray`")]
    FortranOrder,
    /// A shape that is neither `(n, D)` nor `(n, m, D)`.
    #[error("its shape is {shape:?}, where (rows, D) or (rows, layers, D) belongs: reshape it")]
    Shape {
        /// The shape.
        shape: Vec<usize>,
    },
    /// The file holds fewer or more bytes than its header promises.
    #[error("its header promises {expected} bytes and the file has {found}: it was cut or overwritten")]
    Length {
        /// Bytes by the header.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A component that is NaN, infinite, or too large.
    #[error(
        "component {component} of layer {layer} in row {row} is {value}: vectors hold finite numbers only"
    )]
    Component {
        /// The row, from 0.
        row: usize,
        /// The layer, from 0.
        layer: usize,
        /// The component, from 0.
        component: usize,
        /// What is there.
        value: f64,
    },
    /// A row to be written that has another length than the array's rows.
    #[error("row {row} has {got} numbers, and the array's rows have {expected}")]
    Row {
        /// The row, from 0.
        row: usize,
        /// Numbers in a row of the array.
        expected: usize,
        /// Numbers given.
        got: usize,
    },
}

/// A file or folder that was passed over, and why. Never fatal: the others are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// What was passed over.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// Why a file or folder was passed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    /// Its name begins with a dot.
    #[error("hidden (its name begins with a dot)")]
    Hidden,
    /// Its name ends in nothing that is known as text.
    #[error("not a kind of file that is read (.md, .markdown, .txt, .text, .rst, .jsonl, .ndjson)")]
    OtherKind,
    /// Its name is not UTF-8, so no id could be made of it.
    #[error("its name is not UTF-8: rename it")]
    Name,
    /// A pipe, a socket or a device.
    #[error("neither a file nor a folder")]
    Special,
    /// A link to what is not there.
    #[error("a link to what is not there")]
    DanglingLink,
    /// A link back to a folder on the way to it, or to itself.
    #[error("a link that leads in a circle")]
    LoopingLink,
    /// A link to what is read under its own name.
    #[error("a link to {}, which is read in its own place", target.display())]
    ReadElsewhere {
        /// Where the link leads.
        target: PathBuf,
    },
    /// The system refuses it.
    #[error("cannot be read: {why}")]
    Unreadable {
        /// What the system said.
        why: String,
    },
    /// It holds bytes that no text has.
    #[error("binary data, whatever its name says")]
    Binary,
    /// It is text in another encoding.
    #[error("not UTF-8 at byte {offset} (perhaps Latin-1: convert it, for example with iconv)")]
    NotUtf8 {
        /// The first bad byte.
        offset: usize,
    },
    /// Its passages would take ids that another file's have.
    #[error(
        "its passages' ids, such as {id}, are those of {by}: add one of the two with a prefix to its ids"
    )]
    IdTaken {
        /// The id.
        id: Id,
        /// Who has it.
        by: String,
    },
    /// It is compressed, and damaged or cut short. The lines before the damage were read.
    #[error("damaged after line {line}: its {format} data {why}; fetch or compress it again")]
    Damaged {
        /// The last whole line before the damage.
        line: u64,
        /// `gzip` or `zstd`.
        format: &'static str,
        /// What the decoder said.
        why: String,
    },
    /// Another of the paths given has led to it in the same run.
    #[error("read already, by another of the paths given")]
    ReadAlready,
    /// It is too large to be one text.
    #[error("{bytes} bytes, and a text file may have {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

impl SkipReason {
    /// Whether something is wrong with it: hidden files, other kinds of files and what is read anyway are passed
    /// over by rule, everything else is worth a look.
    pub fn is_trouble(&self) -> bool {
        !matches!(
            self,
            SkipReason::Hidden
                | SkipReason::OtherKind
                | SkipReason::ReadElsewhere { .. }
                | SkipReason::ReadAlready
        )
    }
}
