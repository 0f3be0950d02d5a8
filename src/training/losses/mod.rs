//! The losses of Multi-layer Representations (Xie and Lukasiewicz, Findings of EMNLP 2025, arXiv 2509.23861) and of its
//! baselines, as functions of the vectors alone, with their gradients in closed form.
//!
//! A batch has `B` questions and `N` passages; question `i` has the positive `p(i)`, every other passage is its negative
//! unless it is left out. Passage `j` has `m` vectors, the last layer's first; `s[i,j,l] = q_i · d_{j,l}`.
//!
//! - contrastive: `L_c = mean over i of -log softmax over j of (S_ij / τ) at p(i)`, the method says what `S_ij` is;
//! - regulariser: `L_r = mean over i of -log softmax over l of (s[i,p(i),l] / τ_r) at the last layer`;
//! - together: `L = L_c + λ L_r`, and, where layers are to be kept apart, the penalty of `apart.rs`.
//!
//! Because these take embeddings and give gradients of embeddings, gradient caching needs nothing more (Gao et al.,
//! "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021).

mod apart;
mod score;
#[cfg(test)]
mod tests;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::network::Vectors;
use score::{Score, Weighted};

/// How a passage is scored in training, and what it keeps afterwards. `S` is the layer set, last layer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The last layer alone: `S_ij = s[i,j,L]`.
    DualEncoder,
    /// `S_ij = max over l in S of s[i,j,l]`; a passage keeps all vectors.
    MultiVector,
    /// `S_ij = q_i · mean over l of d_{j,l}`; a passage keeps the mean.
    MeanOverLayers,
    /// `S_ij = q_i · Σ over l of softmax(w)_l d_{j,l}` with `w` learned from 0; a passage keeps the mix.
    ScalarMix,
    /// The last layer for the positive, the maximum over `S` for every negative, and the regulariser; a passage keeps
    /// its last layer alone.
    SelfContrastive,
    /// The last layer alone, and the regulariser over `S`.
    LastLayerRegularised,
    /// The first `m` token vectors of the last layer, the best of them (Luan et al., 2021); a baseline.
    MeBert,
    /// Each token of the question with its best token of the passage, summed (Khattab and Zaharia, 2020); a baseline.
    ColBert,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 8] = [
        Method::DualEncoder,
        Method::MultiVector,
        Method::MeanOverLayers,
        Method::ScalarMix,
        Method::SelfContrastive,
        Method::LastLayerRegularised,
        Method::MeBert,
        Method::ColBert,
    ];

    /// Whether the loss has the regulariser.
    pub fn regularised(self) -> bool {
        matches!(self, Method::SelfContrastive | Method::LastLayerRegularised)
    }

    /// Whether vectors are those of tokens, not of layers.
    pub fn by_token(self) -> bool {
        matches!(self, Method::MeBert | Method::ColBert)
    }
}

/// The numbers of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Temperatures {
    /// `τ`: scores are divided by it. 1 for raw dot products, about 0.05 for normalised vectors.
    pub tau: f64,
    /// `τ_r`, the regulariser's.
    pub tau_r: f64,
    /// `λ`, the regulariser's weight.
    pub lambda: f64,
    /// The weight of a penalty on how alike a passage's layer vectors are (the mean of their squared cosines); 0, as
    /// published, for none. Of use to methods that keep several.
    #[serde(default)]
    pub apart: f64,
}

/// A batch's vectors and who is whose positive.
pub(crate) struct Batch<'a> {
    /// `B` questions; more than one row each for ColBERT.
    pub questions: &'a Vectors,
    /// `N` passages of `m` rows.
    pub passages: &'a Vectors,
    /// `p(i)`.
    pub positives: &'a [usize],
    /// `[B, N]`: true where a passage is left out of a question's negatives.
    pub left_out: &'a [bool],
}

/// A loss with its gradients.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    /// `L_c + λ L_r`, and the penalty.
    pub total: f64,
    pub contrastive: f64,
    /// `L_r`, 0 where there is none.
    pub regulariser: f64,
    pub questions: Vectors,
    pub passages: Vectors,
    /// Of the scalar mix's `w`.
    pub mix: Vec<f64>,
    /// The share of questions whose positive scores best.
    pub first: f64,
    /// The mean over questions of the standard deviation of a question's scores, before `τ`.
    pub spread: f64,
    /// The mean size of a score.
    pub size: f64,
}

/// What one question makes of the batch.
struct Row {
    contrastive: f64,
    regulariser: f64,
    question: Vec<f32>,
    /// For each passage the gradient of its score, and of each of its rows through the regulariser.
    scores: Vec<f64>,
    winners: Vec<Weighted>,
    layers: Vec<f64>,
    mix: Vec<f64>,
    first: bool,
    spread: f64,
    size: f64,
}

