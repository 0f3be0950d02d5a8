//! The encoder as a user meets it: right numbers, folders obeyed or refused, nothing silent.
//!
//! Rows B70 to B79 and the identity part of B90 of the project's case list.

#![cfg(feature = "encoder")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use stratal::encoder::{
    Embeddings, EncodeOptions, Encoder, EncoderSettings, ModelError, Passage, Pooling, Template,
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

// B78
#[test]
fn hidden_states_are_the_references_for_every_activation_and_epsilon() {
    let expected = expected();
    let text = expected["text"].as_str().unwrap();
    let folder = model();
    for case in expected["cases"].as_array().unwrap() {
        edit(
            folder.path(),
            "config.json",
            "hidden_act",
            case["hidden_act"].clone(),
        );
        edit(
            folder.path(),
            "config.json",
            "layer_norm_eps",
            case["layer_norm_eps"].clone(),
        );
        let encoder = Encoder::from_folder(folder.path()).unwrap();
        let states = encoder.hidden_states(Passage { title: None, text }).unwrap();
        let wanted = case["states"].as_array().unwrap();
        assert_eq!(states.len(), wanted.len());
        for (state, wanted) in states.iter().zip(wanted) {
            close(state, &floats(wanted), 1e-4);
        }
    }
}

// B78
#[test]
fn the_burn_module_gives_the_references_too() {
    use burn::tensor::{Device, Int, Tensor, TensorData};
    let expected = expected();
    let ids: Vec<i64> = expected["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_i64().unwrap())
        .collect();
    let folder = model();
    let device = Device::flex();
    for case in expected["cases"].as_array().unwrap() {
        edit(
            folder.path(),
            "config.json",
            "hidden_act",
            case["hidden_act"].clone(),
        );
        edit(
            folder.path(),
            "config.json",
            "layer_norm_eps",
            case["layer_norm_eps"].clone(),
        );
        let encoder = Encoder::from_folder(folder.path()).unwrap();
        let module = encoder.module(&device);
        let tensor = |ids: Vec<i64>| -> Tensor<2, Int> {
            let n = ids.len();
            Tensor::from_data(TensorData::new(ids, [1, n]), &device)
        };
        let states = module.hidden_states(
            encoder.config(),
            tensor(ids.clone()),
            tensor(vec![0; ids.len()]),
            None,
        );
        for (state, wanted) in states.into_iter().zip(case["states"].as_array().unwrap()) {
            close(
                &state.into_data().try_to_vec::<f32>().unwrap(),
                &floats(wanted),
                1e-4,
            );
        }
    }
}

// B78
#[test]
fn an_unknown_activation_is_refused_by_name() {
    for (key, value) in [
        ("hidden_act", json!("swish")),
        ("hidden_act", json!({ "type": "gelu" })),
        ("model_type", json!("roberta")),
        ("position_embedding_type", json!("relative_key")),
        ("is_decoder", json!(true)),
    ] {
        let folder = model();
        edit(folder.path(), "config.json", key, value.clone());
        let error = refusal(folder.path());
        assert!(matches!(error, ModelError::Unsupported { .. }), "{key}: {error}");
        let named = value.as_str().map_or(key.to_string(), str::to_string);
        let text = error.to_string();
        assert!(text.contains(&named) || text.contains("gelu"), "{text}");
    }
}

#[test]
fn all_minilm_gives_the_references_states_on_real_sentences() {
    let folder = std::env::var_os("STRATAL_MODEL").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
        Some(cache.join("stratal/models/all-MiniLM-L6-v2"))
    });
    let Some(folder) = folder.filter(|folder| folder.join("model.safetensors").exists()) else {
        println!(
            "skipped: all-MiniLM-L6-v2 is not in the cache (`make demo` fetches it), nor named by STRATAL_MODEL"
        );
        return;
    };
    let expected: Value = serde_json::from_slice(&fs::read(fixtures().join("minilm.json")).unwrap()).unwrap();
    let every = expected["every"].as_u64().unwrap() as usize;
    let encoder = Encoder::from_folder(folder).unwrap();
    assert_eq!(encoder.settings().pooling, Pooling::Mean);
    assert_eq!(encoder.settings().max_tokens, 256);
    assert!(encoder.settings().normalize);
    let d = encoder.dimension();
    for sample in expected["samples"].as_array().unwrap() {
        let text = sample["text"].as_str().unwrap();
        let states = encoder.hidden_states(Passage { title: None, text }).unwrap();
        assert_eq!(
            states[0].len() / d,
            sample["tokens"].as_u64().unwrap() as usize,
            "tokens of {text:?}"
        );
        for (state, wanted) in states.iter().zip(sample["layers"].as_array().unwrap()) {
            for (place, wanted) in sample["places"]
                .as_array()
                .unwrap()
                .iter()
                .zip(wanted.as_array().unwrap())
            {
                let start = place.as_u64().unwrap() as usize * d;
                let got: Vec<f32> = state[start..start + d].iter().copied().step_by(every).collect();
                close(&got, &floats(wanted), 1e-4);
            }
        }
        let vector = documents(&encoder, &[text]).unwrap();
        let got: Vec<f32> = vector.of(0).iter().copied().step_by(every).collect();
        close(&got, &floats(&sample["mean"]), 1e-5);
    }
}

