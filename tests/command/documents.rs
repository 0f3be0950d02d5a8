//! Documents in and out, names, output and exit codes.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::place::{Place, Ran};

#[test]
fn a_folder_is_added_searched_and_looked_at() {
    let place = Place::new();
    place.write(
        "notes/trees.md",
        "# Trees\n\nA B-tree keeps its leaves at one depth.\n\n## Heaps\n\nA heap is not sorted.",
    );
    place.write("notes/plain.txt", "Bread needs water and time.");
    let added = place.run(&["add", "db", "notes", "--collection", "notes"]).ok();
    assert!(added.out.starts_with("3 passages from 2 files"), "{}", added.out);
    assert_eq!(added.err, "", "quiet in a pipe");
    let again = place.run(&["add", "db", "notes"]).ok();
    assert!(again.out.contains("nothing to encode"), "{}", again.out);
    let found = place
        .run(&["search", "db", "A heap is not sorted.", "-k", "1", "--json"])
        .ok();
    let hits = found.json();
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0]["id"], "trees.md#1");
    assert_eq!(hits[0]["title"], "Trees › Heaps");
    assert_eq!(found.err, "");
    let table = place
        .run(&["search", "db", "A heap is not sorted.", "-k", "1"])
        .ok();
    assert!(
        table.out.contains("trees.md#1") && table.out.contains("A heap is not sorted."),
        "{}",
        table.out
    );
    let stat = place.run(&["stat", "db"]).ok();
    assert!(stat.out.contains("3 documents"), "{}", stat.out);
    place.run(&["verify", "db"]).ok();
    place.run(&["compact", "db"]).ok();
    let shown = place.run(&["model", "show", "--json"]);
    assert_eq!(shown.json().len(), 1);
}

// B93
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::with_documents(1_500);
    for arguments in [
        &["search", "db", "passage", "-k", "1500", "--json"][..],
        &["search", "db", "passage", "-k", "1500"],
        &["export", "db"],
        &["get", "db", "d1", "d2", "d3", "--json"],
        &["--help"],
        &["completions", "bash"],
    ] {
        // One read and away, and not even one.
        for reads in [true, false] {
            let mut child = place
                .command(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut out = child.stdout.take().unwrap();
            if reads {
                let mut some = [0u8; 64];
                assert!(out.read(&mut some).unwrap() > 0);
            }
            drop(out);
            let ran = Ran::of(child.wait_with_output().unwrap());
            assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
        }
    }
}

// B93
#[test]
fn json_output_is_json_alone_and_a_shut_stderr_harms_nothing() {
    let place = Place::with_documents(30);
    assert_eq!(
        place
            .run(&["search", "db", "passage", "-k", "7", "--json"])
            .ok()
            .json()
            .len(),
        7
    );
    assert_eq!(place.run(&["export", "db"]).ok().json().len(), 30);
    assert_eq!(place.run(&["stat", "db", "--json"]).ok().json().len(), 1);
    assert_eq!(place.run(&["verify", "db", "--json"]).ok().json().len(), 1);
    assert_eq!(
        place
            .run(&["get", "db", "d1", "d2", "--json", "--vectors"])
            .ok()
            .json()
            .len(),
        2
    );
    if cfg!(unix) {
        let script = format!(
            "exec 2>&-; {0} search db passage -k 2 && {0} add db docs.jsonl && {0} get db nothing; echo $?",
            env!("CARGO_BIN_EXE_stratal")
        );
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &script])
            .current_dir(place.folder.path())
            .stdin(Stdio::null());
        let ran = Ran::of(shell.output().unwrap());
        assert!(ran.out.ends_with("5\n"), "{} {}", ran.out, ran.err);
    }
}

// B95
#[test]
fn a_name_that_is_misspelt_is_an_error_with_a_suggestion() {
    let place = Place::with_documents(3);
    place.run(&["serch", "db", "x"]).fails(2, "search");
    place.run(&["search", "db", "x", "--jsn"]).fails(2, "--json");
    place
        .run(&["search", "db", "x", "--device", "gpu"])
        .fails(2, "names no device");
    place.run(&["search", "db", "x", "-c", "nots"]).fails(1, "notes");
    place
        .run(&[
            "create",
            "db",
            "other",
            "--dimension",
            "2",
            "--similarity",
            "cosin",
        ])
        .fails(2, "cosine");
    place
        .run(&["search", "db", "x", "--layers", "last"])
        .fails(1, "last");
    place.run(&["search", "nowhere", "x"]).fails(1, "nowhere");
    place.run(&["add", "db", "not/there.md"]).fails(1, "not/there.md");
    place.run(&["search", "db", "  "]).fails(1, "blank");
    place
        .run(&["search", "db", "\u{1}"])
        .fails(1, "query 0 has no token that the encoder reads");
    place.run(&["search", "db", "x", "-k", "0"]).fails(1, "k is 0");
    place.run(&[]).fails(2, "Usage");
    place.run(&["add", "db"]).fails(2, "PATHS");
}

