//! A search through scan codes: groups by their norms, high halves, low halves, then f64.

use std::ops::Range;

use super::scorer::{MASK_ROWS, Scorer};
use crate::codes::{Codes, Finer, GROUP, LANES, Loose, QueryCodes};
use crate::dispatch::{SWEEP_QUERIES, Survivor, Sweep, TILE, TileSweep};

const _: () = assert!(GROUP <= MASK_ROWS && LANES == TILE);

/// From this many queries on, the kernels for batches are quicker than one sweep for a few queries after the other, if a thread
/// unpacks no more bytes at a time.
const WORTH_TILES: usize = 16;
const UNPACKED_MAX: usize = 1 << 20;

/// How many blocks ahead factors are prefetched: they lie elsewhere than the codes, in short stretches where there are
/// several planes, and the hardware's own guesses miss them.
const FACTORS_AHEAD: usize = 2;

/// Blocks of a group.
pub(super) const BLOCKS: usize = GROUP / LANES;

/// The codes of all planes, and the queries coded against each of them.
pub(super) struct Coded<'a> {
    pub planes: Vec<(Codes<'a>, QueryCodes)>,
}

impl<'a> Coded<'a> {
    pub fn new(codes: &[Codes<'a>], queries: &[f32], in_parallel: bool) -> Self {
        let planes = codes.iter();
        Coded {
            planes: planes
                .map(|codes| (*codes, QueryCodes::new(queries, codes, in_parallel)))
                .collect(),
        }
    }

    /// The bytes of a row's high halves over all planes.
    pub fn row_bytes(&self) -> usize {
        self.planes
            .iter()
            .map(|(codes, _)| codes.block_bytes() / LANES)
            .sum()
    }

    /// What one thread needs.
    pub fn buffers(&self, scorer: &Scorer) -> Buffers {
        let count = scorer.queries();
        Buffers {
            survivors: Vec::with_capacity(GROUP),
            tests: vec![Tests::new(count); self.planes.len()],
            room: self.room(scorer),
        }
    }

    /// What a sweep needs: for the unpacked codes of a group too, where there are kernels for them and they pay.
    pub fn room(&self, scorer: &Scorer) -> Room {
        let row = |codes: &QueryCodes| 2 * codes.half;
        let widest = self.planes.iter().map(|(_, queries)| row(queries)).max();
        let bytes = BLOCKS * LANES * widest.unwrap_or(0);
        let pays =
            scorer.queries() >= WORTH_TILES && bytes <= UNPACKED_MAX && scorer.scan.kernels.has_tiles();
        Room {
            masks: [0; SWEEP_QUERIES],
            sums: [[0; LANES]; SWEEP_QUERIES],
            unpacked: pays.then(|| vec![0; bytes]),
        }
    }

    /// Searches a range of rows that begins with a group.
    // Alone, so that what it calls for each block is inlined, whatever calls it.
    #[inline(never)]
    pub fn chunk(&self, scorer: &mut Scorer, chunk: Range<usize>, buffers: &mut Buffers) {
        let Buffers {
            survivors,
            tests,
            room,
        } = buffers;
        let count = scorer.queries();
        let together = room.together(count);
        for first in chunk.clone().step_by(GROUP) {
            let rows = GROUP.min(chunk.end - first);
            let live = live(scorer.scan.live, first, rows);
            if live.iter().all(|&mask| mask == 0) {
                continue;
            }
            scorer.next_rows();
            for ((codes, queries), tests) in self.planes.iter().zip(&mut *tests) {
                let coded = (codes, queries);
                for start in (0..count).step_by(together) {
                    let asked = start..(start + together).min(count);
                    if tests.bring_up_to_date(scorer, coded, first, asked.clone()) {
                        let group = Group {
                            first,
                            live: &live,
                            tests: &tests.tests[asked.clone()],
                            asked,
                        };
                        sweep(scorer, coded, &group, room, survivors);
                        settle(scorer, coded, first, survivors);
                    }
                }
            }
        }
    }
}

/// One mask of live rows for each block of a group.
pub(super) fn live(words: Option<&[u64]>, first: usize, rows: usize) -> [u32; BLOCKS] {
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

/// A group of rows, and some queries with a test of each.
pub(super) struct Group<'t> {
    pub first: usize,
    /// From [`live`].
    pub live: &'t [u32; BLOCKS],
    pub asked: Range<usize>,
    pub tests: &'t [Loose],
}

/// Adds to `survivors` what the high halves of one plane cannot exclude, a row's place being that in the group.
#[inline(always)]
pub(super) fn sweep(
    scorer: &mut Scorer,
    coded: (&Codes, &QueryCodes),
    group: &Group,
    room: &mut Room,
    survivors: &mut Vec<Survivor>,
) {
    match &mut room.unpacked {
        Some(unpacked) => tiled(scorer, coded, group, unpacked, survivors),
        None => few(scorer, coded, group, &mut room.masks, &mut room.sums, survivors),
    }
}

/// The same for a few queries.
#[inline(always)]
fn few(
    scorer: &mut Scorer,
    (codes, queries): (&Codes, &QueryCodes),
    group: &Group,
    masks: &mut [u32; SWEEP_QUERIES],
    sums: &mut [[i32; LANES]; SWEEP_QUERIES],
    survivors: &mut Vec<Survivor>,
) {
    let (first, asked) = (group.first, &group.asked);
    let kernels = scorer.scan.kernels;
    for (block, &live) in group.live.iter().enumerate().filter(|(_, live)| **live != 0) {
        let coded = codes.high(first / LANES + block);
        let sweep = Sweep {
            codes: coded.codes,
            factors: coded.factors,
            tails: coded.tails,
            queries: &queries.codes[asked.start * 2 * queries.half..],
            half: queries.half,
            bounds: group.tests,
        };
        kernels.sweep(&sweep, masks, sums);
        scorer.tally.swept += u64::from(live.count_ones()) * asked.len() as u64;
        if asked.start == 0 {
            codes.prefetch_factors(first / LANES + block + FACTORS_AHEAD);
            scorer.tally.bytes += codes.block_bytes() as u64;
        }
        for (i, query) in asked.clone().enumerate() {
            let mut mask = masks[i] & live;
            while mask != 0 {
                let lane = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                let at = block * LANES + lane;
                // Looked at when the rest of the group is swept: by then they are in the cache.
                codes.prefetch_low(first + at);
                survivors.push(Survivor {
                    query: query as u32,
                    at: at as u32,
                    sum: sums[i][lane],
                });
            }
        }
    }
}

/// What one thread works with; all of it is allocated once.
pub(super) struct Buffers {
    survivors: Vec<Survivor>,
    /// One for each plane.
    tests: Vec<Tests>,
    room: Room,
}

/// What a sweep works with.
pub(super) struct Room {
    masks: [u32; SWEEP_QUERIES],
    sums: [[i32; LANES]; SWEEP_QUERIES],
    /// `[BLOCKS][16 × row]`, for batches.
    unpacked: Option<Vec<u8>>,
}

impl Room {
    /// How many of `count` queries a sweep takes.
    pub fn together(&self, count: usize) -> usize {
        if self.unpacked.is_some() {
            count
        } else {
            SWEEP_QUERIES
        }
    }
}

/// The tests of all queries against one plane, and the thresholds that they were made for.
#[derive(Clone)]
struct Tests {
    thresholds: Vec<f64>,
    tests: Vec<Loose>,
}

impl Tests {
    fn new(queries: usize) -> Tests {
        Tests {
            thresholds: vec![f64::NAN; queries],
            tests: vec![Loose::default(); queries],
        }
    }

