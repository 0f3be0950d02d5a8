//! One thread's part of a search: blocks of rows, filtered in f32, scored in f64 where that matters.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use super::best::Best;
use super::coded::Coded;
use super::counters::Tally;
use super::panels::Panels;
use super::scorer::Scorer;
use crate::Plane;
use crate::bound::{self, Gate};
use crate::codes::GROUP;
use crate::dispatch::{BLOCK_ROWS, Kernels, Tile, prefetch};

/// A search, shared by its threads.
pub(super) struct Scan<'a> {
    pub planes: &'a [Plane<'a>],
    pub rows: usize,
    pub queries: &'a [f32],
    pub dimension: usize,
    pub kernels: &'static Kernels,
    pub live: Option<&'a [u64]>,
    /// How many rows are live.
    pub live_rows: usize,
    pub check: Option<&'a (dyn Fn(Range<u32>) -> bool + Sync)>,
    pub panels: Panels,
    pub coded: Option<Coded<'a>>,
    pub best: Best<'a>,
    /// The number of the next chunk that nobody has claimed.
    pub next: AtomicUsize,
}

/// Bytes that a thread claims at once: small enough to share the end of a search evenly, large
/// enough that claiming costs nothing.
const CHUNK_BYTES: usize = 1 << 20;

/// Rows so near to each other are checked together.
const NEAR: u32 = 16;

/// Chunks are whole blocks of rows and whole groups of codes.
const CHUNK_UNIT: usize = 384;
const _: () = assert!(CHUNK_UNIT.is_multiple_of(BLOCK_ROWS) && CHUNK_UNIT.is_multiple_of(GROUP));

/// How many times longer chunks are where few rows are live. Should these lie close together, one thread has so much
/// more to do than the others.
const THINNESS_MAX: usize = 64;

/// Floats of widened rows that are kept hot at once, with one query panel beside them.
const SCRATCH: usize = 1 << 16;

/// Floats between widened rows beyond their length, so that rows of 4 KiB do not fall on the same
/// lines of the cache.
const SKEW: usize = 16;

/// How far ahead of the row at hand rows are prefetched.
const PREFETCH_BYTES: usize = 4096;

impl Scan<'_> {
    pub fn chunk_rows(&self) -> usize {
        let row: usize = match &self.coded {
            None => self.planes.iter().map(Plane::stride).sum(),
            Some(coded) => coded.row_bytes(),
        };
        let rows = (CHUNK_BYTES / row.max(1)).clamp(CHUNK_UNIT, 16 * CHUNK_UNIT);
        // Of dead rows nothing is read, so a chunk may span more of them.
        let thinness = (self.rows / self.live_rows.max(1)).clamp(1, THINNESS_MAX);
        rows / CHUNK_UNIT * CHUNK_UNIT * thinness
    }

    pub fn chunks(&self) -> usize {
        self.rows.div_ceil(self.chunk_rows())
    }

    /// Claims chunks until none is left.
    pub fn run(&self) -> Tally {
        let mut worker = Worker::new(self);
        let mut patience = Patience::default();
        let coded = self.coded.as_ref();
        let mut buffers = coded.map(|coded| coded.buffers(&worker.scorer));
        while let Some(chunk) = self.claim() {
            match (coded, &mut buffers) {
                (Some(coded), Some(buffers)) if patience.tries() => {
                    let before = worker.scorer.tally.scored;
                    coded.chunk(&mut worker.scorer, chunk.clone(), buffers);
                    let scored = worker.scorer.tally.scored - before;
                    patience.saw(scored, chunk.len() * self.panels.margins.len());
                }
                _ => worker.chunk(chunk),
            }
        }
        worker.scorer.tally
    }

    /// Whether the vectors of these rows can be read.
    pub fn may_read(&self, rows: Range<u32>) -> bool {
        self.check.is_none_or(|check| check(rows))
    }

    pub fn query(&self, query: usize) -> &[f32] {
        &self.queries[query * self.dimension..][..self.dimension]
    }
}

/// Where data defeats the bound of the codes, most of a chunk needs its f64 scores, and going through
/// f32 is quicker. So after such a chunk the codes are left alone for a while, longer each time.
#[derive(Default)]
struct Patience {
    skip: u32,
    last: u32,
}

impl Patience {
    fn tries(&mut self) -> bool {
        let tries = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        tries
    }

    fn saw(&mut self, scored: u64, of: usize) {
        self.last = if scored > of as u64 / 8 {
            (2 * self.last).clamp(1, 16)
        } else {
            0
        };
        self.skip = self.last;
    }
}

/// What one thread works with; all of it is allocated once.
struct Worker<'s, 'a> {
    scan: &'s Scan<'a>,
    scorer: Scorer<'s, 'a>,
    /// Rows in a block, at most [`BLOCK_ROWS`].
    block: usize,
    /// The live rows of the block.
    listed: Vec<u32>,
    /// `[q rounded up to panels]`.
    gates: Gates,
    /// `[block, stride]` widened rows, and an upper bound of each row's length.
    widened: Vec<f32>,
    stride: usize,
    lengths: Vec<f32>,
}

/// [`Gate`]s of all queries, as the tile kernels read them.
struct Gates {
    low: Vec<f32>,
    guard: Vec<f32>,
}

impl Gates {
    fn set(&mut self, query: usize, gate: Gate) {
        self.low[query] = gate.low;
        self.guard[query] = gate.guard;
    }
}

