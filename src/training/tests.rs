//! Runs from beginning to end on the tiny model of the fixtures.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::encoder::Encoder;

mod on_device;
mod t5;

const WORDS: [&str; 20] = [
    "the", "a", "tree", "keeps", "all", "its", "leaves", "at", "one", "depth", "database", "page", "log",
    "is", "written", "before", "vector", "of", "each", "layer",
];

fn encoder() -> Encoder {
    Encoder::from_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert")).unwrap()
}

/// Questions of three words whose passages hold the same words in another order.
fn set(n: usize) -> PairSet {
    let word = |i: usize, j: usize| {
        WORDS[crate::random::below(crate::random::key(i as u64, &[j as u64]), WORDS.len())]
    };
    let passages = (0..n).map(|i| Passage {
        id: format!("p{i}"),
        title: Some(format!("t{}", i / 3)),
        text: format!("{} {} {} {}.", word(i, 2), word(i, 1), word(i, 0), word(i, 3)),
    });
    let questions = (0..n).map(|i| Question {
        id: format!("q{i}"),
        text: format!("{} {} {}", word(i, 0), word(i, 1), word(i, 2)),
        positives: vec![i],
        answers: vec![],
        negatives: vec![(i + 1) % n, (i + 7) % n, (i + 11) % n],
    });
    PairSet::new(passages.collect(), questions.collect()).unwrap()
}

fn options(method: Method) -> TrainingOptions {
    TrainingOptions {
        method,
        batch: 8,
        steps: 12,
        learning_rate: 1e-3,
        temperatures: Temperatures {
            tau: 0.1,
            tau_r: 1.0,
            lambda: 0.1,
            apart: 0.0,
        },
        ..TrainingOptions::default()
    }
}

fn vectors(trained: &Trained) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let encoder = trained.save(folder.path().join("model")).unwrap();
    let again = Encoder::from_folder(folder.path().join("model")).unwrap();
    assert_eq!(encoder.identity(), again.identity());
    let passage = crate::Passage {
        title: None,
        text: "the tree keeps all leaves",
    };
    let mut vectors = again
        .encode_documents(&[passage], &Default::default())
        .unwrap()
        .vectors;
    vectors.extend(again.encode_queries(&["leaves of the tree"]).unwrap().vectors);
    vectors
}

#[derive(Default)]
struct Seen {
    steps: RefCell<Vec<StepReport>>,
    stop_at: Option<(u64, AtomicBool)>,
}

impl Observer for Seen {
    fn step(&self, step: &StepReport) {
        self.steps.borrow_mut().push(*step);
        if let Some((at, flag)) = &self.stop_at {
            flag.store(step.step == *at, Ordering::Relaxed);
        }
    }
}

#[test]
fn every_method_learns_and_is_read_back() {
    assert_every_method_learns(&encoder(), 32);
}

/// Every method learns to tell some passages apart, tied and untied, and what is saved is what was trained.
fn assert_every_method_learns(encoder: &Encoder, dimension: usize) {
    let set = set(24);
    let encoder = encoder.clone().normalize(true).layers([2, 1]);
    for (i, method) in Method::ALL.into_iter().enumerate() {
        let options = TrainingOptions {
            tied: i % 2 == 0,
            steps: 150,
            learning_rate: 3e-3,
            ..options(method)
        };
        let trained = Trainer::new(&encoder, &set)
            .options(options)
            .validation(&set)
            .run()
            .unwrap();
        let history = &trained.report().history;
        let mean = |steps: &[StepReport]| {
            steps.iter().map(|step| step.contrastive).sum::<f64>() / steps.len() as f64
        };
        assert!(
            mean(&history[140..]) < 0.8 * mean(&history[..10]),
            "{method:?}: {} after {}",
            mean(&history[140..]),
            mean(&history[..10])
        );
        let expected = if method == Method::MultiVector { 3 } else { 2 };
        assert_eq!(vectors(&trained).len(), expected * dimension, "{method:?}");
        // The saved encoder ranks as the validation did, which read the same tokens.
        let folder = tempfile::tempdir().unwrap();
        let saved = trained.save(folder.path()).unwrap();
        let mut ranking = crate::evaluation::Ranking::dense(&saved, &set, 24, &Default::default()).unwrap();
        assert_eq!(
            saved.late_interaction().is_some(),
            method.by_token(),
            "{method:?}"
        );
        if let Some(how) = saved.late_interaction() {
            let candidates = [(&set, &ranking)];
            let by_tokens =
                crate::evaluation::Ranking::by_tokens(&saved, how, &candidates, &Default::default());
            ranking = by_tokens.unwrap().remove(0);
        }
        let figures = crate::evaluation::figures(&crate::evaluation::scores(&set, &ranking), 24);
        let best = trained.report().best.unwrap();
        assert!(
            (figures.top[1].unwrap() - best.top_5).abs() < 0.05,
            "{method:?}: {figures:?} {best:?}"
        );
    }
}

