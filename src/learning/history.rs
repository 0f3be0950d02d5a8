//! What is kept of learning, in the settings of the database: the policy, the run under way, and what became of the
//! runs before.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stratal_storage::Batch;

use super::Learning;
use crate::{Collection, Encoder, Error, Result};

/// Runs remembered.
const HISTORY_MAX: usize = 100;

/// What an encoder finds of the held-out questions, as shares from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// The share of questions with a right document first, among the first 5, 20 and 100.
    pub top: [f64; 4],
    /// Mean reciprocal rank at 10.
    pub mrr_10: f64,
    /// nDCG at 10.
    pub ndcg_10: f64,
}

/// A candidate beside the encoder in use, on the same questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Questions kept from training.
    pub questions: u64,
    /// Passages they were asked over.
    pub passages: u64,
    /// The encoder in use.
    pub before: Retrieval,
    /// The candidate.
    pub after: Retrieval,
    /// By how much the candidate is better, by the policy's metric.
    pub gain: f64,
    /// The middle 95% of the gain over resampled articles: a candidate is taken if the lower end is above zero.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It answers now, as this generation.
    Accepted {
        /// The generation.
        generation: u32,
    },
    /// It is not better by more than its error.
    NotBetter,
    /// Training gave nothing that could be judged: it diverged or collapsed.
    Untrained {
        /// How it showed.
        why: String,
    },
    /// There is too little to learn from or to judge by.
    TooLittle {
        /// What is missing.
        what: String,
    },
}

/// One run of learning that came to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Candidate {
    /// When the run began, in seconds since 1970.
    pub started: u64,
    /// The encoder it was trained from: its identity's hash.
    pub from: String,
    /// Its identity's hash; `None` if training gave none.
    pub hash: Option<String>,
    /// Pairs trained on and judged by.
    pub pairs: u64,
    /// Whether they were made from the documents.
    pub made_pairs: bool,
    /// Pairs whose document is gone; nobody learned from them.
    pub lost_pairs: u64,
    /// Training steps.
    pub steps: u64,
    /// How it did; `None` if it was not judged.
    pub judgement: Option<Judgement>,
    /// What became of it.
    pub verdict: Verdict,
}

/// Where a run under way stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A candidate is being trained.
    Training,
    /// The candidate is compared with the encoder in use.
    Judging,
    /// The candidate is better, and everything stored is being embedded by it.
    Reembedding,
}

/// A run under way, as it is found again after a kill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Underway {
    pub policy: Learning,
    pub phase: Phase,
    /// Steps that fit into the time, fixed when the run began, as is the size of a chunk.
    pub steps: u64,
    pub chunk: usize,
    pub candidate: Candidate,
}

impl Underway {
    /// Whether it can be gone on with: its candidate is a child of the encoder that answers, or answers already, the
    /// run having been cut short just behind the cutover; and what is left to train would not be refused.
    pub fn goes_on(&self, collection: &Collection, encoder: &Encoder) -> bool {
        let answering = collection.generation();
        let cut_over = self.phase == Phase::Reembedding && self.candidate.hash.as_ref() == Some(&answering);
        let trains = self.phase != Phase::Training || self.policy.check(encoder).is_ok();
        trains && (cut_over || self.candidate.from == answering)
    }
}

/// How much had come in when learning was tried last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub pairs: u64,
    pub documents: u64,
}

/// A collection's learning, looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LearningStatus {
    /// Its policy.
    pub policy: Learning,
    /// The phase of a run that has begun and not ended, now under way or waiting to be gone on with.
    pub phase: Option<Phase>,
    /// Pairs stored.
    pub pairs: u64,
    /// The runs that ended, newest last.
    pub history: Vec<Candidate>,
}

fn key(collection: u32, what: &str) -> String {
    format!("learning/{collection}/{what}")
}

/// Reads and writes the settings of one collection.
pub(super) struct Kept<'a>(pub &'a Collection);

