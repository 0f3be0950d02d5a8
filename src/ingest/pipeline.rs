//! Ingestion: sources are read, split, encoded and committed, each stage on a thread of its own, a few batches apart.

use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::cursors::Cursors;
use super::error::IngestError;
use super::pair_lines::commit_pairs;
use super::passages::PassageLength;
use super::reading::Reading;
use super::record::FieldNames;
use super::report::{IngestProgress, IngestReport};
use super::walk::walk;
use crate::encoder::{EncodeOptions, ModelError, Passage};
use crate::{Collection, Document, Error, Id, Result};

/// Documents of a batch at most: what is lost of an interrupted run, and what is sorted by length for the encoder.
pub(super) const BATCH_DOCUMENTS: usize = 256;
/// Bytes of text and vectors of a batch, about; one document more may pass it.
pub(super) const BATCH_BYTES: usize = 4 << 20;
/// Batches that wait between two stages.
const WAITING: usize = 1;

/// What to do about a line that is no document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadLine {
    /// Go on behind it, count it, and tell in the report.
    Skip,
    /// Stop there with its error; what was before it is committed.
    #[default]
    Fail,
}

/// A run of ingestion into a collection.
///
/// Every document carries its source and the hash of its content. So a run that is interrupted at any point, by
/// [`Ingestion::cancel`] or by `kill -9`, is simply run again: what is stored is not encoded again, what is missing
/// follows, and nothing is there twice. Run again unchanged it encodes nothing, and reads no file whose size and time
/// of change are those of the run before, as long as nobody else has written to the database; text that only moved keeps its vectors; what a
/// file no longer has is removed (but not while a line of it cannot be read).
///
/// A batch is committed at a time. It is encoded before its transaction begins, while the batch before it is being
/// committed and the one behind it read. Memory: five batches of 4 MiB, and about 150 bytes for each document of the
/// collection.
///
/// ```no_run
/// # fn main() -> stratal::Result<()> {
/// use stratal::{Database, Encoder, ingest::Ingestion};
/// let db = Database::open_or_create("notes.stratal")?;
/// let notes = db.collection("notes").encoder(Encoder::from_folder("all-MiniLM-L6-v2")?).open_or_create()?;
/// let report = Ingestion::new(&notes).path("notes").run()?;
/// println!("{} passages encoded", report.encoded);
/// # Ok(()) }
/// ```
#[must_use = "an ingestion does nothing before `run`"]
pub struct Ingestion<'a> {
    settings: Settings,
    inputs: Vec<Input>,
    pairs: Vec<PathBuf>,
    cancel: Option<&'a AtomicBool>,
    progress: Option<&'a (dyn Fn(&IngestProgress) + Sync)>,
}

pub(super) struct Settings {
    pub collection: Collection,
    pub fields: FieldNames,
    pub length: PassageLength,
    pub bad_line: BadLine,
    pub prefix: String,
    pub sync: bool,
    pub limit: Option<u64>,
    stop: AtomicBool,
}

pub(super) enum Input {
    Path(PathBuf),
    Lines {
        name: String,
        reader: Box<dyn Read + Send>,
    },
}

/// What is to be committed together.
#[derive(Default)]
pub(super) struct Batch {
    pub operations: Vec<Operation>,
    /// Documents read for it, the unchanged among them.
    pub documents: u64,
    /// Bytes of the sources read for it.
    pub bytes: u64,
}

pub(super) enum Operation {
    Put(Box<Item>),
    Delete(Id),
}

pub(super) struct Item {
    pub document: Document,
    /// Whether the source gave its vectors.
    pub brought_vectors: bool,
    /// A line stands for itself and may be fatal; a passage is a piece of a file, and merely refused.
    pub is_line: bool,
    pub file: String,
    pub line: u64,
}

impl Item {
    fn source(&self) -> &str {
        let source = self.document.source.as_ref();
        source.map_or("", |source| &source.name)
    }
}

/// A document that the encoder or the collection does not take.
struct Refused {
    source: String,
    is_line: bool,
    file: String,
    line: u64,
    why: String,
}

