//! The catalog: what people and long jobs look up by key, in sled, and never the truth.
//!
//! All that is in it can be found again from the documents, so that it can be thrown away. It is opened only
//! where a mark says that it was closed cleanly at this very commit, file by file unchanged since; anything else
//! is moved aside and an empty one is begun. sled 0.34 does not fsync and can panic on files it did not write
//! to the end; with the mark it never sees such files.
//!
//! # Files
//! `catalog/sled/` is sled's own. `catalog/CLEAN` is the mark: JSON of database, sequence, and the length and
//! xxh3-64 of every file of sled's, followed by a line with the xxh3-64 of that JSON in hexadecimal.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

const SLED: &str = "sled";
const MARK: &str = "CLEAN";
const CACHE_BYTES: u64 = 8 << 20;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    database: u64,
    seq: u64,
    files: Vec<MarkedFile>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct MarkedFile {
    path: PathBuf,
    bytes: u64,
    hash: u64,
}

/// An ordered map of keys to values in named tables.
pub struct Catalog {
    db: sled::Db,
    folder: PathBuf,
    is_new: bool,
}

impl Catalog {
    /// Opens the catalog if it is clean as of `seq` of `database`; else begins an empty one.
    pub(crate) fn open(folder: &Path, database: u64, seq: u64) -> Result<Catalog> {
        let sled_folder = folder.join(SLED);
        let exists = folder.exists();
        let clean =
            exists && read_mark(folder).is_some_and(|mark| mark_holds(&mark, &sled_folder, database, seq));
        if exists && !clean {
            let aside = aside(folder);
            remove_folder(&aside)?;
            fs::rename(folder, &aside).map_err(|error| Error::io("move aside", folder, error))?;
            tracing::warn!(
                catalog = %folder.display(), aside = %aside.display(),
                "the catalog was not closed cleanly at this commit; it is moved aside and built again"
            );
        }
        fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
        let mark = folder.join(MARK);
        if clean {
            fs::remove_file(&mark).map_err(|error| Error::io("remove", &mark, error))?;
            sync_folder(folder)?;
        }
        let db = sled::Config::default()
            .path(&sled_folder)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(|error| Error::io("open", &sled_folder, to_io(error)))?;
        Ok(Catalog {
            db,
            folder: folder.to_owned(),
            is_new: !clean,
        })
    }

