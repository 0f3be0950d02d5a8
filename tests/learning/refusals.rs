//! Policies and runs that cannot be: refused before they are stored, and never in the way of what follows.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use stratal::learning::{Learning, LearningProgress, Outcome, Phase, Verdict};
use stratal::training::{TrainingError, TrainingOptions};
use stratal::{Collection, Database, Error};
use stratal_storage::{Batch, Store, StoreOptions};

use crate::generations::{answering, numbers};
use crate::{concluded, filled, policy};

fn trained_by(change: impl FnOnce(&mut TrainingOptions)) -> Learning {
    let mut policy = policy(0);
    change(&mut policy.training);
    policy
}

/// Changes what is kept of the learning of a database's first collection, as an earlier version may have left it.
fn kept(path: &std::path::Path, what: &str, change: impl FnOnce(&mut Value)) {
    let store = Store::open(path, StoreOptions::default()).unwrap();
    let key = format!("learning/1/{what}");
    let mut value = store.snapshot().setting(&key).cloned().unwrap_or_default();
    change(&mut value);
    let mut batch = Batch::new();
    batch.set(key, value);
    store.commit(batch).unwrap();
    store.close().unwrap();
}

fn reopened(path: &std::path::Path) -> (Database, Collection) {
    let db = Database::open(path).unwrap();
    let notes = db.collection("notes").open().unwrap();
    (db, notes)
}

/// Stops a run once it is in a phase.
fn stopped_while(notes: &Collection, policy: Learning, phase: Phase) {
    let stop = AtomicBool::new(false);
    let progress = |now: &LearningProgress| {
        stop.fetch_or(now.phase == phase, Ordering::Relaxed);
    };
    let outcome = notes.learn_by(policy).cancel(&stop).progress(&progress).run();
    assert_eq!(outcome.unwrap(), Outcome::Stopped(phase));
}

#[test]
fn training_settings_are_checked_before_a_policy_is_stored_or_a_run_begins() {
    let home = tempfile::tempdir().unwrap();
    let (_db, notes) = filled(home.path().join("db"), 200, 150);
    for wrong in [
        trained_by(|training| training.epochs = f64::NAN),
        trained_by(|training| training.epochs = f64::INFINITY),
        trained_by(|training| training.epochs = -1.0),
        trained_by(|training| training.epochs = 0.0),
        trained_by(|training| training.temperatures.tau = f64::NAN),
        trained_by(|training| training.batch = 0),
        trained_by(|training| training.negative_pool = 0),
    ] {
        for refused in [
            notes.set_learning(&wrong).unwrap_err(),
            notes.learn_by(wrong.clone()).run().unwrap_err(),
        ] {
            assert!(
                matches!(&refused, Error::Training(TrainingError::Setting { .. })),
                "{refused}"
            );
        }
        let status = notes.learning().unwrap();
        assert_eq!((status.policy, status.phase), (Learning::default(), None));
    }
    // Where steps are said, epochs say nothing.
    notes
        .set_learning(&Learning {
            training: TrainingOptions {
                epochs: 0.0,
                ..policy(1).training
            },
            ..policy(1)
        })
        .unwrap();
}

#[test]
fn a_policy_that_cannot_be_read_is_told_and_replaced() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let (db, notes) = filled(path.clone(), 12, 3);
    notes.set_learning(&policy(4)).unwrap();
    drop((notes, db));
    kept(&path, "policy", |policy| {
        policy["training"]["epochs"] = Value::Null
    });
    let (_db, notes) = reopened(&path);
    for refused in [notes.learning().unwrap_err(), notes.learn().run().unwrap_err()] {
        assert!(matches!(refused, Error::LearningPolicy { .. }), "{refused}");
        let told = refused.to_string();
        assert!(
            told.contains("\"notes\"") && told.contains("set one") && told.contains("null"),
            "{told}"
        );
    }
    let candidate = concluded(notes.learn_by(policy(4)).run().unwrap());
    assert!(matches!(candidate.verdict, Verdict::TooLittle { .. }));
    notes.set_learning(&policy(5)).unwrap();
    assert_eq!(notes.learning().unwrap().policy, policy(5));
}

/// Before, such a run was gone on with for ever, and failed for ever.
#[test]
fn a_run_that_would_be_refused_or_cannot_be_read_is_begun_anew() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let (db, notes) = filled(path.clone(), 200, 150);
    stopped_while(&notes, policy(6), Phase::Training);
    drop((notes, db));
    let changes: [&dyn Fn(&mut Value); 3] = [
        &|run| {
            run["policy"]["training"]["epochs"] = json!(-1.0);
            run["steps"] = json!(0);
        },
        &|run| run["policy"]["training"]["epochs"] = Value::Null,
        &|run| *run = json!("nonsense"),
    ];
    for change in changes {
        kept(&path, "underway", change);
        let (_db, notes) = reopened(&path);
        stopped_while(&notes, policy(3), Phase::Training);
        assert_eq!(notes.learning().unwrap().phase, Some(Phase::Training));
    }
    let (_db, notes) = reopened(&path);
    assert_eq!(concluded(notes.learn().run().unwrap()).steps, 3);
}

#[test]
fn a_run_is_abandoned_with_all_that_it_made() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    // More than one block of documents, so that it can be stopped between two.
    let (db, notes) = filled(path.clone(), 1_200, 150);
    assert!(!notes.abandon_learning().unwrap(), "none has begun");
    let mut kept_each_step = policy(6);
    kept_each_step.training.checkpoint_every = 1;
    stopped_while(&notes, kept_each_step, Phase::Training);
    assert!(path.join("learning/1").exists());
    assert!(notes.abandon_learning().unwrap());
    assert_eq!(notes.learning().unwrap().phase, None);
    assert!(!path.join("learning/1").exists());

    stopped_while(&notes, policy(150), Phase::Reembedding);
    let first = answering(&notes).number;
    assert_eq!(numbers(&notes).len(), 2, "its vectors have been begun");
    assert!(notes.abandon_learning().unwrap());
    assert_eq!(numbers(&notes), [first]);
    assert!(!path.join("learning/1").exists());
    assert!(notes.learning().unwrap().history.is_empty());

    stopped_while(&notes, policy(6), Phase::Training);
    drop((notes, db));
    kept(&path, "underway", |run| *run = json!("nonsense"));
    let (_db, notes) = reopened(&path);
    assert_eq!(
        notes.learning().unwrap().phase,
        None,
        "none that can be gone on with"
    );
    assert!(notes.abandon_learning().unwrap());
    assert!(!notes.abandon_learning().unwrap());
}
