//! What can go wrong in storage, one variant for each thing a caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::id::Id;

/// The result of a storage call.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that storage refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system failed; the path and the action tell where.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk or the quota is full. Nothing acknowledged is lost; free space, then open again.
    #[error("no space left to {action} {}: free some space, 2 MiB at least for a log, and open the database again ({source})", path.display())]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process or the system is out of file descriptors or mappings; the files are sound.
    #[error("out of file descriptors or mappings to {action} {}: raise the limit (ulimit -n, vm.max_map_count); the data is sound ({source})", path.display())]
    OutOfHandles {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder or its mount does not allow writing.
    #[error("{} cannot be written to: open it read-only or change its permissions ({source})", path.display())]
    NotWritable {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no database at the path.
    #[error("there is no database at {}: create it first", path.display())]
    NoDatabase {
        /// The folder asked for.
        path: PathBuf,
    },
    /// A database is already at the path.
    #[error("a database is already at {}: open it instead", path.display())]
    DatabaseExists {
        /// The folder asked for.
        path: PathBuf,
    },
    /// The folder holds other files and no database: nothing is written into it.
    #[error("{} is not empty and holds no database: choose an empty or new folder", path.display())]
    ForeignFolder {
        /// The folder asked for.
        path: PathBuf,
    },
    /// Another writer has the database open.
    #[error("{} is already open for writing{}: close it there, or open it read-only here", path.display(), holder(.pid))]
    Locked {
        /// The database.
        path: PathBuf,
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// The folder is on a network file system, whose locks and memory maps cannot be trusted.
    #[error("{} is on a network file system ({kind}), where locks and memory maps cannot be trusted: use a local disk, or open it read-only", path.display())]
    NetworkFileSystem {
        /// The database.
        path: PathBuf,
        /// The file system's name.
        kind: String,
    },
    /// Bytes on disk are not what was written.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A file of a format version that this build does not read.
    #[error("{} has {kind} format version {}.{}, and this build reads up to {}.{}: use a newer build of stratal; nothing was changed", path.display(), found.0, found.1, supported.0, supported.1)]
    Version {
        /// The file.
        path: PathBuf,
        /// Which kind of file.
        kind: &'static str,
        /// Major and minor version found.
        found: (u16, u16),
        /// Major and minor version that this build writes.
        supported: (u16, u16),
    },
    /// An earlier write or sync failed, so the state on disk is unknown; reading goes on.
    #[error("the database takes no more writes until it is opened again, because {reason}")]
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The database was opened read-only.
    #[error("the database is open read-only")]
    ReadOnly,
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
    /// No collection of that name.
    #[error("there is no collection {name:?}{}", suggestion(.similar))]
    UnknownCollection {
        /// The name asked for.
        name: String,
        /// An existing name close to it.
        similar: Option<String>,
    },
    /// A collection of that name exists.
    #[error("the collection {name:?} already exists")]
    CollectionExists {
        /// The name.
        name: String,
    },
    /// `insert` of an id that exists, or an id twice in one transaction.
    #[error("the document {id} already exists in {collection:?}: upsert replaces it")]
    DocumentExists {
        /// The collection.
        collection: String,
        /// The id.
        id: Id,
    },
    /// The document changed, appeared or went since the caller looked.
    #[error("the document {id} in {collection:?} is at {}, not at the expected version {expected}: read it again", found_version(.found))]
    VersionConflict {
        /// The collection.
        collection: String,
        /// The id.
        id: Id,
        /// The version that the caller expected.
        expected: u64,
        /// The version found, `None` if there is no such document.
        found: Option<u64>,
    },
    /// The document's vectors are not of the generation that answers now: encode it again.
    #[error(
        "the vectors of {id} are not of generation {current}, by which {collection:?} answers now: encode it again"
    )]
    StaleGeneration {
        /// The collection.
        collection: String,
        /// The document.
        id: Id,
        /// The generation that answers.
        current: u32,
    },
    /// A generation cannot answer before every document has its vectors.
    #[error(
        "{missing} documents of {collection:?} lack vectors of generation {generation}: re-embed them first"
    )]
    Incomplete {
        /// The collection.
        collection: String,
        /// The generation asked for.
        generation: u32,
        /// How many lack them.
        missing: u64,
    },
    /// Input that no database could hold, refused before anything is written.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it and what would be right.
        what: String,
    },
}

fn holder(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}

fn suggestion(similar: &Option<String>) -> String {
    similar
        .as_ref()
        .map(|name| format!(": did you mean {name:?}?"))
        .unwrap_or_default()
}

fn found_version(found: &Option<u64>) -> String {
    found.map_or_else(
        || "no version (it does not exist)".to_owned(),
        |version| format!("version {version}"),
    )
}

impl Error {
    /// Names what the system's error means for the caller, so that a full disk is never taken for corruption.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::NoSpace { action, path, source }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::NotWritable { path, source }
            }
            _ => match source.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
                    Error::OutOfHandles { action, path, source }
                }
                _ => Error::Io { action, path, source },
            },
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }
}