/// B83: chunks with cached gradients give the run that whole batches give, dropout and all.
#[test]
fn cached_gradients_train_as_whole_batches_do() {
    let set = set(16);
    for method in Method::ALL {
        let encoder = encoder().normalize(true).layers([2, 1]);
        let run = |chunk| {
            let options = TrainingOptions {
                batch: 16,
                chunk,
                steps: 1,
                attention_dropout: 0.2,
                ..options(method)
            };
            let seen = Seen::default();
            Trainer::new(&encoder, &set)
                .options(options)
                .observer(&seen)
                .run()
                .unwrap();
            let step = seen.steps.borrow()[0];
            (step.loss, step.gradient)
        };
        let whole = run(64);
        for chunk in [1, 3, 5, 16] {
            let chunked = run(chunk);
            assert!(
                (whole.0 - chunked.0).abs() < 1e-5,
                "{method:?} chunk {chunk}: {whole:?} {chunked:?}"
            );
            assert!(
                (whole.1 - chunked.1).abs() < 1e-5 * whole.1.max(1.0),
                "{method:?} chunk {chunk}"
            );
        }
    }
}

#[test]
fn a_run_depends_on_its_seed_alone() {
    let set = set(16);
    let encoder = encoder().normalize(true);
    let run = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let options = TrainingOptions {
            seed,
            ..options(Method::DualEncoder)
        };
        vectors(
            &Trainer::new(&encoder, &set)
                .options(options)
                .pool(pool.into())
                .run()
                .unwrap(),
        )
    };
    let first = run(1, 0);
    assert_eq!(first, run(3, 0));
    assert_ne!(first, run(1, 1));
}

/// B85: stopped anywhere and resumed is the same run; a checkpoint cut short leaves the one before it.
#[test]
fn a_resumed_run_ends_as_one_that_was_not_stopped() {
    let set = set(16);
    for (method, tied) in [(Method::ScalarMix, true), (Method::SelfContrastive, false)] {
        let encoder = encoder().layers([2, 1]);
        let options = TrainingOptions {
            tied,
            validate_every: 3,
            checkpoint_every: 2,
            ..options(method)
        };
        let whole = Trainer::new(&encoder, &set)
            .options(options.clone())
            .validation(&set)
            .run()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let stopped = |at| {
            let seen = Seen {
                stop_at: Some((at, AtomicBool::new(false))),
                ..Seen::default()
            };
            let trainer = Trainer::new(&encoder, &set)
                .options(options.clone())
                .validation(&set);
            let trainer = trainer.checkpoints(folder.path()).observer(&seen);
            let flag = &seen.stop_at.as_ref().unwrap().1;
            match trainer.cancel(flag).run() {
                Err(TrainingError::Cancelled { done, .. }) => assert_eq!(done, at),
                other => panic!("{:?}", other.map(|_| ())),
            }
            seen.steps.borrow()[0].step
        };
        assert_eq!(stopped(5), 1);
        assert_eq!(
            stopped(7),
            5,
            "after step 5 the checkpoint of step 4 was the newest"
        );
        let newest = newest(folder.path());
        let bytes = std::fs::read(&newest).unwrap();
        std::fs::write(&newest, &bytes[..bytes.len() - 100]).unwrap();
        assert_eq!(
            stopped(9),
            5,
            "the checkpoint of step 6 is cut, that of step 4 is whole"
        );
        let trainer = Trainer::new(&encoder, &set)
            .options(options.clone())
            .validation(&set);
        let resumed = trainer.checkpoints(folder.path()).run().unwrap();
        assert_eq!(resumed.report(), whole.report());
        assert_eq!(vectors(&resumed), vectors(&whole));

        let other = TrainingOptions { seed: 9, ..options };
        let foreign = Trainer::new(&encoder, &set)
            .options(other)
            .checkpoints(folder.path())
            .run();
        assert!(matches!(foreign, Err(TrainingError::ForeignCheckpoint { .. })));
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::write(entry.unwrap().path(), b"STRATCKP").unwrap();
        }
        let damaged = Trainer::new(&encoder, &set).checkpoints(folder.path()).run();
        assert!(matches!(damaged, Err(TrainingError::Checkpoint { .. })));
    }
}

fn newest(folder: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files.max().unwrap()
}

/// A regulariser of such weight tells layers apart and nothing else: that is said, and nothing is published.
#[test]
fn lambda_of_a_hundred_is_called_a_collapse() {
    let set = set(24);
    let encoder = encoder().layers([2, 1]).normalize(true);
    let options = TrainingOptions {
        steps: 400,
        temperatures: Temperatures {
            tau: 0.05,
            tau_r: 1.0,
            lambda: 100.0,
            apart: 0.0,
        },
        ..options(Method::SelfContrastive)
    };
    let outcome = Trainer::new(&encoder, &set).options(options).run();
    match outcome {
        Err(TrainingError::Collapsed { why, .. }) => {
            assert!(why.to_string().contains("smaller lambda"), "{why}")
        }
        Err(other) => panic!("{other}"),
        Ok(trained) => panic!("{:?}", trained.report().history.last()),
    }
}