#[test]
fn titles_and_texts_are_paired_and_cut_as_the_reference_does() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let word_of_id = |id: u64| {
        let json: Value =
            serde_json::from_slice(&fs::read(folder.path().join("tokenizer.json")).unwrap()).unwrap();
        let vocab = json["model"]["vocab"].as_object().unwrap().clone();
        vocab.into_iter().find(|(_, v)| v.as_u64() == Some(id)).unwrap().0
    };
    for pair in expected()["pairs"].as_array().unwrap() {
        let passage = Passage {
            title: pair["title"].as_str(),
            text: pair["text"].as_str().unwrap(),
        };
        let limit = pair["max_tokens"].as_u64().unwrap() as usize;
        let ids: Vec<u64> = pair["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap())
            .collect();
        let types = pair["types"].as_array().unwrap();
        let encoder = encoder.clone().max_tokens(limit).template(Template::TitleAndText);
        let got = encoder
            .encode_documents(&[passage], &EncodeOptions::default())
            .unwrap();
        assert_eq!(got.tokens[0] as usize, ids.len());
        assert_eq!(got.truncated[0], ids.len() == limit && limit < 20);
        // The same ids as one text: special tokens in a text are taken as such, by the reference too.
        let words: Vec<String> = ids[1..ids.len() - 1].iter().map(|&id| word_of_id(id)).collect();
        let same = documents(&encoder.clone().max_tokens(40), &[&words.join(" ")]).unwrap();
        assert_eq!(got.vectors, same.vectors, "{pair}");
        // With segments the second half has type 1, which changes the vectors, and layer 0 by the type's embedding.
        assert!(types.iter().any(|t| t == 1));
        let segments = encoder.template(Template::TitleAndTextSegments);
        let other = segments
            .encode_documents(&[passage], &EncodeOptions::default())
            .unwrap();
        assert_ne!(got.vectors, other.vectors);
    }
}

#[test]
fn a_passage_without_a_title_is_its_text_alone_and_a_title_alone_is_enough() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path())
        .unwrap()
        .template(Template::TitleAndText);
    let one = |title, text| {
        let passages = [Passage { title, text }];
        encoder
            .encode_documents(&passages, &EncodeOptions::default())
            .unwrap()
            .vectors
    };
    assert_eq!(one(None, "a tree"), one(Some("  "), "a tree"));
    assert_eq!(one(Some("a tree"), " \n"), one(None, "a tree"));
    assert_ne!(one(Some("log"), "a tree"), one(None, "a tree"));
    let text_alone = encoder.clone().template(Template::Text);
    let passage = Passage {
        title: Some("log"),
        text: "a tree",
    };
    let got = text_alone
        .encode_documents(&[passage], &EncodeOptions::default())
        .unwrap();
    assert_eq!(got.vectors, one(None, "a tree"));
}

#[test]
fn curly_and_straight_apostrophes_stay_different() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let got = documents(&encoder, &["tree's", "tree’s"]).unwrap();
    assert_ne!(got.of(0), got.of(1));
}

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

