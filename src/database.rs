//! The database: one folder, its collections, its worker threads.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use rayon::ThreadPool;
use stratal_storage::{Opened, Statistics, Store, StoreOptions, Verification};

use crate::collection::CollectionBuilder;
use crate::derived::{self, Derived};
use crate::filter::Indexes;
use crate::index::{Graphs, Keeper};
#[cfg(feature = "encoder")]
use crate::models::Models;
use crate::schema::Schema;
use crate::{Error, Result, Snapshot, Transaction};

/// The most worker threads of one database: more than any machine has processors.
pub const THREADS_MAX: usize = 4096;

/// An open database. Cheap to clone, usable from any thread; one process at a time writes.
///
/// Dropping the last handle joins the database's threads and flushes nothing: everything acknowledged is in the
/// log and comes back at the next opening. [`Database::close`] flushes and reports errors.
#[derive(Clone)]
pub struct Database {
    pub(crate) store: Store,
    pub(crate) engine: Arc<Engine>,
    /// Held by the handles of users, not by threads of our own.
    _alive: Option<Arc<Alive>>,
    /// Where it is open for writing.
    keeper: Option<Arc<Keeper>>,
}

/// Stops the database's own work when the last handle of a user goes.
struct Alive {
    #[cfg(feature = "encoder")]
    engine: Arc<Engine>,
}

#[cfg(feature = "encoder")]
impl Drop for Alive {
    fn drop(&mut self) {
        self.engine.learner.stop();
    }
}

/// The worker threads of one database.
pub(crate) struct Workers {
    threads: usize,
    pool: OnceLock<Arc<ThreadPool>>,
}

/// What searches need beside the bytes; snapshots hold it too, so that they outlive the database's handle.
pub(crate) struct Engine {
    pub workers: Arc<Workers>,
    /// By numbers of collection and generation, neither of which is given twice.
    schemas: Mutex<HashMap<(u32, u32), Arc<Schema>>>,
    /// Commits of documents share it; whoever lets another generation answer has it alone, so that no commit
    /// brings vectors of the one before.
    pub cutover: RwLock<()>,
    pub filters: Indexes,
    /// Those that search beside the CPU, opened at first use.
    pub devices: crate::device::Devices,
    pub graphs: Graphs,
    #[cfg(feature = "encoder")]
    pub models: Models,
    #[cfg(feature = "encoder")]
    pub learner: crate::learning::Learner,
}

impl Workers {
    /// The database's own worker threads, started at first use.
    pub fn pool(&self) -> Result<Arc<ThreadPool>> {
        if let Some(pool) = self.pool.get() {
            return Ok(Arc::clone(pool));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .thread_name(|index| format!("stratal-{index}"))
            .build()?;
        Ok(Arc::clone(self.pool.get_or_init(|| Arc::new(pool))))
    }
}

impl Engine {
    /// The schema by which a collection answers in a snapshot.
    pub fn schema(&self, collection: &stratal_storage::CollectionSnapshot) -> Result<Arc<Schema>> {
        let generation = collection
            .current()
            .map_or(0, |current| current.layout.generation);
        let key = (collection.number(), generation);
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = schemas.get(&key) {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(Schema::of(collection)?);
        schemas.insert(key, Arc::clone(&schema));
        Ok(schema)
    }

    /// As many as work at a time; 0 for one a processor.
    pub fn threads(&self) -> usize {
        self.workers.threads
    }

    /// The database's own worker threads, started at first use.
    pub fn pool(&self) -> Result<Arc<ThreadPool>> {
        self.workers.pool()
    }

    /// The encoder that made a collection's vectors, working on the database's threads.
    #[cfg(feature = "encoder")]
    pub fn encoder(&self, collection: &str, made_by: &crate::schema::MadeBy) -> Result<crate::Encoder> {
        Ok(self.models.of(collection, made_by)?.pool(self.pool()?))
    }
}

/// How a database is opened; made by [`Database::options`].
#[derive(Clone)]
#[must_use = "options do nothing before `open`"]
pub struct DatabaseOptions {
    store: StoreOptions,
    threads: usize,
}

impl DatabaseOptions {
    /// Create the database if there is none.
    pub fn create(mut self, create: bool) -> Self {
        self.store.create = create;
        self
    }

    /// Refuse a database that exists already (with [`DatabaseOptions::create`]).
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.store.exclusive = exclusive;
        self
    }

