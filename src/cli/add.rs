//! `create` and `add`.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde_json::json;

use super::arguments::{Add, Create, EncoderArguments};
use super::output::{Output, bar, counted, grouped, note, seconds};
use super::{Failure, Outcome, collection, model};
use crate::ingest::{
    BadLine, FieldNames, IngestError, IngestProgress, IngestReport, Ingestion, PassageLength, SourceKind,
};
use crate::learning::{LearningProgress, Outcome as Learned};
use crate::{Collection, Database, Encoder, Error};

/// Skips and problems told without `--explain`.
const TOLD: usize = 5;

pub fn create(arguments: &Create, output: &mut Output) -> Outcome {
    let encoder = match arguments.dimension {
        Some(_) => None,
        None => Some(encoder(&arguments.encoder)?),
    };
    let db = Database::open_or_create(&arguments.database)?;
    let builder = db
        .collection(&arguments.collection)
        .element(arguments.element.into())
        .similarity(arguments.similarity.into());
    let created = match (encoder, arguments.dimension) {
        (Some(encoder), _) => builder.encoder(encoder).create()?,
        (None, dimension) => {
            let layers = arguments.layers.clone().unwrap_or_else(|| vec!["v".to_owned()]);
            let builder = builder.vectors(dimension.unwrap_or_default(), layers, arguments.element.into());
            match &arguments.label {
                Some(label) => builder.label(label).create()?,
                None => builder.create()?,
            }
        }
    };
    let what = format!(
        "created {} in {}: {} × {} components, {}",
        created.name(),
        arguments.database.display(),
        counted(created.layers().len() as u64, "layer", "layers"),
        created.dimension(),
        created.similarity()
    );
    output.line(&what)?;
    Ok(db.close()?)
}

/// The encoder that the arguments describe.
pub fn encoder(arguments: &EncoderArguments) -> Result<Encoder, Failure> {
    let folder = model::folder(arguments.model.as_deref())?;
    let mut encoder = Encoder::from_folder(folder)?;
    if let Some(layers) = &arguments.encoder_layers {
        encoder = encoder.layers(layers.iter().copied());
    }
    if let Some(pooling) = arguments.pooling {
        encoder = encoder.pooling(pooling.into());
    }
    if let Some(normalize) = arguments.normalize {
        encoder = encoder.normalize(normalize);
    }
    if let Some(template) = arguments.template {
        encoder = encoder.template(template.into());
    }
    if let Some(max_tokens) = arguments.max_tokens {
        encoder = encoder.max_tokens(max_tokens);
    }
    if arguments.query_prompt.is_some() || arguments.passage_prompt.is_some() {
        let settings = encoder.settings().clone();
        let query = arguments.query_prompt.clone().unwrap_or(settings.query_prompt);
        let passage = arguments
            .passage_prompt
            .clone()
            .unwrap_or(settings.passage_prompt);
        encoder = encoder.prompts(query, passage);
    }
    encoder.validate()?;
    Ok(encoder)
}

pub fn add(arguments: &Add, output: &mut Output) -> Outcome {
    // A path mistyped, or an encoder that is not there, must not leave an empty database behind.
    for path in arguments.paths.iter().filter(|path| *path != Path::new("-")) {
        let about = std::fs::metadata(path).map_err(|error| Failure::io("read", path, error))?;
        if about.is_file() && SourceKind::of(path).is_none() {
            note(&format!(
                "{}: read as plain text, for its name ends in no kind that is known",
                path.display()
            ));
        }
    }
    let fields = field_names(arguments);
    fields
        .check()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    if !arguments.database.exists() {
        encoder(&arguments.encoder)?;
    }
    let db = Database::open_or_create(&arguments.database)?;
    let target = target(&db, arguments)?;
    let cancel = Arc::new(AtomicBool::new(false));
    listen_for_interrupts(&cancel)?;
    let begun = Instant::now();
    let progress_bar = bar("{bar:30} {percent:>3}% {msg}", 100);
    let progress = |progress: &IngestProgress| show(progress, &progress_bar, begun);
    let mut ingestion = Ingestion::new(&target)
        .fields(fields)
        .bad_line(if arguments.skip_bad_lines {
            BadLine::Skip
        } else {
            BadLine::Fail
        })
        .sync(arguments.sync)
        .cancel(&cancel);
    if io::stderr().is_terminal() {
        ingestion = ingestion.progress(&progress);
    }
    for path in &arguments.paths {
        ingestion = match path == Path::new("-") {
            true => ingestion.lines("-", Interruptible::stdin(&cancel)?),
            false => ingestion.path(path),
        };
    }
    for path in &arguments.pairs {
        std::fs::metadata(path).map_err(|error| Failure::io("read", path, error))?;
        ingestion = ingestion.pairs(path);
    }
    if let Some(limit) = arguments.limit {
        ingestion = ingestion.limit(limit);
    }
    if let Some(words) = arguments.passage_words {
        ingestion = ingestion.passage_length(PassageLength::words(words)?);
    }
    if let Some(prefix) = &arguments.prefix {
        ingestion = ingestion.prefix(prefix);
    }
    let learning_progress = |now: &LearningProgress| super::learn::show(now, &progress_bar);
    let result = match arguments.learn {
        false => ingestion.run().map(|report| (report, None)),
        true => {
            let policy = arguments.learning.over(target.learning()?.policy);
            let mut run = target.learn_by(policy).cancel(&cancel);
            if io::stderr().is_terminal() {
                run = run.progress(&learning_progress);
            }
            crate::learning::ingest(ingestion, run)
        }
    };
    progress_bar.finish_and_clear();
    let (report, learned) = match result {
        Ok(done) => done,
        Err(Error::Ingest(IngestError::Io { source, .. })) if is_interrupt(&source) => {
            db.close()?;
            note("stopped: run the same command again to go on");
            return Err(Failure::Partly);
        }
        Err(error) => {
            // What was committed before the error is kept; the next run goes on behind it.
            db.close()?;
            return Err(error.into());
        }
    };
    db.close()?;
    tell(arguments, &report, learned.as_ref(), output)?;
    if let Some(learned) = &learned {
        super::learn::finished(learned)?;
    }
    if report.is_complete() {
        Ok(())
    } else {
        Err(Failure::Partly)
    }
}

