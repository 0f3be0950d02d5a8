//! Weights out of a safetensors file, checked name by name against the architecture.

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};

use super::ModelError;
use super::config::BertConfig;

/// A linear map: `weight` is `[output, input]` as PyTorch stores it, `bias` is `[output]`.
pub(crate) struct LinearWeights {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// A layer norm's scale and shift, each `[D]`.
#[derive(Clone)]
pub(crate) struct NormWeights {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

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
pub(crate) struct Weights {
    /// `[vocabulary, D]`
    pub words: Vec<f32>,
    /// `[positions, D]`
    pub positions: Vec<f32>,
    /// `[types, D]`
    pub types: Vec<f32>,
    pub embedding_norm: NormWeights,
    pub layers: Vec<LayerWeights>,
}

impl Weights {
    /// Parses the bytes of `file`.
    pub(crate) fn parse(file: &Path, bytes: &[u8], config: &BertConfig) -> Result<Self, ModelError> {
        check_length(file, bytes)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| header_error(file, &e))?;
        let source = Source::new(file, &tensors)?;
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
            words: embeddings("word_embeddings", config.vocab_size)?,
            positions: embeddings("position_embeddings", config.max_position_embeddings)?,
            types: embeddings("token_type_embeddings", config.type_vocab_size)?,
            embedding_norm: source.norm("embeddings.LayerNorm", d)?,
            layers,
        })
    }
}

impl Weights {
    /// The tensors by the names that `parse` reads, with their shapes.
    pub(crate) fn tensors(&self, config: &BertConfig) -> Vec<(String, Vec<usize>, &[f32])> {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let mut all: Vec<(String, Vec<usize>, &[f32])> = Vec::new();
        for (name, table) in [
            ("word", &self.words),
            ("position", &self.positions),
            ("token_type", &self.types),
        ] {
            let name = format!("embeddings.{name}_embeddings.weight");
            all.push((name, vec![table.len() / d, d], table));
        }
        fn norm<'a>(
            all: &mut Vec<(String, Vec<usize>, &'a [f32])>,
            d: usize,
            name: String,
            norm: &'a NormWeights,
        ) {
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

    /// The bytes of a `model.safetensors`.
    pub(crate) fn serialize(&self, config: &BertConfig) -> Result<Vec<u8>, String> {
        let tensors = self.tensors(config);
        let mut views = Vec::with_capacity(tensors.len());
        for (name, shape, values) in tensors {
            let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values));
            views.push((name, view.map_err(|error| error.to_string())?));
        }
        let format = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views, Some(format)).map_err(|error| error.to_string())
    }
}

struct Source<'a> {
    file: &'a Path,
    tensors: &'a SafeTensors<'a>,
    /// Hub models carry the names bare or under `bert.`.
    prefix: &'static str,
}

impl<'a> Source<'a> {
    fn new(file: &'a Path, tensors: &'a SafeTensors<'a>) -> Result<Self, ModelError> {
        let first = "embeddings.word_embeddings.weight";
        for prefix in ["", "bert.", "model.", "0.auto_model."] {
            if tensors.tensor(&format!("{prefix}{first}")).is_ok() {
                return Ok(Self {
                    file,
                    tensors,
                    prefix,
                });
            }
        }
        Err(ModelError::TensorMissing {
            file: file.to_path_buf(),
            tensor: first.to_string(),
        })
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let name = format!("{}{name}", self.prefix);
        let found = match self.tensors.tensor(&name) {
            Ok(view) => view,
            // Checkpoints converted from TensorFlow name a norm's parts gamma and beta.
            Err(_) => self.old_name(&name).ok_or_else(|| ModelError::TensorMissing {
                file: self.file.to_path_buf(),
                tensor: name.clone(),
            })?,
        };
        if found.shape() != shape {
            return Err(ModelError::TensorShape {
                file: self.file.to_path_buf(),
                tensor: name,
                expected: shape.to_vec(),
                found: found.shape().to_vec(),
            });
        }
        let values = to_f32(&found).ok_or_else(|| ModelError::TensorType {
            file: self.file.to_path_buf(),
            tensor: name.clone(),
            found: format!("{:?}", found.dtype()),
        })?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(ModelError::WeightNotFinite {
                file: self.file.to_path_buf(),
                tensor: name,
            });
        }
        Ok(values)
    }

    fn old_name(&self, name: &str) -> Option<TensorView<'a>> {
        let old = match name.strip_suffix("LayerNorm.weight") {
            Some(head) => format!("{head}LayerNorm.gamma"),
            None => format!("{}LayerNorm.beta", name.strip_suffix("LayerNorm.bias")?),
        };
        self.tensors.tensor(&old).ok()
    }

    fn linear(&self, name: &str, output: usize, input: usize) -> Result<LinearWeights, ModelError> {
        Ok(LinearWeights {
            weight: self.tensor(&format!("{name}.weight"), &[output, input])?,
            bias: self.tensor(&format!("{name}.bias"), &[output])?,
        })
    }

    fn norm(&self, name: &str, size: usize) -> Result<NormWeights, ModelError> {
        Ok(NormWeights {
            scale: self.tensor(&format!("{name}.weight"), &[size])?,
            shift: self.tensor(&format!("{name}.bias"), &[size])?,
        })
    }
}

