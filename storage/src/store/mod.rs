//! The store: one folder, one writer, any number of readers.
//!
//! Truth is the log plus the MANIFEST. A commit is appended to the log, made durable together with its
//! neighbours (group commit), and only then shown to readers. A checkpoint writes the memory chunks to
//! segments, names them in a new MANIFEST, and cuts the log.

mod batch;
mod checkpoint;
mod commit;
mod compaction;
mod companions;
mod folder;
mod generations;
mod maintenance;
mod manifest;
mod open;
mod reader;
mod record;
mod snapshot;
mod state;
mod statistics;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use batch::{Batch, Committed, Expect};
pub use companions::{Derive, SegmentCompanions};
pub use generations::Filling;
pub use record::{GenerationSpec, Vectors};
pub use snapshot::{CollectionSnapshot, Row, Snapshot};
pub use state::LivePart;
pub use statistics::{CollectionStatistics, FileEntry, Statistics};
pub use verify::{Problem, Verification};

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::vfs::{LockGuard, RealVfs, Vfs};
use commit::{Log, Writer};
use folder::Folder;
use maintenance::Maintenance;
use state::DatabaseState;

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// The file system.
    pub vfs: Arc<dyn Vfs>,
    /// Create the database if there is none.
    pub create: bool,
    /// Refuse a database that exists (with `create`).
    pub exclusive: bool,
    /// Open for reading only: nothing in the folder is written, not even the lock.
    pub read_only: bool,
    /// Read-only: leave out what is damaged instead of refusing, so that the rest can be exported.
    pub salvage: bool,
    /// How long to wait for another writer before giving up.
    pub lock_wait: Duration,
    /// Bytes of memory chunks past which writers wait for a flush.
    pub memory_budget: u64,
    /// Bytes of log past which a checkpoint is made.
    pub log_budget: u64,
    /// Flush and compact on a thread of the store's own; without it the committing thread flushes.
    pub background: bool,
    /// Allow a network file system for writing.
    pub allow_network: bool,
    /// Makes what follows from each new segment.
    pub derive: Option<Arc<dyn Derive>>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            vfs: Arc::new(RealVfs),
            create: false,
            exclusive: false,
            read_only: false,
            salvage: false,
            lock_wait: Duration::ZERO,
            memory_budget: 256 << 20,
            log_budget: 256 << 20,
            background: true,
            allow_network: false,
            derive: None,
        }
    }
}

/// What opening found and did, for the log of the program that opens.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Commits replayed from the log.
    pub replayed: u64,
    /// Bytes of an unacknowledged commit cut off the log's end.
    pub torn_bytes: u64,
    /// Our own leftovers of an interrupted write that were removed.
    pub removed: Vec<PathBuf>,
    /// Files that are not ours; they were left alone.
    pub foreign: Vec<PathBuf>,
    /// What a salvaging open left out, in words.
    pub damaged: Vec<String>,
}

/// A handle on an open database: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    /// Joins the maintenance thread when the last handle goes.
    _maintenance: Arc<Maintenance>,
}

pub(crate) struct Shared {
    options: StoreOptions,
    folder: Folder,
    database: u64,
    opened: Opened,
    /// The state that readers see: durable commits only.
    current: ArcSwap<DatabaseState>,
    /// The state that the next commit is decided against. Lock order: maintenance, log, writer.
    writer: Mutex<Writer>,
    log: Mutex<Log>,
    /// Held by whoever flushes or compacts.
    maintaining: Mutex<checkpoint::Progress>,
    durable_seq: AtomicU64,
    memory_bytes: AtomicU64,
    log_bytes: AtomicU64,
    syncs: AtomicU64,
    commits: AtomicU64,
    poisoned: OnceLock<String>,
    closed: AtomicBool,
    /// Whether a commit is writing for all that are queued; wakes the others when it is done.
    queue: (Mutex<commit::Queue>, Condvar),
    /// Segments that get vectors of another generation: they must keep their rows.
    filling: Mutex<std::collections::HashSet<u64>>,
    /// Names of files that are being written beside maintenance.
    underway: Mutex<std::collections::HashSet<String>>,
    /// Flushes and compactions of the maintenance thread that failed.
    flush_failures: AtomicU64,
    /// Wakes writers that wait for memory.
    flushed: (Mutex<()>, Condvar),
    lock: Mutex<Option<Box<dyn LockGuard>>>,
    catalog: Mutex<Option<Arc<Catalog>>>,
    reader: Mutex<Option<reader::Follower>>,
    wake: crossbeam_channel::Sender<()>,
}

