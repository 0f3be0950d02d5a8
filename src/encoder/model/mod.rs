//! The encoder as its user holds it: read from a folder, set up, described.

mod copies;
mod encoding;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use burn::tensor::Device;
use rayon::ThreadPool;
use serde::Serialize;

use crate::encoder::ModelError;
use crate::encoder::architecture::{Architecture, Packed, Weights};
use crate::encoder::bert::Bert;
use crate::encoder::folder::{Folder, LayerMix, LengthLimits, RefusedPooling};
use crate::encoder::lanes::Isa;
use crate::encoder::late::LateInteraction;
use crate::encoder::lexical::{Lexical, LexicalOptions};
use crate::encoder::on_device::OnDevice;
use crate::encoder::settings::{EncoderSettings, Identity, Pooling, Template};
use crate::encoder::tokens::TextTokenizer;

/// A text encoder: a BERT or the encoder of a T5, its tokenizer, and the settings under which it makes vectors.
///
/// Cheap to clone; clones share the weights. The setters take and give back the encoder, as a builder does;
/// whether a setting fits the model is checked by [`Encoder::validate`] and before anything is encoded.
///
/// A text's vectors depend on that text alone: the same to the bit in any batch, on any number of threads.
///
/// ```no_run
/// use stratal::encoder::{Encoder, EncodeOptions, Passage};
/// let encoder = Encoder::from_folder("all-MiniLM-L6-v2")?.layers([6, 5]);
/// let passages = [Passage { title: None, text: "A B-tree keeps all its leaves at one depth." }];
/// let vectors = encoder.encode_documents(&passages, &EncodeOptions::default())?;
/// assert_eq!((vectors.n, vectors.m, vectors.dimension), (1, 2, 384));
/// # Ok::<(), stratal::encoder::ModelError>(())
/// ```
#[derive(Clone)]
pub struct Encoder {
    model: Arc<Model>,
    /// Where the model's files are: of clones that share the weights one may know of another copy.
    folder: Arc<Path>,
    settings: EncoderSettings,
    /// A pooling that the folder asks for and that nothing has overridden yet.
    refused_pooling: Option<RefusedPooling>,
    pool: Option<Arc<ThreadPool>>,
    /// The model once more, where it works on another device than the CPU.
    on_device: Option<Arc<OnDevice>>,
    lexical: Option<Arc<Lexical>>,
}

struct Model {
    files: Vec<PathBuf>,
    weights_file: PathBuf,
    tokenizer_file: PathBuf,
    architecture: Architecture,
    limits: LengthLimits,
    lower_case: bool,
    weights_hash: blake3::Hash,
    tokenizer_hash: blake3::Hash,
    /// Of `stratal.json`, where there is one.
    trained_hash: Option<blake3::Hash>,
    tokenizer: TextTokenizer,
    packed: Packed,
    /// The questions' own encoder, where it was trained apart.
    questions: Option<QuestionModel>,
    mix: Option<LayerMix>,
    late: Option<LateInteraction>,
    own_pool: OnceLock<Result<Arc<ThreadPool>, String>>,
}

struct QuestionModel {
    weights_file: PathBuf,
    weights_hash: blake3::Hash,
    packed: Packed,
}

/// What an encoder is, for people and for `stratal model show`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// Name and hash.
    pub identity: Identity,
    /// Folder the model was read from.
    pub folder: PathBuf,
    /// The files that make it up, relative to the folder.
    pub files: Vec<PathBuf>,
    /// Architecture.
    pub architecture: Architecture,
    /// Number of weights.
    pub parameters: u64,
    /// Elements of a vector.
    pub dimension: usize,
    /// The lexical part of a vector, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexical: Option<LexicalOptions>,
    /// The settings in force.
    pub settings: EncoderSettings,
    /// Where the length limit could come from; the smallest sensible one is the default.
    pub length_limits: LengthLimits,
}

