//! Ingestion promises: everything once, nothing lost, nothing encoded twice, however often it is run or killed.
#![cfg(feature = "encoder")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Cursor};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stratal::ingest::{
    BadLine, IngestError, IngestProgress, IngestReport, Ingestion, PassageLength, SkipReason,
};
use stratal::{Collection, Database, Element, Encoder, Error, Id};
use tempfile::TempDir;

fn encoder() -> Encoder {
    Encoder::from_folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert")).unwrap()
}

fn open(folder: &Path) -> Collection {
    let database = Database::open_or_create(folder.join("db.stratal")).unwrap();
    database
        .collection("notes")
        .encoder(encoder())
        .open_or_create()
        .unwrap()
}

struct Place {
    folder: TempDir,
    notes: Collection,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("docs")).unwrap();
        let notes = open(folder.path());
        Place { folder, notes }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join("docs").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join("docs").join(name)).unwrap();
    }

    fn ingestion(&self) -> Ingestion<'static> {
        Ingestion::new(&self.notes).path(self.folder.path().join("docs"))
    }

    fn add(&self) -> IngestReport {
        self.ingestion().run().unwrap()
    }

    /// Ids and texts of all documents.
    fn all(&self) -> BTreeMap<String, String> {
        all(&self.notes)
    }
}

fn all(notes: &Collection) -> BTreeMap<String, String> {
    let snapshot = notes.snapshot().unwrap();
    let documents: Vec<_> = snapshot.iter().map(|document| document.unwrap()).collect();
    let map: BTreeMap<_, _> = documents
        .iter()
        .map(|document| {
            let id = match document.id() {
                Id::Text(text) => text.clone(),
                Id::Number(number) => number.to_string(),
            };
            (id, document.text().unwrap_or_default().to_owned())
        })
        .collect();
    assert_eq!(map.len(), documents.len(), "a document is there twice");
    map
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(id, text)| (id.to_owned(), text.to_owned()))
        .collect()
}

// B57
#[test]
fn run_again_unchanged_it_encodes_nothing_and_changes_nothing() {
    let place = Place::new();
    place.write("a.md", "# A\n\none\n\n# B\n\ntwo");
    place.write("sub/b.txt", "three");
    place.write(
        "c.jsonl",
        "{\"id\":1,\"text\":\"four\",\"year\":1972}\n{\"id\":\"x\",\"title\":\"T\",\"text\":\"five\"}\n",
    );
    let first = place.add();
    assert_eq!(
        (first.files, first.documents, first.encoded, first.unchanged),
        (3, 5, 5, 0)
    );
    assert!(first.is_complete());
    let expected = map([
        ("a.md#0", "one"),
        ("a.md#1", "two"),
        ("sub/b.txt#0", "three"),
        ("1", "four"),
        ("x", "five"),
    ]);
    assert_eq!(place.all(), expected);
    let seq = place.notes.snapshot().unwrap().seq();
    let again = place.add();
    assert_eq!(
        (
            again.documents,
            again.encoded,
            again.unchanged,
            again.moved,
            again.removed
        ),
        (5, 0, 5, 0, 0)
    );
    assert_eq!(place.all(), expected);
    assert_eq!(
        place.notes.snapshot().unwrap().seq(),
        seq,
        "a run without work commits nothing"
    );
    let document = place.notes.get(1u64).unwrap().unwrap();
    assert_eq!(document.metadata()["year"], 1972);
    assert_eq!(place.notes.get("a.md#1").unwrap().unwrap().title(), Some("B"));
    // By another path to the same folder, and after reopening.
    let path = place.folder.path().join("docs/../docs/./");
    let other = Ingestion::new(&place.notes).path(path).run().unwrap();
    assert_eq!((other.encoded, other.unchanged), (0, 5));
}

