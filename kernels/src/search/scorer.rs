//! f64 scores of the rows that no bound excludes, and the best of them.

use super::counters::Tally;
use super::scan::Scan;

/// The most rows that are treated together: the bits of a mask.
pub(super) const MASK_ROWS: usize = u128::BITS as usize;

/// What one thread scores.
pub(super) struct Scorer<'s, 'a> {
    pub scan: &'s Scan<'a>,
    /// `[q]`: one bit for each of the rows in hand that has its score already.
    scored: Vec<u128>,
    /// Bytes of a row over all planes, where they have not been read by the scan itself.
    row_bytes: u64,
    pub tally: Tally,
}

impl<'s, 'a> Scorer<'s, 'a> {
    pub fn new(scan: &'s Scan<'a>) -> Self {
        Scorer {
            scan,
            scored: vec![0; scan.best.queries()],
            row_bytes: match &scan.coded {
                Some(_) => scan.planes.iter().map(|plane| plane.stride() as u64).sum(),
                None => 0,
            },
            tally: Tally::default(),
        }
    }

    pub fn queries(&self) -> usize {
        self.scored.len()
    }

    /// Goes on to other rows.
    pub fn next_rows(&mut self) {
        self.scored.fill(0);
    }

    /// The score that a row must reach to matter for `query`.
    pub fn threshold(&self, query: usize) -> f64 {
        self.scan.best.floor(query)
    }

    /// Whether the row in place `at` of those in hand has been offered to `query`.
    pub fn has_scored(&self, query: usize, at: usize) -> bool {
        self.scored[query] >> at & 1 == 1
    }

    /// Offers `row`, in place `at` of those in hand, with its score over all planes; true if the
    /// threshold may have risen.
    pub fn score(&mut self, query: usize, at: usize, row: u32) -> bool {
        if self.has_scored(query, at) {
            return false;
        }
        self.scored[query] |= 1 << at;
        match self.score_of(query, row) {
            Some(score) => self.scan.best.push(query, score, row),
            None => false,
        }
    }

    /// The score of a row over all planes; none if it may not be read.
    pub fn score_of(&mut self, query: usize, row: u32) -> Option<f64> {
        self.tally.scored += 1;
        let scan = self.scan;
        if !scan.may_read(row..row + 1) {
            return None;
        }
        self.tally.bytes += self.row_bytes;
        let asked = scan.query(query);
        Some(scan.kernels.exact_of_all(scan.planes, row as usize, asked))
    }
}
