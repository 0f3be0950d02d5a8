//! How far a score that a device computed can lie from the score: the proof behind the candidates.
//!
//! Let `q` be a query and `d` a stored vector, both times a power of two of their own (exactly, in real
//! numbers; so scores are scaled exactly too), and `q̂`, `d̂` what the device multiplies: both rounded to
//! f16 or bf16, or `q̂` to f32 where the kernel multiplies in f32. A component that underflows becomes
//! zero or a subnormal like any other rounding. Then
//!
//! ```text
//! q·d − q̂·d̂ = (q − q̂)·d + q̂·(d − d̂)
//! |q·d − q̂·d̂| ≤ ‖q − q̂‖ ‖d‖ + ‖q̂‖ ‖d − d̂‖                      (Cauchy and Schwarz)
//! ```
//!
//! Nothing is assumed of the roundings: `‖q − q̂‖` is computed for each query, `‖d‖` and `‖d − d̂‖` for
//! every document when its part is brought to the device, and the largest of each is used. Vectors that
//! are stored as f16 or bf16 have `d = d̂`. For a query rounded to f16 the first term is about
//! `2⁻¹¹/√3 ‖q‖ ‖d‖`, for bf16 `2⁻⁸/√3 ‖q‖ ‖d‖`.
//!
//! The device's sum `x` of `w` products (the dimension with its padding) adds
//!
//! ```text
//! |x − q̂·d̂| ≤ γ ‖q̂‖ ‖d̂‖ + 4 w 2⁻¹²⁶
//! ```
//!
//! the last term for results that are flushed to zero: scaled queries are at most 1, so none overflows
//! (`‖d̂‖ ≤ 2¹⁶ √w`). In ordinary f32 arithmetic, fused or not and in any order, `γ = n u / (1 − n u)`
//! with `n ≤ w + 16` roundings of `u = 2⁻²⁴` (Higham, *Accuracy and Stability of Numerical Algorithms*,
//! section 3.1). For tensor cores the makers promise no bound. Fasi, Higham, Mikaitis and Pranesh
//! (*Numerical behavior of NVIDIA tensor cores*, PeerJ Computer Science 7:e330, 2021) measured that
//! products are exact and that addends are aligned to the largest of them and truncated with at least 24
//! significant bits. An addend or a partial sum is no larger than `Σ|q̂ᵢ d̂ᵢ| ≤ ‖q̂‖ ‖d̂‖`, so a truncation
//! costs at most `2⁻²³ ‖q̂‖ ‖d̂‖`; allowing two for every product (its alignment, and a normalisation of
//! the sum as if products were added one at a time), `γ = 2 w 2⁻²³`. That is an assumption about the
//! device, and `benches/gpu` measures how much of this bound its scores use.
//!
//! **Codes.** A part may also be there in int8 (the module `codes`): `d̂ = a c` with a step `a` of the part and whole
//! numbers `c` for `r = d − μ`, the residual about the layer's mean, and for a query `q̂ = b e` with a step of its own. Then
//!
//! ```text
//! q·d = q·μ + q·r      |q·r − a b (c·e)| ≤ ‖q − q̂‖ ‖r‖ + ‖q̂‖ ‖r − d̂‖
//! ```
//!
//! `c·e` is exact in whole numbers. The device's score is `c·e + (q·μ − q·μ₀) / (a b)` in f32, with `μ₀` the mean of the first
//! layer that is searched, which is the same for all and so left to the host: rounding either and their sum costs
//! `2⁻²²` of the two sizes together at most, and evaluating residuals in f64 `D 2⁻⁴⁹ ‖q‖ (‖r‖ + ‖μ‖)`. Again `‖r‖` and
//! `‖r − d̂‖` are the largest of the part.
//!
//! Every part of the bound holds for each layer, so also for the maximum over layers. The f64 score is
//! within `D 2⁻⁵² ‖q‖ ‖d‖` of `q·d`, which is added. With `ε` the sum of all, and `t` the k-th best of the
//! device's scores of any set of live documents: k documents have scores of at least `t − ε`, so one that
//! belongs to the answer has at least that, and the device gave it at least `t − 2ε`. The kernels keep
//! every document from there on; equal scores are among them. A floor `f` keeps from `f − ε` on.

use crate::bound::{down, up};

/// What is known of all vectors of a part, scaled: upper bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Documents {
    /// The largest `‖d‖`.
    pub length: f64,
    /// The largest `‖d − d̂‖`.
    pub residual: f64,
}

/// What is known of one query, scaled: upper bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Query {
    /// `‖q‖`.
    pub length: f64,
    /// `‖q − q̂‖`.
    pub residual: f64,
}

/// Which sums a kernel makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sums {
    /// Of tensor cores.
    Tensor,
    /// Of ordinary f32 arithmetic.
    Plain,
}

