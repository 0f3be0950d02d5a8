//! The arguments of `learn`, `learning`, `train`, `evaluate` and `layers`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{EncoderArguments, SearchName};
use crate::encoder::LexicalOptions;
use crate::training::{Method, Precision, SelectBy};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum MetricName {
    Top5,
    Mrr10,
    Ndcg10,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WhenName {
    /// Never
    Off,
    /// When `learn` says so
    OnRequest,
    /// By itself, when so much has come in
    After,
}

fn minutes(typed: &str) -> Result<Duration, String> {
    let minutes = typed.parse::<f64>().ok().filter(|minutes| *minutes > 0.0);
    minutes
        .and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok())
        .ok_or_else(|| "a number of minutes above 0 is needed".to_owned())
}

/// How a collection's encoder learns.
#[derive(Debug, Args)]
#[command(next_help_heading = "Learning")]
pub struct LearnArguments {
    /// Train for so long at most
    #[arg(long, value_name = "N", value_parser = minutes)]
    pub minutes: Option<Duration>,
    /// Times that every question is seen
    #[arg(long, value_name = "N")]
    pub epochs: Option<f64>,
    /// Training steps, in place of epochs
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// The figure by which a candidate must be better
    #[arg(long)]
    pub metric: Option<MetricName>,
    /// Share of questions kept from training to judge by
    #[arg(long, value_name = "SHARE")]
    pub held_out: Option<f64>,
    /// Share of the processors to use, at a low priority
    #[arg(long, value_name = "SHARE")]
    pub cpu_share: Option<f64>,
    /// Decides order, negatives and dropout
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub lexical: LexicalArguments,
}

/// The lexical part of a trained encoder's vectors.
#[derive(Clone, Debug, Args)]
pub struct LexicalArguments {
    /// Give vectors a lexical part of so many elements, by which a passage's score gains for words of the question; 0 for
    /// none (`learn`: for no new one). Without a word the encoder's own stays
    #[arg(long, value_name = "N")]
    pub lexical: Option<usize>,
    /// What a passage with all of the question's words gains at most
    #[arg(long, value_name = "W", requires = "lexical")]
    pub lexical_weight: Option<f32>,
}

