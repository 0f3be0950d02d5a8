//! A query against codes: the integers that are multiplied and the proof of what they show.
//!
//! Let `d = μ + r` be a stored vector, `r̂` its residual as coded by the high halves, `r̂ = S (h − 7.5)`
//! (or by both, `r̂ = S/16 (c − 127.5)`), and `q` a query coded as `q̂ = s p` with integers `|pᵢ| ≤ 127`.
//! The codes hold `ε ≥ ‖r − r̂‖` and `ν ≥ ‖r̂‖`. From
//!
//! ```text
//! q·d = q·μ + q̂·r̂ + (q − q̂)·r̂ + q·(r − r̂)
//! ```
//!
//! and the Cauchy–Schwarz inequality,
//!
//! ```text
//! q·d ≤ q·μ + q̂·r̂ + ‖q − q̂‖ ν + ‖q‖ ε.                                                  (1)
//! ```
//!
//! `q̂·r̂ = s S Σ pᵢ (hᵢ − 7.5) = (s S / 2) J` with the integer `J = 2 Σ pᵢ hᵢ − 15 Σ pᵢ`, or
//! `(s S / 32) J′` with `J′ = 2 Σ pᵢ cᵢ − 255 Σ pᵢ`. `Σ pᵢ hᵢ ≤ 15 · 127 · 2²⁰ < 2³¹` and, likewise,
//! `|J| ≤ 2³¹`, so 32-bit integers suffice for `J` (what overflows on the way wraps back); `J′` takes 64.
//!
//! **Rounding in f64.** The score is a sum in f64: within `D 2⁻⁵² ‖q‖ ‖d‖` of `q·d`; `q·μ` is summed the
//! same way. With `ρ = D · 2⁻⁵⁰` and `‖d‖ ≤ ‖μ‖ + ν + ε`, (1) becomes, for the score,
//!
//! ```text
//! score ≤ q·μ + (s S / 2) J + A ε + B ν + C,                                              (2)
//! A = ‖q‖ (1 + ρ),  B = ‖q − q̂‖ + ρ ‖q‖,  C = 2 ρ ‖q‖ ‖μ‖.
//! ```
//!
//! A row is excluded if the right side is below the threshold `t`. For both halves this is evaluated
//! in f64 ([`QueryCodes::excludes`]).
//!
//! **Rounding in f32.** For the high halves, sixteen rows at once, the test is `X < T` with
//! `X = g S J + A ε + B ν` and `T = t − q·μ − C`, `g = s / 2`. No operand of `X` passes through more than
//! six roundings of `u = 2⁻²⁴` each, so `X` is off by at most `8 u (|q̂·r̂| + A ε + B ν)`, and
//! `|q̂·r̂| ≤ (‖q‖ + ‖q − q̂‖) ν`. Taking `A (1 + 2⁻²⁰)` and `B (1 + 2⁻²⁰) + 2⁻²⁰ (‖q‖ + ‖q − q̂‖)`
//! instead, rounded up, covers this. Underflow (of `g S` above all, times `|J| ≤ 2³¹`) adds less than
//! 2⁻¹⁰⁰, which `T` is lowered by. Overflow cannot happen: rows of length up to 10¹⁸ are coded, `‖r̂‖ ≤ 10²¹`
//! (others have `ε = ∞`, so that `X` is infinite or NaN: not excluded), and `‖q‖` lies in 10⁻¹⁵..10¹⁵; other queries get `A = ∞`.
//!
//! **Groups.** No row of a group scores above `q·μ + ‖q‖ R (1 + ρ) + C`, where `R ≥ ‖r‖` for all of it.

use super::{Codes, low_row};
use crate::bound::{query_length, up};
use crate::dispatch::TILED_QUERIES;

/// All queries of a search, coded against one plane.
pub(crate) struct QueryCodes {
    /// `[q rounded up to 32][2][half]`: the components that meet the low nibbles of a code, then those that meet the
    /// high ones.
    pub codes: Vec<i8>,
    /// The length of one of the halves.
    pub half: usize,
    pub bounds: Vec<Bound>,
}

/// The numbers of (2) for one query and one plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// `Σ pᵢ`.
    sum: i32,
    /// `s`.
    scale: f32,
    /// `q·μ`, `A`, `B`, `C`.
    mean: f64,
    error: f64,
    norm: f64,
    constant: f64,
    /// `A` and `B` for the f32 test.
    loose: [f32; 2],
}

/// The test `X < T` of one query, as the kernels read it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loose {
    /// `15 Σ pᵢ`.
    pub bias: i32,
    /// `s / 2`.
    pub gain: f32,
    pub error: f32,
    pub norm: f32,
    /// `T`.
    pub low: f32,
}