impl<'s, 'a> Worker<'s, 'a> {
    fn new(scan: &'s Scan<'a>) -> Self {
        let stride = scan.dimension.next_multiple_of(16) + SKEW;
        let tile_rows = scan.kernels.tile_rows;
        let fitting = SCRATCH / stride / tile_rows * tile_rows;
        let block = fitting.clamp(tile_rows, BLOCK_ROWS);
        let batch = scan.panels.is_batch();
        let padded = scan.best.queries().next_multiple_of(scan.kernels.width);
        Worker {
            block,
            listed: Vec::with_capacity(block),
            gates: Gates {
                low: vec![f32::MAX; padded],
                guard: vec![0.0; padded],
            },
            widened: vec![0.0; if batch { block * stride } else { 0 }],
            stride,
            lengths: vec![0.0; block],
            scorer: Scorer::new(scan),
            scan,
        }
    }

    fn chunk(&mut self, chunk: Range<usize>) {
        let mut start = chunk.start;
        while start < chunk.end {
            start = self.gather(start..chunk.end);
            if self.listed.is_empty() || !self.may_read() {
                continue;
            }
            let strides: usize = self.scan.planes.iter().map(Plane::stride).sum();
            self.scorer.tally.bytes += (self.listed.len() * strides) as u64;
            let pairs = self.listed.len() * self.scorer.queries() * self.scan.planes.len();
            self.scorer.tally.multiplied += pairs as u64;
            self.scorer.next_rows();
            if self.scan.panels.is_batch() {
                self.batch();
            } else {
                self.few();
            }
        }
    }

    /// Whether the listed rows can be read; what lies between rows far apart is not asked for.
    fn may_read(&self) -> bool {
        let mut runs = self.listed.chunk_by(|row, next| next - row <= NEAR);
        runs.all(|run| match run {
            [only] => self.scan.may_read(*only..only + 1),
            [first, .., last] => self.scan.may_read(*first..last + 1),
            [] => true,
        })
    }

    /// Lists the first live rows of a range, as many as a block takes, and tells where to go on. Where few are live,
    /// most words are zero, and the next row is prefetched however far away it is.
    fn gather(&mut self, rows: Range<usize>) -> usize {
        self.listed.clear();
        let Some(live) = self.scan.live else {
            let end = rows.end.min(rows.start + self.block);
            self.listed.extend((rows.start..end).map(|row| row as u32));
            return end;
        };
        let mut start = rows.start;
        while start < rows.end {
            let end = rows.end.min((start / 64 + 1) * 64);
            let beyond = 64 - (end - start);
            let mut word = (live[start / 64] >> (start % 64)) << beyond >> beyond;
            while word != 0 {
                let row = start + word.trailing_zeros() as usize;
                if self.listed.len() == self.block {
                    return row;
                }
                self.listed.push(row as u32);
                word &= word - 1;
            }
            start = end;
        }
        rows.end
    }

    /// A handful of queries: each row is multiplied where it lies.
    fn few(&mut self) {
        let scan = self.scan;
        for plane in scan.planes {
            let ahead = 1 + PREFETCH_BYTES / plane.stride();
            for query in 0..self.scorer.queries() {
                let margin = scan.panels.margins[query];
                let asked = scan.query(query);
                let mut threshold = self.scorer.threshold(query);
                for at in 0..self.listed.len() {
                    if query == 0
                        && let Some(&row) = self.listed.get(at + ahead)
                    {
                        prefetch(plane.row_bytes(row as usize));
                    }
                    let bytes = plane.row_bytes(self.listed[at] as usize);
                    let (sum, squares) = scan.kernels.dot(plane.element(), bytes, asked);
                    let length = bound::length(squares, scan.dimension);
                    if !margin.excludes(sum, length, threshold)
                        && self.scorer.score(query, at, self.listed[at])
                    {
                        threshold = self.scorer.threshold(query);
                    }
                }
            }
        }
    }

    /// Many queries: rows are widened once and multiplied by panels of queries.
    fn batch(&mut self) {
        let scan = self.scan;
        let (width, tile_rows) = (scan.kernels.width, scan.kernels.tile_rows);
        for query in 0..self.scorer.queries() {
            let gate = Gate::new(&scan.panels.margins[query], self.scorer.threshold(query));
            self.gates.set(query, gate);
        }
        for plane in scan.planes {
            for (at, &row) in self.listed.iter().enumerate() {
                let into = &mut self.widened[at * self.stride..][..scan.dimension];
                let squares = scan
                    .kernels
                    .widen(plane.element(), plane.row_bytes(row as usize), into);
                self.lengths[at] = bound::up(bound::length(squares, scan.dimension));
            }
            for (p, panel) in scan.panels.iter().enumerate() {
                for start in (0..self.listed.len()).step_by(tile_rows) {
                    let mut masks = [0u32; BLOCK_ROWS];
                    let tile = Tile {
                        rows: &self.widened[start * self.stride..],
                        stride: self.stride,
                        dimension: scan.dimension,
                        lengths: &self.lengths[start..],
                        panel,
                        low: &self.gates.low[p * width..],
                        guard: &self.gates.guard[p * width..],
                    };
                    scan.kernels.tile(&tile, &mut masks[..tile_rows]);
                    let end = (start + tile_rows).min(self.listed.len());
                    for at in start..end {
                        self.passed(masks[at - start], p * width, at);
                    }
                }
            }
        }
    }

    /// Scores listed row `at` for each query of a panel that the tile kernel could not exclude.
    fn passed(&mut self, mut mask: u32, first: usize, at: usize) {
        while mask != 0 {
            let query = first + mask.trailing_zeros() as usize;
            mask &= mask - 1;
            // Lanes beyond the last query hold zeros.
            if query < self.scorer.queries() && self.scorer.score(query, at, self.listed[at]) {
                let gate = Gate::new(&self.scan.panels.margins[query], self.scorer.threshold(query));
                self.gates.set(query, gate);
            }
        }
    }
}
