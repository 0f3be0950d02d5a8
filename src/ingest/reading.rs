//! The reading stage of an ingestion: from sources to batches of documents, compared with what is stored.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;

use super::cursors::Cursors;
use super::error::{IngestError, LineProblem, Skip, SkipReason};
use super::known::{self, Known, Standing, content_of};
use super::lines::Compression;
use super::markdown::markdown_passages;
use super::pipeline::{BATCH_BYTES, BATCH_DOCUMENTS, BadLine, Batch, Input, Item, Operation, Settings};
use super::record::Record;
use super::report::IngestReport;
use super::source::{SourceKind, TextFile, passage_id};
use super::text::text_passages;
use super::walk::{SourceFile, walk};
use super::{JsonLines, Passage};
use crate::{Document, Id, Result, Source};

pub(super) struct Reading<'a> {
    settings: &'a Settings,
    generation: String,
    has_encoder: bool,
    known: Option<Known>,
    cursors: &'a Mutex<Cursors>,
    /// Sources that this run has come to.
    met: HashSet<String>,
    out: Sender<Batch>,
    batch: Batch,
    batch_bytes: usize,
    new: u64,
    report: IngestReport,
}

/// Why reading ends before the sources do.
enum Ended {
    /// Asked to, or the stages behind are gone and tell why themselves.
    Stopped,
    /// The limit is reached.
    Limited,
    Failed(crate::Error),
}

impl<E: Into<crate::Error>> From<E> for Ended {
    fn from(error: E) -> Ended {
        Ended::Failed(error.into())
    }
}