fn field_names(arguments: &Add) -> FieldNames {
    let mut fields = FieldNames::default();
    for (name, field) in [
        (&arguments.id_field, &mut fields.id),
        (&arguments.title_field, &mut fields.title),
        (&arguments.text_field, &mut fields.text),
    ] {
        if let Some(name) = name {
            field.clone_from(name);
        }
    }
    fields
}

fn target(db: &Database, arguments: &Add) -> Result<Collection, Failure> {
    let exists = match &arguments.collection {
        Some(name) => db.collections().contains(name),
        None => !db.collections().is_empty(),
    };
    if !exists {
        let name = arguments.collection.as_deref().unwrap_or("documents");
        return Ok(db
            .collection(name)
            .encoder(encoder(&arguments.encoder)?)
            .create()?);
    }
    let found = collection(db, arguments.collection.as_deref())?;
    if !arguments.encoder.is_given() {
        return Ok(found);
    }
    // Said again, the settings must be those that the collection was created with.
    Ok(db
        .collection(found.name())
        .encoder(encoder(&arguments.encoder)?)
        .open()?)
}

/// Standard input, on which no read outlasts a Ctrl-C: a thread of its own waits for it.
struct Interruptible {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Vec<u8>,
    read: usize,
    cancel: Arc<AtomicBool>,
}

impl Interruptible {
    fn stdin(cancel: &Arc<AtomicBool>) -> Result<Interruptible, Failure> {
        const BLOCK_BYTES: usize = 64 * 1024;
        let (send, blocks) = crossbeam_channel::bounded(1);
        std::thread::Builder::new()
            .name("stratal-stdin".to_owned())
            .spawn(move || {
                let mut stdin = io::stdin().lock();
                loop {
                    let mut block = vec![0; BLOCK_BYTES];
                    let read = stdin.read(&mut block).map(|read| {
                        block.truncate(read);
                        block
                    });
                    let last = !matches!(&read, Ok(block) if !block.is_empty());
                    if send.send(read).is_err() || last {
                        return;
                    }
                }
            })
            .map_err(|error| Failure::invalid(format!("cannot read standard input: {error}")))?;
        Ok(Interruptible {
            blocks,
            block: Vec::new(),
            read: 0,
            cancel: Arc::clone(cancel),
        })
    }
}

