//! Training of encoders by Multi-layer Representations and its baselines, and the data it needs.
//!
//! A [`PairSet`] holds questions and passages; a [`Trainer`] takes an encoder and a set through the steps of
//! [`TrainingOptions`] and gives [`Trained`], which is saved as a folder that any `Encoder::from_folder` reads.
//!
//! The method is that of Xie and Lukasiewicz, "Multi-layer Representations for dense passage retrieval" (Findings of
//! EMNLP 2025, arXiv 2509.23861); `losses` has its formulas. A run is decided by its seed: order, negatives and dropout
//! follow from it and the step alone, sums have one order, so neither the number of threads nor a stop and a resumption
//! changes a bit of the outcome.

mod batch;
mod checkpoint;
mod data;
mod error;
mod losses;
mod negatives;
mod network;
mod optimizer;
mod options;
mod order;
mod resuming;
mod run;
#[cfg(test)]
mod tests;
mod tower;
mod trained;
mod trainer;
mod validation;
mod watch;

pub use data::{Answers, PairSet, Passage, Question, words};
pub use error::{Collapse, TrainingError};
pub use losses::{Method, Temperatures};
pub use negatives::Mined;
pub use options::{Precision, TrainingOptions};
pub use trained::Trained;
pub use trainer::{Observer, Report, StepReport, Trainer};
pub use watch::{SelectBy, Validation};