impl<'a> Reading<'a> {
    pub fn new(settings: &'a Settings, cursors: &'a Mutex<Cursors>, out: Sender<Batch>) -> Reading<'a> {
        Reading {
            generation: settings.collection.generation(),
            has_encoder: settings.collection.has_encoder(),
            settings,
            known: None,
            cursors,
            met: HashSet::new(),
            out,
            batch: Batch::default(),
            batch_bytes: 0,
            new: 0,
            report: IngestReport::default(),
        }
    }

    /// Reads all sources, and gives what it counted.
    pub fn run(mut self, inputs: Vec<Input>) -> Result<IngestReport> {
        let read = inputs
            .into_iter()
            .try_for_each(|input| self.input(input))
            .and_then(|()| self.send());
        match read {
            Ok(()) => {}
            Err(Ended::Stopped) => self.report.stopped = true,
            Err(Ended::Limited) => {
                self.report.limited = true;
                if let Err(Ended::Stopped) = self.send() {
                    self.report.stopped = true;
                }
            }
            Err(Ended::Failed(error)) => return Err(error),
        }
        Ok(self.report)
    }

    fn input(&mut self, input: Input) -> std::result::Result<(), Ended> {
        match input {
            Input::Path(root) => self.path(&root),
            Input::Lines { name, reader } => {
                let lines =
                    JsonLines::from_reader(&name, reader, Compression::None, self.settings.fields.clone());
                self.report.files += 1;
                // A stream has no place to be gone from, so what it had before stays.
                self.lines(lines, &name, &name, (None, None)).map(|_| ())
            }
        }
    }

    fn path(&mut self, root: &Path) -> std::result::Result<(), Ended> {
        let real = root
            .canonicalize()
            .map_err(|error| IngestError::io("open", root, error))?;
        let is_folder = real.is_dir();
        for entry in walk(root)? {
            self.stop_if_asked()?;
            match entry {
                Err(skip) => self.report.skip(skip),
                Ok(file) => {
                    let source = if is_folder {
                        real.join(&file.name)
                    } else {
                        real.clone()
                    };
                    let source = source.to_string_lossy();
                    match self.met.insert(source.to_string()) {
                        true => self.file(&file, &source, is_folder)?,
                        false => self.report.skip(Skip {
                            path: file.path,
                            reason: SkipReason::ReadAlready,
                        }),
                    }
                }
            }
        }
        if is_folder {
            self.gone(&real)?;
        }
        Ok(())
    }

    /// What the collection holds, read when the first file has to be compared with it.
    fn known(&mut self) -> Result<&mut Known> {
        match &mut self.known {
            Some(known) => Ok(known),
            none => Ok(none.insert(Known::read(self.settings.collection.snapshot()?)?)),
        }
    }

    fn file(&mut self, file: &SourceFile, source: &str, in_folder: bool) -> std::result::Result<(), Ended> {
        let about = file.path.metadata().ok();
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let unchanged = about
            .as_ref()
            .and_then(|about| cursors.unchanged(self.settings, source, about));
        drop(cursors);
        if let (Some(documents), Some(about)) = (unchanged, about.as_ref()) {
            self.report.files += 1;
            self.report.documents += documents;
            self.report.unchanged += documents;
            self.batch.documents += documents;
            self.batch.bytes += about.len();
            return self.send_if_full();
        }
        let before = (self.report.documents, self.troubles());
        self.read_file(file, source, in_folder)?;
        if let Some(about) = about
            && self.troubles() == before.1
        {
            let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
            cursors.note(source, &about, self.report.documents - before.0);
        }
        Ok(())
    }

    /// Whatever a file must be read again for, to be told again.
    fn troubles(&self) -> (u64, u64) {
        (self.report.refused, self.report.skipped)
    }

    fn read_file(
        &mut self,
        file: &SourceFile,
        source: &str,
        in_folder: bool,
    ) -> std::result::Result<(), Ended> {
        if file.kind != SourceKind::JsonLines {
            return self.text(file, source);
        }
        let opened = std::fs::File::open(&file.path);
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let reason = SkipReason::Unreadable {
                    why: error.to_string(),
                };
                self.report.skip(Skip {
                    path: file.path.clone(),
                    reason,
                });
                return Ok(());
            }
        };
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            inner: opened,
            read: Arc::clone(&read),
        };
        let fields = self.settings.fields.clone();
        let name = file.path.display().to_string();
        let lines = JsonLines::from_reader(&name, counted, Compression::of(&file.path), fields);
        self.report.files += 1;
        let folders = in_folder.then_some(file.path.as_path());
        let all_good = self.lines(lines, &name, source, (Some(&read), folders))?;
        // A line that cannot be read may be a document that was good before: nothing is taken for gone then.
        if all_good {
            self.remove_vanished(source)?;
        }
        Ok(())
    }

    /// Reads lines, with a count of the bytes they come from and the path of a folder's file, if they have them.
    /// Gives whether all were good.
    fn lines(
        &mut self,
        lines: JsonLines,
        name: &str,
        source: &str,
        (read, folders): (Option<&AtomicU64>, Option<&Path>),
    ) -> std::result::Result<bool, Ended> {
        let mut all_good = true;
        let mut told = 0;
        for item in lines {
            self.stop_if_asked()?;
            if let Some(read) = read {
                let now = read.load(Ordering::Relaxed);
                self.batch.bytes += now - told;
                told = now;
            }
            let problem = match item {
                Ok(record) => {
                    let line = record.line;
                    match self.record(record, (name, true), source)? {
                        None => continue,
                        Some(problem) => IngestError::Line {
                            file: name.to_owned(),
                            line,
                            problem,
                        },
                    }
                }
                Err(error) => error,
            };
            all_good = false;
            // A file that ends in damage is passed over like any other of its folder that cannot be read.
            if let Some(path) = folders
                && let Some(reason) = unreadable(&problem)
            {
                let path = path.to_owned();
                self.report.skip(Skip { path, reason });
                continue;
            }
            match self.settings.bad_line {
                BadLine::Skip => self.report.refuse(problem.to_string()),
                BadLine::Fail => {
                    // What was good before it is committed first: the next run goes on from there.
                    self.send()?;
                    return Err(problem.into());
                }
            }
        }
        Ok(all_good)
    }

    fn text(&mut self, file: &SourceFile, source: &str) -> std::result::Result<(), Ended> {
        let content = match TextFile::read(&file.path) {
            Ok(content) => content,
            Err(skip) => {
                self.report.skip(skip);
                return Ok(());
            }
        };
        let text = &content.text;
        let passages = match file.kind {
            SourceKind::Markdown => markdown_passages(text, self.settings.length),
            SourceKind::Text | SourceKind::JsonLines => text_passages(text, self.settings.length),
        };
        let name = format!("{}{}", self.settings.prefix, file.name);
        let first = Id::Text(passage_id(&name, 0));
        let taken = self.known()?.taken_by(&first, source);
        if let Some(by) = taken.filter(|_| !passages.is_empty()) {
            let reason = SkipReason::IdTaken { id: first, by };
            self.report.skip(Skip {
                path: file.path.clone(),
                reason,
            });
            return Ok(());
        }
        self.report.files += 1;
        let shown = file.path.display().to_string();
        for (part, Passage { title, range }) in passages.into_iter().enumerate() {
            self.stop_if_asked()?;
            let record = Record {
                line: part as u64 + 1,
                id: Id::Text(passage_id(&name, part)),
                title,
                text: Some(text[range].to_owned()),
                metadata: serde_json::Map::new(),
                vectors: None,
                made_by: None,
            };
            if let Some(problem) = self.record(record, (&shown, false), source)? {
                let line = part as u64 + 1;
                self.report.refuse(
                    IngestError::Line {
                        file: shown.clone(),
                        line,
                        problem,
                    }
                    .to_string(),
                );
            }
        }
        self.batch.bytes += text.len() as u64;
        self.remove_vanished(source)
    }

    /// Compares one document with what is stored and hands on what is to be done; gives the reason if it is refused.
    fn record(
        &mut self,
        record: Record,
        (name, is_line): (&str, bool),
        source: &str,
    ) -> std::result::Result<Option<LineProblem>, Ended> {
        let blank = record.text.as_deref().is_none_or(|text| text.trim().is_empty());
        if record.vectors.is_none() && (blank || !self.has_encoder) {
            let field = self.settings.fields.text.clone();
            return Ok(Some(LineProblem::NothingToStore { field }));
        }
        let content = content_of(&record);
        let standing = self.known()?.meet(&record.id, source, &content)?;
        let moved = match standing {
            Standing::Again => return Ok(Some(LineProblem::IdOfEarlierFile { id: record.id })),
            Standing::Unchanged => {
                self.report.documents += 1;
                self.report.unchanged += 1;
                self.batch.documents += 1;
                return self.send_if_full().map(|()| None);
            }
            Standing::Moved(vectors) => Some(vectors),
            Standing::New => None,
        };
        if moved.is_none() && record.vectors.is_none() {
            if self.settings.limit.is_some_and(|limit| self.new >= limit) {
                return Err(Ended::Limited);
            }
            self.new += 1;
        }
        self.report.documents += 1;
        self.batch.documents += 1;
        self.report.moved += u64::from(moved.is_some());
        let brought_vectors = moved.is_none() && record.vectors.is_some();
        let Record {
            line,
            id,
            title,
            text,
            metadata,
            vectors,
            made_by,
        } = record;
        self.batch_bytes += text.as_ref().map_or(0, String::len) + title.as_ref().map_or(0, String::len);
        let part = u32::try_from(line - 1).unwrap_or(u32::MAX);
        let mut document = Document::new(id).source(Source {
            name: source.to_owned(),
            hash: content,
            part,
        });
        if let Some(title) = title {
            document = document.title(title);
        }
        if let Some(text) = text {
            document = document.text(text);
        }
        if !metadata.is_empty() {
            document = document.metadata(serde_json::Value::Object(metadata));
        }
        let made_by = if moved.is_some() {
            Some(self.generation.clone())
        } else {
            made_by
        };
        if let Some(vectors) = moved.or(vectors) {
            self.batch_bytes += vectors.iter().map(|layer| layer.len() * 4).sum::<usize>();
            document = document.layer_vectors(vectors);
            if let Some(made_by) = made_by {
                document = document.made_by(made_by);
            }
        }
        let item = Item {
            document,
            brought_vectors,
            is_line,
            file: name.to_owned(),
            line,
        };
        self.batch.operations.push(Operation::Put(Box::new(item)));
        self.send_if_full().map(|()| None)
    }

    fn remove_vanished(&mut self, source: &str) -> std::result::Result<(), Ended> {
        for id in self.known()?.vanished(source) {
            self.report.removed += 1;
            self.batch.operations.push(Operation::Delete(id));
            self.send_if_full()?;
        }
        Ok(())
    }

    fn gone(&mut self, folder: &Path) -> std::result::Result<(), Ended> {
        let cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = cursors.sources(self.settings);
        drop(cursors);
        if self.known.is_none()
            && let Some(sources) = sources
            && known::gone(folder, sources.iter().map(String::as_str)).is_empty()
        {
            return Ok(());
        }
        for source in self.known()?.gone_below(folder) {
            if self.settings.sync {
                self.remove_vanished(&source)?;
                let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
                cursors.forget(source);
            } else {
                let left = self.known()?.vanished(&source).len() as u64;
                self.report.left_of_gone_files += left;
                self.report.gone_files += u64::from(left > 0);
            }
        }
        Ok(())
    }

    fn stop_if_asked(&self) -> std::result::Result<(), Ended> {
        if self.settings.is_cancelled() {
            Err(Ended::Stopped)
        } else {
            Ok(())
        }
    }

    fn send_if_full(&mut self) -> std::result::Result<(), Ended> {
        let full = self.batch.operations.len() >= BATCH_DOCUMENTS
            || self.batch_bytes >= BATCH_BYTES
            || self.batch.documents >= 16 * BATCH_DOCUMENTS as u64;
        if full { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> std::result::Result<(), Ended> {
        self.batch_bytes = 0;
        self.out
            .send(std::mem::take(&mut self.batch))
            .map_err(|_| Ended::Stopped)
    }
}

/// Why a whole file cannot be read; `None` if it is one of its lines.
fn unreadable(problem: &IngestError) -> Option<SkipReason> {
    match problem {
        IngestError::Compressed {
            line, format, source, ..
        } => Some(SkipReason::Damaged {
            line: *line,
            format,
            why: source.to_string(),
        }),
        IngestError::Io { source, .. } => Some(SkipReason::Unreadable {
            why: source.to_string(),
        }),
        _ => None,
    }
}

/// Counts the bytes that are read of a file, compressed as they are.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(out)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}