// B56
#[test]
fn only_passages_of_the_present_text_answer() {
    let place = Place::new();
    place.write("a.md", "# A\n\none\n\n# B\n\ntwo\n\n# C\n\nthree");
    place.write("keep.txt", "kept");
    assert_eq!(place.add().encoded, 4);
    place.write("a.md", "# A\n\none");
    let shorter = place.add();
    assert_eq!((shorter.encoded, shorter.removed, shorter.unchanged), (0, 2, 2));
    assert_eq!(place.all(), map([("a.md#0", "one"), ("keep.txt#0", "kept")]));
    place.write("a.md", "");
    assert_eq!(place.add().removed, 1);
    assert_eq!(place.all(), map([("keep.txt#0", "kept")]));
    // Split another way.
    let sentence = "One two three four five six seven eight nine. ";
    place.write("keep.txt", sentence.repeat(4));
    assert_eq!(place.add().encoded, 1);
    let length = PassageLength::words(12).unwrap();
    let split = place.ingestion().passage_length(length).run().unwrap();
    assert_eq!((split.encoded + split.moved, split.removed), (4, 0));
    assert_eq!(place.all().len(), 4);
    let back = place.add();
    assert_eq!((back.encoded, back.removed, place.all().len()), (1, 3, 1));
}

#[test]
fn a_file_that_is_gone_goes_when_asked_and_is_told_of_otherwise() {
    let place = Place::new();
    place.write("a.txt", "one");
    place.write(
        "b.jsonl",
        "{\"id\":7,\"text\":\"two\"}\n{\"id\":8,\"text\":\"three\"}",
    );
    place.write("c.txt", "four");
    place.add();
    place.remove("a.txt");
    place.remove("b.jsonl");
    let told = place.add();
    assert_eq!(
        (told.gone_files, told.left_of_gone_files, told.removed),
        (2, 3, 0)
    );
    assert_eq!(place.all().len(), 4);
    // Another folder's run has nothing to say about it, and takes nothing away.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Ingestion::new(&place.notes)
        .path(elsewhere.path())
        .sync(true)
        .run()
        .unwrap();
    assert_eq!((other.removed, other.gone_files), (0, 0));
    let synced = place.ingestion().sync(true).run().unwrap();
    assert_eq!((synced.removed, synced.gone_files), (3, 0));
    assert_eq!(place.all(), map([("c.txt#0", "four")]));
}

#[test]
fn text_that_moved_keeps_its_vectors() {
    let place = Place::new();
    place.write("a.md", "# A\n\none\n\n# B\n\ntwo");
    place.add();
    let before = place
        .notes
        .get("a.md#1")
        .unwrap()
        .unwrap()
        .layer_vectors()
        .unwrap();
    // A section in front: the other passages' numbers move.
    place.write("a.md", "# New\n\nzero\n\n# A\n\none\n\n# B\n\ntwo");
    let report = place.add();
    assert_eq!((report.encoded, report.moved, report.unchanged), (1, 2, 0));
    assert_eq!(
        place.all(),
        map([("a.md#0", "zero"), ("a.md#1", "one"), ("a.md#2", "two")])
    );
    assert_eq!(
        place
            .notes
            .get("a.md#2")
            .unwrap()
            .unwrap()
            .layer_vectors()
            .unwrap(),
        before
    );
    // The file under another name.
    std::fs::rename(
        place.folder.path().join("docs/a.md"),
        place.folder.path().join("docs/z.md"),
    )
    .unwrap();
    let report = place.ingestion().sync(true).run().unwrap();
    assert_eq!((report.encoded, report.moved, report.removed), (0, 3, 3));
    assert_eq!(
        place.all(),
        map([("z.md#0", "zero"), ("z.md#1", "one"), ("z.md#2", "two")])
    );
    // The whole folder under another name: the same ids, and nothing to encode.
    std::fs::rename(
        place.folder.path().join("docs"),
        place.folder.path().join("moved"),
    )
    .unwrap();
    let report = Ingestion::new(&place.notes)
        .path(place.folder.path().join("moved"))
        .run()
        .unwrap();
    assert_eq!((report.encoded, report.moved, report.skipped), (0, 3, 0));
    let source = place
        .notes
        .get("z.md#0")
        .unwrap()
        .unwrap()
        .source()
        .unwrap()
        .name
        .clone();
    assert!(source.ends_with("moved/z.md"), "{source}");
}

