//! Looking at the versions of all files before anything is written.

use std::path::Path;

use super::frame;
use super::name::SegmentFile;
use crate::deletions;
use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// Reads no more than the head of each of our files in a folder of segments, and refuses a format version that
/// this build does not read. What else may be wrong with a file is for opening it to tell.
pub(crate) fn check_versions(vfs: &dyn Vfs, folder: &Path) -> Result<()> {
    if !vfs.exists(folder).map_err(|e| Error::io("look for", folder, e))? {
        return Ok(());
    }
    for entry in vfs.list(folder).map_err(|e| Error::io("list", folder, e))? {
        let Some(file) = SegmentFile::parse(&entry.name) else {
            continue;
        };
        let path = folder.join(&entry.name);
        let mut head = [0u8; 16];
        let opened = vfs.open(&path).map_err(|e| Error::io("open", &path, e))?;
        let read = opened
            .read_at(&mut head, 0)
            .map_err(|e| Error::io("read", &path, e))?;
        match file {
            SegmentFile::Documents { .. } | SegmentFile::Vectors { .. } | SegmentFile::Companion { .. } => {
                frame::check_version(&path, &head[..read])?
            }
            // Ours alone and never older than the open generation: read by their checksums.
            SegmentFile::Spool { .. } => {}
            SegmentFile::Deletions { .. } => deletions::check_version(&path, &head[..read])?,
        }
    }
    Ok(())
}