    /// The tests of some queries as their thresholds are now; whether any row of a group can pass one.
    fn bring_up_to_date(
        &mut self,
        scorer: &Scorer,
        (codes, queries): (&Codes, &QueryCodes),
        first: usize,
        asked: Range<usize>,
    ) -> bool {
        let longest = codes.norm(first / GROUP);
        let mut hopeful = false;
        for query in asked {
            let threshold = scorer.threshold(query);
            let bound = &queries.bounds[query];
            hopeful = hopeful || !bound.excludes_group(longest, threshold);
            if self.thresholds[query] != threshold {
                self.thresholds[query] = threshold;
                self.tests[query] = bound.loose(threshold);
            }
        }
        hopeful
    }
}

/// The same with the kernels for batches, for queries that begin with a multiple of [`TILED_QUERIES`].
fn tiled(
    scorer: &mut Scorer,
    (codes, queries): (&Codes, &QueryCodes),
    group: &Group,
    unpacked: &mut [u8],
    survivors: &mut Vec<Survivor>,
) {
    let Group {
        first, live, tests, ..
    } = *group;
    let (kernels, row) = (scorer.scan.kernels, 2 * queries.half);
    let (mut factors, mut tails): ([&[u8]; BLOCKS], [&[u8]; BLOCKS]) = ([&[]; BLOCKS], [&[]; BLOCKS]);
    let (mut places, mut masks, mut blocks) = ([0; BLOCKS], [0; BLOCKS], 0);
    for (block, &mask) in live.iter().enumerate().filter(|(_, mask)| **mask != 0) {
        let coded = codes.high(first / LANES + block);
        kernels.unpack(coded.codes, &mut unpacked[blocks * LANES * row..][..LANES * row]);
        scorer.tally.bytes += codes.block_bytes() as u64;
        scorer.tally.swept += u64::from(mask.count_ones()) * tests.len() as u64;
        factors[blocks] = coded.factors;
        tails[blocks] = coded.tails;
        masks[blocks] = mask;
        places[blocks] = block * LANES;
        blocks += 1;
    }
    let sweep = TileSweep {
        codes: unpacked,
        factors: &factors[..blocks],
        tails: &tails[..blocks],
        live: &masks,
        queries: &queries.codes[group.asked.start * row..],
        row,
        bounds: tests,
    };
    kernels.sweep_tiles(&sweep, survivors);
    for survivor in survivors {
        let at = survivor.at as usize;
        survivor.query += group.asked.start as u32;
        survivor.at = (places[at / LANES] + at % LANES) as u32;
    }
}

/// Looks at the rest of the codes of a group's survivors, and at the rows themselves if need be.
fn settle(
    scorer: &mut Scorer,
    (codes, queries): (&Codes, &QueryCodes),
    first: usize,
    survivors: &mut Vec<Survivor>,
) {
    for survivor in survivors.drain(..) {
        let (query, at) = (survivor.query as usize, survivor.at as usize);
        if scorer.has_scored(query, at) {
            continue;
        }
        scorer.tally.left += 1;
        let row = first + at;
        let (factors, low) = codes.low(row);
        scorer.tally.bytes += (low[0].len() + low[1].len()) as u64 + 8;
        let finer = Finer {
            high: survivor.sum,
            low: scorer.scan.kernels.low(low, queries.settling(query)),
            scale: codes.scale(row),
            factors,
        };
        if !queries.bounds[query].excludes(&finer, scorer.threshold(query)) {
            scorer.score(query, at, row as u32);
        }
    }
}
