//! BERT's weights by their names in safetensors files.

use super::super::ModelError;
use super::super::weights::{LinearWeights, NamedTensor, NormWeights, Source};
use super::BertConfig;

/// One layer's weights.
pub(crate) struct LayerWeights {
    pub query: LinearWeights,
    pub key: LinearWeights,
    pub value: LinearWeights,
    pub attention_output: LinearWeights,
    pub attention_norm: NormWeights,
    pub up: LinearWeights,
    pub down: LinearWeights,
    pub output_norm: NormWeights,
}

/// All weights of a BERT, in f32.
pub(crate) struct BertWeights {
    pub config: BertConfig,
    /// `[vocabulary, D]`
    pub words: Vec<f32>,
    /// `[positions, D]`
    pub positions: Vec<f32>,
    /// `[types, D]`
    pub types: Vec<f32>,
    pub embedding_norm: NormWeights,
    pub layers: Vec<LayerWeights>,
}

impl BertWeights {
    pub(crate) fn read(source: &Source<'_>, config: &BertConfig) -> Result<Self, ModelError> {
        let d = config.hidden_size;
        let inner = config.intermediate_size;
        let embeddings = |name: &str, rows| source.tensor(&format!("embeddings.{name}.weight"), &[rows, d]);
        let mut layers = Vec::with_capacity(config.num_hidden_layers.min(1024));
        for l in 0..config.num_hidden_layers {
            let name = |part: &str| format!("encoder.layer.{l}.{part}");
            layers.push(LayerWeights {
                query: source.linear(&name("attention.self.query"), d, d)?,
                key: source.linear(&name("attention.self.key"), d, d)?,
                value: source.linear(&name("attention.self.value"), d, d)?,
                attention_output: source.linear(&name("attention.output.dense"), d, d)?,
                attention_norm: source.norm(&name("attention.output.LayerNorm"), d)?,
                up: source.linear(&name("intermediate.dense"), inner, d)?,
                down: source.linear(&name("output.dense"), d, inner)?,
                output_norm: source.norm(&name("output.LayerNorm"), d)?,
            });
        }
        Ok(Self {
            config: config.clone(),
            words: embeddings("word_embeddings", config.vocab_size)?,
            positions: embeddings("position_embeddings", config.max_position_embeddings)?,
            types: embeddings("token_type_embeddings", config.type_vocab_size)?,
            embedding_norm: source.norm("embeddings.LayerNorm", d)?,
            layers,
        })
    }

    /// The tensors by the names that `read` looks for, with their shapes.
    pub(crate) fn tensors(&self) -> Vec<NamedTensor<'_>> {
        let (d, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let mut all: Vec<NamedTensor<'_>> = Vec::new();
        for (name, table) in [
            ("word", &self.words),
            ("position", &self.positions),
            ("token_type", &self.types),
        ] {
            let name = format!("embeddings.{name}_embeddings.weight");
            all.push((name, vec![table.len() / d, d], table));
        }
        fn norm<'a>(all: &mut Vec<NamedTensor<'a>>, d: usize, name: String, norm: &'a NormWeights) {
            let NormWeights { scale, shift } = norm;
            all.push((format!("{name}.weight"), vec![d], scale));
            all.push((format!("{name}.bias"), vec![d], shift));
        }
        norm(&mut all, d, "embeddings.LayerNorm".into(), &self.embedding_norm);
        for (l, layer) in self.layers.iter().enumerate() {
            let name = |part: &str| format!("encoder.layer.{l}.{part}");
            for (part, linear, input) in [
                ("attention.self.query", &layer.query, d),
                ("attention.self.key", &layer.key, d),
                ("attention.self.value", &layer.value, d),
                ("attention.output.dense", &layer.attention_output, d),
                ("intermediate.dense", &layer.up, d),
                ("output.dense", &layer.down, inner),
            ] {
                let output = linear.bias.len();
                all.push((
                    name(&format!("{part}.weight")),
                    vec![output, input],
                    &linear.weight,
                ));
                all.push((name(&format!("{part}.bias")), vec![output], &linear.bias));
            }
            norm(
                &mut all,
                d,
                name("attention.output.LayerNorm"),
                &layer.attention_norm,
            );
            norm(&mut all, d, name("output.LayerNorm"), &layer.output_norm);
        }
        all
    }
}
