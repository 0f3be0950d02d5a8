use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use burn::tensor::Device;
use rayon::ThreadPool;
use rayon::prelude::*;
use serde::Serialize;

use super::ModelError;
use super::architecture::{Architecture, Packed, Weights};
use super::batch::{self, Embeddings, EncodeOptions, Passage};
use super::bert::Bert;
use super::folder::{Folder, LayerMix, LengthLimits, RefusedPooling};
use super::lanes::Isa;
use super::late::LateInteraction;
use super::settings::{EncoderSettings, Identity, Pooling, Template};
use super::tokens::{TextTokenizer, Tokens};

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
            folder: folder.path.into(),
            model: Arc::new(Model {
                files: folder.files,
                weights_file: folder.weights_file,
                tokenizer_file: folder.tokenizer_file,
                limits: folder.limits,
                lower_case: folder.lower_case,
                weights_hash,
                tokenizer_hash: blake3::hash(&folder.tokenizer),
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

    /// The settings in force.
    pub fn settings(&self) -> &EncoderSettings {
        &self.settings
    }

    /// The model's architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.model.architecture
    }

    /// Elements of a vector, `D`.
    pub fn dimension(&self) -> usize {
        self.model.architecture.dimension()
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
            dimension: architecture.dimension(),
            settings: self.settings.clone(),
            length_limits: self.model.limits.clone(),
        }
    }

    /// Encodes passages: `[n, m, D]`, a vector for each layer of the layer set.
    ///
    /// Of one text at most the first MiB is looked at, whatever the length limit.
    ///
    /// # Errors
    /// [`ModelError::EmptyText`] for a passage of which no token is left, [`ModelError::Setting`] for settings that do
    /// not fit the model, [`ModelError::Cancelled`], [`ModelError::VectorNotFinite`]. Nothing is returned in part.
    pub fn encode_documents(
        &self,
        passages: &[Passage<'_>],
        options: &EncodeOptions<'_>,
    ) -> Result<Embeddings, ModelError> {
        let s = &self.settings;
        let mix = self.mix();
        let layers = mix.map_or(&s.layers, |mix| &mix.layers);
        let vectors = self.encode(passages.len(), &self.model.packed, layers, options, |i| {
            let Passage { title, text } = passages[i];
            self.tokens(&s.passage_prompt, title, text)
        })?;
        Ok(match mix {
            Some(mix) => mix.apply(vectors),
            None => vectors,
        })
    }

    /// Encodes queries: `[n, 1, D]`, from the first layer of the layer set.
    ///
    /// # Errors
    /// As [`Encoder::encode_documents`].
    pub fn encode_queries(&self, queries: &[&str]) -> Result<Embeddings, ModelError> {
        let layers = &self.settings.layers;
        self.encode_questions(queries, &layers[..layers.len().min(1)])
    }

    /// Encodes queries from the whole layer set: `[n, m, D]`.
    pub(crate) fn encode_queries_by_layer(&self, queries: &[&str]) -> Result<Embeddings, ModelError> {
        self.encode_questions(queries, &self.settings.layers)
    }

    fn encode_questions(&self, queries: &[&str], layers: &[usize]) -> Result<Embeddings, ModelError> {
        let s = &self.settings;
        let own = self.model.questions.as_ref().map(|questions| &questions.packed);
        let packed = own.unwrap_or(&self.model.packed);
        self.encode(queries.len(), packed, layers, &EncodeOptions::default(), |i| {
            self.tokens(&s.query_prompt, None, queries[i])
        })
    }

    /// The hidden states of all layers for one passage: `L + 1` arrays `[tokens, D]`, the first being the embedding
    /// output.
    ///
    /// # Errors
    /// As [`Encoder::encode_documents`].
    pub fn hidden_states(&self, passage: Passage<'_>) -> Result<Vec<Vec<f32>>, ModelError> {
        self.validate()?;
        let prompt = &self.settings.passage_prompt;
        let tokens = self
            .tokens(prompt, passage.title, passage.text)?
            .ok_or(ModelError::EmptyText { index: 0 })?;
        let packed = &self.model.packed;
        let mut states = Vec::new();
        let last = self.model.architecture.layers();
        packed.hidden_states(&[&tokens], last, &mut packed.scratch(), |_, layer| {
            states.push(layer.to_vec());
        });
        Ok(states)
    }

    /// The last layer's states `[tokens, D]` of one text, by the questions' encoder and prompt if it is a question.
    pub(crate) fn last_states(&self, text: Passage<'_>, question: bool) -> Result<Vec<f32>, ModelError> {
        self.validate()?;
        let (s, model) = (&self.settings, &self.model);
        let own = model.questions.as_ref().filter(|_| question);
        let packed = own.map_or(&model.packed, |questions| &questions.packed);
        let prompt = match question {
            true => &s.query_prompt,
            false => &s.passage_prompt,
        };
        let tokens = self
            .tokens(prompt, text.title, text.text)?
            .ok_or(ModelError::EmptyText { index: 0 })?;
        let last = model.architecture.layers();
        let mut states = Vec::new();
        packed.hidden_states(&[&tokens], last, &mut packed.scratch(), |layer, all| {
            if layer == last {
                states = all.to_vec();
            }
        });
        Ok(states)
    }

    /// How token vectors make a score, where the encoder was trained for it.
    pub fn late_interaction(&self) -> Option<LateInteraction> {
        self.model.late
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

    /// The mix of layers that makes a passage's vector: only where a single layer is asked for.
    fn mix(&self) -> Option<&LayerMix> {
        self.model
            .mix
            .as_ref()
            .filter(|_| self.settings.layers.len() == 1)
    }

    /// The tokens of a question; `None` if none is left.
    pub(crate) fn question_tokens(&self, text: &str, limit: usize) -> Result<Option<Tokens>, ModelError> {
        let s = &self.settings;
        let tokenizer = &self.model.tokenizer;
        tokenizer.tokens(&s.query_prompt, None, text, s.template, limit.min(s.max_tokens))
    }

    /// The tokens of a passage; `None` if none is left.
    pub(crate) fn passage_tokens(
        &self,
        passage: Passage<'_>,
        limit: usize,
    ) -> Result<Option<Tokens>, ModelError> {
        let s = &self.settings;
        let Passage { title, text } = passage;
        let tokenizer = &self.model.tokenizer;
        tokenizer.tokens(
            &s.passage_prompt,
            title,
            text,
            s.template,
            limit.min(s.max_tokens),
        )
    }

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
            write_durably(&to, &bytes).map_err(io(&to))?;
        }
        sync_folders(folder, &self.model.files).map_err(io(folder))
    }

    fn tokens(&self, prompt: &str, title: Option<&str>, text: &str) -> Result<Option<Tokens>, ModelError> {
        let s = &self.settings;
        self.model
            .tokenizer
            .tokens(prompt, title, text, s.template, s.max_tokens)
    }

    fn encode(
        &self,
        n: usize,
        packed: &Packed,
        layers: &[usize],
        options: &EncodeOptions<'_>,
        tokens: impl Fn(usize) -> Result<Option<Tokens>, ModelError> + Sync,
    ) -> Result<Embeddings, ModelError> {
        self.validate()?;
        self.threads()?.install(|| {
            let texts = (0..n)
                .into_par_iter()
                .map(|index| {
                    if options.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                        return Err(ModelError::Cancelled { done: 0, total: n });
                    }
                    tokens(index)?.ok_or(ModelError::EmptyText { index })
                })
                .collect::<Vec<_>>();
            // One after another: of several bad texts the first is named.
            let texts = texts.into_iter().collect::<Result<Vec<_>, _>>()?;
            let model = &self.model;
            batch::encode(
                packed,
                model.architecture.dimension(),
                &self.settings,
                layers,
                texts,
                options,
            )
        })
    }

    pub(crate) fn threads(&self) -> Result<&Arc<ThreadPool>, ModelError> {
        if let Some(pool) = &self.pool {
            return Ok(pool);
        }
        let own = self.model.own_pool.get_or_init(|| {
            rayon::ThreadPoolBuilder::new()
                .thread_name(|i| format!("stratal-encode-{i}"))
                .build()
                .map(Arc::new)
                .map_err(|error| error.to_string())
        });
        own.as_ref().map_err(|reason| ModelError::Threads {
            reason: reason.clone(),
        })
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

pub(crate) fn write_durably(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::fs::File::create(file)?;
    out.write_all(bytes)?;
    out.sync_all()
}

/// Makes the names of the files durable, not only their contents.
pub(crate) fn sync_folders(folder: &Path, files: &[PathBuf]) -> std::io::Result<()> {
    let mut folders: Vec<PathBuf> = files
        .iter()
        .filter_map(|file| folder.join(file).parent().map(Path::to_path_buf))
        .collect();
    folders.push(folder.to_path_buf());
    folders.sort();
    folders.dedup();
    if cfg!(unix) {
        for folder in folders {
            std::fs::File::open(folder)?.sync_all()?;
        }
    }
    Ok(())
}