impl Kept<'_> {
    fn read<T: DeserializeOwned>(&self, what: &str) -> serde_json::Result<Option<T>> {
        let snapshot = self.0.database.store.snapshot();
        let value = snapshot.setting(&key(self.0.number, what));
        value
            .map(|value| serde_json::from_value(value.clone()))
            .transpose()
    }

    fn get<T: DeserializeOwned>(&self, what: &str) -> Result<Option<T>> {
        self.read(what).map_err(|error| Error::Invalid {
            what: format!("what is kept of learning ({what}) cannot be read: {error}"),
        })
    }

    fn set<T: Serialize>(&self, batch: &mut Batch, what: &str, value: &T) -> Result<()> {
        let value = serde_json::to_value(value).map_err(|error| Error::Invalid {
            what: format!("what is to be kept of learning ({what}) cannot be written: {error}"),
        })?;
        batch.set(key(self.0.number, what), value);
        Ok(())
    }

    fn commit(&self, batch: Batch) -> Result<()> {
        self.0.database.store.commit(batch)?;
        Ok(())
    }

    pub fn policy(&self) -> Result<Option<Learning>> {
        self.read("policy").map_err(|error| Error::LearningPolicy {
            collection: self.0.name().to_owned(),
            reason: error.to_string(),
        })
    }

    pub fn set_policy(&self, policy: &Learning) -> Result<()> {
        let mut batch = Batch::new();
        self.set(&mut batch, "policy", policy)?;
        self.commit(batch)
    }

    /// The run under way. One that cannot be read cannot be gone on with either, so it is none: the next takes its place.
    pub fn underway(&self) -> Option<Underway> {
        self.read("underway").unwrap_or_else(|error| {
            tracing::warn!(%error, collection = self.0.name(), "the run under way is passed over");
            None
        })
    }

    /// Whether a run has begun and not ended, be it one that cannot be read.
    pub fn is_underway(&self) -> bool {
        let snapshot = self.0.database.store.snapshot();
        snapshot.setting(&key(self.0.number, "underway")).is_some()
    }

    pub fn set_underway(&self, underway: &Underway) -> Result<()> {
        let mut batch = Batch::new();
        self.set(&mut batch, "underway", underway)?;
        self.commit(batch)
    }

    pub fn forget_underway(&self) -> Result<()> {
        let mut batch = Batch::new();
        batch.unset(key(self.0.number, "underway"));
        self.commit(batch)
    }

    pub fn mark(&self) -> Result<Mark> {
        Ok(self.get("mark")?.unwrap_or_default())
    }

    pub fn history(&self) -> Result<Vec<Candidate>> {
        Ok(self.get("history")?.unwrap_or_default())
    }

    /// After a failure: nothing new counts until as much again has come in.
    pub fn rest(&self) -> Result<()> {
        self.end(Batch::new())
    }

    /// Ends a run: its candidate goes into the history, in one commit with what follows from it.
    pub fn conclude(&self, candidate: &Candidate) -> Result<()> {
        let mut history = self.history()?;
        history.push(candidate.clone());
        let surplus = history.len().saturating_sub(HISTORY_MAX);
        history.drain(..surplus);
        let mut batch = Batch::new();
        self.set(&mut batch, "history", &history)?;
        self.end(batch)
    }

    /// Commits the end of a run, with the mark from which the next one counts.
    fn end(&self, mut batch: Batch) -> Result<()> {
        let snapshot = self.0.snapshot()?;
        let mark = Mark {
            pairs: snapshot.pair_count(),
            documents: snapshot.count(),
        };
        self.set(&mut batch, "mark", &mark)?;
        batch.unset(key(self.0.number, "underway"));
        self.commit(batch)
    }
}

/// Takes what is kept of a collection that is dropped out of the settings.
pub(crate) fn drop_with(snapshot: &stratal_storage::Snapshot, collection: u32, batch: &mut Batch) {
    for (key, _) in snapshot.settings(&key(collection, "")) {
        batch.unset(key);
    }
}
