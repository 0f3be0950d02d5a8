//! One thread's part of a search: blocks of rows, filtered in f32, scored in f64 where that matters.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use super::floors::Floors;
use super::panels::Panels;
use crate::bound::{self, Gate};
use crate::dispatch::{BLOCK_ROWS, Kernels, Tile};
use crate::{Plane, TopK};

/// A search, shared by its threads.
pub(super) struct Scan<'a> {
    pub planes: &'a [Plane<'a>],
    pub rows: usize,
    pub queries: &'a [f32],
    pub dimension: usize,
    pub kernels: &'static Kernels,
    pub live: Option<&'a [u64]>,
    pub panels: Panels,
    pub floors: Floors,
    /// The number of the next chunk that nobody has claimed.
    pub next: AtomicUsize,
}

/// Bytes of stored vectors that a thread claims at once: small enough to share the end of a search
/// evenly, large enough that claiming costs nothing.
const CHUNK_BYTES: usize = 1 << 20;

/// Floats of widened rows that are kept hot at once, with one query panel beside them.
const SCRATCH: usize = 1 << 16;

/// Floats between widened rows beyond their length, so that rows of 4 KiB do not fall on the same
/// lines of the cache.
const SKEW: usize = 16;

impl Scan<'_> {
    pub fn chunk_rows(&self) -> usize {
        let row: usize = self.planes.iter().map(Plane::stride).sum();
        let rows = (CHUNK_BYTES / row.max(1)).clamp(BLOCK_ROWS, 64 * BLOCK_ROWS);
        rows / BLOCK_ROWS * BLOCK_ROWS
    }

    pub fn chunks(&self) -> usize {
        self.rows.div_ceil(self.chunk_rows())
    }

    /// Claims chunks until none is left; `best` is `[q]`.
    pub fn run<F: Fn(&u32, &u32) -> Ordering>(&self, best: &mut [TopK<u32, F>]) {
        let mut worker = Worker::new(self, best);
        while let Some(chunk) = self.claim() {
            for start in chunk.clone().step_by(worker.block) {
                let rows = start..(start + worker.block).min(chunk.end);
                worker.gather(rows);
                if worker.listed.is_empty() {
                    continue;
                }
                if self.panels.is_batch() {
                    worker.batch();
                } else {
                    worker.few();
                }
            }
        }
    }

    fn query(&self, query: usize) -> &[f32] {
        &self.queries[query * self.dimension..][..self.dimension]
    }
}

/// What one thread works with; all of it is allocated once.
struct Worker<'a, 'b, F> {
    scan: &'a Scan<'a>,
    best: &'b mut [TopK<u32, F>],
    /// Rows in a block, at most [`BLOCK_ROWS`].
    block: usize,
    /// The live rows of the block.
    listed: Vec<u32>,
    /// `[q]`: one bit for each listed row that has its f64 score already.
    scored: Vec<u128>,
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

impl<'a, 'b, F: Fn(&u32, &u32) -> Ordering> Worker<'a, 'b, F> {
    fn new(scan: &'a Scan<'a>, best: &'b mut [TopK<u32, F>]) -> Self {
        let stride = scan.dimension.next_multiple_of(16) + SKEW;
        let tile_rows = scan.kernels.tile_rows;
        let fitting = SCRATCH / stride / tile_rows * tile_rows;
        let block = fitting.clamp(tile_rows, BLOCK_ROWS);
        let batch = scan.panels.is_batch();
        let padded = best.len().next_multiple_of(scan.kernels.width);
        Worker {
            block,
            listed: Vec::with_capacity(block),
            scored: vec![0; best.len()],
            gates: Gates {
                low: vec![f32::MAX; padded],
                guard: vec![0.0; padded],
            },
            widened: vec![0.0; if batch { block * stride } else { 0 }],
            stride,
            lengths: vec![0.0; block],
            scan,
            best,
        }
    }

    /// Lists the live rows among `rows`.
    fn gather(&mut self, rows: Range<usize>) {
        self.listed.clear();
        let all = rows.map(|row| row as u32);
        match self.scan.live {
            None => self.listed.extend(all),
            Some(live) => self
                .listed
                .extend(all.filter(|&row| live[row as usize / 64] >> (row % 64) & 1 == 1)),
        }
    }

    /// A handful of queries: each row is multiplied where it lies.
    fn few(&mut self) {
        let scan = self.scan;
        self.scored.fill(0);
        for plane in scan.planes {
            for query in 0..self.best.len() {
                let margin = scan.panels.margins[query];
                let asked = scan.query(query);
                let mut threshold = self.threshold(query);
                for at in 0..self.listed.len() {
                    let bytes = plane.row_bytes(self.listed[at] as usize);
                    let (sum, squares) = scan.kernels.dot(plane.element(), bytes, asked);
                    let length = bound::length(squares, scan.dimension);
                    if !margin.excludes(sum, length, threshold) && self.score(query, at) {
                        threshold = self.threshold(query);
                    }
                }
            }
        }
    }

    /// Many queries: rows are widened once and multiplied by panels of queries.
    fn batch(&mut self) {
        let scan = self.scan;
        let (width, tile_rows) = (scan.kernels.width, scan.kernels.tile_rows);
        self.scored.fill(0);
        for query in 0..self.best.len() {
            let gate = Gate::new(&scan.panels.margins[query], self.threshold(query));
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
            if query < self.best.len() && self.score(query, at) {
                let gate = Gate::new(&self.scan.panels.margins[query], self.threshold(query));
                self.gates.set(query, gate);
            }
        }
    }

    /// The score that a row must reach to matter for `query`.
    fn threshold(&self, query: usize) -> f64 {
        self.scan.floors.get(query).max(self.best[query].floor())
    }

    /// Offers listed row `at` with its f64 score over all planes; true if the threshold may have
    /// risen.
    fn score(&mut self, query: usize, at: usize) -> bool {
        if self.scored[query] >> at & 1 == 1 {
            return false;
        }
        self.scored[query] |= 1 << at;
        let scan = self.scan;
        let row = self.listed[at];
        let asked = scan.query(query);
        let score = scan
            .planes
            .iter()
            .map(|plane| {
                scan.kernels
                    .exact(plane.element(), plane.row_bytes(row as usize), asked)
            })
            // `max` passes over a NaN on either side.
            .fold(f64::NAN, f64::max);
        let best = &mut self.best[query];
        if !best.push(score, row) {
            return false;
        }
        scan.floors.raise(query, best.floor());
        true
    }
}
