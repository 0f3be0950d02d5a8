//! Chunks: rows in memory, as immutable as a segment's and read in the same way.

use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::id::{ID_BYTES_MAX, Id};
use crate::layout::{Layout, ROW_ALIGNMENT};
use crate::part::{PlaneBytes, check_layer, check_row, unknown_generation};
use crate::segment::{PAYLOAD_BYTES_MAX, ROWS_MAX};

/// Where [`Chunk::merge`] sends rows that it drops.
pub const ROW_DROPPED: u32 = u32::MAX;

/// One row to build a chunk from.
#[derive(Clone, Debug)]
pub struct ChunkRow<'a> {
    /// The document's number, given once and never again.
    pub docid: u64,
    /// The commit that writes it.
    pub version: u64,
    /// Its external id.
    pub id: &'a Id,
    /// What the engine keeps of it beside vectors.
    pub payload: Arc<[u8]>,
    /// For each layout `m` layer vectors, layer 0 first, without padding: `document_bytes` bytes.
    pub vectors: Vec<&'a [u8]>,
}

/// Rows in memory.
#[derive(Debug)]
pub struct Chunk {
    layouts: Arc<[Layout]>,
    docids: Vec<u64>,
    versions: Vec<u64>,
    /// Ascending pairs of hash and row.
    hashes: Vec<(u64, u32)>,
    id_ends: Vec<usize>,
    id_bytes: Vec<u8>,
    payloads: Vec<Arc<[u8]>>,
    payload_bytes: usize,
    /// For each layout its planes `[m, n, stride]`.
    planes: Vec<Lines>,
}

/// Bytes that start at a multiple of 64, as rows of planes do in files.
#[derive(Debug, Default)]
struct Lines(Vec<Line>);

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; ROW_ALIGNMENT]);

// SAFETY: an array of bytes may be all zero, and `Line` is one.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: `Line` is a `repr(C)` struct of one byte array whose length is its alignment, so that it has no
// padding and every pattern of bits is one of its values.
unsafe impl bytemuck::Pod for Line {}

