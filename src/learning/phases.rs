//! What a run does in each of its phases: it trains, judges, re-embeds, and concludes.

use std::sync::Arc;
use std::time::Instant;

use super::history::{Candidate, Judgement, Phase, Retrieval, Underway, Verdict};
use super::questions::Questions;
use super::run::{Outcome, Run};
use super::{Learning, Metric};
use crate::evaluation::{Ranking, Scores, figures, paired_bootstrap, scores};
use crate::models::remove_folder;
use crate::schema::normalised;
use crate::training::{Observer, StepReport, Trainer, TrainingError};
use crate::{EncodeOptions, Encoder, Error, ReembedProgress, Result, Similarity};

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

impl Run<'_> {
    /// Trains the candidate; gives an outcome if the run ends or stops with it.
    pub(super) fn train(&self, underway: &mut Underway, questions: Questions) -> Result<Option<Outcome>> {
        let Questions { mut train, ids, .. } = questions;
        if underway.steps == 0 {
            underway.steps = self.steps_within(&underway.policy, &train)?;
        }
        self.kept().set_underway(underway)?;
        if underway.policy.training.needs_negatives() {
            let rankings = self.rankings(&train, &ids)?;
            train.mine_negatives(&rankings, underway.policy.training.negative_pool)?;
        }
        let mut options = underway.policy.training.clone();
        let lexical = options.lexical.take();
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
                // It would be refused again, so there is nothing to go on with.
                Err(error @ (TrainingError::Setting { .. } | TrainingError::Data { .. })) => {
                    self.tidy()?;
                    self.kept().forget_underway()?;
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        };
        // Of documents as they are: questions that are made of them take a part of each out.
        let trained = match &lexical {
            Some(lexical) => trained.weighing(self.collection.count_words(&self.encoder, lexical)?),
            None => trained,
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

    pub(super) fn judge(
        &self,
        policy: &Learning,
        questions: &Questions,
        candidate: &Encoder,
    ) -> Result<Judgement> {
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
            let inputs: Vec<_> = set.passages().iter().map(|passage| passage.as_input()).collect();
            let mut vectors = encoder.encode_documents(&inputs, &options)?;
            if self.collection.similarity() == Similarity::Cosine {
                // As they would be stored.
                for row in vectors.vectors.chunks_exact_mut(vectors.dimension) {
                    if let Some(unit) = normalised(row) {
                        row.copy_from_slice(&unit);
                    }
                }
            }
            let ranking = Ranking::by_vectors(encoder, &vectors, &set, JUDGED_DEPTH)?;
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
            // Judged deep enough for all of them.
            Retrieval {
                top: figures.top.map(Option::unwrap_or_default),
                mrr_10: figures.mrr_10.unwrap_or_default(),
                ndcg_10: figures.ndcg_10.unwrap_or_default(),
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

    pub(super) fn reembed(&self, underway: Underway, candidate: Encoder) -> Result<Outcome> {
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

    pub(super) fn conclude(&self, mut candidate: Candidate, verdict: Verdict) -> Result<Outcome> {
        candidate.verdict = verdict;
        self.kept().conclude(&candidate)?;
        self.tidy()?;
        tracing::info!(collection = self.collection.name(), verdict = ?candidate.verdict, "a run of learning ended");
        Ok(Outcome::Concluded(Box::new(candidate)))
    }
}

/// Passes training's steps on.
struct Telling<'a, 'r>(&'a Run<'r>);

impl Observer for Telling<'_, '_> {
    fn step(&self, step: &StepReport) {
        self.0
            .tell(Phase::Training, step.step, step.total, Some(step.loss));
    }
}
