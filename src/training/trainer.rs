//! What a run is set up with, and what it tells.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::batch;
use super::data::PairSet;
use super::options::TrainingOptions;
use super::run::Run;
use super::trained::Trained;
use super::watch::Validation;
use crate::encoder::Encoder;

/// What a run tells while it goes on. All methods do nothing unless they are written; they are called from the thread
/// that runs the training.
pub trait Observer {
    /// After every step.
    fn step(&self, step: &StepReport) {
        let _ = step;
    }

    /// After every validation; `best` if it is the best so far.
    fn validated(&self, validation: &Validation, best: bool) {
        let _ = (validation, best);
    }

    /// After every checkpoint.
    fn checkpoint(&self, file: &Path) {
        let _ = file;
    }
}

/// One step's figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Steps in all.
    pub total: u64,
    /// The whole loss.
    pub loss: f64,
    /// The contrastive part.
    pub contrastive: f64,
    /// The regulariser, before `λ`.
    pub regulariser: f64,
    /// The share of the batch's questions whose positive scored best.
    pub first: f64,
    /// The gradient's norm before clipping.
    pub gradient: f64,
    /// The learning rate.
    pub rate: f64,
}

/// What became of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Steps done.
    pub steps: u64,
    /// Every step.
    pub history: Vec<StepReport>,
    /// Every validation.
    pub validations: Vec<Validation>,
    /// The validation whose state was kept; none without validation questions.
    pub best: Option<Validation>,
    /// Whether the run ended before its last step because validations got no better.
    pub stopped_early: bool,
    /// Questions longer than the limit, counted each time they came.
    pub questions_cut: u64,
    /// Passages longer than the limit, counted each time they came.
    pub passages_cut: u64,
    /// Hard negatives that questions had too few of.
    pub negatives_short: u64,
}

/// Training, set up and then run.
///
/// ```no_run
/// use stratal::Encoder;
/// use stratal::training::{PairSet, Trainer, TrainingOptions};
///
/// let encoder = Encoder::from_folder("all-MiniLM-L6-v2")?.normalize(true);
/// let train = PairSet::from_jsonl("corpus.jsonl.gz", "train.jsonl.gz")?;
/// let trained = Trainer::new(&encoder, &train).options(TrainingOptions::default()).run()?;
/// let better = trained.save("all-MiniLM-L6-v2-mine")?;
/// # Ok::<(), stratal::training::TrainingError>(())
/// ```
pub struct Trainer<'a> {
    pub(super) encoder: &'a Encoder,
    pub(super) set: &'a PairSet,
    pub(super) options: TrainingOptions,
    pub(super) validation: Option<&'a PairSet>,
    pub(super) checkpoints: Option<PathBuf>,
    pub(super) observer: Option<&'a dyn Observer>,
    pub(super) cancel: Option<&'a AtomicBool>,
    pub(super) pool: Option<Arc<ThreadPool>>,
}

impl<'a> Trainer<'a> {
    /// Trains `encoder`, with its settings (layers last first, pooling, normalising, template), on the pairs of a set,
    /// on the device that it was put on ([`Encoder::device`]).
    pub fn new(encoder: &'a Encoder, set: &'a PairSet) -> Trainer<'a> {
        Trainer {
            encoder,
            set,
            options: TrainingOptions::default(),
            validation: None,
            checkpoints: None,
            observer: None,
            cancel: None,
            pool: None,
        }
    }

    /// What is chosen about the run.
    pub fn options(mut self, options: TrainingOptions) -> Self {
        self.options = options;
        self
    }

    /// Questions by which the best state is chosen. The pool that they are searched in is their positives and hard
    /// negatives, not the whole corpus.
    pub fn validation(mut self, set: &'a PairSet) -> Self {
        self.validation = Some(set);
        self
    }

    /// Writes checkpoints into a folder, and goes on from the newest whole one that is there.
    pub fn checkpoints(mut self, folder: impl Into<PathBuf>) -> Self {
        self.checkpoints = Some(folder.into());
        self
    }

    /// Who is told.
    pub fn observer(mut self, observer: &'a dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// A flag that is looked at before every step.
    pub fn cancel(mut self, flag: &'a AtomicBool) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// The threads to work in; without it a pool of the run's own, a thread a core. The result does not depend on it.
    pub fn pool(mut self, pool: Arc<ThreadPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// [`TrainingError::Setting`], [`TrainingError::Data`] before the first step; [`TrainingError::Diverged`] and
    /// [`TrainingError::Collapsed`] where nothing would come of it; [`TrainingError::Cancelled`].
    pub fn run(self) -> Result<Trained, TrainingError> {
        self.options.check(self.encoder)?;
        batch::check(self.set, &self.options)?;
        let pool = match &self.pool {
            Some(pool) => pool.clone(),
            None => {
                let own = rayon::ThreadPoolBuilder::new()
                    .thread_name(|i| format!("stratal-train-{i}"))
                    .build();
                let reason = |error: rayon::ThreadPoolBuildError| crate::ModelError::Threads {
                    reason: error.to_string(),
                };
                Arc::new(own.map_err(reason)?)
            }
        };
        // The run itself stays on this thread, so that observers need not be shared between threads.
        Run::new(&self, &pool)?.run()
    }
}
