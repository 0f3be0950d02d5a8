//! The MANIFEST: what the database is made of at one commit, replaced as a whole.
//!
//! # Byte map
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | magic `STRATMAN` |
//! | 8 | 2 + 2 | format version, major and minor, little-endian |
//! | 12 | 4 | zero |
//! | 16 | 8 | length of the body in bytes |
//! | 24 | 8 | xxh3-64 of the body |
//! | 32 | 8 | xxh3-64 of bytes 0 to 31 |
//! | 40 | length | the body: [`Manifest`] as JSON; fields that are not known are ignored |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::folder::Folder;
use super::record::GenerationSpec;
use crate::error::{Error, Result};
use crate::vfs::Vfs;

const MAGIC: &[u8; 8] = b"STRATMAN";
/// Version 1 had one generation a collection.
const VERSION: (u16, u16) = (2, 0);
const OLDEST_MAJOR: u16 = 1;
const MAJOR_AT: usize = 8;
const MINOR_AT: usize = 10;
const LENGTH_AT: usize = 16;
const BODY_HASH_AT: usize = 24;
const HEADER_HASH_AT: usize = 32;
const BODY_AT: usize = 40;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmentEntry {
    pub number: u64,
    pub rows: u32,
    pub dead: u64,
    /// The sequence in the name of its deletions file, if rows are deleted.
    #[serde(default)]
    pub deletions: Option<u64>,
    /// The generations whose vectors it has; `None` (version 1): all of the collection's.
    #[serde(default)]
    pub generations: Option<Vec<u32>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CollectionEntry {
    pub number: u32,
    pub name: String,
    pub attributes: Value,
    pub generations: Vec<GenerationSpec>,
    /// The generation that answers; `None` (version 1): the first.
    #[serde(default)]
    pub current: Option<u32>,
    /// The number of the next generation; `None` (version 1): one more than the last.
    #[serde(default)]
    pub next_generation: Option<u32>,
    pub segments: Vec<SegmentEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Drawn once when the database is created; tells two databases apart.
    pub database: u64,
    /// The last commit that the segments hold. The log goes on from here.
    pub seq: u64,
    pub next_docid: u64,
    pub next_collection: u32,
    pub next_segment: u64,
    /// The first log file that may hold later commits.
    pub first_log: u64,
    pub collections: Vec<CollectionEntry>,
    pub settings: BTreeMap<String, Value>,
    pub written_by: String,
}

impl Manifest {
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let body = serde_json::to_vec(self).map_err(|error| Error::Invalid {
            what: format!("the manifest cannot be written as JSON: {error}"),
        })?;
        let mut bytes = vec![0u8; BODY_AT];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[MAJOR_AT..MINOR_AT].copy_from_slice(&VERSION.0.to_le_bytes());
        bytes[MINOR_AT..MINOR_AT + 2].copy_from_slice(&VERSION.1.to_le_bytes());
        bytes[LENGTH_AT..BODY_HASH_AT].copy_from_slice(&(body.len() as u64).to_le_bytes());
        bytes[BODY_HASH_AT..HEADER_HASH_AT].copy_from_slice(&xxh3_64(&body).to_le_bytes());
        let header_hash = xxh3_64(&bytes[..HEADER_HASH_AT]);
        bytes[HEADER_HASH_AT..BODY_AT].copy_from_slice(&header_hash.to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    pub fn from_bytes(bytes: &[u8], folder: &Folder) -> Result<Manifest> {
        let path = folder.manifest();
        let u64_at = |at: usize| -> Option<u64> {
            bytes
                .get(at..at + 8)
                .and_then(|field| field.try_into().ok())
                .map(u64::from_le_bytes)
        };
        let u16_at = |at: usize| -> Option<u16> {
            bytes
                .get(at..at + 2)
                .and_then(|field| field.try_into().ok())
                .map(u16::from_le_bytes)
        };
        if bytes.get(..8) != Some(MAGIC) {
            return Err(Error::corrupt(&path, 0, "it does not begin with STRATMAN"));
        }
        let (Some(major), Some(minor), Some(length), Some(body_hash), Some(header_hash)) = (
            u16_at(MAJOR_AT),
            u16_at(MINOR_AT),
            u64_at(LENGTH_AT),
            u64_at(BODY_HASH_AT),
            u64_at(HEADER_HASH_AT),
        ) else {
            return Err(Error::corrupt(
                &path,
                bytes.len() as u64,
                "it ends within its header",
            ));
        };
        if xxh3_64(&bytes[..HEADER_HASH_AT]) != header_hash {
            return Err(Error::corrupt(&path, 0, "the header's checksum is wrong"));
        }
        if !(OLDEST_MAJOR..=VERSION.0).contains(&major) {
            return Err(Error::Version {
                path,
                kind: "manifest",
                found: (major, minor),
                supported: VERSION,
            });
        }
        let body = &bytes[BODY_AT..];
        if body.len() as u64 != length {
            return Err(Error::corrupt(
                &path,
                BODY_AT as u64,
                format!("{length} bytes should follow"),
            ));
        }
        if xxh3_64(body) != body_hash {
            return Err(Error::corrupt(
                &path,
                BODY_AT as u64,
                "the body's checksum is wrong",
            ));
        }
        let manifest: Manifest = serde_json::from_slice(body).map_err(|error| {
            Error::corrupt(&path, BODY_AT as u64, format!("the body cannot be read: {error}"))
        })?;
        for generation in manifest
            .collections
            .iter()
            .flat_map(|collection| &collection.generations)
        {
            generation.layout.check()?;
        }
        Ok(manifest)
    }

    /// Reads the MANIFEST; `None` if there is none.
    pub fn read(vfs: &dyn Vfs, folder: &Folder) -> Result<Option<Manifest>> {
        let path = folder.manifest();
        if !vfs
            .exists(&path)
            .map_err(|error| Error::io("look for", &path, error))?
        {
            return Ok(None);
        }
        let bytes = vfs.read(&path).map_err(|error| Error::io("read", &path, error))?;
        Manifest::from_bytes(&bytes, folder).map(Some)
    }

    /// Replaces the MANIFEST atomically; durable when it returns.
    pub fn write(&self, vfs: &dyn Vfs, folder: &Folder) -> Result<()> {
        let (path, temporary) = (folder.manifest(), folder.manifest_temporary());
        let bytes = self.to_bytes()?;
        if vfs
            .exists(&temporary)
            .map_err(|error| Error::io("look for", &temporary, error))?
        {
            vfs.remove(&temporary)
                .map_err(|error| Error::io("remove", &temporary, error))?;
        }
        let file = vfs
            .create(&temporary)
            .map_err(|error| Error::io("create", &temporary, error))?;
        file.write_at(&bytes, 0)
            .map_err(|error| Error::io("write", &temporary, error))?;
        file.sync_data()
            .map_err(|error| Error::io("sync", &temporary, error))?;
        drop(file);
        vfs.rename(&temporary, &path)
            .map_err(|error| Error::io("replace", &path, error))?;
        vfs.sync_folder(&folder.root)
            .map_err(|error| Error::io("sync", &folder.root, error))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn sample() -> Manifest {
        Manifest {
            database: 1,
            seq: 2,
            next_docid: 3,
            next_collection: 4,
            next_segment: 5,
            first_log: 6,
            collections: vec![],
            settings: BTreeMap::new(),
            written_by: "test".into(),
        }
    }

    #[test]
    fn any_flipped_byte_or_cut_is_told_and_a_newer_version_is_named() {
        let folder = Folder::new(Path::new("db"));
        let bytes = sample().to_bytes().unwrap();
        assert_eq!(Manifest::from_bytes(&bytes, &folder).unwrap(), sample());
        for at in 0..bytes.len() {
            assert!(
                Manifest::from_bytes(&bytes[..at], &folder).is_err(),
                "cut at {at}"
            );
            let mut mangled = bytes.clone();
            mangled[at] ^= 0x10;
            assert!(Manifest::from_bytes(&mangled, &folder).is_err(), "flip at {at}");
        }
        let mut newer = bytes;
        newer[MAJOR_AT] += 1;
        let hash = xxh3_64(&newer[..HEADER_HASH_AT]).to_le_bytes();
        newer[HEADER_HASH_AT..BODY_AT].copy_from_slice(&hash);
        assert!(matches!(
            Manifest::from_bytes(&newer, &folder),
            Err(Error::Version { found: (3, 0), .. })
        ));
    }
}
