//! One run of learning, from the questions to the cutover. Killed at any point, the next call goes on with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use rayon::ThreadPool;

use super::history::{Candidate, Judgement, Kept, Phase, Retrieval, Underway, Verdict};
use super::questions::Questions;
use super::{Learning, Metric, When};
use crate::evaluation::{Ranking, Scores, figures, paired_bootstrap, scores};
use crate::models::remove_folder;
use crate::training::{Observer, StepReport, Trainer, TrainingError};
use crate::{Collection, EncodeOptions, Encoder, Error, ModelError, ReembedProgress, Result};

/// Fewer questions tell nothing: a candidate that answers one more of ten is no better for it.
const HELD_OUT_LEAST: usize = 20;
const TRAIN_LEAST: usize = 32;
/// Passages that questions are searched among for hard negatives.
const MINED_DEPTH: usize = 60;
/// How deep rankings are judged.
const JUDGED_DEPTH: usize = 100;
const RESAMPLES: usize = 2_000;
/// A training step costs about so many times what encoding its texts costs.
const STEP_COST: f64 = 4.0;
/// The share of the time that is trained for; the rest is for judging.
const TRAINED_SHARE: f64 = 0.8;
const STEPS_LEAST: u64 = 10;

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

    /// Runs to its end or to a stop. A run that was stopped or killed is gone on with under the policy it began with.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a policy that makes no sense or says never, or while another run of the collection is under way;
    /// [`Error::NoEncoder`]; [`Error::Training`], [`Error::Model`], [`Error::Storage`]. A run that failed is begun anew.
    pub fn run(self) -> Result<Outcome> {
        let engine = Arc::clone(&self.collection.database.engine);
        let Some(_alone) = engine.learner.begin(self.collection.number) else {
            return Err(Error::Invalid {
                what: format!(
                    "{:?} is learning already: wait for it, or stop it",
                    self.collection.name()
                ),
            });
        };
        let kept = Kept(&self.collection);
        let stored = kept.policy()?;
        let before = kept.underway()?;
        let goes_on = before
            .as_ref()
            .is_some_and(|before| before.goes_on(&self.collection));
        let policy = match (&before, self.policy) {
            (Some(before), _) if goes_on => before.policy.clone(),
            (_, Some(policy)) => policy,
            (_, None) => stored.unwrap_or_default(),
        };
        policy.check()?;
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
            encoder: self.collection.encoder()?.pool(Arc::clone(&pool)),
            pool,
        };
        let underway = match before {
            Some(before) if goes_on => before,
            before => {
                run.tidy()?;
                if let Some(hash) = before.and_then(|before| before.candidate.hash) {
                    run.drop_abandoned(&hash)?;
                }
                run.begin(policy)
            }
        };
        run.go(underway)
    }
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

struct Run<'r> {
    collection: &'r Collection,
    cancel: &'r AtomicBool,
    progress: Option<&'r (dyn Fn(&LearningProgress) + Sync)>,
    pool: Arc<ThreadPool>,
    encoder: Encoder,
}