#[test]
fn a_learning_rate_without_measure_diverges_with_a_step_and_a_cause() {
    let set = set(16);
    let encoder = encoder();
    let options = TrainingOptions {
        learning_rate: 1e30,
        clip: 0.0,
        steps: 50,
        ..options(Method::DualEncoder)
    };
    let outcome = Trainer::new(&encoder, &set).options(options).run();
    let told = matches!(
        outcome,
        Err(TrainingError::Diverged { step: 1..=50, .. } | TrainingError::Collapsed { .. })
    );
    assert!(told, "{:?}", outcome.map(|trained| trained.report().clone()));
}

#[test]
fn questions_of_several_layers_and_layers_kept_apart_train_too() {
    let encoder = encoder().normalize(true).layers([2, 1, 0]);
    let set = set(24);
    let run = |both: bool, apart: f64| {
        let mut options = options(Method::MultiVector);
        options.question_layers = both;
        options.steps = 60;
        options.learning_rate = 3e-3;
        options.temperatures.apart = apart;
        Trainer::new(&encoder, &set).options(options).run().unwrap()
    };
    let loss = |trained: &Trained, steps: std::ops::Range<usize>| {
        let steps = &trained.report().history[steps];
        steps.iter().map(|step| step.contrastive).sum::<f64>()
    };
    let (one, both, apart) = (run(false, 0.0), run(true, 0.0), run(false, 5.0));
    assert!(loss(&both, 50..60) < 0.8 * loss(&both, 0..10));
    assert!(vectors(&one) != vectors(&both));
    // The mean cosine of a passage's layers, first from the last and so on.
    let alike = |trained: &Trained| {
        let folder = tempfile::tempdir().unwrap();
        let encoder = trained.save(folder.path().join("model")).unwrap();
        let report = crate::evaluation::compare_layers(&encoder, &set, 5, &Default::default()).unwrap();
        let pairs = [(0, 1), (0, 2), (1, 2)];
        pairs
            .map(|(a, b)| report.similarity[a][b].abs())
            .iter()
            .sum::<f64>()
    };
    assert!(
        alike(&apart) < 0.8 * alike(&one),
        "{} {}",
        alike(&apart),
        alike(&one)
    );
    let mut options = options(Method::DualEncoder);
    options.question_layers = true;
    assert!(matches!(
        Trainer::new(&encoder, &set).options(options).run(),
        Err(TrainingError::Setting {
            setting: "question_layers",
            ..
        })
    ));
}

#[test]
fn settings_out_of_range_and_empty_sets_are_refused_by_name() {
    let set = set(4);
    let encoder = encoder();
    let refused = |change: &dyn Fn(&mut TrainingOptions)| {
        let mut options = options(Method::DualEncoder);
        change(&mut options);
        match Trainer::new(&encoder, &set).options(options).run() {
            Err(TrainingError::Setting { setting, .. }) => setting,
            other => panic!("{:?}", other.map(|_| ())),
        }
    };
    assert_eq!(refused(&|o| o.temperatures.tau = 0.0), "tau");
    assert_eq!(refused(&|o| o.learning_rate = f64::NAN), "learning_rate");
    assert_eq!(refused(&|o| o.dropout = 1.0), "dropout");
    assert_eq!(refused(&|o| o.attention_dropout = -0.1), "attention_dropout");
    assert_eq!(refused(&|o| o.batch = 0), "batch");
    assert_eq!(refused(&|o| o.group = 0), "group");
    assert_eq!(refused(&|o| o.method = Method::SelfContrastive), "layers");
    let empty = PairSet::default();
    assert!(matches!(
        Trainer::new(&encoder, &empty).run(),
        Err(TrainingError::Data { .. })
    ));
}

#[test]
fn questions_longer_than_the_limit_are_counted() {
    let set = set(8);
    let encoder = encoder();
    let options = TrainingOptions {
        question_tokens: 5,
        passage_tokens: 5,
        batch: 8,
        steps: 1,
        ..options(Method::DualEncoder)
    };
    let trained = Trainer::new(&encoder, &set).options(options).run().unwrap();
    assert!(trained.report().passages_cut >= 8);
    assert_eq!(trained.report().negatives_short, 0);
}

