//! How good a state is on questions that it was not trained on.

use std::collections::HashMap;

use rayon::prelude::*;

use super::TrainingError;
use super::data::PairSet;
use super::network::Head;
use super::options::TrainingOptions;
use super::run::tokens;
use super::tower::{Kept, Tower};
use super::watch::Validation;
use crate::encoder::Encoder;

/// A state of a run, as it answers questions.
pub(crate) struct Judge<'a> {
    pub encoder: &'a Encoder,
    pub options: &'a TrainingOptions,
    pub passages: &'a Tower,
    pub questions: &'a Tower,
    /// Of questions and of passages.
    pub heads: (&'a Head, &'a Head),
    pub mix: &'a [f64],
}

impl Judge<'_> {
    /// Ranks, for every question, the positives among all positives and hard negatives of the set's questions.
    pub fn validate(&self, set: &PairSet, step: u64, kept: &mut Kept) -> Result<Validation, TrainingError> {
        let options = self.options;
        let mut pool: Vec<usize> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        for question in set.questions() {
            let negatives = question.negatives.iter().take(options.hard_negatives);
            for &passage in question.positives.iter().chain(negatives) {
                places.entry(passage).or_insert_with(|| {
                    pool.push(passage);
                    pool.len() - 1
                });
            }
        }
        let empty = |what: &str, id: &str| TrainingError::Data {
            what: format!("of the {what} {id:?} no token is left: leave it out"),
        };
        let all: Vec<usize> = (0..set.questions().len()).collect();
        let questions = tokens(&all, |q| {
            let question = &set.questions()[q];
            let tokens = self
                .encoder
                .question_tokens(&question.text, options.question_tokens)?;
            tokens.ok_or_else(|| empty("question", &question.id))
        })?;
        let passages = tokens(&pool, |p| {
            let passage = &set.passages()[p];
            let tokens = self
                .encoder
                .passage_tokens(passage.as_input(), options.passage_tokens)?;
            tokens.ok_or_else(|| empty("passage", &passage.id))
        })?;
        let q = self
            .questions
            .encode(&questions, self.heads.0, options.chunk, kept)?;
        let p = self
            .passages
            .encode(&passages, self.heads.1, options.chunk, kept)?;
        let tau = options.temperatures.tau;
        let ranks: Vec<(f64, usize)> = (0..q.len())
            .into_par_iter()
            .map(|i| {
                let scores: Vec<f64> = (0..p.len())
                    .map(|j| options.method.inference_score(q.of(i), p.of(j), q.d, self.mix))
                    .collect();
                let positives: Vec<usize> = set.questions()[i]
                    .positives
                    .iter()
                    .map(|place| places[place])
                    .collect();
                rank(&scores, &positives, tau)
            })
            .collect();
        let n = ranks.len().max(1) as f64;
        let mean = |f: &dyn Fn(&(f64, usize)) -> f64| ranks.iter().map(f).sum::<f64>() / n;
        Ok(Validation {
            step,
            nll: mean(&|(nll, _)| *nll),
            average_rank: mean(&|(_, rank)| *rank as f64),
            reciprocal_rank: mean(&|(_, rank)| 1.0 / *rank as f64),
            top_5: mean(&|(_, rank)| f64::from(u8::from(*rank <= 5))),
            pool: pool.len(),
            questions: ranks.len(),
        })
    }
}

/// The negative log-likelihood of the best positive among all that is no positive, and its rank. Of equal scores the
/// positive comes last, so that a model that scores all alike looks as bad as it is.
fn rank(scores: &[f64], positives: &[usize], tau: f64) -> (f64, usize) {
    let best = positives
        .iter()
        .map(|&j| scores[j])
        .fold(f64::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a });
    let others = || {
        (0..scores.len())
            .filter(|j| !positives.contains(j))
            .map(|j| scores[j])
    };
    let rank = 1 + others()
        .filter(|score| score.partial_cmp(&best) != Some(std::cmp::Ordering::Less))
        .count();
    let sum: f64 = others().map(|score| ((score - best) / tau).exp()).sum();
    ((1.0 + sum).ln(), rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_what_is_not_worse_than_the_best_positive() {
        let (nll, at) = rank(&[1.0, 3.0, 2.0, 0.0], &[0, 2], 1.0);
        assert_eq!(at, 2);
        assert!((nll - (1.0 + 1f64.exp() + (-2f64).exp()).ln()).abs() < 1e-12);
        assert_eq!(rank(&[1.0; 4], &[1], 1.0).1, 4);
        assert!(rank(&[f64::NAN, 1.0], &[0], 1.0).0.is_nan());
    }
}
