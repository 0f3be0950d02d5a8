//! The encoder of a T5 learns in its collection as a BERT does.

use std::path::Path;

use stratal::learning::{Learning, Verdict};
use stratal::training::{Method, TrainingOptions};
use stratal::{Collection, Database, Encoder, Id};
use tempfile::TempDir;

use super::{concluded, filled_by, policy, question};

/// A tiny random T5 of two layers, and the folder that a collection copies it from.
fn t5() -> (TempDir, Encoder) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("t5-gated/config.json", "config.json"),
        ("t5-gated/model.safetensors", "model.safetensors"),
        ("t5-tokenizer.json", "tokenizer.json"),
    ] {
        std::fs::copy(models.join(from), folder.path().join(to)).unwrap();
    }
    let encoder = Encoder::from_folder(folder.path()).unwrap().normalize(true);
    (folder, encoder)
}

#[test]
fn a_t5_learns_from_pairs_takes_over_and_finds_what_it_was_taught() {
    for (method, layers) in [
        (Method::DualEncoder, vec![2]),
        (Method::MultiVector, vec![2, 1]),
        (Method::SelfContrastive, vec![2, 1]),
    ] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("db");
        let (folder, t5) = t5();
        let (db, notes) = filled_by(t5.layers(layers), path.clone(), 200, 150);
        drop(folder);
        let found = |notes: &Collection| {
            let found = (0..150u64).filter(|&number| {
                let answers = notes.search(question(number)).k(10).run().unwrap();
                answers.iter().any(|hit| hit.id == Id::from(number))
            });
            found.count()
        };
        let before = found(&notes);
        let policy = policy(300);
        let candidate = concluded(
            notes
                .learn_by(Learning {
                    training: TrainingOptions {
                        method,
                        ..policy.training
                    },
                    ..policy
                })
                .run()
                .unwrap(),
        );
        assert!(
            matches!(candidate.verdict, Verdict::Accepted { .. }),
            "{method:?}: {candidate:?}"
        );
        db.close().unwrap();
        drop((notes, db));

        let db = Database::open(&path).unwrap();
        let notes = db.collection("notes").open().unwrap();
        assert_eq!(Some(notes.generation()), candidate.hash);
        let after = found(&notes);
        assert!(
            after > before + 30,
            "{method:?}: {before} of 150 found, then {after}"
        );
    }
}
