//! A run from its first step to the encoder that comes out of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::batch::{self, Order};
use super::checkpoint;
use super::data::PairSet;
use super::losses::{Batch, Loss, Method};
use super::network::{Head, Network, Pass, Vectors};
use super::optimizer;
use super::options::TrainingOptions;
use super::random::key;
use super::tower::{Side, SideDropout, Tower};
use super::trained::Trained;
use super::validation;
use super::watch::{Validation, Watch};
use crate::encoder::folder::LayerMix;
use crate::encoder::lanes::Isa;
use crate::encoder::tokens::Tokens;
use crate::encoder::{Encoder, LateInteraction, Weights};

const QUESTIONS: u64 = 11;
const PASSAGES: u64 = 12;

/// What a run tells while it goes on. All methods do nothing unless they are written; they are called from the thread
/// that runs the training.
pub trait Observer {
    /// After every step.
    fn step(&self, step: &StepReport) {
        let _ = step;
    }

    /// After every validation; `best` if it is the best so far.
    fn validated(&self, validation: &Validation, best: bool) {
        let _ = (validation, best);
    }

    /// After every checkpoint.
    fn checkpoint(&self, file: &Path) {
        let _ = file;
    }
}

/// One step's figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Steps in all.
    pub total: u64,
    /// The whole loss.
    pub loss: f64,
    /// The contrastive part.
    pub contrastive: f64,
    /// The regulariser, before `λ`.
    pub regulariser: f64,
    /// The share of the batch's questions whose positive scored best.
    pub first: f64,
    /// The gradient's norm before clipping.
    pub gradient: f64,
    /// The learning rate.
    pub rate: f64,
}

/// What became of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Steps done.
    pub steps: u64,
    /// Every step.
    pub history: Vec<StepReport>,
    /// Every validation.
    pub validations: Vec<Validation>,
    /// The validation whose state was kept; none without validation questions.
    pub best: Option<Validation>,
    /// Whether the run ended before its last step because validations got no better.
    pub stopped_early: bool,
    /// Questions longer than the limit, counted each time they came.
    pub questions_cut: u64,
    /// Passages longer than the limit, counted each time they came.
    pub passages_cut: u64,
    /// Hard negatives that questions had too few of.
    pub negatives_short: u64,
}

/// Training, set up and then run.
///
/// ```no_run
/// use stratal::Encoder;
/// use stratal::training::{PairSet, Trainer, TrainingOptions};
///
/// let encoder = Encoder::from_folder("all-MiniLM-L6-v2")?.normalize(true);
/// let train = PairSet::from_jsonl("corpus.jsonl.gz", "train.jsonl.gz")?;
/// let trained = Trainer::new(&encoder, &train).options(TrainingOptions::default()).run()?;
/// let better = trained.save("all-MiniLM-L6-v2-mine")?;
/// # Ok::<(), stratal::training::TrainingError>(())
/// ```
pub struct Trainer<'a> {
    encoder: &'a Encoder,
    set: &'a PairSet,
    options: TrainingOptions,
    validation: Option<&'a PairSet>,
    checkpoints: Option<PathBuf>,
    observer: Option<&'a dyn Observer>,
    cancel: Option<&'a AtomicBool>,
    pool: Option<Arc<ThreadPool>>,
}

