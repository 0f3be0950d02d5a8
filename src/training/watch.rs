//! Whether a run goes wrong, and which of its states is the best.

use serde::{Deserialize, Serialize};

use super::error::{Collapse, TrainingError};
use super::losses::Loss;

/// Steps over which losses are averaged before anything is concluded.
const WINDOW: usize = 20;
/// A spread of scores, relative to their size, that counts as none.
const NO_SPREAD: f64 = 1e-6;

/// A lighter regulariser is not what keeps a run from learning.
const LAMBDA_HEAVY: f64 = 1.0;

/// Watches the losses of a run for a collapse.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// Of the first steps.
    first: Option<f64>,
    /// The contrastive loss over the window before the last.
    before: Option<f64>,
    contrastive: Vec<f64>,
    regulariser: Vec<f64>,
    guessing: Vec<f64>,
    flat: usize,
}

impl Watch {
    /// Takes one step's loss; `candidates` is the mean number of passages that a question is compared with, `m` the
    /// number of layers, `warm` whether the learning rate has reached its peak, `lambda` the regulariser's weight.
    pub fn see(
        &mut self,
        step: u64,
        loss: &Loss,
        candidates: f64,
        m: usize,
        warm: bool,
        lambda: f64,
    ) -> Result<(), TrainingError> {
        if !loss.total.is_finite() {
            return Err(TrainingError::Diverged {
                step,
                what: "the loss".into(),
            });
        }
        let collapsed = |why| Err(TrainingError::Collapsed { step, why });
        if candidates > 1.0 && loss.spread <= NO_SPREAD * loss.size.max(NO_SPREAD) {
            self.flat += 1;
            if self.flat >= WINDOW / 2 {
                return collapsed(Collapse::ScoresEqual { spread: loss.spread });
            }
        } else {
            self.flat = 0;
        }
        self.contrastive.push(loss.contrastive);
        self.regulariser.push(loss.regulariser);
        self.guessing.push(candidates.max(1.0).ln());
        if self.contrastive.len() < WINDOW {
            return Ok(());
        }
        let contrastive = mean(&self.contrastive);
        let regulariser = mean(&self.regulariser);
        let guessing = mean(&self.guessing);
        self.contrastive.clear();
        self.regulariser.clear();
        self.guessing.clear();
        let first = *self.first.get_or_insert(contrastive);
        let before = self.before.replace(contrastive);
        // A run may begin worse than guessing and mend: only one that no longer gets better is lost.
        let stuck = before.is_some_and(|before| contrastive > 0.98 * before);
        if !warm || !stuck || guessing <= 0.0 {
            return Ok(());
        }
        // Cosines leave the regulariser of two layers at 0.13 at best, where guessing gives 0.69.
        let layers_apart = m > 1 && regulariser > 0.0 && regulariser < 0.25 * (m as f64).ln();
        if lambda >= LAMBDA_HEAVY && layers_apart && contrastive > 0.9 * guessing {
            return collapsed(Collapse::LayersInsteadOfPassages {
                regulariser,
                contrastive,
                guessing,
            });
        }
        if contrastive > 1.2 * guessing && contrastive > 1.5 * first {
            return collapsed(Collapse::WorseThanGuessing {
                before: first,
                contrastive,
                guessing,
            });
        }
        Ok(())
    }
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len().max(1) as f64
}

/// By which figure of the validation a state is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelectBy {
    /// The mean negative log-likelihood of the positive among the pool; less is better.
    Nll,
    /// The mean rank of the positive in the pool; less is better.
    AverageRank,
    /// The mean reciprocal rank; more is better.
    ReciprocalRank,
}

/// A validation's figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps done.
    pub step: u64,
    /// Mean over questions of `-log softmax` over the pool at the positive, by inference scores over `τ`.
    pub nll: f64,
    /// Mean rank of the (best) positive among all passages of the pool, from 1.
    pub average_rank: f64,
    /// Mean of `1 / rank`.
    pub reciprocal_rank: f64,
    /// Share of questions with a positive among the first five.
    pub top_5: f64,
    /// Passages in the pool.
    pub pool: usize,
    /// Questions asked.
    pub questions: usize,
}

impl SelectBy {
    /// The figure, turned so that less is better.
    fn cost(self, validation: &Validation) -> f64 {
        match self {
            SelectBy::Nll => validation.nll,
            SelectBy::AverageRank => validation.average_rank,
            SelectBy::ReciprocalRank => -validation.reciprocal_rank,
        }
    }

    /// Whether `new` is better than `old`. A figure that is no number is never better, and always worse.
    pub fn better(self, new: &Validation, old: Option<&Validation>) -> bool {
        let new = self.cost(new);
        match old.map(|old| self.cost(old)) {
            _ if new.is_nan() => false,
            None => true,
            Some(old) => old.is_nan() || new < old,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validation(nll: f64, average_rank: f64, reciprocal_rank: f64) -> Validation {
        Validation {
            step: 0,
            nll,
            average_rank,
            reciprocal_rank,
            top_5: 0.0,
            pool: 10,
            questions: 1,
        }
    }

    /// B86
    #[test]
    fn each_figure_is_chosen_in_its_own_direction_and_nan_never() {
        let runs = [
            validation(2.0, 9.0, 0.2),
            validation(1.0, 4.0, 0.4),
            validation(1.5, 6.0, 0.3),
            validation(f64::NAN, f64::NAN, f64::NAN),
        ];
        for by in [SelectBy::Nll, SelectBy::AverageRank, SelectBy::ReciprocalRank] {
            let mut best = None;
            for run in &runs {
                if by.better(run, best) {
                    best = Some(run);
                }
            }
            assert!(std::ptr::eq(best.unwrap(), &runs[1]), "{by:?}");
            assert!(by.better(&runs[0], Some(&runs[3])));
            assert!(!by.better(&runs[3], None));
        }
    }

    fn loss(contrastive: f64, regulariser: f64, spread: f64) -> Loss {
        let none = super::super::network::Vectors::new(1);
        Loss {
            total: contrastive + regulariser,
            contrastive,
            regulariser,
            questions: none.clone(),
            passages: none,
            mix: Vec::new(),
            first: 0.0,
            spread,
            size: 1.0,
        }
    }

    fn run(mut of: impl FnMut(u64) -> Loss) -> Result<(), TrainingError> {
        let mut watch = Watch::default();
        (1..=200).try_for_each(|step| watch.see(step, &of(step), 64.0, 2, step > 10, 1.0))
    }

    #[test]
    fn collapses_are_told_from_runs_that_learn() {
        assert!(run(|step| loss(6.0 * 0.98f64.powi(step as i32), 0.01, 1.0)).is_ok());
        assert!(run(|_| loss(0.3, 0.001, 1.0)).is_ok());
        let why = |result: Result<(), TrainingError>| match result {
            Err(TrainingError::Collapsed { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        assert!(matches!(
            why(run(|_| loss(4.16, 0.3, 0.0))),
            Collapse::ScoresEqual { .. }
        ));
        assert!(matches!(
            why(run(|_| loss(4.2, 0.001, 1.0))),
            Collapse::LayersInsteadOfPassages { .. }
        ));
        let grows = run(|step| loss(1.0 + step as f64 / 10.0, 0.3, 1.0));
        assert!(matches!(why(grows), Collapse::WorseThanGuessing { .. }));
        assert!(matches!(
            run(|_| loss(f64::NAN, 0.0, 1.0)),
            Err(TrainingError::Diverged { step: 1, .. })
        ));
    }
}