    /// Open for reading only: allowed beside a writer and on read-only media; writes nothing, not even a lock.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.store.read_only = read_only;
        self
    }

    /// Read-only: leave out what is damaged instead of refusing the database, so that the rest can be exported.
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.store.salvage = salvage;
        self.store.read_only |= salvage;
        self
    }

    /// How long to wait for another writer to let the database go. Zero by default: refused at once.
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.store.lock_wait = wait;
        self
    }

    /// Bytes of documents in memory past which writers wait for a flush; 256 MiB by default.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.store.memory_budget = bytes.max(1 << 20);
        self
    }

    /// Bytes of log past which a checkpoint is made; 256 MiB by default.
    pub fn log_budget(mut self, bytes: u64) -> Self {
        self.store.log_budget = bytes.max(1 << 16);
        self
    }

    /// Worker threads for searching and encoding; 0, the default, takes one for each processor. At most
    /// [`THREADS_MAX`]; opening refuses more.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Allow writing on a network file system, whose locks cannot be trusted: at most one process may write.
    pub fn allow_network(mut self, allow: bool) -> Self {
        self.store.allow_network = allow;
        self
    }

    /// The file system under it; for tests.
    pub fn vfs(mut self, vfs: Arc<dyn stratal_storage::vfs::Vfs>) -> Self {
        self.store.vfs = vfs;
        self
    }

    /// Opens the database.
    ///
    /// # Errors
    /// [`crate::Error::Storage`]: no database there, one there already, a foreign folder, another writer, a newer
    /// format, damage, a network file system, or what the file system gives; [`crate::Error::Invalid`] for more
    /// than [`THREADS_MAX`] threads.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database> {
        if self.threads > THREADS_MAX {
            let what = format!(
                "{} worker threads are too many: take at most {THREADS_MAX}, or 0 for one a processor",
                self.threads
            );
            return Err(Error::Invalid { what });
        }
        let workers = Arc::new(Workers {
            threads: self.threads,
            pool: OnceLock::new(),
        });
        let derived = Derived {
            workers: Arc::clone(&workers),
        };
        let options = StoreOptions {
            derive: Some(Arc::new(derived)),
            ..self.store
        };
        let store = Store::open(path.as_ref(), options)?;
        let engine = Arc::new(Engine {
            workers,
            schemas: Mutex::default(),
            cutover: RwLock::default(),
            filters: Indexes::default(),
            devices: crate::device::Devices::default(),
            graphs: Graphs::default(),
            #[cfg(feature = "encoder")]
            models: Models::new(store.models_folder()),
            #[cfg(feature = "encoder")]
            learner: crate::learning::Learner::default(),
        });
        let keeper = match store.is_read_only() {
            true => None,
            false => Some(Arc::new(Keeper::start(&store, &engine)?)),
        };
        let alive = Some(Arc::new(Alive {
            #[cfg(feature = "encoder")]
            engine: Arc::clone(&engine),
        }));
        let database = Database {
            store,
            engine,
            _alive: alive,
            keeper,
        };
        #[cfg(feature = "encoder")]
        if !database.store.is_read_only() {
            database.engine.learner.watch(&database);
        }
        Ok(database)
    }
}

