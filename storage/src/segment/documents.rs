//! The documents file of a segment: docids, versions, ids and payloads of its rows.
//!
//! The frame is described in `frame.rs`. Sections, `n` rows:
//!
//! ```text
//! kind  1  docids          u64 a row
//!       2  versions        u64 a row: the commit that wrote it
//!       3  id hashes       u64 a row: xxh3-64 of the id's bytes, ascending, equal ones by row
//!       4  id hash rows    u32 a row: the row of the hash at the same place in section 3
//!       5  id offsets      u64 a row and one more: where the id's bytes start in section 6
//!       6  id bytes        a tag (0 number, 1 text), then 8 bytes little-endian or UTF-8
//!       7  payload rows    12 bytes a row  ┐
//!       8  payload blocks  24 bytes a block├ see `payload.rs`
//!       9  payload data    the blocks      ┘
//! ```

use std::ops::Range;
use std::path::Path;

use super::frame::{FileKind, u64_at};
use super::mapped::{MappedFile, Section};
use super::payload::{self, PayloadCursor, Payloads};
use crate::error::Result;
use crate::id::Id;
use crate::vfs::Vfs;

pub(super) const KIND_DOCIDS: u32 = 1;
pub(super) const KIND_VERSIONS: u32 = 2;
pub(super) const KIND_ID_HASHES: u32 = 3;
pub(super) const KIND_ID_HASH_ROWS: u32 = 4;
pub(super) const KIND_ID_OFFSETS: u32 = 5;
pub(super) const KIND_ID_BYTES: u32 = 6;
pub(super) const KIND_PAYLOAD_ROWS: u32 = 7;
pub(super) const KIND_PAYLOAD_BLOCKS: u32 = 8;
pub(super) const KIND_PAYLOAD_DATA: u32 = 9;

/// Rows of which ids are read together: what is read of them stays in the nearest cache.
const TOGETHER: usize = 128;

/// A documents file, open. Rows given to it are below [`Documents::rows`].
pub(super) struct Documents {
    pub(super) file: MappedFile,
    rows: u32,
    docids: Section,
    versions: Section,
    hashes: Section,
    hash_rows: Section,
    id_offsets: Section,
    id_bytes: Section,
    payloads: Payloads,
}

impl Documents {
    pub(super) fn open(vfs: &dyn Vfs, path: &Path, collection: u64, number: u64) -> Result<Documents> {
        let file = MappedFile::open(vfs, path, FileKind::Documents, collection, number)?;
        let n = file.header().rows;
        let column = |kind, bytes: u64| file.section(kind, 0, 0, Some(n * bytes));
        let free = |kind| file.section(kind, 0, 0, None);
        Ok(Documents {
            rows: n as u32,
            docids: column(KIND_DOCIDS, 8)?,
            versions: column(KIND_VERSIONS, 8)?,
            hashes: column(KIND_ID_HASHES, 8)?,
            hash_rows: column(KIND_ID_HASH_ROWS, 4)?,
            id_offsets: file.section(KIND_ID_OFFSETS, 0, 0, Some((n + 1) * 8))?,
            id_bytes: free(KIND_ID_BYTES)?,
            payloads: Payloads {
                rows: column(KIND_PAYLOAD_ROWS, payload::ROW_BYTES)?,
                blocks: free(KIND_PAYLOAD_BLOCKS)?,
                data: free(KIND_PAYLOAD_DATA)?,
            },
            file,
        })
    }

    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    pub(super) fn docid(&self, row: u32) -> Result<u64> {
        self.file.read_u64(&self.docids, row.into())
    }

    pub(super) fn version(&self, row: u32) -> Result<u64> {
        self.file.read_u64(&self.versions, row.into())
    }

    pub(super) fn id_bytes(&self, row: u32) -> Result<&[u8]> {
        self.file.read(&self.id_bytes, self.id_place(row)?)
    }

