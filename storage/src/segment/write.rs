//! Writing a segment from rows of other parts: what a flush and a compaction do.

use std::path::Path;

use super::documents::*;
use super::file_writer::{FileWriter, NewSection};
use super::frame::{FileKind, Header, ROWS_MAX};
use super::name::SegmentFile;
use super::payload::{self, PayloadCursor, PayloadWriter};
use super::{Segment, VectorsWriter};
use crate::error::{Error, Result};
use crate::id::ID_BYTES_MAX;
use crate::layout::Layout;
use crate::part::{Part, check_row};
use crate::vfs::Vfs;

const COLUMN_BUFFER_BYTES: usize = 64 * 1024;
const BYTES_BUFFER_BYTES: usize = 512 * 1024;
/// The table of ids is sorted in ranges of hashes that hold about this many rows: 12 MiB at a time.
const SORTED_ROWS: u64 = 768 * 1024;

/// What a new segment is to hold.
#[derive(Clone, Copy)]
pub struct SegmentPlan<'a> {
    /// Its number, never used before.
    pub number: u64,
    /// The collection it belongs to.
    pub collection: u64,
    /// The generations to write; every source has them all.
    pub layouts: &'a [Layout],
    /// Parts and which of their rows to take, in the order of the new rows.
    pub sources: &'a [(Part, Vec<u32>)],
}

/// Writes a segment's files, makes them and the folder durable, and opens the segment.
///
/// Memory stays at about 16 MiB beside four bytes a row of the sources. If it fails, it removes what it wrote.
///
/// # Errors
/// [`Error::Invalid`] for rows past the end or named twice, a generation that a source lacks, or files that
/// exist; [`Error::Corrupt`] for a damaged source; the file system's errors.
pub fn write_segment(vfs: &dyn Vfs, folder: &Path, plan: &SegmentPlan<'_>) -> Result<Segment> {
    let written = write_files(vfs, folder, plan)
        .and_then(|()| vfs.sync_folder(folder).map_err(|e| Error::io("sync", folder, e)))
        .and_then(|()| Segment::open(vfs, folder, plan.number, plan.collection, plan.layouts));
    if let Err(e) = &written
        && !matches!(e, Error::Invalid { .. })
    {
        remove_files(vfs, folder, plan);
    }
    written
}

fn write_files(vfs: &dyn Vfs, folder: &Path, plan: &SegmentPlan<'_>) -> Result<()> {
    let new_rows = NewRows::of(plan)?;
    let documents_checksum = write_documents(vfs, folder, plan, &new_rows)?;
    for &layout in plan.layouts {
        let id = (plan.collection, plan.number);
        let mut writer = VectorsWriter::create(
            vfs,
            folder,
            id.0,
            id.1,
            layout,
            new_rows.count,
            documents_checksum,
        )?;
        let mut vectors: Vec<&[u8]> = Vec::with_capacity(layout.layers as usize);
        for (part, row) in rows_of(plan) {
            vectors.clear();
            for layer in 0..layout.layers {
                vectors.push(part.vector(layout.generation, layer, row)?);
            }
            writer.push(vectors.iter().copied())?;
        }
        writer.finish()?;
    }
    Ok(())
}

fn rows_of<'a>(plan: &SegmentPlan<'a>) -> impl Iterator<Item = (&'a Part, u32)> {
    let sources = plan.sources;
    sources
        .iter()
        .flat_map(|(part, rows)| rows.iter().map(move |&row| (part, row)))
}

/// Best effort: what cannot be removed now is removed at the next opening, as no MANIFEST names it.
fn remove_files(vfs: &dyn Vfs, folder: &Path, plan: &SegmentPlan<'_>) {
    let number = plan.number;
    let vectors = plan.layouts.iter().map(|layout| SegmentFile::Vectors {
        number,
        generation: layout.generation,
    });
    for name in std::iter::once(SegmentFile::Documents { number }).chain(vectors) {
        let path = folder.join(name.to_string());
        if vfs.exists(&path).unwrap_or(false) && vfs.remove(&path).is_err() {
            tracing::debug!(path = %path.display(), "a file of a segment that failed stays until the next opening");
        }
    }
}

/// Where each row of the sources goes.
struct NewRows {
    count: u32,
    /// For each source and each of its rows the new row, or [`NewRows::NONE`].
    map: Vec<Vec<u32>>,
}

impl NewRows {
    const NONE: u32 = u32::MAX;

    fn of(plan: &SegmentPlan<'_>) -> Result<NewRows> {
        let count: u64 = plan.sources.iter().map(|(_, rows)| rows.len() as u64).sum();
        if count > ROWS_MAX {
            return Err(Error::Invalid {
                what: format!("a segment holds at most {ROWS_MAX} rows, not {count}"),
            });
        }
        let mut next = 0;
        let mut map = Vec::with_capacity(plan.sources.len());
        for (part, rows) in plan.sources {
            for layout in plan.layouts {
                if !part.layouts().contains(layout) {
                    return Err(Error::Invalid {
                        what: format!("a part lacks the vectors of generation {}", layout.generation),
                    });
                }
            }
            let mut new = vec![NewRows::NONE; part.rows() as usize];
            for &row in rows {
                check_row(row, part.rows())?;
                if new[row as usize] != NewRows::NONE {
                    return Err(Error::Invalid {
                        what: format!("row {row} is named twice for one segment"),
                    });
                }
                new[row as usize] = next;
                next += 1;
            }
            map.push(new);
        }
        Ok(NewRows { count: next, map })
    }
}