impl Read for Interruptible {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() {
            match self.blocks.recv_timeout(Duration::from_millis(50)) {
                Ok(block) => {
                    self.block = block?;
                    self.read = 0;
                    if self.block.is_empty() {
                        return Ok(0);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
                Err(RecvTimeoutError::Timeout) if self.cancel.load(Ordering::Relaxed) => {
                    return Err(io::Error::other(Interrupted));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let length = out.len().min(self.block.len() - self.read);
        out[..length].copy_from_slice(&self.block[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

/// Why a read of standard input ended: neither its end nor a failure.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Interrupted;

fn is_interrupt(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Interrupted>())
}

/// The first Ctrl-C asks the run to stop, the second ends the process; nothing acknowledged is lost either way.
pub(super) fn listen_for_interrupts(cancel: &Arc<AtomicBool>) -> Outcome {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(cancel))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(cancel)))
            .map_err(|error| Failure::invalid(format!("cannot listen for Ctrl-C: {error}")))?;
    }
    Ok(())
}

fn show(progress: &IngestProgress, bar: &indicatif::ProgressBar, begun: Instant) {
    let elapsed = begun.elapsed().as_secs_f64();
    let done = match progress.bytes_total {
        0 => 0.0,
        total => progress.bytes_done as f64 / total as f64,
    };
    bar.set_position((done * 100.0) as u64);
    let rate = progress.encoded as f64 / elapsed.max(0.001);
    let left = match done > 0.01 {
        true => format!(" · {} left", seconds(elapsed / done - elapsed)),
        false => String::new(),
    };
    bar.set_message(format!(
        "{} encoded · {rate:.0}/s{left}",
        grouped(progress.encoded)
    ));
}

fn tell(arguments: &Add, report: &IngestReport, learned: Option<&Learned>, output: &mut Output) -> Outcome {
    let told = if arguments.explain { usize::MAX } else { TOLD };
    if report.stopped {
        note("stopped: run the same command again to go on");
    }
    for problem in report.problems.iter().take(told) {
        note(&format!("refused: {problem}"));
    }
    for skip in report
        .skips
        .iter()
        .filter(|skip| arguments.explain || skip.reason.is_trouble())
        .take(told)
    {
        note(&format!("skipped: {skip}"));
    }
    if arguments.json {
        return output.json(&json!({
            "files": report.files,
            "documents": report.documents,
            "encoded": report.encoded,
            "brought_vectors": report.brought_vectors,
            "stored": report.stored,
            "unchanged": report.unchanged,
            "moved": report.moved,
            "removed": report.removed,
            "truncated": report.truncated,
            "refused": report.refused,
            "skipped": report.skipped,
            "left_of_gone_files": report.left_of_gone_files,
            "limited": report.limited,
            "pairs": report.pairs,
            "learned": learned,
            "stopped": report.stopped,
            "seconds": report.elapsed.as_secs_f64(),
        }));
    }
    output.line(&summary(report))?;
    if let Some(Learned::Concluded(candidate)) = learned {
        output.line(&super::learn::described(candidate))?;
    }
    Ok(())
}

/// One line: `4,812 passages from 97 files · 61 passages/s · 1 min 19 s · 3 skipped (…)`.
fn summary(report: &IngestReport) -> String {
    let elapsed = report.elapsed.as_secs_f64();
    let mut parts = vec![format!(
        "{} from {}",
        counted(report.documents, "passage", "passages"),
        counted(report.files, "file", "files")
    )];
    let there = report.stored + report.unchanged;
    match report.encoded {
        0 if report.brought_vectors > 0 => parts.push(format!(
            "{} with their own vectors",
            grouped(report.brought_vectors)
        )),
        0 if there == report.documents && report.refused == 0 => {
            parts.push("nothing to encode, all was there".to_owned())
        }
        0 => {}
        encoded => {
            if encoded < report.documents {
                parts.push(format!("{} encoded", grouped(encoded)));
            }
            parts.push(format!("{:.0} passages/s", encoded as f64 / elapsed.max(0.001)));
        }
    }
    if report.stopped {
        parts.push(format!("{} stored", grouped(there)));
    }
    parts.push(seconds(elapsed));
    if report.pairs > 0 {
        parts.push(counted(report.pairs, "pair", "pairs"));
    }
    for (number, what) in [
        (report.removed, "removed"),
        (report.truncated, "longer than the encoder reads"),
        (report.refused, "refused"),
    ] {
        if number > 0 {
            parts.push(format!("{} {what}", grouped(number)));
        }
    }
    if report.skipped > 0 {
        parts.push(format!(
            "{} skipped (stratal add --explain tells why)",
            grouped(report.skipped)
        ));
    }
    if report.left_of_gone_files > 0 {
        let files = counted(report.gone_files, "file that is gone", "files that are gone");
        parts.push(format!(
            "{} left of {files} (--sync removes them)",
            grouped(report.left_of_gone_files)
        ));
    }
    if report.limited {
        parts.push("stopped at the limit, run it again to go on".to_owned());
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_no_more_than_what_is_stored() {
        let mut report = IngestReport::default();
        (report.files, report.documents, report.stopped) = (1, 768, true);
        let stopped = summary(&report);
        assert!(
            stopped.contains("768 passages from 1 file · 0 stored"),
            "{stopped}"
        );
        assert!(!stopped.contains("all was there"), "{stopped}");
        let mut report = IngestReport::default();
        (report.files, report.documents, report.unchanged, report.pairs) = (1, 2, 2, 1);
        let again = summary(&report);
        assert!(
            again.contains("all was there") && again.contains("1 pair"),
            "{again}"
        );
        assert!(!again.contains("1 pairs") && !again.contains("stored"), "{again}");
        let mut report = IngestReport::default();
        (report.files, report.documents, report.refused) = (1, 1, 1);
        assert!(!summary(&report).contains("all was there"));
    }
}