impl LexicalArguments {
    /// What was said, in the place of what was so far.
    pub fn over(&self, stored: Option<LexicalOptions>) -> Option<LexicalOptions> {
        let usual = stored.unwrap_or_default();
        match self.lexical {
            None => stored,
            Some(0) => None,
            Some(dimension) => Some(LexicalOptions {
                dimension,
                weight: self.lexical_weight.unwrap_or(usual.weight),
            }),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct Lexical {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// The folder of the encoder that is made
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// Elements of the lexical part
    #[arg(long, value_name = "N", default_value_t = LexicalOptions::default().dimension)]
    pub dimension: usize,
    /// What a passage with all of the question's words gains at most; `evaluate --lexical-weight` tries several
    #[arg(long, value_name = "W", default_value_t = LexicalOptions::default().weight)]
    pub weight: f32,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub encoder: EncoderArguments,
}

#[derive(Debug, Args)]
pub struct Learn {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    #[command(flatten)]
    pub learning: LearnArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LearningArguments {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// When the collection's encoder learns
    #[arg(long)]
    pub when: Option<WhenName>,
    /// With `--when after`, or where the collection learns so already: new pairs
    #[arg(long, value_name = "N")]
    pub after_pairs: Option<u64>,
    /// With `--when after`, or where the collection learns so already: new documents
    #[arg(long, value_name = "N")]
    pub after_documents: Option<u64>,
    /// Drop the run that has begun and not ended, and what it has made
    #[arg(long)]
    pub abandon: bool,
    #[command(flatten)]
    pub learning: LearnArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where passages and questions come from.
#[derive(Clone, Debug, Args)]
pub struct PairArguments {
    /// Passages: JSON lines `{"id", "title", "text"}`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["database", "dpr", "beir"])]
    pub corpus: Option<PathBuf>,
    /// Passages: the documents of this database
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dpr", "beir"])]
    pub database: Option<PathBuf>,
    /// The database's collection (may be left out if there is one only)
    #[arg(long, requires = "database")]
    pub collection: Option<String>,
    /// Questions: JSON lines `{"id", "question", "passage_id", "answers"}`
    #[arg(long, value_name = "FILE", required_unless_present_any = ["dpr", "beir"])]
    pub questions: Option<PathBuf>,
    /// Both: a biencoder JSON of DPR
    #[arg(long, value_name = "FILE", conflicts_with = "questions")]
    pub dpr: Option<PathBuf>,
    /// Both: a folder of BEIR
    #[arg(long, value_name = "DIR", conflicts_with = "questions")]
    pub beir: Option<PathBuf>,
    /// Which judgements of the BEIR folder
    #[arg(long, default_value = "train", requires = "beir")]
    pub split: String,
}

impl PairArguments {
    /// Where the questions are.
    pub fn name(&self) -> &Path {
        let named = [&self.questions, &self.dpr, &self.beir].into_iter().flatten();
        named.map(PathBuf::as_path).next().unwrap_or(Path::new(""))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum MethodName {
    DualEncoder,
    MultiVector,
    MeanOverLayers,
    ScalarMix,
    SelfContrastive,
    LastLayerRegularised,
    MeBert,
    ColBert,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Method {
        match name {
            MethodName::DualEncoder => Method::DualEncoder,
            MethodName::MultiVector => Method::MultiVector,
            MethodName::MeanOverLayers => Method::MeanOverLayers,
            MethodName::ScalarMix => Method::ScalarMix,
            MethodName::SelfContrastive => Method::SelfContrastive,
            MethodName::LastLayerRegularised => Method::LastLayerRegularised,
            MethodName::MeBert => Method::MeBert,
            MethodName::ColBert => Method::ColBert,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NegativesName {
    /// Those that the questions name
    Given,
    /// The best of BM25 that hold no answer
    Bm25,
    /// The best of the encoder, before training, that hold no answer
    Mined,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PrecisionName {
    /// The same result on every processor with fused multiply-add
    F32,
    /// Rounded to bf16, on processors that multiply it (AMX, AVX-512 BF16), in about half the time; else as f32
    Bf16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Precision {
        match name {
            PrecisionName::F32 => Precision::Single,
            PrecisionName::Bf16 => Precision::Half,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SelectName {
    Nll,
    AverageRank,
    ReciprocalRank,
}

impl From<SelectName> for SelectBy {
    fn from(name: SelectName) -> SelectBy {
        match name {
            SelectName::Nll => SelectBy::Nll,
            SelectName::AverageRank => SelectBy::AverageRank,
            SelectName::ReciprocalRank => SelectBy::ReciprocalRank,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct Train {
    #[command(flatten)]
    pub pairs: PairArguments,
    /// Questions by which the best state is chosen, over the same passages
    #[arg(long, value_name = "FILE")]
    pub validate: Option<PathBuf>,
    /// The folder of the trained encoder
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// Where checkpoints are kept; the same command goes on from them
    #[arg(long, value_name = "DIR")]
    pub checkpoints: Option<PathBuf>,
    /// How a passage is scored in training
    #[arg(long, default_value = "dual-encoder")]
    pub method: MethodName,
    /// Temperature of the scores: 1 for raw dot products, about 0.05 for normalised vectors (default: by --normalize)
    #[arg(long)]
    pub tau: Option<f64>,
    /// Temperature of the regulariser
    #[arg(long, default_value_t = 1.0)]
    pub tau_r: f64,
    /// Weight of the regulariser
    #[arg(long, default_value_t = 1.0)]
    pub lambda: f64,
    /// Weight of a penalty on how alike a passage's layer vectors are; 0 for none
    #[arg(long, default_value_t = 0.0)]
    pub apart: f64,
    /// With multi-vector: a question has a vector of each layer too, as on tasks whose two sides are alike
    #[arg(long)]
    pub question_layers: bool,
    /// Train an encoder of their own for questions
    #[arg(long)]
    pub untied: bool,
    /// Questions in a batch
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Questions of a batch come in groups of so many whose passages are taken for each other (found by their
    /// hard negatives); 1 for none
    #[arg(long, default_value_t = 1)]
    pub group: usize,
    /// Hard negatives a question
    #[arg(long, default_value_t = 1)]
    pub hard_negatives: usize,
    /// Where hard negatives come from
    #[arg(long, default_value = "mined")]
    pub negatives: NegativesName,
    /// The best so many of them are drawn from
    #[arg(long, default_value_t = 30)]
    pub negative_pool: usize,
    /// Texts encoded at once; more in a batch are encoded in chunks, with cached gradients
    #[arg(long, default_value_t = 64)]
    pub chunk: usize,
    /// Times that every question is seen
    #[arg(long, default_value_t = 1.0)]
    pub epochs: f64,
    /// Steps in all, in place of epochs
    #[arg(long)]
    pub steps: Option<u64>,
    /// Learning rate at its peak
    #[arg(long, default_value_t = 3e-5)]
    pub learning_rate: f64,
    /// Share of steps over which the rate climbs
    #[arg(long, default_value_t = 0.1)]
    pub warm_up: f64,
    /// Share of elements dropped
    #[arg(long, default_value_t = 0.1)]
    pub dropout: f32,
    /// Share of the weights of attention dropped
    #[arg(long, default_value_t = 0.0)]
    pub attention_dropout: f32,
    /// What matrices are multiplied in
    #[arg(long, default_value = "f32")]
    pub precision: PrecisionName,
    /// Greatest norm of a gradient, 0 for no limit
    #[arg(long, default_value_t = 2.0)]
    pub clip: f64,
    /// AdamW's decay of weights
    #[arg(long, default_value_t = 0.0)]
    pub weight_decay: f64,
    /// Decides order, negatives and dropout
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Count equal passages and questions of a batch as negatives, as the published code does
    #[arg(long)]
    pub keep_equals: bool,
    /// Tokens read of a passage in training
    #[arg(long, default_value_t = 128)]
    pub passage_tokens: usize,
    /// Tokens read of a question in training
    #[arg(long, default_value_t = 64)]
    pub question_tokens: usize,
    /// Steps between validations and checkpoints; 0 for one at the end
    #[arg(long, default_value_t = 0)]
    pub every: u64,
    /// Figure by which the best state is kept
    #[arg(long, default_value = "average-rank")]
    pub select_by: SelectName,
    /// End after so many validations without a better figure; 0 to go on
    #[arg(long, default_value_t = 0)]
    pub patience: u32,
    #[command(flatten)]
    pub lexical: LexicalArguments,
    /// Where the encoder works: cpu, cuda, cuda:1, or auto for a GPU if there is one
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: stratal_kernels::Device,
    /// Threads (default: one a core)
    #[arg(long)]
    pub threads: Option<usize>,
    /// Write the curve of the loss into this SVG
    #[arg(long, value_name = "FILE")]
    pub curve: Option<PathBuf>,
    /// One JSON object a step, a validation, and for the whole
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub encoder: EncoderArguments,
}

#[derive(Clone, Debug, Args)]
pub struct Mine {
    #[command(flatten)]
    pub pairs: PairArguments,
    /// The file that gets the questions, as JSON lines with `negative_ids`
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Of which search the best are taken: dense or bm25
    #[arg(long, value_name = "HOW", default_value = "dense")]
    pub search: SearchName,
    /// Hard negatives a question at most
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub negatives: usize,
    /// Where the encoder works: cpu, cuda, cuda:1, or auto for a GPU if there is one
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: stratal_kernels::Device,
    /// Counts as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub encoder: EncoderArguments,
}

#[derive(Clone, Debug, Args)]
pub struct Layers {
    #[command(flatten)]
    pub pairs: PairArguments,
    /// Passages and questions that are looked at, at most
    #[arg(long, default_value_t = 2000)]
    pub sample: usize,
    /// Write the similarity of layers as a heat map into this SVG
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub encoder: EncoderArguments,
}
