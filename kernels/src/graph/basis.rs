//! The basis in which a graph codes its vectors: the first line of a code shall tell most of it.
//!
//! Directions of large variance come first. They are found by a few rounds of orthogonal iteration on
//! the covariance of a sample: any orthonormal basis is right, a well ordered one is quick. Vectors
//! and queries are turned by the same matrix of small integers, so that its rounding nearly cancels.
//! Above [`LARGEST`] dimensions components are put in order of their variance and not mixed.

use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;

use super::lanes::{COARSE, FINE, HEAD, LANES, LINE_DIMENSION, LOW_DIMENSION, Lanes, interleave};
use crate::arithmetic::{dot, largest, nearest};
use crate::directions::{covariance, directions};

/// The largest dimension that is turned; the work grows with its cube.
pub(super) const LARGEST: usize = 1024;

/// A step of four-bit codes, in standard deviations, of a Gaussian: sixteen steps then hold what [`KEPT`]
/// asks for. Where a component has longer tails its steps are wider, for what is near a query that lies
/// far out lies there too.
pub(super) const STEP: f32 = 0.385;

/// The share of a component's values that codes hold without cutting them off.
const KEPT: f64 = 0.998;

/// The step of a head's codes of two bits, over [`STEP`]: what is best for a Gaussian.
pub(super) const COARSE_STEP: f32 = 0.9957 / STEP;

/// The share of the variance that a head may leave over for walks to do without the rest.
const ENOUGH: f32 = 0.2;

/// What a head leaves over of the variance of its components of four bits, of those of two, and of the others.
#[inline(always)]
pub(super) fn left_over([fine, coarse, none]: [f32; 3]) -> f32 {
    0.0115 * fine + 0.12 * coarse + none
}

/// Vectors of the sample from which steps are taken at most.
const STEPS_FROM: usize = 2048;

/// Rounds of orthogonal iteration.
const ROUNDS: usize = 8;

/// How vectors are turned and scaled before they are coded. All vectors are taken over the norm of
/// their shell.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    pub dimension: usize,
    /// `dimension`, up to a multiple of 64: the bytes of a row of small integers.
    pub width: usize,
    /// Lines of the high halves of a code.
    pub lines: usize,
    /// Lines of its head: one where that is enough.
    pub head: usize,
    /// Whether heads tell so much that a walk needs nothing else.
    pub head_suffices: bool,
    /// `[D]`: the mean, not turned.
    pub mean: Vec<f32>,
    /// `[D]`: a step of the code, for each direction.
    pub steps: Vec<f32>,
    /// `[D]`: what a small integer of each direction's row stands for.
    pub units: Vec<f32>,
    /// `[D, D]` small integers, a direction a row; empty where `order` is not.
    pub rows: Vec<i8>,
    /// `[D]`: which component comes at each place, where nothing is turned.
    pub order: Vec<u32>,
    blocks: Vec<i8>,
    sums: Vec<i32>,
}

/// Vectors as [`Basis::turn`] gives them.
#[derive(Debug, Default)]
pub(super) struct Turned {
    numbers: Vec<i32>,
    stride: usize,
    scales: Vec<f32>,
    /// How far each vector is from what was turned.
    roundings: Vec<f32>,
    rounded: Vec<i8>,
    off: Vec<f32>,
}

impl Turned {
    /// A vector's numbers `[D]` and up to 15 more, and their scale.
    #[inline(always)]
    pub fn of(&self, vector: usize) -> (&[i32], f32) {
        let numbers = &self.numbers[vector * self.stride..][..self.stride];
        (numbers, self.scales[vector])
    }

    /// How far a vector is from what was turned in its place.
    pub fn rounding(&self, vector: usize) -> f32 {
        self.roundings[vector]
    }
}

impl Basis {
    /// The basis for a sample `[s, dimension]`.
    pub fn of(sample: &[f32], dimension: usize) -> Basis {
        let count = (sample.len() / dimension).max(1);
        let mut mean = vec![0f64; dimension];
        for row in sample.chunks_exact(dimension) {
            for (mean, &value) in mean.iter_mut().zip(row) {
                *mean += f64::from(value) / count as f64;
            }
        }
        let mean: Vec<f32> = mean.into_iter().map(|value| value as f32).collect();
        let mut variances = vec![0f32; dimension];
        for row in sample.chunks_exact(dimension) {
            for ((variance, value), mean) in variances.iter_mut().zip(row).zip(&mean) {
                *variance += (value - mean) * (value - mean) / count as f32;
            }
        }
        if dimension > LARGEST {
            let mut order: Vec<u32> = (0..dimension as u32).collect();
            order.sort_by(|&a, &b| {
                variances[b as usize]
                    .total_cmp(&variances[a as usize])
                    .then(a.cmp(&b))
            });
            let steps: Vec<f32> = order
                .iter()
                .map(|&at| STEP * variances[at as usize].sqrt())
                .collect();
            let head = head_lines(&steps);
            return Basis::from_parts(
                dimension,
                mean,
                steps,
                vec![1.0; dimension],
                Vec::new(),
                order,
                head,
            );
        }
        let directions = directions(&covariance(sample, &mean), dimension, ROUNDS);
        let mut units = vec![0f32; dimension];
        let mut rows = vec![0i8; dimension * dimension];
        for ((unit, out), direction) in units
            .iter_mut()
            .zip(rows.chunks_exact_mut(dimension))
            .zip(directions.chunks_exact(dimension))
        {
            let largest = largest(direction);
            *unit = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            for (out, value) in out.iter_mut().zip(direction) {
                *out = nearest(value / *unit);
            }
        }
        let stride = count.div_ceil(STEPS_FROM).max(1);
        let steps: Vec<f32> = directions
            .par_chunks(dimension)
            .map(|direction| {
                let centre = dot(direction, &mean);
                let values = sample.chunks_exact(dimension).step_by(stride);
                step(values.map(|row| dot(direction, row) - centre).collect())
            })
            .collect();
        let head = head_lines(&steps);
        Basis::from_parts(dimension, mean, steps, units, rows, Vec::new(), head)
    }