impl Encoder {
    /// Reads a Hugging Face folder: `config.json`, `model.safetensors` and `tokenizer.json` must be there;
    /// `modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`, `tokenizer_config.json` and
    /// `config_sentence_transformers.json` are obeyed where they are.
    ///
    /// Padding and truncation written into `tokenizer.json` are ignored. Without a pooling named by the folder
    /// it is the mean, as in sentence-transformers. The default layer set is the last layer alone.
    ///
    /// # Errors
    /// A missing, cut or mangled file, or something the folder asks for that is not supported, is named.
    pub fn from_folder(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let folder = Folder::read(path.as_ref())?;
        let weights_file = folder.path.join(&folder.weights_file);
        let weights = Weights::parse(&weights_file, &folder.weights, &folder.architecture)?;
        let weights_hash = blake3::hash(&folder.weights);
        drop(folder.weights);
        let questions = match folder.question_weights {
            None => None,
            Some((name, bytes)) => {
                let weights = Weights::parse(&folder.path.join(&name), &bytes, &folder.architecture)?;
                Some(QuestionModel {
                    weights_file: name,
                    weights_hash: blake3::hash(&bytes),
                    packed: Packed::new(Isa::detect(), weights),
                })
            }
        };
        let tokenizer = TextTokenizer::parse(
            &folder.path.join(&folder.tokenizer_file),
            &folder.tokenizer,
            &folder.architecture,
            folder.lower_case,
        )?;
        Ok(Self {
            settings: folder.settings,
            refused_pooling: folder.refused_pooling,
            pool: None,
            on_device: None,
            lexical: folder.lexical.map(Arc::new),
            folder: folder.path.into(),
            model: Arc::new(Model {
                files: folder.files,
                weights_file: folder.weights_file,
                tokenizer_file: folder.tokenizer_file,
                limits: folder.limits,
                lower_case: folder.lower_case,
                weights_hash,
                tokenizer_hash: blake3::hash(&folder.tokenizer),
                trained_hash: folder.trained_hash,
                tokenizer,
                packed: Packed::new(Isa::detect(), weights),
                architecture: folder.architecture,
                questions,
                mix: folder.mix,
                late: folder.late,
                own_pool: OnceLock::new(),
            }),
        })
    }

    /// Names the encoder, for messages.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Reads the model's files, where they are needed again, from a folder that holds a copy of them.
    pub(crate) fn files_in(mut self, folder: &Path) -> Self {
        self.folder = folder.into();
        self
    }

    /// Chooses the layers whose vectors a document gets: 0 is the embedding output, `L` the last layer.
    /// The first named is the layer of the query's vector.
    pub fn layers(mut self, layers: impl IntoIterator<Item = usize>) -> Self {
        self.settings.layers = layers.into_iter().collect();
        self
    }

    /// Chooses the pooling, whatever the folder says.
    pub fn pooling(mut self, pooling: Pooling) -> Self {
        self.settings.pooling = pooling;
        self.refused_pooling = None;
        self
    }