impl Settings {
    pub fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Counts what was refused, and has its source read again next time; gives the error back if it ends the run.
    fn refuse(&self, refused: Refused, cursors: &Mutex<Cursors>, report: &mut IngestReport) -> Option<Error> {
        let Refused {
            source,
            is_line,
            file,
            line,
            why,
        } = refused;
        let mut cursors = cursors.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.refuse(&source);
        let error = IngestError::Refused { file, line, why };
        if is_line && self.bad_line == BadLine::Fail {
            return Some(error.into());
        }
        report.refuse(error.to_string());
        None
    }
}

impl<'a> Ingestion<'a> {
    /// A run into that collection, with nothing to read yet.
    pub fn new(collection: &Collection) -> Ingestion<'a> {
        Ingestion {
            settings: Settings {
                collection: collection.clone(),
                fields: FieldNames::default(),
                length: PassageLength::default(),
                bad_line: BadLine::default(),
                prefix: String::new(),
                sync: false,
                limit: None,
                stop: AtomicBool::new(false),
            },
            inputs: Vec::new(),
            pairs: Vec::new(),
            cancel: None,
            progress: None,
        }
    }

    /// Reads a file, or all files below a folder (see [`super::walk`]).
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.inputs.push(Input::Path(path.into()));
        self
    }

    /// Reads JSON lines from a stream; `name` stands for it in errors and is what its documents come from.
    pub fn lines(mut self, name: impl Into<String>, reader: impl Read + Send + 'static) -> Self {
        self.inputs.push(Input::Lines {
            name: name.into(),
            reader: Box::new(reader),
        });
        self
    }

    /// Reads pairs from JSON lines when all documents are in: `{"question": …, "passage_id": …}`.
    pub fn pairs(mut self, path: impl Into<PathBuf>) -> Self {
        self.pairs.push(path.into());
        self
    }

    /// Which fields of JSON lines are what.
    pub fn fields(mut self, fields: FieldNames) -> Self {
        self.settings.fields = fields;
        self
    }

    /// How long a passage of text may be.
    pub fn passage_length(mut self, length: PassageLength) -> Self {
        self.settings.length = length;
        self
    }

    /// What to do about a line that is no document; [`BadLine::Fail`] by default.
    pub fn bad_line(mut self, bad_line: BadLine) -> Self {
        self.settings.bad_line = bad_line;
        self
    }

    /// Put before the ids of passages, so that two folders with files of one name can be in one collection.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.settings.prefix = prefix.into();
        self
    }

    /// Whether documents of files that are gone from a folder are removed; otherwise they are left and counted.
    pub fn sync(mut self, sync: bool) -> Self {
        self.settings.sync = sync;
        self
    }

    /// Ends after so many documents have been encoded; the next run goes on from there.
    pub fn limit(mut self, documents: u64) -> Self {
        self.settings.limit = Some(documents);
        self
    }

    /// Stops soon after the flag is raised: some milliseconds of encoding later. The batch under way is dropped.
    pub fn cancel(mut self, cancel: &'a AtomicBool) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Told after each step, from any of the threads; the figures only rise.
    pub fn progress(mut self, progress: &'a (dyn Fn(&IngestProgress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Runs to the end, a limit, a stop or an error. Being stopped is no error: the report says so.
    ///
    /// # Errors
    /// [`Error::Ingest`] for a path that is not there, two fields of one name, a bad line under [`BadLine::Fail`],
    /// or a compressed file given by itself that is damaged; [`Error::Model`]; [`Error::Storage`]. Whatever was
    /// committed before stays.
    pub fn run(self) -> Result<IngestReport> {
        let started = Instant::now();
        self.settings.fields.check()?;
        let Ingestion {
            settings,
            inputs,
            pairs,
            cancel,
            progress,
        } = self;
        let cursors = Mutex::new(Cursors::open(&settings));
        // Told now rather than after the first batch.
        if settings.collection.has_encoder() {
            settings.collection.encoder()?;
        }
        let telling = Telling::new(&inputs, progress)?;
        let never = AtomicBool::new(false);
        let cancel = cancel.unwrap_or(&never);
        let (to_encode, read) = bounded(WAITING);
        let (to_commit, encoded) = bounded(WAITING);
        let mut report = IngestReport::default();
        let settings = &settings;
        let results = std::thread::scope(|scope| {
            let reading = Reading::new(settings, &cursors, to_encode);
            let spawn = |name: &str| std::thread::Builder::new().name(format!("stratal-{name}"));
            let reader = spawn("read").spawn_scoped(scope, move || reading.run(inputs));
            let telling = &telling;
            let cursors = &cursors;
            let committer =
                spawn("commit").spawn_scoped(scope, move || commit(settings, encoded, cursors, telling));
            let encoding = Encoding {
                settings,
                cursors,
                cancel,
                telling,
            };
            let encoding = encoding.run(read, to_commit);
            // A stage that ended early has closed its channels, so that the others end as well.
            settings.stop.store(true, Ordering::Relaxed);
            [joined(committer), encoding, joined(reader)]
        });
        for result in results {
            report.add(result?);
        }
        if !report.stopped && !report.limited {
            let cursors = cursors.into_inner().unwrap_or_else(PoisonError::into_inner);
            cursors.leave(settings, report.commits);
        }
        for path in pairs {
            if !report.stopped && !report.limited {
                report.add(commit_pairs(
                    &settings.collection,
                    &path,
                    settings.bad_line,
                    cancel,
                )?);
            }
        }
        report.elapsed = started.elapsed();
        Ok(report)
    }
}

fn joined(
    thread: std::io::Result<std::thread::ScopedJoinHandle<'_, Result<IngestReport>>>,
) -> Result<IngestReport> {
    let invalid = |what: String| Error::Invalid { what };
    let thread =
        thread.map_err(|error| invalid(format!("could not start a thread of the ingestion: {error}")))?;
    thread
        .join()
        .unwrap_or_else(|_| Err(invalid("a thread of the ingestion panicked".to_owned())))
}

/// The figures of progress, added up from all stages.
struct Telling<'a> {
    /// Held while the caller is told, so that no thread tells older figures after newer ones.
    figures: Mutex<IngestProgress>,
    progress: Option<&'a (dyn Fn(&IngestProgress) + Sync)>,
}

