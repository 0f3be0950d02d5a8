//! A file system in memory that can lose its power.
//!
//! Every file and every set of names is kept twice: as the program sees it, and as it is on the disk
//! for certain. What lies between the two, the writes and the changes of names that no sync has
//! followed, is kept as a list, and [`CrashVfs::crash`] draws from it what the disk happens to hold
//! after a power cut.

mod cut;
mod image;
mod names;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::real::AlignedBytes;
use super::{Entry, File, LockAttempt, LockGuard, Mapping, Vfs};
use cut::{Chance, mood, surviving_image, surviving_names};
use image::{Image, Write};
use names::{Change, Names, Node, below, parent};

#[derive(Clone, Default)]
struct Contents {
    live: Image,
    durable: Image,
    unsynced: Vec<Write>,
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<u64, Contents>,
    live: Names,
    durable: Names,
    pending: Vec<Change>,
    locked: HashSet<PathBuf>,
    next_file: u64,
}

impl Disk {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.live.get(path) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || path == Path::new("/") || self.live.get(path) == Some(&Node::Folder)
    }

    fn require_folder(&self, path: &Path) -> io::Result<()> {
        if self.is_folder(path) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}

/// A file system in memory whose power can be cut. Clones are the same file system.
///
/// What survives [`CrashVfs::crash`] for certain: a file's contents as of its last
/// [`File::sync_data`], and names as of the last [`Vfs::sync_folder`] of their folder (a file's sync
/// does not make its name durable). Of everything later any part may survive: whole writes, single
/// sectors or the first bytes of one, a new length without contents (zeros or garbage), and changes
/// of names in their order up to some point or each by itself. A rename happens whole or not at all.
#[derive(Clone, Default)]
pub struct CrashVfs {
    disk: Arc<Mutex<Disk>>,
}

/// The path without `.` and doubled slashes; `.` itself is the empty path.
fn normal(path: &Path) -> PathBuf {
    path.components()
        .filter(|component| *component != std::path::Component::CurDir)
        .collect()
}

impl CrashVfs {
    /// An empty file system: only the root and the current folder exist.
    pub fn new() -> CrashVfs {
        CrashVfs::default()
    }

    /// The file system as found after a power cut now; equal histories and seeds give equal ones.
    ///
    /// This one lives on unchanged, so that one history can be cut in several ways. Locks are free in
    /// the new one, and everything in it is durable.
    pub fn crash(&self, seed: u64) -> CrashVfs {
        let disk = self.lock();
        let mut chance = Chance::new(seed);
        let names = surviving_names(&disk.durable, &disk.pending, mood(&mut chance), &mut chance);
        let mood = mood(&mut chance);
        let mut files = BTreeMap::new();
        for node in names.values() {
            if let Node::File(number) = node
                && let Some(file) = disk.files.get(number)
            {
                let image =
                    surviving_image(&file.durable, file.live.len(), &file.unsynced, mood, &mut chance);
                files.insert(
                    *number,
                    Contents {
                        live: image.clone(),
                        durable: image,
                        unsynced: Vec::new(),
                    },
                );
            }
        }
        CrashVfs {
            disk: Arc::new(Mutex::new(Disk {
                files,
                live: names.clone(),
                durable: names,
                next_file: disk.next_file,
                ..Disk::default()
            })),
        }
    }

    /// Replaces a file's contents, durably: what a failing disk or a careless user does.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.lock();
        let number = disk.file(&normal(path))?;
        let mut image = Image::default();
        image.write(bytes, 0);
        disk.files.insert(
            number,
            Contents {
                live: image.clone(),
                durable: image,
                unsynced: Vec::new(),
            },
        );
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents(&self, path: &Path) -> io::Result<AlignedBytes> {
        let disk = self.lock();
        let number = disk.file(&normal(path))?;
        let live = disk.files.get(&number).map(|file| &file.live);
        let mut bytes = AlignedBytes::zeroed(live.map_or(0, |live| live.len() as usize));
        if let Some(live) = live {
            live.read(bytes.bytes_mut(), 0);
        }
        Ok(bytes)
    }
}

