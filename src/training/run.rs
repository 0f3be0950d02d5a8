//! A run from its first step to the encoder that comes out of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::TrainingError;
use super::losses::{Batch, Loss, Method};
use super::network::{Head, Network};
use super::optimizer;
use super::options::{Precision, TrainingOptions};
use super::order::Order;
use super::resuming::identity;
use super::tower::{Kept, ModuleTower, Side, SideDropout, SliceTower, Tower};
use super::trained::Trained;
use super::trainer::{Report, StepReport, Trainer};
use super::validation;
use super::watch::Watch;
use crate::encoder::folder::LayerMix;
use crate::encoder::lanes::Isa;
use crate::encoder::lexical::Lexical;
use crate::encoder::tokens::Tokens;
use crate::encoder::{Encoder, LateInteraction, Weights};
use crate::random::key;

const QUESTIONS: u64 = 11;
const PASSAGES: u64 = 12;

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

pub(super) struct Run<'a> {
    pub(super) trainer: &'a Trainer<'a>,
    pub(super) pool: &'a ThreadPool,
    pub(super) identity: String,
    pub(super) total: u64,
    /// One, or the passages' and the questions'.
    pub(super) towers: Vec<Tower>,
    /// Of the questions and of the passages.
    pub(super) kept: [Kept; 2],
    pub(super) question_head: Head,
    pub(super) passage_head: Head,
    pub(super) mix: Mix,
    pub(super) best: Option<(Vec<Vec<f32>>, Vec<f64>)>,
    pub(super) order: Order,
    pub(super) watch: Watch,
    pub(super) report: Report,
}

impl<'a> Run<'a> {
    pub fn new(trainer: &'a Trainer<'a>, pool: &'a ThreadPool) -> Result<Run<'a>, TrainingError> {
        let (encoder, options) = (trainer.encoder, &trainer.options);
        let (question_head, passage_head) = heads(options, encoder);
        let towers = pool.install(|| {
            let passages = encoder.weights();
            let mut towers = vec![tower(encoder, options.precision, &passages)?];
            if !options.tied {
                let questions = encoder.question_weights().unwrap_or(passages);
                towers.push(tower(encoder, options.precision, &questions)?);
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
            kept: [Kept::new(), Kept::new()],
            question_head,
            passage_head,
            mix,
            best: None,
            order: Order::new(),
            watch: Watch::default(),
            report: Report::default(),
        })
    }

    pub fn run(mut self) -> Result<Trained, TrainingError> {
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
        self.finish()
    }

    /// Those of every tower as they are now.
    fn parameters(&self) -> Result<Vec<Vec<f32>>, TrainingError> {
        self.towers
            .iter()
            .map(|tower| Ok(tower.parameters()?.into_owned()))
            .collect()
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
            (options.dropout > 0.0 || options.attention_dropout > 0.0).then(|| SideDropout {
                rate: options.dropout,
                attention: options.attention_dropout,
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
            trains: true,
        };
        let passage_side = Side {
            texts: &passages,
            head: &self.passage_head,
            chunk: options.chunk,
            dropout: dropout(PASSAGES),
            trains: true,
        };
        let weights: Vec<f64> = self.mix.iter().map(|[w, ..]| *w).collect();
        let towers = &mut self.towers;
        let asking = towers.len() - 1;
        let [of_questions, of_passages] = &mut self.kept;
        let loss = pool.install(|| {
            let q = towers[asking].forward(&question_side, of_questions)?;
            let p = towers[0].forward(&passage_side, of_passages)?;
            let batch = Batch {
                questions: &q,
                passages: &p,
                positives: &members.positives,
                left_out: &members.left_out,
            };
            Ok::<_, TrainingError>(options.method.loss(&batch, &weights, options.temperatures))
        })?;
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
            towers[asking].backward(&question_side, &loss.questions, of_questions)?;
            towers[0].backward(&passage_side, &loss.passages, of_passages)
        })?;
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
            passages: &self.towers[0],
            questions: &self.towers[asking],
            heads: (&self.question_head, &self.passage_head),
            mix: &weights,
        };
        let kept = &mut self.kept[0];
        let step = self.report.steps;
        let validation = self.pool.install(|| judge.validate(set, step, kept))?;
        let options = &self.trainer.options;
        let best = options.select_by.better(&validation, self.report.best.as_ref());
        if best {
            self.report.best = Some(validation);
            self.best = Some((self.parameters()?, weights));
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

    fn finish(mut self) -> Result<Trained, TrainingError> {
        let encoder = self.trainer.encoder;
        let (parameters, mix) = match self.best.take() {
            Some(best) => best,
            None => (self.parameters()?, self.mix.iter().map(|[w, ..]| *w).collect()),
        };
        let layout = self.towers[0].layout();
        let weights = |parameters: &Vec<f32>| layout.weights(parameters);
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
        let lexical = match &self.trainer.options.lexical {
            Some(options) => {
                let passages = self.trainer.set.passages().iter();
                let passages: Vec<_> = passages.map(|passage| passage.as_input()).collect();
                let counted = self
                    .pool
                    .install(|| Lexical::count_here(encoder, &passages, options));
                Some(Arc::new(counted?))
            }
            None => encoder.shared_lexical(),
        };
        Ok(Trained {
            lexical,
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
        })
    }
}

/// A model under training on the encoder's device.
fn tower(encoder: &Encoder, precision: Precision, weights: &Weights) -> Result<Tower, TrainingError> {
    if let Some(on) = encoder.on_device() {
        let tower = ModuleTower::new(weights, precision == Precision::Half, &on.device)?;
        return Ok(Tower::Module(Box::new(tower)));
    }
    let network = Network::new(Isa::detect(), precision, weights);
    Ok(Tower::Slices(Box::new(SliceTower::new(network))))
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