#[test]
fn two_folders_with_files_of_one_name_do_not_overwrite_each_other() {
    let place = Place::new();
    place.write("one/README.md", "first");
    place.write("two/README.md", "second");
    let docs = place.folder.path().join("docs");
    Ingestion::new(&place.notes).path(docs.join("one")).run().unwrap();
    let refused = Ingestion::new(&place.notes).path(docs.join("two")).run().unwrap();
    assert!(!refused.is_complete());
    match &refused.skips[..] {
        [skip] => {
            assert!(matches!(&skip.reason, SkipReason::IdTaken { by, .. } if by.ends_with("one/README.md")))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(place.all(), map([("README.md#0", "first")]));
    let both = Ingestion::new(&place.notes)
        .path(docs.join("two"))
        .prefix("two/")
        .run()
        .unwrap();
    assert_eq!(both.encoded, 1);
    assert_eq!(
        place.all(),
        map([("README.md#0", "first"), ("two/README.md#0", "second")])
    );
}

// B60
#[test]
fn a_bad_line_is_fatal_or_counted_as_the_caller_chose() {
    let place = Place::new();
    let lines = "{\"id\":1,\"text\":\"one\"}\nnot json\n[1]\n\n{\"id\":2}\n{\"id\":3,\"text\":\" \"}\n{\"id\":4,\"text\":\"four\",\"vector\":[1]}\n{\"id\":5,\"text\":\"five\"}";
    place.write("a.jsonl", lines);
    match place.ingestion().run() {
        Err(Error::Ingest(IngestError::Line { file, line: 2, .. })) => {
            assert!(file.ends_with("docs/a.jsonl"), "{file}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        place.all(),
        map([("1", "one")]),
        "what was good before it is committed"
    );
    let report = place.ingestion().bad_line(BadLine::Skip).run().unwrap();
    assert_eq!((report.encoded, report.unchanged, report.refused), (1, 1, 5));
    let place_of = |problem: &'_ String| {
        let at = problem.find("a.jsonl:").unwrap();
        problem[at..at + 9].to_owned()
    };
    let places: BTreeSet<String> = report.problems.iter().map(place_of).collect();
    assert_eq!(
        places,
        BTreeSet::from([2, 3, 5, 6, 7].map(|line| format!("a.jsonl:{line}")))
    );
    assert_eq!(place.all(), map([("1", "one"), ("5", "five")]));
    assert!(!report.is_complete());
    // While a line cannot be read, nothing is taken for gone: it may be the one.
    place.write("a.jsonl", "{\"id\":1,\"text\":\"one\"}\n{\"id\":5,\"te");
    let report = place.ingestion().bad_line(BadLine::Skip).run().unwrap();
    assert_eq!((report.removed, report.refused), (0, 1));
    assert_eq!(place.all().len(), 2);
    place.write("a.jsonl", "{\"id\":1,\"text\":\"one\"}\n");
    assert_eq!(place.add().removed, 1);
}

#[test]
fn an_id_that_an_earlier_file_has_is_refused() {
    let place = Place::new();
    place.write("a.jsonl", "{\"id\":1,\"text\":\"one\"}");
    place.write(
        "b.jsonl",
        "{\"id\":1,\"text\":\"other\"}\n{\"id\":\"1\",\"text\":\"another kind of id\"}",
    );
    let report = place.ingestion().bad_line(BadLine::Skip).run().unwrap();
    assert_eq!((report.refused, report.encoded), (1, 2));
    assert!(
        report.problems[0].contains("docs/b.jsonl:1: the id 1 again"),
        "{:?}",
        report.problems
    );
    assert_eq!(place.notes.get(1u64).unwrap().unwrap().text(), Some("one"));
    let again = place.ingestion().bad_line(BadLine::Skip).run().unwrap();
    assert_eq!((again.encoded, again.unchanged, again.removed), (0, 2, 0));
}

// B65
#[test]
fn files_that_are_no_text_are_named_and_the_others_added() {
    let place = Place::new();
    place.write("good.md", "# G\n\ntext");
    place.write("latin.txt", b"caf\xe9");
    place.write("image.md", b"\x89PNG\r\n\x1a\n\0");
    place.write("code.rs", "fn main() {}");
    let report = place.add();
    assert_eq!(
        (report.encoded, report.skipped, report.skipped_in_trouble),
        (1, 3, 2)
    );
    assert!(!report.is_complete());
    assert_eq!(place.all(), map([("good.md#0", "text")]));
    // A file that cannot be read for once keeps its passages.
    place.write("good.md", b"caf\xe9");
    let report = place.ingestion().sync(true).run().unwrap();
    assert_eq!((report.removed, report.skipped_in_trouble), (0, 3));
    assert_eq!(place.all().len(), 1);
    assert!(matches!(
        place.ingestion().path("not/there").run(),
        Err(Error::Ingest(IngestError::Io { .. }))
    ));
}

// B63
#[test]
fn every_word_of_a_folder_of_markdown_is_found_in_its_passages() {
    let place = Place::new();
    let mut text = String::new();
    for section in 0..40 {
        text += &format!("# Heading{section}\n\n");
        for word in 0..30 {
            text += &format!("word{section}x{word} ");
        }
        text += "\n\n";
    }
    place.write("long.md", &text);
    let report = place
        .ingestion()
        .passage_length(PassageLength::words(20).unwrap())
        .run()
        .unwrap();
    assert!(report.is_complete());
    let stored: Vec<_> = place
        .notes
        .snapshot()
        .unwrap()
        .iter()
        .map(|document| document.unwrap())
        .collect();
    let words: BTreeSet<String> = stored
        .iter()
        .flat_map(|document| {
            [
                document.text().unwrap_or_default(),
                document.title().unwrap_or_default(),
            ]
        })
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for section in 0..40 {
        assert!(words.contains(&format!("Heading{section}")));
        for word in 0..30 {
            assert!(words.contains(&format!("word{section}x{word}")));
        }
    }
}

#[test]
fn a_stream_is_read_as_lines_and_removes_nothing() {
    let place = Place::new();
    let read = |lines: &'static str| {
        Ingestion::new(&place.notes)
            .lines("standard input", Cursor::new(lines.as_bytes()))
            .run()
    };
    assert_eq!(
        read("{\"id\":1,\"text\":\"one\"}\n{\"id\":2,\"text\":\"two\"}")
            .unwrap()
            .encoded,
        2
    );
    let report = read("{\"id\":2,\"text\":\"two\"}\n{\"id\":3,\"text\":\"three\"}").unwrap();
    assert_eq!((report.encoded, report.unchanged, report.removed), (1, 1, 0));
    assert_eq!(place.all().len(), 3);
    let error = read("{\"id\":4,\"text\":\"four\"}\n?").unwrap_err().to_string();
    assert!(error.starts_with("standard input:2: "), "{error}");
}

#[test]
fn vectors_that_lines_bring_are_stored_and_a_strangers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(folder.path().join("db")).unwrap();
    let points = database
        .collection("points")
        .vectors(2, ["v"], Element::F32)
        .create()
        .unwrap();
    let lines = "{\"id\":1,\"vector\":[1,0]}\n{\"id\":2,\"vectors\":[[0,1]],\"text\":\"t\"}\n{\"id\":3,\"vector\":[1,2,3]}\n{\"id\":4,\"text\":\"t\"}\n{\"id\":5,\"vector\":[1,1],\"made_by\":\"another\"}";
    let run = || {
        let lines = Cursor::new(lines.as_bytes());
        Ingestion::new(&points)
            .lines("l", lines)
            .bad_line(BadLine::Skip)
            .run()
            .unwrap()
    };
    let report = run();
    assert_eq!(
        (report.brought_vectors, report.encoded, report.refused),
        (2, 0, 3),
        "the two that the collection refused are not stored with theirs"
    );
    assert_eq!((report.stored, points.count().unwrap()), (2, 2));
    assert_eq!(
        points.get(2u64).unwrap().unwrap().layer_vectors().unwrap(),
        [[0.0, 1.0]]
    );
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.starts_with("l:3: ") && problem.contains("3 components"))
    );
    assert_eq!(run().unchanged, 2);
}

