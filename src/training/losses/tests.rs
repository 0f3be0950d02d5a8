use super::*;

#[derive(Deserialize)]
struct Fixtures {
    losses: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    method: Method,
    tau: f64,
    tau_r: f64,
    lambda: f64,
    rows: usize,
    layers: usize,
    size: usize,
    questions: Vec<f32>,
    passages: Vec<f32>,
    mix: Vec<f64>,
    positives: Vec<usize>,
    left_out: Vec<bool>,
    total: f64,
    contrastive: f64,
    regulariser: f64,
    questions_gradient: Vec<f64>,
    passages_gradient: Vec<f64>,
    mix_gradient: Option<Vec<f64>>,
}

fn vectors(data: &[f32], rows: usize, d: usize) -> Vectors {
    let texts = data.len() / (rows * d);
    Vectors {
        d,
        starts: (0..=texts).map(|i| i * rows).collect(),
        data: data.to_vec(),
    }
}

fn cases() -> Vec<Case> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/training.json");
    serde_json::from_slice::<Fixtures>(&std::fs::read(file).unwrap())
        .unwrap()
        .losses
}

impl Case {
    fn temperatures(&self) -> Temperatures {
        Temperatures {
            tau: self.tau,
            tau_r: self.tau_r,
            lambda: self.lambda,
            apart: 0.0,
        }
    }

    fn loss(&self, questions: &[f32], passages: &[f32], mix: &[f64]) -> Loss {
        let batch = Batch {
            questions: &vectors(questions, self.rows, self.size),
            passages: &vectors(passages, self.layers, self.size),
            positives: &self.positives,
            left_out: &self.left_out,
        };
        self.method.loss(&batch, mix, self.temperatures())
    }
}

fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!((got - want).abs() <= tolerance, "{what}: {got} for {want}");
}

#[test]
fn every_loss_and_its_gradients_are_pytorchs() {
    let cases = cases();
    assert!(
        Method::ALL
            .iter()
            .all(|method| cases.iter().any(|case| case.method == *method))
    );
    for case in &cases {
        let got = case.loss(&case.questions, &case.passages, &case.mix);
        let what = format!("{:?} tau {}", case.method, case.tau);
        close(got.total, case.total, 1e-6, &what);
        close(got.contrastive, case.contrastive, 1e-6, &what);
        close(got.regulariser, case.regulariser, 1e-6, &what);
        for (got, want) in got.questions.data.iter().zip(&case.questions_gradient) {
            close(f64::from(*got), *want, 1e-6, &what);
        }
        for (got, want) in got.passages.data.iter().zip(&case.passages_gradient) {
            close(f64::from(*got), *want, 1e-6, &what);
        }
        for (got, want) in got.mix.iter().zip(case.mix_gradient.iter().flatten()) {
            close(*got, *want, 1e-6, &what);
        }
    }
}

#[test]
fn every_gradient_is_the_slope_of_its_loss() {
    const STEP: f32 = 1.0 / 512.0;
    // Questions of several vectors, the best pair of which counts, as well.
    let both = cases()
        .into_iter()
        .filter(|case| case.method == Method::ColBert)
        .map(|case| Case {
            method: Method::MultiVector,
            ..case
        });
    for case in cases().into_iter().chain(both) {
        let got = case.loss(&case.questions, &case.passages, &case.mix);
        let slope = |up: Loss, down: Loss| (up.total - down.total) / f64::from(2.0 * STEP);
        let moved = |x: &[f32], at: usize, by: f32| {
            let mut x = x.to_vec();
            x[at] += by;
            x
        };
        // Near a tie of two layers a maximum has no slope; the fixtures' values are sixteenths, so ties are exact and
        // moving one of them by a step shows either side.
        let near = |got: f32, want: f64, what: &str| {
            close(f64::from(got), want, 1e-4, &format!("{:?} {what}", case.method));
        };
        for at in (0..case.questions.len()).step_by(2) {
            let by = |step| case.loss(&moved(&case.questions, at, step), &case.passages, &case.mix);
            near(got.questions.data[at], slope(by(STEP), by(-STEP)), "question");
        }
        for at in (0..case.passages.len()).step_by(5) {
            let by = |step| case.loss(&case.questions, &moved(&case.passages, at, step), &case.mix);
            near(got.passages.data[at], slope(by(STEP), by(-STEP)), "passage");
        }
        for at in 0..case.mix.len() {
            let by = |step: f64| {
                let mut mix = case.mix.clone();
                mix[at] += step;
                case.loss(&case.questions, &case.passages, &mix)
            };
            let step = f64::from(STEP);
            near(got.mix[at] as f32, slope(by(step), by(-step)), "mix");
        }
    }
}

