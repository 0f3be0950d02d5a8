//! Runs on a device of burn: its CPU backend, which stands for all.

use burn::tensor::Device;

use super::*;

/// The same run on slices and on a device, step by step: losses, gradients, validations; and every method ends alike.
#[test]
fn a_run_on_a_device_is_the_run_on_the_cpu() {
    let set = set(24);
    for (i, method) in Method::ALL.into_iter().enumerate() {
        let on_cpu = encoder().normalize(true).layers([2, 1]);
        let on_device = on_cpu.clone().on(Device::flex(), true).unwrap();
        let options = TrainingOptions {
            tied: i % 2 == 0,
            chunk: if i % 3 == 0 { 5 } else { 64 },
            steps: 6,
            validate_every: 3,
            attention_dropout: 0.1,
            ..options(method)
        };
        let run = |encoder: &Encoder| {
            let trainer = Trainer::new(encoder, &set).options(options.clone());
            trainer.validation(&set).run().unwrap()
        };
        let (a, b) = (run(&on_cpu), run(&on_device));
        let near = |a: f64, b: f64, what: &str| {
            assert!(
                (a - b).abs() < 2e-3 * a.abs().max(1e-3),
                "{method:?}, {what}: {a} and {b}"
            );
        };
        for (a, b) in a.report().history.iter().zip(&b.report().history) {
            near(a.loss, b.loss, &format!("loss of step {}", a.step));
            near(a.gradient, b.gradient, &format!("gradient of step {}", a.step));
        }
        for (a, b) in a.report().validations.iter().zip(&b.report().validations) {
            near(a.nll, b.nll, "likelihood");
        }
    }
}

/// A run that was stopped goes on to the end that it would have had.
#[test]
fn a_run_on_a_device_goes_on_from_its_checkpoint() {
    let set = set(24);
    let encoder = encoder().on(Device::flex(), true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = TrainingOptions {
        checkpoint_every: 4,
        ..options(Method::DualEncoder)
    };
    let whole = Trainer::new(&encoder, &set)
        .options(options.clone())
        .run()
        .unwrap();
    let stop = Seen {
        stop_at: Some((5, AtomicBool::new(false))),
        ..Seen::default()
    };
    let Some((_, flag)) = &stop.stop_at else {
        unreachable!()
    };
    let trainer = || {
        Trainer::new(&encoder, &set)
            .options(options.clone())
            .checkpoints(folder.path())
    };
    let stopped = trainer().observer(&stop).cancel(flag).run();
    assert!(matches!(stopped, Err(TrainingError::Cancelled { done: 5, .. })));
    let resumed = trainer().run().unwrap();
    assert_eq!(vectors(&whole), vectors(&resumed));
}

#[test]
fn a_t5_is_refused_on_a_device() {
    let (_folder, encoder) = super::t5::t5();
    let told = encoder.on(Device::flex(), true).unwrap_err().to_string();
    assert!(told.contains("T5") && told.contains("CPU"), "{told}");
}
