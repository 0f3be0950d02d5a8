//! Passages put in order by the vectors of their tokens.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::ranking::{Ranking, askable};
use crate::Result;
use crate::encoder::lanes::Isa;
use crate::encoder::matrix::{PLAIN, Panels, Rows, product};
use crate::encoder::{EncodeOptions, Encoder, LateInteraction, ModelError};
use crate::training::PairSet;

impl Ranking {
    /// The hits of rankings in the order that late interaction gives them: for each set of questions, over the same
    /// passages, a ranking whose hits are scored anew. A passage is encoded once for all questions that found it, its
    /// token vectors (`[tokens, D]`) are compared and dropped, so memory does not grow with the passages.
    ///
    /// # Errors
    /// Those of encoding and of [`askable`], [`ModelError::Cancelled`].
    pub fn by_tokens(
        encoder: &Encoder,
        how: LateInteraction,
        candidates: &[(&PairSet, &Ranking)],
        options: &EncodeOptions<'_>,
    ) -> Result<Vec<Ranking>> {
        let Some((first, _)) = candidates.first() else {
            return Ok(Vec::new());
        };
        for (set, _) in candidates {
            askable(encoder, set)?;
        }
        let passages = first.passages();
        // For each passage the sets and questions that found it, with the hit's place.
        let mut asked: Vec<Vec<(usize, usize, usize)>> = vec![Vec::new(); passages.len()];
        for (set, (_, ranking)) in candidates.iter().enumerate() {
            for (question, hits) in ranking.hits.iter().enumerate() {
                for (hit, (place, _)) in hits.iter().enumerate() {
                    asked[*place].push((set, question, hit));
                }
            }
        }
        let total = asked.iter().filter(|asked| !asked.is_empty()).count();
        let done = AtomicUsize::new(0);
        let cancelled = || {
            let raised = options.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed));
            raised.then(|| ModelError::Cancelled {
                done: done.load(Ordering::Relaxed),
                total,
            })
        };
        let scores: Vec<Vec<f64>> = encoder.threads()?.install(|| {
            let questions: Vec<Vec<Vec<f32>>> = candidates
                .iter()
                .map(|(set, _)| {
                    let vectors = |question: &crate::training::Question| {
                        cancelled().map_or(Ok(()), Err)?;
                        encoder.question_token_vectors(&question.text, how)
                    };
                    set.questions().par_iter().map(vectors).collect()
                })
                .collect::<std::result::Result<_, ModelError>>()?;
            let score = |panels: &mut Option<Panels>, (place, asked): (usize, &Vec<_>)| {
                if asked.is_empty() {
                    return Ok(Vec::new());
                }
                cancelled().map_or(Ok(()), Err)?;
                let vectors = encoder.passage_token_vectors(passages[place].as_input(), how)?;
                let panels = panels.get_or_insert_with(|| Panels::new(Isa::detect()));
                let scores = interact(
                    &vectors,
                    encoder.architecture().dimension(),
                    panels,
                    asked,
                    &questions,
                );
                let done = 1 + done.fetch_add(1, Ordering::Relaxed);
                if let Some(progress) = options.progress {
                    progress(done, total);
                }
                Ok::<_, ModelError>(scores)
            };
            (asked.par_iter().enumerate())
                .map_init(|| None, score)
                .collect::<std::result::Result<_, ModelError>>()
        })?;
        let mut rankings: Vec<Ranking> = candidates.iter().map(|(_, ranking)| (*ranking).clone()).collect();
        for (asked, scores) in asked.iter().zip(&scores) {
            for ((set, question, hit), score) in asked.iter().zip(scores) {
                rankings[*set].hits[*question][*hit].1 = *score;
            }
        }
        for hits in rankings.iter_mut().flat_map(|ranking| &mut ranking.hits) {
            hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        }
        Ok(rankings)
    }
}

/// The sum over a question's vectors of the best inner product with one of the passage's, for each question asked.
fn interact(
    passage: &[f32],
    d: usize,
    panels: &mut Panels,
    asked: &[(usize, usize, usize)],
    questions: &[Vec<Vec<f32>>],
) -> Vec<f64> {
    let tokens = passage.len() / d;
    let stride = tokens.next_multiple_of(32);
    panels.pack(d, tokens, true, |i, token| passage[token * d + i]);
    let mut products = Vec::new();
    let score = |&(set, question, _): &(usize, usize, usize)| {
        let question = questions[set][question].as_slice();
        let rows = question.len() / d;
        products.resize(rows * stride, 0.0);
        let rows = Rows {
            data: question,
            stride: d,
            rows,
        };
        product(Isa::detect(), rows, panels, PLAIN, &mut products, stride);
        let best = |row: &[f32]| row[..tokens].iter().copied().fold(f32::NEG_INFINITY, f32::max);
        products
            .chunks_exact(stride)
            .map(|row| f64::from(best(row)))
            .sum()
    };
    asked.iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_the_sum_of_each_rows_best() {
        // Two components: three tokens of a passage, a question of two and one of one.
        let passage = [1.0, 0.0, 0.0, 2.0, -1.0, -1.0];
        let questions = vec![vec![vec![1.0, 1.0, -3.0, 0.0], vec![0.5, -2.0]]];
        let mut panels = Panels::new(Isa::detect());
        let asked = [(0, 0, 7), (0, 1, 7)];
        let scores = interact(&passage, 2, &mut panels, &asked, &questions);
        assert_eq!(scores, [2.0 + 3.0, 1.5]);
    }
}
