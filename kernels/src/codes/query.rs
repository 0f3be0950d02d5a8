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
//! `|J| ≤ 2³¹`, so 32-bit integers suffice for `J` (what overflows on the way wraps back); `J′` takes 64. What a row's other
//! halves add is summed in 32 bits too, `17 · 15 · 127 D` at most where vectors are turned, and else as `J`.
//!
//! **Turned.** With an almost orthonormal `V`, let `y = V r` and `z = V q` be what was computed of them in f32. Codes hold
//! `ŷ = S (h − 7.5)`, of the head alone by the high halves; the query is coded as `ẑ = s p`. Then
//! `z·y = ẑ·ŷ + (z − ẑ)·ŷ + z·(y − ŷ)`, and, the components of `y` behind the head being no longer than `τ`,
//!
//! ```text
//! q·d ≤ q·μ + ẑ·ŷ + ‖(z − ẑ)_head‖ ν + ‖z_head‖ ‖(y − ŷ)_head‖ + ‖z_behind‖ τ + |q·r − z·y|,    ν ≥ ‖ŷ‖.
//! ```
//!
//! For both halves of all components it is the same without `τ`. With `ω ≥ ‖Vᵀ V − 1‖` and `η ‖q‖` what rounding makes of `z`
//! (a sum in sixteen lanes: `D/16 + 20` roundings a term), `‖z‖ ≤ (1 + ω + 2 η) ‖q‖` and `|q·r − V q·V r| ≤ ω ‖q‖ ‖r‖`, and
//! likewise for `y`, so all that is not `‖q‖` is known when a row is coded: its `ε` is
//! `(1 + ω + 2 η)(‖y − ŷ‖ + rounding of y) + (ω + η (1 + ω) + ρ) ‖r‖` (`Turn::allowance`), and (1) holds with `z` and `ŷ` in the
//! place of `q` and `r̂`, and `‖z_behind‖ τ` added.
//!
//! **Rounding in f64.** The score is a sum in f64: within `D 2⁻⁵² ‖q‖ ‖d‖` of `q·d`; `q·μ` is summed the
//! same way. With `ρ = D · 2⁻⁵⁰` and `‖d‖ ≤ ‖μ‖ + ν + ε`, (1) becomes, for the score,
//!
//! ```text
//! score ≤ q·μ + (s S / 2) J + A ε + B ν + C,                                              (2)
//! A = ‖q‖ (1 + ρ),  B = ‖q − q̂‖ + ρ ‖q‖,  C = 2 ρ ‖q‖ ‖μ‖,
//! ```
//!
//! and `‖z_behind‖ τ` more where vectors are turned. A row is excluded if the right side is below the threshold `t`. For both
//! halves this is evaluated in f64 ([`Bound::excludes`]).
//!
//! **Rounding in f32.** For the high halves, sixteen rows at once, the test is `X < T` with
//! `X = g S J + A ε + B ν + Z τ` and `T = t − q·μ − C`, `g = s / 2`. No operand of `X` passes through more than
//! six roundings of `u = 2⁻²⁴` each, so `X` is off by at most `8 u (|q̂·r̂| + A ε + B ν + Z τ)`, and
//! `|q̂·r̂| ≤ (‖q‖ + ‖q − q̂‖) ν`. Taking `A (1 + 2⁻²⁰)`, `Z (1 + 2⁻²⁰)` and `B (1 + 2⁻²⁰) + 2⁻²⁰ (‖q‖ + ‖q − q̂‖)`
//! instead, rounded up, covers this. Underflow (of `g S` above all, times `|J| ≤ 2³¹`) adds less than
//! 2⁻¹⁰⁰, which `T` is lowered by. Overflow cannot happen: rows of length up to 10¹⁸ are coded, `‖r̂‖ ≤ 10²¹`
//! (others have `ε = ∞`, so that `X` is infinite or NaN: not excluded), and `‖q‖` lies in 10⁻¹⁵..10¹⁵; other queries get `A = ∞`.
//!
//! **Groups.** No row of a group scores above `q·μ + ‖q‖ R (1 + ρ) + C`, where `R ≥ ‖r‖` for all of it.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::build::place;
use super::turn::Turn;
use super::{Codes, half_row};
use crate::bound::{query_length, up};
use crate::dispatch::TILED_QUERIES;

