//! Model folders: obeyed, or refused with the name of the file and the likely cause.

use super::*;

// B70
#[test]
fn padding_and_truncation_written_into_the_tokenizer_change_nothing() {
    let plain = model();
    let padded = model();
    edit(
        padded.path(),
        "tokenizer.json",
        "padding",
        json!({ "strategy": { "Fixed": 30 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]" }),
    );
    edit(
        padded.path(),
        "tokenizer.json",
        "truncation",
        json!({ "direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0 }),
    );
    let long = "the log is written before each page ".repeat(9);
    let texts = [
        "tree",
        "the log is written before each page of the database and each vector in one layer",
        &long,
    ];
    let got = documents(&Encoder::from_folder(padded.path()).unwrap(), &texts).unwrap();
    let wanted = documents(&Encoder::from_folder(plain.path()).unwrap(), &texts).unwrap();
    assert_eq!(got, wanted);
    assert_eq!(got.tokens, [3, 18, 40]);
    assert_eq!(got.truncated, [false, false, true]);
}

// B72
#[test]
fn the_smallest_sensible_length_limit_holds_and_cut_texts_are_counted() {
    let text = "the log is written before each page ".repeat(20);
    for (sentence, tokenizer, limit) in [
        (None, None, 40),
        (Some(json!(16)), None, 16),
        (Some(json!(16)), Some(json!(12)), 12),
        (Some(json!(512)), Some(json!(1e30)), 40),
        (Some(json!(0)), Some(json!(-1)), 40),
        (Some(json!(null)), Some(json!(20)), 20),
    ] {
        let folder = model();
        if let Some(value) = sentence {
            put(
                folder.path(),
                "sentence_bert_config.json",
                json!({ "max_seq_length": value }),
            );
        }
        if let Some(value) = tokenizer {
            put(
                folder.path(),
                "tokenizer_config.json",
                json!({ "model_max_length": value }),
            );
        }
        let encoder = Encoder::from_folder(folder.path()).unwrap();
        assert_eq!(encoder.describe().settings.max_tokens, limit);
        let got = documents(&encoder, &[&text, "a tree"]).unwrap();
        assert_eq!((got.tokens[0] as usize, got.truncated_count()), (limit, 1));
        // The same first tokens make the same vector: 2 of the limit are special.
        let words: Vec<&str> = text.split(' ').take(limit - 2).collect();
        let cut = documents(&encoder, &[&words.join(" ")]).unwrap();
        assert_eq!(cut.vectors, got.of(0));
        assert_eq!(cut.truncated, [false]);
    }
}

// B73
#[test]
fn the_folders_pooling_is_obeyed_or_refused_by_name_and_can_be_overridden() {
    let pooling = |mode: &str| {
        let folder = model();
        let key = match mode {
            "cls" => "pooling_mode_cls_token",
            "mean" => "pooling_mode_mean_tokens",
            "max" => "pooling_mode_max_tokens",
            _ => "pooling_mode_lasttoken",
        };
        put(
            folder.path(),
            "1_Pooling/config.json",
            json!({ "word_embedding_dimension": 32, key: mode != "none" }),
        );
        folder
    };
    let (cls, mean) = (pooling("cls"), pooling("mean"));
    let cls = Encoder::from_folder(cls.path()).unwrap();
    let mean = Encoder::from_folder(mean.path()).unwrap();
    assert_eq!(
        (cls.settings().pooling, mean.settings().pooling),
        (Pooling::Cls, Pooling::Mean)
    );
    assert_ne!(cls.identity().hash, mean.identity().hash);
    let passage = Passage {
        title: None,
        text: "a tree keeps leaves",
    };
    let last = cls.hidden_states(passage).unwrap().pop().unwrap();
    assert_eq!(documents(&cls, &[passage.text]).unwrap().vectors, last[..32]);
    let average: Vec<f32> = (0..32)
        .map(|i| last.chunks(32).map(|row| row[i]).sum::<f32>() / (last.len() / 32) as f32)
        .collect();
    close(
        &documents(&mean, &[passage.text]).unwrap().vectors,
        &average,
        1e-6,
    );

    for mode in ["max", "none"] {
        let folder = pooling(mode);
        let encoder = Encoder::from_folder(folder.path()).unwrap();
        let error = documents(&encoder, &["a tree"]).unwrap_err();
        assert!(
            matches!(error, ModelError::Unsupported { .. }) && error.to_string().contains(mode),
            "{error}"
        );
        assert!(error.to_string().contains("1_Pooling"), "{error}");
        assert!(documents(&encoder.pooling(Pooling::Mean), &["a tree"]).is_ok());
    }
    let folder = model();
    put(
        folder.path(),
        "1_Pooling/config.json",
        json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true }),
    );
    assert!(refusal(folder.path()).to_string().contains("cls + mean"));
    put(
        folder.path(),
        "1_Pooling/config.json",
        json!({ "pooling_mode": "cls" }),
    );
    assert_eq!(
        Encoder::from_folder(folder.path()).unwrap().settings().pooling,
        Pooling::Cls
    );
}

// B73
#[test]
fn modules_are_obeyed_and_a_projection_is_refused() {
    let folder = model();
    modules(
        folder.path(),
        &[("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")],
    );
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    assert!(encoder.settings().normalize);
    let unit = documents(&encoder, &["a tree"]).unwrap();
    let length: f32 = unit.vectors.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-6);
    let raw = documents(&encoder.normalize(false), &["a tree"]).unwrap();
    assert_ne!(raw.vectors, unit.vectors);

    for rest in [
        vec![
            ("1_Pooling", "Pooling"),
            ("2_Dense", "Dense"),
            ("3_Normalize", "Normalize"),
        ],
        vec![("1_Pooling", "Pooling"), ("2_LayerNorm", "LayerNorm")],
        vec![("2_Normalize", "Normalize"), ("1_Pooling", "Pooling")],
    ] {
        modules(folder.path(), &rest);
        let error = refusal(folder.path());
        let named = rest.iter().any(|(path, _)| error.to_string().contains(path));
        assert!(
            matches!(error, ModelError::Unsupported { .. }) && named,
            "{error}"
        );
    }
    modules(folder.path(), &[("../elsewhere", "Pooling")]);
    assert!(matches!(refusal(folder.path()), ModelError::Json { .. }));
}

// B76
#[test]
fn what_is_no_weights_file_is_named_with_its_likely_cause() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 90868376\n";
    expect_not_weights(pointer, "git lfs pull", (pointer.len() as u64, Some(90_868_376)));
    expect_not_weights(b"", "empty", (0, None));
    expect_not_weights(b"<!DOCTYPE html><html>Sign in</html>", "web page", (35, None));
    expect_not_weights(b"\n  <html lang=en>", "web page", (17, None));
    expect_not_weights(b"{\"error\": \"not found\"}", "JSON", (22, None));
    expect_not_weights(b"PK\x03\x04aaaaaaaaaaa", "pickle", (15, None));
    expect_not_weights(b"short", "too short", (5, None));
    expect_not_weights(&[0xff; 4096], "does not begin", (4096, None));
}

