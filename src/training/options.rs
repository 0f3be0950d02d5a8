use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::losses::{Method, Temperatures};
use super::watch::SelectBy;
use crate::Encoder;
use crate::encoder::LexicalOptions;

/// What matrices are multiplied in. Weights, sums and everything else are f32 in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32: the same result on every processor that fuses multiplications with additions.
    #[default]
    Single,
    /// bf16 on processors that multiply it (on the matrix tiles of AMX, or by AVX-512's dot products), which takes about
    /// half to three quarters of the time, and on GPUs; f32 on other processors. The result depends on which it was.
    Half,
}

impl Precision {
    /// Whether matrices are rounded to bf16 and multiplied as such.
    pub(crate) fn is_in_bf16(self) -> bool {
        self == Precision::Half && crate::encoder::tiles::is_permitted()
    }
}

/// Everything that is chosen about a run, beside the encoder's own settings (layers, pooling, normalising, template).
///
/// The default is a dual encoder with tied weights: what trains best on little data from an encoder that works already.
/// [`TrainingOptions::published`] is the recipe of the paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingOptions {
    /// The loss.
    pub method: Method,
    /// `τ`, `τ_r` and `λ`.
    pub temperatures: Temperatures,
    /// Token vectors that [`Method::MeBert`] keeps.
    pub token_vectors: usize,
    /// With [`Method::MultiVector`]: a question has a vector of each layer of the set too, and the best pair counts. For
    /// tasks whose two sides are alike; a collection asks by one vector, so such an encoder is for searches in memory
    /// ([`Ranking::by_layers_of_both`](crate::evaluation::Ranking::by_layers_of_both)).
    #[serde(default)]
    pub question_layers: bool,
    /// One encoder for questions and passages; else two, which start alike.
    pub tied: bool,
    /// Questions in a batch.
    pub batch: usize,
    /// Questions of a batch come in groups of so many whose passages a search confuses: the group's passages are each
    /// other's hard negatives without being encoded for that (also those that hold another's answer, as in any batch),
    /// and with `mask_equals` a passage that several questions ask for is encoded once for all. Near passages are those
    /// of a question's hard negatives that other questions ask for; where there are none, questions of the same passage
    /// come together, and others at random. 1: no groups. Hofstätter and others balance batches by topics in this way
    /// (arXiv 2104.06967).
    #[serde(default = "alone")]
    pub group: usize,
    /// Hard negatives for each question of a batch, drawn from the question's own; fewer where it has fewer.
    pub hard_negatives: usize,
    /// Of a question's hard negatives only so many, the first, are drawn from.
    pub negative_pool: usize,
    /// Texts that are encoded at once. A batch with more is encoded in chunks with cached gradients: the memory needed
    /// is that of one chunk, the time a third more.
    pub chunk: usize,
    /// Steps in all; 0 for as many as `epochs` say.
    pub steps: u64,
    /// Times that every question is seen, where `steps` is 0.
    pub epochs: f64,
    /// The learning rate at its peak.
    pub learning_rate: f64,
    /// The share of steps over which the rate climbs.
    pub warm_up: f64,
    /// AdamW's decay, of weights and embeddings, not of biases and norms.
    pub weight_decay: f64,
    /// The greatest norm of a gradient; 0 for no limit.
    pub clip: f64,
    /// The share of elements dropped: of the embeddings, and of what attention and feed-forward add.
    pub dropout: f32,
    /// The share of the weights of attention dropped (BERT's `attention_probs_dropout_prob`).
    #[serde(default)]
    pub attention_dropout: f32,
    /// What matrices are multiplied in.
    #[serde(default)]
    pub precision: Precision,
    /// Decides order, negatives and dropout.
    pub seed: u64,
    /// Leave passages equal to the positive, other positives, and positives of equal questions out of a question's
    /// negatives. The published code counts them.
    pub mask_equals: bool,
    /// Tokens read of a question in training at most.
    pub question_tokens: usize,
    /// Tokens read of a passage in training at most.
    pub passage_tokens: usize,
    /// Steps between validations; 0 for one at the end.
    pub validate_every: u64,
    /// The figure by which the best state is kept.
    pub select_by: SelectBy,
    /// Validations without a better figure after which the run ends; 0 to go on.
    pub patience: u32,
    /// The lexical part that vectors are to have, its words counted over the set's passages once training is done; `None`
    /// leaves the encoder's own, if it has one. Training is of the other elements alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexical: Option<LexicalOptions>,
    /// Steps between checkpoints, where a folder is given; 0 for one at each validation.
    pub checkpoint_every: u64,
}

fn alone() -> usize {
    1
}

