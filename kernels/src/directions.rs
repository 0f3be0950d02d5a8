//! Directions of large variance: an orthonormal basis about the eigenvectors of a covariance.
//!
//! Found by a few rounds of orthogonal iteration: any orthonormal basis is right for what uses them, a well ordered one is
//! quick. The result is the same on every machine and with any number of threads.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use crate::arithmetic::dot;

/// The covariance `[D, D]` of a sample `[s, D]` about `mean`.
pub(crate) fn covariance(sample: &[f32], mean: &[f32]) -> Vec<f32> {
    let dimension = mean.len();
    let count = (sample.len() / dimension).max(1);
    let mut covariance = vec![0f32; dimension * dimension];
    each_row(&mut covariance, dimension, |i, out| {
        for row in sample.chunks_exact(dimension) {
            let factor = (row[i] - mean[i]) / count as f32;
            for ((out, value), mean) in out.iter_mut().zip(row).zip(mean) {
                *out += factor * (value - mean);
            }
        }
    });
    covariance
}

/// Orthonormal rows, about the eigenvectors of `covariance`, those of large eigenvalues first.
pub(crate) fn directions(covariance: &[f32], dimension: usize, rounds: usize) -> Vec<f32> {
    let mut rows = vec![0f32; dimension * dimension];
    // Begin with the axes, in the order of their variance.
    let mut axes: Vec<usize> = (0..dimension).collect();
    axes.sort_by(|&a, &b| {
        covariance[b * dimension + b]
            .total_cmp(&covariance[a * dimension + a])
            .then(a.cmp(&b))
    });
    for (row, &axis) in rows.chunks_exact_mut(dimension).zip(&axes) {
        row[axis] = 1.0;
    }
    let mut next = vec![0f32; dimension * dimension];
    for _ in 0..rounds {
        each_row(&mut next, dimension, |i, out| {
            out.fill(0.0);
            let row = &rows[i * dimension..][..dimension];
            for (factor, line) in row.iter().zip(covariance.chunks_exact(dimension)) {
                for (out, value) in out.iter_mut().zip(line) {
                    *out += factor * value;
                }
            }
        });
        orthonormalise(&mut next, dimension);
        std::mem::swap(&mut rows, &mut next);
    }
    orthonormalise(&mut rows, dimension);
    rows
}

/// Does something with each row and its number; the threads of a rayon pool share the work, and none are started.
pub(crate) fn each_row(rows: &mut [f32], dimension: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if rayon::current_thread_index().is_some() {
        let rows = rows.par_chunks_mut(dimension).enumerate();
        rows.for_each(|(i, row)| work(i, row));
    } else {
        let rows = rows.chunks_mut(dimension).enumerate();
        rows.for_each(|(i, row)| work(i, row));
    }
}

/// Makes the rows orthonormal, in order; a row that lies in those before it becomes an axis that does not.
fn orthonormalise(rows: &mut [f32], dimension: usize) {
    let mut axis = 0;
    for i in 0..dimension {
        let (before, from) = rows.split_at_mut(i * dimension);
        let row = &mut from[..dimension];
        let mut length = dot(row, row).sqrt();
        loop {
            for other in before.chunks_exact(dimension) {
                let along = dot(row, other);
                for (value, other) in row.iter_mut().zip(other) {
                    *value -= along * other;
                }
            }
            let left = dot(row, row).sqrt();
            if left > 0.5 * length && left > f32::MIN_POSITIVE {
                break;
            }
            // Much was taken away: what is left is rounding, or needs another turn.
            if left <= 1e-4 * length || left.is_nan() {
                row.fill(0.0);
                row[axis % dimension] = 1.0;
                axis += 1;
                length = 1.0;
            } else {
                length = left;
            }
        }
        let inverse = 1.0 / dot(row, row).sqrt();
        row.iter_mut().for_each(|value| *value *= inverse);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_orthonormal_also_where_the_covariance_has_no_rank() {
        for (dimension, rank) in [(1, 1), (3, 1), (8, 0), (20, 20), (40, 7)] {
            let mut covariance = vec![0f32; dimension * dimension];
            for r in 0..rank {
                let vector: Vec<f32> = (0..dimension)
                    .map(|i| ((i * 7 + r * 13) % 17) as f32 - 8.0)
                    .collect();
                for i in 0..dimension {
                    for j in 0..dimension {
                        covariance[i * dimension + j] += vector[i] * vector[j] * (r + 1) as f32;
                    }
                }
            }
            let rows = directions(&covariance, dimension, 8);
            for (i, a) in rows.chunks_exact(dimension).enumerate() {
                for (j, b) in rows.chunks_exact(dimension).enumerate() {
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!(
                        (dot(a, b) - expected).abs() < 1e-3,
                        "{dimension} {rank} {i} {j}: {}",
                        dot(a, b)
                    );
                }
            }
        }
    }
}