// B76
#[test]
fn a_weights_file_cut_or_damaged_anywhere_is_refused_with_its_sizes() {
    let whole = fs::read(fixtures().join("bert/model.safetensors")).unwrap();
    let size = whole.len() as u64;
    let folder = model();
    let file = folder.path().join("model.safetensors");
    for length in [9, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        let error = refusal(folder.path());
        let text = error.to_string();
        match error {
            ModelError::WeightsLength { expected, found, .. } => {
                assert_eq!(found, length as u64);
                assert!(expected > found && (length < 5000 || expected == size), "{text}");
            }
            other => panic!("cut at {length}: {other}"),
        }
        assert!(text.contains("cut"), "{text}");
    }
    let mut longer = whole.clone();
    longer.extend([0; 7]);
    fs::write(&file, &longer).unwrap();
    assert!(matches!(refusal(folder.path()), ModelError::WeightsLength { .. }));
    // Every byte of the header flipped: an error or, in a name that is not needed, the same model; never a panic.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in (0..header).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x15;
        fs::write(&file, &damaged).unwrap();
        let _ = Encoder::from_folder(folder.path());
    }
    // A NaN in a weight.
    let mut damaged = whole.clone();
    damaged[size as usize - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, &damaged).unwrap();
    assert!(matches!(
        refusal(folder.path()),
        ModelError::WeightNotFinite { .. }
    ));
}

