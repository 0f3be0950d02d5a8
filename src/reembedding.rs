//! Re-embedding: another encoder makes the vectors of everything that is stored, beside readers and writers, and
//! answers from one commit on.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stratal_storage::{Batch, Filling, Layout, Part, PayloadCursor, Vectors};

use crate::document::Payload;
use crate::schema::{MadeBy, Schema};
use crate::{Collection, EncodeOptions, Encoder, Error, Id, ModelError, Passage, Result};

/// Documents encoded at a time: what is lost of a run that is killed.
const BLOCK_ROWS: u32 = 512;
/// So many documents at most get their vectors with the cutover itself.
const LAST_ROWS: u64 = 256;
/// After so many rounds in which writers were quicker they wait for the last one.
const ROUNDS: u32 = 8;
/// How many ids a message names.
const NAMED_IDS: usize = 5;

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

struct Run<'r> {
    collection: &'r Collection,
    /// Loaded when there is something to encode: going back to the caller's own vectors may need none.
    encoder: Option<Encoder>,
    pool: Option<std::sync::Arc<rayon::ThreadPool>>,
    schema: Schema,
    cancel: Option<&'r AtomicBool>,
    progress: Option<&'r (dyn Fn(&ReembedProgress) + Sync)>,
    started: Instant,
    report: ReembedReport,
}

/// What the encoder reads of a document.
struct Text {
    id: Id,
    title: Option<String>,
    text: String,
}

