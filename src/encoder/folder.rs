//! A Hugging Face model folder: which files it has, and what they ask for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ModelError;
use super::architecture::Architecture;
use super::batch::Embeddings;
use super::late::LateInteraction;
use super::lexical::{Lexical, LexicalEntry};
use super::settings::{EncoderSettings, Pooling, Template};

/// Files of a folder that change a vector; others (README, vocab.txt, ONNX exports) are left alone.
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SENTENCE_CONFIG: &str = "sentence_bert_config.json";
const MODULES: &str = "modules.json";
const PROMPTS: &str = "config_sentence_transformers.json";
/// What training writes beside the files that others read.
pub(crate) const TRAINED: &str = "stratal.json";
/// How often words are, where vectors have a lexical part.
pub(crate) const LEXICAL: &str = "lexical.safetensors";

/// What `stratal.json` says: a trained encoder's settings, and what other programs have no place for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trained {
    /// 1, or 2 with a lexical part.
    pub version: u32,
    pub settings: EncoderSettings,
    /// The folder, inside this one, whose `model.safetensors` encodes questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question_encoder: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<LayerMix>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_interaction: Option<LateInteraction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexical: Option<LexicalEntry>,
}

/// A passage's vector as a weighted sum of those of several layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerMix {
    pub layers: Vec<usize>,
    pub weights: Vec<f32>,
}

impl LayerMix {
    /// `[n, m, D]` to `[n, 1, D]`.
    pub(crate) fn apply(&self, vectors: Embeddings) -> Embeddings {
        let (m, d) = (vectors.m, vectors.dimension);
        let mut mixed = vec![0.0f32; vectors.n * d];
        for (out, text) in mixed.chunks_exact_mut(d).zip(vectors.vectors.chunks_exact(m * d)) {
            for (row, weight) in text.chunks_exact(d).zip(&self.weights) {
                out.iter_mut().zip(row).for_each(|(out, x)| *out += weight * x);
            }
        }
        Embeddings {
            m: 1,
            vectors: mixed,
            ..vectors
        }
    }
}

/// Where the limit on a text's length may stand, and what was found there.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LengthLimits {
    /// `max_seq_length` of `sentence_bert_config.json`.
    pub sentence_bert_config: Option<f64>,
    /// `model_max_length` of `tokenizer_config.json`; `1e30` is a usual way of saying "none".
    pub tokenizer_config: Option<f64>,
    /// `max_position_embeddings` of `config.json`; for T5, whose network has no limit, `n_positions`, or 512.
    pub config: usize,
}

impl LengthLimits {
    /// The smallest limit that makes sense: at least 5 tokens, at most the model's positions.
    fn smallest(&self) -> usize {
        [self.sentence_bert_config, self.tokenizer_config]
            .into_iter()
            .flatten()
            .filter(|limit| (5.0..=self.config as f64).contains(limit))
            .fold(self.config, |smallest, limit| smallest.min(limit as usize))
    }
}

/// A model folder, read and understood, weights and tokenizer as bytes.
pub(crate) struct Folder {
    pub path: PathBuf,
    /// Files that make up the model, relative to `path`.
    pub files: Vec<PathBuf>,
    pub architecture: Architecture,
    pub limits: LengthLimits,
    pub weights_file: PathBuf,
    pub weights: Vec<u8>,
    pub tokenizer_file: PathBuf,
    pub tokenizer: Vec<u8>,
    /// Lower-case texts before they are tokenized (`do_lower_case` of `sentence_bert_config.json`).
    pub lower_case: bool,
    /// The pooling that the folder asks for, if it is one that is refused.
    pub refused_pooling: Option<RefusedPooling>,
    /// The settings that the folder asks for.
    pub settings: EncoderSettings,
    /// The weights of the questions' own encoder: their file and its bytes.
    pub question_weights: Option<(PathBuf, Vec<u8>)>,
    pub mix: Option<LayerMix>,
    pub late: Option<LateInteraction>,
    pub lexical: Option<Lexical>,
    /// Of the bytes of `stratal.json`.
    pub trained_hash: Option<blake3::Hash>,
}

/// A pooling that a folder asks for and that is not supported: the file and the mode's name.
#[derive(Debug, Clone)]
pub(crate) struct RefusedPooling {
    pub file: PathBuf,
    pub mode: String,
}

