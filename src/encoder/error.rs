use std::path::PathBuf;

/// What can go wrong with a model folder, an encoder's settings, or the encoding of texts.
///
/// Each message names the file or the setting, what was found, and what can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The path does not name a folder.
    #[error("no model folder at {}: give the folder that holds config.json, model.safetensors and tokenizer.json", path.display())]
    FolderMissing {
        /// The path that was given.
        path: PathBuf,
    },
    /// A file that every model folder must have is not there.
    #[error("the model folder lacks {}: {hint}", file.display())]
    FileMissing {
        /// The missing file.
        file: PathBuf,
        /// What was found in its place, or where it usually comes from.
        hint: String,
    },
    /// Reading or writing a file of the model failed.
    #[error("cannot read or write the model file {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The weights file is something else: a Git LFS pointer, a web page, an empty file.
    #[error("{} holds no weights: {cause} (found {found} bytes{})", file.display(), expected.map(|e| format!(", expected {e}")).unwrap_or_default())]
    NotWeights {
        /// The file.
        file: PathBuf,
        /// The likely cause, and the cure.
        cause: String,
        /// Bytes found.
        found: u64,
        /// Bytes expected, where the file tells (a Git LFS pointer does).
        expected: Option<u64>,
    },
    /// The weights file is not as long as its header says: most likely a download that was cut.
    #[error("{} is {found} bytes long where its header asks for {expected}: the download was probably cut, fetch it again", file.display())]
    WeightsLength {
        /// The file.
        file: PathBuf,
        /// Bytes that the header asks for (at least, where the header itself is cut).
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// The header of the weights file cannot be understood.
    #[error("the header of {} cannot be read: {reason}; the file is damaged or not a safetensors file", file.display())]
    WeightsHeader {
        /// The file.
        file: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// A tensor that the architecture needs is not in the weights file.
    #[error("{} has no tensor {tensor}: the weights do not belong to the model that config.json describes", file.display())]
    TensorMissing {
        /// The file.
        file: PathBuf,
        /// The tensor's name in the model.
        tensor: String,
    },
    /// A tensor has another shape than `config.json` says.
    #[error("tensor {tensor} of {} has shape {found:?} where config.json asks for {expected:?}", file.display())]
    TensorShape {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Shape that follows from `config.json`.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A tensor has an element type that is not read.
    #[error("tensor {tensor} of {} has elements of type {found}; F32, F16, BF16 and F64 are read", file.display())]
    TensorType {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Element type found.
        found: String,
    },
    /// A weight is NaN or infinite.
    #[error("tensor {tensor} of {} holds a value that is not finite: the weights are damaged, or training diverged", file.display())]
    WeightNotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A JSON file of the folder cannot be understood.
    #[error("{} cannot be read as what it should be: {reason}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The folder asks for something that this encoder does not do, and must not ignore.
    #[error("{} asks for {what} `{value}`, which is not supported ({supported})", file.display())]
    Unsupported {
        /// The file that asks.
        file: PathBuf,
        /// What kind of thing: activation, pooling, module, architecture...
        what: &'static str,
        /// The value found.
        value: String,
        /// What is supported, or how to go on.
        supported: &'static str,
    },
    /// `tokenizer.json` cannot be used, or does not fit the weights.
    #[error("the tokenizer {} cannot be used: {reason}", file.display())]
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A setting of the encoder is outside what this model can do.
    #[error("the encoder's setting {setting} is {value}, but {allowed}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A text has no token at all: empty, blank, or control characters only.
    #[error(
        "text number {index} of this call is empty (no token is left of it): leave it out, or give it a title"
    )]
    EmptyText {
        /// Position in the call's input, from 0.
        index: usize,
    },
    /// The model made a vector with NaN or infinity from a text.
    #[error(
        "the encoder made a vector that is not finite from text number {index} of this call: the model's weights overflow"
    )]
    VectorNotFinite {
        /// Position in the call's input, from 0.
        index: usize,
    },
    /// The caller's cancel flag was raised.
    #[error("encoding was cancelled after {done} of {total} texts")]
    Cancelled {
        /// Texts encoded before the flag was seen.
        done: usize,
        /// Texts asked for.
        total: usize,
    },
    /// A file of the source folder is no longer what this encoder was made from.
    #[error("{} has changed since the encoder was loaded: load it again", file.display())]
    SourceChanged {
        /// The file.
        file: PathBuf,
    },
    /// A folder was expected to hold a certain model and holds another one.
    #[error("{} holds the model {found}, not {expected}", path.display())]
    ForeignModel {
        /// The folder.
        path: PathBuf,
        /// Name and hash expected.
        expected: String,
        /// Name and hash found.
        found: String,
    },
    /// The device that the encoder was put on cannot do it, or failed.
    #[error("the encoder's device: {reason}")]
    Device {
        /// What it says.
        reason: String,
    },
    /// The encoder's own thread pool could not be started.
    #[error("cannot start the encoder's threads: {reason}")]
    Threads {
        /// What the system said.
        reason: String,
    },
}

impl ModelError {
    /// Of an architecture that burn has no module of here.
    pub(crate) fn no_module(architecture: &str) -> ModelError {
        ModelError::Device {
            reason: format!("a {architecture} has no module of burn: it works on the CPU alone"),
        }
    }
}