struct CrashFile {
    vfs: CrashVfs,
    number: u64,
    writable: bool,
}

impl File for CrashFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.vfs.lock();
        Ok(disk
            .files
            .get(&self.number)
            .map_or(0, |file| file.live.read(buffer, offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let write = Write::new(bytes, offset);
        let mut disk = self.vfs.lock();
        let file = disk.files.entry(self.number).or_default();
        write.apply(&mut file.live);
        file.unsynced.push(write);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.vfs.lock();
        let file = disk.files.entry(self.number).or_default();
        file.durable = file.live.clone();
        file.unsynced.clear();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let disk = self.vfs.lock();
        Ok(disk.files.get(&self.number).map_or(0, |file| file.live.len()))
    }
}

struct CrashLock {
    vfs: CrashVfs,
    path: PathBuf,
}

impl LockGuard for CrashLock {}

impl Drop for CrashLock {
    fn drop(&mut self) {
        self.vfs.lock().locked.remove(&self.path);
    }
}

impl Vfs for CrashVfs {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut disk = self.lock();
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        for folder in folders {
            if disk.is_folder(folder) {
                continue;
            }
            if disk.live.contains_key(folder) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.change(Change::Link(folder.to_owned(), Node::Folder));
        }
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let folder = normal(folder);
        let disk = self.lock();
        disk.require_folder(&folder)?;
        let entries = below(&disk.live, &folder)
            .into_iter()
            .filter(|path| parent(path) == folder);
        Ok(entries
            .map(|path| {
                let node = disk.live.get(&path);
                Entry {
                    name: path
                        .file_name()
                        .map(|name| name.to_string_lossy().into_owned())
                        .unwrap_or_default(),
                    len: match node {
                        Some(Node::File(number)) => disk.files.get(number).map_or(0, |file| file.live.len()),
                        _ => 0,
                    },
                    is_folder: node == Some(&Node::Folder),
                }
            })
            .collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let path = normal(path);
        let disk = self.lock();
        Ok(disk.is_folder(&path) || disk.live.contains_key(&path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let path = normal(path);
        let mut disk = self.lock();
        disk.require_folder(parent(&path))?;
        if disk.live.contains_key(&path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = disk.next_file;
        disk.next_file += 1;
        disk.files.insert(number, Contents::default());
        disk.change(Change::Link(path, Node::File(number)));
        Ok(Box::new(CrashFile {
            vfs: self.clone(),
            number,
            writable: true,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let number = self.lock().file(&normal(path))?;
        Ok(Box::new(CrashFile {
            vfs: self.clone(),
            number,
            writable: false,
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.contents(path)?.bytes().to_vec())
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>> {
        Ok(Box::new(self.contents(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let mut disk = self.lock();
        disk.require_folder(parent(&to))?;
        let Some(&node) = disk.live.get(&from) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if disk.is_folder(&to) && !below(&disk.live, &to).is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if from != to {
            disk.change(Change::Rename(from, to, node));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut disk = self.lock();
        disk.file(&path)?;
        disk.change(Change::Unlink(path));
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut disk = self.lock();
        disk.require_folder(&path)?;
        // One change an entry, deepest first, so that a power cut can leave half a folder.
        let mut entries = below(&disk.live, &path);
        entries.reverse();
        for entry in entries {
            disk.change(Change::Unlink(entry));
        }
        disk.change(Change::Unlink(path));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut disk = self.lock();
        disk.require_folder(&path)?;
        let pending = std::mem::take(&mut disk.pending);
        for change in pending {
            if change.is_in(&path) {
                change.apply(&mut disk.durable);
            } else {
                disk.pending.push(change);
            }
        }
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<LockAttempt> {
        let path = normal(path);
        if self.lock().locked.contains(&path) {
            return Ok(LockAttempt::Busy(Some(std::process::id())));
        }
        if !self.exists(&path)? {
            self.create(&path)?;
        }
        self.lock().locked.insert(path.clone());
        Ok(LockAttempt::Held(Box::new(CrashLock {
            vfs: self.clone(),
            path,
        })))
    }

    fn network_kind(&self, _path: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
