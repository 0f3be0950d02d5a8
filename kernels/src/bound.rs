//! How far an inner product summed in f32 can lie from the score: the proof behind the filter.
//!
//! Let `q` be a query and `d` a stored vector (every element type converts to f32 exactly), both of
//! dimension D, and `u = 2⁻²⁴` the unit roundoff of f32. A sum of D products in which every term
//! passes through at most `n` roundings, fused or not and in any order, satisfies (Higham,
//! *Accuracy and Stability of Numerical Algorithms*, section 3.1)
//!
//! ```text
//! |fl(q·d) − q·d| ≤ γₙ Σ|qᵢ dᵢ| ≤ γₙ ‖q‖ ‖d‖,   γₙ = n u / (1 − n u)
//! ```
//!
//! as long as nothing overflows or underflows. Underflow adds at most 2⁻¹⁴⁹ per rounding, at most
//! `2 D · 2⁻¹⁴⁹` in all ([`underflow`]). Overflow leaves an infinity or a NaN, which is never taken
//! as a reason to exclude a row. The score itself is summed in f64 ([`crate::inner_product`]), so it
//! lies within `D · 2⁻⁵²` (relative to `‖q‖ ‖d‖`) of the true product; [`gamma`] includes that.
//!
//! `‖d‖` is known from a sum of squares in f32 with the same error: with `s = fl(‖d‖²)`,
//! `‖d‖² ≤ (s + underflow) / (1 − γ) ≤ (s + underflow)(1 + 2γ)` for `γ ≤ 1/2` ([`length`]). `‖q‖` is
//! computed in f64. So a row whose f32 sum `x` satisfies
//!
//! ```text
//! x + γ ‖q‖ ‖d‖ + underflow < threshold
//! ```
//!
//! has a score below the threshold. [`Gate`] rearranges this for a vector register of f32.

/// The unit roundoff of f32.
const ROUNDOFF: f64 = 1.0 / (1u64 << 24) as f64;

/// The largest relative error, in units of `‖q‖ ‖d‖`, of a sum in which a term passes through
/// `roundings` roundings in f32, plus that of the score's own summation in f64.
fn gamma_of(roundings: usize, dimension: usize) -> f64 {
    let nu = roundings as f64 * ROUNDOFF;
    // The dimension is at most `MAX_DIMENSION` = 2²⁰, so `nu < 1/8`. The second term is generous: 2⁻⁵⁰ instead of 2⁻⁵².
    nu / (1.0 - nu) + dimension as f64 / (1u64 << 50) as f64
}

/// For sums over at least eight lanes that are then added as a tree (`Kernels::dot`, `widen`).
pub(crate) fn gamma_lanes(dimension: usize) -> f64 {
    gamma_of(dimension.div_ceil(8) + 10, dimension)
}

/// For sums in order (`Kernels::tile`).
pub(crate) fn gamma_chain(dimension: usize) -> f64 {
    gamma_of(dimension + 2, dimension)
}

/// What underflow can add to the error of one sum.
fn underflow(dimension: usize) -> f64 {
    // 2⁻¹⁴⁸ is a normal number in f64.
    dimension as f64 * f64::from_bits((1023 - 148) << 52)
}

/// A small relative excess that covers the handful of f64 roundings in evaluating a bound.
const SLACK: f64 = 1.0 + 1e-12;

/// An upper bound of `‖q‖`.
pub(crate) fn query_length(query: &[f32]) -> f64 {
    let squares: f64 = query.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    // `dimension · 2⁻⁵³ ≤ 2⁻³³` relative, before the root.
    squares.sqrt() * (1.0 + 1e-9)
}

/// An upper bound of `‖d‖`, from its sum of squares in f32 (`Kernels::widen` or `dot`). Infinite or
/// NaN where that is.
#[inline]
pub(crate) fn length(squares: f32, dimension: usize) -> f64 {
    let gamma = gamma_lanes(dimension);
    ((f64::from(squares) + underflow(dimension)) * (1.0 + 2.0 * gamma)).sqrt() * SLACK
}

/// An upper bound of the error of one f32 sum for one query: `slope · ‖d‖ + constant`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Margin {
    pub slope: f64,
    pub constant: f64,
}

impl Margin {
    pub fn new(gamma: f64, query_length: f64, dimension: usize) -> Margin {
        Margin {
            slope: gamma * query_length * SLACK,
            constant: underflow(dimension),
        }
    }

    /// Whether a row with f32 sum `sum` and length at most `length` certainly scores below
    /// `threshold`.
    #[inline]
    pub fn excludes(&self, sum: f32, length: f64, threshold: f64) -> bool {
        // False for NaN on either side; an infinite sum may be an overflow.
        let reach = f64::from(sum) + self.slope * length + self.constant;
        reach < threshold - threshold.abs() * 1e-15 && sum.is_finite()
    }
}

/// The f32 form of a [`Margin`] and a threshold: a row is excluded if `sum < low − guard · length`.
///
/// Evaluating the right side in f32 makes an error of at most `u |low| + 2u · guard · length` plus
/// underflow, so `low` is taken below the threshold by `2⁻²¹` of its size and 2⁻¹²⁰, `guard` above
/// the slope by `2⁻²⁰` of its size; both are rounded away from exclusion. A threshold beyond the
/// range of f32 is brought to its edge, where no finite sum is excluded by it alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate {
    pub low: f32,
    pub guard: f32,
}

impl Gate {
    pub fn new(margin: &Margin, threshold: f64) -> Gate {
        let tiny = f64::from_bits((1023 - 120) << 52);
        let relative = 1.0 / (1u64 << 21) as f64;
        let low = threshold - threshold.abs() * relative - tiny;
        // −∞ − ∞·x stays −∞; +∞ − ∞ is NaN, which `min` replaces.
        Gate {
            low: down(low).min(f32::MAX),
            guard: up(margin.slope * (1.0 + 2.0 * relative)),
        }
    }
}

/// The largest f32 not above `x`, one step lower at most.
pub(crate) fn down(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) > x {
        nearest.next_down()
    } else {
        nearest
    }
}

/// The smallest f32 not below `x`, one step higher at most.
pub(crate) fn up(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) < x {
        nearest.next_up()
    } else {
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_never_round_towards_exclusion() {
        for x in [
            0.1,
            -0.1,
            1e-46,
            -1e-46,
            3e38,
            1e39,
            -1e39,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            assert!(f64::from(down(x)) <= x, "{x}");
            assert!(f64::from(up(x)) >= x, "{x}");
        }
    }

    #[test]
    fn a_threshold_beyond_f32_excludes_no_sum_at_the_edge() {
        let margin = Margin::new(1e-5, 1.0, 8);
        let gate = Gate::new(&margin, f64::INFINITY);
        assert_eq!(gate.low, f32::MAX);
        assert!(!margin.excludes(f32::NEG_INFINITY, 1.0, 0.0));
        assert!(!margin.excludes(f32::NAN, 1.0, 0.0));
    }
}