impl Lines {
    fn with_capacity(bytes: usize) -> Lines {
        Lines(Vec::with_capacity(bytes.div_ceil(ROW_ALIGNMENT)))
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    /// Adds a vector and zeros up to the next line.
    fn push(&mut self, vector: &[u8]) {
        let (lines, rest) = vector.as_chunks();
        self.0.extend(lines.iter().map(|&line| Line(line)));
        if !rest.is_empty() {
            let mut line = [0; ROW_ALIGNMENT];
            line[..rest.len()].copy_from_slice(rest);
            self.0.push(Line(line));
        }
    }
}

impl Chunk {
    /// Builds a chunk; its rows keep their order.
    ///
    /// # Errors
    /// [`Error::Invalid`] for vectors of another shape than the layouts say, and for ids, payloads or numbers
    /// of rows past their limits.
    pub fn from_rows(layouts: &Arc<[Layout]>, rows: &[ChunkRow<'_>]) -> Result<Chunk> {
        check_row_count(rows.len())?;
        let mut chunk = Chunk::with_capacity(layouts, rows.len());
        for (number, row) in rows.iter().enumerate() {
            check_shape(layouts, row)?;
            chunk.docids.push(row.docid);
            chunk.versions.push(row.version);
            chunk.hashes.push((row.id.hash64(), number as u32));
            row.id.append_to(&mut chunk.id_bytes);
            chunk.id_ends.push(chunk.id_bytes.len());
            chunk.payload_bytes += row.payload.len();
            chunk.payloads.push(row.payload.clone());
        }
        chunk.hashes.sort_unstable();
        for (index, layout) in layouts.iter().enumerate() {
            let vector_bytes = layout.vector_bytes();
            for layer in 0..layout.layers as usize {
                for row in rows {
                    chunk.planes[index].push(&row.vectors[index][layer * vector_bytes..][..vector_bytes]);
                }
            }
        }
        Ok(chunk)
    }

    fn with_capacity(layouts: &Arc<[Layout]>, rows: usize) -> Chunk {
        let plane_bytes = |layout: &Layout| layout.layers as usize * rows * layout.stride();
        Chunk {
            layouts: layouts.clone(),
            docids: Vec::with_capacity(rows),
            versions: Vec::with_capacity(rows),
            hashes: Vec::with_capacity(rows),
            id_ends: Vec::with_capacity(rows),
            id_bytes: Vec::new(),
            payloads: Vec::with_capacity(rows),
            payload_bytes: 0,
            planes: layouts
                .iter()
                .map(|layout| Lines::with_capacity(plane_bytes(layout)))
                .collect(),
        }
    }

    /// Joins chunks of the same layouts in their order, leaving out dead rows. Gives, for each chunk and each
    /// of its rows, the row in the joined chunk or [`ROW_DROPPED`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if the layouts differ or there would be too many rows.
    pub fn merge(chunks: &[(&Chunk, &RoaringBitmap)]) -> Result<(Chunk, Vec<Vec<u32>>)> {
        let layouts = chunks
            .first()
            .map_or_else(|| Arc::from([]), |(chunk, _)| chunk.layouts.clone());
        if chunks.iter().any(|(chunk, _)| chunk.layouts != layouts) {
            return Err(Error::Invalid {
                what: "chunks of different generations cannot be joined".to_owned(),
            });
        }
        let mut maps = Vec::with_capacity(chunks.len());
        let mut runs = Vec::with_capacity(chunks.len());
        let mut count = 0usize;
        for (chunk, dead) in chunks {
            let alive = alive_runs(chunk.rows(), dead);
            let mut map = vec![ROW_DROPPED; chunk.rows() as usize];
            for run in &alive {
                for row in run.clone() {
                    map[row] = count as u32;
                    count += 1;
                }
            }
            check_row_count(count)?;
            maps.push(map);
            runs.push(alive);
        }
        let mut merged = Chunk::with_capacity(&layouts, count);
        for ((chunk, _), (runs, map)) in chunks.iter().zip(runs.iter().zip(&maps)) {
            let new = |&(hash, row): &(u64, u32)| {
                (map[row as usize] != ROW_DROPPED).then(|| (hash, map[row as usize]))
            };
            merged.hashes.extend(chunk.hashes.iter().filter_map(new));
            for run in runs {
                merged.push_run(chunk, run.clone());
            }
        }
        // A stable sort, as it joins the runs that are sorted already.
        merged.hashes.sort();
        for (index, layout) in layouts.iter().enumerate() {
            let lines = layout.stride() / ROW_ALIGNMENT;
            for layer in 0..layout.layers as usize {
                for ((chunk, _), runs) in chunks.iter().zip(&runs) {
                    let first = layer * chunk.docids.len();
                    for run in runs {
                        let rows = (first + run.start) * lines..(first + run.end) * lines;
                        merged.planes[index]
                            .0
                            .extend_from_slice(&chunk.planes[index].0[rows]);
                    }
                }
            }
        }
        Ok((merged, maps))
    }

    /// Adds all of a run of another chunk's rows but hashes and planes.
    fn push_run(&mut self, other: &Chunk, run: Range<usize>) {
        self.docids.extend_from_slice(&other.docids[run.clone()]);
        self.versions.extend_from_slice(&other.versions[run.clone()]);
        let start = other.id_start(run.start);
        let end = other.id_start(run.end);
        let base = self.id_bytes.len();
        self.id_bytes.extend_from_slice(&other.id_bytes[start..end]);
        let ends = other.id_ends[run.clone()].iter();
        self.id_ends.extend(ends.map(|end| base + end - start));
        for payload in &other.payloads[run] {
            self.payload_bytes += payload.len();
            self.payloads.push(payload.clone());
        }
    }

    fn id_start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.id_ends[before])
    }

