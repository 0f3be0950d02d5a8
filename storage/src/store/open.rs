//! Opening for writing: checks first, then the lock, then the log's replay; nothing is written before that.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::checkpoint::{Progress, named_files, sweep};
use super::commit::{Log, Writer};
use super::folder::{self, Folder};
use super::maintenance::Maintenance;
use super::manifest::Manifest;
use super::record;
use super::state::{CollectionState, DatabaseState, LivePart};
use super::{Opened, Shared, Store, StoreOptions, locked, reader};
use crate::deletions::{DeletionsOf, read_deletions};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::part::Part;
use crate::segment::Segment;
use crate::vfs::{LockAttempt, LockGuard, Vfs};
use crate::wal::{self, Replayed};

/// More log files than this at opening are worth a checkpoint: a program killed again and again leaves one each.
const LOG_FILES_MAX: usize = 8;

pub(super) fn open(path: &Path, options: StoreOptions) -> Result<Store> {
    if options.read_only {
        return reader::open(path, options);
    }
    let vfs = Arc::clone(&options.vfs);
    let folder = Folder::new(path);
    check_before_lock(&*vfs, &folder, &options)?;
    if !options.allow_network
        && let Some(kind) = vfs
            .network_kind(existing_ancestor(&*vfs, path))
            .map_err(|error| Error::io("look at the file system of", path, error))?
    {
        return Err(Error::NetworkFileSystem {
            path: path.to_owned(),
            kind,
        });
    }
    vfs.create_folder(path)
        .map_err(|error| Error::io("create", path, error))?;
    let lock = lock(&*vfs, &folder, options.lock_wait)?;
    // Read again: another process may have created it, or gone on, before the lock was ours.
    let manifest = match Manifest::read(&*vfs, &folder)? {
        Some(_) if options.exclusive => {
            return Err(Error::DatabaseExists {
                path: path.to_owned(),
            });
        }
        Some(manifest) => {
            // Whoever put it in place may have died, or failed, before its name was durable. All that follows,
            // the removal of what it no longer names above all, stands on it.
            vfs.sync_folder(path)
                .map_err(|error| Error::io("sync", path, error))?;
            manifest
        }
        None => create(&*vfs, &folder)?,
    };
    let loaded = load(&vfs, &folder, &manifest, false, &BTreeMap::new())?;
    let (state, replayed) = replay(&vfs, &folder, &manifest, loaded.state)?;
    let opened = Opened {
        replayed: state.seq - manifest.seq,
        torn_bytes: replayed.torn_tail.as_ref().map_or(0, |torn| torn.bytes),
        ..Opened::default()
    };
    let log_files = replayed.files.len();
    let (mut shared, woken) = new_shared(path, options, manifest.database, state, opened);
    shared.lock = Mutex::new(Some(lock));
    shared.maintaining = Mutex::new(loaded.progress);
    shared.log_bytes = AtomicU64::new(replayed.files.iter().map(|(_, bytes)| bytes).sum());
    let mut log = Log {
        writer: None,
        next_file: replayed.next_file_number,
        previous_file: replayed.files.last().map(|(number, _)| *number),
        replayed: None,
        spare: Vec::new(),
    };
    // A commit that was read back but whose sync nobody saw is shown to readers from now on: make it durable.
    let unsure = replayed.last_frame.is_some();
    log.replayed = Some(replayed);
    if unsure {
        shared.start_log_file(&mut log, 0)?;
    }
    shared.log = Mutex::new(log);
    tidy(&mut shared)?;
    let shared = Arc::new(shared);
    if log_files > LOG_FILES_MAX {
        shared.checkpoint()?;
    }
    let maintenance = if shared.options.background {
        Maintenance::start(Arc::clone(&shared), woken)
            .map_err(|error| Error::io("start the maintenance thread of", path, error))?
    } else {
        Maintenance::none()
    };
    Ok(Store {
        shared,
        _maintenance: Arc::new(maintenance),
    })
}

