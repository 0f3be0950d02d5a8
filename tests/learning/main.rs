//! Learning promises: the encoder gets better or stays as it was; killed or stopped anywhere, it goes on to the same end.
//! The encoder is a tiny random BERT.
#![cfg(feature = "encoder")]

mod generations;
mod refusals;
mod t5;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stratal::ingest::Ingestion;
use stratal::learning::{Candidate, Learning, LearningProgress, Metric, Outcome, Phase, Verdict, When};
use stratal::training::TrainingOptions;
use stratal::{Collection, Database, Document, Element, Encoder, Error, Similarity};

const WORDS: [&str; 16] = [
    "tree", "leaves", "depth", "page", "log", "vector", "layer", "database", "b", "c", "d", "e", "f", "g",
    "h", "i",
];

fn encoder() -> Encoder {
    Encoder::from_folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert"))
        .unwrap()
        .normalize(true)
}

/// What questions call these words: an encoder that has learned nothing finds nothing.
const ASKED: [&str; 16] = [
    "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x", "y",
];

/// A text that says its number in words of its own.
fn words(number: u64, length: usize) -> String {
    said(&WORDS, number, length)
}

fn question(number: u64) -> String {
    said(&ASKED, number, 4)
}

fn said(words: &[&str; 16], number: u64, length: usize) -> String {
    let word = |place: usize| words[(number as usize >> (2 * place)) % 4 + 4 * (place % 4)];
    (0..length).map(word).collect::<Vec<_>>().join(" ")
}

fn filled(path: PathBuf, documents: u64, pairs: u64) -> (Database, Collection) {
    filled_by(encoder(), path, documents, pairs)
}

fn filled_by(encoder: Encoder, path: PathBuf, documents: u64, pairs: u64) -> (Database, Collection) {
    let db = Database::create(path).unwrap();
    let notes = db.collection("notes").encoder(encoder).create().unwrap();
    let mut tx = db.begin();
    for number in 0..documents {
        tx.insert(
            &notes,
            Document::new(number)
                .text(words(number, 8))
                .title(number.to_string()),
        )
        .unwrap();
    }
    for number in 0..pairs {
        tx.pair(&notes, question(number), number).unwrap();
    }
    tx.commit().unwrap();
    (db, notes)
}

fn policy(steps: u64) -> Learning {
    Learning {
        held_out: 0.3,
        metric: Metric::Mrr10,
        training: TrainingOptions {
            steps,
            batch: 16,
            chunk: 8,
            learning_rate: 3e-3,
            hard_negatives: 1,
            question_tokens: 16,
            passage_tokens: 16,
            checkpoint_every: 2,
            ..TrainingOptions::default()
        },
        ..Learning::default()
    }
}

fn concluded(outcome: Outcome) -> Candidate {
    match outcome {
        Outcome::Concluded(candidate) => *candidate,
        Outcome::Stopped(phase) => panic!("it stopped while {phase:?}"),
    }
}