#[test]
fn nothing_is_created_by_a_command_that_only_reads_or_that_fails() {
    let place = Place::new();
    for arguments in [
        &["search", "db", "x"][..],
        &["stat", "db"],
        &["verify", "db"],
        &["export", "db"],
        &["get", "db", "x"],
        &["delete", "db", "x"],
        &["compact", "db"],
        &["import", "db", "x.npy"],
        &["add", "db", "not/there"],
        &["add", "db", ".", "--model", "no-such-model"],
        &["create", "db", "c", "--model", "no-such-model"],
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(1), "{arguments:?}: {}", ran.err);
        assert!(
            !place.folder.path().join("db").exists(),
            "{arguments:?} has left a database"
        );
    }
}

// B51, B59
#[test]
fn ids_of_every_kind_are_stored_read_deleted_and_carried_over() {
    let place = Place::new();
    let long = "k".repeat(10_000);
    let ids = [
        "a",
        "a ",
        " a",
        "a/b",
        "../x",
        "é",
        "👩‍👩‍👧‍👦",
        "it's",
        "x' OR '1'='1",
        "a\"b",
        "a\\b",
        "-k",
        "--json",
        "7",
        "007",
        "line\nbreak",
        "\u{202e}rtl",
        &long,
    ];
    let lines: String = ids
        .iter()
        .enumerate()
        .map(|(n, id)| {
            serde_json::json!({ "id": id, "text": format!("text of number {n}") }).to_string() + "\n"
        })
        .collect();
    let added = place.feed(&["add", "db", "-", "--skip-bad-lines", "--json"], &lines);
    added.ok();
    let extra = "{\"id\":7,\"text\":\"the number\"}\n";
    place.feed(&["add", "db", "-"], extra).ok();
    let text_of = |place: &Place, database: &str, arguments: &[&str]| {
        let ran = place
            .run(&[&["get", database, "--json"], arguments].concat())
            .ok();
        let documents = ran.json();
        assert_eq!(documents.len(), 1);
        documents[0]["text"].as_str().unwrap().to_owned()
    };
    place.run(&["export", "db", "-o", "all.jsonl"]).ok();
    place.run(&["create", "copy", "documents"]).ok();
    place.run(&["import", "copy", "all.jsonl"]).ok();
    for database in ["db", "copy"] {
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(
                text_of(&place, database, &["--", id]),
                format!("text of number {n}"),
                "{id:?}"
            );
        }
        assert_eq!(text_of(&place, database, &["--number", "7"]), "the number");
    }
    for (n, id) in ids.iter().enumerate() {
        let deleted = place.run(&["delete", "db", "--", id]).ok();
        assert!(deleted.out.starts_with("1 document"), "{id:?}: {}", deleted.out);
        place.run(&["get", "db", "--", id]).fails(5, "");
        let stat = place.run(&["stat", "db", "--json"]).json();
        assert_eq!(
            stat[0]["collections"][0]["documents"],
            ids.len() - n,
            "one and no other went: {id:?}"
        );
    }
    place.run(&["get", "db", "7"]).fails(5, "--number");
    place.run(&["delete", "db", "a"]).fails(5, "");
    // An empty id is refused at the door or works everywhere.
    let ran = place.feed(&["add", "db", "-"], "{\"id\":\"\",\"text\":\"x\"}");
    match ran.code {
        Some(0) => assert_eq!(text_of(&place, "db", &["--", ""]), "x"),
        _ => assert!(ran.err.contains("-:1: "), "{}", ran.err),
    }
}