impl RefusedPooling {
    pub(crate) fn error(&self) -> ModelError {
        ModelError::Unsupported {
            file: self.file.clone(),
            what: "the pooling",
            value: self.mode.clone(),
            supported: "cls and mean are; choose one with Encoder::pooling if that is what you want",
        }
    }
}

/// What `modules.json` says.
struct Modules {
    transformer: PathBuf,
    pooling: Option<PathBuf>,
    normalize: bool,
}

impl Folder {
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        if !path.is_dir() {
            return Err(ModelError::FolderMissing {
                path: path.to_path_buf(),
            });
        }
        let mut files = Vec::new();
        let modules = read_modules(path, &mut files)?;
        let inner = modules.transformer.clone();
        let file = |name: &str| inner.join(name);

        let config_json = require_json(path, &file(CONFIG), &mut files)?;
        let architecture = Architecture::parse(&path.join(file(CONFIG)), &config_json)?;
        let sentence = optional_json(path, &file(SENTENCE_CONFIG), &mut files)?.unwrap_or_default();
        let tokenizer_config = optional_json(path, &file(TOKENIZER_CONFIG), &mut files)?.unwrap_or_default();
        let limits = LengthLimits {
            sentence_bert_config: sentence.get("max_seq_length").and_then(Value::as_f64),
            tokenizer_config: tokenizer_config.get("model_max_length").and_then(Value::as_f64),
            config: architecture.usual_tokens(),
        };
        let (query_prompt, passage_prompt) = read_prompts(path, &mut files)?;
        let mut refused_pooling = None;
        let pooling = match &modules.pooling {
            // Without a word from the folder, sentence-transformers takes the mean.
            None => Pooling::Mean,
            Some(folder) => {
                let name = folder.join(CONFIG);
                let json = require_json(path, &name, &mut files)?;
                match pooling_mode(&json, !passage_prompt.is_empty() || !query_prompt.is_empty()) {
                    Ok(pooling) => pooling,
                    Err(mode) => {
                        refused_pooling = Some(RefusedPooling {
                            file: path.join(name),
                            mode,
                        });
                        Pooling::Mean
                    }
                }
            }
        };
        let tokenizer_file = file(TOKENIZER);
        let tokenizer = require(path, &tokenizer_file, &mut files)?;
        let weights_file = file(WEIGHTS);
        let weights = require(path, &weights_file, &mut files)?;
        let mut settings = EncoderSettings {
            name: model_name(path, &config_json),
            layers: vec![architecture.layers()],
            pooling,
            normalize: modules.normalize,
            template: Template::Text,
            max_tokens: limits.smallest(),
            query_prompt,
            passage_prompt,
        };
        let trained = read_trained(path, &architecture, &mut files)?;
        let (mut question_weights, mut mix, mut late, mut lexical) = (None, None, None, None);
        let mut trained_hash = None;
        if let Some((trained, hash)) = trained {
            trained_hash = Some(hash);
            settings = EncoderSettings {
                name: settings.name,
                ..trained.settings
            };
            mix = trained.mix;
            late = trained.late_interaction;
            if let Some(entry) = trained.lexical {
                let bytes = require(path, Path::new(LEXICAL), &mut files)?;
                let file = path.join(LEXICAL);
                let tokenizer = blake3::hash(&tokenizer);
                let vocabulary = architecture.vocab_size();
                lexical = Some(Lexical::parse(&entry, &file, &bytes, vocabulary, tokenizer)?);
            }
            refused_pooling = None;
            if let Some(folder) = trained.question_encoder {
                let name = Path::new(&folder).join(WEIGHTS);
                let bytes = require(path, &name, &mut files)?;
                question_weights = Some((name, bytes));
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            question_weights,
            mix,
            late,
            lexical,
            trained_hash,
            files,
            architecture,
            limits,
            weights_file,
            weights,
            tokenizer_file,
            tokenizer,
            lower_case: sentence.get("do_lower_case").and_then(Value::as_bool) == Some(true),
            refused_pooling,
            settings,
        })
    }
}

fn require(folder: &Path, name: &Path, files: &mut Vec<PathBuf>) -> Result<Vec<u8>, ModelError> {
    let file = folder.join(name);
    match std::fs::read(&file) {
        Ok(bytes) => {
            files.push(name.to_path_buf());
            Ok(bytes)
        }
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Err(ModelError::FileMissing {
            hint: missing_hint(&file),
            file,
        }),
        Err(source) => Err(ModelError::Io { file, source }),
    }
}