    /// A basis as it was stored. Lengths are the caller's to check.
    pub fn from_parts(
        dimension: usize,
        mean: Vec<f32>,
        steps: Vec<f32>,
        units: Vec<f32>,
        rows: Vec<i8>,
        order: Vec<u32>,
        head: usize,
    ) -> Basis {
        let width = dimension.next_multiple_of(64);
        let (blocks, sums) = if order.is_empty() {
            let mut padded = vec![0i8; dimension * width];
            for (to, from) in padded.chunks_exact_mut(width).zip(rows.chunks_exact(dimension)) {
                to[..dimension].copy_from_slice(from);
            }
            interleave(padded.chunks_exact(width), width)
        } else {
            (Vec::new(), Vec::new())
        };
        Basis {
            dimension,
            width,
            lines: dimension.div_ceil(LINE_DIMENSION),
            head,
            head_suffices: is_enough(&steps, head),
            mean,
            steps,
            units,
            rows,
            order,
            blocks,
            sums,
        }
    }

    /// Lines of a vector beside its head: those of the high halves, and those of the low bits.
    #[inline(always)]
    pub fn rest(&self) -> usize {
        self.lines + self.lines.div_ceil(LOW_DIMENSION / LINE_DIMENSION)
    }

    /// Turns `vectors` `[n, D]` into small integers: component `i` of a vector stands for `turned.of(vector)[i] · units[i]`
    /// times its scale. Several at once share the reading of the matrix.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`.
    #[inline(always)]
    pub unsafe fn turn<L: Lanes>(&self, vectors: &[f32], turned: &mut Turned) {
        let vectors = vectors.chunks_exact(self.dimension);
        turned.stride = self.dimension.next_multiple_of(LANES);
        turned.numbers.resize(vectors.len() * turned.stride, 0);
        turned.scales.clear();
        turned.roundings.clear();
        turned.rounded.clear();
        turned.rounded.resize(vectors.len() * self.width, 0);
        let numbers = turned.numbers.chunks_exact_mut(turned.stride);
        for ((vector, rounded), numbers) in vectors
            .zip(turned.rounded.chunks_exact_mut(self.width))
            .zip(numbers)
        {
            let largest = largest(vector);
            let unit = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            if self.order.is_empty() {
                let inverse = 1.0 / unit;
                for (rounded, value) in rounded.iter_mut().zip(vector) {
                    *rounded = nearest(value * inverse);
                }
                turned.scales.push(unit);
                turned.off.clear();
                let pairs = vector.iter().zip(rounded.iter());
                turned
                    .off
                    .extend(pairs.map(|(value, &rounded)| value - f32::from(rounded) * unit));
                turned.roundings.push(dot(&turned.off, &turned.off).sqrt());
            } else {
                let inverse = 32_767.0 / (unit * 127.0);
                for (number, &at) in numbers.iter_mut().zip(&self.order) {
                    *number = (vector[at as usize] * inverse).round_ties_even() as i32;
                }
                let scale = unit * 127.0 / 32_767.0;
                turned.scales.push(scale);
                turned.roundings.push(scale * (self.dimension as f32).sqrt());
            }
        }
        if self.order.is_empty() {
            // SAFETY: the caller promises the instructions; the matrix is `width` wide and has `D` columns.
            unsafe {
                L::products(
                    &turned.rounded,
                    self.width,
                    &self.blocks,
                    &self.sums,
                    &mut turned.numbers,
                );
            }
        }
    }
}

impl Basis {
    /// What products with turned queries take a turned vector for: what it is when it is turned back.
    pub fn turned_back(&self, turned: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(self.dimension, 0.0);
        if !self.order.is_empty() {
            for (value, &at) in turned.iter().zip(&self.order) {
                out[at as usize] = *value;
            }
            return;
        }
        let rows = self.rows.chunks_exact(self.dimension.max(1));
        for ((value, unit), row) in turned.iter().zip(&self.units).zip(rows) {
            let factor = value * unit;
            for (out, &component) in out.iter_mut().zip(row) {
                *out += factor * f32::from(component);
            }
        }
    }
}

/// Whether walks do with heads of so many lines, where these are the steps of the directions.
fn is_enough(steps: &[f32], head: usize) -> bool {
    let (fine, others) = steps.split_at(steps.len().min(head * FINE));
    let (coarse, none) = others.split_at(others.len().min(head * COARSE));
    let parts = [fine, coarse, none].map(|steps| dot(steps, steps));
    left_over(parts) <= ENOUGH * parts.iter().sum::<f32>()
}

fn head_lines(steps: &[f32]) -> usize {
    (1..HEAD).find(|&head| is_enough(steps, head)).unwrap_or(HEAD)
}

/// The step of a component with these values about its mean.
fn step(mut values: Vec<f32>) -> f32 {
    let variance =
        values.iter().map(|&value| f64::from(value * value)).sum::<f64>() / values.len().max(1) as f64;
    for value in &mut values {
        *value = value.abs();
    }
    let Some(last) = values.len().checked_sub(1) else {
        return 0.0;
    };
    let place = (last as f64 * KEPT) as usize;
    let (_, reach, _) = values.select_nth_unstable_by(place, f32::total_cmp);
    // Between what suits a Gaussian and twice that.
    (*reach / 7.5).clamp(0.335 * variance.sqrt() as f32, 0.67 * variance.sqrt() as f32)
}
