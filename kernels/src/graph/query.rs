//! A query as the codes of a graph are read with.

use super::basis::{self, Basis, COARSE_STEP, STEP};
use super::lanes::{FINE, HEAD, HEAD_DIMENSION, LINE_DIMENSION};
use super::points::Doubt;
use crate::arithmetic::{dot, largest, nearest};

/// The part of a query that heads are multiplied with, six times 32 small integers for each line: components `0..32` of four
/// bits, `0..32` of two, `32..64` of four, and the other 96 of two, so that the first half of what lies in a line meets the
/// one and its other half the other.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Head(pub [[[i8; 32]; 6]; HEAD]);

/// How far a head may fall short of the beam before the rest is not read, in standard deviations of
/// what the head leaves over.
const MARGIN: f32 = 1.5;

/// The shares of a component's variance that four bits and six leave over: a Gaussian in equal steps, cut off at both
/// ends; and the rounding of the query.
const LEFT_OVER: [f32; 2] = [0.0115, 0.003];

/// `score ≈ norm · (base + scale Σ pᵢ cᵢ)` over the high halves, and with the low bits `norm · (fine_base + scale (Σ pᵢ cᵢ +
/// Σ pᵢ lᵢ / 4))`. By the head alone: `norm · (head_base + head_scale
/// Σ pᵢ cᵢ)`.
#[derive(Debug, Clone)]
pub(crate) struct CodedQuery {
    pub base: f32,
    pub scale: f32,
    pub head_base: f32,
    pub head_scale: f32,
    pub head: Head,
    /// `[lines × 128]`.
    pub whole: Vec<i8>,
    pub fine_base: f32,
    /// What the whole may add to a head, generously.
    pub margin: f32,
    /// One standard deviation of an estimate about the true score: a walk's, and by all bits.
    pub errors: [f32; 2],
    /// How far the query is from what was turned in its place.
    pub rounding: f32,
    /// The weights of the components, and those of a head's components, in its order.
    weighted: Vec<f32>,
    of_head: Vec<f32>,
    /// Those, rounded.
    pub small: Vec<i8>,
    /// How far weights are from what they are rounded to.
    off: Vec<f32>,
}

impl CodedQuery {
    pub fn new() -> CodedQuery {
        CodedQuery {
            base: 0.0,
            scale: 0.0,
            head_base: 0.0,
            head_scale: 0.0,
            head: Head([[[0; 32]; 6]; HEAD]),
            whole: Vec::new(),
            fine_base: 0.0,
            margin: 0.0,
            errors: [0.0; 2],
            rounding: 0.0,
            weighted: Vec::new(),
            of_head: Vec::new(),
            small: Vec::new(),
            off: Vec::new(),
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

    /// How far estimates by all bits can be from the true scores, for vectors that are no longer than `longest` when they
    /// are centred.
    pub fn slack(&mut self, longest: f32) -> Slack {
        let pairs = self.weighted.iter().zip(&self.whole);
        self.off.clear();
        self.off
            .extend(pairs.map(|(weight, &small)| weight - self.scale * f32::from(small)));
        Slack {
            weights: dot(&self.off, &self.off).sqrt(),
            rounding: self.rounding,
            longest,
        }
    }

    #[inline(always)]
    fn weigh(&mut self, basis: &Basis, mean: f32) {
        let fine = basis.head * FINE;
        let covered = basis.head * HEAD_DIMENSION;
        self.weighted
            .resize(covered.max(basis.lines * LINE_DIMENSION), 0.0);
        self.whole.resize(basis.lines * LINE_DIMENSION, 0);
        let (scale, sum) = quantise(&self.weighted[..self.whole.len()], &mut self.whole);
        self.scale = scale;
        self.base = mean - 7.5 * scale * sum as f32;
        self.fine_base = self.base - 0.25 * 1.5 * scale * sum as f32;

        self.of_head.clear();
        self.of_head.extend_from_slice(&self.weighted[..fine]);
        self.of_head.extend(
            self.weighted[fine..covered]
                .iter()
                .map(|weight| weight * COARSE_STEP),
        );
        self.small.resize(covered, 0);
        let (head_scale, _) = quantise(&self.of_head, &mut self.small);
        let (fines, coarses) = self.small.split_at(fine);
        let sum = |small: &[i8]| small.iter().map(|&value| i32::from(value)).sum::<i32>() as f32;
        self.head_scale = head_scale;
        self.head_base = mean - head_scale * (7.5 * sum(fines) + 1.5 * sum(coarses));
        let parts = fines
            .as_chunks::<32>()
            .0
            .chunks_exact(2)
            .zip(coarses.as_chunks::<32>().0.chunks_exact(4));
        for (line, (fine, coarse)) in self.head.0.iter_mut().zip(parts) {
            *line = [fine[0], coarse[0], fine[1], coarse[1], coarse[2], coarse[3]];
        }

        // A weight is a step of the code, and a step is `STEP` standard deviations.
        let variance = |weights: &[f32]| dot(weights, weights) / (STEP * STEP);
        let parts = [
            variance(&self.weighted[..fine]),
            variance(&self.weighted[fine..covered]),
            variance(&self.weighted[covered..]),
        ];
        let whole: f32 = parts.iter().sum();
        let head_error = basis::left_over(parts).sqrt();
        self.errors = LEFT_OVER.map(|share| (share * whole).sqrt());
        if basis.head_suffices {
            self.errors[0] = head_error;
        }
        self.margin = MARGIN * head_error;
    }
}

/// What estimates by all bits are off: by the rounding of the vector, of the query, and of its weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slack {
    weights: f32,
    rounding: f32,
    longest: f32,
}

impl Slack {
    /// No more than this, over the shell's norm, for a query of length 1: Cauchy and Schwarz, and a little for f32.
    #[inline(always)]
    pub fn of(&self, doubt: Doubt) -> f32 {
        let distance = doubt.distance();
        distance + self.rounding * (self.longest + distance) + self.weights * doubt.steps() + 1e-4
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
