//! A trained encoder as a Hugging Face folder.

use std::path::Path;
use std::sync::Arc;

use super::TrainingError;
use super::trainer::Report;
use crate::encoder::folder::LayerMix;
use crate::encoder::lexical::Lexical;
use crate::encoder::saving::Parts;
use crate::encoder::{Encoder, LateInteraction, Weights};

/// The outcome of a run: weights and what is to be known of them.
pub struct Trained {
    pub(super) base: Encoder,
    pub(super) passages: Weights,
    pub(super) questions: Option<Weights>,
    pub(super) mix: Option<LayerMix>,
    pub(super) late: Option<LateInteraction>,
    pub(super) lexical: Option<Arc<Lexical>>,
    /// Layers that a passage keeps a vector of.
    pub(super) layers: Vec<usize>,
    pub(super) report: Report,
}

impl Trained {
    /// What happened.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// With the words that were counted.
    pub(crate) fn weighing(mut self, words: Lexical) -> Trained {
        self.lexical = Some(Arc::new(words));
        self
    }

    /// Writes the encoder, durably, as a folder that `Encoder::from_folder` reads; it must be empty or not there.
    ///
    /// It holds `config.json`, the tokenizer, `model.safetensors` (the passages' encoder, and the questions' too unless
    /// it is in `questions/model.safetensors`), `modules.json` and `1_Pooling/config.json` for other programs, and
    /// `stratal.json` with the layers, the mix and all other settings, and `lexical.safetensors` if vectors have a lexical
    /// part.
    ///
    /// # Errors
    /// [`TrainingError::Model`].
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<Encoder, TrainingError> {
        let parts = Parts {
            base: &self.base,
            settings: crate::EncoderSettings {
                layers: self.layers.clone(),
                ..self.base.settings().clone()
            },
            passages: &self.passages,
            questions: self.questions.as_ref(),
            mix: self.mix.clone(),
            late: self.late,
            lexical: self.lexical.as_deref(),
        };
        Ok(parts.save(folder.as_ref())?)
    }
}
