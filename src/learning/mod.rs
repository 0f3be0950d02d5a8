//! Learning: a collection's encoder gets better from what is put in.
//!
//! A [`Learning`] policy says when. A run ([`LearningRun`]) trains a candidate from the encoder in use, judges both on
//! questions kept from training, and if and only if the candidate is better by more than its error, re-embeds
//! everything and lets it answer from one commit on. All that a run stands on is stored, so that it is gone on with
//! after a kill.

mod background;
mod history;
mod phases;
mod policy;
mod priority;
mod questions;
mod run;

pub(crate) use background::Learner;
pub(crate) use history::drop_with;
pub use history::{Candidate, Judgement, LearningStatus, Phase, Retrieval, Verdict};
pub use policy::{Learning, Metric, When};
pub use run::{LearningProgress, LearningRun, Outcome};

use crate::ingest::{IngestReport, Ingestion};
use crate::{Collection, Result};
use history::Kept;

/// Ingests, and learns from it when all is in: documents, pairs, training, judging and re-embedding in one call. An
/// ingestion that was stopped or ended at its limit is not learned from.
///
/// ```no_run
/// # fn main() -> stratal::Result<()> {
/// # let notes = stratal::Database::open("notes.stratal")?.collection("notes").open()?;
/// use stratal::ingest::Ingestion;
/// let documents = Ingestion::new(&notes).path("corpus.jsonl").pairs("questions.jsonl");
/// let (report, learned) = stratal::learning::ingest(documents, notes.learn())?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of [`Ingestion::run`] and of [`LearningRun::run`]; what was ingested stays. A policy that makes no sense is
/// refused before anything is.
pub fn ingest(
    ingestion: Ingestion<'_>,
    learning: LearningRun<'_>,
) -> Result<(IngestReport, Option<Outcome>)> {
    learning.check()?;
    let report = ingestion.run()?;
    let learned = match report.stopped || report.limited {
        true => None,
        false => Some(learning.run()?),
    };
    Ok((report, learned))
}

impl Collection {
    /// Stores the collection's learning policy in the place of the one it has, even of one that cannot be read.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for one that makes no sense, [`crate::Error::Training`] where it is how it trains;
    /// [`crate::Error::NoEncoder`] for a collection of the caller's vectors; [`crate::Error::Storage`].
    pub fn set_learning(&self, policy: &Learning) -> Result<()> {
        policy.check(&run::trained(self)?)?;
        Kept(self).set_policy(policy)?;
        self.database.engine.learner.watch(&self.database);
        Ok(())
    }

    /// Its policy, the run under way, and what became of the runs before.
    ///
    /// # Errors
    /// [`crate::Error::LearningPolicy`] for a policy that cannot be read; [`crate::Error::Storage`] if it has been
    /// dropped.
    pub fn learning(&self) -> Result<LearningStatus> {
        let kept = Kept(self);
        Ok(LearningStatus {
            policy: kept.policy()?.unwrap_or_default(),
            phase: kept.underway().map(|underway| underway.phase),
            pairs: self.snapshot()?.pair_count(),
            history: kept.history()?,
        })
    }

    /// Abandons the run that has begun and not ended: its checkpoints, its candidate and the vectors that the candidate
    /// has made go, and learning by itself waits until as much again has come in. Whether there was such a run.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] while the run is at work, or if its candidate answers already, so that the next run has
    /// only to note it; [`crate::Error::Io`], [`crate::Error::Storage`].
    pub fn abandon_learning(&self) -> Result<bool> {
        run::abandon(self)
    }

    /// Learns under the stored policy, going on with a run that was stopped or killed.
    pub fn learn<'a>(&self) -> LearningRun<'a> {
        LearningRun::new(self, None)
    }

    /// Learns under this policy, once; the stored one stays.
    pub fn learn_by<'a>(&self, policy: Learning) -> LearningRun<'a> {
        LearningRun::new(self, Some(policy))
    }
}