fn write_documents(vfs: &dyn Vfs, folder: &Path, plan: &SegmentPlan<'_>, new_rows: &NewRows) -> Result<u64> {
    let number = plan.number;
    let mut file = FileWriter::create(vfs, folder, &SegmentFile::Documents { number }.to_string())?;
    let n = u64::from(new_rows.count);
    let section = |kind, len| NewSection {
        kind,
        layer: 0,
        encoding: 0,
        len,
    };
    let mut docids = file.section(section(KIND_DOCIDS, Some(n * 8)), COLUMN_BUFFER_BYTES);
    let mut versions = file.section(section(KIND_VERSIONS, Some(n * 8)), COLUMN_BUFFER_BYTES);
    let mut hashes = file.section(section(KIND_ID_HASHES, Some(n * 8)), COLUMN_BUFFER_BYTES);
    let mut hash_rows = file.section(section(KIND_ID_HASH_ROWS, Some(n * 4)), COLUMN_BUFFER_BYTES);
    let mut id_offsets = file.section(section(KIND_ID_OFFSETS, Some((n + 1) * 8)), COLUMN_BUFFER_BYTES);
    let payload_rows = file.section(
        section(KIND_PAYLOAD_ROWS, Some(n * payload::ROW_BYTES)),
        COLUMN_BUFFER_BYTES,
    );

    let mut ids = file.section(section(KIND_ID_BYTES, None), BYTES_BUFFER_BYTES);
    let mut id_end = 0u64;
    file.push(&mut id_offsets, &id_end.to_le_bytes())?;
    for (part, row) in rows_of(plan) {
        file.push(&mut docids, &part.docid(row)?.to_le_bytes())?;
        file.push(&mut versions, &part.version(row)?.to_le_bytes())?;
        let id = part.id_bytes(row)?;
        if id.len() > ID_BYTES_MAX + 1 {
            return Err(Error::Invalid {
                what: format!(
                    "an id of {} bytes is over the limit of {ID_BYTES_MAX}",
                    id.len() - 1
                ),
            });
        }
        id_end += id.len() as u64;
        file.push(&mut ids, id)?;
        file.push(&mut id_offsets, &id_end.to_le_bytes())?;
    }
    for section in [docids, versions, id_offsets, ids] {
        file.close(section)?;
    }

    write_hashes(plan, new_rows, |hash, row| {
        file.push(&mut hashes, &hash.to_le_bytes())?;
        file.push(&mut hash_rows, &row.to_le_bytes())
    })?;
    file.close(hashes)?;
    file.close(hash_rows)?;

    let data = file.section(section(KIND_PAYLOAD_DATA, None), BYTES_BUFFER_BYTES);
    let mut payloads = PayloadWriter::new(payload_rows, data);
    let mut cursor = PayloadCursor::default();
    for (part, row) in rows_of(plan) {
        payloads.push(&file, part.payload_with(row, &mut cursor)?)?;
    }
    let block_entries = payloads.finish(&mut file)?;
    let len = Some(block_entries.len() as u64);
    let mut blocks = file.section(section(KIND_PAYLOAD_BLOCKS, len), COLUMN_BUFFER_BYTES);
    file.push(&mut blocks, &block_entries)?;
    file.close(blocks)?;

    file.finish(Header {
        collection: plan.collection,
        number,
        rows: n,
        ..Header::new(FileKind::Documents)
    })
}

/// Gives all `(hash, new row)` in order. The sources' tables are sorted, so that a range of hashes is a run of
/// each: ranges are gathered and sorted one by one, in bounded memory.
fn write_hashes(
    plan: &SegmentPlan<'_>,
    new_rows: &NewRows,
    mut each: impl FnMut(u64, u32) -> Result<()>,
) -> Result<()> {
    let source_rows: u64 = plan.sources.iter().map(|(part, _)| u64::from(part.rows())).sum();
    let ranges = u128::from(source_rows / SORTED_ROWS + 1);
    let mut places = vec![0u32; plan.sources.len()];
    let mut sorted = Vec::new();
    for range in 1..=ranges {
        let last = ((range << 64) / ranges - 1) as u64;
        for (((part, _), map), place) in plan.sources.iter().zip(&new_rows.map).zip(&mut places) {
            while *place < part.rows() {
                let (hash, row) = part.hash_at(*place)?;
                if hash > last {
                    break;
                }
                if let Some(&new) = map.get(row as usize)
                    && new != NewRows::NONE
                {
                    sorted.push((hash, new));
                }
                *place += 1;
            }
        }
        sorted.sort_unstable();
        for (hash, row) in sorted.drain(..) {
            each(hash, row)?;
        }
    }
    Ok(())
}
