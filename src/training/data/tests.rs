use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

const CORPUS: &str = "{\"id\":\"a\",\"title\":\"T\",\"text\":\"one\"}\n\n{\"id\":7,\"text\":\"two\"}\n";

#[test]
fn json_lines_become_a_set_and_bad_ones_are_named() {
    let read = |questions: &str| {
        let folder = folder(&[("c.jsonl", CORPUS), ("q.jsonl", questions)]);
        PairSet::from_jsonl(folder.path().join("c.jsonl"), folder.path().join("q.jsonl"))
    };
    let set = read("{\"id\":\"q\",\"question\":\"what?\",\"passage_id\":7,\"answers\":[\"two\"],\"negative_ids\":[\"a\",7]}").unwrap();
    assert_eq!(set.questions()[0].positives, [1]);
    assert_eq!(set.questions()[0].negatives, [0], "a positive is no negative");
    let cases = [
        (
            "{\"id\":\"q\",\"question\":\"what?\",\"passage_id\":\"b\"}",
            ":1: there is no passage",
        ),
        (
            "\n{\"id\":\"q\",\"question\":\" \",\"passage_id\":\"a\"}",
            ":2: the question \"q\" is empty",
        ),
        (
            "{\"id\":\"q\",\"question\":\"what?\"}",
            ":1: the question \"q\" has no passage",
        ),
        ("{\"id\":\"q\"}", ":1: missing field `question`"),
        (
            "{\"id\":\"q\",\"question\":\"what?\",\"passage_id\":\"a\"}\n{\"id\":\"q\",\"question\":\"and?\",\"passage_id\":\"a\"}",
            ":2: the question id \"q\" was there before",
        ),
        (
            "[\"q1\",\"leaves\",\"a\"]",
            ":1: it is no JSON object; wanted is a question {\"id\"",
        ),
        ("\"q\"", ":1: it is no JSON object"),
        ("\nnonsense", ":2: it is no JSON object; wanted is a question"),
        (
            "{\"id\":}",
            ":1: expected value at column 7; wanted is a question",
        ),
        (
            "{\"id\":\"q\",\"question\":5,\"passage_id\":\"a\"}",
            ":1: invalid type: integer `5`, expected a string at column 22; wanted is a question",
        ),
    ];
    for (questions, want) in cases {
        let error = read(questions).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        for ours in ["QuestionLine", "PairSet", "struct", "at line"] {
            assert!(!error.contains(ours), "{error}");
        }
    }
    // What was dropped may be read again.
    let mut set = read("{\"id\":\"q\",\"question\":\"what?\",\"passage_id\":\"a\"}").unwrap();
    let again = folder(&[(
        "q.jsonl",
        "{\"id\":\"q\",\"question\":\"and?\",\"passage_id\":\"a\"}",
    )]);
    let again = again.path().join("q.jsonl");
    assert!(set.read_questions(&again).is_err());
    set.retain(|_, _| false);
    set.read_questions(&again).unwrap();
    let twice = folder(&[
        (
            "c.jsonl",
            "{\"id\":1,\"text\":\"x\"}\n{\"id\":\"1\",\"text\":\"y\"}",
        ),
        ("q.jsonl", ""),
    ]);
    let error = PairSet::from_jsonl(twice.path().join("c.jsonl"), twice.path().join("q.jsonl")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("c.jsonl:2: the passage id \"1\" was there before"),
        "{error}"
    );
}

#[test]
fn dpr_files_bring_their_passages() {
    let json = r#"[{"question":"what’s up?","answers":["sky"],"positive_ctxs":[{"title":"Sky","text":"the sky is up","passage_id":"5"}],
        "negative_ctxs":[],"hard_negative_ctxs":[{"title":"Ground","text":"down"},{"title":"Sky","text":"the sky is up","passage_id":"5"}]},
        {"question":"and down?","answers":[],"positive_ctxs":[{"title":"Ground","text":"down"}]}]"#;
    let files = folder(&[
        ("d.json", json),
        ("e.json", r#"[{"question":"x","positive_ctxs":[]}]"#),
    ]);
    let set = PairSet::from_dpr(files.path().join("d.json")).unwrap();
    assert_eq!(set.passages().len(), 2);
    assert_eq!(set.questions()[0].text, "what's up?");
    assert_eq!(
        (
            &set.questions()[0].positives[..],
            &set.questions()[0].negatives[..]
        ),
        (&[0][..], &[1][..])
    );
    assert_eq!(set.questions()[1].positives, [1]);
    let error = PairSet::from_dpr(files.path().join("e.json"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("e.json:1: the question \"0\" has no passage"),
        "{error}"
    );
}

#[test]
fn beir_folders_are_joined_by_their_judgements() {
    let queries = "{\"_id\":\"1\",\"text\":\"one?\"}\n{\"_id\":\"2\",\"text\":\"two?\"}\n";
    let corpus =
        "{\"_id\":\"a\",\"title\":\"\",\"text\":\"x\"}\n{\"_id\":\"b\",\"title\":\"B\",\"text\":\"y\"}\n";
    let files = |qrels: &str| {
        folder(&[
            ("corpus.jsonl", corpus),
            ("queries.jsonl", queries),
            ("qrels/test.tsv", qrels),
        ])
    };
    let good = files("query-id\tcorpus-id\tscore\n2\tb\t1\n2\ta\t2\n1\ta\t0\n");
    let set = PairSet::from_beir(good.path(), "test").unwrap();
    assert_eq!(set.questions().len(), 1);
    assert_eq!(set.questions()[0].positives, [1, 0]);
    assert_eq!(set.passages()[0].title, None);
    for (qrels, want) in [
        (
            "query-id\tcorpus-id\tscore\n2\tz\t1\n",
            "test.tsv:2: there is no passage",
        ),
        ("9\ta\t1\n", "test.tsv:1: there is no query"),
        ("1 a 1\n", "test.tsv:1: a judgement is three fields"),
    ] {
        let error = PairSet::from_beir(files(qrels).path(), "test")
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{error}");
    }
}
