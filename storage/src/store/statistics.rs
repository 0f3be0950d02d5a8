//! What a store holds and how it is doing, in figures.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{Shared, Store};
use crate::error::{Error, Result};
use crate::part::Part;

/// One file of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// Its path below the database folder.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
}

/// One collection in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CollectionStatistics {
    /// The collection's name.
    pub name: String,
    /// Documents that can be found.
    pub documents: u64,
    /// Deleted rows whose space is not yet given back.
    pub deleted_rows: u64,
    /// Immutable files of documents.
    pub segments: u64,
    /// Documents in memory and in the log alone.
    pub unflushed_documents: u64,
    /// Bytes of its segments on disk.
    pub segment_bytes: u64,
    /// Segments that failed a checksum and are not read.
    pub quarantined_segments: u64,
}

/// A database in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// The last commit.
    pub seq: u64,
    /// Each collection.
    pub collections: Vec<CollectionStatistics>,
    /// Every file in the folder, sorted.
    pub files: Vec<FileEntry>,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Bytes of log files.
    pub log_bytes: u64,
    /// Bytes of documents in memory that wait for a flush.
    pub memory_bytes: u64,
    /// Commits since the store was opened.
    pub commits: u64,
    /// Sync calls for the log since the store was opened.
    pub log_syncs: u64,
    /// Why no more writes are taken, if so.
    pub poisoned: Option<String>,
    /// Whether it was opened read-only.
    pub read_only: bool,
}

impl Store {
    /// The store in figures.
    ///
    /// # Errors
    /// What listing the folder gives.
    pub fn statistics(&self) -> Result<Statistics> {
        let shared: &Shared = &self.shared;
        let current = shared.current.load_full();
        let collections = current
            .collections
            .values()
            .map(|collection| {
                let mut figures = CollectionStatistics {
                    name: collection.name.to_string(),
                    documents: collection.live_rows(),
                    deleted_rows: 0,
                    segments: 0,
                    unflushed_documents: 0,
                    segment_bytes: 0,
                    quarantined_segments: 0,
                };
                for live in &collection.parts {
                    figures.deleted_rows += live.dead().len();
                    match live.part() {
                        Part::Memory(_) => figures.unflushed_documents += live.live_rows(),
                        Part::Segment(segment) => {
                            figures.segments += 1;
                            figures.segment_bytes += segment.disk_bytes();
                            figures.quarantined_segments += u64::from(segment.is_quarantined());
                        }
                    }
                }
                figures
            })
            .collect();
        let mut files = Vec::new();
        list_files(shared, PathBuf::new(), &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Statistics {
            seq: current.seq,
            collections,
            disk_bytes: files.iter().map(|file| file.bytes).sum(),
            log_bytes: files
                .iter()
                .filter(|file| file.path.starts_with("wal"))
                .map(|file| file.bytes)
                .sum(),
            files,
            memory_bytes: shared.memory_bytes.load(Ordering::Acquire),
            commits: shared.commits.load(Ordering::Relaxed),
            log_syncs: shared.syncs.load(Ordering::Relaxed),
            poisoned: shared.poisoned.get().cloned(),
            read_only: shared.options.read_only,
        })
    }
}

fn list_files(shared: &Shared, below: PathBuf, files: &mut Vec<FileEntry>) -> Result<()> {
    let path = shared.folder.root.join(&below);
    let entries = match shared.vfs().list(&path) {
        Ok(entries) => entries,
        // A folder that a checkpoint or a new model takes away or adds meanwhile is not a failure.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("list", &path, error)),
    };
    for entry in entries {
        let path = below.join(&entry.name);
        if entry.is_folder {
            list_files(shared, path, files)?;
        } else {
            files.push(FileEntry {
                path,
                bytes: entry.len,
            });
        }
    }
    Ok(())
}