#[test]
fn a_candidate_takes_over_if_and_only_if_it_is_better_by_more_than_its_error() {
    let mut verdicts = Vec::new();
    // A step so small changes nothing.
    for (steps, learning_rate) in [(1, 1e-9), (300, 3e-3)] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("db");
        let (db, notes) = filled(path.clone(), 200, 150);
        let before = (
            notes.generation(),
            notes.search("the one of tree page").run().unwrap(),
        );
        let phases = std::sync::Mutex::new(Vec::new());
        let progress = |now: &LearningProgress| {
            assert!(now.done <= now.total);
            let mut phases = phases.lock().unwrap();
            if phases.last() != Some(&now.phase) {
                phases.push(now.phase);
            }
        };
        let mut policy = policy(steps);
        policy.training.learning_rate = learning_rate;
        let candidate = concluded(notes.learn_by(policy).progress(&progress).run().unwrap());
        let judgement = candidate.judgement.unwrap();
        assert_eq!(candidate.steps, steps);
        assert_eq!((candidate.pairs, candidate.made_pairs), (150, false));
        assert!(
            judgement.questions >= 20 && judgement.passages == 200,
            "{judgement:?}"
        );
        assert!((judgement.after.mrr_10 - judgement.before.mrr_10 - judgement.gain).abs() < 1e-9);
        match &candidate.verdict {
            Verdict::Accepted { generation } => {
                assert!(judgement.low > 0.0);
                assert_eq!(Some(notes.generation()), candidate.hash);
                assert_eq!(
                    phases.lock().unwrap()[..],
                    [Phase::Training, Phase::Judging, Phase::Reembedding]
                );
                let listed = notes.generations().unwrap();
                assert!(
                    listed
                        .iter()
                        .any(|g| g.number == *generation && g.answers && g.missing == 0)
                );
                // A program that opens the collection with the encoder it was made with is served.
                db.collection("notes").encoder(encoder()).open().unwrap();
            }
            Verdict::NotBetter => {
                assert!(judgement.low <= 0.0);
                assert_eq!(
                    (
                        notes.generation(),
                        notes.search("the one of tree page").run().unwrap()
                    ),
                    before
                );
                assert_eq!(notes.generations().unwrap().len(), 1);
            }
            other => panic!("{other:?}"),
        }
        let status = notes.learning().unwrap();
        assert_eq!(
            (status.phase, status.history.as_slice()),
            (None, &[candidate.clone()][..])
        );
        assert!(!path.join("learning/1").exists(), "nothing is left of the run");
        db.close().unwrap();
        drop((notes, db));
        let db = Database::open(&path).unwrap();
        let notes = db.collection("notes").open().unwrap();
        assert_eq!(notes.learning().unwrap().history.len(), 1);
        assert_eq!(notes.search("the one of tree page").run().unwrap().len(), 10);
        verdicts.push(candidate.verdict);
    }
    assert_eq!(verdicts[0], Verdict::NotBetter);
    assert!(matches!(verdicts[1], Verdict::Accepted { .. }), "{verdicts:?}");
}

#[test]
fn stopped_at_any_point_it_goes_on_to_the_same_end() {
    let home = tempfile::tempdir().unwrap();
    let whole = {
        let (_db, notes) = filled(home.path().join("whole"), 200, 150);
        concluded(notes.learn_by(policy(12)).run().unwrap())
    };
    let path = home.path().join("stopped");
    let (mut db, mut notes) = filled(path.clone(), 200, 150);
    let mut stops = 0;
    let end = loop {
        let stop = AtomicBool::new(false);
        let told = AtomicU64::new(0);
        let patience = 3 + 2 * stops;
        let progress = |_: &LearningProgress| {
            if told.fetch_add(1, Ordering::Relaxed) == patience {
                stop.store(true, Ordering::Relaxed);
            }
        };
        match notes
            .learn_by(policy(12))
            .cancel(&stop)
            .progress(&progress)
            .run()
            .unwrap()
        {
            Outcome::Concluded(candidate) => break *candidate,
            Outcome::Stopped(phase) => assert_eq!(notes.learning().unwrap().phase, Some(phase)),
        }
        stops += 1;
        assert!(stops < 50, "it gets somewhere");
        // As a kill leaves it.
        drop((notes, db));
        db = Database::open(&path).unwrap();
        notes = db.collection("notes").open().unwrap();
    };
    assert!(stops > 1);
    let of = |candidate: &Candidate| {
        (
            candidate.hash.clone(),
            candidate.steps,
            candidate.judgement,
            candidate.verdict.clone(),
        )
    };
    assert_eq!(of(&end), of(&whole));
    drop(db);
}