/// B82: a twin of the positive and another positive of the question are no negatives.
#[test]
fn a_passage_left_out_has_no_part_in_the_loss() {
    // q = (1, 0); the positive scores 1, its twin 1, a negative 0.
    let questions = vectors(&[1.0, 0.0], 1, 2);
    let passages = vectors(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0], 1, 2);
    let t = Temperatures {
        tau: 1.0,
        tau_r: 1.0,
        lambda: 1.0,
        apart: 0.0,
    };
    let loss = |left_out: [bool; 3]| {
        let batch = Batch {
            questions: &questions,
            passages: &passages,
            positives: &[0],
            left_out: &left_out,
        };
        Method::DualEncoder.loss(&batch, &[], t)
    };
    let masked = loss([false, true, false]);
    close(masked.total, (1.0 + (-1.0f64).exp()).ln(), 1e-12, "masked");
    assert_eq!(masked.passages.row(1, 0), [0.0, 0.0]);
    assert_eq!(masked.first, 1.0);
    let published = loss([false; 3]);
    close(
        published.total,
        (2.0 + (-1.0f64).exp()).ln(),
        1e-12,
        "as published",
    );
    assert!(published.passages.row(1, 0)[0] > 0.0);
}

/// B88: gradients stay finite whatever is masked and however large the scores are.
#[test]
fn masks_and_large_scores_leave_gradients_finite() {
    for method in Method::ALL {
        let questions = vectors(&[1e4, -1e4, 1e4, 1e4], 1, 2);
        let passages = vectors(&[1e4, 1e4, -1e4, 1e4, 1e4, -1e4, 1e4, 1e4], 2, 2);
        let batch = Batch {
            questions: &questions,
            passages: &passages,
            positives: &[0, 1],
            left_out: &[false, true, true, false],
        };
        let t = Temperatures {
            tau: 0.05,
            tau_r: 1.0,
            lambda: 1.0,
            apart: 0.0,
        };
        let loss = method.loss(&batch, &[0.0, 0.0], t);
        assert!(loss.total.is_finite(), "{method:?}");
        assert!(
            loss.questions
                .data
                .iter()
                .chain(&loss.passages.data)
                .all(|x| x.is_finite()),
            "{method:?}"
        );
    }
}

#[test]
fn self_contrastive_pushes_each_negative_at_its_best_layer_and_pulls_the_last_alone() {
    // Layers (last, lower) of the positive and of a negative whose lower layer scores best.
    let questions = vectors(&[1.0], 1, 1);
    let passages = vectors(&[0.5, 2.0, 0.1, 0.3], 2, 1);
    let batch = Batch {
        questions: &questions,
        passages: &passages,
        positives: &[0],
        left_out: &[false, false],
    };
    let t = Temperatures {
        tau: 1.0,
        tau_r: 1.0,
        lambda: 0.0,
        apart: 0.0,
    };
    let loss = Method::SelfContrastive.loss(&batch, &[], t);
    close(
        loss.contrastive,
        (1.0 + (0.3f64 - 0.5).exp()).ln(),
        1e-7,
        "contrastive",
    );
    close(loss.regulariser, (1.0 + 1.5f64.exp()).ln(), 1e-7, "regulariser");
    assert!(loss.passages.data[0] < 0.0 && loss.passages.data[3] > 0.0);
    assert_eq!([loss.passages.data[1], loss.passages.data[2]], [0.0, 0.0]);
}
