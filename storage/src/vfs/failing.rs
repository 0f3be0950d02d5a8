//! A file system that fails on demand, over any other one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Entry, File, LockAttempt, Mapping, Vfs};

/// The kinds of operation that [`FailingVfs`] counts and can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Creating a file or a folder.
    Create,
    /// Opening a file for reading.
    Open,
    /// Reading from a file, its length, a folder's entries, or whether a path exists.
    Read,
    /// Writing into a file.
    Write,
    /// Making a file's contents or a folder's names durable.
    Sync,
    /// Renaming.
    Rename,
    /// Removing a file or a folder.
    Remove,
    /// Mapping a file.
    Map,
    /// Trying a lock.
    Lock,
}

impl Operation {
    /// Whether the operation can change what is on disk.
    pub fn changes(self) -> bool {
        matches!(
            self,
            Operation::Create | Operation::Write | Operation::Sync | Operation::Rename | Operation::Remove
        )
    }
}

/// Which operations fail, and how. Without further words every operation does.
#[derive(Clone, Debug)]
pub struct Fault {
    errno: i32,
    operations: Option<Vec<Operation>>,
    path_contains: Option<String>,
    first: u64,
    last: u64,
    written_before: usize,
    matched: u64,
    hits: u64,
}

impl Fault {
    /// A fault with the system's error number, such as `libc::ENOSPC`.
    pub fn new(errno: i32) -> Fault {
        Fault {
            errno,
            operations: None,
            path_contains: None,
            first: 0,
            last: u64::MAX,
            written_before: 0,
            matched: 0,
            hits: 0,
        }
    }

    /// Only these kinds of operation count and fail.
    pub fn on(mut self, operations: &[Operation]) -> Fault {
        self.operations = Some(operations.to_vec());
        self
    }

    /// Only operations that can change what is on disk count and fail.
    pub fn on_changes(self) -> Fault {
        use Operation::{Create, Remove, Rename, Sync, Write};
        self.on(&[Create, Write, Sync, Rename, Remove])
    }

    /// Only operations on paths that contain the text count and fail.
    pub fn in_path(mut self, text: &str) -> Fault {
        self.path_contains = Some(text.to_owned());
        self
    }

    /// Only the `n`-th of the operations that match fails, from 0.
    pub fn nth(mut self, n: u64) -> Fault {
        (self.first, self.last) = (n, n);
        self
    }

    /// The `n`-th of the operations that match and all after it fail, from 0.
    pub fn from(mut self, n: u64) -> Fault {
        (self.first, self.last) = (n, u64::MAX);
        self
    }

    /// A write that fails still leaves its first `bytes` bytes in the file.
    pub fn short_write(mut self, bytes: usize) -> Fault {
        self.written_before = bytes;
        self
    }

    fn strikes(&mut self, operation: Operation, path: &Path) -> bool {
        if self
            .operations
            .as_ref()
            .is_some_and(|kinds| !kinds.contains(&operation))
        {
            return false;
        }
        if let Some(text) = &self.path_contains
            && !path.to_string_lossy().contains(text.as_str())
        {
            return false;
        }
        let n = self.matched;
        self.matched += 1;
        let strikes = (self.first..=self.last).contains(&n);
        self.hits += u64::from(strikes);
        strikes
    }
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    operations: u64,
    changes: u64,
    syncs: u64,
    network_kind: Option<String>,
}

/// What befell one operation: an error, and for a write how much of it still arrives.
struct Struck {
    error: io::Error,
    written_before: usize,
}

#[derive(Default)]
struct Faults {
    state: Mutex<State>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, operation: Operation, path: &Path) -> Result<(), Struck> {
        let mut state = self.lock();
        state.operations += 1;
        state.changes += u64::from(operation.changes());
        state.syncs += u64::from(operation == Operation::Sync);
        for fault in &mut state.faults {
            if fault.strikes(operation, path) {
                return Err(Struck {
                    error: io::Error::from_raw_os_error(fault.errno),
                    written_before: fault.written_before,
                });
            }
        }
        Ok(())
    }

    fn check(&self, operation: Operation, path: &Path) -> io::Result<()> {
        self.meet(operation, path).map_err(|struck| struck.error)
    }
}

