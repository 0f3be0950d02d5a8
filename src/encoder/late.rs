//! Vectors of single tokens: what a passage scored by late interaction is compared with.

use serde::{Deserialize, Serialize};

use super::batch::Passage;
use super::model::Encoder;
use super::{ModelError, Pooling};

/// How token vectors of the last layer make a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateInteraction {
    /// Each token of the question with its best token of the passage, summed (ColBERT: Khattab and Zaharia, 2020).
    SumOfBest,
    /// The question's one vector with the best of the passage's first tokens (ME-BERT: Luan et al., 2021).
    BestOfFirst {
        /// Tokens of a passage that count.
        tokens: usize,
    },
}

impl Encoder {
    /// Vectors of a passage that late interaction compares: `[rows, D]`, one a token, each scaled to length 1 if the
    /// settings say so.
    ///
    /// # Errors
    /// As [`Encoder::encode_documents`].
    pub fn passage_token_vectors(
        &self,
        passage: Passage<'_>,
        how: LateInteraction,
    ) -> Result<Vec<f32>, ModelError> {
        let mut states = self.last_states(passage, false)?;
        if let LateInteraction::BestOfFirst { tokens } = how {
            states.truncate(tokens.max(1) * self.architecture().dimension());
        }
        self.finish(&mut states);
        Ok(states)
    }

    /// Vectors of a question that late interaction compares: one a token, or the pooled one of the last layer.
    ///
    /// # Errors
    /// As [`Encoder::encode_documents`].
    pub fn question_token_vectors(
        &self,
        question: &str,
        how: LateInteraction,
    ) -> Result<Vec<f32>, ModelError> {
        let passage = Passage {
            title: None,
            text: question,
        };
        let mut states = self.last_states(passage, true)?;
        match how {
            LateInteraction::SumOfBest => self.finish(&mut states),
            LateInteraction::BestOfFirst { .. } => {
                let mut pooled = vec![0.0; self.architecture().dimension()];
                let settings = self.settings();
                super::forward::pool(&states, settings.pooling, settings.normalize, &mut pooled);
                states = pooled;
            }
        }
        Ok(states)
    }

    fn finish(&self, states: &mut [f32]) {
        if self.settings().normalize {
            let d = self.architecture().dimension();
            for row in states.chunks_exact_mut(d) {
                let copy = row.to_vec();
                // Of a single row pooling leaves the scaling alone.
                super::forward::pool(&copy, Pooling::Cls, true, row);
            }
        }
    }
}
