//! The same trainer on the encoder of a T5.

use super::*;

/// A folder of the gated fixture with its tokenizer.
pub(super) fn t5() -> (tempfile::TempDir, Encoder) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("t5-gated/config.json", "config.json"),
        ("t5-gated/model.safetensors", "model.safetensors"),
        ("t5-tokenizer.json", "tokenizer.json"),
    ] {
        std::fs::copy(models.join(from), folder.path().join(to)).unwrap();
    }
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    (folder, encoder)
}

#[test]
fn every_method_trains_a_t5_and_is_read_back() {
    let (_folder, encoder) = t5();
    assert_eq!(encoder.settings().pooling, crate::Pooling::Mean);
    assert_every_method_learns(&encoder, 20);
}

/// B83, B85: chunks of any size give the run of whole batches, and a stopped run goes on as if it had not been.
#[test]
fn chunks_threads_and_stops_change_nothing_of_a_t5s_run() {
    let set = set(16);
    let (_folder, encoder) = t5();
    let encoder = encoder.layers([2, 0]);
    let options = |chunk| TrainingOptions {
        tied: false,
        batch: 16,
        chunk,
        checkpoint_every: 2,
        learning_rate: 1e-4,
        ..options(Method::SelfContrastive)
    };
    let step = |chunk| {
        let seen = Seen::default();
        let one = TrainingOptions {
            steps: 1,
            ..options(chunk)
        };
        let trainer = Trainer::new(&encoder, &set).options(one);
        trainer.observer(&seen).run().unwrap();
        let step = seen.steps.borrow()[0];
        (step.loss, step.gradient)
    };
    let whole = step(64);
    for chunk in [1, 3, 16] {
        let (loss, gradient) = step(chunk);
        assert!((whole.0 - loss).abs() < 1e-5 * whole.0.max(1.0), "chunk {chunk}");
        assert!(
            (whole.1 - gradient).abs() < 1e-5 * whole.1.max(1.0),
            "chunk {chunk}"
        );
    }
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let trainer = Trainer::new(&encoder, &set).options(options(4));
        trainer.pool(pool.into()).run().unwrap()
    };
    let uninterrupted = run(1);
    assert_eq!(vectors(&uninterrupted), vectors(&run(3)));
    let folder = tempfile::tempdir().unwrap();
    let seen = Seen {
        stop_at: Some((5, AtomicBool::new(false))),
        ..Seen::default()
    };
    let trainer = || {
        let trainer = Trainer::new(&encoder, &set).options(options(4));
        trainer.checkpoints(folder.path())
    };
    let flag = &seen.stop_at.as_ref().unwrap().1;
    let stopped = trainer().observer(&seen).cancel(flag).run();
    assert!(matches!(stopped, Err(TrainingError::Cancelled { done: 5, .. })));
    assert_eq!(vectors(&trainer().run().unwrap()), vectors(&uninterrupted));
}

/// B88: what stops a run that diverges is a tensor of this network.
#[test]
fn a_t5_that_diverges_is_stopped_with_the_step_and_the_cause() {
    let set = set(16);
    let (_folder, encoder) = t5();
    let options = TrainingOptions {
        learning_rate: 1e30,
        steps: 20,
        ..options(Method::DualEncoder)
    };
    match Trainer::new(&encoder, &set).options(options).run() {
        Err(TrainingError::Diverged { step, what }) => {
            assert!(step > 0 && !what.is_empty(), "{step} {what}");
        }
        Err(TrainingError::Collapsed { .. }) => {}
        other => panic!("{:?}", other.map(|_| ())),
    }
}
