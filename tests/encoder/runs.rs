//! Settings, hostile texts, progress and cancelling.

use super::*;

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