    /// The number of rows.
    pub fn rows(&self) -> u32 {
        self.docids.len() as u32
    }

    /// The generations whose vectors every row has.
    pub fn layouts(&self) -> &[Layout] {
        &self.layouts
    }

    /// Bytes of memory. A payload that other chunks hold too is counted in each.
    pub fn memory_bytes(&self) -> usize {
        let planes: usize = self
            .planes
            .iter()
            .map(|lines| lines.0.capacity() * ROW_ALIGNMENT)
            .sum();
        let fixed =
            size_of::<u64>() * 2 + size_of::<(u64, u32)>() + size_of::<usize>() + size_of::<Arc<[u8]>>();
        planes
            + fixed * self.docids.capacity()
            + self.id_bytes.capacity()
            + self.payload_bytes
            + size_of::<Chunk>()
    }

    /// The docid of a row.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a row past the end; so for all below.
    pub fn docid(&self, row: u32) -> Result<u64> {
        self.check_row(row).map(|row| self.docids[row])
    }

    /// The commit that wrote a row.
    ///
    /// # Errors
    /// As [`Chunk::docid`].
    pub fn version(&self, row: u32) -> Result<u64> {
        self.check_row(row).map(|row| self.versions[row])
    }

    /// The external id of a row.
    ///
    /// # Errors
    /// As [`Chunk::docid`].
    pub fn id(&self, row: u32) -> Result<Id> {
        Id::from_bytes(self.id_bytes(row)?).ok_or_else(|| Error::Invalid {
            what: format!("row {row} in memory has no id"),
        })
    }

    pub(crate) fn id_bytes(&self, row: u32) -> Result<&[u8]> {
        let row = self.check_row(row)?;
        Ok(&self.id_bytes[self.id_start(row)..self.id_ends[row]])
    }

    /// All rows with an id, in ascending order; `hash` is the id's [`Id::hash64`].
    pub fn find_hashed(&self, hash: u64, id: &Id) -> Vec<u32> {
        let first = self.first_not_below(hash);
        let same = self.hashes[first..]
            .iter()
            .take_while(|&&(other, _)| other == hash);
        let mut same = same.peekable();
        if same.peek().is_none() {
            return Vec::new();
        }
        let bytes = id.to_bytes();
        let equal = |&row: &u32| self.id_bytes(row).is_ok_and(|other| other == bytes);
        same.map(|&(_, row)| row).filter(equal).collect()
    }

    /// The first place whose hash is not below `hash`. Hashes are spread evenly, so the place is guessed and
    /// looked for around the guess.
    fn first_not_below(&self, hash: u64) -> usize {
        let rows = self.hashes.len();
        let guess = ((u128::from(hash) * rows as u128) >> 64) as usize;
        let is_below = |place: usize| self.hashes[place].0 < hash;
        let (mut low, mut high) = (0, rows);
        let mut reach = 8;
        if guess < rows && is_below(guess) {
            low = guess + 1;
            while low + reach < rows && is_below(low + reach) {
                low += reach + 1;
                reach *= 2;
            }
            high = rows.min(low + reach);
        } else if guess > 0 {
            high = guess;
            while high > reach && !is_below(high - reach) {
                high -= reach;
                reach *= 2;
            }
            low = high.saturating_sub(reach);
        }
        low + self.hashes[low..high].partition_point(|&(other, _)| other < hash)
    }

    pub(crate) fn hash_at(&self, place: u32) -> Result<(u64, u32)> {
        self.check_row(place).map(|place| self.hashes[place])
    }

    /// The payload of a row.
    ///
    /// # Errors
    /// As [`Chunk::docid`].
    pub fn payload(&self, row: u32) -> Result<&[u8]> {
        self.check_row(row).map(|row| &*self.payloads[row])
    }

