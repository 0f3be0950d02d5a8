//! A search through scan codes: groups by their norms, high halves, low halves, then f64.

use std::cmp::Ordering;
use std::ops::Range;

use super::scorer::{MASK_ROWS, Scorer};
use crate::codes::{Codes, GROUP, LANES, Loose, QueryCodes, high_block};
use crate::dispatch::{SWEEP_QUERIES, Sweep};

const _: () = assert!(GROUP <= MASK_ROWS);

/// Blocks of a group.
const BLOCKS: usize = GROUP / LANES;

/// The codes of all planes, and the queries coded against each of them.
pub(super) struct Coded<'a> {
    planes: Vec<(Codes<'a>, QueryCodes)>,
}

impl<'a> Coded<'a> {
    pub fn new(codes: &[Codes<'a>], queries: &[f32]) -> Self {
        Coded {
            planes: codes.iter().map(|c| (*c, QueryCodes::new(queries, c))).collect(),
        }
    }

    /// The bytes of a row's high halves over all planes.
    pub fn row_bytes(&self) -> usize {
        self.planes
            .iter()
            .map(|(codes, _)| high_block(codes.dimension()) / LANES + 12)
            .sum()
    }

    /// Searches a range of rows that begins with a group.
    pub fn chunk<F: Fn(&u32, &u32) -> Ordering>(&self, scorer: &mut Scorer<F>, chunk: Range<usize>) {
        for first in chunk.clone().step_by(GROUP) {
            let rows = GROUP.min(chunk.end - first);
            let live = live(scorer.scan.live, first, rows);
            if live.iter().all(|&mask| mask == 0) {
                continue;
            }
            scorer.next_rows();
            for (codes, queries) in &self.planes {
                for start in (0..scorer.queries()).step_by(SWEEP_QUERIES) {
                    let end = (start + SWEEP_QUERIES).min(scorer.queries());
                    group(scorer, codes, queries, first, &live, start..end);
                }
            }
        }
    }
}

/// One mask of live rows for each block of a group.
fn live(words: Option<&[u64]>, first: usize, rows: usize) -> [u32; BLOCKS] {
    std::array::from_fn(|block| {
        let start = first + block * LANES;
        let count = rows.saturating_sub(block * LANES).min(LANES);
        let all = (1u32 << count) - 1;
        match words {
            Some(words) if count > 0 => (words[start / 64] >> (start % 64)) as u32 & all,
            _ => all,
        }
    })
}

/// One group of rows in one plane, for a few queries.
fn group<F: Fn(&u32, &u32) -> Ordering>(
    scorer: &mut Scorer<F>,
    codes: &Codes,
    queries: &QueryCodes,
    first: usize,
    live: &[u32; BLOCKS],
    asked: Range<usize>,
) {
    let kernels = scorer.scan.kernels;
    let longest = codes.norm(first / GROUP);
    let mut tests = [Loose::default(); SWEEP_QUERIES];
    let mut hopeless = true;
    for (test, query) in tests.iter_mut().zip(asked.clone()) {
        let threshold = scorer.threshold(query);
        hopeless &= queries.bounds[query].excludes_group(longest, threshold);
        *test = queries.bounds[query].loose(threshold);
    }
    if hopeless {
        return;
    }
    let mut masks = [0u32; SWEEP_QUERIES];
    let mut sums = [[0i32; LANES]; SWEEP_QUERIES];
    for (block, &live) in live.iter().enumerate().filter(|(_, live)| **live != 0) {
        let (factors, high) = codes.high(first / LANES + block);
        let sweep = Sweep {
            codes: high,
            factors,
            queries: &queries.codes[asked.start * 2 * queries.half..],
            half: queries.half,
            bounds: &tests[..asked.len()],
        };
        kernels.sweep(&sweep, &mut masks, &mut sums);
        scorer.tally.swept += u64::from(live.count_ones()) * asked.len() as u64;
        for (i, query) in asked.clone().enumerate() {
            let mut mask = masks[i] & live;
            while mask != 0 {
                let lane = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                let at = block * LANES + lane;
                if scorer.has_scored(query, at) {
                    continue;
                }
                scorer.tally.left += 1;
                let row = first + at;
                let bound = &queries.bounds[query];
                let (factors, low) = codes.low(row);
                let low = kernels.low(low, queries.halves(query));
                let threshold = scorer.threshold(query);
                let scale = codes.scale(row);
                if !bound.excludes(sums[i][lane], low, scale, factors, threshold)
                    && scorer.score(query, at, row as u32)
                {
                    tests[i] = bound.loose(scorer.threshold(query));
                }
            }
        }
    }
}
