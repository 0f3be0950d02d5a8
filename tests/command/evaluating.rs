//! `evaluate`, `layers` and `train`: what is known of a ranking, and what is refused before anything long is done.

use crate::place::Place;

const WORDS: [&str; 6] = ["tree", "leaves", "depth", "page", "log", "vector"];

/// Six passages of a word each, and a question for each.
fn asked() -> Place {
    let place = Place::new();
    let lines = |line: &dyn Fn(usize, &str) -> String| -> String {
        let lines = WORDS.iter().enumerate();
        lines.map(|(i, word)| line(i, word) + "\n").collect()
    };
    place.write(
        "corpus.jsonl",
        lines(&|i, word| format!(r#"{{"id":"p{i}","text":"the {word}"}}"#)),
    );
    place.write(
        "questions.jsonl",
        lines(&|i, word| format!(r#"{{"id":"q{i}","question":"{word}","passage_id":"p{i}"}}"#)),
    );
    place.write("none.jsonl", "\n");
    place
}

fn with(command: &'static str, questions: &'static str) -> Vec<&'static str> {
    vec![command, "--corpus", "corpus.jsonl", "--questions", questions]
}

#[test]
fn no_questions_are_an_error_that_names_the_file() {
    let place = asked();
    place
        .run(&with("evaluate", "none.jsonl"))
        .fails(1, "none.jsonl: no questions");
    place
        .run(&with("layers", "none.jsonl"))
        .fails(1, "none.jsonl: no questions");
    let also = [with("evaluate", "questions.jsonl"), vec!["--also", "none.jsonl"]].concat();
    place.run(&also).fails(1, "none.jsonl: no questions");
    let validate = ["--validate", "none.jsonl", "-o", "out"];
    let train = [&with("train", "questions.jsonl")[..], &validate].concat();
    place.run(&train).fails(1, "none.jsonl: no questions");
    place.write("dpr.json", "[]");
    place
        .run(&["evaluate", "--dpr", "dpr.json"])
        .fails(1, "dpr.json: no questions");
}

#[test]
fn what_lies_deeper_than_the_ranking_is_not_told() {
    let place = asked();
    let evaluate =
        |arguments: &[&str]| place.run(&[&with("evaluate", "questions.jsonl")[..], arguments].concat());
    let shallow = evaluate(&["-k", "3", "--search", "bm25"]).ok().out;
    let row = shallow.lines().nth(1).unwrap();
    let cells: Vec<&str> = row.split_whitespace().rev().take(4).collect();
    assert_eq!(cells, ["–", "–", "–", "100.00"], "{shallow}");
    assert!(
        shallow.contains("MRR@10 – · nDCG@10 – · recall@100 –"),
        "{shallow}"
    );
    let figures = |arguments: &[&str]| {
        let arguments = [arguments, &["--json"]].concat();
        evaluate(&arguments).ok().json()[0]["figures"].clone()
    };
    let found = figures(&["-k", "20", "--search", "bm25"]);
    assert_eq!(found["top"], serde_json::json!([1.0, 1.0, 1.0, null]));
    assert_eq!(
        (&found["mrr_10"], &found["recall_100"]),
        (&1.0.into(), &serde_json::Value::Null)
    );
    // Tokens put in order what they were given, and no more.
    let found = figures(&["--search", "tokens", "--rerank", "5"]);
    assert!(
        found["top"][1].is_number() && found["top"][2].is_null(),
        "{found}"
    );
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert");
    let compared = &evaluate(&["-k", "5", "--against", other, "--json"]).ok().json()[0]["against"];
    assert!(
        compared["top_5_gain"].is_object() && compared["mrr_10_gain"].is_null(),
        "{compared}"
    );

    evaluate(&["-k", "0"]).fails(1, "-k is 0");
    evaluate(&["--rerank", "0"]).fails(1, "--rerank is 0");
}

#[test]
fn figures_of_nothing_found_have_no_sign() {
    let place = asked();
    place.write(
        "lost.jsonl",
        r#"{"id":"q","question":"nowhere","passage_id":"p1"}"#,
    );
    let evaluate = [&with("evaluate", "lost.jsonl")[..], &["--search", "bm25"]].concat();
    let told = place.run(&evaluate).ok().out;
    assert!(
        told.contains("MRR@10 0.0000 · nDCG@10 0.0000") && !told.contains("-0"),
        "{told}"
    );
    let told = place.run(&[&evaluate[..], &["--json"]].concat()).ok().out;
    assert!(!told.contains("-0.0"), "{told}");
}

#[test]
fn questions_that_cannot_be_are_named_by_file_and_line() {
    let place = asked();
    let refused = |questions: &str, arguments: &[&str], named: &str| {
        place.write("wrong.jsonl", questions);
        let ran = place.run(&[&with("evaluate", "wrong.jsonl")[..], arguments].concat());
        let ran = ran.fails(1, named);
        for ours in ["PairSet", "QuestionLine", "struct"] {
            assert!(!ran.err.contains(ours), "{}", ran.err);
        }
    };
    let one = r#"{"id":"q","question":"tree","passage_id":"p1"}"#;
    refused(
        r#"["q1","leaves","1"]"#,
        &[],
        "wrong.jsonl:1: it is no JSON object",
    );
    refused(
        &format!("{one}\n{one}"),
        &[],
        "wrong.jsonl:2: the question id \"q\" was there before",
    );
    refused(r#"{"id":"q"}"#, &[], "wrong.jsonl:1: missing field `question`");
    // Blank to the encoder, though not to the reader of lines.
    let mute = r#"{"id":"mute","question":"\u0001","passage_id":"p1"}"#;
    refused(
        &format!("{one}\n{mute}"),
        &[],
        "wrong.jsonl: the question \"mute\" has no token",
    );
    // A run file keeps its fields apart by blanks; without one the ids may have them.
    let apart = r#"{"id":"q one","question":"tree","passage_id":"p1"}"#;
    refused(
        apart,
        &["--run", "run.trec"],
        "the question id \"q one\" cannot stand",
    );
    assert!(!place.folder.path().join("run.trec").exists());
    place.run(&with("evaluate", "wrong.jsonl")).ok();
}

/// With a corpus so large that encoding it would not end in time, were it begun.
#[test]
fn training_is_checked_before_negatives_are_mined() {
    let place = asked();
    let passage = |i: usize| format!("{{\"id\":\"p{i}\",\"text\":\"{}\"}}\n", "tree depth ".repeat(200));
    place.write("corpus.jsonl", (0..3_000).map(passage).collect::<String>());
    let begun = std::time::Instant::now();
    let train = |arguments: &[&str], named: &str| {
        let common = [&with("train", "questions.jsonl")[..], &["-o", "out"]].concat();
        place.run(&[&common[..], arguments].concat()).fails(1, named);
        assert!(!place.folder.path().join("out").exists(), "{arguments:?}");
    };
    train(&["--tau", "nan"], "the training setting tau is NaN");
    train(&["--batch", "0"], "the training setting batch is 0");
    train(&["--dropout", "1"], "the training setting dropout is 1");
    train(&["--epochs", "0"], "the training setting epochs is 0");
    train(
        &["--negative-pool", "0"],
        "the training setting negative_pool is 0",
    );
    train(&["--curve", "nowhere/curve.svg"], "nowhere/curve.svg");
    let lost = [&with("train", "questions.jsonl")[..], &["-o", "corpus.jsonl/out"]].concat();
    place.run(&lost).fails(1, "corpus.jsonl/out");
    train(&["--checkpoints", "corpus.jsonl/kept"], "corpus.jsonl/kept");
    let evaluate = [
        &with("evaluate", "questions.jsonl")[..],
        &["--run", "nowhere/run"],
    ]
    .concat();
    place.run(&evaluate).fails(1, "nowhere/run");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

/// What `mine` writes `train --negatives given` reads: of each question the best passages that are not its own and hold
/// none of its answers.
#[test]
fn mined_negatives_are_written_for_training() {
    let place = asked();
    place.write(
        "answered.jsonl",
        concat!(
            r#"{"id":"q0","question":"tree","passage_id":"p0","answers":["Leaves"]}"#,
            "\n",
            r#"{"id":"q1","question":"page","passage_ids":["p3","p4"],"negative_ids":["p0"]}"#,
            "\n"
        ),
    );
    let mine = |arguments: &[&str]| {
        let common = [&with("mine", "answered.jsonl")[..], &["-o", "mined.jsonl"]].concat();
        place.run(&[&common[..], arguments].concat())
    };
    let told = mine(&["--json"]).ok().out;
    assert!(
        told.contains(r#""negatives":8"#) && told.contains(r#""with_answer":1"#),
        "{told}"
    );
    let read = |name: &str| std::fs::read_to_string(place.folder.path().join(name)).unwrap();
    let mined = read("mined.jsonl");
    let lines: Vec<&str> = mined.lines().collect();
    assert_eq!(lines.len(), 2, "{mined}");
    for (line, out) in lines.iter().zip([&["p0", "p1"][..], &["p3", "p4"]]) {
        let negatives = line
            .split(r#""negative_ids":["#)
            .nth(1)
            .unwrap()
            .split(']')
            .next()
            .unwrap();
        for id in ["p0", "p1", "p2", "p3", "p4", "p5"] {
            assert_eq!(negatives.contains(id), !out.contains(&id), "{id} in {line}");
        }
    }
    let train = [
        &with("train", "mined.jsonl")[..],
        &["-o", "out", "--negatives", "given", "--steps", "2"],
    ]
    .concat();
    place.run(&train).ok();
    let grouped = [
        &with("train", "mined.jsonl")[..],
        &["-o", "out-3", "--negatives", "given", "--steps", "2"],
        &["--group", "2", "--hard-negatives", "0"],
    ]
    .concat();
    place.run(&grouped).ok();

    let on_gpu = [
        &with("train", "mined.jsonl")[..],
        &["-o", "out-2", "--device", "cuda:77"],
    ]
    .concat();
    place
        .run(&on_gpu)
        .fails(1, "the encoder's device: no CUDA device 77");
    mine(&["--search", "bm25", "--negatives", "1"]).ok();
    let before = read("mined.jsonl");
    assert_ne!(before, mined);
    mine(&["--search", "tokens"]).fails(2, "dense or bm25");
    mine(&["--negatives", "0"]).fails(2, "at least 1");
    assert_eq!(read("mined.jsonl"), before);
}

/// An encoder that knows nothing finds passages by their words.
#[test]
fn words_are_weighed_by_the_encoder_that_lexical_writes() {
    let place = asked();
    place.run(&["add", "db", "corpus.jsonl", "-c", "notes"]).ok();
    let told = place
        .run(&[
            "lexical",
            "db",
            "-o",
            "words",
            "--dimension",
            "256",
            "--weight",
            "9",
        ])
        .ok()
        .out;
    assert!(told.contains("6 passages"), "{told}");
    let shown = place.run(&["model", "show", "words"]).ok().out;
    assert!(shown.contains("256 components more, weight 9"), "{shown}");
    let figures = |arguments: &[&str]| {
        let common = [&with("evaluate", "questions.jsonl")[..], &["--json"]].concat();
        place
            .run(&[&common[..], arguments].concat())
            .ok()
            .json()
            .remove(0)
    };
    assert!(figures(&[])["figures"]["top"][0].as_f64().unwrap() < 1.0);
    let found = figures(&[
        "--model",
        "words",
        "--lexical-weight",
        "1e-9",
        "--lexical-weight",
        "9",
    ]);
    assert_eq!(found["figures"]["top"][0], 1.0);
    let searches = found["searches"].as_array().unwrap();
    let names: Vec<&str> = searches
        .iter()
        .map(|one| one["search"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["dense", "dense, words 0.000000001", "dense, words 9"]);
    assert_eq!(searches[1]["figures"], figures(&[])["figures"]);
    assert_eq!(searches[2]["figures"], searches[0]["figures"]);

    place.run(&["reembed", "db", "--model", "words"]).ok();
    let asked = place
        .run(&["search", "db", "vector", "-k", "1", "--json"])
        .ok()
        .out;
    assert!(asked.contains("\"p5\""), "{asked}");

    let refused = |arguments: &[&str], code: i32, named: &str| drop(place.run(arguments).fails(code, named));
    refused(&["lexical", "db", "-o", "words"], 1, "not empty");
    refused(
        &["lexical", "db", "-o", "more", "--dimension", "0"],
        1,
        "lexical dimension",
    );
    refused(
        &["lexical", "db", "-o", "more", "--weight", "nan"],
        1,
        "lexical weight",
    );
    let evaluate = with("evaluate", "questions.jsonl");
    refused(
        &[&evaluate[..], &["--lexical-weight", "1"]].concat(),
        1,
        "no lexical part",
    );
    let train = [
        &with("train", "questions.jsonl")[..],
        &["-o", "trained", "--steps", "1"],
    ]
    .concat();
    refused(&[&train[..], &["--lexical-weight", "1"]].concat(), 2, "--lexical");
    place
        .run(&[&train[..], &["--lexical", "64", "--lexical-weight", "9"]].concat())
        .ok();
    assert_eq!(figures(&["--model", "trained"])["figures"]["top"][0], 1.0);
    // Of the words that the encoder had, 0 leaves none.
    let train = [
        "--model",
        "trained",
        "--lexical",
        "0",
        "-o",
        "plain",
        "--steps",
        "1",
    ];
    place
        .run(&[&with("train", "questions.jsonl")[..], &train].concat())
        .ok();
    let shown = place.run(&["model", "show", "plain"]).ok().out;
    assert!(!shown.contains("words"), "{shown}");
    // The collection holds these vectors already.
    let held = [
        "evaluate",
        "--database",
        "db",
        "--questions",
        "questions.jsonl",
        "--lexical-weight",
        "1",
    ];
    refused(&held, 2, "by --corpus");
}
