//! Copies of a model's files.

use std::path::{Path, PathBuf};

use super::Encoder;
use crate::durable;
use crate::encoder::folder::{LEXICAL, TRAINED};
use crate::encoder::{Lexical, ModelError};

impl Encoder {
    /// The files that a folder of the same architecture shares with this encoder's: all but weights and what training
    /// decides anew. With the name that each has in a folder without inner folders.
    pub(crate) fn shared_files(&self) -> Vec<(PathBuf, PathBuf)> {
        let keep = [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "sentence_bert_config.json",
        ];
        let weights = &self.model.weights_file;
        self.model
            .files
            .iter()
            .filter(|file| file.parent() == weights.parent())
            .filter(|file| {
                file.file_name()
                    .is_some_and(|name| keep.iter().any(|keep| name == *keep))
            })
            .filter_map(|file| Some((self.folder.join(file), PathBuf::from(file.file_name()?))))
            .collect()
    }

    /// Copies the model's files into `folder` (made if need be), each made durable, so that
    /// `Encoder::from_folder(folder)?.with_settings(saved)` is this encoder again, of the same identity.
    ///
    /// # Errors
    /// [`ModelError::SourceChanged`] if the source folder no longer holds what this encoder was read from.
    pub fn copy_files_to(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        let folder = folder.as_ref();
        let io = |file: &Path| {
            let file = file.to_path_buf();
            move |source| ModelError::Io { file, source }
        };
        for name in &self.model.files {
            let (from, to) = (self.folder.join(name), folder.join(name));
            let bytes = std::fs::read(&from).map_err(io(&from))?;
            let expected = if *name == self.model.weights_file {
                Some(self.model.weights_hash)
            } else if *name == self.model.tokenizer_file {
                Some(self.model.tokenizer_hash)
            } else if name == Path::new(LEXICAL) {
                self.lexical().map(Lexical::hash)
            } else if name == Path::new(TRAINED) {
                self.model.trained_hash
            } else {
                let questions = self.model.questions.as_ref();
                questions
                    .filter(|questions| *name == questions.weights_file)
                    .map(|questions| questions.weights_hash)
            };
            if expected.is_some_and(|hash| hash != blake3::hash(&bytes)) {
                return Err(ModelError::SourceChanged { file: from });
            }
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).map_err(io(parent))?;
            }
            durable::write(&to, &bytes).map_err(io(&to))?;
        }
        durable::sync_folders(folder, &self.model.files).map_err(io(folder))
    }
}
