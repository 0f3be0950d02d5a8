//! The mean that a plane is coded about.

use super::build::LONGEST;
use crate::Plane;
use crate::dispatch::Kernels;

/// The mean of a plane's rows, from its pieces in order. Any vector in its place would be correct: this
/// one makes residuals short.
#[derive(Debug, Clone)]
pub struct Mean {
    row: Vec<f32>,
    sums: Vec<f64>,
    count: u64,
}

impl Mean {
    /// Of vectors of this dimension.
    pub fn new(dimension: usize) -> Mean {
        Mean {
            row: vec![0.0; dimension],
            sums: vec![0.0; dimension],
            count: 0,
        }
    }

    /// Adds the rows of a piece; those that are not finite or very long are passed over, and a piece
    /// of another dimension is too.
    pub fn add(&mut self, plane: &Plane) {
        if plane.dimension() != self.row.len() {
            return;
        }
        for at in 0..plane.rows() {
            Kernels::best().widen(plane.element(), plane.row_bytes(at), &mut self.row);
            if self.row.iter().all(|&x| f64::from(x.abs()) <= LONGEST) {
                self.count += 1;
                for (sum, &x) in self.sums.iter_mut().zip(&self.row) {
                    *sum += f64::from(x);
                }
            }
        }
    }

    /// The mean, `[D]`; zeros where nothing was added.
    pub fn finish(&self) -> Vec<f32> {
        let count = self.count.max(1) as f64;
        self.sums.iter().map(|sum| (sum / count) as f32).collect()
    }
}