#[test]
fn too_little_to_learn_from_is_told_and_strangers_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let (db, notes) = filled(home.path().join("db"), 12, 3);
    let candidate = concluded(notes.learn_by(policy(4)).run().unwrap());
    assert!(
        matches!(&candidate.verdict, Verdict::TooLittle { what } if what.contains("3 pairs")),
        "{candidate:?}"
    );
    for wrong in [
        Learning {
            held_out: 0.0,
            ..policy(1)
        },
        Learning {
            cpu_share: 1.5,
            ..policy(1)
        },
        Learning {
            judged_passages: 0,
            ..policy(1)
        },
        Learning {
            when: When::After {
                pairs: 0,
                documents: 0,
            },
            ..policy(1)
        },
    ] {
        assert!(matches!(notes.set_learning(&wrong), Err(Error::Invalid { .. })));
        assert!(matches!(notes.learn_by(wrong).run(), Err(Error::Invalid { .. })));
    }
    let off = Learning {
        when: When::Off,
        ..policy(1)
    };
    notes.set_learning(&off).unwrap();
    let refused = notes.learn().run().unwrap_err().to_string();
    assert!(refused.contains("off"), "{refused}");
    let bare = db
        .collection("bare")
        .vectors(2, ["v"], Element::F32)
        .create()
        .unwrap();
    for refused in [
        bare.learn().run().unwrap_err(),
        bare.set_learning(&policy(1)).unwrap_err(),
    ] {
        assert!(matches!(refused, Error::NoEncoder { .. }), "{refused}");
        let told = refused.to_string();
        assert!(
            told.contains("none to train") && !told.contains("search"),
            "{told}"
        );
    }
    db.drop_collection("notes").unwrap();
    let again = db.collection("notes").encoder(encoder()).create().unwrap();
    assert!(again.learning().unwrap().history.is_empty());
}

#[test]
fn by_itself_it_learns_when_enough_has_come_in_and_stops_with_the_database() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let (db, notes) = filled(path.clone(), 200, 100);
    let when = When::After {
        pairs: 120,
        documents: 0,
    };
    notes.set_learning(&Learning { when, ..policy(6) }).unwrap();
    notes.pair("the one of b", 120u64).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(notes.learning().unwrap().history.is_empty(), "not yet");
    for number in 121..145u64 {
        notes.pair(question(number), number).unwrap();
    }
    let asked = Instant::now();
    while notes.learning().unwrap().history.is_empty() {
        assert!(
            asked.elapsed() < Duration::from_secs(60),
            "{:?}",
            notes.learning().unwrap()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(notes.learning().unwrap().policy.when, when);
    // A run under way ends with the last handle, and is gone on with after opening.
    notes
        .set_learning(&Learning {
            when: When::After {
                pairs: 1,
                documents: 0,
            },
            ..policy(100_000)
        })
        .unwrap();
    notes.pair("the vector", 7u64).unwrap();
    while notes.learning().unwrap().phase.is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = Instant::now();
    drop((notes, db));
    assert!(asked.elapsed() < Duration::from_secs(10));
    let db = Database::open(&path).unwrap();
    let notes = db.collection("notes").open().unwrap();
    assert_eq!(notes.learning().unwrap().phase, Some(Phase::Training));
    db.close().unwrap();
}

#[test]
fn one_call_ingests_documents_and_pairs_and_learns_from_them() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let notes = db.collection("notes").encoder(encoder()).create().unwrap();
    let corpus: String = (0..200)
        .map(|n| {
            format!(
                "{{\"id\":\"d{n}\",\"title\":\"{n}\",\"text\":\"{}\"}}\n",
                words(n, 8)
            )
        })
        .collect();
    let pairs: String = (0..150)
        .map(|n| {
            format!(
                "{{\"id\":\"q{n}\",\"question\":\"{}\",\"passage_id\":\"d{n}\",\"answers\":[]}}\n",
                question(n)
            )
        })
        .collect();
    let (corpus_file, pairs_file) = (home.path().join("corpus.jsonl"), home.path().join("pairs.jsonl"));
    std::fs::write(&corpus_file, corpus).unwrap();
    std::fs::write(&pairs_file, &pairs).unwrap();
    let documents = Ingestion::new(&notes).path(&corpus_file).pairs(&pairs_file);
    let (report, learned) = stratal::learning::ingest(documents, notes.learn_by(policy(6))).unwrap();
    assert_eq!((report.documents, report.pairs), (200, 150));
    assert!(matches!(learned, Some(Outcome::Concluded(_))));
    assert_eq!(notes.learning().unwrap().history.len(), 1);
    // A pair that names nothing is told with its line.
    std::fs::write(
        &pairs_file,
        format!("{pairs}{{\"id\":1,\"question\":\"which?\",\"passage_id\":\"gone\"}}\n"),
    )
    .unwrap();
    let refused = Ingestion::new(&notes)
        .pairs(&pairs_file)
        .run()
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("pairs.jsonl:151") && refused.contains("gone"),
        "{refused}"
    );
    assert_eq!(
        notes.learning().unwrap().pairs,
        150,
        "what was there already is there once"
    );
}

