//! The lexical part of a vector: the words of a text beside its meaning, so that one inner product weighs both.
//!
//! A vector with a lexical part has `E` elements more than the model gives it. Those of a question and of a passage
//! have an inner product that is, on average over the random numbers below,
//!
//! `w · Σ_t idf_t f_t sat(t) / Σ_t idf_t f_t`, `sat(t) = g_t / (g_t + k1 (1 - b + b length / mean length))`,
//!
//! where `f_t` and `g_t` say how often the question and the passage have the token `t`, and `w` is the weight: the share
//! of the question's words that the passage has, by BM25 (Robertson and Zaragoza, "The Probabilistic Relevance
//! Framework", 2009), over the model's own tokens. The divisor is 1 at least. `idf` is learnt by counting passages, and 0
//! for tokens that all of them have, for unknown words and for a query's prompt.
//!
//! Each token has a random direction of `E` signs, and a text is the weighted sum of its tokens' directions. Those of
//! different tokens are nearly orthogonal, so that what is left of their inner products is an error without bias, of
//! standard deviation about `|question| |passage| / √E` (Johnson and Lindenstrauss; Luan and others, "Sparse, Dense, and
//! Attentional Representations for Text Retrieval", 2021, measure what compressed BM25 keeps).

use std::path::Path;

use rayon::prelude::*;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::ModelError;
use super::batch::{Embeddings, Passage};
use super::folder::LEXICAL;
use super::model::Encoder;
use super::tokens::Tokens;
use super::weights::{Source, serialize};
use super::weights_file::{check_length, header_error};
use crate::random::{key, mix};

/// How soon a token's repetitions say nothing more, and how far a long passage's are discounted.
const K1: f32 = 0.6;
const B: f32 = 0.75;
/// The mean length of the passages' lexical parts: well below the 1 of normalised vectors, of which codes of few bits
/// are made and neighbours chosen.
const LENGTH: f32 = 0.5;
const DIMENSION_MAX: usize = 4096;
const WEIGHT_MAX: f32 = 1000.0;
/// What a passage's part may be multiplied by: far beyond what texts ask for, and such that nothing overflows.
const SCALES: std::ops::RangeInclusive<f32> = 1e-6..=1e6;
/// More than the weight of any word of 2^64 passages.
const IDF_MAX: f32 = 64.0;
/// Passages that are read at once.
const READ: usize = 4096;
/// Passages at most whose length is looked at.
const MEASURED: usize = 20_000;
/// Decides the tokens' directions: another number makes other vectors.
const SEED: u64 = 0x1e71_ca15;
/// The tensor in the folder's file.
const TENSOR: &str = "inverse_document_frequency";

/// What is chosen about a lexical part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LexicalOptions {
    /// Elements that it adds to a vector, `E`: 1 to 4,096. More tell tokens better apart; 384 are a good deal.
    pub dimension: usize,
    /// What a passage's score gains at most by having all words of a question: for vectors of length 1, whose scores are
    /// cosines, 0.3 to 0.8; for longer ones more. It is meant for inner products: under `Similarity::Cosine` a passage's
    /// whole vector is scaled to length 1, and one of many rare words gets less of both its meaning and its words.
    pub weight: f32,
}

impl Default for LexicalOptions {
    fn default() -> LexicalOptions {
        LexicalOptions {
            dimension: 384,
            weight: 0.5,
        }
    }
}

impl LexicalOptions {
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let refuse = |setting, value: String, allowed: String| {
            Err(ModelError::Setting {
                setting,
                value,
                allowed,
            })
        };
        if !(1..=DIMENSION_MAX).contains(&self.dimension) {
            let allowed = format!("1 to {DIMENSION_MAX} elements are possible");
            return refuse("lexical dimension", self.dimension.to_string(), allowed);
        }
        if !(self.weight > 0.0 && self.weight <= WEIGHT_MAX) {
            let allowed = format!("it must be above 0 and at most {WEIGHT_MAX}");
            return refuse("lexical weight", self.weight.to_string(), allowed);
        }
        Ok(())
    }
}