/// Queries longer or shorter than this are not excluded by codes.
const LONGEST: f64 = 1e15;

impl QueryCodes {
    /// Codes `queries`, `[q, dimension]`, for a plane.
    pub fn new(queries: &[f32], codes: &Codes) -> QueryCodes {
        let dimension = codes.dimension();
        let half = low_row(dimension);
        let mean = codes.mean();
        let count = queries.len() / dimension;
        let mut packed = vec![0i8; count.next_multiple_of(TILED_QUERIES) * 2 * half];
        let bounds = queries
            .chunks_exact(dimension)
            .zip(packed.chunks_exact_mut(2 * half))
            .map(|(query, into)| Bound::new(query, &mean, into))
            .collect();
        QueryCodes {
            codes: packed,
            half,
            bounds,
        }
    }

    /// The two halves of a query.
    pub fn halves(&self, query: usize) -> (&[i8], &[i8]) {
        self.codes[query * 2 * self.half..][..2 * self.half].split_at(self.half)
    }
}

impl Bound {
    fn new(query: &[f32], mean: &[f32], into: &mut [i8]) -> Bound {
        let half = into.len() / 2;
        let length = query_length(query);
        let rho = query.len() as f64 / (1u64 << 50) as f64;
        let dot: f64 = query
            .iter()
            .zip(mean)
            .map(|(&q, &m)| f64::from(q) * f64::from(m))
            .sum();
        let largest = query.iter().fold(0.0f32, |a, q| a.max(q.abs()));
        let scale = largest / 127.0;
        if !(1.0 / LONGEST..LONGEST).contains(&length) {
            return Bound {
                sum: 0,
                scale: 0.0,
                mean: dot,
                error: f64::INFINITY,
                norm: 0.0,
                constant: 0.0,
                loose: [f32::INFINITY, 0.0],
            };
        }
        let (mut sum, mut squares) = (0i32, 0.0f64);
        for (i, &q) in query.iter().enumerate() {
            // A cast of a float saturates, so this is in −127..=127 but for rounding of the scale.
            let code = ((q / scale).round() as i8).max(-127);
            into[i % 8 / 4 * half + i / 8 * 4 + i % 4] = code;
            sum += i32::from(code);
            let off = f64::from(q) - f64::from(scale) * f64::from(code);
            squares += off * off;
        }
        let off = squares.sqrt() * (1.0 + 1e-9);
        let error = length * (1.0 + rho);
        let norm = off + rho * length;
        let more = 1.0 / (1u64 << 20) as f64;
        Bound {
            sum,
            scale,
            mean: dot,
            error,
            norm,
            constant: 2.0 * rho * length * query_length(mean),
            loose: [
                up(error * (1.0 + more)),
                up(norm * (1.0 + more) + more * (length + off)),
            ],
        }
    }

    /// The f32 test against `threshold`.
    pub fn loose(&self, threshold: f64) -> Loose {
        let tiny = f64::from_bits((1023 - 100) << 52);
        let rest = threshold - self.mean - self.constant;
        let rest = rest - 1e-14 * (threshold.abs() + self.mean.abs()) - tiny;
        // −∞ stays; +∞ less +∞ is NaN, against which nothing is excluded.
        Loose {
            bias: 15 * self.sum,
            gain: self.scale / 2.0,
            error: self.loose[0],
            norm: self.loose[1],
            low: crate::bound::down(rest),
        }
    }

    /// Whether a row certainly scores below `threshold`, by both halves of its code: `high` is its
    /// `J`, `low` the sum `Σ pᵢ lᵢ` over its low halves, `scale` its `S`, `factors` its `ε` and `ν`.
    pub fn excludes(&self, high: i32, low: i32, scale: f32, factors: [f32; 2], threshold: f64) -> bool {
        // J′ = 2 Σ p (16 h + l) − 255 Σ p = 16 J + 2 Σ p l − 15 Σ p.
        let j = 16 * i64::from(high) + 2 * i64::from(low) - 15 * i64::from(self.sum);
        let product = f64::from(self.scale) * f64::from(scale) / 32.0 * j as f64;
        let [error, norm] = factors.map(f64::from);
        let margin = self.error * error + self.norm * norm + self.constant;
        let reach = self.mean + product + margin;
        let slack = 1e-14 * (self.mean.abs() + product.abs() + margin + threshold.abs());
        // False for NaN on either side.
        reach + slack < threshold
    }

    /// Whether every row whose residual is no longer than `longest` certainly scores below
    /// `threshold`.
    pub fn excludes_group(&self, longest: f32, threshold: f64) -> bool {
        let reach = self.mean + self.error * f64::from(longest) + self.constant;
        let slack = 1e-14 * (self.mean.abs() + self.error * f64::from(longest) + threshold.abs());
        reach + slack < threshold
    }
}