/// Says what lies in the missing file's place.
fn missing_hint(file: &Path) -> String {
    let beside = |name: &str| file.with_file_name(name).exists();
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or("");
    match name {
        WEIGHTS if beside("model.safetensors.index.json") => {
            "the weights are split over several files, which is not supported; save them as one".into()
        }
        WEIGHTS if beside("pytorch_model.bin") => {
            "only pytorch_model.bin is there; convert it to safetensors".into()
        }
        TOKENIZER if beside("vocab.txt") => {
            "only vocab.txt is there; save the tokenizer once with the Python package tokenizers or transformers (fast)".into()
        }
        _ => "fetch the whole model again, all files of its repository".into(),
    }
}

fn parse_json(file: PathBuf, bytes: &[u8]) -> Result<Value, ModelError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value.is_object() || value.is_array() => Ok(value),
        Ok(_) => Err(ModelError::Json {
            file,
            reason: "it is neither an object nor a list".into(),
        }),
        Err(error) => {
            let what = if bytes.is_empty() {
                "the file is empty".to_string()
            } else if bytes.starts_with(b"version https://git-lfs") {
                "it is a Git LFS pointer; run `git lfs pull`".to_string()
            } else if bytes.trim_ascii_start().starts_with(b"<") {
                "it is a web page, not the file itself".to_string()
            } else {
                error.to_string()
            };
            Err(ModelError::Json { file, reason: what })
        }
    }
}

fn require_json(folder: &Path, name: &Path, files: &mut Vec<PathBuf>) -> Result<Value, ModelError> {
    let bytes = require(folder, name, files)?;
    parse_json(folder.join(name), &bytes)
}

fn optional_json(folder: &Path, name: &Path, files: &mut Vec<PathBuf>) -> Result<Option<Value>, ModelError> {
    if !folder.join(name).exists() {
        return Ok(None);
    }
    require_json(folder, name, files).map(Some)
}

fn read_trained(
    folder: &Path,
    architecture: &Architecture,
    files: &mut Vec<PathBuf>,
) -> Result<Option<(Trained, blake3::Hash)>, ModelError> {
    if !folder.join(TRAINED).exists() {
        return Ok(None);
    }
    let bytes = require(folder, Path::new(TRAINED), files)?;
    let json = parse_json(folder.join(TRAINED), &bytes)?;
    let broken = |reason: String| ModelError::Json {
        file: folder.join(TRAINED),
        reason,
    };
    let trained: Trained = serde_json::from_value(json).map_err(|error| broken(error.to_string()))?;
    if !(1..=2).contains(&trained.version) {
        return Err(broken(format!(
            "it has version {}, and 1 and 2 are read",
            trained.version
        )));
    }
    let inside = |path: &String| {
        let mut parts = Path::new(path).components();
        matches!(parts.next(), Some(std::path::Component::Normal(_))) && parts.next().is_none()
    };
    if !trained.question_encoder.iter().all(inside) {
        return Err(broken(
            "the question encoder's folder leads out of this one".into(),
        ));
    }
    if let Some(mix) = &trained.mix {
        let fits = mix.layers.len() == mix.weights.len() && !mix.layers.is_empty();
        let known = mix.layers.iter().all(|&layer| layer <= architecture.layers());
        if !fits || !known || mix.weights.iter().any(|weight| !weight.is_finite()) {
            return Err(broken(
                "the mix has not one finite weight for each of some layers of the model".into(),
            ));
        }
    }
    Ok(Some((trained, blake3::hash(&bytes))))
}

