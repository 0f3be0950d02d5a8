//! The arguments of `evaluate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{EncoderArguments, PairArguments};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum SearchName {
    /// By the encoder's vectors, exactly
    Dense,
    /// By words, without an encoder
    Bm25,
    /// Both, fused by reciprocal ranks
    Fused,
    /// By the vectors of single tokens, which put the best of another search in order: as the encoder was trained
    /// (ColBERT, ME-BERT), else each of the question's tokens with its best of the passage
    Tokens,
}

impl SearchName {
    pub fn name(self) -> &'static str {
        match self {
            SearchName::Dense => "dense",
            SearchName::Bm25 => "bm25",
            SearchName::Fused => "fused",
            SearchName::Tokens => "tokens",
        }
    }
}

/// Searches with their weights.
#[derive(Clone, Debug)]
pub struct Mixture {
    /// As it was given.
    pub name: String,
    pub parts: Vec<(SearchName, f64)>,
}

fn mixture(name: &str) -> Result<Mixture, String> {
    let part = |part: &str| {
        let (search, weight) = part
            .split_once(':')
            .ok_or_else(|| format!("{part:?} has no weight: write HOW:WEIGHT, as in dense:0.6"))?;
        let search = SearchName::from_str(search, true)?;
        if search == SearchName::Fused {
            return Err("a fused search cannot be fused again: name its parts".to_owned());
        }
        match weight.parse::<f64>() {
            Ok(weight) if weight >= 0.0 && weight.is_finite() => Ok((search, weight)),
            _ => Err(format!("the weight {weight:?} must be a number from 0")),
        }
    };
    Ok(Mixture {
        name: name.to_owned(),
        parts: name.split(',').map(part).collect::<Result<_, _>>()?,
    })
}

#[derive(Clone, Debug, Args)]
pub struct Evaluate {
    #[command(flatten)]
    pub pairs: PairArguments,
    /// More questions over the same passages, which are encoded once; told apart in the output (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub also: Vec<PathBuf>,
    /// How passages are searched (may be repeated)
    #[arg(long, value_name = "HOW")]
    pub search: Vec<SearchName>,
    /// A weighted sum of several searches' scores, each taken to 0 for its last hit and 1 for its first, as in
    /// `dense:0.6,bm25:0.4` (may be repeated)
    #[arg(long, value_name = "HOW:WEIGHT,…", value_parser = mixture)]
    pub fuse: Vec<Mixture>,
    /// With `tokens`: the search whose best hits are put in order
    #[arg(long, value_name = "HOW", default_value = "dense")]
    pub candidates: SearchName,
    /// With `tokens`: hits that are put in order
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rerank: usize,
    /// Compare passages with every layer's vector of the question, not with the last one's alone: for an encoder that was
    /// trained so
    #[arg(long)]
    pub question_layers: bool,
    /// Search by vectors once more with another weight of their lexical part, with passages encoded once for all (may be
    /// repeated)
    #[arg(long, value_name = "W")]
    pub lexical_weight: Vec<f32>,
    /// Another encoder's folder to compare with, by bootstrap over articles
    #[arg(long, value_name = "FOLDER")]
    pub against: Option<PathBuf>,
    /// Depth of the ranking
    #[arg(short, long, default_value_t = 100)]
    pub k: usize,
    /// Write the ranking as a TREC run
    #[arg(long, value_name = "FILE")]
    pub run: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the encoder works: cpu, cuda, cuda:1, or auto for a GPU if there is one
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: stratal_kernels::Device,
    #[command(flatten)]
    pub encoder: EncoderArguments,
}
