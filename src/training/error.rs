use std::path::PathBuf;

use crate::encoder::ModelError;
use crate::ingest::IngestError;

/// What training, its data and its checkpoints can fail at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// A line of a file of questions, passages or judgements.
    #[error("{file}:{line}: {what}")]
    Line {
        /// The file.
        file: String,
        /// The line as an editor counts, from 1; of a JSON list the entry, from 1.
        line: u64,
        /// What is wrong with it, and what would be right.
        what: String,
    },
    /// A file that could not be read or written.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A question or passage given by the program makes no sense.
    #[error("{what}")]
    Data {
        /// Which one, and what is wrong with it.
        what: String,
    },
    /// A setting outside of what is possible.
    #[error("the training setting {setting} is {value}, but {allowed}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// The loss, a gradient or a weight is no longer a finite number.
    #[error(
        "training diverged at step {step}: {what} is not finite; take a smaller learning rate or a longer warm-up"
    )]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// The loss, or the tensor with the first such value.
        what: String,
    },
    /// The model no longer tells passages apart.
    #[error("training collapsed at step {step}: {why}")]
    Collapsed {
        /// The step, from 1.
        step: u64,
        /// How it shows, and what to change.
        why: Collapse,
    },
    /// The caller's cancel flag was raised. The last checkpoint stays.
    #[error("training was cancelled after {done} of {total} steps")]
    Cancelled {
        /// Steps done.
        done: u64,
        /// Steps in all.
        total: u64,
    },
    /// A checkpoint of another run.
    #[error("{} belongs to another run ({why}): give that run's settings, or another folder for checkpoints", path.display())]
    ForeignCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        why: &'static str,
    },
    /// No checkpoint of a folder can be read, though there are some.
    #[error("no checkpoint in {} is whole: {why}; remove them to begin again", path.display())]
    Checkpoint {
        /// The folder.
        path: PathBuf,
        /// What is wrong with the newest.
        why: String,
    },
    /// The encoder refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file of passages or questions could not be read.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// How a collapse shows.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Collapse {
    /// Every passage scores alike.
    #[error(
        "all passages score alike (spread {spread:.1e}), so that no question finds anything; take a smaller learning rate"
    )]
    ScoresEqual {
        /// The standard deviation of a question's scores.
        spread: f64,
    },
    /// The regulariser is won and the contrastive loss is lost.
    #[error(
        "the model tells layers apart (regulariser {regulariser:.3}) and no longer passages (contrastive loss {contrastive:.3}, where guessing gives {guessing:.3}); take a smaller lambda"
    )]
    LayersInsteadOfPassages {
        /// The regulariser's mean over the last steps.
        regulariser: f64,
        /// The contrastive loss's.
        contrastive: f64,
        /// The loss of scores that are all equal.
        guessing: f64,
    },
    /// The loss grew past where it began and past guessing.
    #[error(
        "the contrastive loss went from {before:.3} to {contrastive:.3}, where guessing gives {guessing:.3}; take a smaller learning rate, or a smaller lambda"
    )]
    WorseThanGuessing {
        /// The contrastive loss at the beginning.
        before: f64,
        /// Over the last steps.
        contrastive: f64,
        /// The loss of scores that are all equal.
        guessing: f64,
    },
}

impl TrainingError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> TrainingError {
        let path = path.into();
        move |source| TrainingError::Io { action, path, source }
    }
}