/// Everything that is refused without touching the folder.
fn check_before_lock(vfs: &dyn Vfs, folder: &Folder, options: &StoreOptions) -> Result<()> {
    let path = folder.root.clone();
    let exists = vfs
        .exists(&path)
        .map_err(|error| Error::io("look for", &path, error))?;
    let manifest = if exists {
        Manifest::read(vfs, folder)?
    } else {
        None
    };
    match manifest {
        Some(_) if options.exclusive => return Err(Error::DatabaseExists { path }),
        Some(_) => return check_versions(vfs, folder),
        None if !options.create => return Err(Error::NoDatabase { path }),
        None => {}
    }
    if !exists {
        return Ok(());
    }
    let entries = vfs.list(&path).map_err(|error| Error::io("list", &path, error))?;
    if entries.iter().any(|entry| !folder::is_ours_at_root(&entry.name)) {
        return Err(Error::ForeignFolder { path });
    }
    // A creation that was cut short leaves empty folders. A log with commits is a database whose MANIFEST is lost.
    for sub in [folder.wal(), folder.segments()] {
        if vfs
            .exists(&sub)
            .map_err(|error| Error::io("look for", &sub, error))?
            && !vfs
                .list(&sub)
                .map_err(|error| Error::io("list", &sub, error))?
                .is_empty()
        {
            let what = "it is missing, but logs or segments are there: nothing was changed";
            return Err(Error::corrupt(&folder.manifest(), 0, what));
        }
    }
    Ok(())
}

/// Refuses a newer format by reading no more than the files' heads, before the lock file is written.
fn check_versions(vfs: &dyn Vfs, folder: &Folder) -> Result<()> {
    wal::check_versions(vfs, &folder.wal())?;
    crate::segment::check_versions(vfs, &folder.segments())
}

fn existing_ancestor<'a>(vfs: &dyn Vfs, path: &'a Path) -> &'a Path {
    path.ancestors()
        .find(|ancestor| !ancestor.as_os_str().is_empty() && vfs.exists(ancestor).unwrap_or(false))
        .unwrap_or(Path::new("."))
}

