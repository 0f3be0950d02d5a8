//! The lexical part of vectors: what it adds, where it is kept, and what is refused.

use stratal::encoder::{Lexical, LexicalOptions};

use super::*;

const TEXTS: [&str; 6] = [
    "the log is written before each page",
    "the tree of the database",
    "a vector in one layer of the tree",
    "the page the page the page",
    "each leaves at one depth",
    "the log the vector",
];

fn passages<'a>(texts: &[&'a str]) -> Vec<Passage<'a>> {
    texts.iter().map(|text| Passage { title: None, text }).collect()
}

fn options(dimension: usize, weight: f32) -> LexicalOptions {
    LexicalOptions { dimension, weight }
}

fn with_words(encoder: &Encoder, options: LexicalOptions) -> (TempDir, Encoder) {
    with_words_of(&TEXTS, encoder, options)
}

fn with_words_of(texts: &[&str], encoder: &Encoder, options: LexicalOptions) -> (TempDir, Encoder) {
    let folder = tempfile::tempdir().unwrap();
    let words = Lexical::count(encoder, &passages(texts), &options).unwrap();
    let made = encoder
        .save_with_lexical(&words, folder.path().join("made"))
        .unwrap();
    (folder, made)
}

#[track_caller]
fn assert_names_lexical(error: &ModelError) {
    let is_named = matches!(
        error,
        ModelError::Setting {
            setting: "lexical",
            ..
        }
    );
    assert!(is_named, "{error}");
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The formula of the documentation, over words, which are tokens here; `[CLS]` and `[SEP]` are in every passage.
fn share(question: &str, passage: &str) -> f64 {
    let n = TEXTS.len() as f64;
    let words = |text: &str| -> Vec<String> {
        let marks = ["[CLS]", "[SEP]"].into_iter();
        marks.chain(text.split(' ')).map(str::to_owned).collect()
    };
    let count = |text: &str, word: &str| words(text).iter().filter(|w| *w == word).count() as f64;
    let idf = |word: &str| {
        let with = TEXTS.iter().filter(|text| count(text, word) > 0.0).count() as f64;
        match with == n {
            true => 0.0,
            false => (1.0 + (n - with + 0.5) / (with + 0.5)).ln(),
        }
    };
    let mean = TEXTS.iter().map(|text| words(text).len() as f64).sum::<f64>() / n;
    let norm = 0.6 * (0.25 + 0.75 * words(passage).len() as f64 / mean);
    let all: f64 = words(question).iter().map(|word| idf(word)).sum();
    let gained = words(question)
        .iter()
        .map(|word| idf(word) * count(passage, word) / (count(passage, word) + norm))
        .sum::<f64>();
    gained / all.max(1.0)
}

#[test]
fn a_lexical_part_adds_the_share_of_words_and_leaves_the_rest_as_it_was() {
    let folder = model();
    let plain = Encoder::from_folder(folder.path()).unwrap().layers([2, 1]);
    let (_kept, made) = with_words(&plain, options(4096, 0.5));
    let d = plain.dimension();
    assert_eq!(made.dimension(), d + 4096);
    assert_eq!(made.lexical().unwrap().options(), options(4096, 0.5));
    let (before, after) = (
        documents(&plain, &TEXTS).unwrap(),
        documents(&made, &TEXTS).unwrap(),
    );
    assert_eq!((after.n, after.m, after.dimension), (6, 2, d + 4096));
    for text in 0..TEXTS.len() {
        let rows = before
            .of(text)
            .chunks_exact(d)
            .zip(after.of(text).chunks_exact(d + 4096));
        for (old, new) in rows {
            assert_eq!(old, &new[..d], "the model's own elements");
            assert_eq!(
                new[d..],
                after.of(text)[d..d + 4096],
                "words are the same at all layers"
            );
        }
    }
    let mut lengths = 0.0;
    for asked in ["the log", "one tree", "vector", "page page depth"] {
        let question = made.encode_queries(&[asked]).unwrap();
        assert_eq!((question.m, question.dimension), (1, d + 4096));
        assert_eq!(
            question.vectors[..d],
            plain.encode_queries(&[asked]).unwrap().vectors
        );
        let own = &question.vectors[d..];
        lengths = 0.0;
        for (text, passage) in TEXTS.iter().enumerate() {
            let other = &after.of(text)[d..d + 4096];
            let found = dot(own, other);
            let error = 4.0 * (dot(own, own) * dot(other, other) / 4096.0).sqrt();
            let wanted = 0.5 * share(asked, passage);
            assert!(
                (found - wanted).abs() < error,
                "{asked:?} in {passage:?}: {found} and {wanted}"
            );
            lengths += dot(other, other).sqrt() / 6.0;
        }
    }
    assert!(
        (lengths - 0.5).abs() < 0.05,
        "passages' parts have the mean length {lengths}"
    );
    // A text's vector is its own, whatever it is encoded with.
    assert_eq!(documents(&made, &TEXTS[3..4]).unwrap().of(0), after.of(3));
}

#[test]
fn it_is_kept_with_the_model_and_part_of_its_identity() {
    let folder = model();
    let plain = Encoder::from_folder(folder.path()).unwrap();
    let (kept, made) = with_words(&plain, options(64, 0.5));
    let mut hashes = vec![
        plain.identity().hash,
        made.identity().hash,
        with_words(&plain, options(65, 0.5)).1.identity().hash,
        with_words(&plain, options(64, 0.4)).1.identity().hash,
        with_words_of(&TEXTS[1..], &plain, options(64, 0.5))
            .1
            .identity()
            .hash,
    ];
    assert_eq!(
        with_words(&plain, options(64, 0.5)).1.identity().hash,
        made.identity().hash
    );
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 5);
    let copy = kept.path().join("copy");
    made.copy_files_to(&copy).unwrap();
    let again = Encoder::from_folder(&copy)
        .unwrap()
        .with_settings(made.settings().clone());
    assert_eq!(again.identity(), made.identity());
    assert_eq!(
        documents(&again, &TEXTS).unwrap(),
        documents(&made, &TEXTS).unwrap()
    );
    // Words counted anew take the place of those that were there.
    let words = Lexical::count(&made, &passages(&TEXTS[..2]), &options(32, 1.0)).unwrap();
    let other = made.save_with_lexical(&words, kept.path().join("other")).unwrap();
    assert_eq!(other.dimension(), plain.dimension() + 32);
    assert_eq!(
        documents(&other, &TEXTS).unwrap().of(0)[..plain.dimension()],
        *documents(&plain, &TEXTS).unwrap().of(0)
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = model();
    let plain = Encoder::from_folder(folder.path()).unwrap();
    for (options, named) in [
        (options(0, 0.5), "lexical dimension"),
        (options(4097, 0.5), "lexical dimension"),
        (options(8, 0.0), "lexical weight"),
        (options(8, -1.0), "lexical weight"),
        (options(8, f32::NAN), "lexical weight"),
        (options(8, f32::INFINITY), "lexical weight"),
        (options(8, 1e4), "lexical weight"),
    ] {
        let error = Lexical::count(&plain, &passages(&TEXTS), &options).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
    for nothing in [&[][..], &["", " \u{1} "]] {
        let error = Lexical::count(&plain, &passages(nothing), &options(8, 0.5)).unwrap_err();
        assert_names_lexical(&error);
    }
    // Passages of which no token is left do not count.
    let with_blank = [&TEXTS[..], &[""]].concat();
    let counted = Lexical::count(&plain, &passages(&with_blank), &options(64, 0.5)).unwrap();
    let blank = plain
        .save_with_lexical(&counted, folder.path().join("blank"))
        .unwrap();
    let (_kept, made) = with_words(&plain, options(64, 0.5));
    assert_eq!(blank.identity().hash, made.identity().hash);
    let words = Lexical::count(&plain, &passages(&TEXTS), &options(8, 0.5)).unwrap();
    let error = plain.save_with_lexical(&words, folder.path()).unwrap_err();
    assert!(
        matches!(error, ModelError::Io { .. }),
        "a folder that is not empty: {error}"
    );
}

#[test]
fn a_mangled_lexical_part_is_named() {
    let folder = model();
    let plain = Encoder::from_folder(folder.path()).unwrap();
    let mangled = |mangle: &dyn Fn(&Path), named: &str| {
        let (kept, made) = with_words(&plain, options(8, 0.5));
        let path = kept.path().join("made");
        mangle(&path);
        let error = refusal(&path).to_string();
        assert!(error.contains(named), "{named:?} is not in {error:?}");
        let copied = made.copy_files_to(kept.path().join("copy"));
        assert!(
            matches!(
                copied,
                Err(ModelError::SourceChanged { .. } | ModelError::Io { .. })
            ),
            "{copied:?}"
        );
    };
    let table = "lexical.safetensors";
    mangled(&|path| fs::remove_file(path.join(table)).unwrap(), table);
    mangled(&|path| fs::write(path.join(table), b"").unwrap(), "empty");
    mangled(
        &|path| {
            let bytes = fs::read(path.join(table)).unwrap();
            fs::write(path.join(table), &bytes[..bytes.len() - 3]).unwrap();
        },
        table,
    );
    mangled(
        &|path| {
            let mut bytes = fs::read(path.join(table)).unwrap();
            let last = bytes.len() - 4;
            bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
            fs::write(path.join(table), &bytes).unwrap();
        },
        "not finite",
    );
    mangled(
        &|path| {
            let mut bytes = fs::read(path.join(table)).unwrap();
            let last = bytes.len() - 4;
            bytes[last..].copy_from_slice(&(-1.0f32).to_le_bytes());
            fs::write(path.join(table), &bytes).unwrap();
        },
        "counting words does not give",
    );
    mangled(
        &|path| {
            fs::copy(path.join("model.safetensors"), path.join(table)).unwrap();
        },
        "inverse_document_frequency",
    );
}

#[test]
fn settings_of_a_mangled_lexical_part_are_named() {
    let folder = model();
    let plain = Encoder::from_folder(folder.path()).unwrap();
    for (key, value, named) in [
        ("dimension", json!(0), "lexical dimension"),
        ("dimension", json!(1u64 << 40), "lexical dimension"),
        ("weight", json!(-0.5), "lexical weight"),
        ("scale", json!(0.0), "counting words does not give"),
        ("scale", json!(1e-30), "counting words does not give"),
        ("mean_tokens", json!(-1.0), "counting words does not give"),
        ("other", json!(1), "unknown field"),
    ] {
        let (kept, _) = with_words(&plain, options(8, 0.5));
        let path = kept.path().join("made");
        let mut whole: Value = serde_json::from_slice(&fs::read(path.join("stratal.json")).unwrap()).unwrap();
        assert_eq!(whole["version"], 2);
        whole["lexical"][key] = value;
        fs::write(path.join("stratal.json"), whole.to_string()).unwrap();
        let error = refusal(&path).to_string();
        assert!(error.contains(named), "{named:?} is not in {error:?}");
    }
    let (kept, _) = with_words(&plain, options(8, 0.5));
    edit(&kept.path().join("made"), "stratal.json", "version", json!(3));
    let error = refusal(&kept.path().join("made")).to_string();
    assert!(error.contains("version 3"), "{error}");
}

/// A prompt asks for nothing, and neither does a word that the model does not know.
#[test]
fn only_words_of_the_question_count() {
    let folder = model();
    let plain = Encoder::from_folder(folder.path()).unwrap();
    let texts = [&TEXTS[..], &["\u{2603} tree", "\u{2603}"]].concat();
    let (_kept, made) = with_words_of(&texts, &plain, options(128, 0.5));
    let d = plain.dimension();
    let part = |encoder: &Encoder, question: &str| {
        encoder.encode_queries(&[question]).unwrap().vectors[d..].to_vec()
    };
    let prompted = made.clone().prompts("each vector of the page ", "");
    for question in ["the log", "each page", "depth"] {
        assert_eq!(part(&prompted, question), part(&made, question), "{question}");
    }
    assert_eq!(part(&made, "\u{2603}"), vec![0.0; 128]);
    let depth = part(&made, "depth");
    let with_unknown = part(&made, "depth \u{2603}");
    close(&depth, &with_unknown, 1e-4);
}

#[test]
fn titles_count_where_the_template_reads_them() {
    let folder = model();
    let titled = Encoder::from_folder(folder.path())
        .unwrap()
        .template(Template::TitleAndText);
    let about = |title: Option<&'static str>| Passage {
        title,
        text: "the page",
    };
    let all = [about(Some("tree")), about(Some("log")), about(None), about(None)];
    let words = Lexical::count(&titled, &all, &options(512, 0.5)).unwrap();
    let made = titled
        .save_with_lexical(&words, folder.path().join("made"))
        .unwrap();
    let d = titled.dimension();
    let found = made.encode_documents(&all, &EncodeOptions::default()).unwrap();
    let question = made.encode_queries(&["tree"]).unwrap();
    let gains: Vec<f64> = (0..4)
        .map(|i| dot(&question.vectors[d..], &found.of(i)[d..]))
        .collect();
    assert!(
        gains[0] > 0.2 && gains[1..].iter().all(|gain| gain.abs() < 0.1),
        "{gains:?}"
    );
}

#[test]
fn words_that_another_encoder_counted_are_refused() {
    let (one, other) = (model(), model());
    let mut tokenizer: Value =
        serde_json::from_slice(&fs::read(one.path().join("tokenizer.json")).unwrap()).unwrap();
    let vocabulary = &mut tokenizer["model"]["vocab"];
    let (tree, log) = (vocabulary["tree"].clone(), vocabulary["log"].clone());
    (vocabulary["tree"], vocabulary["log"]) = (log, tree);
    fs::write(other.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let plain = Encoder::from_folder(one.path()).unwrap();
    let stranger = Encoder::from_folder(other.path()).unwrap();
    let words = Lexical::count(&plain, &passages(&TEXTS), &options(8, 0.5)).unwrap();
    let folder = one.path().join("made");
    let error = stranger.save_with_lexical(&words, &folder).unwrap_err();
    assert_names_lexical(&error);
    assert!(!folder.exists());
}

/// A folder that was made anew meanwhile under another weight is no copy of this encoder.
#[test]
fn a_folder_made_anew_is_not_copied_as_the_one_before() {
    let folder = model();
    let plain = Encoder::from_folder(folder.path()).unwrap();
    let (kept, made) = with_words(&plain, options(8, 0.5));
    let path = kept.path().join("made");
    fs::remove_dir_all(&path).unwrap();
    let words = Lexical::count(&plain, &passages(&TEXTS), &options(8, 0.4)).unwrap();
    plain.save_with_lexical(&words, &path).unwrap();
    let copied = made.copy_files_to(kept.path().join("copy"));
    assert!(
        matches!(copied, Err(ModelError::SourceChanged { .. })),
        "{copied:?}"
    );
}

/// Token vectors and the comparison of layers are of the model alone.
#[test]
fn what_looks_into_the_model_does_not_see_words() {
    use stratal::encoder::LateInteraction;
    use stratal::evaluation::compare_layers;
    use stratal::training::{PairSet, Passage as Stored, Question};

    let folder = model();
    let plain = Encoder::from_folder(folder.path())
        .unwrap()
        .layers([2, 1])
        .normalize(true);
    let (_kept, made) = with_words(&plain, options(16, 0.5));
    let (passage, how) = (passages(&TEXTS)[0], LateInteraction::SumOfBest);
    assert_eq!(
        made.passage_token_vectors(passage, how).unwrap(),
        plain.passage_token_vectors(passage, how).unwrap()
    );
    for how in [how, LateInteraction::BestOfFirst { tokens: 3 }] {
        let asked = |encoder: &Encoder| encoder.question_token_vectors("the log", how).unwrap();
        assert_eq!(asked(&made), asked(&plain));
    }
    let stored = |(i, text): (usize, &&str)| Stored {
        id: i.to_string(),
        title: None,
        text: (*text).to_owned(),
    };
    let question = Question {
        id: "q".into(),
        text: "the log".into(),
        positives: vec![5],
        answers: vec![],
        negatives: vec![],
    };
    let set = PairSet::new(TEXTS.iter().enumerate().map(stored).collect(), vec![question]).unwrap();
    let report = |encoder: &Encoder| compare_layers(encoder, &set, 5, &EncodeOptions::default()).unwrap();
    assert_eq!(report(&made), report(&plain));
}