#[test]
fn a_passage_of_which_the_encoder_can_read_nothing_is_refused_alone() {
    let place = Place::new();
    place.write(
        "a.jsonl",
        "{\"id\":1,\"text\":\"one\"}\n{\"id\":2,\"text\":\"\\u0001\\u0002\"}\n{\"id\":3,\"text\":\"three\"}",
    );
    let report = place.ingestion().bad_line(BadLine::Skip).run().unwrap();
    assert_eq!((report.encoded, report.refused), (2, 1));
    assert!(
        report.problems[0].contains("docs/a.jsonl:2: "),
        "{:?}",
        report.problems
    );
    assert_eq!(place.all(), map([("1", "one"), ("3", "three")]));
}

fn two_thousand() -> String {
    (0..2_000)
        .map(|n| format!("{{\"id\":{n},\"text\":\"passage number {n} of many\"}}\n"))
        .collect()
}

// B69
#[test]
fn stopped_it_ends_at_once_and_goes_on_where_it_was() {
    let place = Place::new();
    place.write("a.jsonl", two_thousand());
    let stop = AtomicBool::new(false);
    let asked = Mutex::new(None);
    let last = AtomicU64::new(0);
    let progress = |progress: &IngestProgress| {
        assert!(
            progress.encoded >= last.swap(progress.encoded, Ordering::Relaxed),
            "the figures only rise"
        );
        assert!(progress.bytes_done <= progress.bytes_total);
        // The callback may use the database (B96).
        assert!(place.notes.count().unwrap() <= 2_000);
        if progress.encoded >= 700 && !stop.swap(true, Ordering::Relaxed) {
            *asked.lock().unwrap() = Some(Instant::now());
        }
    };
    let report = place.ingestion().cancel(&stop).progress(&progress).run().unwrap();
    assert!(report.stopped && !report.is_complete());
    assert!(
        asked.lock().unwrap().unwrap().elapsed() < Duration::from_secs(1),
        "heard late"
    );
    let stored = place.all().len() as u64;
    assert_eq!(report.stored, stored);
    assert!((256..2_000).contains(&stored), "{stored}");
    let rest = place.add();
    assert_eq!((rest.unchanged, rest.encoded), (stored, 2_000 - stored));
    assert!(report.encoded + rest.encoded <= 2_000 + 2 * 256);
    assert_eq!(place.all().len(), 2_000);
    assert_eq!(place.add().encoded, 0);
}

