//! The seam between the architectures and everything else: tokens, batches, pooling and loading know only this.

use std::path::Path;

use safetensors::SafeTensors;
use serde::Serialize;
use serde_json::Value;

use super::ModelError;
use super::bert::{BertConfig, BertWeights, PackedBert};
use super::config::Fields;
use super::forward::Scratch;
use super::lanes::Isa;
use super::t5::{PackedT5, T5Config, T5Weights};
use super::tokens::Tokens;
use super::weights::{NamedTensor, Source};
use super::weights_file::{check_length, header_error};

/// Tokens of a text at most where the network sets no limit.
const TOKENS_MAX: usize = 1 << 15;

/// What kind of network an encoder is, with its sizes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "model_type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Architecture {
    /// BERT, and what is built like it.
    Bert(BertConfig),
    /// The encoder of a T5 or mT5.
    T5(T5Config),
}

impl Architecture {
    /// Reads and checks `config.json`; `file` is for messages.
    pub(crate) fn parse(file: &Path, json: &Value) -> Result<Self, ModelError> {
        let fields = Fields { file, json };
        match fields.text("model_type", "bert").as_str() {
            "bert" => BertConfig::parse(&fields).map(Self::Bert),
            "t5" => T5Config::parse(&fields, "relu").map(Self::T5),
            "mt5" => T5Config::parse(&fields, "gated-gelu").map(Self::T5),
            other => Err(fields.unsupported("the architecture", other, "bert, t5 and mt5 are")),
        }
    }

    /// Name of the kind, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bert(_) => "BERT",
            Self::T5(_) => "T5",
        }
    }

    /// Elements of a hidden state, `D`.
    pub fn dimension(&self) -> usize {
        match self {
            Self::Bert(c) => c.hidden_size,
            Self::T5(c) => c.d_model,
        }
    }

    /// Layers, `L`; hidden states are numbered from 0, the embeddings, to `L`.
    pub fn layers(&self) -> usize {
        match self {
            Self::Bert(c) => c.num_hidden_layers,
            Self::T5(c) => c.num_layers,
        }
    }

    /// Heads of attention in a layer.
    pub fn heads(&self) -> usize {
        match self {
            Self::Bert(c) => c.num_attention_heads,
            Self::T5(c) => c.num_heads,
        }
    }

    /// Rows of the word embedding.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Bert(c) => c.vocab_size,
            Self::T5(c) => c.vocab_size,
        }
    }

    /// Token types, 0 for a network that knows none.
    pub fn token_types(&self) -> usize {
        match self {
            Self::Bert(c) => c.type_vocab_size,
            Self::T5(_) => 0,
        }
    }

    /// Elements that training keeps of a token in a layer, beside attention's weights; a little more than it does.
    pub(crate) fn training_states(&self) -> usize {
        match self {
            Self::Bert(c) => 12 * c.hidden_size + c.intermediate_size,
            Self::T5(c) => 8 * c.d_model + 4 * c.attention_size() + c.d_ff * (1 + usize::from(c.gated)),
        }
    }

    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Bert(c) => c.parameters(),
            Self::T5(c) => c.parameters(),
        }
    }

    /// Tokens of a text where nothing else limits it.
    pub(crate) fn usual_tokens(&self) -> usize {
        match self {
            Self::Bert(c) => c.max_position_embeddings,
            Self::T5(c) => c.n_positions.min(TOKENS_MAX),
        }
    }

    /// Tokens of the longest text that can be asked for.
    pub(crate) fn most_tokens(&self) -> usize {
        match self {
            Self::Bert(c) => c.max_position_embeddings,
            Self::T5(_) => TOKENS_MAX,
        }
    }

    /// Special tokens around a text and around a pair, as the kind's tokenizers put them.
    pub(crate) fn special_tokens(&self) -> (usize, usize) {
        match self {
            Self::Bert(_) => (2, 3),
            Self::T5(_) => (1, 2),
        }
    }

    /// What changes a vector beside the weights and their shapes.
    pub(crate) fn fingerprint(&self) -> String {
        match self {
            Self::Bert(c) => format!(
                "{:?} {} {:e}",
                c.activation, c.num_attention_heads, c.layer_norm_eps
            ),
            Self::T5(c) => format!(
                "t5 {:?} {} {} {} {:e}",
                c.activation, c.gated, c.num_heads, c.relative_attention_max_distance, c.layer_norm_epsilon
            ),
        }
    }
}

/// All weights of a model, in f32.
pub(crate) enum Weights {
    Bert(BertWeights),
    T5(T5Weights),
}

impl Weights {
    /// Parses the bytes of `file`.
    pub(crate) fn parse(file: &Path, bytes: &[u8], architecture: &Architecture) -> Result<Self, ModelError> {
        check_length(file, bytes)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| header_error(file, &e))?;
        // Hub models carry BERT's names bare, under the name of the model within a larger one, or (RetroMAE's own
        // checkpoints) under that of the language model within the autoencoder.
        let prefixes = ["", "bert.", "model.", "0.auto_model.", "lm.bert."];
        match architecture {
            Architecture::Bert(config) => {
                let first = "embeddings.word_embeddings.weight";
                let source = Source::new(file, &tensors, &prefixes, first)?;
                BertWeights::read(&source, config).map(Self::Bert)
            }
            Architecture::T5(config) => {
                let prefixes = ["", "model.", "transformer.", "0.auto_model."];
                let first = "encoder.final_layer_norm.weight";
                let source = Source::new(file, &tensors, &prefixes, first)?;
                T5Weights::read(&source, config).map(Self::T5)
            }
        }
    }

    /// The tensors by the names that [`Weights::parse`] reads, with their shapes.
    pub(crate) fn tensors(&self) -> Vec<NamedTensor<'_>> {
        match self {
            Self::Bert(weights) => weights.tensors(),
            Self::T5(weights) => weights.tensors(),
        }
    }
}

/// A model with its weights packed for one instruction set.
pub(crate) enum Packed {
    Bert(PackedBert),
    T5(PackedT5),
}

impl Packed {
    pub(crate) fn new(isa: Isa, weights: Weights) -> Self {
        match weights {
            Weights::Bert(weights) => Self::Bert(PackedBert::new(isa, weights)),
            Weights::T5(weights) => Self::T5(PackedT5::new(isa, weights)),
        }
    }

    /// The weights, unpacked.
    pub(crate) fn weights(&self) -> Weights {
        match self {
            Self::Bert(model) => Weights::Bert(model.weights()),
            Self::T5(model) => Weights::T5(model.weights()),
        }
    }

    /// Memory for [`Packed::hidden_states`].
    pub(crate) fn scratch(&self) -> Scratch {
        match self {
            Self::Bert(model) => model.scratch(),
            Self::T5(model) => model.scratch(),
        }
    }

    /// Shows `see(l, states)` the hidden states of each layer `l` in `0..=last`, an array `[tokens of all texts, D]`.
    pub(crate) fn hidden_states(
        &self,
        texts: &[&Tokens],
        last: usize,
        scratch: &mut Scratch,
        see: impl FnMut(usize, &[f32]),
    ) {
        match self {
            Self::Bert(model) => model.hidden_states(texts, last, scratch, see),
            Self::T5(model) => model.hidden_states(texts, last, scratch, see),
        }
    }
}