/// How often words are, and how they stand in a vector: made by [`Lexical::count`], kept in an encoder's folder.
#[derive(Debug, Clone)]
pub struct Lexical {
    options: LexicalOptions,
    /// What a passage's part is multiplied by, and a question's divided by.
    scale: f32,
    mean_tokens: f32,
    /// `[vocabulary]`
    idf: Vec<f32>,
    /// Of the table, as a file.
    hash: blake3::Hash,
    /// Of the tokenizer whose tokens were counted.
    tokenizer: blake3::Hash,
}

/// What the folder's `stratal.json` says of a lexical part; the table is a file of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LexicalEntry {
    pub dimension: usize,
    pub weight: f32,
    pub scale: f32,
    pub mean_tokens: f32,
}

impl Lexical {
    /// Counts in how many passages each token of the encoder is, as far as it reads them under its settings. Later passages
    /// are weighed by what was counted then; where the texts have become others, count anew.
    ///
    /// # Errors
    /// [`ModelError::Setting`] for options outside of what is possible, or where no passage has a token; those of
    /// reading texts.
    pub fn count(
        encoder: &Encoder,
        passages: &[Passage<'_>],
        options: &LexicalOptions,
    ) -> Result<Lexical, ModelError> {
        options.check()?;
        encoder.validate()?;
        let pool = encoder.threads()?;
        pool.install(|| Lexical::count_here(encoder, passages, options))
    }

    /// The same on the threads of the caller.
    pub(crate) fn count_here(
        encoder: &Encoder,
        passages: &[Passage<'_>],
        options: &LexicalOptions,
    ) -> Result<Lexical, ModelError> {
        let limit = encoder.settings().max_tokens;
        let every = passages.len().div_ceil(MEASURED).max(1);
        let mut measured = Vec::new();
        let mut passages_with = vec![0u64; encoder.architecture().vocab_size()];
        let (mut read, mut tokens) = (0u64, 0u64);
        for (block, passages) in passages.chunks(READ).enumerate() {
            let counts = passages.par_iter().map(|&passage| {
                let tokens = encoder.passage_tokens(passage, limit)?;
                Ok(tokens.map(|tokens| counted(&tokens.ids)).unwrap_or_default())
            });
            let counts = counts.collect::<Result<Vec<_>, ModelError>>()?;
            let there = counts
                .into_iter()
                .enumerate()
                .filter(|(_, counts)| !counts.is_empty());
            for (place, counts) in there {
                read += 1;
                for &(token, count) in &counts {
                    passages_with[token as usize] += 1;
                    tokens += u64::from(count);
                }
                if (block * READ + place).is_multiple_of(every) || measured.is_empty() {
                    measured.push(counts);
                }
            }
        }
        if read == 0 {
            return Err(ModelError::Setting {
                setting: "lexical",
                value: format!("{} passages", passages.len()),
                allowed: "words are counted over passages, one with a token at least".into(),
            });
        }
        let n = read as f64;
        let idf = passages_with.into_iter().map(|with| match with == read {
            // Such as special tokens.
            true => 0.0,
            false => {
                let with = with as f64;
                (1.0 + (n - with + 0.5) / (with + 0.5)).ln() as f32
            }
        });
        let mut idf: Vec<f32> = idf.collect();
        // One token for all words that the model does not know: sharing it says nothing.
        if let Some(unknown) = encoder.unknown_token() {
            idf[unknown as usize] = 0.0;
        }
        let mut lexical = Lexical {
            options: *options,
            scale: 1.0,
            mean_tokens: (tokens as f64 / n) as f32,
            idf,
            hash: blake3::hash(b""),
            tokenizer: encoder.tokenizer_hash(),
        };
        let length = |counts: &Counts| {
            let parts = lexical.passage_weights(counts);
            parts
                .map(|(_, x)| f64::from(x) * f64::from(x))
                .sum::<f64>()
                .sqrt()
        };
        let mean = measured.iter().map(length).sum::<f64>() / measured.len() as f64;
        // Of passages that are all one unknown word the mean is 0.
        lexical.scale = (LENGTH / mean as f32).clamp(*SCALES.start(), *SCALES.end());
        lexical.hash = blake3::hash(&lexical.table()?);
        Ok(lexical)
    }

    /// What was chosen.
    pub fn options(&self) -> LexicalOptions {
        self.options
    }

    /// The same words under another weight: passages' vectors stay as they are, questions' change.
    #[cfg(feature = "cli")]
    pub(crate) fn weighing(&self, weight: f32) -> Result<Lexical, ModelError> {
        let options = LexicalOptions {
            weight,
            ..self.options
        };
        options.check()?;
        Ok(Lexical {
            options,
            ..self.clone()
        })
    }

    /// For an encoder's identity: everything that changes a vector.
    pub(crate) fn fingerprint(&self) -> String {
        let numbers = [self.options.weight, self.scale, self.mean_tokens].map(f32::to_bits);
        format!(
            "lexical {} {numbers:?} {}",
            self.options.dimension,
            self.hash.to_hex()
        )
    }

    pub(crate) fn entry(&self) -> LexicalEntry {
        LexicalEntry {
            dimension: self.options.dimension,
            weight: self.options.weight,
            scale: self.scale,
            mean_tokens: self.mean_tokens,
        }
    }

    /// The bytes of the folder's file.
    pub(crate) fn table(&self) -> Result<Vec<u8>, ModelError> {
        let tensor = (TENSOR.to_owned(), vec![self.idf.len()], self.idf.as_slice());
        serialize(vec![tensor]).map_err(|reason| ModelError::WeightsHeader {
            file: LEXICAL.into(),
            reason,
        })
    }

    /// Refuses words that were counted by another encoder's tokens.
    pub(crate) fn check_counted_by(&self, encoder: &Encoder) -> Result<(), ModelError> {
        let vocabulary = encoder.architecture().vocab_size();
        if self.tokenizer == encoder.tokenizer_hash() && self.idf.len() == vocabulary {
            return Ok(());
        }
        Err(ModelError::Setting {
            setting: "lexical",
            value: "words counted by another encoder".into(),
            allowed: "its tokens are not this one's: count with this encoder".into(),
        })
    }

    /// Of the folder's file.
    pub(crate) fn hash(&self) -> blake3::Hash {
        self.hash
    }

    /// Reads what [`Lexical::entry`] and [`Lexical::table`] gave; `file` is for messages.
    pub(crate) fn parse(
        entry: &LexicalEntry,
        file: &Path,
        bytes: &[u8],
        vocabulary: usize,
        tokenizer: blake3::Hash,
    ) -> Result<Lexical, ModelError> {
        check_length(file, bytes)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| header_error(file, &error))?;
        let idf = Source::new(file, &tensors, &[""], TENSOR)?.tensor(TENSOR, &[vocabulary])?;
        let options = LexicalOptions {
            dimension: entry.dimension,
            weight: entry.weight,
        };
        options.check()?;
        let is_length = entry.mean_tokens >= 1.0 && entry.mean_tokens.is_finite();
        let is_weight = |x: &f32| (0.0..=IDF_MAX).contains(x);
        if !SCALES.contains(&entry.scale) || !is_length || !idf.iter().all(is_weight) {
            return Err(ModelError::Json {
                file: file.to_path_buf(),
                reason: "the lexical part has a number that counting words does not give".into(),
            });
        }
        Ok(Lexical {
            options,
            scale: entry.scale,
            mean_tokens: entry.mean_tokens,
            hash: blake3::hash(bytes),
            tokenizer,
            idf,
        })
    }

    /// The parts of some texts: of passages, or of questions that begin with the tokens of `prompt`, which ask for nothing.
    pub(crate) fn parts(&self, texts: &[Tokens], prompt: Option<&[u32]>) -> LexicalParts {
        let e = self.options.dimension;
        let prompt = prompt.map(counted);
        let mut elements = vec![0.0f32; texts.len() * e];
        let rows = elements.par_chunks_exact_mut(e).zip(texts);
        rows.for_each(|(out, text)| {
            let mut counts = counted(&text.ids);
            let factor = match &prompt {
                Some(prompt) => {
                    take_away(&mut counts, prompt);
                    project(self.question_weights(&counts), out);
                    self.options.weight / self.scale
                }
                None => {
                    project(self.passage_weights(&counts), out);
                    self.scale
                }
            };
            out.iter_mut().for_each(|x| *x *= factor);
        });
        LexicalParts {
            dimension: e,
            elements,
        }
    }

    fn passage_weights(&self, counts: &Counts) -> impl Iterator<Item = (u32, f32)> {
        let tokens: u32 = counts.iter().map(|(_, count)| count).sum();
        let norm = K1 * (1.0 - B + B * tokens as f32 / self.mean_tokens);
        counts.iter().map(move |&(token, count)| {
            let count = count as f32;
            (token, count / (count + norm) * self.root(token))
        })
    }

    fn question_weights(&self, counts: &Counts) -> impl Iterator<Item = (u32, f32)> {
        let all = counts
            .iter()
            .map(|&(token, count)| count as f32 * self.idf[token as usize]);
        // A question of words that most passages have asks for little: its few differences are not blown up to a whole.
        let all = all.sum::<f32>().max(1.0);
        counts
            .iter()
            .map(move |&(token, count)| (token, count as f32 * self.root(token) / all))
    }

    /// Half of a token's weight is the question's, half the passage's: neither is longer for it than need be, and the
    /// error goes with the product of their lengths.
    fn root(&self, token: u32) -> f32 {
        self.idf[token as usize].sqrt()
    }
}

/// Tokens of a text, in order, with how often it has them.
type Counts = Vec<(u32, u32)>;

fn counted(ids: &[u32]) -> Counts {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let same = ids.chunk_by(|a, b| a == b);
    same.map(|tokens| (tokens[0], tokens.len() as u32)).collect()
}

fn take_away(counts: &mut Counts, others: &Counts) {
    for (token, count) in counts.iter_mut() {
        if let Ok(at) = others.binary_search_by_key(token, |(other, _)| *other) {
            *count = count.saturating_sub(others[at].1);
        }
    }
    counts.retain(|(_, count)| *count > 0);
}

/// Adds up tokens' directions, each of length 1.
fn project(weights: impl Iterator<Item = (u32, f32)>, out: &mut [f32]) {
    let length = (out.len() as f32).sqrt();
    for (token, weight) in weights {
        let weight = (weight / length).to_bits();
        let own = key(SEED, &[u64::from(token)]);
        for (place, out) in out.chunks_mut(64).enumerate() {
            let mut signs = mix(own ^ place as u64);
            for x in out {
                *x += f32::from_bits(weight ^ ((signs as u32 & 1) << 31));
                signs >>= 1;
            }
        }
    }
}

/// The lexical parts of some texts: `[n, E]`.
pub(crate) struct LexicalParts {
    dimension: usize,
    elements: Vec<f32>,
}

/// Vectors `[n, m, D]` with the parts of their texts, if there are such: `[n, m, D + E]`.
pub(crate) fn beside(vectors: Embeddings, parts: Option<LexicalParts>) -> Embeddings {
    let Some(LexicalParts {
        dimension: e,
        elements,
    }) = parts
    else {
        return vectors;
    };
    let d = vectors.dimension;
    let mut all = Vec::with_capacity(vectors.n * vectors.m * (d + e));
    let texts = vectors.vectors.chunks_exact(vectors.m * d);
    for (text, part) in texts.zip(elements.chunks_exact(e)) {
        for row in text.chunks_exact(d) {
            all.extend_from_slice(row);
            all.extend_from_slice(part);
        }
    }
    Embeddings {
        dimension: d + e,
        vectors: all,
        ..vectors
    }
}
