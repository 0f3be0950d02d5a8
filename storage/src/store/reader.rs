//! Opening for reading only: beside a writer, without a write, following what it commits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::folder::Folder;
use super::maintenance::Maintenance;
use super::manifest::Manifest;
use super::open::{apply_record, foreign_files, load, new_shared};
use super::state::DatabaseState;
use super::{Opened, Shared, Store, StoreOptions, locked};
use crate::error::{Error, Result};
use crate::part::Part;
use crate::segment::Segment;
use crate::vfs::Vfs;
use crate::wal::{Polled, WalReader};

/// A checkpoint of the writer can take files away under a reader; it then starts over, at most so many times.
const TRIES_MAX: u32 = 50;

/// How far a reader has followed.
pub(crate) struct Follower {
    manifest: Manifest,
    log: WalReader,
    state: DatabaseState,
}

pub(super) fn open(path: &Path, options: StoreOptions) -> Result<Store> {
    let folder = Folder::new(path);
    let vfs = Arc::clone(&options.vfs);
    let (follower, damaged) = follow_from_start(&vfs, &folder, options.salvage, &BTreeMap::new())?;
    let opened = Opened {
        replayed: follower.state.seq - follower.manifest.seq,
        foreign: foreign_files(&*vfs, &folder)?,
        damaged,
        ..Opened::default()
    };
    let state = follower.state.clone();
    let (mut shared, _) = new_shared(path, options, follower.manifest.database, state, opened);
    shared.reader = Mutex::new(Some(follower));
    Ok(Store {
        shared: Arc::new(shared),
        _maintenance: Arc::new(Maintenance::none()),
    })
}

impl Store {
    /// Read-only: follows the writer, and shows every commit that was acknowledged before the call. Returns
    /// whether anything was new. A store that is open for writing is always up to date.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and what the file system gives; the old view stays.
    pub fn refresh(&self) -> Result<bool> {
        self.shared.refresh()
    }
}

impl Shared {
    fn refresh(&self) -> Result<bool> {
        let mut reader = locked(&self.reader);
        let Some(follower) = reader.as_mut() else {
            return Ok(false);
        };
        let before = follower.state.seq;
        let vfs = &self.options.vfs;
        let manifest = Manifest::read(&**vfs, &self.folder)?.ok_or_else(|| Error::NoDatabase {
            path: self.folder.root.clone(),
        })?;
        // The log alone is enough while the manifest stands: it holds every later commit.
        let followed = manifest == follower.manifest && follower.poll(&self.folder)?;
        if !followed {
            let known = open_segments(&follower.state);
            (*follower, _) = follow_from_start(vfs, &self.folder, self.options.salvage, &known)?;
        }
        self.memory_bytes
            .store(follower.state.memory_bytes(), Ordering::Release);
        self.durable_seq.store(follower.state.seq, Ordering::Release);
        self.current.store(Arc::new(follower.state.clone()));
        Ok(follower.state.seq != before)
    }
}

fn open_segments(state: &DatabaseState) -> BTreeMap<u64, Arc<Segment>> {
    state
        .collections
        .values()
        .flat_map(|collection| &collection.parts)
        .filter_map(|live| match live.part() {
            Part::Segment(segment) => Some((segment.number(), Arc::clone(segment))),
            Part::Memory(_) => None,
        })
        .collect()
}

impl Follower {
    /// Applies what the log has grown by; false if its files have been taken away.
    fn poll(&mut self, folder: &Folder) -> Result<bool> {
        let mut state = self.state.clone();
        let polled = self.log.poll(&mut |seq, bytes| {
            state = apply_record(&state, folder, seq, bytes)?;
            Ok(())
        });
        // What was applied before a failure stays applied: the log goes on after it.
        self.state = state;
        match polled {
            // The writer has filled segments since our MANIFEST was written.
            Err(Error::Incomplete { .. }) => Ok(false),
            polled => Ok(matches!(polled?, Polled::UpTo(_))),
        }
    }
}

/// Reads the manifest, its segments and the log, again while a checkpoint of the writer is in between.
fn follow_from_start(
    vfs: &Arc<dyn Vfs>,
    folder: &Folder,
    salvage: bool,
    known: &BTreeMap<u64, Arc<Segment>>,
) -> Result<(Follower, Vec<String>)> {
    let mut tries = 0;
    loop {
        let manifest = Manifest::read(&**vfs, folder)?.ok_or_else(|| Error::NoDatabase {
            path: folder.root.clone(),
        })?;
        match follow(vfs, folder, &manifest, salvage, known) {
            Ok(followed) => return Ok(followed),
            Err(error) => {
                let now = Manifest::read(&**vfs, folder)?;
                tries += 1;
                if now.as_ref() == Some(&manifest) || tries >= TRIES_MAX {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(u64::from(tries)));
            }
        }
    }
}

fn follow(
    vfs: &Arc<dyn Vfs>,
    folder: &Folder,
    manifest: &Manifest,
    salvage: bool,
    known: &BTreeMap<u64, Arc<Segment>>,
) -> Result<(Follower, Vec<String>)> {
    let loaded = load(vfs, folder, manifest, salvage, known)?;
    let mut damaged = loaded.damaged;
    let log = WalReader::new(Arc::clone(vfs), &folder.wal(), manifest.seq);
    let mut follower = Follower {
        manifest: manifest.clone(),
        log,
        state: loaded.state,
    };
    match follower.poll(folder) {
        Ok(true) => {}
        Ok(false) => {
            let what = "its files end before the manifest's last commit";
            return Err(Error::corrupt(&folder.wal(), 0, what));
        }
        Err(error) if salvage => damaged.push(error.to_string()),
        Err(error) => return Err(error),
    }
    Ok((follower, damaged))
}
