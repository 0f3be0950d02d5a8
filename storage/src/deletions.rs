//! Deletions on disk: which rows of a segment are dead as of a commit.
//!
//! One small file a segment and checkpoint, little-endian:
//!
//! ```text
//!  0  8  magic "STRATDEL"
//!  8  2  format version, major: a greater one is refused
//! 10  2  format version, minor: a greater one is read
//! 12  4  zero
//! 16  8  collection
//! 24  8  segment number
//! 32  8  sequence: the last commit whose deletions are in it
//! 40  8  rows of the segment
//! 48  8  length of the bitmap in bytes
//! 56  8  xxh3-64 of the bitmap
//! 64  8  xxh3-64 of bytes 0 .. 64
//! 72 ..  roaring bitmap in its portable format, to the end of the file
//! ```

use std::path::Path;

use roaring::RoaringBitmap;

use crate::checksum::checksum;
use crate::error::{Error, Result};
use crate::segment::{SegmentFile, UNFINISHED, u32_at, u64_at};
use crate::vfs::Vfs;

const VERSION: (u16, u16) = (1, 0);
const MAGIC: &[u8; 8] = b"STRATDEL";
const VERSION_OFFSET: usize = MAGIC.len();
const COLLECTION_OFFSET: usize = VERSION_OFFSET + 8;
const NUMBER_OFFSET: usize = COLLECTION_OFFSET + 8;
const SEQUENCE_OFFSET: usize = NUMBER_OFFSET + 8;
const ROWS_OFFSET: usize = SEQUENCE_OFFSET + 8;
const BITMAP_BYTES_OFFSET: usize = ROWS_OFFSET + 8;
const BITMAP_CHECKSUM_OFFSET: usize = BITMAP_BYTES_OFFSET + 8;
const HEADER_CHECKSUM_OFFSET: usize = BITMAP_CHECKSUM_OFFSET + 8;
const BITMAP_OFFSET: usize = HEADER_CHECKSUM_OFFSET + 8;

/// Whose deletions, and as of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionsOf {
    /// The collection.
    pub collection: u64,
    /// The segment's number.
    pub segment: u64,
    /// The segment's rows.
    pub rows: u32,
    /// The last commit whose deletions are in it.
    pub sequence: u64,
}

impl DeletionsOf {
    fn file(&self) -> SegmentFile {
        SegmentFile::Deletions {
            number: self.segment,
            sequence: self.sequence,
        }
    }

    fn fields(&self) -> [u64; 4] {
        [self.collection, self.segment, self.sequence, self.rows.into()]
    }
}

