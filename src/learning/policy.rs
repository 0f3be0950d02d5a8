//! When a collection's encoder learns, with what means, and by which figure it is judged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::training::TrainingOptions;
use crate::{Encoder, Error, Result};

/// A collection's learning policy. It is stored with the collection, see [`crate::Collection::set_learning`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Learning {
    /// When it learns.
    pub when: When,
    /// The figure by which a candidate must be better than the encoder in use.
    pub metric: Metric,
    /// The share of questions that are kept from training to judge by, whole articles (equal titles) at a time.
    pub held_out: f64,
    /// Where there are no pairs, make some from the documents: title → passage, sentence → the rest of its passage.
    pub make_pairs: bool,
    /// The share of the machine's processors that it takes, at a low priority.
    pub cpu_share: f64,
    /// How long it may train; `None` for as long as the training options say.
    pub time: Option<Duration>,
    /// Bytes of memory that a training step may take, about: a smaller budget makes smaller chunks, not another result.
    pub memory: u64,
    /// Passages that candidates are judged over at most, the held-out questions' own among them.
    pub judged_passages: usize,
    /// How it trains.
    pub training: TrainingOptions,
}

/// When a collection's encoder learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Never.
    Off,
    /// When [`crate::Collection::learn`] is called.
    #[default]
    OnRequest,
    /// By itself, in the background, when so much has come in since it last tried. A zero does not count.
    After {
        /// New pairs.
        pairs: u64,
        /// New documents.
        documents: u64,
    },
}

/// A figure of retrieval, higher being better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The share of questions with a right document among the first five.
    #[default]
    Top5,
    /// Mean reciprocal rank at 10.
    Mrr10,
    /// nDCG at 10.
    Ndcg10,
}

impl Default for Learning {
    fn default() -> Learning {
        Learning {
            when: When::default(),
            metric: Metric::default(),
            held_out: 0.1,
            make_pairs: true,
            cpu_share: 1.0,
            time: None,
            memory: 2 << 30,
            judged_passages: 5_000,
            training: TrainingOptions::default(),
        }
    }
}

impl Learning {
    /// The default within a time.
    pub fn within(time: Duration) -> Learning {
        Learning {
            time: Some(time),
            ..Learning::default()
        }
    }

    /// Whether a collection of this encoder could learn by it: what is refused here is never stored.
    pub(super) fn check(&self, encoder: &Encoder) -> Result<()> {
        let refuse = |what: &str| {
            Err(Error::Invalid {
                what: format!("the learning policy's {what}"),
            })
        };
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return refuse(
                "held_out is a share between 0 and 1: without questions kept apart nothing can be judged",
            );
        }
        if !(self.cpu_share > 0.0 && self.cpu_share <= 1.0) {
            return refuse("cpu_share is above 0 and at most 1");
        }
        if self.judged_passages == 0 {
            return refuse("judged_passages is 0: one at least");
        }
        if let When::After {
            pairs: 0,
            documents: 0,
        } = self.when
        {
            return refuse("`After` needs a number of pairs or of documents");
        }
        Ok(self.training.check(encoder)?)
    }

    pub(super) fn threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        ((processors as f64 * self.cpu_share).round() as usize).clamp(1, processors)
    }
}
