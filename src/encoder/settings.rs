use std::fmt;

use serde::{Deserialize, Serialize};

use super::ModelError;
use super::architecture::Architecture;

/// How the token vectors of a layer become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The vector of the first token: BERT's `[CLS]`, with T5 the text's own first token.
    Cls,
    /// The mean over all tokens of the text, special ones (`[CLS]`, `[SEP]`, T5's `</s>`) among them, as sentence-transformers does.
    Mean,
}

/// What of a passage the encoder reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// `[CLS] text [SEP]`, with T5 `text </s>`: the title is left out.
    Text,
    /// `[CLS] title [SEP] text [SEP]`, every token type id 0, as DPR does; with T5 `title </s> text </s>`. A passage without a title is read as text alone.
    TitleAndText,
    /// As [`Template::TitleAndText`], with token type id 1 for the text, as BERT was pre-trained; T5 has no types.
    TitleAndTextSegments,
}

/// Everything that is chosen about an encoder beside its files; with them it makes the [`Identity`].
///
/// Serialised into a database, and given back with `Encoder::with_settings`, it restores the same encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// Name for people; no part of the identity's hash.
    pub name: String,
    /// Layers whose vectors a document gets, the first being the query's; 0 is the embedding output.
    pub layers: Vec<usize>,
    /// How token vectors become one vector.
    pub pooling: Pooling,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    /// What of a passage is read.
    pub template: Template,
    /// Tokens read of a text at most, special tokens counted.
    pub max_tokens: usize,
    /// Put before every query.
    pub query_prompt: String,
    /// Put before every passage (before its title, if the template reads one).
    pub passage_prompt: String,
}

impl EncoderSettings {
    /// Checks the settings against the model.
    pub(crate) fn check(&self, architecture: &Architecture) -> Result<(), ModelError> {
        let refuse = |setting, value: String, allowed: String| {
            Err(ModelError::Setting {
                setting,
                value,
                allowed,
            })
        };
        if self.layers.is_empty() {
            return refuse("layers", "empty".into(), "at least one layer is needed".into());
        }
        for (position, &layer) in self.layers.iter().enumerate() {
            if layer > architecture.layers() {
                let allowed = format!("the model has layers 0 to {}", architecture.layers());
                return refuse("layers", format!("{:?}", self.layers), allowed);
            }
            if self.layers[..position].contains(&layer) {
                let allowed = format!("layer {layer} may be named once only");
                return refuse("layers", format!("{:?}", self.layers), allowed);
            }
        }
        // [CLS], two [SEP] and one token of each half: less cannot hold a pair.
        let most = architecture.most_tokens();
        if self.max_tokens < 5 || self.max_tokens > most {
            let allowed = format!("between 5 and the model's {most} positions are possible");
            return refuse("max_tokens", self.max_tokens.to_string(), allowed);
        }
        if self.template == Template::TitleAndTextSegments && architecture.token_types() == 0 {
            let allowed = format!("{} has no token types: take TitleAndText", architecture.name());
            return refuse("template", "TitleAndTextSegments".into(), allowed);
        }
        Ok(())
    }
}

/// What makes two encoders the same: a hash over weights, architecture, tokenizer and settings, and a name for people.
///
/// Stamped on every generation of vectors; vectors of different hashes are never compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// BLAKE3, 64 hexadecimal digits.
    pub hash: String,
    /// The model's name; two models may share one.
    pub name: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.hash.get(..12).unwrap_or(&self.hash);
        write!(f, "{} ({short})", self.name)
    }
}