fn to_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::F64 => bytes
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
            .collect(),
        Dtype::F16 => bytes
            .chunks_exact(2)
            .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        Dtype::BF16 => bytes
            .chunks_exact(2)
            .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        _ => return None,
    })
}

/// Names the usual accidents before the header is parsed: their traces are clearer than a parser's complaint.
fn check_length(file: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let found = bytes.len() as u64;
    let not_weights = |cause: &str, expected| {
        Err(ModelError::NotWeights {
            file: file.to_path_buf(),
            cause: cause.to_string(),
            found,
            expected,
        })
    };
    if bytes.is_empty() {
        return not_weights(
            "the file is empty, as a failed download leaves it; fetch it again",
            None,
        );
    }
    if bytes.starts_with(b"version https://git-lfs") {
        let expected = String::from_utf8_lossy(bytes)
            .lines()
            .find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
        return not_weights(
            "it is a Git LFS pointer; run `git lfs pull` in the folder it came from",
            expected,
        );
    }
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).to_ascii_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    if ["<!doctype", "<html", "<?xml", "<head"]
        .iter()
        .any(|tag| start.starts_with(tag))
    {
        return not_weights(
            "it is a web page, as a download behind a login or a wrong address leaves it",
            None,
        );
    }
    if start.starts_with('{') {
        return not_weights(
            "it is a JSON text, perhaps an error message of the server it came from",
            None,
        );
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return not_weights(
            "it is a PyTorch pickle under another name; convert the model to safetensors",
            None,
        );
    }
    let Some(head) = bytes.first_chunk::<8>() else {
        return not_weights("it is too short to hold a header; fetch it again", None);
    };
    let header = u64::from_le_bytes(*head);
    // The format allows headers of at most 100 MB: anything larger is no safetensors file at all.
    if header > 100_000_000 {
        return not_weights("it does not begin as a safetensors file does", None);
    }
    if header > found - 8 {
        return Err(ModelError::WeightsLength {
            file: file.to_path_buf(),
            expected: header + 8,
            found,
        });
    }
    let Some(data) = data_length(&bytes[8..8 + header as usize]) else {
        return Ok(()); // the parser's own complaint about the header is the better one
    };
    let expected = (8 + header).saturating_add(data);
    if expected != found {
        return Err(ModelError::WeightsLength {
            file: file.to_path_buf(),
            expected,
            found,
        });
    }
    Ok(())
}

/// Bytes of tensor data that the header asks for.
fn data_length(header: &[u8]) -> Option<u64> {
    let header: serde_json::Value = serde_json::from_slice(header).ok()?;
    let ends = header
        .as_object()?
        .values()
        .filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
    Some(ends.max().unwrap_or(0))
}

fn header_error(file: &Path, error: &SafeTensorError) -> ModelError {
    ModelError::WeightsHeader {
        file: PathBuf::from(file),
        reason: error.to_string(),
    }
}
