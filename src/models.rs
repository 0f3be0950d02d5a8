//! The encoders a database stands on: copies of their files, loaded once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::durable::sync_folder;
use crate::schema::MadeBy;
use crate::{Encoder, Error, Result};

pub(crate) struct Models {
    folder: PathBuf,
    loaded: Mutex<HashMap<String, Encoder>>,
    /// Held while a copy and the collection that names it come or go, so that neither sees the other half done.
    changing: Mutex<()>,
}

impl Models {
    pub fn new(folder: PathBuf) -> Models {
        Models {
            folder,
            loaded: Mutex::new(HashMap::new()),
            changing: Mutex::new(()),
        }
    }

    /// Held from keeping a copy until a collection names it, and from dropping one until its copy is gone.
    pub fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an encoder that a collection was opened with, so that it is not read from disk again.
    ///
    /// Its files are looked for in the database's own copy from then on: those it came from may go, as a candidate's
    /// folder does when learning is done with it.
    pub fn remember(&self, encoder: &Encoder) {
        let hash = encoder.identity().hash;
        let copy = self.folder.join(&hash);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.entry(hash).or_insert_with(|| match copy.is_dir() {
            true => encoder.clone().files_in(&copy),
            false => encoder.clone(),
        });
    }

    /// Copies an encoder's files into the database, durably, before a collection names them.
    pub fn keep(&self, encoder: &Encoder) -> Result<()> {
        let identity = encoder.identity();
        let target = self.folder.join(&identity.hash);
        if !target.exists() {
            let unfinished = self.folder.join(format!("{}.tmp", identity.hash));
            let failed = |action: &'static str, source| Error::Io {
                action,
                path: unfinished.display().to_string(),
                source,
            };
            remove_folder(&unfinished)?;
            std::fs::create_dir_all(&unfinished).map_err(|error| failed("create", error))?;
            encoder.copy_files_to(&unfinished)?;
            sync_all(&unfinished).map_err(|error| failed("sync", error))?;
            std::fs::rename(&unfinished, &target).map_err(|error| failed("rename", error))?;
            sync_folder(&self.folder).map_err(|error| failed("sync", error))?;
            if let Some(parent) = self.folder.parent() {
                sync_folder(parent).map_err(|error| failed("sync", error))?;
            }
        }
        self.remember(encoder);
        Ok(())
    }

    /// The encoder that made a collection's vectors.
    pub fn of(&self, collection: &str, made_by: &MadeBy) -> Result<Encoder> {
        let MadeBy::Encoder { hash, name, settings } = made_by else {
            return Err(Error::NoEncoder {
                collection: collection.to_owned(),
                so: "so it cannot be asked in words: search by vector, or create it with an encoder",
            });
        };
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(encoder) = loaded.get(hash) {
            return Ok(encoder.clone());
        }
        let folder = self.folder.join(hash);
        if !folder.is_dir() {
            return Err(Error::MissingModel {
                collection: collection.to_owned(),
                name: name.clone(),
                path: folder.display().to_string(),
            });
        }
        let encoder = Encoder::from_folder(&folder)?.with_settings((**settings).clone());
        let identity = encoder.identity();
        if identity.hash != *hash {
            return Err(Error::ForeignModel {
                collection: collection.to_owned(),
                stored: crate::schema::describe_encoder(name, hash),
                given: format!(
                    "{} (the copy in {} was changed)",
                    crate::schema::describe_encoder(&identity.name, &identity.hash),
                    folder.display()
                ),
            });
        }
        loaded.insert(hash.clone(), encoder.clone());
        Ok(encoder)
    }

    /// Removes the copies that no collection names any more.
    pub fn remove_unused(&self, snapshot: &stratal_storage::Snapshot) -> Result<()> {
        let failed = |action: &'static str, source| Error::Io {
            action,
            path: self.folder.display().to_string(),
            source,
        };
        let mut used = Vec::new();
        for collection in snapshot.collections() {
            for generation in collection.generations() {
                let schema = crate::schema::Schema::of_generation(collection.name(), generation)?;
                if let MadeBy::Encoder { hash, .. } = schema.made_by {
                    used.push(hash);
                }
            }
        }
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("list", error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| failed("list", error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let hash = name.strip_suffix(".tmp").unwrap_or(&name);
            let is_ours = hash.len() >= 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_ours && !used.contains(&name) {
                std::fs::remove_dir_all(entry.path()).map_err(|error| failed("remove from", error))?;
                self.loaded
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&name);
            }
        }
        Ok(())
    }
}

/// Removes a folder with all in it; one that is not there is removed already.
pub(crate) fn remove_folder(folder: &std::path::Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Io {
            action: "remove",
            path: folder.display().to_string(),
            source,
        }),
        _ => Ok(()),
    }
}

fn sync_all(folder: &std::path::Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            std::fs::File::open(&path)?.sync_all()?;
        }
    }
    sync_folder(folder)
}
