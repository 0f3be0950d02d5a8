//! What a plane is coded about: its mean, and directions of large variance where these pay.

use super::build::LONGEST;
use super::turn::{Allowance, DIMENSION_MAX, Turn};
use crate::Plane;
use crate::dispatch::Kernels;
use crate::numbers::Numbers;

/// Rows from which directions are found.
const SAMPLE: usize = 4096;

/// What a plane is coded about. Any would be correct: that of a [`Survey`] makes codes exclude much.
#[derive(Debug, Clone)]
pub struct Frame {
    pub(super) mean: Vec<f32>,
    pub(super) turn: Option<(Turn<'static>, Allowance)>,
}

impl Frame {
    /// The mean alone.
    pub fn about(mean: Vec<f32>) -> Frame {
        Frame { mean, turn: None }
    }

    pub(super) fn new(mean: Vec<f32>, turn: Option<Turn<'static>>) -> Frame {
        let with_allowance = |turn: Turn<'static>| {
            let allowance = turn.allowance();
            (turn, allowance)
        };
        Frame {
            mean,
            turn: turn.map(with_allowance),
        }
    }

    /// The mean, `[D]`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Components that a search scans for every row: the dimension, or fewer where vectors are turned.
    pub fn head(&self) -> usize {
        self.turn.as_ref().map_or(self.mean.len(), |(turn, _)| turn.head)
    }
}

/// Finds the [`Frame`] of a plane from its pieces, in order.
#[derive(Debug, Clone)]
pub struct Survey {
    row: Vec<f32>,
    sums: Vec<f64>,
    count: u64,
    rows: usize,
    seen: usize,
    sample: Vec<f32>,
    /// The row that is sampled next, and what says so: one of each stretch, wherever in it, for what is stored may come in
    /// turns.
    next: usize,
    numbers: Numbers,
}

impl Survey {
    /// Of a plane of so many rows of this dimension.
    pub fn new(rows: usize, dimension: usize) -> Survey {
        Survey {
            row: vec![0.0; dimension],
            sums: vec![0.0; dimension],
            count: 0,
            rows,
            seen: 0,
            sample: Vec::new(),
            next: 0,
            numbers: Numbers(1),
        }
    }

    /// Adds the rows of a piece; those that are not finite or very long are passed over, and a piece
    /// of another dimension is too.
    pub fn add(&mut self, plane: &Plane) {
        if plane.dimension() != self.row.len() {
            return;
        }
        let stride = self.rows.div_ceil(SAMPLE).max(1);
        let may_turn = self.row.len() <= DIMENSION_MAX;
        for at in 0..plane.rows() {
            Kernels::best().widen(plane.element(), plane.row_bytes(at), &mut self.row);
            if self.row.iter().all(|&x| f64::from(x.abs()) <= LONGEST) {
                self.count += 1;
                for (sum, &x) in self.sums.iter_mut().zip(&self.row) {
                    *sum += f64::from(x);
                }
                if may_turn && self.seen == self.next {
                    self.sample.extend_from_slice(&self.row);
                }
            }
            if self.seen == self.next {
                self.next = (self.seen / stride + 1) * stride + self.numbers.below(stride);
            }
            self.seen += 1;
        }
    }

    /// The mean (zeros where nothing was added), and directions if a search gains by them: where there are many rows and most of
    /// their variance lies in part of the directions. Inside a rayon pool its threads share the work.
    pub fn finish(self) -> Frame {
        let mean = self.mean();
        let turn = Turn::find(&self.sample, &mean, self.rows);
        Frame::new(mean, turn)
    }

    /// The same with heads of so many components, up to a multiple of eight, whether or not that pays; for tests and
    /// measurements. Vectors of more than 1,024 components or without variance are not turned.
    pub fn finish_with_head(self, head: usize) -> Frame {
        let mean = self.mean();
        let turn = Turn::with_head(&self.sample, &mean, head);
        Frame::new(mean, turn)
    }

    fn mean(&self) -> Vec<f32> {
        let count = self.count.max(1) as f64;
        self.sums.iter().map(|sum| (sum / count) as f32).collect()
    }
}
