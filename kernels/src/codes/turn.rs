//! Turning a plane so that few components tell most of it.
//!
//! Vectors of an encoder lie mostly in a few hundred directions, few of which carry much: of 384 components, half may
//! hold nine tenths of the variance. So residuals are turned into a basis whose first directions have the largest variance,
//! `y = V r`; of the components the first `H`, the *head*, are scanned for all rows, and the others for those that are left.
//! What the head leaves out is bounded by its length. The directions of a head are mixed with each other, so that sixteen
//! levels suit all of its components alike.

use std::borrow::Cow;

use super::STEP;
use super::head::shortest;
use crate::directions::{covariance, directions, each_row};
use crate::dispatch::{Kernels, PRODUCTS, product};

/// Larger vectors are not turned: finding directions takes the cube of the dimension.
pub(super) const DIMENSION_MAX: usize = 1024;

/// The sums of `Kernels::low` fit in 32 bits.
const _: () = assert!(17 * 15 * 127 * DIMENSION_MAX <= i32::MAX as usize);

/// Nor are smaller ones: a row is read in a line or two as it is.
const DIMENSION_MIN: usize = 64;

/// Rows for each component from which turning a query takes far less time than it saves.
const ROWS_MIN: usize = 128;

/// Rows of the sample by which heads are compared.
const COMPARED: usize = 1024;

/// Rounds of orthogonal iteration.
const ROUNDS: usize = 4;

/// A basis further from orthonormal is not used.
const SKEW_MAX: f64 = 1e-2;

/// How residuals and queries are turned.
#[derive(Debug, Clone)]
pub(super) struct Turn<'a> {
    /// Components that are scanned for all rows: a multiple of [`STEP`].
    pub head: usize,
    pub dimension: usize,
    /// `[D, D]`: `V`.
    pub rows: Cow<'a, [f32]>,
}

impl Turn<'static> {
    /// The directions of a sample `[s, D]`, if turning pays for so many rows.
    pub fn find(sample: &[f32], mean: &[f32], rows: usize) -> Option<Turn<'static>> {
        let dimension = mean.len();
        if !(DIMENSION_MIN..=DIMENSION_MAX).contains(&dimension) || rows / ROWS_MIN < dimension {
            return None;
        }
        let mut turn = Turn::sorted(sample, mean)?;
        let stride = (sample.len() / dimension).div_ceil(COMPARED).max(1);
        let mut residuals = Vec::new();
        for row in sample.chunks_exact(dimension).step_by(stride) {
            residuals.extend(row.iter().zip(mean).map(|(value, mean)| value - mean));
        }
        let mut turned = vec![0f32; residuals.len()];
        turn.turn(&residuals, &mut turned);
        let mut centre = vec![0f32; dimension];
        turn.turn(mean, &mut centre);
        turn.head = shortest(&turned, &centre, rows)?;
        turn.mixed()
    }

    /// The same with a head of so many components, up to a multiple of [`STEP`], whether or not it pays.
    pub fn with_head(sample: &[f32], mean: &[f32], head: usize) -> Option<Turn<'static>> {
        let mut turn = Turn::sorted(sample, mean)?;
        turn.head = head.clamp(1, turn.dimension).next_multiple_of(STEP);
        turn.mixed()
    }

    /// Directions in the order of their variance, and no head.
    fn sorted(sample: &[f32], mean: &[f32]) -> Option<Turn<'static>> {
        let dimension = mean.len();
        if dimension > DIMENSION_MAX || sample.is_empty() {
            return None;
        }
        let mut moments = covariance(sample, mean);
        let variance: f32 = moments.iter().step_by(dimension + 1).sum();
        if !(variance > 0.0 && variance.is_finite()) {
            return None;
        }
        // Queries are about as stored vectors are, and have their mean: its direction belongs into the head too.
        for (line, a) in moments.chunks_exact_mut(dimension).zip(mean) {
            line.iter_mut().zip(mean).for_each(|(moment, b)| *moment += a * b);
        }
        // Whatever the scale of the vectors, squares of what iteration works with are within the range of f32.
        let trace: f32 = moments.iter().step_by(dimension + 1).sum();
        moments.iter_mut().for_each(|moment| *moment /= trace);
        Some(Turn {
            head: 0,
            dimension,
            rows: Cow::Owned(directions(&moments, dimension, ROUNDS)),
        })
    }

    /// Mixes the directions of the head: each becomes a sum of many, so that all have about the same variance. `None` where
    /// nothing is left behind the head, or the basis is not what it should be.
    fn mixed(mut self) -> Option<Turn<'static>> {
        let (head, dimension) = (self.head, self.dimension);
        if head >= dimension {
            return None;
        }
        let mut blocks = Vec::new();
        let mut left = head;
        while left > 0 {
            let size = 1 << left.ilog2();
            blocks.push((size, Vec::with_capacity(size * dimension)));
            left -= size;
        }
        // Every block gets its share of the large ones.
        for (i, row) in self.rows.chunks_exact(dimension).take(head).enumerate() {
            let due = |(size, rows): &(usize, Vec<f32>)| {
                (size * (i + 1)) as f64 / head as f64 - (rows.len() / dimension) as f64
            };
            let open = blocks
                .iter_mut()
                .filter(|(size, rows)| rows.len() < size * dimension);
            let (_, rows) = open.max_by(|a, b| due(a).total_cmp(&due(b)))?;
            rows.extend_from_slice(row);
        }
        let mut mixed: Vec<f32> = Vec::with_capacity(dimension * dimension);
        for (size, mut rows) in blocks {
            hadamard(&mut rows, size, dimension);
            mixed.append(&mut rows);
        }
        mixed.extend_from_slice(&self.rows[head * dimension..]);
        self.rows = Cow::Owned(mixed);
        (self.skew() <= SKEW_MAX).then_some(self)
    }

    /// As a section holds it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (self.head as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(bytemuck::cast_slice(&self.rows));
        bytes
    }
}

