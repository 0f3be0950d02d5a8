//! The operating system's file system.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Entry, File, LockAttempt, LockGuard, Mapping, Vfs, network};

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

impl File for fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match FileExt::read_at(self, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// A file's bytes: mapped, or a copy where it is empty or the file system cannot map.
enum Bytes {
    Mapped(memmap2::Mmap),
    Copied(AlignedBytes),
}

impl Mapping for Bytes {
    fn bytes(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Copied(copy) => copy.bytes(),
        }
    }
}

/// Bytes that start at a multiple of 8.
pub(super) struct AlignedBytes {
    words: Vec<u64>,
    len: usize,
}

impl AlignedBytes {
    pub(super) fn zeroed(len: usize) -> AlignedBytes {
        AlignedBytes {
            words: vec![0; len.div_ceil(8)],
            len,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

impl Mapping for AlignedBytes {
    fn bytes(&self) -> &[u8] {
        self.bytes()
    }
}

fn copied(file: &fs::File, len: usize) -> io::Result<Bytes> {
    let mut copy = AlignedBytes::zeroed(len);
    if File::read_at(file, copy.bytes_mut(), 0)? != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Bytes::Copied(copy))
}

/// A locked file; the system releases the lock when the descriptor closes, however the process ends.
struct FileLock {
    file: fs::File,
}

impl LockGuard for FileLock {}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child that this process is just starting holds a copy of the
        // descriptor, and with it the lock, until it runs its program.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the lock goes when the last copy of its descriptor is closed");
        }
    }
}

fn pid_in(file: &mut fs::File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl Vfs for RealVfs {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed while we were listing, by a writer beside this reader.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                len: if metadata.is_dir() { 0 } else { metadata.len() },
                is_folder: metadata.is_dir(),
            });
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(fs::File::open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>> {
        let file = fs::File::open(path)?;
        let len = usize::try_from(file.metadata()?.len())
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if len == 0 {
            return Ok(Box::new(Bytes::Copied(AlignedBytes::zeroed(0))));
        }
        // SAFETY: the engine never writes into or shortens a file after it was mapped: files are
        // written once under a name of their own and unlinked at the end. The database's lock keeps
        // other writers of ours away; what no program can prevent is a stranger cutting the file.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(&file) };
        match map {
            Ok(map) => Ok(Box::new(Bytes::Mapped(map))),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENODEV | libc::EOPNOTSUPP | libc::ENOSYS)
                ) =>
            {
                Ok(Box::new(copied(&file, len)?))
            }
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // `Path::parent` of a bare name is the empty path, which means here.
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        fs::File::open(path)?.sync_all()
    }

    fn try_lock(&self, path: &Path) -> io::Result<LockAttempt> {
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{}", std::process::id())?;
                Ok(LockAttempt::Held(Box::new(FileLock { file })))
            }
            Err(fs::TryLockError::WouldBlock) => Ok(LockAttempt::Busy(pid_in(&mut file))),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn network_kind(&self, path: &Path) -> io::Result<Option<String>> {
        network::kind(path)
    }

    #[cfg(unix)]
    fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        let mut status = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` ends in a zero byte and `status` has room for one `statvfs`.
        if unsafe { libc::statvfs(path.as_ptr(), status.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so the system has filled `status`.
        let status = unsafe { status.assume_init() };
        // The widths differ between targets.
        #[allow(clippy::unnecessary_cast)]
        Ok(Some(status.f_bavail as u64 * status.f_frsize as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn an_empty_file_maps_to_nothing_and_a_map_outlives_its_name() {
        let folder = folder();
        let path = folder.path().join("a");
        RealVfs.create(&path).unwrap();
        assert!(RealVfs.map(&path).unwrap().bytes().is_empty());
        let other = folder.path().join("b");
        let file = RealVfs.create(&other).unwrap();
        file.write_at(b"0123456789", 3).unwrap();
        let map = RealVfs.map(&other).unwrap();
        RealVfs.remove(&other).unwrap();
        assert_eq!(map.bytes(), b"\0\0\x000123456789");
        assert_eq!(map.bytes().as_ptr() as usize % 8, 0);
    }

    #[test]
    fn create_refuses_an_existing_file() {
        let folder = folder();
        let path = folder.path().join("a");
        RealVfs.create(&path).unwrap();
        let error = RealVfs.create(&path).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    // B97, B99
    #[test]
    fn a_second_lock_names_the_holder_and_a_dropped_one_leaves_nothing_to_clean() {
        let folder = folder();
        let path = folder.path().join("LOCK");
        let LockAttempt::Held(guard) = RealVfs.try_lock(&path).unwrap() else {
            panic!("the first lock is refused");
        };
        let LockAttempt::Busy(pid) = RealVfs.try_lock(&path).unwrap() else {
            panic!("the second lock is given");
        };
        assert_eq!(pid, Some(std::process::id()));
        drop(guard);
        assert!(matches!(RealVfs.try_lock(&path).unwrap(), LockAttempt::Held(_)));
    }

    #[test]
    fn reading_past_the_end_is_short_and_folders_list_what_they_hold() {
        let folder = folder();
        let file = RealVfs.create(&folder.path().join("a")).unwrap();
        file.write_at(b"abc", 0).unwrap();
        file.sync_data().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(file.read_at(&mut buffer, 1).unwrap(), 2);
        RealVfs.create_folder(&folder.path().join("x/y")).unwrap();
        RealVfs.sync_folder(folder.path()).unwrap();
        let mut entries = RealVfs.list(folder.path()).unwrap();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].len, entries[0].is_folder), (3, false));
        assert!(entries[1].is_folder);
    }
}
