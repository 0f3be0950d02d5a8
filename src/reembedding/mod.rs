//! Re-embedding: another encoder makes the vectors of everything that is stored, beside readers and writers, and
//! answers from one commit on.

mod run;

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use stratal_storage::{Batch, Layout};

use crate::schema::{MadeBy, Schema};
use crate::{Collection, Encoder, Error, Result};
use run::Run;

/// So many documents at most get their vectors with the cutover itself.
const LAST_ROWS: u64 = 256;
/// After so many rounds in which writers were quicker they wait for the last one.
const ROUNDS: u32 = 8;

/// One set of vectors of a collection, and what made it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GenerationInfo {
    /// Its number in the collection.
    pub number: u32,
    /// What made its vectors: an encoder's name with the first digits of its identity, or the caller's label.
    pub made_by: String,
    /// The identity's hash, or the label.
    pub identity: String,
    /// Components of a vector, `D`.
    pub dimension: u32,
    /// Layers of a document, `m`.
    pub layers: Vec<String>,
    /// Whether searches are answered by it.
    pub answers: bool,
    /// Documents that lack its vectors.
    pub missing: u64,
}

/// How far a re-embedding has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReembedProgress {
    /// Documents that have the new vectors.
    pub done: u64,
    /// Documents in all, as far as is known now.
    pub total: u64,
    /// Documents encoded by this run.
    pub encoded: u64,
    /// Since the run began.
    pub elapsed: Duration,
}

impl ReembedProgress {
    /// Documents encoded a second.
    pub fn rate(&self) -> f64 {
        self.encoded as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// What a re-embedding did.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct ReembedReport {
    /// The generation that was filled.
    pub generation: u32,
    /// Documents encoded by this run; the rest had their vectors already.
    pub encoded: u64,
    /// Documents whose text was longer than the encoder reads.
    pub truncated: u64,
    /// Whether it answers now. If not, the run was cancelled and can be run again.
    pub cut_over: bool,
    /// How long commits waited for the cutover, in seconds.
    pub cutover_seconds: f64,
    /// In all, in seconds.
    pub seconds: f64,
}

/// A run that gives every document the vectors of another encoder; made by [`Collection::reembed`].
///
/// Readers and writers go on meanwhile: documents that are inserted, changed or deleted are right in both
/// generations. Killed at any point, it is simply run again: a block of 512 documents at most is encoded twice. The
/// old generation stays until [`Collection::drop_generation`], so that [`Collection::roll_back`] can return to it.
#[must_use = "a re-embedding does nothing before `run`"]
pub struct Reembedding<'a> {
    collection: Collection,
    to: To,
    cancel: Option<&'a AtomicBool>,
    progress: Option<&'a (dyn Fn(&ReembedProgress) + Sync)>,
    pool: Option<std::sync::Arc<rayon::ThreadPool>>,
    /// Whether the new encoder was trained from the one that answers.
    descends: bool,
}

enum To {
    Encoder(Box<Encoder>),
    Generation(u32),
}

impl Collection {
    /// All sets of vectors of the collection, by number.
    ///
    /// # Errors
    /// [`Error::Storage`] if it has been dropped.
    pub fn generations(&self) -> Result<Vec<GenerationInfo>> {
        let snapshot = self.snapshot()?;
        let inner = &snapshot.inner;
        let current = snapshot.schema.layout.generation;
        let mut generations = Vec::new();
        for spec in inner.generations() {
            let schema = Schema::of_generation(&self.name, spec)?;
            generations.push(GenerationInfo {
                number: spec.layout.generation,
                made_by: schema.made_by.describe(),
                identity: schema.made_by.identity().to_owned(),
                dimension: spec.layout.dimension,
                layers: schema.layers,
                answers: spec.layout.generation == current,
                missing: inner.lacking(spec.layout.generation),
            });
        }
        Ok(generations)
    }

    /// Has another encoder make the vectors of everything stored, and lets it answer when all is done.
    pub fn reembed<'a>(&self, encoder: Encoder) -> Reembedding<'a> {
        Reembedding::to(self, To::Encoder(Box::new(encoder)))
    }

    /// Lets an earlier generation answer again. Documents that came since get its vectors first.
    pub fn roll_back<'a>(&self, generation: u32) -> Reembedding<'a> {
        Reembedding::to(self, To::Generation(generation))
    }

    /// Drops a generation that does not answer: its vectors, its space, and its encoder if nobody else uses it.
    ///
    /// # Errors
    /// [`Error::Storage`] for the generation that answers or one that is not there.
    pub fn drop_generation(&self, generation: u32) -> Result<()> {
        let engine = &self.database.engine;
        let _changing = engine.models.changing();
        let store = &self.database.store;
        store.drop_generation((self.number, &self.name), generation)?;
        engine.models.remove_unused(&store.snapshot())
    }
}

