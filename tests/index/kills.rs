//! The index and kill -9: documents and index never disagree, wherever a process ends.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stratal::{Collection, Database, Document, Element, Id, IndexProgress};

use crate::numbers::Numbers;

const DIMENSION: usize = 16;

/// The vector that step `step` gives to a document.
fn vector(id: u64, step: u64) -> Vec<f32> {
    Numbers(id << 20 | step).unit(DIMENSION)
}

/// A document's id and the step that wrote it last.
type Model = HashMap<u64, u64>;

enum Step {
    Put(Vec<u64>),
    Delete(Vec<u64>),
    Flush,
    Compact,
    Index,
}

/// Step `number`, the same for whoever asks.
fn step(number: u64) -> Step {
    let mut numbers = Numbers(number << 8);
    let mut ids = |most: u64| {
        let count = 20 + numbers.below(most);
        (0..count).map(|_| numbers.below(7000)).collect::<Vec<_>>()
    };
    match number % 8 {
        0 if number == 0 => Step::Put((0..6000).collect()),
        1 | 5 => Step::Index,
        2 | 6 => Step::Put(ids(400)),
        3 => Step::Delete(ids(300)),
        4 => Step::Flush,
        _ => Step::Compact,
    }
}

fn apply(model: &mut Model, number: u64) {
    match step(number) {
        Step::Put(ids) => model.extend(ids.into_iter().map(|id| (id, number))),
        Step::Delete(ids) => ids.iter().for_each(|id| {
            model.remove(id);
        }),
        _ => {}
    }
}