/// The folder as a kill at this moment would leave it.
fn copied(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copied(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn killed_between_the_cutover_and_its_note_it_concludes_the_same_run_and_begins_no_other() {
    let home = tempfile::tempdir().unwrap();
    let (path, killed) = (home.path().join("db"), home.path().join("killed"));
    let (_db, notes) = filled(path.clone(), 200, 150);
    let mut policy = policy(300);
    policy.training.learning_rate = 3e-3;
    let progress = |now: &LearningProgress| {
        // Told last when another generation answers and nothing of it is noted.
        if now.phase == Phase::Reembedding {
            copied(&path, &killed);
        }
    };
    let whole = concluded(notes.learn_by(policy).progress(&progress).run().unwrap());
    assert!(matches!(whole.verdict, Verdict::Accepted { .. }));

    let db = Database::open(&killed).unwrap();
    let notes = db.collection("notes").open().unwrap();
    assert_eq!(Some(notes.generation()), whole.hash, "the cutover is there");
    assert_eq!(notes.learning().unwrap().phase, Some(Phase::Reembedding));
    assert_eq!(concluded(notes.learn().run().unwrap()), whole);
    let status = notes.learning().unwrap();
    assert_eq!((status.phase, status.history.len()), (None, 1));
    assert_eq!(
        notes.generations().unwrap().len(),
        2,
        "the first stays to go back to"
    );
}

/// Words that questions share with their documents: an encoder that has learnt nothing else is better for weighing them.
#[test]
fn a_candidate_may_weigh_words() {
    let home = tempfile::tempdir().unwrap();
    let (_db, notes) = filled(home.path().join("db"), 200, 0);
    let mut tx = notes.database().begin();
    for number in 0..150 {
        tx.pair(&notes, words(number, 4), number).unwrap();
    }
    tx.commit().unwrap();
    let mut policy = policy(1);
    policy.training.learning_rate = 1e-9;
    policy.training.lexical = Some(stratal::encoder::LexicalOptions {
        dimension: 128,
        weight: 0.4,
    });
    notes.set_learning(&policy).unwrap();
    assert_eq!(notes.learning().unwrap().policy, policy);
    let dimension = notes.dimension();
    let candidate = concluded(notes.learn().run().unwrap());
    assert!(
        matches!(candidate.verdict, Verdict::Accepted { .. }),
        "{candidate:?}"
    );
    assert_eq!(notes.dimension(), dimension + 128);
}

/// A candidate is judged by what the collection's searches would find, so how vectors come to length 1 changes nothing.
#[test]
fn judging_compares_vectors_as_they_are_stored() {
    let home = tempfile::tempdir().unwrap();
    let mut policy = policy(1);
    policy.training.learning_rate = 1e-9;
    let judged = |name: &str, normalize: bool, similarity: Similarity| {
        let db = Database::create(home.path().join(name)).unwrap();
        let notes = db
            .collection("notes")
            .encoder(encoder().normalize(normalize))
            .similarity(similarity)
            .create()
            .unwrap();
        let mut tx = db.begin();
        for number in 0..200 {
            // Of many lengths, for those of the vectors to differ.
            let text = words(number, 2 + number as usize % 9);
            tx.insert(&notes, Document::new(number).text(text).title(number.to_string()))
                .unwrap();
            tx.pair(&notes, words(number, 4), number).unwrap();
        }
        tx.commit().unwrap();
        let candidate = concluded(notes.learn_by(policy.clone()).run().unwrap());
        let before = candidate.judgement.expect("it was judged").before;
        (before.mrr_10, before.top)
    };
    let by_length = judged("a", true, Similarity::InnerProduct);
    assert_eq!(judged("b", false, Similarity::Cosine), by_length);
    assert_ne!(judged("c", false, Similarity::InnerProduct), by_length);
}