impl<'a> Reembedding<'a> {
    fn to(collection: &Collection, to: To) -> Reembedding<'a> {
        Reembedding {
            collection: collection.clone(),
            to,
            cancel: None,
            progress: None,
            pool: None,
            descends: false,
        }
    }

    /// Stops soon after the flag is raised; what is done stays done for the next run.
    pub fn cancel(mut self, cancel: &'a AtomicBool) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Told after each block.
    pub fn progress(mut self, progress: &'a (dyn Fn(&ReembedProgress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Encodes on these threads instead of the database's own, which searches use too.
    pub fn pool(mut self, pool: std::sync::Arc<rayon::ThreadPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// The encoder was trained from the one that answers: programs that open the collection with that one, or one it
    /// was trained from, are not refused.
    pub fn descends(mut self) -> Self {
        self.descends = true;
        self
    }

    /// Runs to the cutover, a stop or an error. Whatever was encoded stays for the next run.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming documents without text, which no encoder can read; [`Error::Model`],
    /// [`Error::MissingModel`], [`Error::NoEncoder`] for a generation of the caller's vectors that lacks documents;
    /// [`Error::Storage`]. The generation that answered goes on answering.
    pub fn run(self) -> Result<ReembedReport> {
        let started = Instant::now();
        let schema = self.target()?;
        let generation = schema.layout.generation;
        let mut run = Run {
            collection: &self.collection,
            encoder: None,
            pool: self.pool.clone(),
            schema,
            cancel: self.cancel,
            progress: self.progress,
            started,
            report: ReembedReport {
                generation,
                ..ReembedReport::default()
            },
        };
        let mut rounds = 0;
        while !run.is_cancelled() {
            rounds += 1;
            if run.lacking()? > LAST_ROWS {
                self.collection.database.flush()?;
                if !run.fill_segments()? {
                    break;
                }
            }
            if run.lacking()? <= LAST_ROWS || rounds > ROUNDS {
                run.tell()?;
                if run.cut_over(rounds > ROUNDS)? {
                    run.report.cut_over = true;
                    run.tell()?;
                    break;
                }
            }
        }
        run.report.seconds = started.elapsed().as_secs_f64();
        Ok(run.report)
    }

    /// The generation to fill: one that is there already, or a new one.
    fn target(&self) -> Result<Schema> {
        let collection = &self.collection;
        let engine = &collection.database.engine;
        let store = &collection.database.store;
        loop {
            let snapshot = collection.snapshot()?;
            let generations = snapshot.inner.generations();
            let encoder = match &self.to {
                To::Generation(number) => {
                    let spec = snapshot.inner.generation(*number).ok_or_else(|| Error::Invalid {
                        what: format!(
                            "{:?} has no generation {number}: it has {}",
                            collection.name,
                            generations
                                .iter()
                                .map(|spec| spec.layout.generation.to_string())
                                .collect::<Vec<_>>()
                                .join(", ")
                        ),
                    })?;
                    return Schema::of_generation(&collection.name, spec);
                }
                To::Encoder(encoder) => encoder,
            };
            encoder.validate()?;
            let made_by = MadeBy::encoder(encoder);
            for spec in generations {
                let schema = Schema::of_generation(&collection.name, spec)?;
                if schema.made_by == made_by {
                    engine.models.remember(encoder);
                    return Ok(schema);
                }
            }
            let now = &snapshot.schema;
            let mut lineage = Vec::new();
            if self.descends {
                lineage.clone_from(&now.lineage);
                lineage.push(now.made_by.identity().to_owned());
            }
            let schema = Schema {
                layout: Layout {
                    generation: snapshot.inner.next_generation(),
                    dimension: u32::try_from(encoder.dimension()).unwrap_or(u32::MAX),
                    layers: u32::try_from(encoder.settings().layers.len()).unwrap_or(u32::MAX),
                    element: now.layout.element,
                },
                similarity: now.similarity,
                layers: encoder.settings().layers.iter().map(usize::to_string).collect(),
                made_by,
                lineage,
            };
            let _changing = engine.models.changing();
            engine.models.keep(encoder)?;
            let spec = schema.to_generation()?;
            let mut batch = Batch::new();
            batch.add_generation(
                (collection.number, &collection.name),
                spec.layout,
                spec.attributes,
            );
            match store.commit(batch) {
                Ok(_) => return Ok(schema),
                // Somebody else added one meanwhile; perhaps this one.
                Err(stratal_storage::Error::Invalid { .. })
                    if collection.snapshot()?.inner.next_generation() != schema.layout.generation => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
