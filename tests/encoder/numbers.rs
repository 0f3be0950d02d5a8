//! The vectors: the reference implementation's, layer by layer, and the same in any company.

use super::*;

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
        let module = encoder.module(&device).unwrap();
        let Architecture::Bert(config) = encoder.architecture() else {
            panic!("the fixture is a BERT")
        };
        let tensor = |ids: Vec<i64>| -> Tensor<2, Int> {
            let n = ids.len();
            Tensor::from_data(TensorData::new(ids, [1, n]), &device)
        };
        let states = module.hidden_states(config, tensor(ids.clone()), tensor(vec![0; ids.len()]), None);
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
