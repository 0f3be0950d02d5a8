//! Layers kept apart: a penalty of our own on how alike the vectors are that one passage keeps.
//!
//! The paper finds that eight layer vectors are worse than two, since they are highly correlated. For a passage with
//! vectors `d_1 … d_m`,
//!
//! ```text
//! L_d = 2 / (m (m − 1)) · Σ over k < l of cos²(d_k, d_l)
//! ```
//!
//! is 1 where all lie on one line and 0 where they are orthogonal; the loss takes its mean over the batch's passages.

use rayon::prelude::*;

use super::super::network::{Vectors, cut_by_text};
use super::score::{add, dot};

/// The mean of `L_d` over passages of at least two vectors; its gradient times `weight` is added to `gradient`.
pub(super) fn alike(passages: &Vectors, weight: f64, gradient: &mut Vectors) -> f64 {
    let d = passages.d;
    let several = (0..passages.len()).filter(|&j| passages.of(j).len() > d).count();
    if several == 0 {
        return 0.0;
    }
    let share = 1.0 / several as f64;
    let cuts = cut_by_text(&passages.starts, d, &mut gradient.data);
    let each: Vec<f64> = cuts
        .into_par_iter()
        .enumerate()
        .map(|(j, out)| of_passage(passages.of(j), d, weight * share, out))
        .collect();
    each.iter().sum::<f64>() * share
}

fn of_passage(vectors: &[f32], d: usize, weight: f64, gradient: &mut [f32]) -> f64 {
    let rows: Vec<&[f32]> = vectors.chunks_exact(d).collect();
    let squares: Vec<f64> = rows.iter().map(|row| dot(row, row)).collect();
    let pairs = rows.len() * rows.len().saturating_sub(1) / 2;
    let mut sum = 0.0;
    for k in 0..rows.len() {
        for l in k + 1..rows.len() {
            let product = squares[k] * squares[l];
            // A vector of zeros has no direction.
            if product <= 0.0 {
                continue;
            }
            let inner = dot(rows[k], rows[l]);
            let cosine_squared = inner * inner / product;
            sum += cosine_squared;
            // ∂cos²/∂a = 2 (a·b) / (|a|² |b|²) · b − 2 cos² / |a|² · a
            let weight = 2.0 * weight / pairs as f64;
            for (own, other) in [(k, l), (l, k)] {
                let into = &mut gradient[own * d..][..d];
                add(into, rows[other], weight * inner / product);
                add(into, rows[own], -weight * cosine_squared / squares[own]);
            }
        }
    }
    sum / pairs.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(data: Vec<f32>, rows: usize, d: usize) -> Vectors {
        Vectors {
            d,
            starts: (0..=data.len() / (rows * d)).map(|i| i * rows).collect(),
            data,
        }
    }

    #[test]
    fn one_line_is_1_and_orthogonal_is_0() {
        let of = |data: Vec<f32>| {
            let v = vectors(data, 2, 2);
            let mut gradient = v.zeros();
            alike(&v, 1.0, &mut gradient)
        };
        assert!((of(vec![1.0, 2.0, -2.0, -4.0]) - 1.0).abs() < 1e-12);
        assert!(of(vec![1.0, 2.0, 2.0, -1.0]).abs() < 1e-12);
        assert_eq!(of(vec![0.0, 0.0, 2.0, -1.0]), 0.0);
        let single = vectors(vec![1.0, 2.0], 1, 2);
        assert_eq!(alike(&single, 1.0, &mut single.zeros()), 0.0);
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let data: Vec<f32> = (0..24).map(|i| ((i * 37 % 19) as f32 - 9.0) / 8.0).collect();
        let at = |data: &[f32]| {
            let v = vectors(data.to_vec(), 3, 4);
            let mut gradient = v.zeros();
            (alike(&v, 0.7, &mut gradient), gradient.data)
        };
        let (_, gradient) = at(&data);
        for i in 0..data.len() {
            let moved = |by: f32| {
                let mut data = data.clone();
                data[i] += by;
                at(&data).0
            };
            let slope = 0.7 * (moved(1.0 / 256.0) - moved(-1.0 / 256.0)) * 128.0;
            assert!(
                (f64::from(gradient[i]) - slope).abs() < 1e-4,
                "{i}: {} {slope}",
                gradient[i]
            );
        }
    }
}
