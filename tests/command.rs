//! Promises of the `stratal` command, tried as a user would: as a process, by its output and exit code.
#![cfg(feature = "cli")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Place {
    folder: TempDir,
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The output, which must be JSON lines and nothing else.
    fn json(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    #[track_caller]
    fn ok(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn fails(self, code: i32, message: &str) -> Ran {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        assert!(self.err.contains(message), "{message:?} is not in {:?}", self.err);
        self
    }
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratal"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env(
                "STRATAL_MODEL",
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert"),
            )
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// `add` that reads JSON lines as they come.
    #[cfg(unix)]
    fn add_from_stdin(&self) -> (std::process::Child, std::process::ChildStdin) {
        let mut child = self
            .command(&["add", "db", "-", "-c", "notes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        (child, stdin)
    }

    fn feed(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        Ran::of(child.wait_with_output().unwrap())
    }

    /// A database of so many documents, whose texts are theirs alone.
    fn with_documents(count: usize) -> Place {
        let place = Place::new();
        let lines: String = (0..count)
            .map(|n| {
                format!(
                    "{{\"id\":\"d{n}\",\"title\":\"T{n}\",\"text\":\"passage number {n} {}\"}}\n",
                    "x".repeat(200)
                )
            })
            .collect();
        place.write("docs.jsonl", lines);
        place.run(&["add", "db", "docs.jsonl", "-c", "notes"]).ok();
        place
    }
}

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

/// Sends Ctrl-C, and gives what became of the command, which must end within two seconds.
#[cfg(unix)]
fn interrupted(child: std::process::Child) -> Ran {
    let asked = std::time::Instant::now();
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert!(
        asked.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    ran
}

// B69
#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_within_a_second_and_the_next_run_goes_on() {
    let place = Place::new();
    // Standard input that does not end: the run is surely under way.
    let (child, mut stdin) = place.add_from_stdin();
    let feeder = std::thread::spawn(move || {
        for n in 0..u64::MAX {
            if writeln!(stdin, "{{\"id\":{n},\"text\":\"passage number {n}\"}}").is_err() {
                return;
            }
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let ran = interrupted(child);
    feeder.join().unwrap();
    assert_eq!(ran.code, Some(3), "{} {}", ran.out, ran.err);
    assert!(ran.err.contains("stopped"), "{}", ran.err);
    place.run(&["verify", "db"]).ok();
}

// B69
#[cfg(unix)]
#[test]
fn ctrl_c_is_heard_while_standard_input_is_silent() {
    let place = Place::new();
    let (child, mut stdin) = place.add_from_stdin();
    writeln!(stdin, "{{\"id\":1,\"text\":\"the first\"}}").unwrap();
    stdin.write_all(b"{\"id\":2,\"text\":\"half a l").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let ran = interrupted(child);
    drop(stdin);
    assert_eq!(ran.code, Some(3), "{} {}", ran.out, ran.err);
    assert!(ran.err.contains("stopped"), "{}", ran.err);
    place.run(&["verify", "db"]).ok();
    let got = place.run(&["get", "db", "2", "--number"]);
    assert_eq!(got.code, Some(5), "half a line is no document: {}", got.out);
}

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

// B50, B51, B95
#[test]
fn documents_are_counted_listed_and_deleted_by_filter() {
    let place = Place::new();
    place.run(&["create", "db", "c", "--dimension", "2"]).ok();
    let lines: String = [
        (r#"it's"#, 2019, "en"),
        ("x' OR '1'='1", 2020, "en"),
        ("a\"b", 2021, "en"),
        (r"a\b", 2022, "de"),
    ]
    .iter()
    .map(|(id, year, lang)| {
        let metadata = serde_json::json!({ "year": year, "lang": lang });
        serde_json::json!({ "id": id, "vectors": [[1.0, 0.0]], "metadata": metadata }).to_string() + "\n"
    })
    .collect();
    place.write("docs.jsonl", lines);
    place.run(&["import", "db", "docs.jsonl"]).ok();
    let count = |filter: &str| place.run(&["count", "db", "--filter", filter]).ok();
    assert_eq!(place.run(&["count", "db"]).ok().out, "4\n");
    assert_eq!(count(r#"year >= 2020 and lang = "en""#).out, "2\n");
    assert_eq!(count("@id = \"it's\"").out, "1\n");
    assert_eq!(count(r#"@id in ["a\"b", 'a\\b', "x' OR '1'='1"]"#).out, "3\n");
    let listed = place
        .run(&["list", "db", "--filter", "lang != 'en'", "--json"])
        .ok();
    assert_eq!(
        listed.json(),
        [serde_json::json!({ "id": "a\\b", "metadata": { "year": 2022, "lang": "de" } })]
    );
    assert_eq!(
        place
            .run(&["list", "db", "--limit", "3"])
            .ok()
            .out
            .lines()
            .count(),
        3
    );

    for command in ["count", "list", "delete"] {
        let refused = place.run(&[command, "db", "--filter", "year >= and lang = 'en'"]);
        refused.fails(2, "column 9: expected a value, found `and`; a text stands in quotes: \"and\"\n  year >= and lang = 'en'\n          ^");
        place
            .run(&[command, "db", "--filter", " "])
            .fails(2, "the filter is empty");
    }
    let slip = count("yaer != 2020");
    assert_eq!(
        (
            slip.out.as_str(),
            slip.err.contains("did you mean year, which 4 documents have?")
        ),
        ("4\n", true)
    );
    place
        .run(&["delete", "db", "--filter", "yaer != 2020"])
        .fails(1, "did you mean year");
    place
        .run(&["delete", "db", "x", "--filter", "year = 1"])
        .fails(2, "cannot be used with");
    place.run(&["delete", "db"]).fails(2, "required");
    assert_eq!(place.run(&["count", "db"]).ok().out, "4\n");
    let deleted = place
        .run(&["delete", "db", "--filter", "@id = \"x' OR '1'='1\""])
        .ok();
    assert_eq!(deleted.out, "1 document deleted\n");
    assert_eq!(
        place.run(&["delete", "db", "--filter", "year < 2022"]).ok().out,
        "2 documents deleted\n"
    );
    assert_eq!(place.run(&["list", "db"]).ok().out, "a\\b\n");
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

#[test]
fn an_index_is_built_searched_and_measured() {
    let place = Place::new();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (5000, 16), }";
    let header = format!("{header:117}\n");
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.bytes());
    for at in 0..5000u32 * 16 {
        let value = (at.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        npy.extend(value.to_le_bytes());
    }
    place.write("v.npy", npy);
    place.run(&["create", "db", "c", "--dimension", "16"]).ok();
    place.run(&["import", "db", "v.npy"]).ok();
    let built = place.run(&["index", "db", "--json"]).ok().json();
    assert_eq!(built[0]["documents"], 5000);
    let again = place.run(&["index", "db"]).ok();
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    let vector = format!("[{}]", vec!["0.25"; 16].join(","));
    let search = |more: &[&str]| {
        let arguments = [&["search", "db", "--json", "--vector", &vector], more].concat();
        place.run(&arguments).ok().json()
    };
    let exact = search(&[]);
    assert_eq!(search(&["--recall-target", "1"]), exact);
    let found = search(&["--effort", "200"]);
    assert_eq!(found.len(), 10);
    assert_eq!(found[0], exact[0]);
    search(&["--approximate", "-k", "3"]);
    place
        .run(&["search", "db", "--vector", &vector, "--recall-target", "2"])
        .fails(1, "recall target");
    let told = place
        .run(&["recall", "db", "--sample", "20", "--plot", "r.svg"])
        .ok();
    assert!(told.out.contains("recall@10"), "{}", told.out);
    let picture = std::fs::read_to_string(place.folder.path().join("r.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
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