/// Writes a segment's deletions to a temporary name, syncs and renames it. The folder is the caller's to sync,
/// once for many. A file that an unfinished checkpoint left under the name is replaced.
///
/// # Errors
/// [`Error::Invalid`] for a dead row past the end; the file system's errors.
pub fn write_deletions(vfs: &dyn Vfs, folder: &Path, of: &DeletionsOf, dead: &RoaringBitmap) -> Result<()> {
    if dead.max().is_some_and(|row| row >= of.rows) {
        return Err(Error::Invalid {
            what: format!(
                "a deleted row is past the {} rows of segment {}",
                of.rows, of.segment
            ),
        });
    }
    let mut bitmap = Vec::with_capacity(dead.serialized_size());
    let path = folder.join(of.file().to_string());
    let unfinished = folder.join(format!("{}{UNFINISHED}", of.file()));
    dead.serialize_into(&mut bitmap)
        .map_err(|e| Error::io("write", &path, e))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.0.to_le_bytes());
    bytes.extend_from_slice(&VERSION.1.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for field in of
        .fields()
        .into_iter()
        .chain([bitmap.len() as u64, checksum(&bitmap)])
    {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
    bytes.extend_from_slice(&bitmap);

    if vfs
        .exists(&unfinished)
        .map_err(|e| Error::io("look for", &unfinished, e))?
    {
        vfs.remove(&unfinished)
            .map_err(|e| Error::io("remove", &unfinished, e))?;
    }
    let file = vfs
        .create(&unfinished)
        .map_err(|e| Error::io("create", &unfinished, e))?;
    let written = file
        .write_at(&bytes, 0)
        .map_err(|e| Error::io("write", &unfinished, e))
        .and_then(|()| file.sync_data().map_err(|e| Error::io("sync", &unfinished, e)))
        .and_then(|()| {
            vfs.rename(&unfinished, &path)
                .map_err(|e| Error::io("rename", &unfinished, e))
        });
    if written.is_err() && vfs.remove(&unfinished).is_err() {
        tracing::debug!(path = %unfinished.display(), "an unfinished file stays until the next opening");
    }
    written
}

/// Reads what [`write_deletions`] wrote.
///
/// # Errors
/// [`Error::Corrupt`] for a damaged file or another segment's, [`Error::Version`] for one of a newer build,
/// the file system's errors for a missing one.
pub fn read_deletions(vfs: &dyn Vfs, folder: &Path, of: &DeletionsOf) -> Result<RoaringBitmap> {
    let path = folder.join(of.file().to_string());
    let bytes = vfs.read(&path).map_err(|e| Error::io("read", &path, e))?;
    decode(&path, &bytes, of)
}

fn decode(path: &Path, bytes: &[u8], of: &DeletionsOf) -> Result<RoaringBitmap> {
    let corrupt = |offset: usize, what: String| Err(Error::corrupt(path, offset as u64, what));
    if !bytes.starts_with(MAGIC) || bytes.len() < BITMAP_OFFSET {
        return corrupt(0, "it does not begin as a deletions file does".to_owned());
    }
    check_version(path, bytes)?;
    if checksum(&bytes[..HEADER_CHECKSUM_OFFSET]) != u64_at(bytes, HEADER_CHECKSUM_OFFSET) {
        return corrupt(0, "the header's checksum does not match".to_owned());
    }
    let fields =
        [COLLECTION_OFFSET, NUMBER_OFFSET, SEQUENCE_OFFSET, ROWS_OFFSET].map(|offset| u64_at(bytes, offset));
    if fields != of.fields() {
        let what = format!(
            "its (collection, segment, sequence, rows) are {fields:?}, not {:?}",
            of.fields()
        );
        return corrupt(COLLECTION_OFFSET, what);
    }
    let bitmap = &bytes[BITMAP_OFFSET..];
    if u64_at(bytes, BITMAP_BYTES_OFFSET) != bitmap.len() as u64 {
        return corrupt(
            BITMAP_BYTES_OFFSET,
            format!("{} bytes of bitmap are there", bitmap.len()),
        );
    }
    if checksum(bitmap) != u64_at(bytes, BITMAP_CHECKSUM_OFFSET) {
        return corrupt(BITMAP_OFFSET, "the bitmap's checksum does not match".to_owned());
    }
    match RoaringBitmap::deserialize_from(bitmap) {
        Ok(dead) if dead.max().is_some_and(|row| row >= of.rows) => corrupt(
            BITMAP_OFFSET,
            format!("a deleted row is past the {} rows", of.rows),
        ),
        Ok(dead) => Ok(dead),
        Err(e) => corrupt(BITMAP_OFFSET, format!("the bitmap cannot be read: {e}")),
    }
}

/// Refuses a deletions file of another major version; a file that is none of ours, or too short to say, passes.
pub(crate) fn check_version(path: &Path, head: &[u8]) -> Result<()> {
    let halves = u32_at(head, VERSION_OFFSET);
    let found = ((halves & 0xffff) as u16, (halves >> 16) as u16);
    if !head.starts_with(MAGIC) || head.len() < VERSION_OFFSET + 4 || found.0 == VERSION.0 {
        return Ok(());
    }
    Err(Error::Version {
        path: path.to_owned(),
        kind: "deletions",
        found,
        supported: VERSION,
    })
}
