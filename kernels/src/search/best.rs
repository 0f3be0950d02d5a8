//! The best rows so far, found by all threads of a search together.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::{Candidate, TopK};

/// Which of two rows of equal score comes first.
pub(super) type Order<'a> = &'a (dyn Fn(&u32, &u32) -> Ordering + Sync);

/// For each query its best rows. One list for all threads: were there one for each, the k-th best of what a thread has seen
/// would be lower than that of what all have, and its codes would exclude fewer rows.
pub(super) struct Best<'a> {
    lists: Vec<Mutex<TopK<u32, Order<'a>>>>,
    floors: Vec<AtomicU64>,
    pub k: usize,
}

impl<'a> Best<'a> {
    /// The best `k` rows of each query that reach its floor.
    pub fn new(k: usize, floors: &[f64], order: Order<'a>) -> Best<'a> {
        let list = |&floor: &f64| Mutex::new(TopK::with_floor(k, floor, order));
        let floor = |&floor: &f64| AtomicU64::new(sortable(floor));
        Best {
            lists: floors.iter().map(list).collect(),
            floors: floors.iter().map(floor).collect(),
            k,
        }
    }

    pub fn queries(&self) -> usize {
        self.floors.len()
    }

    /// The score that a row must reach to matter for `query`; it only ever rises.
    pub fn floor(&self, query: usize) -> f64 {
        unsortable(self.floors[query].load(Relaxed))
    }

    /// Offers a row, whoever has scored it; true if the floor may have risen.
    pub fn push(&self, query: usize, score: f64, row: u32) -> bool {
        if score < self.floor(query) {
            return false;
        }
        let mut list = self.lists[query].lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken = list.push(score, row);
        if is_taken {
            self.floors[query].fetch_max(sortable(list.floor()), Relaxed);
        }
        is_taken
    }

    /// Refuses rows below a score that k rows are known to reach.
    pub fn raise_floor(&self, query: usize, floor: f64) {
        let mut list = self.lists[query].lock().unwrap_or_else(PoisonError::into_inner);
        list.raise_floor(floor);
        self.floors[query].fetch_max(sortable(list.floor()), Relaxed);
    }

    /// What was found, best first.
    pub fn into_answers(self) -> Vec<Vec<Candidate>> {
        let candidate = |(score, row)| Candidate { row, score };
        let lists = self.lists.into_iter();
        let lists = lists.map(|list| list.into_inner().unwrap_or_else(PoisonError::into_inner));
        lists
            .map(|list| list.into_sorted().into_iter().map(candidate).collect())
            .collect()
    }
}

const SIGN: u64 = 1 << 63;

/// The bits of a number that is not NaN, changed so that they compare as it does.
fn sortable(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn unsortable(bits: u64) -> f64 {
    f64::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_only_rise() {
        let ascending = [
            f64::NEG_INFINITY,
            -1e300,
            -1.0,
            -1e-310,
            0.0,
            1e-310,
            2.0,
            f64::INFINITY,
        ];
        let best = Best::new(1, &[f64::NEG_INFINITY], &u32::cmp);
        for (row, score) in ascending.into_iter().enumerate() {
            best.push(0, score, row as u32);
            best.push(0, -1e300, 9);
            best.push(0, f64::NAN, 10);
            assert_eq!(best.floor(0), score.max(-1e300));
        }
    }

    #[test]
    fn threads_fill_one_list() {
        let best = Best::new(3, &[f64::NEG_INFINITY, 70.0], &u32::cmp);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let best = &best;
                scope.spawn(move || {
                    for row in (thread..100).step_by(4) {
                        best.push(0, f64::from(row / 2), row);
                        best.push(1, f64::from(row % 72), row);
                    }
                });
            }
        });
        assert_eq!(best.floor(0), 48.0);
        let answers = best.into_answers();
        let rows = |at: usize| answers[at].iter().map(|c| c.row).collect::<Vec<_>>();
        assert_eq!(rows(0), [98, 99, 96]);
        assert_eq!(rows(1), [71, 70]);
    }
}
