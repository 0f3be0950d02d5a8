//! Another encoder, and what encoders are worth.

use crate::place::Place;

// B91
#[test]
fn another_encoder_takes_over_and_can_be_gone_back_from() {
    let place = Place::with_documents(30);
    let foreseen = place
        .run(&["reembed", "db", "--pooling", "cls", "--dry-run"])
        .ok();
    assert!(
        foreseen.out.contains("30 to encode of 30 documents"),
        "{}",
        foreseen.out
    );
    let report = place.run(&["reembed", "db", "--pooling", "cls", "--json"]).ok();
    let report: serde_json::Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(report["cut_over"], true);
    assert_eq!(report["encoded"], 30);
    let listed = place.run(&["generations", "db"]).ok();
    assert_eq!(listed.out.lines().count(), 2, "{}", listed.out);
    assert!(
        listed.out.lines().nth(1).unwrap().ends_with("answers"),
        "{}",
        listed.out
    );
    let hits = place.run(&["search", "db", "passage number 7", "--json"]).ok();
    assert!(!hits.out.is_empty());
    place
        .run(&["generations", "db", "--roll-back", "9"])
        .fails(1, "no generation 9");
    place.run(&["generations", "db", "--roll-back", "1"]).ok();
    place
        .run(&["generations", "db", "--drop", "1"])
        .fails(1, "answers");
    let listed = place.run(&["generations", "db", "--drop", "2", "--json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    place.run(&["verify", "db"]).ok();
}

/// Several files of questions are asked over passages encoded once, and told apart.
#[test]
fn questions_are_evaluated_by_several_searches_in_one_run() {
    let place = Place::new();
    let words = ["oak", "beech", "maple", "larch", "birch", "alder"];
    let lines = |from: usize, to: usize, line: &dyn Fn(usize) -> String| -> String {
        (from..to).map(|i| line(i) + "\n").collect()
    };
    place.write(
        "corpus.jsonl",
        lines(0, 6, &|i| {
            format!(
                r#"{{"id":"p{i}","title":"t{i}","text":"the {} is a tree"}}"#,
                words[i]
            )
        }),
    );
    let question = |i: usize| {
        format!(
            r#"{{"id":"q{i}","question":"what is the {}","passage_id":"p{i}","answers":["{}"]}}"#,
            words[i], words[i]
        )
    };
    place.write("first.jsonl", lines(0, 4, &question));
    place.write("second.jsonl", lines(3, 6, &question));
    let evaluate = |arguments: &[&str]| {
        let common = ["evaluate", "--corpus", "corpus.jsonl", "--json"];
        let ran = place.run(&[&common[..], arguments].concat()).ok();
        serde_json::from_str::<serde_json::Value>(&ran.out).unwrap()
    };
    let searches = [
        "--search",
        "bm25",
        "--search",
        "dense",
        "--search",
        "fused",
        "--fuse",
        "dense:0,bm25:1",
    ];
    let both = evaluate(
        &[
            &["--questions", "first.jsonl", "--also", "second.jsonl"][..],
            &searches,
        ]
        .concat(),
    );
    let second = evaluate(&[&["--questions", "second.jsonl"][..], &searches].concat());
    assert_eq!(both["also"][0]["questions"], "second.jsonl");
    assert_eq!(both["also"][0]["searches"], second["searches"]);
    assert_eq!(both["also"][0]["figures"], second["figures"]);
    assert_eq!(both["figures"]["questions"], 4);
    // Each question shares one rare word with its passage alone.
    assert_eq!(both["figures"]["top"][0], 1.0);
    let names: Vec<_> = (0..4).map(|i| both["searches"][i]["search"].as_str()).collect();
    assert_eq!(
        names,
        [Some("bm25"), Some("dense"), Some("fused"), Some("dense:0,bm25:1")]
    );
    // The vectors' share is nothing, so that words decide.
    assert_eq!(both["searches"][3]["figures"]["top"][0], 1.0);
    for wrong in ["dense", "dense:x", "dense:-1", "fused:1", "sparse:1"] {
        let ran = place.run(&[
            "evaluate",
            "--corpus",
            "corpus.jsonl",
            "--questions",
            "first.jsonl",
            "--fuse",
            wrong,
        ]);
        assert_eq!(ran.code, Some(2), "{wrong}: {}", ran.err);
    }
}