impl Method {
    /// The loss of a batch. `mix` are the scalar mix's `w`, one a layer; other methods take none.
    pub(crate) fn loss(self, batch: &Batch<'_>, mix: &[f64], t: Temperatures) -> Loss {
        let (b, d) = (batch.questions.len(), batch.questions.d);
        let rows: Vec<Row> = (0..b)
            .into_par_iter()
            .map(|i| self.question(batch, i, mix, t))
            .collect();
        let mut passages = batch.passages.zeros();
        let cuts = super::network::cut_by_text(&passages.starts, d, &mut passages.data);
        // Question by question, so that the sum has one order.
        cuts.into_par_iter().enumerate().for_each(|(j, out)| {
            for (i, row) in rows.iter().enumerate() {
                row.winners[j].add_to_passage(row.scores[j], batch.questions.of(i), d, out);
                if batch.positives[i] == j {
                    let question = batch.questions.of(i);
                    for (out, &gradient) in out.chunks_exact_mut(d).zip(&row.layers) {
                        score::add(out, question, gradient);
                    }
                }
            }
        });
        let alike = if t.apart > 0.0 && !self.by_token() {
            apart::alike(batch.passages, t.apart, &mut passages)
        } else {
            0.0
        };
        let mut questions = Vectors::new(d);
        questions.starts = batch.questions.starts.clone();
        let mean = |f: &dyn Fn(&Row) -> f64| rows.iter().map(f).sum::<f64>() / b.max(1) as f64;
        let contrastive = mean(&|row| row.contrastive);
        let regulariser = mean(&|row| row.regulariser);
        let mut mix_gradient = vec![0.0; mix.len()];
        for row in &rows {
            questions.data.extend_from_slice(&row.question);
            mix_gradient
                .iter_mut()
                .zip(&row.mix)
                .for_each(|(sum, g)| *sum += g);
        }
        Loss {
            total: contrastive
                + t.apart * alike
                + if self.regularised() {
                    t.lambda * regulariser
                } else {
                    0.0
                },
            contrastive,
            regulariser,
            first: mean(&|row| f64::from(u8::from(row.first))),
            spread: mean(&|row| row.spread),
            size: mean(&|row| row.size),
            questions,
            passages,
            mix: mix_gradient,
        }
    }

    fn question(self, batch: &Batch<'_>, i: usize, mix: &[f64], t: Temperatures) -> Row {
        let (b, n, d) = (batch.questions.len(), batch.passages.len(), batch.questions.d);
        let positive = batch.positives[i];
        let question = batch.questions.of(i);
        let kept = |j: usize| j == positive || !batch.left_out[i * n + j];
        let softmax = score::softmax(mix);
        let winners: Vec<Weighted> = (0..n)
            .map(|j| {
                let score = self.score(j == positive);
                if kept(j) {
                    score.of(question, batch.passages.of(j), d, &softmax)
                } else {
                    Weighted::nothing()
                }
            })
            .collect();
        // Left-out passages have no term at all: no infinity to go through the derivative.
        let logits: Vec<f64> = (0..n)
            .filter(|&j| kept(j))
            .map(|j| winners[j].score / t.tau)
            .collect();
        let log_sum = score::log_sum_exp(&logits);
        let weight = 1.0 / (b as f64 * t.tau);
        let scores: Vec<f64> = (0..n)
            .map(|j| {
                if !kept(j) {
                    return 0.0;
                }
                let target = f64::from(u8::from(j == positive));
                weight * ((winners[j].score / t.tau - log_sum).exp() - target)
            })
            .collect();
        let mut gradient = vec![0.0f64; question.len()];
        let mut mix_gradient = vec![0.0; mix.len()];
        for (j, winner) in winners.iter().enumerate() {
            winner.add_to_question(scores[j], batch.passages.of(j), d, &mut gradient);
            if self == Method::ScalarMix && kept(j) {
                winner.add_to_mix(
                    scores[j],
                    question,
                    batch.passages.of(j),
                    &softmax,
                    &mut mix_gradient,
                );
            }
        }
        let (mut regulariser, mut layers) = (0.0, Vec::new());
        if self.regularised() {
            let passage = batch.passages.of(positive);
            let logits: Vec<f64> = passage
                .chunks_exact(d)
                .map(|row| score::dot(question, row) / t.tau_r)
                .collect();
            let log_sum = score::log_sum_exp(&logits);
            // The last layer is the first of the set.
            regulariser = log_sum - logits[0];
            let weight = t.lambda / (b as f64 * t.tau_r);
            for (l, row) in passage.chunks_exact(d).enumerate() {
                let target = f64::from(u8::from(l == 0));
                let slope = weight * ((logits[l] - log_sum).exp() - target);
                gradient
                    .iter_mut()
                    .zip(row)
                    .for_each(|(g, &x)| *g += slope * f64::from(x));
                layers.push(slope);
            }
        }
        let best = winners[positive].score;
        Row {
            contrastive: log_sum - best / t.tau,
            regulariser,
            question: gradient.into_iter().map(|g| g as f32).collect(),
            layers,
            mix: mix_gradient,
            first: (0..n).all(|j| j == positive || !kept(j) || winners[j].score < best),
            spread: score::deviation(&logits) * t.tau,
            size: logits.iter().map(|x| x.abs()).sum::<f64>() / logits.len() as f64 * t.tau,
            scores,
            winners,
        }
    }

    /// The score of a passage in training.
    fn score(self, positive: bool) -> Score {
        match self {
            Method::DualEncoder | Method::LastLayerRegularised => Score::Last,
            Method::SelfContrastive if positive => Score::Last,
            Method::SelfContrastive | Method::MultiVector | Method::MeBert => Score::Best,
            Method::MeanOverLayers => Score::Mean,
            Method::ScalarMix => Score::Mix,
            Method::ColBert => Score::SumOfBest,
        }
    }

    /// A passage's score at inference, by which checkpoints are chosen.
    pub(crate) fn inference_score(self, question: &[f32], passage: &[f32], d: usize, mix: &[f64]) -> f64 {
        let score = match self {
            Method::SelfContrastive => Score::Last,
            other => other.score(false),
        };
        score.of(question, passage, d, &score::softmax(mix)).score
    }
}