impl<'a> Telling<'a> {
    fn new(inputs: &[Input], progress: Option<&'a (dyn Fn(&IngestProgress) + Sync)>) -> Result<Telling<'a>> {
        let mut bytes_total = 0;
        if progress.is_some() {
            for input in inputs {
                let Input::Path(root) = input else { continue };
                let sizes = walk(root)?
                    .flatten()
                    .map(|file| file.path.metadata().map_or(0, |about| about.len()));
                bytes_total += sizes.sum::<u64>();
            }
        }
        let figures = IngestProgress {
            bytes_total,
            ..IngestProgress::default()
        };
        Ok(Telling {
            figures: Mutex::new(figures),
            progress,
        })
    }

    fn tell(&self, change: impl FnOnce(&mut IngestProgress)) {
        if let Some(progress) = self.progress {
            let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut figures);
            // Files may have grown since their sizes were added up.
            figures.bytes_total = figures.bytes_total.max(figures.bytes_done);
            progress(&figures);
        }
    }
}

/// The encoding stage.
struct Encoding<'a> {
    settings: &'a Settings,
    cursors: &'a Mutex<Cursors>,
    cancel: &'a AtomicBool,
    telling: &'a Telling<'a>,
}

impl Encoding<'_> {
    fn run(self, read: Receiver<Batch>, to_commit: Sender<Batch>) -> Result<IngestReport> {
        let mut report = IngestReport::default();
        for mut batch in read {
            if self.cancel.load(Ordering::Relaxed) {
                report.stopped = true;
                break;
            }
            let fatal = match self.encode(&mut batch, &mut report) {
                Ok(fatal) => fatal,
                Err(Error::Model(ModelError::Cancelled { .. })) => {
                    report.stopped = true;
                    break;
                }
                Err(error) => return Err(error),
            };
            // The committer is gone only if it failed, and tells why itself.
            if to_commit.send(batch).is_err() {
                break;
            }
            if let Some(error) = fatal {
                return Err(error);
            }
        }
        Ok(report)
    }

    /// Encodes a batch. What is refused leaves it; if that ends the run, what comes behind it leaves it too, and
    /// the error is given back for when the rest is on its way.
    fn encode(&self, batch: &mut Batch, report: &mut IngestReport) -> Result<Option<Error>> {
        let mut fatal = None;
        if !self.settings.collection.has_encoder() {
            return Ok(fatal);
        }
        // For each batch anew: another may have come to answer.
        let encoder = self.settings.collection.encoder()?;
        let telling = self.telling;
        let before = report.encoded;
        let told = |done: usize, _: usize| telling.tell(|figures| figures.encoded = before + done as u64);
        let options = EncodeOptions {
            progress: Some(&told),
            cancel: Some(self.cancel),
        };
        loop {
            let waiting: Vec<usize> = (0..batch.operations.len())
                .filter(|&place| match &batch.operations[place] {
                    Operation::Put(item) => item.document.vectors.is_none(),
                    Operation::Delete(_) => false,
                })
                .collect();
            if waiting.is_empty() {
                return Ok(fatal);
            }
            let passages: Vec<Passage<'_>> = waiting
                .iter()
                .filter_map(|&place| match &batch.operations[place] {
                    Operation::Put(item) => Some(Passage {
                        title: item.document.title.as_deref(),
                        text: item.document.text.as_deref().unwrap_or_default(),
                    }),
                    Operation::Delete(_) => None,
                })
                .collect();
            let embeddings = match encoder.encode_documents(&passages, &options) {
                Ok(embeddings) => embeddings,
                // Control characters alone, for example: that document is refused, the others are encoded.
                Err(ModelError::EmptyText { index }) if index < waiting.len() => {
                    let place = waiting[index];
                    if let Operation::Put(item) = batch.operations.remove(place) {
                        let refused = Refused {
                            source: item.source().to_owned(),
                            is_line: item.is_line,
                            file: item.file,
                            line: item.line,
                            why: "the encoder's vocabulary has no word of its text".to_owned(),
                        };
                        if let Some(error) = self.settings.refuse(refused, self.cursors, report) {
                            batch.operations.truncate(place);
                            fatal = Some(error);
                        }
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            report.encoded += waiting.len() as u64;
            report.truncated += embeddings.truncated_count() as u64;
            let generation = encoder.identity().hash;
            for (row, &place) in waiting.iter().enumerate() {
                if let Operation::Put(item) = &mut batch.operations[place] {
                    let layers = embeddings.of(row).chunks_exact(embeddings.dimension);
                    item.document.vectors = Some(layers.map(<[f32]>::to_vec).collect());
                    item.document.made_by = Some(generation.clone());
                }
            }
            return Ok(fatal);
        }
    }
}

/// The committing stage.
fn commit(
    settings: &Settings,
    encoded: Receiver<Batch>,
    cursors: &Mutex<Cursors>,
    telling: &Telling<'_>,
) -> Result<IngestReport> {
    let mut report = IngestReport::default();
    let collection = &settings.collection;
    // What this run may have encoded by: a stranger's vectors are refused as always.
    let mut earlier = std::collections::HashSet::new();
    for batch in encoded {
        let current = collection.generation();
        earlier.insert(current.clone());
        let mut transaction = collection.database.begin();
        let mut refused = None;
        let (mut stored, mut brought_vectors) = (0, 0);
        for operation in batch.operations {
            match operation {
                Operation::Delete(id) => transaction.delete(collection, id)?,
                Operation::Put(item) => {
                    let source = item.source().to_owned();
                    let Item {
                        mut document,
                        brought_vectors: brought,
                        is_line,
                        file,
                        line,
                    } = *item;
                    // Another generation has come to answer since it was encoded: the transaction encodes it again.
                    let text = document.text.as_deref().unwrap_or_default();
                    let stale = |by: &String| *by != current && earlier.contains(by);
                    if document.made_by.as_ref().is_some_and(stale) && !text.trim().is_empty() {
                        document.vectors = None;
                        document.made_by = None;
                    }
                    if let Err(why) = transaction.upsert(collection, document) {
                        let why = why.to_string();
                        let one = Refused {
                            source,
                            is_line,
                            file,
                            line,
                            why,
                        };
                        refused = settings.refuse(one, cursors, &mut report);
                        if refused.is_some() {
                            break;
                        }
                        continue;
                    }
                    stored += 1;
                    brought_vectors += u64::from(brought);
                }
            }
        }
        if !transaction.is_empty() {
            transaction.commit()?;
            report.commits += 1;
            report.stored += stored;
            report.brought_vectors += brought_vectors;
        }
        if let Some(error) = refused {
            return Err(error);
        }
        telling.tell(|figures| {
            figures.bytes_done += batch.bytes;
            figures.documents += batch.documents;
        });
    }
    Ok(report)
}