fn take(collection: &Collection, number: u64) {
    let database = collection.database();
    let mut transaction = database.begin();
    match step(number) {
        Step::Put(ids) => {
            for id in ids {
                let document = Document::new(id).vector(vector(id, number));
                transaction.upsert(collection, document).unwrap();
            }
            transaction.commit().unwrap();
        }
        Step::Delete(ids) => {
            for id in ids {
                transaction.delete(collection, id).unwrap();
            }
            transaction.commit().unwrap();
        }
        Step::Flush => database.flush().unwrap(),
        Step::Compact => collection.compact().unwrap(),
        Step::Index => {
            let told = |progress: &IndexProgress| say(&format!("built {}", progress.done));
            collection.build_index().progress(&told).run().unwrap();
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn open(folder: &Path) -> (Database, Collection) {
    let db = Database::open(folder).unwrap();
    let collection = db.collection("c").open().unwrap();
    (db, collection)
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    std::fs::read_dir(folder.join("segments"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect()
}

/// Whether the documents are those of the model, each with the vector that was written last.
fn holds(collection: &Collection, model: &Model) -> bool {
    let snapshot = collection.snapshot().unwrap();
    snapshot.count() == model.len() as u64
        && snapshot.iter().all(|document| {
            let document = document.unwrap();
            let Id::Number(id) = *document.id() else {
                return false;
            };
            let step = model.get(&id);
            step.is_some_and(|&step| document.layer_vectors().unwrap() == [vector(id, step)])
        })
}

/// The documents are those of the model, and every kind of search says so.
fn check(collection: &Collection, model: &Model) {
    assert!(holds(collection, model));
    let mut ids: Vec<u64> = model.keys().copied().collect();
    ids.sort_unstable();
    let asked: Vec<u64> = ids.iter().copied().step_by(ids.len() / 150).collect();
    let queries = asked.iter().map(|&id| vector(id, model[&id]));
    let search = || collection.search_vectors(queries.clone()).k(5).fields([]);
    let (exact, found) = (search().run().unwrap(), search().effort(60).run().unwrap());
    let mut met = 0;
    for ((&id, exact), found) in asked.iter().zip(&exact).zip(&found) {
        assert_eq!(exact[0].id, Id::from(id));
        assert_eq!(found.len(), 5);
        met += usize::from(found[0].id == Id::from(id));
        for hit in found {
            let Id::Number(other) = hit.id else {
                panic!("{:?}", hit.id)
            };
            let (asked, stored) = (vector(id, model[&id]), vector(other, model[&other]));
            let score: f64 = asked
                .iter()
                .zip(&stored)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum();
            assert!(
                (score - hit.score).abs() < 1e-9,
                "{other} scores {score}, not {}",
                hit.score
            );
        }
    }
    assert!(
        met * 100 >= asked.len() * 98,
        "{met} of {} find themselves",
        asked.len()
    );
}

/// What the killed process is: run by the tests below only.
#[test]
fn child_that_is_killed() {
    let Some(folder) = std::env::var_os("STRATAL_TEST_INDEX") else {
        return;
    };
    let from: u64 = std::env::var("STRATAL_TEST_STEP").unwrap().parse().unwrap();
    let steps: u64 = std::env::var("STRATAL_TEST_STEPS").unwrap().parse().unwrap();
    let (_db, collection) = open(Path::new(&folder));
    for number in from..from + steps {
        say(&format!("begun {number}"));
        take(&collection, number);
    }
    say("through");
}

/// Lets a child take steps, and kills it at the first line that `at` says; returns the last step begun, and
/// whether the child came through.
fn killed(folder: &Path, from: u64, steps: u64, at: impl Fn(&str) -> bool) -> (u64, bool) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::child_that_is_killed", "--nocapture"])
        .env("STRATAL_TEST_INDEX", folder)
        .env("STRATAL_TEST_STEP", from.to_string())
        .env("STRATAL_TEST_STEPS", steps.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = from;
    let (mut through, mut stopped) = (false, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, number)) = line.split_once("begun ") {
            begun = number.trim().parse().unwrap();
        }
        through |= line.contains("through");
        if at(&line) {
            child.kill().unwrap();
            stopped = true;
            break;
        }
    }
    child.wait().unwrap();
    assert!(through || stopped, "it ended by itself");
    (begun, through)
}

fn filled() -> (tempfile::TempDir, Model) {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let collection = db
        .collection("c")
        .vectors(DIMENSION, ["v"], Element::F32)
        .create()
        .unwrap();
    take(&collection, 0);
    let mut model = Model::new();
    apply(&mut model, 0);
    drop(collection);
    db.close().unwrap();
    (home, model)
}

// B12: a build that is cut off leaves documents alone, and the next opening does not stumble over it
#[test]
fn a_build_that_is_killed_leaves_every_document_to_be_found() {
    let (home, model) = filled();
    let folder = home.path().join("db");
    for share in [0.0, 0.3, 0.6, 0.85] {
        let reaches = |line: &str| {
            let done = line
                .split_once("built ")
                .and_then(|(_, done)| done.trim().parse::<f32>().ok());
            done.is_some_and(|done| done >= share)
        };
        let (_, through) = killed(&folder, 1, 1, reaches);
        assert!(!through);
        let (db, collection) = open(&folder);
        assert!(
            files(&folder, "tmp").is_empty(),
            "what the build left is swept away"
        );
        assert!(db.verify().unwrap().is_sound());
        // Without it everything is compared with.
        let search = || collection.search_vector(vector(77, 0)).k(20);
        assert_eq!(search().effort(30).run().unwrap()[0].id, Id::from(77u64));
        assert_eq!(search().run().unwrap()[0].id, Id::from(77u64));
        db.close().unwrap();
    }
    let (db, collection) = open(&folder);
    collection.build_index().run().unwrap();
    assert_eq!(files(&folder, "graph").len(), 1);
    assert!(db.verify().unwrap().is_sound());
    check(&collection, &model);
}

// Documents and index never disagree: random changes, flushes, compactions and builds, killed anywhere
#[test]
fn documents_and_index_agree_wherever_a_process_is_killed() {
    let (home, mut model) = filled();
    let folder = home.path().join("db");
    let mut numbers = Numbers(41);
    let mut next = 1;
    for _ in 0..6 {
        // At any line: within a commit, a flush, a compaction or a build.
        let left = std::cell::Cell::new(1 + numbers.below(24));
        let count = |line: &str| {
            if line.contains("begun ") || line.contains("built ") {
                left.set(left.get() - 1);
            }
            left.get() == 0
        };
        let (begun, through) = killed(&folder, next, 12, count);
        let done = if through { begun + 1 } else { begun };
        (next..done).for_each(|number| apply(&mut model, number));
        next = done;
        let (db, collection) = open(&folder);
        assert!(db.verify().unwrap().is_sound());
        // The step under way is there as a whole, or not at all.
        let mut with = model.clone();
        apply(&mut with, next);
        if !through && !holds(&collection, &model) {
            model = with;
            next += 1;
        }
        check(&collection, &model);
        db.close().unwrap();
    }
    let (_db, collection) = open(&folder);
    collection.build_index().run().unwrap();
    check(&collection, &model);
}
