//! A trained encoder as a Hugging Face folder.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::TrainingError;
use super::trainer::Report;
use crate::durable;
use crate::encoder::folder::{LayerMix, TRAINED, Trained as TrainedFile};
use crate::encoder::weights::serialize;
use crate::encoder::{Encoder, LateInteraction, ModelError, Pooling, Weights};

/// The outcome of a run: weights and what is to be known of them.
pub struct Trained {
    pub(super) base: Encoder,
    pub(super) passages: Weights,
    pub(super) questions: Option<Weights>,
    pub(super) mix: Option<LayerMix>,
    pub(super) late: Option<LateInteraction>,
    /// Layers that a passage keeps a vector of.
    pub(super) layers: Vec<usize>,
    pub(super) report: Report,
}

impl Trained {
    /// What happened.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Writes the encoder, durably, as a folder that `Encoder::from_folder` reads; it must be empty or not there.
    ///
    /// It holds `config.json`, the tokenizer, `model.safetensors` (the passages' encoder, and the questions' too unless
    /// it is in `questions/model.safetensors`), `modules.json` and `1_Pooling/config.json` for other programs, and
    /// `stratal.json` with the layers, the mix and all other settings.
    ///
    /// # Errors
    /// [`TrainingError::Io`], [`TrainingError::Model`] if the folder cannot be read back.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<Encoder, TrainingError> {
        let folder = folder.as_ref();
        let occupied = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if occupied {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(TrainingError::io("write a model into", folder)(exists));
        }
        let mut files: Vec<PathBuf> = Vec::new();
        let mut put = |name: PathBuf, bytes: &[u8]| -> Result<(), TrainingError> {
            let path = folder.join(&name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(TrainingError::io("create", parent))?;
            }
            durable::write(&path, bytes).map_err(TrainingError::io("write", path))?;
            files.push(name);
            Ok(())
        };
        for (from, name) in self.base.shared_files() {
            let bytes = std::fs::read(&from).map_err(TrainingError::io("read", from))?;
            put(name, &bytes)?;
        }
        let settings = crate::EncoderSettings {
            layers: self.layers.clone(),
            ..self.base.settings().clone()
        };
        let bytes = |weights: &Weights| {
            let file = folder.join("model.safetensors");
            serialize(weights.tensors())
                .map_err(|reason| TrainingError::Model(ModelError::WeightsHeader { file, reason }))
        };
        put("model.safetensors".into(), &bytes(&self.passages)?)?;
        if let Some(questions) = &self.questions {
            put("questions/model.safetensors".into(), &bytes(questions)?)?;
        }
        let mean = settings.pooling == Pooling::Mean;
        let pooling = json!({
            "word_embedding_dimension": self.base.dimension(),
            "pooling_mode_cls_token": !mean,
            "pooling_mode_mean_tokens": mean,
            "pooling_mode_max_tokens": false,
            "pooling_mode_mean_sqrt_len_tokens": false,
        });
        put("1_Pooling/config.json".into(), pooling.to_string().as_bytes())?;
        let module = |i: usize, path: &str, kind: &str| json!({ "idx": i, "name": i.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
        let mut modules = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
        if settings.normalize {
            modules.push(module(2, "2_Normalize", "Normalize"));
        }
        put("modules.json".into(), json!(modules).to_string().as_bytes())?;
        let trained = TrainedFile {
            version: 1,
            settings,
            question_encoder: self.questions.as_ref().map(|_| "questions".to_owned()),
            mix: self.mix.clone(),
            late_interaction: self.late,
        };
        let trained = serde_json::to_vec_pretty(&trained)
            .map_err(|error| TrainingError::io("write", folder.join(TRAINED))(error.into()))?;
        put(TRAINED.into(), &trained)?;
        durable::sync_folders(folder, &files).map_err(TrainingError::io("sync", folder))?;
        Ok(Encoder::from_folder(folder)?)
    }
}