/// The Hadamard transform of rows, a power of two of them, scaled so that orthonormal rows stay so.
fn hadamard(rows: &mut [f32], count: usize, dimension: usize) {
    let mut half = 1;
    while half < count {
        for pair in rows.chunks_exact_mut(2 * half * dimension) {
            let (upper, lower) = pair.split_at_mut(half * dimension);
            for (a, b) in upper.iter_mut().zip(lower) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (count as f32).sqrt();
    rows.iter_mut().for_each(|value| *value *= scale);
}

impl<'a> Turn<'a> {
    /// The length of a section for this dimension, where there is one.
    pub fn bytes(dimension: usize) -> Option<usize> {
        dimension.checked_mul(dimension)?.checked_add(1)?.checked_mul(4)
    }

    /// The head that a section tells.
    pub fn head_of(bytes: &[u8]) -> Option<u32> {
        bytes.first_chunk().map(|&head| u32::from_le_bytes(head))
    }

    /// Borrowed from a section of that length, copied if it lies unaligned.
    pub fn from_bytes(bytes: &'a [u8], dimension: usize, head: usize) -> Turn<'a> {
        let (_, floats) = bytes.split_at(4.min(bytes.len()));
        let rows = match bytemuck::try_cast_slice(floats) {
            Ok(floats) => Cow::Borrowed(floats),
            Err(_) => Cow::Owned(super::floats(floats).collect()),
        };
        Turn {
            head,
            dimension,
            rows,
        }
    }

    pub fn into_owned(self) -> Turn<'static> {
        Turn {
            head: self.head,
            dimension: self.dimension,
            rows: Cow::Owned(self.rows.into_owned()),
        }
    }

    /// Turns `vectors` `[n, D]` into `out` `[n, D]`. The result is the same on every machine.
    pub fn turn(&self, vectors: &[f32], out: &mut [f32]) {
        let dimension = self.dimension;
        let kernels = Kernels::best();
        let together = PRODUCTS * dimension;
        let several = vectors.len() / together * together;
        let (vectors, few) = vectors.split_at(several);
        let (out, few_out) = out.split_at_mut(several);
        // Several vectors with each direction, for as long as it is in the nearest cache.
        for (vectors, out) in vectors.chunks_exact(together).zip(out.chunks_exact_mut(together)) {
            for (i, row) in self.rows.chunks_exact(dimension).enumerate() {
                for (v, product) in kernels.products(vectors, row).into_iter().enumerate() {
                    out[v * dimension + i] = product;
                }
            }
        }
        // One vector with several directions.
        for (vector, out) in few
            .chunks_exact(dimension)
            .zip(few_out.chunks_exact_mut(dimension))
        {
            for (rows, out) in self.rows.chunks(together).zip(out.chunks_mut(PRODUCTS)) {
                if rows.len() == together {
                    out.copy_from_slice(&kernels.products(rows, vector));
                } else {
                    let rows = rows.chunks_exact(dimension);
                    out.iter_mut()
                        .zip(rows)
                        .for_each(|(out, row)| *out = product(row, vector));
                }
            }
        }
    }

    /// How far from orthonormal the basis is: no less than `‖Vᵀ V − 1‖ = ‖V Vᵀ − 1‖`.
    fn skew(&self) -> f64 {
        let dimension = self.dimension;
        let mut squares = vec![0f32; dimension];
        each_row(&mut squares, 1, |i, out| {
            let row = &self.rows[i * dimension..][..dimension];
            let sum: f64 = self
                .rows
                .chunks_exact(dimension)
                .enumerate()
                .map(|(j, other)| {
                    let pairs = row.iter().zip(other);
                    let product: f64 = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    let off = product - f64::from(u8::from(i == j));
                    off * off
                })
                .sum();
            out[0] = crate::bound::up(sum);
        });
        let sum: f64 = squares.iter().map(|&square| f64::from(square)).sum();
        // A product of rows is off by `D · 2⁻⁵³` at most, and there are `D²` of them.
        sum.sqrt() * (1.0 + 1e-6) + (dimension * dimension) as f64 / (1u64 << 52) as f64
    }

    /// What turning adds to the bounds of a row; `query.rs` tells how.
    pub fn allowance(&self) -> Allowance {
        let dimension = self.dimension as f64;
        let skew = self.skew();
        // A term passes through no more roundings: its product, a lane's sum, the sum of the lanes.
        let roundings = (dimension / 16.0 + 20.0) / (1u64 << 24) as f64;
        let eta = 1.02 * roundings * dimension.sqrt() * (1.0 + skew);
        Allowance {
            factor: 1.0 + skew + 2.0 * eta,
            turned: eta + (1.0 + skew) * 2.0 / (1u64 << 24) as f64,
            // What underflow can add: 2⁻¹⁴⁷ a term.
            constant: dimension * dimension.sqrt() * f64::from_bits((1023 - 147) << 52),
            product: skew + eta * (1.0 + skew) + dimension / (1u64 << 50) as f64,
        }
    }
}

/// What turning adds to the bounds of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// No turned query is longer than so many times the query.
    pub factor: f64,
    /// How far a turned residual can be from `V r`: so much of `‖r‖`, and a constant.
    pub turned: f64,
    pub constant: f64,
    /// How far `z·y` can be from `q·r`: so much of `‖q‖ ‖r‖`.
    pub product: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;

    fn length(values: impl Iterator<Item = f64>) -> f64 {
        values.map(|x| x * x).sum::<f64>().sqrt()
    }

    fn random(numbers: &mut Numbers, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| numbers.below(2001) as f32 / 1000.0 - 1.0)
            .collect()
    }

    /// A basis of the directions of random vectors, each component of it changed by so much at most.
    fn skewed(numbers: &mut Numbers, dimension: usize, head: usize, by: f32) -> (Turn<'static>, Vec<f32>) {
        let sample = random(numbers, 200 * dimension);
        let mut turn = Turn::with_head(&sample, &vec![0.0; dimension], head).unwrap();
        let changes = random(numbers, dimension * dimension);
        for (value, change) in turn.rows.to_mut().iter_mut().zip(changes) {
            *value += by * change;
        }
        (turn, sample)
    }

    #[test]
    fn mixed_directions_stay_orthonormal() {
        let mut numbers = Numbers(3);
        for (dimension, head) in [(9, 8), (40, 24), (100, 56), (130, 128)] {
            let (turn, _) = skewed(&mut numbers, dimension, head, 0.0);
            assert_eq!(turn.head, head);
            assert!(turn.skew() < 1e-5, "{dimension}, {head}: {}", turn.skew());
        }
    }

    #[test]
    fn turning_is_off_by_no_more_than_is_allowed_for() {
        let mut numbers = Numbers(4);
        for (dimension, by) in [(16, 0.0), (64, 1e-4), (200, 3e-5)] {
            let (turn, sample) = skewed(&mut numbers, dimension, 8, by);
            let allowance = turn.allowance();
            assert!(by == 0.0 || turn.skew() > 1e-3, "{}", turn.skew());
            let mut turned = vec![0f32; sample.len()];
            turn.turn(&sample, &mut turned);
            let pairs = || sample.chunks_exact(dimension).zip(turned.chunks_exact(dimension));
            for (vector, y) in pairs() {
                let norm = length(vector.iter().map(|&x| f64::from(x)));
                let exact = turn.rows.chunks_exact(dimension).map(|row| -> f64 {
                    let pairs = row.iter().zip(vector);
                    pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
                });
                let off = length(exact.zip(y).map(|(exact, &y)| exact - f64::from(y)));
                assert!(off <= allowance.turned * norm + allowance.constant, "{off}");
                assert!(length(y.iter().map(|&y| f64::from(y))) <= allowance.factor * norm);
                // With itself the product is off the most.
                let product = |a: &[f32]| -> f64 { a.iter().map(|&x| f64::from(x) * f64::from(x)).sum() };
                let off = (product(vector) - product(y)).abs();
                let most = (allowance.product + allowance.factor * allowance.turned) * norm * norm;
                assert!(off <= most, "{off} of {most}");
            }
        }
    }
}