#[test]
fn prompts_of_the_folder_go_before_queries_and_passages() {
    let folder = model();
    put(
        folder.path(),
        "config_sentence_transformers.json",
        json!({ "prompts": { "query": "page log ", "document": "vector " }, "default_prompt_name": null }),
    );
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let bare = encoder.clone().prompts("", "");
    assert_ne!(encoder.identity().hash, bare.identity().hash);
    let query = encoder.encode_queries(&["tree"]).unwrap();
    assert_eq!(
        query.vectors,
        documents(&bare, &["page log tree"]).unwrap().vectors
    );
    let passage = documents(&encoder, &["tree"]).unwrap();
    assert_eq!(
        passage.vectors,
        documents(&bare, &["vector tree"]).unwrap().vectors
    );
    assert!(matches!(
        documents(&encoder, &[" "]),
        Err(ModelError::EmptyText { index: 0 })
    ));
}

#[test]
fn any_layer_set_comes_out_in_its_order_and_queries_take_its_first() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap().pooling(Pooling::Cls);
    let passage = Passage {
        title: None,
        text: "a tree keeps leaves",
    };
    let states = encoder.hidden_states(passage).unwrap();
    for layers in [vec![2], vec![2, 1], vec![0, 2], vec![1], vec![2, 1, 0]] {
        let encoder = encoder.clone().layers(layers.clone());
        let got = documents(&encoder, &[passage.text, "log"]).unwrap();
        assert_eq!(
            (got.n, got.m, got.dimension, got.vectors.len()),
            (2, layers.len(), 32, 64 * layers.len())
        );
        for (slot, &layer) in layers.iter().enumerate() {
            assert_eq!(got.of(0)[slot * 32..(slot + 1) * 32], states[layer][..32]);
        }
        let query = encoder.encode_queries(&[passage.text]).unwrap();
        assert_eq!((query.n, query.m), (1, 1));
        assert_eq!(query.vectors, got.of(0)[..32]);
    }
}

#[test]
fn settings_that_the_model_cannot_have_are_refused_before_anything_is_encoded() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    for (wrong, setting) in [
        (encoder.clone().layers([]), "layers"),
        (encoder.clone().layers([3]), "layers"),
        (encoder.clone().layers([2, 2]), "layers"),
        (encoder.clone().max_tokens(4), "max_tokens"),
        (encoder.clone().max_tokens(41), "max_tokens"),
    ] {
        for error in [
            wrong.validate().unwrap_err(),
            documents(&wrong, &["a tree"]).unwrap_err(),
            wrong.encode_queries(&[]).unwrap_err(),
        ] {
            assert!(
                matches!(&error, ModelError::Setting { setting: s, .. } if *s == setting),
                "{error}"
            );
        }
    }
}

#[test]
fn a_texts_vectors_are_the_same_to_the_bit_in_any_batch_and_on_any_number_of_threads() {
    let folder = model();
    let words = [
        "tree", "keeps", "all", "leaves", "log", "page", "vector", "database",
    ];
    let texts: Vec<String> = (0..300)
        .map(|i| {
            (0..=(i * 7) % 45)
                .map(|j| words[(i + j * j) % 8])
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let encoder = Encoder::from_folder(folder.path()).unwrap().layers([2, 1]);
    let with_threads = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        encoder.clone().pool(pool.into())
    };
    let together = documents(&with_threads(3), &texts).unwrap();
    assert_eq!(documents(&with_threads(1), &texts).unwrap(), together);
    let mut backwards = texts.clone();
    backwards.reverse();
    let backwards = documents(&encoder, &backwards).unwrap();
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(backwards.of(texts.len() - 1 - i), together.of(i));
        if i % 29 == 0 {
            assert_eq!(documents(&encoder, &[text]).unwrap().vectors, together.of(i));
        }
    }
}