impl<'a> Trainer<'a> {
    /// Trains `encoder`, with its settings (layers last first, pooling, normalising, template), on the pairs of a set.
    pub fn new(encoder: &'a Encoder, set: &'a PairSet) -> Trainer<'a> {
        Trainer {
            encoder,
            set,
            options: TrainingOptions::default(),
            validation: None,
            checkpoints: None,
            observer: None,
            cancel: None,
            pool: None,
        }
    }

    /// What is chosen about the run.
    pub fn options(mut self, options: TrainingOptions) -> Self {
        self.options = options;
        self
    }

    /// Questions by which the best state is chosen. The pool that they are searched in is their positives and hard
    /// negatives, not the whole corpus.
    pub fn validation(mut self, set: &'a PairSet) -> Self {
        self.validation = Some(set);
        self
    }

    /// Writes checkpoints into a folder, and goes on from the newest whole one that is there.
    pub fn checkpoints(mut self, folder: impl Into<PathBuf>) -> Self {
        self.checkpoints = Some(folder.into());
        self
    }

    /// Who is told.
    pub fn observer(mut self, observer: &'a dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// A flag that is looked at before every step.
    pub fn cancel(mut self, flag: &'a AtomicBool) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// The threads to work in; without it a pool of the run's own, a thread a core. The result does not depend on it.
    pub fn pool(mut self, pool: Arc<ThreadPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// [`TrainingError::Setting`], [`TrainingError::Data`] before the first step; [`TrainingError::Diverged`] and
    /// [`TrainingError::Collapsed`] where nothing would come of it; [`TrainingError::Cancelled`].
    pub fn run(self) -> Result<Trained, TrainingError> {
        self.options.check(self.encoder)?;
        batch::check(self.set, &self.options)?;
        let pool = match &self.pool {
            Some(pool) => pool.clone(),
            None => {
                let own = rayon::ThreadPoolBuilder::new()
                    .thread_name(|i| format!("stratal-train-{i}"))
                    .build();
                let reason = |error: rayon::ThreadPoolBuildError| crate::ModelError::Threads {
                    reason: error.to_string(),
                };
                Arc::new(own.map_err(reason)?)
            }
        };
        // The run itself stays on this thread, so that observers need not be shared between threads.
        Run::new(&self, &pool)?.run()
    }
}

/// The passages' and questions' vectors of a method.
pub(crate) fn heads(options: &TrainingOptions, encoder: &Encoder) -> (Head, Head) {
    let s = encoder.settings();
    let layers = |layers: &[usize]| Head::Layers {
        layers: layers.to_vec(),
        pooling: s.pooling,
        normalize: s.normalize,
    };
    let tokens = |first| Head::Tokens {
        first,
        normalize: s.normalize,
    };
    let last = &s.layers[..1];
    match options.method {
        Method::DualEncoder => (layers(last), layers(last)),
        Method::MeBert => (layers(last), tokens(options.token_vectors)),
        Method::ColBert => (tokens(usize::MAX), tokens(usize::MAX)),
        _ if options.question_layers => (layers(&s.layers), layers(&s.layers)),
        _ => (layers(last), layers(&s.layers)),
    }
}

/// The scalar mix's `w` with its two moments.
type Mix = Vec<[f64; 3]>;

struct Run<'a> {
    trainer: &'a Trainer<'a>,
    pool: &'a ThreadPool,
    identity: String,
    total: u64,
    /// One, or the passages' and the questions'.
    towers: Vec<Tower>,
    passes: [Pass; 2],
    question_head: Head,
    passage_head: Head,
    mix: Mix,
    best: Option<(Vec<Vec<f32>>, Vec<f64>)>,
    order: Order,
    watch: Watch,
    report: Report,
}

impl<'a> Run<'a> {
    fn new(trainer: &'a Trainer<'a>, pool: &'a ThreadPool) -> Result<Run<'a>, TrainingError> {
        let (encoder, options) = (trainer.encoder, &trainer.options);
        let (question_head, passage_head) = heads(options, encoder);
        let towers = pool.install(|| {
            let tower = |weights: &Weights| match weights {
                Weights::Bert(weights) => Ok(Tower::new(Network::new(Isa::detect(), weights))),
                Weights::T5(_) => Err(TrainingError::Architecture {
                    name: encoder.architecture().name(),
                }),
            };
            let passages = encoder.weights();
            let mut towers = vec![tower(&passages)?];
            if !options.tied {
                towers.push(tower(&encoder.question_weights().unwrap_or(passages))?);
            }
            Ok::<_, TrainingError>(towers)
        })?;
        let mix = match options.method {
            Method::ScalarMix => vec![[0.0; 3]; encoder.settings().layers.len()],
            _ => Vec::new(),
        };
        Ok(Run {
            identity: identity(trainer),
            total: options.total_steps(trainer.set.questions().len()),
            trainer,
            pool,
            towers,
            passes: [Pass::new(), Pass::new()],
            question_head,
            passage_head,
            mix,
            best: None,
            order: Order::new(),
            watch: Watch::default(),
            report: Report::default(),
        })
    }

    fn run(mut self) -> Result<Trained, TrainingError> {
        self.resume()?;
        let options = self.trainer.options.clone();
        let due = |step: u64, every: u64| every > 0 && step.is_multiple_of(every);
        while self.report.steps < self.total && !self.report.stopped_early {
            if self
                .trainer
                .cancel
                .is_some_and(|flag| flag.load(Ordering::Relaxed))
            {
                return Err(TrainingError::Cancelled {
                    done: self.report.steps,
                    total: self.total,
                });
            }
            let step = self.step()?;
            self.report.steps = step.step;
            self.report.history.push(step);
            if let Some(observer) = self.trainer.observer {
                observer.step(&step);
            }
            let last = step.step == self.total;
            let validate = last || due(step.step, options.validate_every);
            if validate && self.trainer.validation.is_some() {
                self.validate()?;
            }
            let every = match options.checkpoint_every {
                0 => options.validate_every,
                every => every,
            };
            if last || self.report.stopped_early || due(step.step, every) {
                self.checkpoint()?;
            }
        }
        Ok(self.finish())
    }

    fn step(&mut self) -> Result<StepReport, TrainingError> {
        let options = &self.trainer.options;
        let (encoder, set) = (self.trainer.encoder, self.trainer.set);
        let step = self.report.steps;
        let members = self.order.members(set, options, step);
        let pool = self.pool;
        let (questions, passages) = pool.install(|| {
            let questions = tokens(&members.questions, |q| {
                let question = &set.questions()[q];
                let tokens = encoder.question_tokens(&question.text, options.question_tokens)?;
                tokens.ok_or_else(|| nothing_left("question", &question.id))
            });
            let passages = tokens(&members.passages, |p| {
                let passage = &set.passages()[p];
                let tokens = encoder.passage_tokens(passage.as_input(), options.passage_tokens)?;
                tokens.ok_or_else(|| nothing_left("passage", &passage.id))
            });
            (questions, passages)
        });
        let (questions, passages) = (questions?, passages?);
        let cut = |texts: &[Tokens]| texts.iter().filter(|text| text.truncated).count() as u64;
        self.report.questions_cut += cut(&questions);
        self.report.passages_cut += cut(&passages);
        self.report.negatives_short += members.shortage as u64;

        let dropout = |side| {
            (options.dropout > 0.0).then(|| SideDropout {
                rate: options.dropout,
                seed: key(options.seed, &[side, step]),
            })
        };
        let (questions, passages): (Vec<&Tokens>, Vec<&Tokens>) =
            (questions.iter().collect(), passages.iter().collect());
        let question_side = Side {
            texts: &questions,
            head: &self.question_head,
            chunk: options.chunk,
            dropout: dropout(QUESTIONS),
        };
        let passage_side = Side {
            texts: &passages,
            head: &self.passage_head,
            chunk: options.chunk,
            dropout: dropout(PASSAGES),
        };
        let weights: Vec<f64> = self.mix.iter().map(|[w, ..]| *w).collect();
        let towers = &mut self.towers;
        let asking = towers.len() - 1;
        let [question_pass, passage_pass] = &mut self.passes;
        let loss = pool.install(|| {
            let q = towers[asking].forward(&question_side, question_pass);
            let p = towers[0].forward(&passage_side, passage_pass);
            let batch = Batch {
                questions: &q,
                passages: &p,
                positives: &members.positives,
                left_out: &members.left_out,
            };
            options.method.loss(&batch, &weights, options.temperatures)
        });
        let warm = step as f64 >= self.total as f64 * options.warm_up;
        let m = encoder.settings().layers.len();
        self.watch.see(
            step + 1,
            &loss,
            members.candidates(),
            m,
            warm,
            options.temperatures.lambda,
        )?;
        pool.install(|| {
            towers[asking].backward(&question_side, &loss.questions, question_pass);
            towers[0].backward(&passage_side, &loss.passages, passage_pass);
        });
        let warm_up = (self.total as f64 * options.warm_up).round() as u64;
        let rate = optimizer::rate(options.learning_rate, step, warm_up, self.total);
        let gradient = self.update(&loss, rate)?;
        Ok(StepReport {
            step: step + 1,
            total: self.total,
            loss: loss.total,
            contrastive: loss.contrastive,
            regulariser: loss.regulariser,
            first: loss.first,
            gradient,
            rate,
        })
    }

    /// Clips over all parameters together, and updates them.
    fn update(&mut self, loss: &Loss, rate: f64) -> Result<f64, TrainingError> {
        let options = &self.trainer.options;
        let step = self.report.steps + 1;
        let (towers, mix) = (&mut self.towers, &mut self.mix);
        self.pool.install(|| {
            let mut square: f64 = loss.mix.iter().map(|g| g * g).sum();
            for tower in &*towers {
                square += tower.square_norm(step)?;
            }
            let norm = square.sqrt();
            let scale = optimizer::clip(norm, options.clip);
            for tower in towers {
                tower.update(scale, rate, options.weight_decay, step)?;
            }
            for (w, gradient) in mix.iter_mut().zip(&loss.mix) {
                optimizer::update_scalar(w, gradient * scale, rate, step);
            }
            Ok(norm)
        })
    }

    fn validate(&mut self) -> Result<(), TrainingError> {
        let Some(set) = self.trainer.validation else {
            return Ok(());
        };
        let asking = self.towers.len() - 1;
        let weights: Vec<f64> = self.mix.iter().map(|[w, ..]| *w).collect();
        let judge = validation::Judge {
            encoder: self.trainer.encoder,
            options: &self.trainer.options,
            passages: &self.towers[0].network,
            questions: &self.towers[asking].network,
            heads: (&self.question_head, &self.passage_head),
            mix: &weights,
        };
        let pass = &mut self.passes[0];
        let step = self.report.steps;
        let validation = self.pool.install(|| judge.validate(set, step, pass))?;
        let options = &self.trainer.options;
        let best = options.select_by.better(&validation, self.report.best.as_ref());
        if best {
            self.report.best = Some(validation);
            let parameters = self.towers.iter().map(|tower| tower.network.parameters.clone());
            self.best = Some((parameters.collect(), weights));
        }
        self.report.validations.push(validation);
        if let Some(observer) = self.trainer.observer {
            observer.validated(&validation, best);
        }
        let best_at = self
            .report
            .validations
            .iter()
            .rposition(|seen| Some(seen) == self.report.best.as_ref());
        let since = self.report.validations.len() - best_at.map_or(0, |at| at + 1);
        self.report.stopped_early = options.patience > 0 && since >= options.patience as usize;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), TrainingError> {
        let Some(folder) = &self.trainer.checkpoints else {
            return Ok(());
        };
        let mut arrays: Vec<&[f32]> = Vec::new();
        for tower in &self.towers {
            arrays.push(&tower.network.parameters);
            arrays.push(&tower.moments.first);
            arrays.push(&tower.moments.second);
        }
        let mut best_mix = Vec::new();
        if let Some((parameters, mix)) = &self.best {
            arrays.extend(parameters.iter().map(Vec::as_slice));
            best_mix = mix.iter().map(|w| w.to_bits()).collect();
        }
        let header = checkpoint::Header {
            run: self.identity.clone(),
            watch: self.watch.clone(),
            report: self.report.clone(),
            mix: self.mix.iter().map(|w| w.map(f64::to_bits)).collect(),
            best_mix,
            arrays: arrays.iter().map(|array| array.len() as u64).collect(),
        };
        let file = checkpoint::write(folder, &header, &arrays)?;
        if let Some(observer) = self.trainer.observer {
            observer.checkpoint(&file);
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), TrainingError> {
        let Some(folder) = &self.trainer.checkpoints else {
            return Ok(());
        };
        let Some((header, arrays)) = checkpoint::read(folder, &self.identity)? else {
            return Ok(());
        };
        let len = self.towers[0].network.layout.len;
        let (state, best) = (3 * self.towers.len(), self.towers.len());
        let whole = arrays.len() == state || arrays.len() == state + best;
        if !whole || arrays.iter().any(|array| array.len() != len) || header.mix.len() != self.mix.len() {
            return Err(TrainingError::Checkpoint {
                path: folder.clone(),
                why: "its arrays are not those of this model".into(),
            });
        }
        let mut arrays = arrays.into_iter();
        for tower in &mut self.towers {
            let mut next = || arrays.next().unwrap_or_default();
            tower.network.parameters = next();
            tower.moments.first = next();
            tower.moments.second = next();
            self.pool.install(|| tower.network.pack());
        }
        let parameters: Vec<Vec<f32>> = arrays.collect();
        if !parameters.is_empty() {
            self.best = Some((
                parameters,
                header.best_mix.into_iter().map(f64::from_bits).collect(),
            ));
        }
        self.mix = header.mix.into_iter().map(|w| w.map(f64::from_bits)).collect();
        self.watch = header.watch;
        self.report = header.report;
        Ok(())
    }

    fn finish(self) -> Trained {
        let encoder = self.trainer.encoder;
        let last = || {
            let parameters = self.towers.iter().map(|tower| tower.network.parameters.clone());
            (parameters.collect(), self.mix.iter().map(|[w, ..]| *w).collect())
        };
        let (parameters, mix): (Vec<Vec<f32>>, Vec<f64>) = self.best.clone().unwrap_or_else(last);
        let layout = &self.towers[0].network.layout;
        let weights = |parameters: &Vec<f32>| Weights::Bert(layout.weights(parameters));
        let layers = &encoder.settings().layers;
        let method = self.trainer.options.method;
        let mix = match method {
            Method::MeanOverLayers => Some(vec![1.0 / layers.len() as f32; layers.len()]),
            Method::ScalarMix => {
                let sum: f64 = mix.iter().map(|w| w.exp()).sum();
                Some(mix.iter().map(|w| (w.exp() / sum) as f32).collect())
            }
            _ => None,
        };
        Trained {
            base: encoder.clone(),
            passages: weights(&parameters[0]),
            questions: parameters.get(1).map(weights),
            mix: mix.map(|weights| LayerMix {
                layers: layers.clone(),
                weights,
            }),
            late: match method {
                Method::ColBert => Some(LateInteraction::SumOfBest),
                Method::MeBert => Some(LateInteraction::BestOfFirst {
                    tokens: self.trainer.options.token_vectors,
                }),
                _ => None,
            },
            layers: match method {
                Method::MultiVector => layers.clone(),
                _ => layers[..1].to_vec(),
            },
            report: self.report,
        }
    }
}

fn nothing_left(what: &str, id: &str) -> TrainingError {
    TrainingError::Data {
        what: format!("of the {what} {id:?} no token is left: leave it out"),
    }
}

/// The tokens of some texts; of several bad ones the first is named.
pub(crate) fn tokens(
    places: &[usize],
    of: impl Fn(usize) -> Result<Tokens, TrainingError> + Sync,
) -> Result<Vec<Tokens>, TrainingError> {
    let tokens: Vec<_> = places.par_iter().map(|&place| of(place)).collect();
    tokens.into_iter().collect()
}

/// What a checkpoint must agree with: options, questions, passages, and the encoder at the start.
fn identity(trainer: &Trainer<'_>) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    put(format!("{:?}", trainer.options).as_bytes());
    put(trainer.encoder.identity().hash.as_bytes());
    for set in [Some(trainer.set), trainer.validation].into_iter().flatten() {
        put(&(set.questions().len() as u64).to_le_bytes());
        for question in set.questions() {
            put(question.text.as_bytes());
            for &passage in question.positives.iter().chain(&question.negatives) {
                put(&(passage as u64).to_le_bytes());
            }
        }
        for passage in set.passages() {
            put(passage.title.as_deref().unwrap_or("").as_bytes());
            put(passage.text.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// Vectors of many texts without a graph, chunk by chunk.
pub(crate) fn encode_all(
    network: &Network,
    texts: &[Tokens],
    head: &Head,
    chunk: usize,
    pass: &mut Pass,
) -> Vectors {
    let d = network.config.hidden_size;
    let mut vectors = Vectors::new(d);
    for texts in texts.chunks(chunk) {
        let texts: Vec<&Tokens> = texts.iter().collect();
        network.forward(&texts, None, false, pass);
        vectors.append(&head.vectors(pass, d));
    }
    vectors
}