    /// Whether it was begun empty, so that what it should hold must be found again from the documents.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The value of a key.
    ///
    /// # Errors
    /// What sled gives.
    pub fn get(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let value = self
            .table(table)?
            .get(key)
            .map_err(|error| self.failed("read", error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// What sled gives.
    pub fn put(&self, table: &str, key: &str, value: &[u8]) -> Result<()> {
        self.table(table)?
            .insert(key, value)
            .map_err(|error| self.failed("write", error))?;
        Ok(())
    }

    /// Removes a key.
    ///
    /// # Errors
    /// What sled gives.
    pub fn remove(&self, table: &str, key: &str) -> Result<()> {
        self.table(table)?
            .remove(key)
            .map_err(|error| self.failed("write", error))?;
        Ok(())
    }

    /// All keys with their values, in the order of the keys' bytes.
    ///
    /// # Errors
    /// What sled gives.
    pub fn entries(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let mut entries = Vec::new();
        for entry in self.table(table)?.iter() {
            let (key, value) = entry.map_err(|error| self.failed("read", error))?;
            entries.push((String::from_utf8_lossy(&key).into_owned(), value.to_vec()));
        }
        Ok(entries)
    }

    /// Empties a table.
    ///
    /// # Errors
    /// What sled gives.
    pub fn clear(&self, table: &str) -> Result<()> {
        self.db
            .drop_tree(table)
            .map_err(|error| self.failed("write", error))?;
        Ok(())
    }

    /// Closes sled, makes its files durable ourselves, and leaves the mark. If somebody still holds the catalog,
    /// there is no mark, and the next opening begins anew.
    pub(crate) fn close(catalog: Arc<Catalog>, database: u64, seq: u64) -> Result<()> {
        let Some(Catalog { db, folder, .. }) = Arc::into_inner(catalog) else {
            return Ok(());
        };
        let sled_folder = folder.join(SLED);
        db.flush()
            .map_err(|error| Error::io("flush", &sled_folder, to_io(error)))?;
        drop(db);
        let files = hash_files(&sled_folder, true).map_err(|error| Error::io("sync", &sled_folder, error))?;
        let json = serde_json::to_string(&Mark { database, seq, files }).map_err(|error| Error::Invalid {
            what: format!("the catalog's mark cannot be written: {error}"),
        })?;
        let text = format!("{json}\n{:016x}\n", xxh3_64(json.as_bytes()));
        let (mark, temporary) = (folder.join(MARK), folder.join("CLEAN.tmp"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &mark)
        };
        write().map_err(|error| Error::io("write", &mark, error))?;
        sync_folder(&sled_folder)?;
        sync_folder(&folder)?;
        remove_folder(&aside(&folder))
    }

    fn table(&self, name: &str) -> Result<sled::Tree> {
        self.db
            .open_tree(name)
            .map_err(|error| self.failed("open a table of", error))
    }

    fn failed(&self, action: &'static str, error: sled::Error) -> Error {
        Error::io(action, &self.folder, to_io(error))
    }
}

fn aside(folder: &Path) -> PathBuf {
    folder.with_file_name("catalog.aside")
}

fn read_mark(folder: &Path) -> Option<Mark> {
    let text = fs::read_to_string(folder.join(MARK)).ok()?;
    let (json, hash) = text.split_once('\n')?;
    let hash = u64::from_str_radix(hash.trim_end(), 16).ok()?;
    if hash != xxh3_64(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn mark_holds(mark: &Mark, sled_folder: &Path, database: u64, seq: u64) -> bool {
    mark.database == database
        && mark.seq == seq
        && hash_files(sled_folder, false).is_ok_and(|files| files == mark.files)
}

/// Every file below a folder with its hash, sorted; synced as well if asked.
fn hash_files(folder: &Path, sync: bool) -> io::Result<Vec<MarkedFile>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
                continue;
            }
            if sync {
                File::open(&path)?.sync_all()?;
            }
            let bytes = fs::read(&path)?;
            let below = path.strip_prefix(folder).unwrap_or(&path).to_owned();
            files.push(MarkedFile {
                path: below,
                bytes: bytes.len() as u64,
                hash: xxh3_64(&bytes),
            });
        }
        if sync {
            File::open(&next)?.sync_all()?;
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::io("sync", folder, error))
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", folder, error)),
        _ => Ok(()),
    }
}

fn to_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(folder: &Path, seq: u64) {
        let catalog = Arc::new(Catalog::open(folder, 7, seq).unwrap());
        catalog.put("sources", "a.md", b"1").unwrap();
        catalog.put("sources", "b.md", b"2").unwrap();
        Catalog::close(catalog, 7, seq).unwrap();
    }

    #[test]
    fn a_clean_catalog_comes_back_and_any_other_is_begun_anew() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("catalog");
        filled(&folder, 3);
        let catalog = Arc::new(Catalog::open(&folder, 7, 3).unwrap());
        assert!(!catalog.is_new());
        assert_eq!(
            catalog.get("sources", "b.md").unwrap().as_deref(),
            Some(&b"2"[..])
        );
        assert_eq!(catalog.entries("sources").unwrap().len(), 2);
        drop(catalog);
        assert!(Catalog::open(&folder, 7, 3).unwrap().is_new(), "not closed");
        assert!(aside(&folder).exists());
        for (database, seq) in [(8, 3), (7, 4)] {
            remove_folder(&folder).unwrap();
            filled(&folder, 3);
            assert!(Catalog::open(&folder, database, seq).unwrap().is_new());
        }
    }

    #[test]
    fn a_cut_overwritten_or_deleted_file_never_reaches_sled() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("catalog");
        filled(&folder, 3);
        let files: Vec<PathBuf> = hash_files(&folder, false)
            .unwrap()
            .into_iter()
            .map(|file| folder.join(file.path))
            .collect();
        assert!(files.len() > 1);
        for path in &files {
            for harm in 0..3 {
                remove_folder(&folder).unwrap();
                filled(&folder, 3);
                if !path.exists() {
                    continue; // sled numbers its snapshots anew
                }
                let bytes = fs::read(path).unwrap();
                match harm {
                    0 => fs::remove_file(path).unwrap(),
                    1 => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
                    _ => fs::write(path, vec![0xa5; bytes.len().max(1)]).unwrap(),
                }
                let catalog = Catalog::open(&folder, 7, 3).unwrap();
                assert!(catalog.is_new(), "{} harmed in way {harm}", path.display());
                catalog.put("sources", "c", b"3").unwrap();
            }
        }
    }
}