#[test]
fn empty_texts_are_refused_with_their_number_and_no_texts_are_no_work() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    for empty in ["", "  \n\t ", "\u{0}\u{1}", "\u{200b}\u{feff}"] {
        match documents(&encoder, &["tree", empty]) {
            Err(ModelError::EmptyText { index: 1 }) => {}
            // Invisible characters may still be tokens of a model; then they have a vector.
            Ok(got) => assert!(got.tokens[1] > 2, "{empty:?}"),
            Err(other) => panic!("{empty:?}: {other}"),
        }
    }
    assert!(matches!(
        encoder.encode_queries(&[""]),
        Err(ModelError::EmptyText { index: 0 })
    ));
    let nothing = documents(&encoder, &[]).unwrap();
    assert_eq!((nothing.n, nothing.vectors.len()), (0, 0));
}

// B75, and hostile input of every kind
#[test]
fn any_unicode_text_has_a_vector() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let texts = [
        "i ⭢ j",
        "👩‍👩‍👧‍👦 emoji",
        "e\u{301}\u{301}\u{301} combining",
        "ภาษาไทยไม่มีช่องว่าง",
        "مرحبا \u{202e}בעולם",
        "中文中文",
        "[CLS] [SEP] [PAD] [MASK]",
        "a\u{0}b",
    ];
    let got = documents(&encoder, &texts).unwrap();
    assert!(got.vectors.iter().all(|x| x.is_finite()));
}

#[test]
fn ten_megabytes_of_text_cost_little_and_give_the_vector_of_their_beginning() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let words = "the log is written before each page of the database ".repeat(200_000);
    let one_word = "a".repeat(10 << 20);
    let no_spaces = "中".repeat(3 << 20);
    let spaces = format!("{}tree", " ".repeat(10 << 20));
    let begun = std::time::Instant::now();
    let got = documents(&encoder, &[&words, &one_word, &no_spaces, &spaces]).unwrap();
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    assert_eq!(got.truncated, [true, true, true, false]);
    let short = documents(&encoder, &[&words[..4000], "tree", &no_spaces[..300]]).unwrap();
    assert_eq!(got.of(0), short.of(0));
    assert_eq!(got.of(3), short.of(1));
    assert_eq!(got.of(2), short.of(2));
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

// B79
#[test]
fn weights_that_overflow_end_in_an_error_not_in_a_vector() {
    let folder = model();
    let file = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for value in bytes[header..].chunks_exact_mut(4) {
        let big = f32::from_le_bytes(value.try_into().unwrap()) * 1e25;
        value.copy_from_slice(&big.to_le_bytes());
    }
    fs::write(&file, &bytes).unwrap();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    assert!(matches!(
        documents(&encoder, &["a tree"]),
        Err(ModelError::VectorNotFinite { index: 0 })
    ));
}

// B90
#[test]
fn the_identity_follows_everything_that_changes_a_vector_and_nothing_else() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let identity = encoder.identity();
    assert_eq!(identity.hash.len(), 64);
    assert_eq!(encoder.clone().name("other").identity().hash, identity.hash);
    assert_eq!(Encoder::from_folder(folder.path()).unwrap().identity(), identity);
    let mut hashes = vec![identity.hash.clone()];
    let e = &encoder;
    for changed in [
        e.clone().layers([1]),
        e.clone().layers([2, 1]),
        e.clone().layers([1, 2]),
        e.clone().pooling(Pooling::Cls),
        e.clone().normalize(true),
        e.clone().template(Template::TitleAndText),
        e.clone().template(Template::TitleAndTextSegments),
        e.clone().max_tokens(39),
        e.clone().prompts("a", ""),
        e.clone().prompts("", "a"),
    ] {
        hashes.push(changed.identity().hash);
    }
    let file = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).unwrap();
    hashes.push(Encoder::from_folder(folder.path()).unwrap().identity().hash);
    edit(folder.path(), "tokenizer.json", "version", json!("1.1"));
    if let Ok(encoder) = Encoder::from_folder(folder.path()) {
        hashes.push(encoder.identity().hash);
    }
    edit(folder.path(), "config.json", "layer_norm_eps", json!(1e-5));
    edit(folder.path(), "tokenizer.json", "version", json!("1.0"));
    hashes.push(Encoder::from_folder(folder.path()).unwrap().identity().hash);
    let all = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), all);
}

