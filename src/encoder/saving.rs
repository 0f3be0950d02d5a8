//! An encoder as a Hugging Face folder.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::folder::{LEXICAL, LayerMix, TRAINED, Trained};
use super::lexical::Lexical;
use super::weights::serialize;
use super::{Encoder, EncoderSettings, LateInteraction, ModelError, Pooling, Weights};
use crate::durable;

/// What a folder is made of; the tokenizer and `config.json` are those of `base`.
pub(crate) struct Parts<'a> {
    pub base: &'a Encoder,
    pub settings: EncoderSettings,
    pub passages: &'a Weights,
    pub questions: Option<&'a Weights>,
    pub mix: Option<LayerMix>,
    pub late: Option<LateInteraction>,
    pub lexical: Option<&'a Lexical>,
}

impl Encoder {
    /// Writes the encoder with a lexical part (in place of one that it may have) as a folder that
    /// [`Encoder::from_folder`] reads, durably; the folder must be empty or not there. Gives the new encoder. Other
    /// programs that read the folder see the model alone.
    ///
    /// # Errors
    /// [`ModelError::Io`]; [`ModelError::Setting`] for settings that do not fit the model, or for words that another encoder
    /// counted.
    pub fn save_with_lexical(
        &self,
        lexical: &Lexical,
        folder: impl AsRef<Path>,
    ) -> Result<Encoder, ModelError> {
        self.validate()?;
        lexical.check_counted_by(self)?;
        let questions = self.question_weights();
        let parts = Parts {
            base: self,
            settings: self.settings().clone(),
            passages: &self.weights(),
            questions: questions.as_ref(),
            mix: self.layer_mix().cloned(),
            late: self.late_interaction(),
            lexical: Some(lexical),
        };
        parts.save(folder.as_ref())
    }
}

impl Parts<'_> {
    pub fn save(self, folder: &Path) -> Result<Encoder, ModelError> {
        let io = |file: &Path| {
            let file = file.to_path_buf();
            move |source| ModelError::Io { file, source }
        };
        let occupied = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if occupied {
            return Err(io(folder)(std::io::ErrorKind::AlreadyExists.into()));
        }
        let mut files: Vec<PathBuf> = Vec::new();
        let mut put = |name: PathBuf, bytes: &[u8]| -> Result<(), ModelError> {
            let path = folder.join(&name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(io(parent))?;
            }
            durable::write(&path, bytes).map_err(io(&path))?;
            files.push(name);
            Ok(())
        };
        for (from, name) in self.base.shared_files() {
            let bytes = std::fs::read(&from).map_err(io(&from))?;
            put(name, &bytes)?;
        }
        let bytes = |weights: &Weights| {
            let file = folder.join("model.safetensors");
            serialize(weights.tensors()).map_err(|reason| ModelError::WeightsHeader { file, reason })
        };
        put("model.safetensors".into(), &bytes(self.passages)?)?;
        if let Some(questions) = self.questions {
            put("questions/model.safetensors".into(), &bytes(questions)?)?;
        }
        if let Some(lexical) = self.lexical {
            put(LEXICAL.into(), &lexical.table()?)?;
        }
        let mean = self.settings.pooling == Pooling::Mean;
        let pooling = json!({
            "word_embedding_dimension": self.base.architecture().dimension(),
            "pooling_mode_cls_token": !mean,
            "pooling_mode_mean_tokens": mean,
            "pooling_mode_max_tokens": false,
            "pooling_mode_mean_sqrt_len_tokens": false,
        });
        put("1_Pooling/config.json".into(), pooling.to_string().as_bytes())?;
        let module = |i: usize, path: &str, kind: &str| json!({ "idx": i, "name": i.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
        let mut modules = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
        if self.settings.normalize {
            modules.push(module(2, "2_Normalize", "Normalize"));
        }
        put("modules.json".into(), json!(modules).to_string().as_bytes())?;
        let trained = Trained {
            // What does not know of lexical parts must not make vectors without.
            version: if self.lexical.is_some() { 2 } else { 1 },
            settings: self.settings,
            question_encoder: self.questions.map(|_| "questions".to_owned()),
            mix: self.mix,
            late_interaction: self.late,
            lexical: self.lexical.map(Lexical::entry),
        };
        let trained =
            serde_json::to_vec_pretty(&trained).map_err(|error| io(&folder.join(TRAINED))(error.into()))?;
        put(TRAINED.into(), &trained)?;
        durable::sync_folders(folder, &files).map_err(io(folder))?;
        Encoder::from_folder(folder)
    }
}
