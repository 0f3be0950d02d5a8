//! Floors to begin with: scores that k rows are known to reach before anything has been excluded.
//!
//! How many rows the codes leave depends on the threshold, and that of a search rises as it goes: of the first rows nothing
//! is excluded, of the second thousand far more than of the last. So some groups from all over the part are swept first for
//! the rows that the high halves alone put foremost, with no regard to bounds, and the k-th best score of these is where the
//! search begins. It finds them again.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::Range;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::Tally;
use super::coded::{Coded, Group, live, sweep};
use super::scan::Scan;
use super::scorer::Scorer;
use crate::TopK;
use crate::codes::{GROUP, Loose};
use crate::dispatch::TILED_QUERIES;

/// Groups that are swept for floors: one of so many, and so many at most. More find higher floors and take longer.
const SHARE: usize = 16;
const GROUPS_MAX: usize = 32;
/// Fewer do not pay.
const GROUPS_MIN: usize = 8;
/// Rows that are swept for each that is to be found, at least.
const ROWS_EACH: usize = 8;

/// The rows that are foremost for a query.
type Foremost = TopK<u32, fn(&u32, &u32) -> Ordering>;

impl Scan<'_> {
    /// Raises the floors of all queries, where some have none and it pays; `count` is told of the work.
    pub fn find_floors(&self, in_parallel: bool, count: impl Fn(Tally) + Sync) {
        let queries = self.best.queries();
        let groups = (self.rows / GROUP / SHARE).min(GROUPS_MAX);
        let pays = groups >= GROUPS_MIN
            && groups * GROUP >= ROWS_EACH.saturating_mul(self.best.k)
            && self.live_rows >= self.rows / 4
            && (0..queries).any(|query| self.best.floor(query) == f64::NEG_INFINITY);
        let Some(coded) = self.coded.as_ref().filter(|_| pays) else {
            return;
        };
        let find_some = |asked: Range<usize>| {
            let mut scorer = Scorer::new(self);
            find(coded, &mut scorer, asked, groups);
            count(Tally {
                ahead: scorer.tally.swept,
                swept: 0,
                ..scorer.tally
            });
        };
        let threads = if in_parallel {
            rayon::current_num_threads()
        } else {
            1
        };
        let span = queries.div_ceil(threads).next_multiple_of(TILED_QUERIES);
        if span >= queries {
            return find_some(0..queries);
        }
        (0..queries.div_ceil(span))
            .into_par_iter()
            .for_each(|at| find_some(at * span..(at * span + span).min(queries)));
    }
}

/// The same for some queries, which begin with a multiple of [`TILED_QUERIES`], by so many groups.
fn find(coded: &Coded, scorer: &mut Scorer, asked: Range<usize>, groups: usize) {
    let scan = scorer.scan;
    let k = scan.best.k;
    // A row may be foremost in several planes.
    let room = if coded.planes.len() > 1 { 2 * k } else { k };
    let none = || Foremost::new(room, u32::cmp);
    let mut foremost: Vec<Foremost> = asked.clone().map(|_| none()).collect();
    let mut sweeps = coded.room(scorer);
    let together = sweeps.together(asked.len());
    let mut tests = vec![Loose::default(); asked.len()];
    let mut survivors = Vec::new();
    let step = scan.rows / GROUP / groups;
    for group in (0..groups).map(|at| at * step + step / 2) {
        let first = group * GROUP;
        let live = live(scan.live, first, GROUP);
        for (codes, queries) in &coded.planes {
            for ((query, test), foremost) in asked.clone().zip(&mut tests).zip(&foremost) {
                *test = queries.bounds[query].foremost(foremost.floor());
            }
            let coded = (codes, queries);
            for start in asked.clone().step_by(together) {
                let some = start..(start + together).min(asked.end);
                let group = Group {
                    first,
                    live: &live,
                    tests: &tests[start - asked.start..some.end - asked.start],
                    asked: some,
                };
                sweep(scorer, coded, &group, &mut sweeps, &mut survivors);
            }
            for survivor in survivors.drain(..) {
                let (query, row) = (survivor.query as usize, first + survivor.at as usize);
                let estimate = queries.bounds[query].estimate(survivor.sum, codes.scale(row));
                foremost[query - asked.start].push(estimate, row as u32);
            }
        }
    }
    for (query, foremost) in asked.zip(foremost) {
        let mut seen = HashSet::new();
        let rows = foremost.into_sorted().into_iter().map(|(_, row)| row);
        let scores: Vec<f64> = rows
            .filter(|&row| seen.insert(row))
            .take(k)
            .filter_map(|row| scorer.score_of(query, row))
            .filter(|score| !score.is_nan())
            .collect();
        // A floor that fewer than k rows reach would hide rows.
        if scores.len() == k {
            let floor = scores.into_iter().fold(f64::INFINITY, f64::min);
            scan.best.raise_floor(query, floor);
        }
    }
}
