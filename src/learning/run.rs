//! One run of learning, from the questions to the cutover. Killed at any point, the next call goes on with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use rayon::ThreadPool;

use super::history::{Candidate, Kept, Phase, Underway, Verdict};
use super::questions::Questions;
use super::{Learning, When};
use crate::models::remove_folder;
use crate::{Collection, Encoder, Error, ModelError, Result};

/// Fewer questions tell nothing: a candidate that answers one more of ten is no better for it.
const HELD_OUT_LEAST: usize = 20;
const TRAIN_LEAST: usize = 32;
/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningProgress {
    /// What it is at.
    pub phase: Phase,
    /// Steps, passages or documents done.
    pub done: u64,
    /// Of so many.
    pub total: u64,
    /// The loss of the last step, while it trains.
    pub loss: Option<f64>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It came to its end: the candidate, and what became of it.
    Concluded(Box<Candidate>),
    /// It was stopped, and the next run goes on with it.
    Stopped(Phase),
}

/// A run of learning; made by [`Collection::learn`].
///
/// It trains a candidate from the encoder in use on the collection's pairs (or on pairs made from its documents),
/// compares the two on questions that were kept from training, and if and only if the candidate is better by more than
/// its error, re-embeds everything and lets it answer from one commit on. Otherwise the candidate is dropped, and the
/// history says why.
#[must_use = "learning does nothing before `run`"]
pub struct LearningRun<'a> {
    collection: Collection,
    policy: Option<Learning>,
    cancel: Option<&'a AtomicBool>,
    progress: Option<&'a (dyn Fn(&LearningProgress) + Sync)>,
}

impl<'a> LearningRun<'a> {
    pub(super) fn new(collection: &Collection, policy: Option<Learning>) -> LearningRun<'a> {
        LearningRun {
            collection: collection.clone(),
            policy,
            cancel: None,
            progress: None,
        }
    }

    /// Stops soon after the flag is raised; the next run goes on from there.
    pub fn cancel(mut self, cancel: &'a AtomicBool) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Told as it goes on, from the threads that work.
    pub fn progress(mut self, progress: &'a (dyn Fn(&LearningProgress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Whether the policy it was given makes sense, before anything long is done.
    pub(super) fn check(&self) -> Result<()> {
        match &self.policy {
            Some(policy) => policy.check(&trained(&self.collection)?),
            None => Ok(()),
        }
    }

    /// Runs to its end or to a stop. A run that was stopped or killed is gone on with under the policy it began with,
    /// unless that policy would be refused now; [`Collection::abandon_learning`] drops it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a policy that makes no sense or says never, or while another run of the collection is under
    /// way; [`Error::LearningPolicy`] for a stored one that cannot be read; [`Error::NoEncoder`]; [`Error::Training`],
    /// [`Error::Model`], [`Error::Storage`]. A run whose training settings or questions are refused is begun anew.
    pub fn run(self) -> Result<Outcome> {
        let engine = Arc::clone(&self.collection.database.engine);
        let Some(_alone) = engine.learner.begin(self.collection.number) else {
            return Err(learns_already(&self.collection));
        };
        let encoder = trained(&self.collection)?;
        let kept = Kept(&self.collection);
        let before = kept.underway();
        let goes_on = before
            .as_ref()
            .is_some_and(|before| before.goes_on(&self.collection, &encoder));
        let policy = match (&before, self.policy) {
            (Some(before), _) if goes_on => before.policy.clone(),
            (_, Some(policy)) => policy,
            (_, None) => kept.policy()?.unwrap_or_default(),
        };
        if !goes_on {
            policy.check(&encoder)?;
        }
        if policy.when == When::Off {
            return Err(Error::Invalid {
                what: format!(
                    "learning is off for {:?}: set a policy that allows it",
                    self.collection.name()
                ),
            });
        }
        let never = AtomicBool::new(false);
        let pool = background_pool(policy.threads())?;
        let run = Run {
            collection: &self.collection,
            cancel: self.cancel.unwrap_or(&never),
            progress: self.progress,
            encoder: encoder.pool(Arc::clone(&pool)),
            pool,
        };
        let underway = match before {
            Some(before) if goes_on => before,
            before => {
                run.tidy()?;
                if let Some(hash) = before.and_then(|before| before.candidate.hash) {
                    drop_vectors(&self.collection, &hash)?;
                }
                run.begin(policy)
            }
        };
        run.go(underway)
    }
}

/// The encoder that a collection's learning trains.
pub(super) fn trained(collection: &Collection) -> Result<Encoder> {
    collection.encoder().map_err(|error| match error {
        Error::NoEncoder { collection, .. } => Error::NoEncoder {
            collection,
            so: "so there is none to train: it keeps vectors of your own, and only a collection with an encoder learns",
        },
        error => error,
    })
}

fn learns_already(collection: &Collection) -> Error {
    Error::Invalid {
        what: format!(
            "{:?} is learning already: wait for it, or stop it",
            collection.name()
        ),
    }
}

/// Drops the run under way and what it has made; see [`Collection::abandon_learning`].
pub(super) fn abandon(collection: &Collection) -> Result<bool> {
    let engine = Arc::clone(&collection.database.engine);
    let Some(_alone) = engine.learner.begin(collection.number) else {
        return Err(learns_already(collection));
    };
    let kept = Kept(collection);
    if !kept.is_underway() {
        return Ok(false);
    }
    if let Some(hash) = kept.underway().and_then(|before| before.candidate.hash) {
        if hash == collection.generation() {
            return Err(Error::Invalid {
                what: format!(
                    "the candidate of the run answers in {:?} already: let it learn once more to note that, and roll \
                     back to the encoder before it if it is not wanted",
                    collection.name()
                ),
            });
        }
        drop_vectors(collection, &hash)?;
    }
    remove_folder(&folder(collection))?;
    kept.rest()?;
    Ok(true)
}

/// Where a collection's run keeps its checkpoints and its candidate.
fn folder(collection: &Collection) -> PathBuf {
    let learning = collection.database.store.learning_folder();
    learning.join(collection.number.to_string())
}

/// Drops the vectors of a candidate that was accepted but does not answer, and will not.
fn drop_vectors(collection: &Collection, hash: &str) -> Result<()> {
    for generation in collection.generations()? {
        if generation.identity == hash && !generation.answers {
            collection.drop_generation(generation.number)?;
        }
    }
    Ok(())
}

/// Threads that leave the processor to searches: on Linux at a lower priority.
fn background_pool(threads: usize) -> Result<Arc<ThreadPool>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("stratal-learn-{index}"))
        .start_handler(|_| super::priority::lower())
        .build()?;
    Ok(Arc::new(pool))
}