// B90
#[test]
fn a_copy_with_the_saved_settings_is_the_same_encoder() {
    let folder = model();
    modules(
        folder.path(),
        &[("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")],
    );
    put(
        folder.path(),
        "sentence_bert_config.json",
        json!({ "max_seq_length": 20, "do_lower_case": true }),
    );
    let encoder = Encoder::from_folder(folder.path())
        .unwrap()
        .name("tiny")
        .layers([2, 1])
        .template(Template::TitleAndText)
        .prompts("q ", "");
    let saved = serde_json::to_string(encoder.settings()).unwrap();
    let kept = tempfile::tempdir().unwrap();
    let place = kept.path().join("models").join(encoder.identity().hash);
    encoder.copy_files_to(&place).unwrap();
    let settings: EncoderSettings = serde_json::from_str(&saved).unwrap();
    let again = Encoder::from_folder(&place).unwrap().with_settings(settings);
    assert_eq!(again.identity(), encoder.identity());
    assert_eq!(
        documents(&again, &["a tree"]).unwrap(),
        documents(&encoder, &["a tree"]).unwrap()
    );
    // The copy stands alone, and can be copied on.
    drop(folder);
    let further = kept.path().join("further");
    again.copy_files_to(&further).unwrap();
    assert!(matches!(
        encoder.copy_files_to(kept.path().join("late")),
        Err(ModelError::Io { .. })
    ));
    fs::write(further.join("tokenizer.json"), "{}").unwrap();
    fs::write(place.join("model.safetensors"), "changed since").unwrap();
    assert!(matches!(
        again.copy_files_to(kept.path().join("no")),
        Err(ModelError::SourceChanged { .. })
    ));
}

#[test]
fn progress_only_rises_to_the_end_and_a_raised_flag_stops_the_run() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let texts = vec!["the log is written before each page of the database"; 400];
    let passages: Vec<Passage<'_>> = texts.iter().map(|text| Passage { title: None, text }).collect();
    let seen = Mutex::new(Vec::new());
    let progress = |done: usize, total: usize| {
        assert_eq!(total, 400);
        seen.lock().unwrap().push(done);
    };
    let options = EncodeOptions {
        progress: Some(&progress),
        ..EncodeOptions::default()
    };
    encoder.encode_documents(&passages, &options).unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(seen.last(), Some(&400));

    let flag = AtomicBool::new(false);
    let raise = |done: usize, _: usize| {
        if done > 100 {
            flag.store(true, Ordering::Relaxed);
        }
    };
    let options = EncodeOptions {
        progress: Some(&raise),
        cancel: Some(&flag),
    };
    match encoder.encode_documents(&passages, &options) {
        Err(ModelError::Cancelled { done, total: 400 }) => assert!(done > 100 && done < 400),
        // With very many cores all batches may have begun before the first ended.
        Ok(_) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        encoder.encode_documents(&passages, &options),
        Err(ModelError::Cancelled { done: 0, .. })
    ));
}

#[test]
fn a_progress_callback_may_use_the_pool_that_encodes() {
    let folder = model();
    let pool = std::sync::Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let encoder = Encoder::from_folder(folder.path()).unwrap().pool(pool);
    let passages = vec![
        Passage {
            title: None,
            text: "the log is written before each page of the database"
        };
        300
    ];
    let inner = |_: usize, _: usize| {
        encoder.encode_queries(&["a tree"]).unwrap();
    };
    let options = EncodeOptions {
        progress: Some(&inner),
        ..EncodeOptions::default()
    };
    assert_eq!(encoder.encode_documents(&passages, &options).unwrap().n, 300);
}

#[test]
fn an_encoder_is_a_cheap_handle_for_many_threads() {
    fn handle<T: Clone + Send + Sync + 'static>() {}
    handle::<Encoder>();
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let wanted = documents(&encoder, &["a tree"]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let encoder = encoder.clone();
            let wanted = &wanted;
            scope.spawn(move || assert_eq!(documents(&encoder, &["a tree"]).unwrap(), *wanted));
        }
    });
    let description = serde_json::to_value(encoder.describe()).unwrap();
    assert_eq!(description["dimension"], 32);
    assert_eq!(description["settings"]["pooling"], "mean");
    assert!(format!("{encoder:?}").contains("identity"));
}