impl Run<'_> {
    fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    fn lacking(&self) -> Result<u64> {
        Ok(self
            .collection
            .snapshot()?
            .inner
            .lacking(self.schema.layout.generation))
    }

    fn tell(&self) -> Result<()> {
        if let Some(progress) = self.progress {
            let snapshot = self.collection.snapshot()?;
            let total = snapshot.count();
            progress(&ReembedProgress {
                done: total.saturating_sub(snapshot.inner.lacking(self.schema.layout.generation)),
                total,
                encoded: self.report.encoded,
                elapsed: self.started.elapsed(),
            });
        }
        Ok(())
    }

    /// Fills segments until few documents lack the generation; false if it was cancelled.
    fn fill_segments(&mut self) -> Result<bool> {
        let generation = self.schema.layout.generation;
        let store = self.collection.database.store.clone();
        // To the last segment would be for ever: each checkpoint makes a new one of what came meanwhile.
        while self.lacking()? > LAST_ROWS
            && let Some(mut filling) = store.fill(self.collection.number, generation)?
        {
            while filling.done() < filling.segment().rows() {
                if self.is_cancelled() {
                    return Ok(false);
                }
                let done = self.fill_block(&mut filling)?;
                if let Some(progress) = self.progress {
                    let snapshot = self.collection.snapshot()?;
                    let missing = snapshot.inner.lacking(generation);
                    let total = snapshot.count();
                    progress(&ReembedProgress {
                        done: total.saturating_sub(missing.saturating_sub(done)),
                        total,
                        encoded: self.report.encoded,
                        elapsed: self.started.elapsed(),
                    });
                }
            }
            filling.finish()?;
        }
        Ok(true)
    }

    /// Encodes the next rows of a segment; returns how many of its live rows are done.
    fn fill_block(&mut self, filling: &mut Filling) -> Result<u64> {
        let rows = filling.done()..filling.segment().rows().min(filling.done() + BLOCK_ROWS);
        let part = Part::Segment(filling.segment().clone());
        let dead = filling.live().map(|live| live.dead().clone());
        let is_dead = |row: u32| dead.as_ref().is_none_or(|dead| dead.contains(row));
        let mut cursor = PayloadCursor::default();
        let mut texts = Vec::new();
        for row in rows.clone().filter(|&row| !is_dead(row)) {
            texts.push(self.text_of(&part, row, &mut cursor)?);
        }
        let mut encoded = self.encode(&texts)?.into_iter();
        let zeros = vec![0; self.schema.layout.document_bytes()];
        let mut bytes = Vec::with_capacity(rows.len() * zeros.len());
        for row in rows.clone() {
            match is_dead(row) {
                true => bytes.extend_from_slice(&zeros),
                false => bytes.extend_from_slice(&encoded.next().unwrap_or_else(|| zeros.clone())),
            }
        }
        filling.push(&bytes)?;
        let dead_before = dead.map_or(0, |dead| dead.range_cardinality(0..rows.end));
        Ok(u64::from(rows.end).saturating_sub(dead_before))
    }

    fn text_of(&self, part: &Part, row: u32, cursor: &mut PayloadCursor) -> Result<Text> {
        let id = part.id(row)?;
        let bytes = part.payload_with(row, cursor)?;
        let payload = Payload::read(bytes).map_err(|what| Error::Payload { id: id.clone(), what })?;
        match payload.text.filter(|text| !text.trim().is_empty()) {
            Some(text) => Ok(Text {
                id,
                title: payload.title.map(str::to_owned),
                text: text.to_owned(),
            }),
            None => Err(self.without_text()?),
        }
    }

    /// The error that names the documents without text.
    fn without_text(&self) -> Result<Error> {
        let mut ids = Vec::new();
        let mut count = 0u64;
        for document in self.collection.snapshot()?.iter() {
            let document = document?;
            if document.text().is_none_or(|text| text.trim().is_empty()) {
                count += 1;
                if ids.len() < NAMED_IDS {
                    ids.push(document.id().to_string());
                }
            }
        }
        let more = if count > ids.len() as u64 { ", …" } else { "" };
        Ok(Error::Invalid {
            what: format!(
                "{count} of the documents of {:?} have no text that an encoder could read ({}{more}): give them one or \
                 delete them; nothing has changed",
                self.collection.name,
                ids.join(", ")
            ),
        })
    }

    /// The stored form of each text's vectors.
    fn encode(&mut self, texts: &[Text]) -> Result<Vec<Vec<u8>>> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let encoder = match &self.encoder {
            Some(encoder) => encoder,
            None => {
                let encoder = self
                    .collection
                    .database
                    .engine
                    .encoder(&self.collection.name, &self.schema.made_by)?;
                let encoder = match &self.pool {
                    Some(pool) => encoder.pool(pool.clone()),
                    None => encoder,
                };
                self.encoder.insert(encoder)
            }
        };
        let passages: Vec<Passage<'_>> = texts
            .iter()
            .map(|text| Passage {
                title: text.title.as_deref(),
                text: &text.text,
            })
            .collect();
        let embeddings = match encoder.encode_documents(&passages, &EncodeOptions::default()) {
            Err(ModelError::EmptyText { index }) if index < texts.len() => {
                return Err(Error::Invalid {
                    what: format!(
                        "the encoder's vocabulary has no word of the text of {}: change or delete it",
                        texts[index].id
                    ),
                });
            }
            encoded => encoded?,
        };
        self.report.encoded += texts.len() as u64;
        self.report.truncated += embeddings.truncated_count() as u64;
        let name = &self.collection.name;
        let mut stored = Vec::with_capacity(texts.len());
        for (row, text) in texts.iter().enumerate() {
            let what = || format!("the vector of {}", text.id);
            let vectors: Vec<&[f32]> = embeddings.of(row).chunks_exact(embeddings.dimension).collect();
            stored.push(self.schema.to_stored(name, &what, &vectors)?);
        }
        Ok(stored)
    }

    /// Gives the last documents their vectors and lets the generation answer, in one commit. False if more have
    /// come meanwhile. With `wait` no more can come: commits wait for it.
    fn cut_over(&mut self, wait: bool) -> Result<bool> {
        let engine = self.collection.database.engine.clone();
        let alone = || engine.cutover.write().unwrap_or_else(PoisonError::into_inner);
        let mut began = Instant::now();
        let mut held = wait.then(alone);
        let batch = self.last_batch()?;
        if held.is_none() {
            began = Instant::now();
            held = Some(alone());
        }
        let committed = self.collection.database.store.commit(batch);
        drop(held);
        self.report.cutover_seconds = began.elapsed().as_secs_f64();
        match committed {
            Ok(_) => Ok(true),
            Err(stratal_storage::Error::Incomplete { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn last_batch(&mut self) -> Result<Batch> {
        let generation = self.schema.layout.generation;
        let snapshot = self.collection.snapshot()?;
        let target = (self.collection.number, &self.collection.name);
        let mut batch = Batch::new();
        for live in snapshot.inner.parts() {
            if has(live.part(), generation) {
                continue;
            }
            let mut cursor = PayloadCursor::default();
            let mut texts = Vec::new();
            let mut versions = Vec::new();
            for row in (0..live.part().rows()).filter(|row| !live.dead().contains(*row)) {
                texts.push(self.text_of(live.part(), row, &mut cursor)?);
                versions.push(live.part().version(row)?);
            }
            let encoded = self.encode(&texts)?;
            for ((text, version), bytes) in texts.into_iter().zip(versions).zip(encoded) {
                let bytes = bytes.into();
                batch.add_vectors(target, text.id, version, vec![Vectors { generation, bytes }]);
            }
        }
        batch.set_current(target, generation);
        Ok(batch)
    }
}

fn has(part: &Part, generation: u32) -> bool {
    part.layouts()
        .iter()
        .any(|layout| layout.generation == generation)
}