#[test]
fn a_run_that_gets_no_better_stops_early_and_keeps_its_best() {
    let set = set(24);
    let encoder = encoder().normalize(true);
    let options = TrainingOptions {
        steps: 200,
        validate_every: 1,
        patience: 3,
        learning_rate: 1e-9,
        ..options(Method::DualEncoder)
    };
    let trained = Trainer::new(&encoder, &set)
        .options(options)
        .validation(&set)
        .run()
        .unwrap();
    let report = trained.report();
    assert!(report.stopped_early && report.steps < 200, "{report:?}");
    assert!(
        report
            .validations
            .iter()
            .all(|v| v.average_rank >= report.best.unwrap().average_rank)
    );
}

/// On raw dot products the regulariser is won in a few steps whatever its weight: scores of one layer only have to grow,
/// and then it asks for nothing more. What it has broken by then mends or does not. Where nothing is learned that is
/// called a collapse; where passages are told apart, the run is left alone.
#[test]
fn lambda_of_a_hundred_on_raw_dots_is_a_collapse_where_nothing_is_learned() {
    let set = set(24);
    let run = |pooling, learning_rate, steps| {
        let encoder = encoder().layers([2, 1]).normalize(false).pooling(pooling);
        let options = TrainingOptions {
            steps,
            learning_rate,
            temperatures: Temperatures {
                tau: 1.0,
                tau_r: 1.0,
                lambda: 100.0,
                apart: 0.0,
            },
            ..options(Method::SelfContrastive)
        };
        Trainer::new(&encoder, &set).options(options).run()
    };
    match run(crate::Pooling::Cls, 1e-4, 400) {
        Err(TrainingError::Collapsed { why, .. }) => {
            assert!(why.to_string().contains("smaller lambda"), "{why}")
        }
        other => panic!(
            "{:?}",
            other.map(|trained| trained.report().history.last().copied())
        ),
    }
    let trained = run(crate::Pooling::Mean, 3e-3, 220).unwrap();
    let last = &trained.report().history[200..];
    let mean = last.iter().map(|step| step.contrastive).sum::<f64>() / last.len() as f64;
    assert!(mean < 1.0, "{mean}, where guessing gives 2.5");
}

/// Half the precision, the same lesson.
#[test]
fn in_half_precision_a_run_learns_as_in_single() {
    let set = set(24);
    let encoder = encoder().normalize(true);
    let run = |precision| {
        let options = TrainingOptions {
            steps: 100,
            learning_rate: 3e-3,
            precision,
            ..options(Method::DualEncoder)
        };
        let trained = Trainer::new(&encoder, &set).options(options).run().unwrap();
        let history = &trained.report().history;
        history[90..].iter().map(|step| step.contrastive).sum::<f64>() / 10.0
    };
    let (single, half) = (run(Precision::Single), run(Precision::Half));
    assert!((single - half).abs() < 0.3 * single.max(0.1), "{single} {half}");
}

/// Words are counted once training is done, go along with both encoders and a mix, and stay where nothing is said.
#[test]
fn a_trained_encoder_weighs_words() {
    let (encoder, set) = (encoder().normalize(true).layers([2, 1]), set(24));
    let home = tempfile::tempdir().unwrap();
    let train = |encoder: &Encoder, lexical, name: &str| {
        let options = TrainingOptions {
            tied: false,
            steps: 2,
            lexical,
            ..options(Method::ScalarMix)
        };
        let trained = Trainer::new(encoder, &set).options(options).run().unwrap();
        trained.save(home.path().join(name)).unwrap()
    };
    let vectors = |encoder: &Encoder| {
        let passages: Vec<_> = set.passages().iter().map(|passage| passage.as_input()).collect();
        let mut vectors = encoder.encode_documents(&passages, &Default::default()).unwrap();
        let asked = encoder.encode_queries(&["leaves of the tree"]).unwrap();
        assert_eq!((vectors.m, vectors.dimension), (1, asked.dimension));
        vectors.vectors.extend(asked.vectors);
        vectors
    };
    let lexical = crate::encoder::LexicalOptions {
        dimension: 48,
        weight: 0.5,
    };
    let plain = train(&encoder, None, "plain");
    let words = train(&encoder, Some(lexical), "words");
    let (d, without, with) = (encoder.dimension(), vectors(&plain), vectors(&words));
    assert_eq!((without.dimension, with.dimension), (d, d + 48));
    for (old, new) in without
        .vectors
        .chunks_exact(d)
        .zip(with.vectors.chunks_exact(d + 48))
    {
        assert_eq!(old, &new[..d]);
        assert!(new[d..].iter().any(|x| *x != 0.0));
    }
    // Of the folder, with its encoder of questions and its mix, as of the training.
    let counted = words.lexical().unwrap().clone();
    let again = plain
        .save_with_lexical(&counted, home.path().join("again"))
        .unwrap();
    assert_eq!(vectors(&again), with);
    let on = train(&words.clone().layers([2, 1]), None, "on");
    assert_eq!(on.lexical().unwrap().options(), lexical);
}