// B60, B65
#[test]
fn exit_codes_tell_done_failed_and_partly() {
    let place = Place::new();
    place.write(
        "bad.jsonl",
        "\u{feff}{\"id\":1,\"text\":\"one\"}\r\n\r\nnot json\r\n{\"id\":2,\"text\":\"two\"}",
    );
    place
        .run(&["add", "db", "bad.jsonl"])
        .fails(1, "bad.jsonl:3: not JSON");
    let skipped = place
        .run(&["add", "db", "bad.jsonl", "--skip-bad-lines"])
        .fails(3, "bad.jsonl:3: not JSON");
    assert!(skipped.out.contains("1 refused"), "{}", skipped.out);
    place.write("folder/good.md", "text");
    place.write("folder/latin.txt", b"caf\xe9");
    let partly = place
        .run(&["add", "db", "folder", "--explain"])
        .fails(3, "latin.txt: not UTF-8 at byte 3");
    assert!(partly.out.contains("1 skipped"), "{}", partly.out);
    // Other kinds of files are passed over by rule: nothing is amiss.
    place.write("code/main.rs", "fn main() {}");
    place.write("code/README.md", "text");
    place.run(&["add", "db", "code"]).ok();
    let explained = place.run(&["add", "db", "code", "--explain"]).ok();
    assert!(explained.err.contains("main.rs"), "{}", explained.err);
    // Damage is told by `verify`, with a code of its own.
    place.run(&["compact", "db"]).ok();
    let segments = place.folder.path().join("db/segments");
    let vectors = std::fs::read_dir(&segments)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.metadata().unwrap().len());
    let vectors = vectors.unwrap();
    let mut bytes = std::fs::read(&vectors).unwrap();
    // Behind the header of 4,096 bytes the first section begins; gaps between sections hold nothing.
    bytes[4_096] ^= 0x10;
    std::fs::write(&vectors, bytes).unwrap();
    place.run(&["verify", "db"]).fails(4, "");
}

// B67
#[test]
fn a_collection_goes_out_and_comes_back_the_same() {
    let place = Place::new();
    place
        .run(&[
            "create",
            "db",
            "points",
            "--dimension",
            "3",
            "--layers",
            "a,b",
            "--element",
            "f16",
        ])
        .ok();
    let lines = "{\"id\":1,\"vectors\":[[1,2,3],[4,5,6]],\"title\":\"T\",\"metadata\":{\"x\":[1,null]}}\n{\"id\":\"two\",\"vectors\":[[0.5,0,0],[0,0.25,0]]}\n";
    place.write("in.jsonl", lines);
    place.run(&["import", "db", "in.jsonl"]).ok();
    let exported = place.run(&["export", "db"]).ok();
    place.write("out.jsonl", &exported.out);
    place
        .run(&[
            "create",
            "copy",
            "points",
            "--dimension",
            "3",
            "--layers",
            "a,b",
            "--element",
            "f16",
        ])
        .ok();
    place.run(&["import", "copy", "out.jsonl"]).ok();
    let sorted = |out: &str| {
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        sorted(&place.run(&["export", "copy"]).ok().out),
        sorted(&exported.out)
    );
    place.run(&["export", "db", "-o", "v.npy"]).ok();
    place
        .run(&[
            "create",
            "third",
            "points",
            "--dimension",
            "3",
            "--layers",
            "a,b",
            "--element",
            "f16",
        ])
        .ok();
    place
        .run(&["import", "third", "v.npy", "--ids", "v.ids.jsonl"])
        .ok();
    let first = place
        .run(&["get", "third", "--number", "1", "--json", "--vectors"])
        .ok()
        .json();
    assert_eq!(
        first[0]["vectors"],
        serde_json::json!([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    );
    let hits = place
        .run(&["search", "third", "--vector", "[0,1,0]", "-k", "2", "--json"])
        .ok()
        .json();
    assert_eq!(hits[0]["id"], 1);
    assert_eq!(hits[0]["score"], 5.0);
    // None at all.
    place.run(&["create", "empty", "points", "--dimension", "3"]).ok();
    place.run(&["export", "empty", "-o", "e.npy"]).ok();
    place.run(&["import", "empty", "e.npy"]).ok();
    // Another dimension, and what is no array.
    place.run(&["create", "other", "points", "--dimension", "4"]).ok();
    place.run(&["import", "other", "v.npy"]).fails(1, "");
    place.write("x.npy", "no array");
    place.run(&["import", "other", "x.npy"]).fails(1, "x.npy");
    // Vectors of an encoder carry its name, and no other collection takes them.
    place.write("a.txt", "some text");
    place.run(&["add", "texts", "a.txt"]).ok();
    let foreign = place.run(&["export", "texts"]).ok().out;
    place.write("foreign.jsonl", foreign);
    place
        .run(&["import", "other", "foreign.jsonl"])
        .fails(1, "foreign.jsonl:1: ");
}

#[test]
fn help_teaches_and_completions_are_there() {
    let place = Place::new();
    let help = place.run(&["--help"]).ok();
    assert!(help.out.contains("stratal search notes.stratal") && help.out.contains("Exit codes"));
    for command in [
        "create",
        "add",
        "search",
        "get",
        "delete",
        "stat",
        "verify",
        "compact",
        "export",
        "import",
        "model",
        "completions",
    ] {
        assert!(help.out.contains(command));
        place.run(&[command, "--help"]).ok();
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).ok().out.contains("stratal"));
    }
    assert!(place.run(&["--version"]).ok().out.starts_with("stratal "));
}