pub(super) struct Run<'r> {
    pub(super) collection: &'r Collection,
    pub(super) cancel: &'r AtomicBool,
    pub(super) progress: Option<&'r (dyn Fn(&LearningProgress) + Sync)>,
    pub(super) pool: Arc<ThreadPool>,
    pub(super) encoder: Encoder,
}

impl Run<'_> {
    pub(super) fn kept(&self) -> Kept<'_> {
        Kept(self.collection)
    }

    pub(super) fn folder(&self) -> PathBuf {
        folder(self.collection)
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.folder().join("checkpoints")
    }

    pub(super) fn candidate(&self) -> PathBuf {
        self.folder().join("candidate")
    }

    /// Removes what an earlier run left.
    pub(super) fn tidy(&self) -> Result<()> {
        remove_folder(&self.folder())
    }

    pub(super) fn tell(&self, phase: Phase, done: u64, total: u64, loss: Option<f64>) {
        if let Some(progress) = self.progress {
            progress(&LearningProgress {
                phase,
                done,
                total,
                loss,
            });
        }
    }

    fn begin(&self, policy: Learning) -> Underway {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Underway {
            phase: Phase::Training,
            steps: policy.training.steps,
            chunk: self.chunk_within(&policy),
            candidate: Candidate {
                started: started.map_or(0, |since| since.as_secs()),
                from: self.collection.generation(),
                hash: None,
                pairs: 0,
                made_pairs: false,
                lost_pairs: 0,
                steps: 0,
                judgement: None,
                verdict: Verdict::NotBetter,
            },
            policy,
        }
    }

    /// Texts whose activations fit into the memory beside weights, gradient and moments.
    fn chunk_within(&self, policy: &Learning) -> usize {
        let architecture = self.encoder.architecture();
        let tokens = policy.training.passage_tokens as u64;
        // In f32; attention's weights are those of every head.
        let state = architecture.training_states() as u64 + architecture.heads() as u64 * tokens;
        let each = 4 * architecture.layers() as u64 * tokens * state;
        let weights = 4 * 4 * architecture.parameters();
        let fits = policy.memory.saturating_sub(weights) / each.max(1);
        (fits as usize).clamp(1, policy.training.chunk)
    }

    fn go(&self, mut underway: Underway) -> Result<Outcome> {
        if underway.phase == Phase::Training {
            let questions = Questions::read(&self.collection.snapshot()?, &underway.policy)?;
            underway.candidate.pairs = questions.pairs;
            underway.candidate.made_pairs = questions.made;
            underway.candidate.lost_pairs = questions.lost;
            if let Some(what) = too_little(&questions) {
                return self.conclude(underway.candidate, Verdict::TooLittle { what });
            }
            if let Some(outcome) = self.train(&mut underway, questions)? {
                return Ok(outcome);
            }
        }
        let candidate = match Encoder::from_folder(self.candidate()) {
            Ok(candidate) => candidate
                .name(self.encoder.identity().name)
                .pool(Arc::clone(&self.pool)),
            Err(error) => {
                // Somebody else took it away: from the beginning.
                tracing::warn!(%error, "the candidate is gone, and learning begins anew");
                self.tidy()?;
                self.kept().forget_underway()?;
                return Err(error.into());
            }
        };
        if underway.phase == Phase::Judging {
            let questions = Questions::read(&self.collection.snapshot()?, &underway.policy)?;
            if let Some(what) = too_little(&questions) {
                return self.conclude(underway.candidate, Verdict::TooLittle { what });
            }
            match self.judge(&underway.policy, &questions, &candidate) {
                Ok(judgement) => underway.candidate.judgement = Some(judgement),
                Err(Error::Model(ModelError::Cancelled { .. })) => {
                    return Ok(Outcome::Stopped(Phase::Judging));
                }
                Err(error) => return Err(error),
            }
            underway.candidate.hash = Some(candidate.identity().hash);
            let better = underway
                .candidate
                .judgement
                .is_some_and(|judgement| judgement.low > 0.0);
            if !better {
                return self.conclude(underway.candidate, Verdict::NotBetter);
            }
            underway.phase = Phase::Reembedding;
            self.kept().set_underway(&underway)?;
        }
        self.reembed(underway, candidate)
    }
}

fn too_little(questions: &Questions) -> Option<String> {
    let (train, held_out) = (questions.train.questions().len(), questions.held_out.len());
    if train >= TRAIN_LEAST && held_out >= HELD_OUT_LEAST {
        return None;
    }
    let what = if questions.made {
        "questions made from the documents"
    } else {
        "pairs"
    };
    Some(format!(
        "{train} questions to train on and {held_out} to judge by came of {} {what}, and {TRAIN_LEAST} and \
         {HELD_OUT_LEAST} are needed",
        questions.pairs
    ))
}