impl Default for TrainingOptions {
    fn default() -> TrainingOptions {
        TrainingOptions {
            method: Method::DualEncoder,
            temperatures: Temperatures {
                tau: 0.05,
                tau_r: 1.0,
                lambda: 1.0,
                apart: 0.0,
            },
            token_vectors: 4,
            question_layers: false,
            tied: true,
            batch: 64,
            group: 1,
            hard_negatives: 1,
            negative_pool: 30,
            chunk: 64,
            steps: 0,
            epochs: 1.0,
            learning_rate: 3e-5,
            warm_up: 0.1,
            weight_decay: 0.0,
            clip: 2.0,
            dropout: 0.1,
            attention_dropout: 0.0,
            precision: Precision::Single,
            seed: 0,
            mask_equals: true,
            question_tokens: 64,
            passage_tokens: 128,
            validate_every: 0,
            select_by: SelectBy::AverageRank,
            patience: 0,
            lexical: None,
            checkpoint_every: 0,
        }
    }
}

impl TrainingOptions {
    /// The recipe of the published single-stage runs for BERT: untied, batches of 128 in chunks of 16, raw dot products.
    pub fn published(method: Method) -> TrainingOptions {
        TrainingOptions {
            method,
            temperatures: Temperatures {
                tau: 1.0,
                tau_r: 1.0,
                lambda: 1.0,
                apart: 0.0,
            },
            tied: false,
            batch: 128,
            chunk: 16,
            epochs: 40.0,
            learning_rate: 2e-5,
            seed: 12345,
            mask_equals: false,
            passage_tokens: 256,
            question_tokens: 256,
            attention_dropout: 0.1,
            ..TrainingOptions::default()
        }
    }

    /// Whether a run with this encoder could begin, so that nothing long is done before a setting is refused.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] names the first setting outside of what is possible, [`TrainingError::Model`] one of
    /// the encoder's own.
    pub fn check(&self, encoder: &Encoder) -> Result<(), TrainingError> {
        encoder.validate()?;
        let refuse = |setting, value: String, allowed: &str| {
            Err(TrainingError::Setting {
                setting,
                value,
                allowed: allowed.to_owned(),
            })
        };
        let t = &self.temperatures;
        for (setting, value) in [
            ("tau", t.tau),
            ("tau_r", t.tau_r),
            ("learning_rate", self.learning_rate),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return refuse(setting, value.to_string(), "it must be a number above 0");
            }
        }
        for (setting, value) in [
            ("lambda", t.lambda),
            ("apart", t.apart),
            ("weight_decay", self.weight_decay),
            ("clip", self.clip),
            ("epochs", self.epochs),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return refuse(setting, value.to_string(), "it must be a number from 0");
            }
        }
        if self.epochs == 0.0 && self.steps == 0 {
            return refuse("epochs", "0".into(), "without steps it must be a number above 0");
        }
        for (setting, value) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
        ] {
            if !(0.0..1.0).contains(&value) {
                return refuse(setting, value.to_string(), "it must be at least 0 and below 1");
            }
        }
        if !(0.0..=1.0).contains(&self.warm_up) {
            return refuse(
                "warm_up",
                self.warm_up.to_string(),
                "it is a share of the steps, 0 to 1",
            );
        }
        for (setting, value) in [
            ("batch", self.batch),
            ("group", self.group),
            ("chunk", self.chunk),
            ("token_vectors", self.token_vectors),
        ] {
            if value == 0 {
                return refuse(setting, "0".into(), "at least 1 is needed");
            }
        }
        if self.negative_pool == 0 && self.needs_negatives() {
            return refuse(
                "negative_pool",
                "0".into(),
                "hard negatives are drawn from at least 1",
            );
        }
        for (setting, value) in [
            ("question_tokens", self.question_tokens),
            ("passage_tokens", self.passage_tokens),
        ] {
            if value < 5 {
                return refuse(setting, value.to_string(), "at least 5 are needed");
            }
        }
        if let Some(lexical) = &self.lexical {
            lexical.check()?;
        }
        let layers = &encoder.settings().layers;
        let several = matches!(
            self.method,
            Method::MultiVector
                | Method::MeanOverLayers
                | Method::ScalarMix
                | Method::SelfContrastive
                | Method::LastLayerRegularised
        );
        if self.question_layers && self.method != Method::MultiVector {
            return refuse(
                "question_layers",
                "true".into(),
                "only the multi-vector method compares several vectors of a question",
            );
        }
        if several && layers.len() < 2 {
            return refuse(
                "layers",
                format!("{layers:?}"),
                "this method compares at least two; choose them with Encoder::layers",
            );
        }
        Ok(())
    }

    /// Whether a run asks for the hard negatives of its questions.
    pub(crate) fn needs_negatives(&self) -> bool {
        self.hard_negatives > 0 || self.group > 1
    }

    /// Steps of a run over so many questions.
    pub(crate) fn total_steps(&self, questions: usize) -> u64 {
        if self.steps > 0 {
            return self.steps;
        }
        (questions as f64 * self.epochs / self.batch as f64)
            .ceil()
            .max(1.0) as u64
    }
}