/// A file system that counts what is asked of it, and fails on demand. Clones share faults and counts.
#[derive(Clone)]
pub struct FailingVfs {
    inner: Arc<dyn Vfs>,
    faults: Arc<Faults>,
}

impl FailingVfs {
    /// Wraps a file system; nothing fails yet.
    pub fn new(inner: Arc<dyn Vfs>) -> FailingVfs {
        FailingVfs {
            inner,
            faults: Arc::default(),
        }
    }

    /// Adds a fault; its count of operations starts now.
    pub fn fail(&self, fault: Fault) {
        self.faults.lock().faults.push(fault);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.faults.lock().faults.clear();
    }

    /// How often the present faults have struck.
    pub fn hits(&self) -> u64 {
        self.faults.lock().faults.iter().map(|fault| fault.hits).sum()
    }

    /// Operations so far, of every kind.
    pub fn operations(&self) -> u64 {
        self.faults.lock().operations
    }

    /// Operations so far that can change what is on disk.
    pub fn changes(&self) -> u64 {
        self.faults.lock().changes
    }

    /// Syncs of files and folders so far.
    pub fn syncs(&self) -> u64 {
        self.faults.lock().syncs
    }

    /// From now on every path is on a network file system of this name, or `None`: on what it is on.
    pub fn report_network_kind(&self, kind: Option<&str>) {
        self.faults.lock().network_kind = kind.map(str::to_owned);
    }
}

struct FailingFile {
    inner: Box<dyn File>,
    path: PathBuf,
    faults: Arc<Faults>,
}

impl File for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.check(Operation::Read, &self.path)?;
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.faults.meet(Operation::Write, &self.path) {
            Ok(()) => self.inner.write_at(bytes, offset),
            Err(struck) => {
                let arrived = struck.written_before.min(bytes.len());
                if arrived > 0 {
                    self.inner.write_at(&bytes[..arrived], offset)?;
                }
                Err(struck.error)
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.check(Operation::Sync, &self.path)?;
        self.inner.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.faults.check(Operation::Read, &self.path)?;
        self.inner.len()
    }
}

impl FailingVfs {
    fn file(&self, path: &Path, inner: Box<dyn File>) -> Box<dyn File> {
        Box::new(FailingFile {
            inner,
            path: path.to_owned(),
            faults: Arc::clone(&self.faults),
        })
    }
}

impl Vfs for FailingVfs {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.faults.check(Operation::Create, path)?;
        self.inner.create_folder(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        self.faults.check(Operation::Read, folder)?;
        self.inner.list(folder)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.faults.check(Operation::Read, path)?;
        self.inner.exists(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.faults.check(Operation::Create, path)?;
        Ok(self.file(path, self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.faults.check(Operation::Open, path)?;
        Ok(self.file(path, self.inner.open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.faults.check(Operation::Read, path)?;
        self.inner.read(path)
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>> {
        self.faults.check(Operation::Map, path)?;
        self.inner.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.check(Operation::Rename, to)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.check(Operation::Remove, path)?;
        self.inner.remove(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.faults.check(Operation::Remove, path)?;
        self.inner.remove_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.faults.check(Operation::Sync, path)?;
        self.inner.sync_folder(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<LockAttempt> {
        self.faults.check(Operation::Lock, path)?;
        self.inner.try_lock(path)
    }

    fn network_kind(&self, path: &Path) -> io::Result<Option<String>> {
        let reported = self.faults.lock().network_kind.clone();
        match reported {
            Some(kind) => Ok(Some(kind)),
            None => self.inner.network_kind(path),
        }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        self.inner.free_bytes(path)
    }
}