/// All queries of a search, coded against one plane.
pub(crate) struct QueryCodes {
    /// `[q rounded up to 32][2][half]`: the components of the head that meet the low nibbles of a code, then those that meet
    /// the high ones.
    pub codes: Vec<i8>,
    /// The length of one of the halves.
    pub half: usize,
    pub bounds: Vec<Bound>,
    /// Where vectors are turned, `[q][2 (whole + rest)]`: all components in the same form, `[2][whole]`, and those behind
    /// the head, `[2][rest]`. Where they are not, `codes` are all, `whole` is `half` and `rest` zero.
    settled: Vec<i8>,
    whole: usize,
    rest: usize,
}

/// The numbers of (2) for one query and one plane.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bound {
    /// `Σ pᵢ` over the head, and behind it.
    sum: i32,
    rest: i32,
    /// `s`.
    scale: f32,
    /// `q·μ`, `A`, `C`, and `B` for all components.
    mean: f64,
    error: f64,
    norm: f64,
    constant: f64,
    /// `A`, `B` and `Z` for the f32 test.
    loose: [f32; 3],
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
    /// `Z`.
    pub tail: f32,
    /// `T`.
    pub low: f32,
}

/// What low halves, and high ones behind the head, say of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finer {
    /// `J` of the head.
    pub high: i32,
    /// `Σ pᵢ lᵢ` over all, and `16 Σ pᵢ hᵢ` behind the head.
    pub low: i32,
    /// `S`.
    pub scale: f32,
    /// `ε` and `ν`.
    pub factors: [f32; 2],
}

/// Queries longer or shorter than this are not excluded by codes.
const LONGEST: f64 = 1e15;

/// Covers the rounding of the f32 test.
const MORE: f64 = 1.0 / (1u64 << 20) as f64;

/// Queries that a thread turns at once.
const TOGETHER: usize = 16;

impl QueryCodes {
    /// Codes `queries`, `[q, dimension]`, for a plane; `in_parallel` shares the turning among the threads of the rayon pool
    /// that this is called in.
    pub fn new(queries: &[f32], codes: &Codes, in_parallel: bool) -> QueryCodes {
        let (dimension, head) = (codes.dimension(), codes.head());
        let [half, whole, rest] = [head, dimension, dimension - head].map(half_row);
        let mean = codes.mean();
        let turn = codes.turn();
        let count = queries.len() / dimension;
        let turned = turn.as_ref().map(|turn| turned(turn, queries, in_parallel));
        let settled = 2 * (whole + rest);
        let mut all = QueryCodes {
            codes: vec![0i8; count.next_multiple_of(TILED_QUERIES) * 2 * half],
            half,
            bounds: Vec::with_capacity(count),
            settled: vec![0i8; if turn.is_some() { count * settled } else { 0 }],
            whole,
            rest,
        };
        for (at, query) in queries.chunks_exact(dimension).enumerate() {
            let into = &mut all.codes[at * 2 * half..][..2 * half];
            let bound = match &turned {
                None => {
                    let values = query.iter().map(|&q| f64::from(q));
                    Bound::new(query, &mean, values, dimension, |i, code| put(into, i, code))
                }
                Some(turned) => {
                    let z = &turned[at * dimension..][..dimension];
                    let (all, behind) = all.settled[at * settled..][..settled].split_at_mut(2 * whole);
                    let values = z.iter().map(|&z| f64::from(z));
                    let mut bound = Bound::new(query, &mean, values, head, |i, code| {
                        put(all, i, code);
                        match i.checked_sub(head) {
                            None => put(into, i, code),
                            Some(i) => put(behind, i, code),
                        }
                    });
                    bound.loose[2] = up(query_length(&z[head..]) * (1.0 + MORE));
                    bound
                }
            };
            all.bounds.push(bound);
        }
        all
    }

    /// A query as low halves meet it, and as the high ones behind the head do: each in two halves.
    pub fn settling(&self, query: usize) -> [&[i8]; 2] {
        let all = if self.settled.is_empty() {
            &self.codes
        } else {
            &self.settled
        };
        let both = 2 * (self.whole + self.rest);
        let (low, rest) = all[query * both..][..both].split_at(2 * self.whole);
        [low, rest]
    }
}

