//! `train`.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::json;

use super::add::{encoder, listen_for_interrupts};
use super::arguments::{NegativesName, PairArguments, Train};
use super::output::{Output, bar, counted, note, seconds};
use super::searched::Searched;
use super::{Failure, Outcome, collection};
use crate::evaluation::{Bm25, askable, loss_curve};
use crate::training::{
    Observer, PairSet, StepReport, Temperatures, Trainer, TrainingError, TrainingOptions, Validation,
};
use crate::{Collection, Database, Encoder, Error};

/// What was asked for: a set, and the collection it came from, if it did.
pub struct Pairs {
    pub set: PairSet,
    pub collection: Option<Collection>,
    // Closed after the collection.
    _database: Option<Database>,
}

/// Reads passages and questions, of which there must be some.
pub fn pairs(arguments: &PairArguments) -> Result<Pairs, Failure> {
    let pairs = read(arguments)?;
    check_asked(&pairs.set, arguments.name())?;
    Ok(pairs)
}

/// Figures over no questions would say nothing.
pub fn check_asked(set: &PairSet, file: &Path) -> Outcome {
    match set.questions().is_empty() {
        true => Err(Failure::invalid(format!("{}: no questions", file.display()))),
        false => Ok(()),
    }
}

/// Whether the encoder reads something of every question of a file; blank ones were refused before.
pub fn check_askable(encoder: &Encoder, set: &PairSet, file: &Path) -> Outcome {
    askable(encoder, set).map_err(|error| match error {
        error @ Error::Training(TrainingError::Data { .. }) => {
            Failure::invalid(format!("{}: {error}", file.display()))
        }
        error => error.into(),
    })
}

/// More questions over the passages of a set.
pub fn more(set: &PairSet, file: &Path) -> Result<PairSet, Failure> {
    let mut more = set.clone();
    more.retain(|_, _| false);
    more.read_questions(file)?;
    check_asked(&more, file)?;
    Ok(more)
}

fn read(arguments: &PairArguments) -> Result<Pairs, Failure> {
    let alone = |set| Pairs {
        set,
        collection: None,
        _database: None,
    };
    if let Some(file) = &arguments.dpr {
        return Ok(alone(PairSet::from_dpr(file)?));
    }
    if let Some(folder) = &arguments.beir {
        return Ok(alone(PairSet::from_beir(folder, &arguments.split)?));
    }
    let questions = arguments.questions.as_deref();
    let questions = questions.ok_or_else(|| Failure::Usage("say which --questions".to_owned()))?;
    match (&arguments.corpus, &arguments.database) {
        (Some(corpus), _) => Ok(alone(PairSet::from_jsonl(corpus, questions)?)),
        (None, Some(path)) => {
            let database = Database::open_read_only(path)?;
            let target = collection(&database, arguments.collection.as_deref())?;
            let mut set = PairSet::from_collection(&target.snapshot()?)?;
            set.read_questions(questions)?;
            Ok(Pairs {
                set,
                collection: Some(target),
                _database: Some(database),
            })
        }
        (None, None) => Err(Failure::Usage(
            "say where passages are: --corpus or --database".to_owned(),
        )),
    }
}

/// The encoder asked for, else that of the collection, on `device`.
pub fn encoder_of(
    arguments: &super::arguments::EncoderArguments,
    pairs: &Pairs,
    device: stratal_kernels::Device,
) -> Result<Encoder, Failure> {
    Ok(asked_or_own(arguments, pairs.collection.as_ref())?.device(device)?)
}

/// The encoder asked for, else that of the collection if it has one.
pub fn asked_or_own(
    arguments: &super::arguments::EncoderArguments,
    collection: Option<&Collection>,
) -> Result<Encoder, Failure> {
    match collection {
        Some(collection) if collection.has_encoder() && !arguments.is_given() => Ok(collection.encoder()?),
        _ => encoder(arguments),
    }
}

pub fn train(arguments: &Train, output: &mut Output) -> Outcome {
    let begun = Instant::now();
    check_output(&arguments.output)?;
    if let Some(folder) = &arguments.checkpoints {
        check_folder(folder)?;
    }
    if let Some(file) = &arguments.curve {
        check_writable(file)?;
    }
    let mut pairs = pairs(&arguments.pairs)?;
    let mut encoder = encoder_of(&arguments.encoder, &pairs, arguments.device)?;
    if arguments.lexical.lexical == Some(0) {
        encoder = encoder.without_lexical();
    }
    let options = options(arguments, &encoder);
    options.check(&encoder)?;
    let cancel = Arc::new(AtomicBool::new(false));
    listen_for_interrupts(&cancel)?;
    let mut validation = match &arguments.validate {
        Some(file) => Some(more(&pairs.set, file)?),
        None => None,
    };
    if options.needs_negatives() && arguments.negatives != NegativesName::Given {
        let mut train = std::mem::take(&mut pairs.set);
        let searched = match arguments.negatives {
            NegativesName::Bm25 => Searched::Words(Bm25::of(&train)),
            _ => Searched::vectors(&encoder, &pairs, &train, &cancel)?,
        };
        for set in std::iter::once(&mut train).chain(&mut validation) {
            searched.mine(set, options.negative_pool)?;
        }
        drop(searched);
        pairs.set = train;
    }
    let told = Told::new(arguments.json);
    let mut trainer = Trainer::new(&encoder, &pairs.set)
        .options(options)
        .observer(&told)
        .cancel(&cancel);
    if let Some(set) = &validation {
        trainer = trainer.validation(set);
    }
    if let Some(folder) = &arguments.checkpoints {
        trainer = trainer.checkpoints(folder);
    }
    if let Some(threads) = arguments.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        trainer = trainer.pool(Arc::new(pool.map_err(Error::Threads)?));
    }
    let outcome = trainer.run();
    told.bar.finish_and_clear();
    let trained = match outcome {
        Err(TrainingError::Cancelled { done, total }) => {
            let on = if arguments.checkpoints.is_some() {
                ": run the same command again to go on"
            } else {
                "; with --checkpoints it could go on"
            };
            note(&format!("stopped after {done} of {total} steps{on}"));
            return Err(Failure::Partly);
        }
        other => other?,
    };
    let saved = trained.save(&arguments.output)?;
    let report = trained.report();
    if let Some(file) = &arguments.curve {
        write(file, loss_curve(report).as_bytes())?;
    }
    if arguments.json {
        return output.json(&json!({
            "encoder": saved.identity(),
            "folder": arguments.output,
            "steps": report.steps,
            "best": report.best,
            "validations": report.validations,
            "stopped_early": report.stopped_early,
            "questions_cut": report.questions_cut,
            "passages_cut": report.passages_cut,
            "negatives_short": report.negatives_short,
            "seconds": begun.elapsed().as_secs_f64(),
        }));
    }
    let best = report.best.map(|best| {
        format!(
            " · best at step {}: average rank {:.2} among {}",
            best.step, best.average_rank, best.pool
        )
    });
    output.line(&format!(
        "trained {} in {}{} · {}",
        counted(report.steps, "step", "steps"),
        seconds(begun.elapsed().as_secs_f64()),
        best.unwrap_or_default(),
        arguments.output.display()
    ))
}

