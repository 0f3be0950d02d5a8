//! The seam to the file system: the real one, one that fails on demand, one that simulates a power cut.

mod crash;
mod failing;
mod network;
mod real;

use std::io;
use std::path::Path;

pub use crash::CrashVfs;
pub use failing::{FailingVfs, Fault, Operation};
pub use real::RealVfs;

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry's name, lossily converted where it is not UTF-8 (such names are never ours).
    pub name: String,
    /// Its length in bytes (0 for folders).
    pub len: u64,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// An open file. Offsets are explicit, so that one handle serves several threads.
// A file has a length to be asked for at a system call's cost; nobody asks whether it is empty.
#[allow(clippy::len_without_is_empty)]
pub trait File: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at `offset`, growing the file if need be.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents (and the length) durable: fdatasync.
    fn sync_data(&self) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
}

/// A whole file in memory: mapped, or read where the file system cannot map. Unchanging; starts at a multiple of 8.
pub trait Mapping: Send + Sync {
    /// The file's bytes.
    fn bytes(&self) -> &[u8];
}

/// Holds the writer's lock until it is dropped.
pub trait LockGuard: Send + Sync {}

/// What a try at the writer's lock gave.
pub enum LockAttempt {
    /// The lock is ours until the guard is dropped.
    Held(Box<dyn LockGuard>),
    /// Somebody else has it; the process id they left in the file, if readable.
    Busy(Option<u32>),
}

/// A file system as the engine uses it. Paths are absolute or relative to the process, as the caller gave them.
pub trait Vfs: Send + Sync {
    /// Creates a folder and its parents; existing ones are fine. Syncs nothing.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// The entries of a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>>;
    /// Whether the path exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Creates a file that does not exist yet, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Maps a whole file; the handle is closed, the mapping stays, also after the file is unlinked.
    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>>;
    /// Renames, replacing an existing file atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Unlinks a folder and everything in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in the folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Tries to take the writer's lock at `path`, creating the file and writing our process id into it.
    fn try_lock(&self, path: &Path) -> io::Result<LockAttempt>;
    /// Bytes that can still be written below a path; `None` where nobody can say.
    fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let _ = path;
        Ok(None)
    }
    /// The name of the network file system that holds the path, `None` for a local one.
    fn network_kind(&self, path: &Path) -> io::Result<Option<String>>;
}