/// A lock that survives a panic of its holder: our states are replaced as a whole, never half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens (or creates) the database in a folder.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], [`Error::DatabaseExists`], [`Error::ForeignFolder`], [`Error::Locked`],
    /// [`Error::NetworkFileSystem`], [`Error::Version`], [`Error::Corrupt`], and what the file system gives.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Store> {
        open::open(path, options)
    }

    /// The view of the last durable commit.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.shared.current.load_full(),
        }
    }

    /// What opening found.
    pub fn opened(&self) -> &Opened {
        &self.shared.opened
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.shared.folder.root
    }

    /// Where copies of encoders are kept, one folder for each identity.
    pub fn models_folder(&self) -> PathBuf {
        self.shared.folder.models()
    }

    /// Where runs of learning keep checkpoints and candidates: nothing else depends on it.
    pub fn learning_folder(&self) -> PathBuf {
        self.shared.folder.learning()
    }

    /// Whether the store was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.shared.options.read_only
    }

    /// The key-value catalog of people and long jobs, opened (or rebuilt empty) at the first call.
    /// Whatever is in it can be found again from the documents: it may be gone after a crash. It is sled's own and
    /// lies on the real file system, whatever the store's is.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], or what the file system gives.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        self.shared.check_writable()?;
        let mut catalog = locked(&self.shared.catalog);
        if let Some(catalog) = &*catalog {
            return Ok(Arc::clone(catalog));
        }
        let seq = self.shared.current.load().seq;
        let opened = Arc::new(Catalog::open(
            &self.shared.folder.catalog(),
            self.shared.database,
            seq,
        )?);
        *catalog = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Writes everything to segments, cuts the log, lets the lock go and says what failed.
    /// Other handles of the same store get [`Error::Closed`] from then on; snapshots stay good.
    ///
    /// # Errors
    /// What the checkpoint gives. The lock is let go all the same, and nothing acknowledged is lost.
    pub fn close(&self) -> Result<()> {
        if self.shared.options.read_only {
            self.shared.closed.store(true, Ordering::Release);
            return Ok(());
        }
        if self.shared.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let flushed = match self.shared.poisoned.get() {
            Some(_) => Ok(()),
            None => self.checkpoint(),
        };
        self.shared.closed.store(true, Ordering::Release);
        self._maintenance.stop();
        let catalog = locked(&self.shared.catalog).take();
        if let Some(catalog) = catalog
            && flushed.is_ok()
            && let Err(error) = Catalog::close(catalog, self.shared.database, self.shared.current.load().seq)
        {
            tracing::warn!(%error, "the catalog will be begun anew");
        }
        locked(&self.shared.lock).take();
        flushed
    }
}

impl Shared {
    fn check_writable(&self) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        match self.poisoned.get() {
            Some(reason) => Err(Error::Poisoned {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// After a failed write of the log or the MANIFEST nobody knows what is on disk: no more writes.
    fn poison(&self, error: &Error) {
        let _ = self.poisoned.set(error.to_string());
        tracing::error!(%error, "the database takes no more writes until it is opened again");
        self.flushed.1.notify_all();
    }

    fn vfs(&self) -> &dyn Vfs {
        &*self.options.vfs
    }
}
