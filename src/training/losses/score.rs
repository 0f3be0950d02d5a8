//! Scores of a passage for a question, and which vectors made them.

/// A way of scoring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Score {
    /// By the passage's first vector, that of the last layer.
    Last,
    /// By the best pair of a question's and a passage's vector.
    Best,
    /// By the mean of the passage's vectors.
    Mean,
    /// By the weighted mean of the passage's vectors.
    Mix,
    /// Each of the question's vectors with its best of the passage, summed.
    SumOfBest,
}

/// A score as a weighted sum of products of one row of each side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weighted {
    pub score: f64,
    /// Question's row, passage's row, weight.
    terms: Vec<(u32, u32, f64)>,
}

impl Score {
    pub fn of(self, question: &[f32], passage: &[f32], d: usize, mix: &[f64]) -> Weighted {
        let rows = passage.len() / d;
        let row = |l: usize| &passage[l * d..(l + 1) * d];
        // Of equal ones the first, so that the last layer wins.
        let best = |q: &[f32]| {
            (0..rows)
                .map(|l| (l, dot(q, row(l))))
                .fold((0, f64::NEG_INFINITY), |best, next| {
                    if next.1 > best.1 || next.1.is_nan() {
                        next
                    } else {
                        best
                    }
                })
        };
        match self {
            Score::Last => Weighted {
                score: dot(&question[..d], row(0)),
                terms: vec![(0, 0, 1.0)],
            },
            Score::Best => {
                let (mut q, mut l, mut score) = (0, 0, f64::NEG_INFINITY);
                for (at, question) in question.chunks_exact(d).enumerate() {
                    let (layer, here) = best(question);
                    if here > score || here.is_nan() {
                        (q, l, score) = (at, layer, here);
                    }
                }
                Weighted {
                    score,
                    terms: vec![(q as u32, l as u32, 1.0)],
                }
            }
            Score::Mean | Score::Mix => {
                let weight = |l: usize| {
                    if self == Score::Mean {
                        1.0 / rows as f64
                    } else {
                        mix[l]
                    }
                };
                let terms: Vec<_> = (0..rows).map(|l| (0, l as u32, weight(l))).collect();
                Weighted {
                    score: (0..rows).map(|l| weight(l) * dot(&question[..d], row(l))).sum(),
                    terms,
                }
            }
            Score::SumOfBest => {
                let mut score = 0.0;
                let mut terms = Vec::with_capacity(question.len() / d);
                for (at, question) in question.chunks_exact(d).enumerate() {
                    let (l, here) = best(question);
                    score += here;
                    terms.push((at as u32, l as u32, 1.0));
                }
                Weighted { score, terms }
            }
        }
    }
}

impl Weighted {
    /// The score of a passage that is left out.
    pub fn nothing() -> Weighted {
        Weighted {
            score: 0.0,
            terms: Vec::new(),
        }
    }

    pub fn add_to_question(&self, gradient: f64, passage: &[f32], d: usize, out: &mut [f64]) {
        for &(q, l, weight) in &self.terms {
            let row = &passage[l as usize * d..][..d];
            let out = &mut out[q as usize * d..][..d];
            out.iter_mut()
                .zip(row)
                .for_each(|(o, &x)| *o += gradient * weight * f64::from(x));
        }
    }

    pub fn add_to_passage(&self, gradient: f64, question: &[f32], d: usize, out: &mut [f32]) {
        for &(q, l, weight) in &self.terms {
            add(
                &mut out[l as usize * d..][..d],
                &question[q as usize * d..][..d],
                gradient * weight,
            );
        }
    }

    /// `∂S/∂w_l = softmax(w)_l (s_l - S)`.
    pub fn add_to_mix(&self, gradient: f64, question: &[f32], passage: &[f32], mix: &[f64], out: &mut [f64]) {
        let d = question.len();
        for ((row, weight), out) in passage.chunks_exact(d).zip(mix).zip(out) {
            *out += gradient * weight * (dot(question, row) - self.score);
        }
    }
}

/// Inner product in f64, in eight lanes.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (x, y) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = x
        .remainder()
        .iter()
        .zip(y.remainder())
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum();
    for (x, y) in x.zip(y) {
        for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += f64::from(x) * f64::from(y);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// `out += factor * x`
pub(super) fn add(out: &mut [f32], x: &[f32], factor: f64) {
    out.iter_mut()
        .zip(x)
        .for_each(|(o, &x)| *o += (factor * f64::from(x)) as f32);
}

pub(super) fn log_sum_exp(x: &[f64]) -> f64 {
    let top = x
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a });
    top + x.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
}

pub(super) fn softmax(x: &[f64]) -> Vec<f64> {
    let log_sum = log_sum_exp(x);
    x.iter().map(|x| (x - log_sum).exp()).collect()
}

/// The standard deviation.
pub(super) fn deviation(x: &[f64]) -> f64 {
    let n = x.len().max(1) as f64;
    let mean = x.iter().sum::<f64>() / n;
    (x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt()
}