impl Run<'_> {
    fn kept(&self) -> Kept<'_> {
        Kept(self.collection)
    }

    fn folder(&self) -> PathBuf {
        let learning = self.collection.database.store.learning_folder();
        learning.join(self.collection.number.to_string())
    }

    fn checkpoints(&self) -> PathBuf {
        self.folder().join("checkpoints")
    }

    fn candidate(&self) -> PathBuf {
        self.folder().join("candidate")
    }

    /// Removes what an earlier run left.
    fn tidy(&self) -> Result<()> {
        remove_folder(&self.folder())
    }

    /// Drops the vectors of a candidate that was accepted but is no child of the encoder that answers now.
    fn drop_abandoned(&self, hash: &str) -> Result<()> {
        for generation in self.collection.generations()? {
            if generation.identity == hash && !generation.answers {
                self.collection.drop_generation(generation.number)?;
            }
        }
        Ok(())
    }

    fn tell(&self, phase: Phase, done: u64, total: u64, loss: Option<f64>) {
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
        let (hidden, layers) = (architecture.dimension() as u64, architecture.layers() as u64);
        // In f32: about 16 vectors of the hidden size a token and layer, the wide ones of the feed-forward counted as
        // four each, and the attention's weights of every head.
        let heads = architecture.heads() as u64;
        let each = 4 * layers * tokens * (16 * hidden + heads * tokens);
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

    /// Trains the candidate; gives an outcome if the run ends or stops with it.
    fn train(&self, underway: &mut Underway, questions: Questions) -> Result<Option<Outcome>> {
        let Questions { mut train, ids, .. } = questions;
        if underway.steps == 0 {
            underway.steps = self.steps_within(&underway.policy, &train)?;
        }
        self.kept().set_underway(underway)?;
        if underway.policy.training.hard_negatives > 0 {
            let rankings = self.rankings(&train, &ids)?;
            train.mine_negatives(&rankings, underway.policy.training.negative_pool)?;
        }
        let mut options = underway.policy.training.clone();
        options.steps = underway.steps;
        options.chunk = underway.chunk;
        if options.checkpoint_every == 0 {
            options.checkpoint_every = (underway.steps / 10).clamp(1, 50);
        }
        let observer = Telling(self);
        let mut tries = 0;
        let trained = loop {
            let trainer = Trainer::new(&self.encoder, &train)
                .options(options.clone())
                .checkpoints(self.checkpoints())
                .observer(&observer)
                .cancel(self.cancel)
                .pool(Arc::clone(&self.pool));
            tries += 1;
            match trainer.run() {
                Ok(trained) => break trained,
                Err(TrainingError::Cancelled { .. }) => return Ok(Some(Outcome::Stopped(Phase::Training))),
                Err(error @ (TrainingError::Diverged { .. } | TrainingError::Collapsed { .. })) => {
                    let why = error.to_string();
                    let verdict = Verdict::Untrained { why };
                    return self.conclude(underway.candidate.clone(), verdict).map(Some);
                }
                // Documents or pairs have changed since the run was stopped.
                Err(TrainingError::ForeignCheckpoint { .. } | TrainingError::Checkpoint { .. })
                    if tries == 1 =>
                {
                    self.tidy()?;
                }
                Err(error) => return Err(error.into()),
            }
        };
        underway.candidate.steps = trained.report().steps;
        // Whole or not there: a kill while it is written must not leave half a model.
        let unfinished = self.folder().join("candidate.tmp");
        remove_folder(&unfinished)?;
        remove_folder(&self.candidate())?;
        trained.save(&unfinished)?;
        std::fs::rename(&unfinished, self.candidate()).map_err(|source| Error::Io {
            action: "rename",
            path: unfinished.display().to_string(),
            source,
        })?;
        underway.phase = Phase::Judging;
        self.kept().set_underway(underway)?;
        Ok(None)
    }

    /// Steps that fit into the policy's time, by how long encoding takes here and now.
    fn steps_within(&self, policy: &Learning, train: &crate::training::PairSet) -> Result<u64> {
        let options = &policy.training;
        let all = options.total_steps(train.questions().len());
        let Some(time) = policy.time else {
            return Ok(all);
        };
        let sample: Vec<_> = train
            .passages()
            .iter()
            .take(32)
            .map(|passage| passage.as_input())
            .collect();
        let began = Instant::now();
        self.encoder
            .encode_documents(&sample, &EncodeOptions::default())?;
        let each = began.elapsed().as_secs_f64() / sample.len().max(1) as f64;
        let texts = (options.batch * (2 + options.hard_negatives)) as f64;
        let step = (each * texts * STEP_COST).max(1e-6);
        let fits = (time.as_secs_f64() * TRAINED_SHARE / step) as u64;
        Ok(fits.clamp(STEPS_LEAST.min(all), all))
    }

    /// What the collection's own search puts on top of each question.
    fn rankings(
        &self,
        train: &crate::training::PairSet,
        ids: &std::collections::HashMap<crate::Id, usize>,
    ) -> Result<Vec<Vec<usize>>> {
        let mut rankings = Vec::with_capacity(train.questions().len());
        for questions in train.questions().chunks(256) {
            let texts = questions.iter().map(|question| question.text.as_str());
            let found = self
                .collection
                .search_texts(texts)
                .k(MINED_DEPTH)
                .fields([])
                .run()?;
            rankings.extend(found.into_iter().map(|hits| {
                let places = hits.iter().filter_map(|hit| ids.get(&hit.id).copied());
                places.collect::<Vec<usize>>()
            }));
        }
        Ok(rankings)
    }

    fn judge(&self, policy: &Learning, questions: &Questions, candidate: &Encoder) -> Result<Judgement> {
        let set = questions.judged(policy.judged_passages, policy.training.seed)?;
        let passages = set.passages().len() as u64;
        let ranked = |encoder: &Encoder, before: u64| -> Result<Vec<Scores>> {
            let told = |done: usize, _: usize| {
                self.tell(Phase::Judging, before + done as u64, 2 * passages, None);
            };
            let options = EncodeOptions {
                progress: Some(&told),
                cancel: Some(self.cancel),
            };
            let ranking = Ranking::dense(encoder, &set, JUDGED_DEPTH, &options)?;
            Ok(self.pool.install(|| scores(&set, &ranking)))
        };
        let before = ranked(&self.encoder, 0)?;
        let after = ranked(candidate, passages)?;
        let by_metric = |scores: &[Scores]| -> Vec<f64> {
            let of = |score: &Scores| match policy.metric {
                Metric::Top5 => f64::from(u8::from((1..=5).contains(&score.gold_rank))),
                Metric::Mrr10 => score.mrr_10,
                Metric::Ndcg10 => score.ndcg_10,
            };
            scores.iter().map(of).collect()
        };
        let difference = self.pool.install(|| {
            let (a, b) = (by_metric(&before), by_metric(&after));
            paired_bootstrap(&set, &a, &b, RESAMPLES, policy.training.seed)
        });
        let retrieval = |scores: &[Scores]| {
            let figures = figures(scores, JUDGED_DEPTH);
            Retrieval {
                top: figures.top,
                mrr_10: figures.mrr_10,
                ndcg_10: figures.ndcg_10,
            }
        };
        Ok(Judgement {
            questions: set.questions().len() as u64,
            passages,
            before: retrieval(&before),
            after: retrieval(&after),
            gain: difference.mean,
            low: difference.low,
            high: difference.high,
        })
    }

    fn reembed(&self, underway: Underway, candidate: Encoder) -> Result<Outcome> {
        let progress = |now: &ReembedProgress| self.tell(Phase::Reembedding, now.done, now.total, None);
        let report = self
            .collection
            .reembed(candidate)
            .descends()
            .pool(Arc::clone(&self.pool))
            .cancel(self.cancel)
            .progress(&progress)
            .run()?;
        if !report.cut_over {
            return Ok(Outcome::Stopped(Phase::Reembedding));
        }
        // Of the encoders that learning made, the last is kept to go back to; all would fill the disk in time. What
        // users put there themselves is theirs to drop.
        let lineage = &self.collection.schema().lineage;
        let made = lineage.get(1..).unwrap_or_default();
        for generation in self.collection.generations()? {
            let is_last = generation.identity == underway.candidate.from;
            if made.contains(&generation.identity) && !is_last && !generation.answers {
                self.collection.drop_generation(generation.number)?;
            }
        }
        let generation = report.generation;
        self.conclude(underway.candidate, Verdict::Accepted { generation })
    }

    fn conclude(&self, mut candidate: Candidate, verdict: Verdict) -> Result<Outcome> {
        candidate.verdict = verdict;
        self.kept().conclude(&candidate)?;
        self.tidy()?;
        tracing::info!(collection = self.collection.name(), verdict = ?candidate.verdict, "a run of learning ended");
        Ok(Outcome::Concluded(Box::new(candidate)))
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

/// Passes training's steps on.
struct Telling<'a, 'r>(&'a Run<'r>);

impl Observer for Telling<'_, '_> {
    fn step(&self, step: &StepReport) {
        self.0
            .tell(Phase::Training, step.step, step.total, Some(step.loss));
    }
}
