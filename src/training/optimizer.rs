//! AdamW with warm-up, linear decay and clipping (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).

use rayon::prelude::*;

pub(crate) const BETA_1: f64 = 0.9;
pub(crate) const BETA_2: f64 = 0.999;
pub(crate) const EPSILON: f64 = 1e-8;
/// Elements that one task updates, and over which one part of a norm is summed.
const CHUNK: usize = 1 << 16;

/// An update's two numbers: `p -= length * m / (√v * root + ε)`, with one division where the formula has three.
pub(crate) struct Step {
    pub length: f64,
    pub root: f64,
}

impl Step {
    /// Of step `step`, from 1.
    pub fn new(rate: f64, step: u64) -> Step {
        let power = step.min(i32::MAX as u64) as i32;
        let (one, two) = (1.0 - BETA_1.powi(power), 1.0 - BETA_2.powi(power));
        Step {
            length: rate / one,
            root: 1.0 / two.sqrt(),
        }
    }
}

/// The moments of one flat array of parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Moments {
    pub fn new(len: usize) -> Moments {
        Moments {
            first: vec![0.0; len],
            second: vec![0.0; len],
        }
    }

    /// The update of step `step` (from 1) with gradients times `scale`; decay is the caller's.
    pub fn update(&mut self, parameters: &mut [f32], gradient: &[f32], scale: f64, rate: f64, step: u64) {
        let Step { length, root } = Step::new(rate, step);
        let (length, root) = (length as f32, root as f32);
        let (b1, b2) = (BETA_1 as f32, BETA_2 as f32);
        let (scale, epsilon) = (scale as f32, EPSILON as f32);
        (
            parameters.par_chunks_mut(CHUNK),
            gradient.par_chunks(CHUNK),
            self.first.par_chunks_mut(CHUNK),
            self.second.par_chunks_mut(CHUNK),
        )
            .into_par_iter()
            .for_each(|(parameters, gradient, first, second)| {
                let moments = first.iter_mut().zip(second);
                for ((p, &g), (m, v)) in parameters.iter_mut().zip(gradient).zip(moments) {
                    let g = g * scale;
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    *p -= length * *m / (v.sqrt() * root + epsilon);
                }
            });
    }
}

/// The same for one number `[parameter, first moment, second moment]`.
pub(crate) fn update_scalar([x, m, v]: &mut [f64; 3], gradient: f64, rate: f64, step: u64) {
    let power = step.min(i32::MAX as u64) as i32;
    *m = BETA_1 * *m + (1.0 - BETA_1) * gradient;
    *v = BETA_2 * *v + (1.0 - BETA_2) * gradient * gradient;
    let (m, v) = (*m / (1.0 - BETA_1.powi(power)), *v / (1.0 - BETA_2.powi(power)));
    *x -= rate * m / (v.sqrt() + EPSILON);
}

/// `Σ g²`, in one order whatever the threads.
pub(crate) fn square_norm(gradient: &[f32]) -> f64 {
    let parts: Vec<f64> = gradient
        .par_chunks(CHUNK)
        .map(|part| part.iter().map(|&g| f64::from(g) * f64::from(g)).sum())
        .collect();
    parts.iter().sum()
}

/// What gradients of this norm are multiplied by, so that it does not exceed `limit`.
pub(crate) fn clip(norm: f64, limit: f64) -> f64 {
    if limit > 0.0 && norm > limit {
        limit / norm
    } else {
        1.0
    }
}

/// The learning rate of step `step` (from 0) of `steps`: up to `peak` over `warm_up` steps, then down to 0.
pub(crate) fn rate(peak: f64, step: u64, warm_up: u64, steps: u64) -> f64 {
    if step < warm_up {
        return peak * (step + 1) as f64 / warm_up as f64;
    }
    let left = steps.saturating_sub(step) as f64;
    peak * left / steps.saturating_sub(warm_up).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_climbs_and_falls_in_straight_lines() {
        let rates: Vec<f64> = (0..10).map(|step| rate(1.0, step, 2, 10)).collect();
        assert_eq!(
            rates,
            [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
        );
        assert_eq!(rate(1.0, 0, 0, 1), 1.0);
    }

    #[test]
    fn the_first_updates_are_those_of_the_formula() {
        // After one step m / (1 - β₁) = g and v / (1 - β₂) = g²: the parameter moves by rate · sign(g).
        let mut moments = Moments::new(2);
        let mut x = vec![1.0, 1.0];
        moments.update(&mut x, &[0.5, -4.0], 1.0, 0.1, 1);
        assert!((x[0] - 0.9).abs() < 1e-6 && (x[1] - 1.1).abs() < 1e-6, "{x:?}");
        // The second with g = 0: m = 0.9 · 0.1 g, over 1 - 0.81; v = 0.999 · 0.001 g², over 1 - 0.998001.
        moments.update(&mut x, &[0.0, 0.0], 1.0, 0.1, 2);
        let moved = 0.1 * (0.09 / 0.19) / (0.000_999f64 / 0.001_999).sqrt();
        assert!((f64::from(x[0]) - (0.9 - moved)).abs() < 1e-5, "{x:?}");
    }

    #[test]
    fn clipping_shortens_what_is_too_long_alone() {
        assert_eq!([clip(4.0, 2.0), clip(1.0, 2.0), clip(9.0, 0.0)], [0.5, 1.0, 1.0]);
        assert_eq!(square_norm(&[3.0, 4.0]), 25.0);
    }
}