fn lock(vfs: &dyn Vfs, folder: &Folder, wait: Duration) -> Result<Box<dyn LockGuard>> {
    let path = folder.lock();
    // None for a wait that ends past all times.
    let deadline = Instant::now().checked_add(wait);
    loop {
        match vfs
            .try_lock(&path)
            .map_err(|error| Error::io("lock", &path, error))?
        {
            LockAttempt::Held(guard) => return Ok(guard),
            LockAttempt::Busy(pid) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(Error::Locked {
                    path: folder.root.clone(),
                    pid,
                });
            }
            LockAttempt::Busy(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn create(vfs: &dyn Vfs, folder: &Folder) -> Result<Manifest> {
    for path in [folder.wal(), folder.segments()] {
        vfs.create_folder(&path)
            .map_err(|error| Error::io("create", &path, error))?;
    }
    let manifest = Manifest {
        database: std::hash::RandomState::new().build_hasher().finish(),
        seq: 0,
        next_docid: 1,
        next_collection: 1,
        next_segment: 1,
        first_log: 1,
        collections: Vec::new(),
        settings: BTreeMap::new(),
        written_by: concat!("stratal ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    // The MANIFEST comes last: where there is one, the folders it speaks of and its own are durable.
    vfs.sync_folder(&folder.root)
        .map_err(|error| Error::io("sync", &folder.root, error))?;
    sync_names_above(vfs, &folder.root)?;
    manifest.write(vfs, folder)?;
    Ok(manifest)
}

/// Makes the folder's name durable, and those of the folders above it, which may be new too.
fn sync_names_above(vfs: &dyn Vfs, root: &Path) -> Result<()> {
    for (n, parent) in root.ancestors().skip(1).enumerate() {
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        match vfs.sync_folder(parent) {
            // A folder that may not be read is not one that was created just now.
            Err(error) if n > 0 && error.kind() == std::io::ErrorKind::PermissionDenied => break,
            synced => synced.map_err(|error| Error::io("sync", parent, error))?,
        }
    }
    Ok(())
}

/// What the MANIFEST names.
pub(super) struct Loaded {
    pub state: DatabaseState,
    pub progress: Progress,
    pub damaged: Vec<String>,
}

/// Opens the segments that the MANIFEST names, taking those of `known` that are open already.
pub(super) fn load(
    vfs: &Arc<dyn Vfs>,
    folder: &Folder,
    manifest: &Manifest,
    salvage: bool,
    known: &BTreeMap<u64, Arc<Segment>>,
) -> Result<Loaded> {
    let mut progress = Progress {
        next_segment: manifest.next_segment,
        manifest_seq: manifest.seq,
        ..Progress::default()
    };
    let mut damaged = Vec::new();
    let mut state = DatabaseState {
        seq: manifest.seq,
        next_docid: manifest.next_docid,
        next_collection: manifest.next_collection,
        collections: BTreeMap::new(),
        settings: Arc::new(manifest.settings.clone()),
    };
    for entry in &manifest.collections {
        let mut collection = CollectionState::new(
            entry.number,
            &entry.name,
            entry.attributes.clone(),
            entry.generations.clone(),
        );
        collection.current = entry.current.unwrap_or(collection.current);
        collection.next_generation = entry.next_generation.unwrap_or(collection.next_generation);
        for named in &entry.segments {
            let opened = (|| {
                let segments = folder.segments();
                let layouts: Vec<Layout> = match &named.generations {
                    None => entry.generations.iter().map(|spec| spec.layout).collect(),
                    Some(numbers) => {
                        let layouts = numbers.iter().map(|&number| collection.layout(number).copied());
                        layouts.collect::<Option<_>>().ok_or_else(|| {
                            let what = "it names a segment's generation that its collection has not";
                            Error::corrupt(&folder.manifest(), 0, what)
                        })?
                    }
                };
                let segment = match known.get(&named.number) {
                    Some(segment) if segment.layouts() == layouts => {
                        segment.look_for_companions(&**vfs, &segments)?;
                        Arc::clone(segment)
                    }
                    _ => Arc::new(Segment::open(
                        &**vfs,
                        &segments,
                        named.number,
                        entry.number.into(),
                        &layouts,
                    )?),
                };
                if segment.rows() != named.rows {
                    let what = format!(
                        "the manifest says {} rows, the segment {}",
                        named.rows,
                        segment.rows()
                    );
                    return Err(Error::corrupt(&folder.manifest(), 0, what));
                }
                let dead = match named.deletions {
                    Some(sequence) => {
                        let of = DeletionsOf {
                            collection: entry.number.into(),
                            segment: named.number,
                            rows: named.rows,
                            sequence,
                        };
                        read_deletions(&**vfs, &segments, &of)?
                    }
                    None => roaring::RoaringBitmap::new(),
                };
                if dead.len() != named.dead {
                    let what = format!(
                        "it says {} deleted rows of segment {:016x}, the deletions file {}",
                        named.dead,
                        named.number,
                        dead.len()
                    );
                    return Err(Error::corrupt(&folder.manifest(), 0, what));
                }
                Ok(LivePart::new(Part::Segment(segment), dead))
            })();
            match opened {
                Ok(live) => {
                    if let Some(seq) = named.deletions {
                        progress.deletions.insert(named.number, (seq, named.dead));
                    }
                    collection.parts.push(live);
                }
                Err(error) if salvage => damaged.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        state.collections.insert(entry.number, Arc::new(collection));
    }
    progress.named = named_files(&progress, &state);
    Ok(Loaded {
        state,
        progress,
        damaged,
    })
}

fn replay(
    vfs: &Arc<dyn Vfs>,
    folder: &Folder,
    manifest: &Manifest,
    mut state: DatabaseState,
) -> Result<(DatabaseState, Replayed)> {
    let mut replayed = wal::replay(&**vfs, &folder.wal(), manifest.seq, false, &mut |seq, bytes| {
        state = apply_record(&state, folder, seq, bytes)?;
        Ok(())
    })?;
    // The files that a checkpoint removed had lower numbers than it names.
    replayed.next_file_number = replayed.next_file_number.max(manifest.first_log);
    Ok((state, replayed))
}

/// The state after one record of the log.
pub(super) fn apply_record(
    state: &DatabaseState,
    folder: &Folder,
    seq: u64,
    bytes: &[u8],
) -> Result<DatabaseState> {
    let refuse = |what: String| Error::corrupt(&folder.wal(), 0, what);
    let changes = record::decode(bytes).ok_or_else(|| refuse(format!("commit {seq} cannot be decoded")))?;
    state.apply(changes, seq).map_err(|error| match error {
        Error::Invalid { what } => refuse(format!("commit {seq} does not fit what is stored: {what}")),
        other => other,
    })
}

/// Removes what an interrupted write of ours left, and finds what is not ours.
fn tidy(shared: &mut Shared) -> Result<()> {
    let vfs = Arc::clone(&shared.options.vfs);
    let mut removed = Vec::new();
    // By the MANIFEST, not by the state: the log may have dropped a collection that the MANIFEST still names.
    removed.extend(sweep(shared, &locked(&shared.maintaining).named)?);
    let temporary = shared.folder.manifest_temporary();
    if vfs
        .exists(&temporary)
        .map_err(|error| Error::io("look for", &temporary, error))?
    {
        vfs.remove(&temporary)
            .map_err(|error| Error::io("remove", &temporary, error))?;
        removed.push(temporary);
    }
    for path in &removed {
        tracing::info!(path = %path.display(), "removed a leftover of an interrupted write");
    }
    shared.opened.removed = removed;
    shared.opened.foreign = foreign_files(&*vfs, &shared.folder)?;
    for path in &shared.opened.foreign {
        tracing::warn!(path = %path.display(), "left a file alone that is not part of the database");
    }
    Ok(())
}

pub(super) fn foreign_files(vfs: &dyn Vfs, folder: &Folder) -> Result<Vec<PathBuf>> {
    let mut foreign = Vec::new();
    let root = vfs
        .list(&folder.root)
        .map_err(|error| Error::io("list", &folder.root, error))?;
    foreign.extend(
        root.iter()
            .filter(|entry| !folder::is_ours_at_root(&entry.name))
            .map(|entry| folder.root.join(&entry.name)),
    );
    for (sub, ours) in [
        (folder.segments(), folder::is_ours_in_segments as fn(&str) -> bool),
        (
            folder.wal(),
            (|name| wal::file_number(name).is_some()) as fn(&str) -> bool,
        ),
    ] {
        if !vfs
            .exists(&sub)
            .map_err(|error| Error::io("look for", &sub, error))?
        {
            continue;
        }
        let entries = vfs.list(&sub).map_err(|error| Error::io("list", &sub, error))?;
        foreign.extend(
            entries
                .iter()
                .filter(|entry| !ours(&entry.name))
                .map(|entry| sub.join(&entry.name)),
        );
    }
    foreign.sort();
    Ok(foreign)
}

/// A store at a state, before its lock and log are put in; the receiver is for its maintenance thread.
pub(super) fn new_shared(
    path: &Path,
    options: StoreOptions,
    database: u64,
    state: DatabaseState,
    opened: Opened,
) -> (Shared, crossbeam_channel::Receiver<()>) {
    let (wake, woken) = crossbeam_channel::bounded(1);
    let state = Arc::new(state);
    let shared = Shared {
        options,
        folder: Folder::new(path),
        database,
        opened,
        current: ArcSwap::new(Arc::clone(&state)),
        durable_seq: AtomicU64::new(state.seq),
        memory_bytes: AtomicU64::new(state.memory_bytes()),
        log_bytes: AtomicU64::new(0),
        syncs: AtomicU64::new(0),
        commits: AtomicU64::new(0),
        writer: Mutex::new(Writer {
            state,
            buffer: Vec::new(),
            count: 0,
            first_seq: 0,
        }),
        log: Mutex::new(Log {
            writer: None,
            replayed: None,
            next_file: 1,
            previous_file: None,
            spare: Vec::new(),
        }),
        maintaining: Mutex::new(Progress::default()),
        poisoned: OnceLock::new(),
        closed: AtomicBool::new(false),
        queue: (Mutex::default(), Condvar::new()),
        filling: Mutex::default(),
        underway: Mutex::default(),
        flush_failures: AtomicU64::new(0),
        flushed: (Mutex::new(()), Condvar::new()),
        lock: Mutex::new(None),
        catalog: Mutex::new(None),
        reader: Mutex::new(None),
        wake,
    };
    (shared, woken)
}
