//! Weights out of a safetensors file, checked name by name against the architecture.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::ModelError;

/// A linear map: `weight` is `[output, input]` as PyTorch stores it, `bias` is `[output]`, or empty for none.
pub(crate) struct LinearWeights {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

impl LinearWeights {
    pub fn without_bias(weight: Vec<f32>) -> Self {
        Self {
            weight,
            bias: Vec::new(),
        }
    }
}

/// A layer norm's scale and shift, each `[D]`.
#[derive(Clone)]
pub(crate) struct NormWeights {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

/// Name, shape and values.
pub(crate) type NamedTensor<'a> = (String, Vec<usize>, &'a [f32]);

/// The bytes of a `model.safetensors`.
pub(crate) fn serialize(tensors: Vec<NamedTensor<'_>>) -> Result<Vec<u8>, String> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, shape, values) in tensors {
        let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values));
        views.push((name, view.map_err(|error| error.to_string())?));
    }
    let format = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(format)).map_err(|error| error.to_string())
}

/// The tensors of one file.
pub(crate) struct Source<'a> {
    file: &'a Path,
    tensors: &'a SafeTensors<'a>,
    /// What stands before all names of the model.
    prefix: &'static str,
}

impl<'a> Source<'a> {
    /// `first` is a tensor that every model of the architecture has, and `prefixes` what may stand before its name.
    pub fn new(
        file: &'a Path,
        tensors: &'a SafeTensors<'a>,
        prefixes: &[&'static str],
        first: &str,
    ) -> Result<Self, ModelError> {
        let there = |prefix: &&&str| tensors.tensor(&format!("{prefix}{first}")).is_ok();
        match prefixes.iter().find(there) {
            Some(prefix) => Ok(Self {
                file,
                tensors,
                prefix,
            }),
            None => Err(ModelError::TensorMissing {
                file: file.to_path_buf(),
                tensor: first.to_string(),
            }),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(&format!("{}{name}", self.prefix)).is_ok()
    }

    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
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

    pub fn linear(&self, name: &str, output: usize, input: usize) -> Result<LinearWeights, ModelError> {
        Ok(LinearWeights {
            weight: self.tensor(&format!("{name}.weight"), &[output, input])?,
            bias: self.tensor(&format!("{name}.bias"), &[output])?,
        })
    }

    pub fn norm(&self, name: &str, size: usize) -> Result<NormWeights, ModelError> {
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
