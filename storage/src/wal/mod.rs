//! The write-ahead log: what a commit is durable by.
//!
//! The folder holds files named by their number, `%016x.wal`. Numbers grow and are never used twice;
//! a file is written by one [`WalWriter`], from front to back, and never again after it.
//!
//! | bytes | file header, one page of 4,096 bytes |
//! | --- | --- |
//! | 0..8 | magic, `STRATWAL` |
//! | 8..10, 10..12 | major and minor format version |
//! | 12..16 | zero |
//! | 16..24 | the file's number |
//! | 24..32 | the last sequence number before the file's first frame |
//! | 32..40 | the number of the file before it, 0 if there was none |
//! | 40..60 | zero |
//! | 60..64 | CRC-32 of the bytes before |
//! | 64..4096 | zero |
//!
//! Frames follow, each starting at a multiple of 8. One frame is one group commit: one write and one
//! sync, so a frame is begun only when the frame before it is durable.
//!
//! | bytes | frame |
//! | --- | --- |
//! | 0..4 | magic |
//! | 4..8 | bytes of the payload |
//! | 8..12 | number of commits, at least 1 |
//! | 12..16 | CRC-32 of the payload |
//! | 16..24 | sequence number of the first commit; the others count up from it |
//! | 24..28 | zero |
//! | 28..32 | CRC-32 of the file's number and the bytes before |
//! | 32.. | payload: for each commit its length (u32) and its bytes |
//!
//! All integers are little-endian. Ahead of the frames a window of the file is kept filled with zeros,
//! so that a commit writes into blocks that the file already has and its sync moves no metadata.
//!
//! **What damage means.** Since a frame is begun only after the one before it is durable, a power cut
//! can harm the last frame alone: a bad frame with nothing after it is a torn tail and is left out, as
//! it was never acknowledged. A bad frame with a good one after it, or with a later file that says
//! commits came before it, is damage and an error. A file with an unreadable header and no frame was
//! never written to; one with frames is damaged.
//!
//! **The carried frame.** Only the last frame of the newest file may be readable and yet not durable
//! (its writer died before the sync, or the sync failed). The next writer, which builds on it, writes
//! it again as the first frame of its own file, so it never depends on that old write.

mod frame;
mod header;
mod log_file;
mod reader;
mod replay;
mod writer;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::vfs::Vfs;

pub use frame::{FRAME_HEADER_BYTES, FrameHeader, PAYLOAD_BYTES_MAX, Records, decode_frame, encode_frame};
pub use header::{FILE_HEADER_BYTES, VERSION};
pub use reader::{Polled, WalReader};
pub use replay::{LastFrame, Replayed, TornTail, replay};
pub use writer::WalWriter;

/// The name of a log file.
pub fn file_name(number: u64) -> String {
    format!("{number:016x}.wal")
}

/// The number in a log file's name; `None` if the name is not one of ours.
pub fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (file_name(number) == name).then_some(number)
}

fn file_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(file_name(number))
}

/// The numbers of the log files in the folder, ascending; other files are passed over.
///
/// # Errors
/// If the folder cannot be listed.
pub fn list(vfs: &dyn Vfs, folder: &Path) -> Result<Vec<u64>> {
    let entries = vfs
        .list(folder)
        .map_err(|error| Error::io("list", folder, error))?;
    let mut numbers: Vec<u64> = entries
        .iter()
        .filter(|entry| !entry.is_folder)
        .filter_map(|entry| file_number(&entry.name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Refuses a folder with a log file of a newer major version, reading no more than the files' heads.
///
/// # Errors
/// [`Error::Version`] naming the file; errors of the file system.
pub(crate) fn check_versions(vfs: &dyn Vfs, folder: &Path) -> Result<()> {
    if !vfs
        .exists(folder)
        .map_err(|error| Error::io("look for", folder, error))?
    {
        return Ok(());
    }
    for number in list(vfs, folder)? {
        log_file::LogFile::open(vfs, folder, number)?;
    }
    Ok(())
}

/// Removes the log files with numbers below `number`, oldest first, and makes that durable; how many.
///
/// # Errors
/// If a file cannot be removed or the folder not synced; files that went are gone.
pub fn remove_before(vfs: &dyn Vfs, folder: &Path, number: u64) -> Result<usize> {
    let mut removed = 0;
    for old in list(vfs, folder)?.into_iter().filter(|&old| old < number) {
        let path = file_path(folder, old);
        vfs.remove(&path)
            .map_err(|error| Error::io("remove", &path, error))?;
        removed += 1;
    }
    if removed > 0 {
        vfs.sync_folder(folder)
            .map_err(|error| Error::io("sync", folder, error))?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