// B76
#[test]
fn shapes_that_do_not_fit_the_config_are_refused_with_both() {
    for (key, value) in [
        ("hidden_size", 64),
        ("num_hidden_layers", 3),
        ("intermediate_size", 49),
        ("vocab_size", 100),
        ("max_position_embeddings", 41),
        ("type_vocab_size", 1),
    ] {
        let folder = model();
        edit(folder.path(), "config.json", key, json!(value));
        let error = refusal(folder.path());
        let fits = matches!(
            error,
            ModelError::TensorShape { .. } | ModelError::TensorMissing { .. }
        );
        assert!(
            fits && error.to_string().contains("model.safetensors"),
            "{key}: {error}"
        );
    }
    for (key, value) in [
        ("hidden_size", json!(-1)),
        ("hidden_size", json!("x")),
        ("num_attention_heads", json!(5)),
        ("vocab_size", json!(u64::MAX)),
        ("layer_norm_eps", json!("tiny")),
        ("num_hidden_layers", json!(null)),
    ] {
        let folder = model();
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
fn missing_and_mangled_files_are_named() {
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let folder = model();
        fs::remove_file(folder.path().join(name)).unwrap();
        let error = refusal(folder.path());
        assert!(
            matches!(&error, ModelError::FileMissing { file, .. } if file.ends_with(name)),
            "{error}"
        );
    }
    let folder = model();
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    assert!(refusal(folder.path()).to_string().contains("pytorch_model.bin"));
    for (name, bytes) in [
        ("config.json", "<html>"),
        ("config.json", ""),
        ("config.json", "{\"hidden_size\": 32"),
        ("config.json", "3"),
        ("tokenizer.json", ""),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "version https://git-lfs.github.com/spec/v1\n"),
        ("modules.json", "{}"),
        ("modules.json", "version https://git-lfs.github.com/spec/v1\n"),
    ] {
        let folder = model();
        fs::write(folder.path().join(name), bytes).unwrap();
        let error = refusal(folder.path());
        let typed = matches!(error, ModelError::Json { .. } | ModelError::Tokenizer { .. });
        assert!(
            typed && error.to_string().contains(name),
            "{name} {bytes:?}: {error}"
        );
    }
    let missing = folder.path().join("nothing");
    assert!(matches!(
        Encoder::from_folder(&missing),
        Err(ModelError::FolderMissing { .. })
    ));
    assert!(matches!(
        Encoder::from_folder(folder.path().join("config.json")),
        Err(ModelError::FolderMissing { .. })
    ));
}

#[test]
fn a_tokenizer_of_a_larger_model_is_refused() {
    let folder = model();
    let file = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    json["model"]["vocab"]["stranger"] = json!(1000);
    fs::write(&file, json.to_string()).unwrap();
    let error = refusal(folder.path());
    assert!(
        matches!(error, ModelError::Tokenizer { .. }) && error.to_string().contains("1000"),
        "{error}"
    );
}

#[test]
fn special_tokens_and_types_that_the_model_lacks_are_refused() {
    let folder = model();
    let file = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    json["post_processor"]["special_tokens"]["[SEP]"]["ids"] = json!([64]);
    fs::write(&file, json.to_string()).unwrap();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    assert!(matches!(
        documents(&encoder, &["a tree"]),
        Err(ModelError::Tokenizer { .. })
    ));

    json["post_processor"]["special_tokens"]["[SEP]"]["ids"] = json!([3, 3, 3, 3]);
    fs::write(&file, json.to_string()).unwrap();
    assert!(matches!(refusal(folder.path()), ModelError::Tokenizer { .. }));

    json["post_processor"]["special_tokens"]["[SEP]"]["ids"] = json!([3]);
    json["post_processor"]["pair"][3]["Sequence"]["type_id"] = json!(2);
    fs::write(&file, json.to_string()).unwrap();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let passage = [Passage {
        title: Some("log"),
        text: "a tree",
    }];
    let one = |template| {
        encoder
            .clone()
            .template(template)
            .encode_documents(&passage, &EncodeOptions::default())
    };
    assert!(one(Template::TitleAndText).is_ok());
    assert!(matches!(
        one(Template::TitleAndTextSegments),
        Err(ModelError::Tokenizer { .. })
    ));
}