fn read_modules(folder: &Path, files: &mut Vec<PathBuf>) -> Result<Modules, ModelError> {
    let Some(json) = optional_json(folder, Path::new(MODULES), files)? else {
        let pooling = PathBuf::from("1_Pooling");
        return Ok(Modules {
            transformer: PathBuf::new(),
            pooling: folder.join(&pooling).join(CONFIG).exists().then_some(pooling),
            normalize: false,
        });
    };
    let file = folder.join(MODULES);
    let mut modules = Modules {
        transformer: PathBuf::new(),
        pooling: None,
        normalize: false,
    };
    let list = json.as_array().ok_or_else(|| ModelError::Json {
        file: file.clone(),
        reason: "it is not a list of modules".into(),
    })?;
    for (position, module) in list.iter().enumerate() {
        let kind = module.get("type").and_then(Value::as_str).unwrap_or("");
        let path = PathBuf::from(module.get("path").and_then(Value::as_str).unwrap_or(""));
        // Paths come from a file that somebody else wrote: they stay inside the folder.
        if path
            .components()
            .any(|c| !matches!(c, std::path::Component::Normal(_)))
        {
            return Err(ModelError::Json {
                file,
                reason: format!("the path {} leads out of the folder", path.display()),
            });
        }
        match (position, kind.rsplit('.').next().unwrap_or(kind)) {
            (0, "Transformer") => modules.transformer = path,
            (1, "Pooling") => modules.pooling = Some(path),
            (2, "Normalize") => modules.normalize = true,
            _ => {
                let at = if path.as_os_str().is_empty() {
                    String::new()
                } else {
                    format!(" at {}", path.display())
                };
                return Err(ModelError::Unsupported {
                    file,
                    what: "the module",
                    value: format!("{kind}{at}"),
                    supported: "Transformer, then Pooling, then Normalize are; leaving a module out would change every vector",
                });
            }
        }
    }
    Ok(modules)
}

/// The pooling that `1_Pooling/config.json` names, or the name of one that is not supported.
fn pooling_mode(json: &Value, prompted: bool) -> Result<Pooling, String> {
    const MODES: [(&str, &str); 7] = [
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
        ("pooling_mode_weightedmean_tokens", "weightedmean"),
        ("pooling_mode_lasttoken", "lasttoken"),
        ("pooling_mode_none", "none"),
    ];
    let on = |key: &str| json.get(key).and_then(Value::as_bool) == Some(true);
    let mut modes: Vec<String> = MODES
        .iter()
        .filter(|(key, _)| on(key))
        .map(|(_, name)| (*name).to_string())
        .collect();
    match json.get("pooling_mode") {
        Some(Value::String(mode)) => modes = vec![mode.clone()],
        Some(Value::Array(list)) => {
            modes = list
                .iter()
                .map(|m| m.as_str().unwrap_or("?").to_string())
                .collect()
        }
        _ => {}
    }
    let pooling = match modes.as_slice() {
        [mode] if mode == "cls" => Pooling::Cls,
        [mode] if mode == "mean" => Pooling::Mean,
        [] => return Err("none".into()),
        other => return Err(other.join(" + ")),
    };
    let without_prompt = json.get("include_prompt").and_then(Value::as_bool) == Some(false);
    if without_prompt && prompted && pooling == Pooling::Mean {
        return Err("mean without the prompt's tokens (include_prompt false)".into());
    }
    Ok(pooling)
}

/// Prompts for queries and passages, as sentence-transformers' `encode_query` and `encode_document` choose them.
fn read_prompts(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(String, String), ModelError> {
    let json = optional_json(folder, Path::new(PROMPTS), files)?.unwrap_or_default();
    let prompt = |names: &[&str]| -> String {
        let default = json.get("default_prompt_name").and_then(Value::as_str);
        let prompts = json.get("prompts");
        names
            .iter()
            .copied()
            .chain(default)
            .find_map(|name| prompts?.get(name)?.as_str())
            .unwrap_or("")
            .to_string()
    };
    Ok((prompt(&["query"]), prompt(&["document", "passage", "corpus"])))
}

/// A name for people: the folder's, unless it says nothing; inside a hub cache, the repository's.
fn model_name(path: &Path, config: &Value) -> String {
    let parts: Vec<String> = std::path::absolute(path)
        .unwrap_or_else(|_| path.to_path_buf())
        .components()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .collect();
    if let Some(hub) = parts.iter().rev().find_map(|p| p.strip_prefix("models--")) {
        return hub.rsplit("--").next().unwrap_or(hub).to_string();
    }
    let folder = parts.last().map(String::as_str).unwrap_or("");
    if !matches!(folder, "" | "/" | "model" | "." | "..") {
        return folder.to_string();
    }
    config
        .get("_name_or_path")
        .and_then(Value::as_str)
        .and_then(|name| name.rsplit('/').find(|part| !part.is_empty()))
        .unwrap_or("model")
        .to_string()
}
