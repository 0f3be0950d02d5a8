//! A file system in memory whose files a test can damage, and which can stop working at any operation.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use stratal_storage::vfs::{Entry, File, LockAttempt, Mapping, Vfs};

type Bytes = Arc<Mutex<Vec<u8>>>;

#[derive(Default)]
pub struct MemoryVfs {
    files: Mutex<BTreeMap<PathBuf, Bytes>>,
    changes: Arc<AtomicU64>,
    fails_from: Arc<AtomicU64>,
}

struct MemoryFile {
    bytes: Bytes,
    changes: Arc<AtomicU64>,
    fails_from: Arc<AtomicU64>,
}

/// Bytes at a multiple of 8, as a mapping promises.
struct MemoryMapping(Vec<u64>, usize);

impl Mapping for MemoryMapping {
    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}

fn change(changes: &AtomicU64, fails_from: &AtomicU64) -> io::Result<()> {
    let number = changes.fetch_add(1, Ordering::Relaxed);
    match fails_from.load(Ordering::Relaxed) {
        from if from > 0 && number + 1 >= from => Err(io::Error::other("the power went")),
        _ => Ok(()),
    }
}

impl MemoryVfs {
    /// From the `number`th change on (1 is the next), every change fails. 0: none fails.
    pub fn fail_from(&self, number: u64) {
        self.changes.store(0, Ordering::Relaxed);
        self.fails_from.store(number, Ordering::Relaxed);
    }

    /// Changes since the last [`MemoryVfs::fail_from`].
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub fn names(&self) -> Vec<String> {
        let files = self.files.lock().unwrap();
        files
            .keys()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        self.files.lock().unwrap()[path].lock().unwrap().clone()
    }

    pub fn set(&self, path: &Path, bytes: &[u8]) {
        let bytes = Arc::new(Mutex::new(bytes.to_vec()));
        self.files.lock().unwrap().insert(path.to_owned(), bytes);
    }

    fn find(&self, path: &Path) -> io::Result<Bytes> {
        self.files
            .lock()
            .unwrap()
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&self) -> io::Result<()> {
        change(&self.changes, &self.fails_from)
    }

    fn file(&self, bytes: Bytes) -> Box<dyn File> {
        Box::new(MemoryFile {
            bytes,
            changes: self.changes.clone(),
            fails_from: self.fails_from.clone(),
        })
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let rest = bytes.get(offset as usize..).unwrap_or(&[]);
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        change(&self.changes, &self.fails_from)?;
        let mut file = self.bytes.lock().unwrap();
        let end = offset as usize + bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        change(&self.changes, &self.fails_from)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
}

impl Vfs for MemoryVfs {
    fn create_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.files.lock().unwrap().contains_key(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.change()?;
        if self.exists(path)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.set(path, &[]);
        Ok(self.file(self.find(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(self.file(self.find(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.find(path)?.lock().unwrap().clone())
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>> {
        let file = self.read(path)?;
        let mut words = vec![0u64; file.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..file.len()].copy_from_slice(&file);
        Ok(Box::new(MemoryMapping(words, file.len())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        let mut files = self.files.lock().unwrap();
        let bytes = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        self.files
            .lock()
            .unwrap()
            .remove(path)
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.change()
    }

    fn try_lock(&self, _: &Path) -> io::Result<LockAttempt> {
        Ok(LockAttempt::Busy(None))
    }

    fn network_kind(&self, _: &Path) -> io::Result<Option<String>> {
        Ok(None)
    }
}