    fn id_place(&self, row: u32) -> Result<Range<u64>> {
        let from = u64::from(row) * 8;
        let both = self.file.read(&self.id_offsets, from..from + 16)?;
        Ok(u64_at(both, 0)..u64_at(both, 8))
    }

    pub(super) fn id(&self, row: u32) -> Result<Id> {
        self.as_id(row, self.id_bytes(row)?)
    }

    /// Several ids and versions. What is read of all rows is read together before anything is made of it, so that a
    /// processor waits for many lines of memory at a time and not for one after the other.
    pub(super) fn ids_and_versions(&self, rows: &[u32]) -> Result<Vec<(Id, u64)>> {
        let mut all = Vec::with_capacity(rows.len());
        let mut places = Vec::with_capacity(rows.len().min(TOGETHER));
        for rows in rows.chunks(TOGETHER) {
            for section in [&self.id_offsets, &self.versions] {
                self.file
                    .touch(section, rows.iter().map(|&row| u64::from(row) * 8));
            }
            // Not collected as results, which does not know how many come.
            places.clear();
            for &row in rows {
                places.push(self.id_place(row)?);
            }
            self.file
                .touch(&self.id_bytes, places.iter().map(|place| place.start));
            for (&row, place) in rows.iter().zip(&places) {
                let id = self.as_id(row, self.file.read(&self.id_bytes, place.clone())?)?;
                all.push((id, self.version(row)?));
            }
        }
        Ok(all)
    }

    fn as_id(&self, row: u32, bytes: &[u8]) -> Result<Id> {
        Id::from_bytes(bytes).ok_or_else(|| self.damaged_id(row, "is not an id"))
    }

    pub(super) fn damaged_id(&self, row: u32, what: &str) -> crate::Error {
        self.file.damage(
            &self.id_offsets,
            u64::from(row) * 8,
            format!("the id of row {row} {what}"),
        )
    }

    pub(super) fn payload<'a>(&'a self, row: u32, cursor: &'a mut PayloadCursor) -> Result<&'a [u8]> {
        self.payloads.read(&self.file, row, cursor)
    }

    /// The hash and the row at a place of the table of ids.
    pub(super) fn hash_at(&self, place: u32) -> Result<(u64, u32)> {
        let hash = self.file.read_u64(&self.hashes, place.into())?;
        let at = u64::from(place) * 4;
        let row = super::frame::u32_at(self.file.read(&self.hash_rows, at..at + 4)?, 0);
        if row >= self.rows {
            let what = format!("the table of ids names row {row} of {} rows", self.rows);
            return Err(self.file.damage(&self.hash_rows, at, what));
        }
        Ok((hash, row))
    }

    /// The first place of the table of ids whose hash is not below `hash`.
    ///
    /// Hashes are spread evenly, so that a hash stands near `hash / 2^64` of the way. The search brackets it
    /// from there before it bisects: two or three pages are touched where bisection alone touches seven.
    pub(super) fn first_not_below(&self, hash: u64) -> Result<u32> {
        let n = u64::from(self.rows);
        let below = |place: u64| Ok::<bool, crate::Error>(self.file.read_u64(&self.hashes, place)? < hash);
        let guess = ((u128::from(hash) * u128::from(n)) >> 64) as u64;
        let mut step = n.isqrt().max(1);
        let (mut low, mut high) = (guess.saturating_sub(step), (guess + step).min(n));
        while low > 0 && !below(low - 1)? {
            high = low;
            step *= 4;
            low = low.saturating_sub(step);
        }
        while high < n && below(high)? {
            low = high + 1;
            step *= 4;
            high = high.saturating_add(step).min(n);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match below(middle)? {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low as u32)
    }

    /// All rows with the id, in ascending order.
    pub(super) fn find_all(&self, hash: u64, id: &[u8]) -> Result<Vec<u32>> {
        let mut rows = Vec::new();
        for place in self.first_not_below(hash)?..self.rows {
            let (found, row) = self.hash_at(place)?;
            if found != hash {
                break;
            }
            if self.id_bytes(row)? == id {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}