    /// The payload of a row, shared rather than copied.
    ///
    /// # Errors
    /// As [`Chunk::docid`].
    pub fn shared_payload(&self, row: u32) -> Result<Arc<[u8]>> {
        self.check_row(row).map(|row| self.payloads[row].clone())
    }

    /// A range of rows of a plane.
    ///
    /// # Errors
    /// As [`Chunk::docid`]; [`Error::Invalid`] for an unknown generation or layer too.
    pub fn plane(&self, generation: u32, layer: u32, rows: Range<u32>) -> Result<PlaneBytes<'_>> {
        let (layout, bytes) = self.plane_bytes(generation, layer)?;
        let rows = match rows.start < rows.end {
            true => rows,
            false => 0..0,
        };
        if rows.end > 0 {
            self.check_row(rows.end - 1)?;
        }
        let stride = layout.stride();
        Ok(PlaneBytes {
            bytes: &bytes[rows.start as usize * stride..rows.end as usize * stride],
            stride,
            rows: rows.end - rows.start,
        })
    }

    /// One layer vector, without its padding.
    ///
    /// # Errors
    /// As [`Chunk::plane`].
    pub fn vector(&self, generation: u32, layer: u32, row: u32) -> Result<&[u8]> {
        let (layout, bytes) = self.plane_bytes(generation, layer)?;
        let row = self.check_row(row)?;
        Ok(&bytes[row * layout.stride()..][..layout.vector_bytes()])
    }

    fn plane_bytes(&self, generation: u32, layer: u32) -> Result<(&Layout, &[u8])> {
        let Some(index) = self
            .layouts
            .iter()
            .position(|layout| layout.generation == generation)
        else {
            return Err(unknown_generation(generation));
        };
        let layout = &self.layouts[index];
        check_layer(layer, layout)?;
        let plane_bytes = self.docids.len() * layout.stride();
        Ok((
            layout,
            &self.planes[index].bytes()[layer as usize * plane_bytes..][..plane_bytes],
        ))
    }

    fn check_row(&self, row: u32) -> Result<usize> {
        check_row(row, self.rows()).map(|()| row as usize)
    }
}

/// The runs of rows that are not dead.
fn alive_runs(rows: u32, dead: &RoaringBitmap) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for dead_row in dead.iter().take_while(|&row| row < rows) {
        if start < dead_row {
            runs.push(start as usize..dead_row as usize);
        }
        start = dead_row + 1;
    }
    if start < rows {
        runs.push(start as usize..rows as usize);
    }
    runs
}

fn check_row_count(rows: usize) -> Result<()> {
    match rows as u64 <= ROWS_MAX {
        true => Ok(()),
        false => Err(Error::Invalid {
            what: format!("a part holds at most {ROWS_MAX} rows, not {rows}"),
        }),
    }
}

fn check_shape(layouts: &[Layout], row: &ChunkRow<'_>) -> Result<()> {
    let invalid = |what| Err(Error::Invalid { what });
    if row.vectors.len() != layouts.len() {
        return invalid(format!(
            "the document {} comes with vectors of {} generations, and there are {}",
            row.id,
            row.vectors.len(),
            layouts.len()
        ));
    }
    for (layout, vectors) in layouts.iter().zip(&row.vectors) {
        if vectors.len() != layout.document_bytes() {
            return invalid(format!(
                "the document {} has {} bytes of vectors of generation {}, and {} make {} layers of dimension {}",
                row.id,
                vectors.len(),
                layout.generation,
                layout.document_bytes(),
                layout.layers,
                layout.dimension
            ));
        }
    }
    if matches!(row.id, Id::Text(text) if text.len() > ID_BYTES_MAX) {
        return invalid(format!("an id is over the limit of {ID_BYTES_MAX} bytes"));
    }
    if row.payload.len() > PAYLOAD_BYTES_MAX {
        return invalid(format!(
            "the payload of the document {} has {} bytes, over the limit of {PAYLOAD_BYTES_MAX}",
            row.id,
            row.payload.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
