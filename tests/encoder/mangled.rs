//! Models of other kinds with something wrong: each refused by what is wrong with it.

use super::models::{named, scale};
use super::*;

/// Changes the header of the weights file as text; the change must keep its length.
fn rename(folder: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let file = folder.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..end].to_vec()).unwrap();
    assert!(header.contains(from), "{header}");
    bytes[8..end].copy_from_slice(header.replace(from, to).as_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn an_architecture_that_is_not_known_is_refused_with_those_that_are() {
    for kind in ["roberta", "umt5", "longt5", "xlm-roberta", ""] {
        for name in ["t5-relu", "bert-odd"] {
            let folder = named(name);
            edit(folder.path(), "config.json", "model_type", json!(kind));
            let error = refusal(folder.path()).to_string();
            assert!(
                error.contains(&format!("`{kind}`")) && error.contains("bert, t5 and mt5"),
                "{error}"
            );
        }
    }
    // The right name on the wrong weights.
    for (name, kind) in [("bert-odd", "t5"), ("t5-relu", "bert")] {
        let folder = named(name);
        edit(folder.path(), "config.json", "model_type", json!(kind));
        assert!(matches!(refusal(folder.path()), ModelError::Json { .. }));
    }
}

// B78
#[test]
fn what_a_t5s_config_asks_for_and_is_not_done_is_refused() {
    for (key, value) in [
        ("dense_act_fn", json!("silu")),
        ("feed_forward_proj", json!("linear-gelu")),
        ("is_decoder", json!(true)),
    ] {
        let folder = named("t5-relu");
        edit(folder.path(), "config.json", key, value);
        assert!(
            matches!(refusal(folder.path()), ModelError::Unsupported { .. }),
            "{key}"
        );
    }
    for (key, value) in [
        ("d_kv", json!(0)),
        ("d_model", json!(-18)),
        ("num_heads", json!(1.5)),
        ("vocab_size", json!(u64::MAX)),
        ("layer_norm_epsilon", json!("small")),
        ("relative_attention_num_buckets", json!(3)),
        ("relative_attention_max_distance", json!(2)),
        ("d_ff", json!(null)),
    ] {
        let folder = named("t5-relu");
        edit(folder.path(), "config.json", key, value);
        let error = refusal(folder.path());
        assert!(
            matches!(error, ModelError::Json { .. }) && error.to_string().contains(key),
            "{error}"
        );
    }
}

// B76
#[test]
fn a_config_that_lies_about_shapes_costs_no_memory_and_is_refused_with_both() {
    let lies = [
        ("t5-relu", "d_model", 1 << 24),
        ("t5-relu", "d_kv", 6),
        ("t5-relu", "num_heads", 1 << 24),
        ("t5-relu", "num_layers", 4),
        ("t5-relu", "d_ff", 36),
        ("t5-relu", "vocab_size", 1 << 24),
        ("t5-relu", "relative_attention_num_buckets", 16),
        ("bert-odd", "num_hidden_layers", 1 << 24),
        ("bert-odd", "vocab_size", 1 << 24),
        ("bert-odd", "max_position_embeddings", 1 << 24),
        ("retromae", "intermediate_size", 1 << 24),
    ];
    for (name, key, value) in lies {
        let folder = named(name);
        edit(folder.path(), "config.json", key, json!(value));
        let error = refusal(folder.path());
        let fits = matches!(
            error,
            ModelError::TensorShape { .. } | ModelError::TensorMissing { .. }
        );
        assert!(fits, "{name} {key}: {error}");
    }
    // Gated where the weights are not, and the other way round.
    let folder = named("t5-relu");
    edit(folder.path(), "config.json", "is_gated_act", json!(true));
    assert!(refusal(folder.path()).to_string().contains("wi_0"));
    let folder = named("t5-gated");
    edit(folder.path(), "config.json", "is_gated_act", json!(false));
    assert!(
        refusal(folder.path())
            .to_string()
            .contains("DenseReluDense.wi.weight")
    );
}

// B76
#[test]
fn every_tensor_that_is_missing_or_not_finite_is_named() {
    for part in [
        "shared.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block.2.layer.0.SelfAttention.v.weight",
        "encoder.block.1.layer.1.DenseReluDense.wo.weight",
        "encoder.block.1.layer.1.layer_norm.weight",
        "encoder.final_layer_norm.weight",
    ] {
        let folder = named("t5-relu");
        let other = format!("\"{}x", &part[..part.len() - 1]);
        rename(folder.path(), &format!("\"{part}"), &other);
        let error = refusal(folder.path());
        assert!(
            matches!(&error, ModelError::TensorMissing { tensor, .. } if part.ends_with(tensor.as_str())),
            "{part}: {error}"
        );
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let folder = named("t5-relu");
            scale(folder.path(), part, |_| bad);
            let error = refusal(folder.path());
            assert!(
                matches!(&error, ModelError::WeightNotFinite { tensor, .. } if tensor == part),
                "{part}: {error}"
            );
        }
    }
    // What the encoder does not need may be anything: a decoder, a language model's head.
    for (name, part) in [("t5-relu", "decoder.block"), ("retromae", "cls.predictions")] {
        let (folder, whole) = (named(name), named(name));
        scale(folder.path(), part, |_| f32::NAN);
        let got = documents(&Encoder::from_folder(folder.path()).unwrap(), &["a tree"]).unwrap();
        let want = documents(&Encoder::from_folder(whole.path()).unwrap(), &["a tree"]).unwrap();
        assert_eq!(got, want);
    }
}

// B76
#[test]
fn a_tokenizer_of_another_kind_of_model_is_refused() {
    for name in ["retromae", "bert-odd"] {
        let folder = named(name);
        let other = named("t5-relu");
        fs::copy(
            other.path().join("tokenizer.json"),
            folder.path().join("tokenizer.json"),
        )
        .unwrap();
        let error = refusal(folder.path());
        assert!(matches!(error, ModelError::Tokenizer { .. }), "{name}: {error}");
    }
    // Without its template a T5's texts would end without </s>.
    let folder = named("t5-relu");
    edit(folder.path(), "tokenizer.json", "post_processor", json!(null));
    let error = refusal(folder.path()).to_string();
    assert!(
        error.contains("0 special tokens") && error.contains("T5 has 1 and 2"),
        "{error}"
    );
}
