//! Which sets of vectors learning takes away, and which it leaves.

use std::sync::atomic::{AtomicBool, Ordering};

use stratal::learning::{Learning, LearningProgress, Outcome, Phase, Verdict};
use stratal::{Collection, GenerationInfo};

use super::{concluded, encoder, filled, policy};

pub fn numbers(notes: &Collection) -> Vec<u32> {
    let generations = notes.generations().unwrap();
    generations.iter().map(|generation| generation.number).collect()
}

pub fn answering(notes: &Collection) -> GenerationInfo {
    let mut generations = notes.generations().unwrap().into_iter();
    generations.find(|generation| generation.answers).unwrap()
}

/// Of a chain of encoders that learned from each other the last one stays to go back to. The one that the collection
/// was made with, and one that its user put there, are not learning's to drop.
#[test]
fn learning_drops_only_what_it_made() {
    let home = tempfile::tempdir().unwrap();
    let (_db, notes) = filled(home.path().join("db"), 200, 150);
    let first = answering(&notes).number;
    let own = notes.reembed(encoder().layers([1])).run().unwrap().generation;
    notes.roll_back(first).run().unwrap();
    let mut made = Vec::new();
    for seed in 0..10 {
        let mut policy = policy(60);
        policy.training.learning_rate = 1e-3;
        policy.training.seed = seed;
        let candidate = concluded(notes.learn_by(policy).run().unwrap());
        if let Verdict::Accepted { generation } = candidate.verdict {
            assert_eq!(answering(&notes).number, generation);
            made.push(generation);
        }
        if made.len() == 3 {
            break;
        }
    }
    let [one, two, three] = made[..] else {
        panic!("{:?}", notes.learning().unwrap().history)
    };
    let left = numbers(&notes);
    assert!(!left.contains(&one), "the encoder before the last: {left:?}");
    for stays in [first, own, two, three] {
        assert!(left.contains(&stays), "{stays} of {left:?}");
    }
    // What stayed can answer.
    notes.roll_back(two).run().unwrap();
    assert_eq!(answering(&notes).number, two);
    assert_eq!(notes.search("the one of tree page").run().unwrap().len(), 10);
}

/// A candidate that was accepted, and stopped before it answered, is worth nothing once another encoder has taken over:
/// the next run drops its vectors, and no others.
#[test]
fn an_abandoned_candidate_is_dropped() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    // More than one block of documents, so that it can be stopped between two.
    let (_db, notes) = filled(path.clone(), 1_200, 150);
    let stop = AtomicBool::new(false);
    let progress = |now: &LearningProgress| {
        stop.fetch_or(now.phase == Phase::Reembedding, Ordering::Relaxed);
    };
    let better = policy(150);
    let outcome = notes.learn_by(better).cancel(&stop).progress(&progress).run();
    assert_eq!(outcome.unwrap(), Outcome::Stopped(Phase::Reembedding));
    let first = answering(&notes).number;
    let abandoned: Vec<u32> = numbers(&notes).into_iter().filter(|n| *n != first).collect();
    assert_eq!(abandoned.len(), 1, "its vectors have been begun");

    let own = notes.reembed(encoder().layers([1])).run().unwrap().generation;
    assert!(path.join("learning/1/candidate").exists());
    let nothing_new = Learning {
        training: stratal::training::TrainingOptions {
            learning_rate: 1e-9,
            ..policy(1).training
        },
        ..policy(1)
    };
    let candidate = concluded(notes.learn_by(nothing_new).run().unwrap());
    assert_eq!(candidate.verdict, Verdict::NotBetter);
    assert_eq!(
        candidate.from,
        notes.generation(),
        "it began from the user's encoder"
    );
    assert_eq!(numbers(&notes), [first, own]);
    assert_eq!(answering(&notes).number, own);
    assert!(!path.join("learning/1").exists());
}