/// A small relative excess that covers the roundings in evaluating bounds in f64.
pub(crate) const SLACK: f64 = 1.0 + 1e-9;

/// `2^exponent`, for exponents of normal numbers.
pub(crate) fn power(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// What the device's scores of one query are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bound {
    /// Takes a score to what the device computes: times `scale`, less `shift`.
    pub scale: f64,
    pub shift: f64,
    /// `ε`: no device's score is farther from the score, scaled.
    pub error: f64,
    /// No device's score is larger, nor is its negative.
    pub largest: f64,
}

impl Bound {
    /// Of scores that are sums of products of halves, or of halves and f32; with `scale` the power of two that scores are
    /// scaled by.
    pub fn of_sums(
        query: &Query,
        documents: &Documents,
        sums: Sums,
        dimension: usize,
        width: usize,
        scale: f64,
    ) -> Bound {
        let gamma = match sums {
            Sums::Tensor => width as f64 * power(-22),
            Sums::Plain => {
                let nu = (width + 16) as f64 * power(-24);
                nu / (1.0 - nu)
            }
        };
        let rounded_query = query.length + query.residual;
        let rounded_document = documents.length + documents.residual;
        let inputs = query.residual * documents.length + rounded_query * documents.residual;
        let sum = gamma * rounded_query * rounded_document + 4.0 * width as f64 * power(-126);
        let score = dimension as f64 * power(-52) * query.length * documents.length;
        let error = (inputs + sum + score) * SLACK;
        Bound {
            scale,
            shift: 0.0,
            error,
            largest: query.length * documents.length + error,
        }
    }

    /// Of scores through codes: `documents` are residuals about means that are at most `mean` long, `shift` is `q·μ₀`, `offset`
    /// the largest `|q·μ − q·μ₀|`, `unit` the product of both steps; `scale` the power of two that scores are scaled by.
    pub fn of_codes(
        query: &Query,
        documents: &Documents,
        mean: f64,
        [shift, offset]: [f64; 2],
        dimension: usize,
        unit: f64,
        scale: f64,
    ) -> Bound {
        let rounded_query = query.length + query.residual;
        let inputs = query.residual * documents.length + rounded_query * documents.residual;
        let score = dimension as f64 * power(-49) * query.length * (documents.length + mean);
        let sizes = rounded_query * (documents.length + documents.residual) + offset;
        let error = (inputs + score + power(-22) * sizes) * SLACK;
        Bound {
            scale: scale / unit,
            shift: shift / unit,
            error: error / unit * SLACK,
            largest: (sizes + error) / unit * SLACK,
        }
    }

    /// The device's threshold for a floor on scores.
    pub fn threshold(&self, floor: f64) -> f32 {
        let scaled = floor * self.scale - self.shift - self.error;
        if scaled.is_nan() || scaled == f64::NEG_INFINITY {
            return f32::NEG_INFINITY;
        }
        down(scaled - (scaled.abs() + self.shift.abs()) * 1e-15).min(f32::MAX)
    }

    /// What is taken from the k-th best score for a threshold: `2ε`, and what subtracting it in f32 can
    /// lose, for scores no larger than the lengths allow.
    pub fn margin(&self) -> f32 {
        up((2.0 * self.error + self.largest * power(-22)) * SLACK)
    }
}

/// The exponent `e` with `2ᵉ · largest` in `1/2 .. 1`; 0 for 0.
pub(crate) fn exponent_to_one(largest: f32) -> i32 {
    if largest == 0.0 {
        return 0;
    }
    // Every f32 is normal as an f64.
    1022 - ((f64::from(largest.abs()).to_bits() >> 52) & 0x7ff) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_numbers_lie_below_one() {
        for x in [1.0, 0.5, 0.999, 3e38, 1e-45, 65504.0, -7.0] {
            let scaled = f64::from(x) * power(exponent_to_one(x));
            assert!((0.5..1.0).contains(&scaled.abs()), "{x} {scaled}");
        }
        assert_eq!(exponent_to_one(0.0), 0);
    }

    #[test]
    fn a_floor_becomes_a_threshold_below_it() {
        let threshold = |floor, scale, error| {
            Bound {
                scale,
                shift: 0.0,
                error,
                largest: 1.0,
            }
            .threshold(floor)
        };
        assert_eq!(threshold(f64::NEG_INFINITY, 1.0, 0.1), f32::NEG_INFINITY);
        assert_eq!(threshold(f64::INFINITY, 1.0, 0.1), f32::MAX);
        let at = threshold(0.3, 4.0, 1e-3);
        assert!(f64::from(at) <= 1.2 - 1e-3 && f64::from(at) > 1.199 - 1e-6);
    }
}