#[test]
fn a_limit_ends_a_run_and_the_next_goes_on() {
    let place = Place::new();
    place.write("a.jsonl", two_thousand());
    place.write("b.txt", "last");
    let report = place.ingestion().limit(300).run().unwrap();
    assert!(report.limited && report.encoded == 300, "{report:?}");
    let report = place.ingestion().limit(300).run().unwrap();
    assert_eq!((report.encoded, report.unchanged, report.removed), (300, 300, 0));
    let rest = place.ingestion().limit(1_401).run().unwrap();
    assert_eq!((rest.encoded, rest.limited), (1_401, false));
    assert_eq!(place.all().len(), 2_001);
}

/// Not a test of its own: what the test below runs as a process to be killed.
#[test]
fn child_that_ingests_until_it_is_killed() {
    let Ok(folder) = std::env::var("STRATAL_TEST_INGEST") else {
        return;
    };
    let folder = Path::new(&folder);
    let notes = open(folder);
    let progress = |progress: &IngestProgress| {
        println!("encoded {}", progress.encoded);
        std::thread::sleep(Duration::from_millis(2));
    };
    let report = Ingestion::new(&notes)
        .path(folder.join("docs"))
        .progress(&progress)
        .run()
        .unwrap();
    println!("ended {}", report.encoded);
}

