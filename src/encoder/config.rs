//! Reading `config.json`: what its fields may be, whatever the architecture.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ModelError;

/// Activation of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)` with the error function.
    Gelu,
    /// The approximation with a hyperbolic tangent (`gelu_new`, `gelu_pytorch_tanh`).
    GeluNew,
    /// `max(x, 0)`.
    Relu,
}

/// The fields of one `config.json`.
pub(crate) struct Fields<'a> {
    /// For messages.
    pub file: &'a Path,
    pub json: &'a Value,
}

impl Fields<'_> {
    pub fn unsupported(&self, what: &'static str, value: &str, supported: &'static str) -> ModelError {
        ModelError::Unsupported {
            file: self.file.to_path_buf(),
            what,
            value: value.to_string(),
            supported,
        }
    }

    pub fn broken(&self, reason: String) -> ModelError {
        ModelError::Json {
            file: self.file.to_path_buf(),
            reason,
        }
    }

    /// A size that must be there.
    pub fn size(&self, key: &str) -> Result<usize, ModelError> {
        match self.json.get(key) {
            None => Err(self.broken(format!("`{key}` is missing"))),
            Some(found) => self.checked_size(key, found),
        }
    }

    /// A size that older files leave out.
    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, ModelError> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(found) => self.checked_size(key, found),
        }
    }

    fn checked_size(&self, key: &str, found: &Value) -> Result<usize, ModelError> {
        match found.as_u64() {
            // The bound keeps products of two sizes far from overflow.
            Some(n) if (1..=1 << 24).contains(&n) => Ok(n as usize),
            _ => Err(self.broken(format!("`{key}` is {found}, not a size"))),
        }
    }

    pub fn text(&self, key: &str, default: &str) -> String {
        match self.json.get(key) {
            None | Some(Value::Null) => default.to_string(),
            Some(Value::String(s)) => s.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// What a norm adds to the variance.
    pub fn epsilon(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.json.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|eps| eps.is_finite() && *eps >= 0.0)
                .ok_or_else(|| self.broken(format!("`{key}` is {value}, not a small number"))),
        }
    }

    pub fn activation(&self, name: &str) -> Result<Activation, ModelError> {
        match name {
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluNew),
            "relu" => Ok(Activation::Relu),
            other => Err(self.unsupported(
                "the activation",
                other,
                "gelu, gelu_new, gelu_pytorch_tanh and relu are",
            )),
        }
    }

    /// Refuses the decoder alone: its layers see only what came before.
    pub fn refuse_decoder(&self) -> Result<(), ModelError> {
        if self.json.get("is_decoder").and_then(Value::as_bool) == Some(true) {
            return Err(self.unsupported("a decoder", "is_decoder", "encoders are"));
        }
        Ok(())
    }
}
