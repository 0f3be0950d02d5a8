//! The encoder as a user meets it: right numbers, folders obeyed or refused, nothing silent.
//!
//! Rows B70 to B79 and the identity part of B90 of the project's case list.

#![cfg(feature = "encoder")]

mod folders;
mod identity;
mod lexical;
mod mangled;
mod models;
mod numbers;
mod runs;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use stratal::encoder::{
    Architecture, Embeddings, EncodeOptions, Encoder, EncoderSettings, ModelError, Passage, Pooling, Template,
};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A copy of the tiny model that a test may mangle.
fn model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(fixtures().join("bert").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn put(folder: &Path, name: &str, value: Value) {
    let file = folder.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, value.to_string()).unwrap();
}

/// Changes one key of a JSON file, or removes it if the value is null.
fn edit(folder: &Path, name: &str, key: &str, value: Value) {
    let file = folder.join(name);
    let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    json[key] = value;
    fs::write(file, json.to_string()).unwrap();
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(fixtures().join("bert/expected.json")).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect()
}

fn documents(encoder: &Encoder, texts: &[&str]) -> Result<Embeddings, ModelError> {
    let passages: Vec<Passage<'_>> = texts.iter().map(|text| Passage { title: None, text }).collect();
    encoder.encode_documents(&passages, &EncodeOptions::default())
}

fn close(a: &[f32], b: &[f32], limit: f32) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= limit, "element {i}: {a} and {b}");
    }
}

fn refusal(folder: &Path) -> ModelError {
    match Encoder::from_folder(folder).and_then(|encoder| encoder.validate()) {
        Ok(()) => panic!("a mangled folder was taken"),
        Err(error) => error,
    }
}

fn modules(folder: &Path, rest: &[(&str, &str)]) {
    let mut list = vec![
        json!({ "idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer" }),
    ];
    for (i, (path, kind)) in rest.iter().enumerate() {
        list.push(json!({ "idx": i + 1, "name": (i + 1).to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") }));
    }
    put(folder, "modules.json", Value::Array(list));
    put(
        folder,
        "1_Pooling/config.json",
        json!({ "pooling_mode_cls_token": true }),
    );
}

fn expect_not_weights(bytes: &[u8], cause: &str, sizes: (u64, Option<u64>)) {
    let folder = model();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let error = refusal(folder.path());
    let text = error.to_string();
    match error {
        ModelError::NotWeights { found, expected, .. } => assert_eq!((found, expected), sizes, "{text}"),
        other => panic!("{other}"),
    }
    assert!(
        text.contains("model.safetensors") && text.contains(cause),
        "{text}"
    );
}
