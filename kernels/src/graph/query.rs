//! A query as the codes of a graph are read with.

use super::basis::{Basis, STEP};
use super::lanes::{HEAD, LINE_DIMENSION};
use super::points::Doubt;
use crate::directions::{dot, largest, nearest};

/// The part of a query that heads are multiplied with: small integers on cache lines of their own.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Head(pub [i8; HEAD * LINE_DIMENSION]);

/// How far a head may fall short of the beam before the rest is not read, in standard deviations of
/// what the rest adds.
const MARGIN: f32 = 1.5;

/// The shares of a component's variance that four bits and eight leave over: a Gaussian in equal steps,
/// cut off at both ends; and the rounding of the query.
const LEFT_OVER: [f32; 2] = [0.0115, 0.002];

/// `score ≈ norm · (base + scale₀ Σ pᵢ cᵢ + scale₁ Σ pᵢ cᵢ)`: over the head, over the other lines. By the
/// head alone: `norm · (head_base + scale₀ Σ pᵢ cᵢ)`.
#[derive(Debug, Clone)]
pub(crate) struct CodedQuery {
    pub base: f32,
    pub head_base: f32,
    pub scales: [f32; 2],
    pub head: Head,
    pub rest: Vec<i8>,
    /// What the low halves add to the sums of their own: `low_base` and a sixteenth of those.
    pub low_base: f32,
    /// What the rest may add to a head, generously.
    pub margin: f32,
    /// One standard deviation of an estimate about the true score: a walk's, and by both halves.
    pub errors: [f32; 2],
    /// How far the query is from what was turned in its place.
    pub rounding: f32,
    weighted: Vec<f32>,
}

impl CodedQuery {
    pub fn new() -> CodedQuery {
        CodedQuery {
            base: 0.0,
            head_base: 0.0,
            scales: [0.0; 2],
            head: Head([0; HEAD * LINE_DIMENSION]),
            rest: Vec::new(),
            low_base: 0.0,
            margin: 0.0,
            errors: [0.0; 2],
            rounding: 0.0,
            weighted: Vec::new(),
        }
    }

    /// Codes `query`, of which the basis has made these numbers with this scale.
    #[inline(always)]
    pub fn set(&mut self, basis: &Basis, query: &[f32], (numbers, scale): (&[i32], f32)) {
        self.weighted.clear();
        self.weighted.extend(
            numbers
                .iter()
                .zip(basis.units.iter().zip(&basis.steps))
                .map(|(&number, (row, step))| number as f32 * scale * row * step),
        );
        self.weigh(basis, dot(query, &basis.mean));
    }

    /// Codes a query that is turned already.
    pub fn set_turned(&mut self, basis: &Basis, turned: &[f32]) {
        self.weighted.clear();
        self.weighted.extend(
            turned
                .iter()
                .zip(&basis.steps)
                .map(|(turned, step)| turned * step),
        );
        self.weigh(basis, 0.0);
    }

    /// How far an estimate by both halves can be from the true score, over the shell's norm, for a query of length 1: by
    /// the rounding of the vector, of the query, and of its weights. Cauchy and Schwarz, and a little for f32.
    pub fn slack(&self, doubt: &Doubt) -> f32 {
        let (first, rest) = self.weighted.split_at(self.weighted.len() - self.rest.len());
        let halves = [
            (first, &self.head.0[..first.len()], self.scales[0]),
            (rest, &self.rest[..], self.scales[1]),
        ];
        let off = halves.map(|(weights, small, scale)| {
            let pairs = weights.iter().zip(small);
            pairs
                .map(|(weight, &small)| (weight - scale * f32::from(small)).powi(2))
                .sum::<f32>()
        });
        let weights = (off[0] + off[1]).sqrt();
        // A centred vector is no longer than 2, for neither it nor the mean is longer than 1.
        doubt.distance + self.rounding * (2.0 + doubt.distance) + weights * doubt.steps + 1e-4
    }

    #[inline(always)]
    fn weigh(&mut self, basis: &Basis, base: f32) {
        let covered = basis.head * LINE_DIMENSION;
        self.weighted.resize(basis.lines * LINE_DIMENSION, 0.0);
        let (first, rest) = self.weighted.split_at(covered);
        self.rest.resize(rest.len(), 0);
        let (scale, sum) = quantise(first, &mut self.head.0[..covered]);
        let (rest_scale, rest_sum) = quantise(rest, &mut self.rest);
        self.scales = [scale, rest_scale];
        let centre = 7.5 * scale * sum as f32;
        let rest_centre = 7.5 * rest_scale * rest_sum as f32;
        self.head_base = base - centre;
        self.base = self.head_base - rest_centre;
        self.low_base = -(centre + rest_centre) / 16.0;
        // A weight is a step of the code, and a step is `STEP` standard deviations.
        let tail = dot(rest, rest) / (STEP * STEP);
        let whole = dot(first, first) / (STEP * STEP) + tail;
        self.margin = MARGIN * tail.sqrt() + rest_centre;
        self.errors = LEFT_OVER.map(|share| (share * whole).sqrt());
        if basis.head_suffices {
            self.errors[0] = (LEFT_OVER[0] * whole + tail).sqrt();
        }
    }
}

/// Rounds to small integers; returns their unit and their sum.
#[inline(always)]
fn quantise(values: &[f32], out: &mut [i8]) -> (f32, i32) {
    let largest = largest(values);
    if !(largest > 0.0 && largest.is_finite()) {
        out.fill(0);
        return (0.0, 0);
    }
    let inverse = 127.0 / largest;
    let mut sum = 0;
    for (out, value) in out.iter_mut().zip(values) {
        *out = nearest(value * inverse);
        sum += i32::from(*out);
    }
    (largest / 127.0, sum)
}