impl Database {
    /// Opens the database at `path`, which must exist.
    ///
    /// # Errors
    /// See [`DatabaseOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Database> {
        Database::options().open(path)
    }

    /// Creates a database at `path`, where none may be.
    ///
    /// # Errors
    /// See [`DatabaseOptions::open`].
    pub fn create(path: impl AsRef<Path>) -> Result<Database> {
        Database::options().create(true).exclusive(true).open(path)
    }

    /// Opens the database at `path`, creating it if there is none.
    ///
    /// # Errors
    /// See [`DatabaseOptions::open`].
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Database> {
        Database::options().create(true).open(path)
    }

    /// Opens the database at `path` for reading, beside a writer or without one.
    ///
    /// # Errors
    /// See [`DatabaseOptions::open`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Database> {
        Database::options().read_only(true).open(path)
    }

    /// All ways to open a database.
    pub fn options() -> DatabaseOptions {
        DatabaseOptions {
            store: StoreOptions::default(),
            threads: 0,
        }
    }

    /// A handle that does not keep the database's own work going.
    #[cfg(feature = "encoder")]
    pub(crate) fn detached(&self) -> Database {
        Database {
            _alive: None,
            keeper: None,
            ..self.clone()
        }
    }

    /// A collection to open or create; nothing happens before the builder's last call.
    pub fn collection(&self, name: impl Into<String>) -> CollectionBuilder {
        CollectionBuilder::new(self.clone(), name.into())
    }

    /// The names of the collections, in the order they were created.
    pub fn collections(&self) -> Vec<String> {
        crate::snapshot::names(&self.store.snapshot())
    }

    /// A transaction over any of the database's collections.
    pub fn begin(&self) -> Transaction {
        Transaction::new(self.clone())
    }

    /// The database as of the last commit, unchanging for as long as it is held.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(Arc::clone(&self.engine), self.store.snapshot())
    }

    /// Drops a collection and all its documents. Space is given back at the next checkpoint.
    ///
    /// # Errors
    /// [`crate::Error::Storage`] for an unknown name, or as for a commit.
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        #[cfg(feature = "encoder")]
        let _changing = self.engine.models.changing();
        let snapshot = self.store.snapshot();
        let collection = snapshot.collection(name)?;
        let mut batch = stratal_storage::Batch::new();
        batch.drop_collection((collection.number(), collection.name()));
        crate::pairs::drop_with(&snapshot, collection.number(), &mut batch);
        #[cfg(feature = "encoder")]
        crate::learning::drop_with(&snapshot, collection.number(), &mut batch);
        self.store.commit(batch)?;
        #[cfg(feature = "encoder")]
        self.engine.models.remove_unused(&self.store.snapshot())?;
        Ok(())
    }

    /// Read-only: shows what the writer has committed since; true if there was anything.
    ///
    /// # Errors
    /// [`crate::Error::Storage`]; the old view stays.
    pub fn refresh(&self) -> Result<bool> {
        Ok(self.store.refresh()?)
    }

    /// Writes everything committed so far to segments and cuts the log. It happens by itself as memory fills.
    ///
    /// # Errors
    /// [`crate::Error::Storage`].
    pub fn flush(&self) -> Result<()> {
        Ok(self.store.checkpoint()?)
    }

    /// Gives the space of deleted documents back. After it nothing deleted before is in any file. Segments
    /// that lack scan codes or an index of metadata, because an older build wrote them or these were damaged, get
    /// them.
    ///
    /// # Errors
    /// [`crate::Error::Storage`].
    pub fn compact(&self) -> Result<()> {
        self.store.compact(None)?;
        derived::complete(&self.store, None, &self.engine.workers)
    }

    /// Reads the whole database back and checks it.
    ///
    /// # Errors
    /// [`crate::Error::Storage`] if it cannot be looked at; what is wrong inside is in the answer.
    pub fn verify(&self) -> Result<Verification> {
        Ok(self.store.verify()?)
    }

    /// The database in figures.
    ///
    /// # Errors
    /// [`crate::Error::Storage`].
    pub fn statistics(&self) -> Result<Statistics> {
        let mut statistics = self.store.statistics()?;
        statistics
            .collections
            .retain(|collection| !collection.name.starts_with(crate::pairs::RESERVED));
        Ok(statistics)
    }

    /// What opening found: commits replayed, leftovers removed, foreign files.
    pub fn opened(&self) -> &Opened {
        self.store.opened()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// Where the copies of encoders are kept.
    pub fn models_folder(&self) -> PathBuf {
        self.store.models_folder()
    }

    /// Searches with `searcher` where CUDA device `index` is asked for, and where a GPU is chosen if that is 0: for
    /// a device with a memory budget of its own, and for tests without a GPU.
    #[cfg(feature = "cuda")]
    pub fn use_searcher(&self, index: usize, searcher: Arc<stratal_kernels::cube::Searcher>) {
        self.engine.devices.insert(index, searcher);
    }

    /// The worker threads of the database, for work that belongs to it.
    ///
    /// # Errors
    /// [`crate::Error::Threads`] if they cannot be started.
    pub fn pool(&self) -> Result<Arc<ThreadPool>> {
        self.engine.pool()
    }

    /// Flushes, lets the lock go and says what failed. Other handles get an error from then on; snapshots stay.
    ///
    /// # Errors
    /// [`crate::Error::Storage`]; nothing acknowledged is lost.
    pub fn close(&self) -> Result<()> {
        #[cfg(feature = "encoder")]
        self.engine.learner.stop();
        if let Some(keeper) = &self.keeper {
            keeper.stop();
        }
        Ok(self.store.close()?)
    }
}