// B69
#[test]
fn killed_at_any_point_nothing_is_lost_and_nothing_is_there_twice() {
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("a.jsonl"), two_thousand()).unwrap();
    std::fs::write(docs.join("b.md"), "# T\n\nlast").unwrap();
    drop(open(folder.path()));
    let mut before = 0;
    let mut encoded_in_all = 0;
    for kill_at in [1, 600, 600, u64::MAX] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_ingests_until_it_is_killed", "--nocapture"])
            .env("STRATAL_TEST_INGEST", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut encoded = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((_, number)) = line.split_once("encoded ") {
                encoded = number.trim().parse().unwrap_or(encoded);
            }
            if encoded >= kill_at {
                child.kill().unwrap();
                break;
            }
        }
        let status = child.wait().unwrap();
        assert_eq!(status.success(), kill_at == u64::MAX);
        encoded_in_all += encoded;
        let notes = open(folder.path());
        let stored = all(&notes);
        assert!(stored.len() >= before, "what was committed is there");
        before = stored.len();
        assert!(
            stored
                .iter()
                .all(|(id, text)| id == "b.md#0" || *text == format!("passage number {id} of many"))
        );
        if let Some((id, text)) = stored.iter().next() {
            // Searchable in between, by its own words.
            let hits = notes.search(text.clone()).k(5).run().unwrap();
            assert!(!hits.is_empty(), "{id}");
        }
    }
    assert_eq!(before, 2_001);
    assert!(encoded_in_all <= 2_001 + 3 * 512, "{encoded_in_all}");
    let notes = open(folder.path());
    assert_eq!(Ingestion::new(&notes).path(&docs).run().unwrap().encoded, 0);
}

impl Place {
    /// A file that was last written long ago.
    fn write_settled(&self, name: &str, content: &str) {
        self.write(name, content);
        let file = std::fs::File::options()
            .write(true)
            .open(self.folder.path().join("docs").join(name))
            .unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        file.set_modified(long_ago).unwrap();
    }

    fn reopened(self) -> Place {
        let Place { folder, notes } = self;
        notes.database().close().unwrap();
        drop(notes);
        let notes = open(folder.path());
        Place { folder, notes }
    }
}

// B57
#[test]
fn files_of_the_same_size_and_time_are_not_read_again_unless_somebody_else_has_written() {
    let place = Place::new();
    place.write_settled("a.md", "# One\n\nfirst text\n");
    place.write_settled("b.md", "# Two\n\nother text\n");
    assert_eq!(place.add().encoded, 2);
    // The same size and time: only a reader of the file could tell.
    place.write_settled("a.md", "# One\n\nthird text\n");
    let again = place.add();
    assert_eq!(
        (again.files, again.documents, again.unchanged, again.encoded),
        (2, 2, 2, 0)
    );
    let place = place.reopened();
    let again = place.add();
    assert_eq!((again.unchanged, again.encoded), (2, 0), "also after reopening");
    assert_eq!(
        place
            .ingestion()
            .passage_length(PassageLength::words(40).unwrap())
            .run()
            .unwrap()
            .encoded,
        1
    );

    place.write_settled("b.md", "# Two\n\nof another length\n");
    assert_eq!(place.add().encoded, 1, "by size");
    let id = place.all().into_keys().next().unwrap();
    place.notes.delete(id.as_str()).unwrap();
    assert_eq!(place.add().encoded, 1, "what somebody else deleted comes back");
    assert_eq!(place.all().len(), 2);

    place.remove("a.md");
    for _ in 0..2 {
        assert_eq!(place.add().left_of_gone_files, 1, "told each time");
    }
    assert_eq!(place.ingestion().sync(true).run().unwrap().removed, 1);
    assert_eq!(place.ingestion().sync(true).run().unwrap().removed, 0);
    assert_eq!(place.all().len(), 1);

    // Without the catalog all is found again from the documents.
    std::fs::remove_dir_all(place.folder.path().join("db.stratal/catalog")).ok();
    let place = place.reopened();
    let again = place.add();
    assert_eq!((again.unchanged, again.encoded), (1, 0));
}
