//! Where everything is in a database folder, and which names are ours.

use std::path::{Path, PathBuf};

use crate::segment::{SegmentFile, UNFINISHED};

pub(crate) const MANIFEST: &str = "MANIFEST";
pub(crate) const MANIFEST_TEMPORARY: &str = "MANIFEST.tmp";
pub(crate) const LOCK: &str = "LOCK";
pub(crate) const WAL: &str = "wal";
pub(crate) const SEGMENTS: &str = "segments";
pub(crate) const CATALOG: &str = "catalog";
pub(crate) const MODELS: &str = "models";
pub(crate) const LEARNING: &str = "learning";

/// The paths of one database.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub root: PathBuf,
}

impl Folder {
    pub fn new(root: &Path) -> Folder {
        Folder {
            root: root.to_owned(),
        }
    }

    pub fn manifest(&self) -> PathBuf {
        self.root.join(MANIFEST)
    }

    pub fn manifest_temporary(&self) -> PathBuf {
        self.root.join(MANIFEST_TEMPORARY)
    }

    pub fn lock(&self) -> PathBuf {
        self.root.join(LOCK)
    }

    pub fn wal(&self) -> PathBuf {
        self.root.join(WAL)
    }

    pub fn segments(&self) -> PathBuf {
        self.root.join(SEGMENTS)
    }

    pub fn catalog(&self) -> PathBuf {
        self.root.join(CATALOG)
    }

    pub fn models(&self) -> PathBuf {
        self.root.join(MODELS)
    }

    pub fn learning(&self) -> PathBuf {
        self.root.join(LEARNING)
    }
}

/// Whether a name in the root folder is one that the engine makes.
pub(crate) fn is_ours_at_root(name: &str) -> bool {
    [
        MANIFEST,
        MANIFEST_TEMPORARY,
        LOCK,
        WAL,
        SEGMENTS,
        CATALOG,
        MODELS,
        LEARNING,
    ]
    .contains(&name)
        || name.starts_with("catalog.aside")
}

/// Whether a name in `segments/` is one that the engine makes, finished or not.
pub(crate) fn is_ours_in_segments(name: &str) -> bool {
    SegmentFile::parse(name.strip_suffix(UNFINISHED).unwrap_or(name)).is_some()
}
