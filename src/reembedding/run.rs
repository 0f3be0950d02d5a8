//! The run itself: blocks of documents encoded, then the cutover.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use stratal_storage::{Batch, Filling, Part, PayloadCursor, Vectors};

use super::{LAST_ROWS, ReembedProgress, ReembedReport};
use crate::document::Payload;
use crate::schema::Schema;
use crate::{Collection, EncodeOptions, Encoder, Error, Id, ModelError, Passage, Result};

/// Documents encoded at a time: what is lost of a run that is killed.
const BLOCK_ROWS: u32 = 512;
/// How many ids a message names.
const NAMED_IDS: usize = 5;

pub(super) struct Run<'r> {
    pub(super) collection: &'r Collection,
    /// Loaded when there is something to encode: going back to the caller's own vectors may need none.
    pub(super) encoder: Option<Encoder>,
    pub(super) pool: Option<std::sync::Arc<rayon::ThreadPool>>,
    pub(super) schema: Schema,
    pub(super) cancel: Option<&'r AtomicBool>,
    pub(super) progress: Option<&'r (dyn Fn(&ReembedProgress) + Sync)>,
    pub(super) started: Instant,
    pub(super) report: ReembedReport,
}

/// What the encoder reads of a document.
struct Text {
    id: Id,
    title: Option<String>,
    text: String,
}

impl Run<'_> {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    pub(super) fn lacking(&self) -> Result<u64> {
        Ok(self
            .collection
            .snapshot()?
            .inner
            .lacking(self.schema.layout.generation))
    }

    pub(super) fn tell(&self) -> Result<()> {
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
    pub(super) fn fill_segments(&mut self) -> Result<bool> {
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
    pub(super) fn cut_over(&mut self, wait: bool) -> Result<bool> {
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