    /// Chooses whether vectors are scaled to length 1.
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.settings.normalize = normalize;
        self
    }

    /// Chooses what of a passage is read.
    pub fn template(mut self, template: Template) -> Self {
        self.settings.template = template;
        self
    }

    /// Limits the tokens read of a text, special tokens counted: 5 to the model's number of positions.
    pub fn max_tokens(mut self, max_tokens: usize) -> Self {
        self.settings.max_tokens = max_tokens;
        self
    }

    /// Sets the prompts that are put before every query and before every passage.
    pub fn prompts(mut self, query: impl Into<String>, passage: impl Into<String>) -> Self {
        self.settings.query_prompt = query.into();
        self.settings.passage_prompt = passage.into();
        self
    }

    /// Takes all settings at once, as [`Encoder::settings`] gave them.
    pub fn with_settings(mut self, settings: EncoderSettings) -> Self {
        self.settings = settings;
        self.refused_pooling = None;
        self
    }

    /// Runs all work in `pool`. Without one the encoder starts its own at first use, a thread a core; the global
    /// pool is never touched.
    pub fn pool(mut self, pool: Arc<ThreadPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Encodes on `device`, and has training work there: a GPU (with the feature `cuda`), or the CPU, as at first.
    /// [`Device::Auto`](stratal_kernels::Device) is the first GPU if there is one that can be used, else the CPU.
    /// Brings the weights there.
    ///
    /// A GPU's vectors differ from the CPU's by rounding, and may depend on the batch that a text is in.
    ///
    /// # Errors
    /// [`ModelError::Device`] if a GPU was named that this build or this machine does not have, or for a T5, which has
    /// no module of burn.
    pub fn device(mut self, device: stratal_kernels::Device) -> Result<Self, ModelError> {
        let is_named = matches!(device, stratal_kernels::Device::Cuda(_));
        let found = crate::device::burn_device(device).map_err(|error| ModelError::Device {
            reason: match error {
                // What it says else is about searching.
                crate::Error::Kernel(stratal_kernels::Error::NoDevice { index, reason }) => {
                    format!("no CUDA device {index}: {reason}")
                }
                other => other.to_string(),
            },
        })?;
        self.on_device = None;
        if found != Device::flex() {
            self = self.on(found, is_named)?;
        }
        Ok(self)
    }

    /// Encodes and trains by the module of burn on one of its devices, if there is such a module.
    pub(crate) fn on(mut self, device: Device, is_named: bool) -> Result<Self, ModelError> {
        let questions = self.question_weights();
        self.on_device = OnDevice::new(device, &self.weights(), questions.as_ref());
        if is_named && self.on_device.is_none() {
            return Err(ModelError::no_module(self.architecture().name()));
        }
        Ok(self)
    }

    /// The model on the device that the encoder was put on.
    pub(crate) fn on_device(&self) -> Option<&OnDevice> {
        self.on_device.as_deref()
    }

    /// The settings in force.
    pub fn settings(&self) -> &EncoderSettings {
        &self.settings
    }

    /// The model's architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.model.architecture
    }

    /// Elements of a vector, `D`: those of a hidden state, and of the lexical part if there is one.
    pub fn dimension(&self) -> usize {
        let lexical = self
            .lexical
            .as_ref()
            .map_or(0, |lexical| lexical.options().dimension);
        self.model.architecture.dimension() + lexical
    }

    /// Checks the settings against the model.
    ///
    /// # Errors
    /// A setting outside of what the model can do, or a pooling that the folder asks for and that is not supported.
    pub fn validate(&self) -> Result<(), ModelError> {
        if let Some(refused) = &self.refused_pooling {
            return Err(refused.error());
        }
        self.settings.check(&self.model.architecture)
    }

    /// Hash and name: two encoders of one hash give the same vectors.
    ///
    /// The hash is over weights, architecture, tokenizer and all settings but the name.
    pub fn identity(&self) -> Identity {
        let s = &self.settings;
        let architecture = &self.model.architecture;
        let layers: Vec<String> = s.layers.iter().map(usize::to_string).collect();
        let mut parts = vec![
            "stratal encoder 1".to_string(),
            self.model.weights_hash.to_hex().to_string(),
            self.model.tokenizer_hash.to_hex().to_string(),
            architecture.fingerprint(),
            format!("{} {}", architecture.layers(), self.model.lower_case),
            format!("{:?} {:?}", s.pooling, s.template),
            format!("{} {}", s.normalize, s.max_tokens),
            layers.join(" "),
            s.query_prompt.clone(),
            s.passage_prompt.clone(),
        ];
        // Only where they are, so that encoders without them keep their identity.
        if let Some(questions) = &self.model.questions {
            parts.push(format!("questions {}", questions.weights_hash.to_hex()));
        }
        if let Some(mix) = self.mix() {
            parts.push(format!("mix {:?} {:?}", mix.layers, mix.weights));
        }
        if let Some(lexical) = &self.lexical {
            parts.push(lexical.fingerprint());
        }
        let mut hasher = blake3::Hasher::new();
        for part in &parts {
            // The length first, so that no two lists of parts make the same bytes.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Identity {
            hash: hasher.finalize().to_hex().to_string(),
            name: s.name.clone(),
        }
    }

    /// Everything that can be said of the encoder.
    pub fn describe(&self) -> Description {
        let architecture = &self.model.architecture;
        let models = 1 + u64::from(self.model.questions.is_some());
        Description {
            identity: self.identity(),
            folder: self.folder.to_path_buf(),
            files: self.model.files.clone(),
            architecture: architecture.clone(),
            parameters: models * architecture.parameters(),
            dimension: self.dimension(),
            lexical: self.lexical.as_ref().map(|lexical| lexical.options()),
            settings: self.settings.clone(),
            length_limits: self.model.limits.clone(),
        }
    }

    /// How token vectors make a score, where the encoder was trained for it.
    pub fn late_interaction(&self) -> Option<LateInteraction> {
        self.model.late
    }

    pub(crate) fn tokenizer_hash(&self) -> blake3::Hash {
        self.model.tokenizer_hash
    }

    /// The token of words that the model does not know, if it has one.
    pub(crate) fn unknown_token(&self) -> Option<u32> {
        let unknown = self.model.tokenizer.unknown();
        unknown.filter(|&token| (token as usize) < self.model.architecture.vocab_size())
    }

    /// What words add to a vector, if they do.
    pub fn lexical(&self) -> Option<&Lexical> {
        self.lexical.as_deref()
    }

    /// The same, to be shared.
    pub(crate) fn shared_lexical(&self) -> Option<Arc<Lexical>> {
        self.lexical.clone()
    }

    /// Without the lexical part that its folder says.
    pub(crate) fn without_lexical(mut self) -> Self {
        self.lexical = None;
        self
    }

    /// With another weight of its lexical part, for questions over vectors at hand.
    #[cfg(feature = "cli")]
    pub(crate) fn weighing(&self, weight: f32) -> Result<Self, ModelError> {
        let lexical = self.lexical().ok_or_else(|| ModelError::Setting {
            setting: "lexical weight",
            value: weight.to_string(),
            allowed: "the encoder's vectors have no lexical part: `stratal lexical` makes one that has"
                .into(),
        })?;
        let lexical = Some(Arc::new(lexical.weighing(weight)?));
        Ok(Self {
            lexical,
            ..self.clone()
        })
    }

    /// The model as a module of burn on `device`, with a copy of the weights.
    ///
    /// Its hidden states are those of [`Encoder::hidden_states`], up to rounding. On the CPU burn works in the rayon
    /// pool of the calling thread: call it inside `ThreadPool::install` to keep the global pool out of it.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for an architecture that has no definition in burn, which is every other than BERT.
    pub fn module(&self, device: &Device) -> Result<Bert, ModelError> {
        match self.model.packed.weights() {
            Weights::Bert(weights) => Ok(Bert::new(&weights, device)),
            Weights::T5(_) => Err(ModelError::Unsupported {
                file: self.folder.to_path_buf(),
                what: "a module of burn for",
                value: self.model.architecture.name().to_owned(),
                supported: "BERT is; Encoder::hidden_states gives the states of all kinds",
            }),
        }
    }

    /// A copy of the weights, unpacked.
    pub(crate) fn weights(&self) -> Weights {
        self.model.packed.weights()
    }

    /// A copy of the weights of the questions' own encoder, where there is one.
    pub(crate) fn question_weights(&self) -> Option<Weights> {
        Some(self.model.questions.as_ref()?.packed.weights())
    }

    /// The mix that the folder names, whatever the layers that are asked for.
    pub(crate) fn layer_mix(&self) -> Option<&LayerMix> {
        self.model.mix.as_ref()
    }

    /// The mix of layers that makes a passage's vector: only where a single layer is asked for.
    fn mix(&self) -> Option<&LayerMix> {
        self.model
            .mix
            .as_ref()
            .filter(|_| self.settings.layers.len() == 1)
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("identity", &self.identity())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
