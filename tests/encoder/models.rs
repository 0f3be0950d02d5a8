//! Networks of other kinds and shapes than the first fixture's, held to the reference implementation.

use super::*;

const ALL: [&str; 5] = ["t5-relu", "t5-gated", "mt5", "bert-odd", "retromae"];
const T5: [&str; 3] = ["t5-relu", "t5-gated", "mt5"];

/// A copy of one of the models that a test may mangle.
pub(super) fn named(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let models = fixtures().join("models");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(models.join(name).join(file), folder.path().join(file)).unwrap();
    }
    let tokenizer = match T5.contains(&name) {
        true => models.join("t5-tokenizer.json"),
        false => fixtures().join("bert/tokenizer.json"),
    };
    fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
    folder
}

fn expected_of(name: &str) -> Value {
    let file = fixtures().join("models").join(name).join("expected.json");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Changes the values of all tensors whose names hold `part`.
pub(super) fn scale(folder: &Path, part: &str, change: impl Fn(f32) -> f32) {
    let file = folder.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    let mut changed = 0;
    for (name, tensor) in header.as_object().unwrap() {
        if !name.contains(part) {
            continue;
        }
        let offsets: [usize; 2] = serde_json::from_value(tensor["data_offsets"].clone()).unwrap();
        for value in bytes[end + offsets[0]..end + offsets[1]].chunks_exact_mut(4) {
            let new = change(f32::from_le_bytes(value.try_into().unwrap()));
            value.copy_from_slice(&new.to_le_bytes());
            changed += 1;
        }
    }
    assert!(changed > 0, "no tensor {part}");
    fs::write(file, bytes).unwrap();
}

// B78
#[test]
fn hidden_states_and_means_are_the_references() {
    for name in ALL {
        let (folder, expected) = (named(name), expected_of(name));
        let every = expected["every"].as_u64().unwrap() as usize;
        let encoder = Encoder::from_folder(folder.path()).unwrap();
        let layers = encoder.architecture().layers();
        assert_eq!(encoder.settings().pooling, Pooling::Mean);
        assert_eq!(encoder.settings().layers, [layers]);
        let samples = expected["samples"].as_array().unwrap();
        for sample in samples {
            let text = sample["text"].as_str().unwrap();
            let states = encoder.hidden_states(Passage { title: None, text }).unwrap();
            let wanted = sample["states"].as_array().unwrap();
            assert_eq!(states.len(), wanted.len(), "{name}");
            let tokens = sample["ids"].as_array().unwrap().len();
            assert_eq!(states[0].len(), tokens * encoder.dimension(), "{name} {text}");
            for (state, wanted) in states.iter().zip(wanted) {
                let got: Vec<f32> = state.iter().copied().step_by(every).collect();
                close(&got, &floats(wanted), 1e-4);
            }
        }
        // All layers at once, all texts in one batch.
        let texts: Vec<&str> = samples.iter().map(|s| s["text"].as_str().unwrap()).collect();
        let got = documents(&encoder.layers(0..=layers), &texts).unwrap();
        assert_eq!((got.n, got.m), (texts.len(), layers + 1));
        for (i, sample) in samples.iter().enumerate() {
            let wanted: Vec<f32> = sample["means"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(floats)
                .collect();
            close(got.of(i), &wanted, 1e-4);
        }
    }
}

#[test]
fn a_t5_obeys_layers_threads_limits_and_prompts_as_a_bert_does() {
    let folder = named("t5-relu");
    let encoder = Encoder::from_folder(folder.path()).unwrap().layers([3, 0, 2]);
    let texts: Vec<String> = (0..120)
        .map(|i| "the tree keeps its leaves ".repeat(1 + i % 9))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let with_threads = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        encoder.clone().pool(pool.into())
    };
    let together = documents(&with_threads(3), &texts).unwrap();
    assert_eq!((together.m, together.dimension), (3, 18));
    assert_eq!(documents(&with_threads(1), &texts).unwrap(), together);
    for i in [0, 8, 119] {
        assert_eq!(documents(&encoder, &[texts[i]]).unwrap().vectors, together.of(i));
    }
    let states = encoder
        .hidden_states(Passage {
            title: None,
            text: texts[4],
        })
        .unwrap();
    for (slot, layer) in [3, 0, 2].into_iter().enumerate() {
        let state = &states[layer];
        let tokens = (state.len() / 18) as f32;
        let mean: Vec<f32> = (0..18)
            .map(|i| state.iter().skip(i).step_by(18).sum::<f32>() / tokens)
            .collect();
        close(&together.of(4)[slot * 18..][..18], &mean, 1e-5);
    }
    // The limit counts </s>, which stays at the end; what is cut is told.
    let short = encoder.clone().max_tokens(6);
    let got = documents(&short, &[texts[8], "the tree keeps its leaves"]).unwrap();
    assert_eq!(
        (got.tokens.as_slice(), got.truncated.as_slice()),
        (&[6, 6][..], &[true, false][..])
    );
    assert_eq!(got.of(0), got.of(1));
    assert_eq!(encoder.settings().max_tokens, 512);
    // The network has no longest text.
    let long = "tree ".repeat(3000);
    let got = documents(&encoder.clone().max_tokens(2500), &[&long]).unwrap();
    assert_eq!((got.tokens[0], got.truncated[0]), (2500, true));
    let query = encoder
        .clone()
        .prompts("log ", "")
        .encode_queries(&["tree"])
        .unwrap();
    assert_eq!(
        query.vectors,
        documents(&encoder, &["log tree"]).unwrap().of(0)[..18]
    );
}

#[test]
fn a_t5_is_told_from_a_bert_and_described() {
    let folder = named("t5-gated");
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    assert!(matches!(encoder.architecture(), Architecture::T5(config) if config.gated));
    let about = serde_json::to_value(encoder.describe()).unwrap();
    assert_eq!(about["architecture"]["model_type"], "t5");
    assert_eq!(about["architecture"]["d_kv"], 7);
    let weights = fs::read(folder.path().join("model.safetensors")).unwrap();
    let end = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    assert_eq!(about["parameters"], (weights.len() - end) / 4);
    assert!(matches!(
        encoder.module(&burn::tensor::Device::flex()),
        Err(ModelError::Unsupported { .. })
    ));
    let segments = encoder
        .clone()
        .template(Template::TitleAndTextSegments)
        .validate();
    assert!(matches!(
        segments,
        Err(ModelError::Setting {
            setting: "template",
            ..
        })
    ));
    // Whatever of its config changes a vector changes the identity.
    let mut hashes = vec![encoder.identity().hash];
    for (key, value) in [
        ("layer_norm_epsilon", json!(1e-5)),
        ("relative_attention_max_distance", json!(100)),
        ("dense_act_fn", json!("relu")),
    ] {
        let folder = named("t5-gated");
        edit(folder.path(), "config.json", key, value);
        hashes.push(Encoder::from_folder(folder.path()).unwrap().identity().hash);
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
}

// B79
#[test]
fn feed_forward_values_past_what_half_precision_holds_are_finite_and_right() {
    for (name, ups) in [
        ("t5-relu", "DenseReluDense.wi"),
        ("retromae", "intermediate.dense"),
    ] {
        let folder = named(name);
        let whole = documents(
            &Encoder::from_folder(folder.path()).unwrap(),
            &["a tree keeps leaves"],
        )
        .unwrap();
        // Powers of two through ReLU: the values between grow past 65,504, and the result stays to the bit.
        scale(folder.path(), ups, |x| x * 65_536.0);
        let downs = if name == "t5-relu" {
            "DenseReluDense.wo"
        } else {
            "bert.encoder.layer.0.output.dense.weight"
        };
        scale(folder.path(), downs, |x| x / 65_536.0);
        let got = documents(
            &Encoder::from_folder(folder.path()).unwrap(),
            &["a tree keeps leaves"],
        )
        .unwrap();
        assert_eq!(got, whole, "{name}");
    }
    // Where even f32 ends, nothing comes out.
    let folder = named("t5-gated");
    scale(folder.path(), "DenseReluDense", |x| x * 1e20);
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    assert!(matches!(
        documents(&encoder, &["a tree"]),
        Err(ModelError::VectorNotFinite { index: 0 })
    ));
}

/// Writes the same weights with elements of another type.
fn convert(folder: &Path, to: safetensors::Dtype, element: impl Fn(f32) -> Vec<u8>) {
    let file = folder.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut data = Vec::new();
    for (name, tensor) in tensors.tensors() {
        let values = tensor.data().chunks_exact(4);
        let values = values.flat_map(|b| element(f32::from_le_bytes(b.try_into().unwrap())));
        data.push((name, tensor.shape().to_vec(), values.collect::<Vec<u8>>()));
    }
    let views = data.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(to, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
}

// B79
#[test]
fn weights_in_half_and_double_precision_are_read_and_near_those_in_single() {
    use safetensors::Dtype;
    let texts = [
        "a tree keeps leaves",
        "the log is written before each page of the database",
    ];
    for name in ["t5-gated", "bert-odd"] {
        let whole = documents(&Encoder::from_folder(named(name).path()).unwrap(), &texts).unwrap();
        let size = whole.vectors.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        let as_f16 = |x: f32| half::f16::from_f32(x).to_le_bytes().to_vec();
        let as_bf16 = |x: f32| half::bf16::from_f32(x).to_le_bytes().to_vec();
        let as_f64 = |x: f32| f64::from(x).to_le_bytes().to_vec();
        type Element<'a> = &'a dyn Fn(f32) -> Vec<u8>;
        let kinds: [(Dtype, Element<'_>, f32); 3] = [
            (Dtype::F16, &as_f16, 0.01),
            (Dtype::BF16, &as_bf16, 0.1),
            (Dtype::F64, &as_f64, 0.0),
        ];
        for (kind, element, tolerance) in kinds {
            let folder = named(name);
            convert(folder.path(), kind, element);
            let got = documents(&Encoder::from_folder(folder.path()).unwrap(), &texts).unwrap();
            close(&got.vectors, &whole.vectors, tolerance * size);
        }
        let folder = named(name);
        convert(folder.path(), Dtype::I32, |x| (x as i32).to_le_bytes().to_vec());
        let error = refusal(folder.path());
        assert!(matches!(error, ModelError::TensorType { .. }), "{error}");
        // A value that half precision cannot hold was infinite when it was written.
        let folder = named(name);
        convert(folder.path(), Dtype::F16, |x| as_f16(x * 1e6));
        let error = refusal(folder.path());
        assert!(matches!(error, ModelError::WeightNotFinite { .. }), "{error}");
    }
}

// B75, and hostile input of every kind
#[test]
fn any_text_has_a_vector_of_a_t5_and_long_ones_cost_little() {
    let folder = named("t5-gated");
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let texts = [
        "i ⭢ j",
        "👩‍👩‍👧‍👦 emoji",
        "e\u{301}\u{301}\u{301} combining",
        "مرحبا \u{202e}בעולם",
        "</s> <pad> <unk> ▁",
        "a\u{0}b",
    ];
    let got = documents(&encoder, &texts).unwrap();
    assert!(got.vectors.iter().all(|x| x.is_finite()));
    let words = "the log is written before each page of the database ".repeat(200_000);
    let one_word = "a".repeat(10 << 20);
    let no_spaces = "中".repeat(3 << 20);
    let begun = std::time::Instant::now();
    let got = documents(&encoder, &[&words, &one_word, &no_spaces]).unwrap();
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    assert_eq!(got.truncated, [true; 3]);
    assert_eq!(got.of(0), documents(&encoder, &[&words[..8000]]).unwrap().of(0));
    for empty in ["", " \n\t"] {
        let error = documents(&encoder, &["tree", empty]).unwrap_err();
        assert!(matches!(error, ModelError::EmptyText { index: 1 }), "{error}");
    }
}

#[test]
fn an_encoder_of_another_kind_stands_under_a_collection_and_comes_back() {
    let folder = named("t5-gated");
    let encoder = Encoder::from_folder(folder.path()).unwrap().layers([2, 1]);
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let db = stratal::Database::create(&path).unwrap();
    let notes = db.collection("notes").encoder(encoder.clone()).create().unwrap();
    for text in [
        "the tree keeps its leaves",
        "the log is written",
        "a page of the database",
    ] {
        notes.insert(stratal::Document::new(text).text(text)).unwrap();
    }
    let hits = notes.search("the log").k(3).run().unwrap();
    assert_eq!(
        (hits.len(), notes.layers()),
        (3, vec!["2".to_owned(), "1".to_owned()])
    );
    db.close().unwrap();
    drop((notes, db, folder));

    // The database's own copy; a BERT of as many components would be another model.
    let db = stratal::Database::open(&path).unwrap();
    let notes = db.collection("notes").open().unwrap();
    assert_eq!(notes.search("the log").k(3).run().unwrap(), hits);
    let other = Encoder::from_folder(named("bert-odd").path()).unwrap();
    let refused = db.collection("notes").encoder(other).open();
    assert!(matches!(refused, Err(stratal::Error::ForeignModel { .. })));
}