pub fn write(file: &Path, bytes: &[u8]) -> Outcome {
    std::fs::write(file, bytes).map_err(|error| Failure::io("write", file, error))
}

/// Whether a file can be written: nothing long should be done for a result that has no place.
pub fn check_writable(file: &Path) -> Outcome {
    let found = std::fs::symlink_metadata(file);
    // A pipe opened to try it would end for who reads it.
    if std::fs::metadata(file).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(());
    }
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened.map_err(|error| Failure::io("write", file, error))?;
    match found {
        Ok(_) => Ok(()),
        Err(_) => std::fs::remove_file(file).map_err(|error| Failure::io("remove", file, error)),
    }
}

/// Whether an encoder can be written into a folder, so that nothing long is done for nothing.
pub fn check_output(folder: &Path) -> Outcome {
    let occupied = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(Failure::invalid(format!(
            "{} is there and not empty: name another folder for the trained encoder",
            folder.display()
        )));
    }
    check_folder(folder)
}

/// Whether a folder is there or can be made; none is left behind.
fn check_folder(folder: &Path) -> Outcome {
    let missing = folder.ancestors().take_while(|path| !path.exists());
    let missing: Vec<&Path> = missing.filter(|path| *path != Path::new("")).collect();
    std::fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, error))?;
    for made in missing {
        std::fs::remove_dir(made).map_err(|error| Failure::io("remove", made, error))?;
    }
    Ok(())
}

fn options(arguments: &Train, encoder: &Encoder) -> TrainingOptions {
    // Cosines between -1 and 1 need a small temperature to tell anything apart.
    let tau = arguments
        .tau
        .unwrap_or(if encoder.settings().normalize { 0.05 } else { 1.0 });
    TrainingOptions {
        method: arguments.method.into(),
        temperatures: Temperatures {
            tau,
            tau_r: arguments.tau_r,
            lambda: arguments.lambda,
            apart: arguments.apart,
        },
        question_layers: arguments.question_layers,
        tied: !arguments.untied,
        batch: arguments.batch,
        group: arguments.group,
        hard_negatives: arguments.hard_negatives,
        negative_pool: arguments.negative_pool,
        chunk: arguments.chunk,
        steps: arguments.steps.unwrap_or(0),
        epochs: arguments.epochs,
        learning_rate: arguments.learning_rate,
        warm_up: arguments.warm_up,
        weight_decay: arguments.weight_decay,
        clip: arguments.clip,
        dropout: arguments.dropout,
        attention_dropout: arguments.attention_dropout,
        precision: arguments.precision.into(),
        seed: arguments.seed,
        mask_equals: !arguments.keep_equals,
        question_tokens: arguments.question_tokens,
        passage_tokens: arguments.passage_tokens,
        validate_every: arguments.every,
        select_by: arguments.select_by.into(),
        patience: arguments.patience,
        checkpoint_every: arguments.every,
        lexical: arguments.lexical.over(None),
        ..TrainingOptions::default()
    }
}

/// Tells of a run on standard error: a bar for people, or a JSON line a step.
struct Told {
    json: bool,
    bar: ProgressBar,
}

impl Told {
    fn new(json: bool) -> Told {
        Told {
            json,
            bar: bar("{bar:30} {pos}/{len} {msg} · {eta} left", 0),
        }
    }

    fn line(&self, what: &str, value: serde_json::Value) {
        if self.json {
            note(&json!({ what: value }).to_string());
        }
    }
}

impl Observer for Told {
    fn step(&self, step: &StepReport) {
        self.bar.set_length(step.total);
        self.bar.set_position(step.step);
        self.bar.set_message(format!(
            "loss {:.3} · {:.0}% first",
            step.loss,
            100.0 * step.first
        ));
        self.line("step", json!(step));
    }

    fn validated(&self, validation: &Validation, best: bool) {
        if !self.json {
            let best = if best { ", the best so far" } else { "" };
            self.bar.suspend(|| {
                note(&format!(
                    "step {}: average rank {:.2} among {}, top-5 {:.1}%, nll {:.3}{best}",
                    validation.step,
                    validation.average_rank,
                    validation.pool,
                    100.0 * validation.top_5,
                    validation.nll
                ));
            });
        }
        self.line("validation", json!(validation));
    }
}