fn turned(turn: &Turn, queries: &[f32], in_parallel: bool) -> Vec<f32> {
    let mut turned = vec![0f32; queries.len()];
    let together = TOGETHER * turn.dimension;
    if in_parallel && queries.len() > together {
        queries
            .par_chunks(together)
            .zip(turned.par_chunks_mut(together))
            .for_each(|(queries, turned)| turn.turn(queries, turned));
    } else {
        turn.turn(queries, &mut turned);
    }
    turned
}

/// Puts the code of component `i` of a query where that component meets a row's.
fn put(into: &mut [i8], i: usize, code: i8) {
    let half = into.len() / 2;
    let (step, byte, shift) = place(i);
    into[shift / 4 * half + step * 4 + byte] = code;
}

impl Bound {
    /// Codes the components of a query, of which the first `head` are scanned.
    fn new(
        query: &[f32],
        mean: &[f32],
        values: impl Iterator<Item = f64> + Clone,
        head: usize,
        mut put: impl FnMut(usize, i8),
    ) -> Bound {
        let length = query_length(query);
        let rho = query.len() as f64 / (1u64 << 50) as f64;
        let dot: f64 = query
            .iter()
            .zip(mean)
            .map(|(&q, &m)| f64::from(q) * f64::from(m))
            .sum();
        if !(1.0 / LONGEST..LONGEST).contains(&length) {
            return Bound {
                mean: dot,
                error: f64::INFINITY,
                loose: [f32::INFINITY, 0.0, 0.0],
                ..Bound::default()
            };
        }
        let largest = values.clone().fold(0.0f64, |a, x| a.max(x.abs()));
        let scale = (largest / 127.0) as f32;
        // Of the head, and behind it.
        let (mut sums, mut squares, mut lengths) = ([0i32; 2], [0.0f64; 2], [0.0f64; 2]);
        for (i, x) in values.enumerate() {
            // A cast of a float saturates, so this is in −127..=127 but for rounding of the scale.
            let code = ((x / f64::from(scale)).round() as i8).max(-127);
            put(i, code);
            let part = usize::from(i >= head);
            sums[part] += i32::from(code);
            squares[part] += (x - f64::from(scale) * f64::from(code)).powi(2);
            lengths[part] += x * x;
        }
        let [near, far] = [squares[0], squares[0] + squares[1]].map(|sum| sum.sqrt() * (1.0 + 1e-9));
        let error = length * (1.0 + rho);
        let coded = lengths[0].sqrt() * (1.0 + 1e-9);
        Bound {
            sum: sums[0],
            rest: sums[1],
            scale,
            mean: dot,
            error,
            norm: far + rho * length,
            constant: 2.0 * rho * length * query_length(mean),
            loose: [
                up(error * (1.0 + MORE)),
                up((near + rho * length) * (1.0 + MORE) + MORE * (coded + near)),
                0.0,
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
            tail: self.loose[2],
            low: crate::bound::down(rest),
        }
    }

    /// A test of what the high halves alone make of a score, without regard to any bound.
    pub fn foremost(&self, score: f64) -> Loose {
        Loose {
            bias: 15 * self.sum,
            gain: self.scale / 2.0,
            low: (score - self.mean) as f32,
            ..Loose::default()
        }
    }

    /// And what they make of it, by a row's `J` and `S`.
    pub fn estimate(&self, high: i32, scale: f32) -> f64 {
        self.mean + f64::from(self.scale / 2.0) * f64::from(scale) * f64::from(high)
    }

    /// Whether a row certainly scores below `threshold`, by both halves of all its components.
    pub fn excludes(&self, row: &Finer, threshold: f64) -> bool {
        // J′ = 2 Σ p (16 h + l) − 255 Σ p, of which J tells the high halves of the head.
        let j = 16 * i64::from(row.high) + 2 * i64::from(row.low);
        let j = j - 15 * (i64::from(self.sum) + 17 * i64::from(self.rest));
        let product = f64::from(self.scale) * f64::from(row.scale) / 32.0 * j as f64;
        let [error, norm] = row.factors.map(f64::from);
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
