//! `index` and `recall`.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::add::listen_for_interrupts;
use super::arguments::{Index, Recall};
use super::output::{Output, bar, bytes, counted, grouped, note, seconds};
use super::{Failure, Outcome, collection, plot};
use crate::{Database, Error, IndexProgress, RecallAt};

pub fn index(arguments: &Index, output: &mut Output) -> Outcome {
    let db = Database::open(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?;
    let stop = Arc::new(AtomicBool::new(false));
    listen_for_interrupts(&stop)?;
    let progress_bar = bar("{bar:30} {percent:>3}% {msg}", 1000);
    let progress = |now: &IndexProgress| {
        progress_bar.set_position((now.done * 1000.0) as u64);
        progress_bar.set_message(format!(
            "of segment {} of {}, {}",
            now.segment,
            now.segments,
            counted(now.documents, "document", "documents")
        ));
    };
    let mut build = target.build_index().cancel(&stop);
    if io::stderr().is_terminal() {
        build = build.progress(&progress);
    }
    if arguments.again {
        build = build.again();
    }
    let built = build.run();
    progress_bar.finish_and_clear();
    let report = match built {
        Err(Error::Cancelled) => {
            note("stopped: segments that were done keep their index; run the same command again to go on");
            return Err(Failure::Partly);
        }
        built => built?,
    };
    db.close()?;
    if arguments.json {
        return output.json(&report);
    }
    match report.segments {
        0 => output.line("nothing to do: every segment that would gain from an index has one"),
        _ => output.line(&format!(
            "{} in {} indexed, {} of indexes, {}",
            counted(report.documents, "document", "documents"),
            counted(report.segments as u64, "segment", "segments"),
            bytes(report.bytes),
            seconds(report.seconds)
        )),
    }
}

pub fn recall(arguments: &Recall, output: &mut Output) -> Outcome {
    let db = Database::open_read_only(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?;
    let measured = target.recall(arguments.sample)?;
    if let Some(path) = &arguments.plot {
        let title = format!("{}: {} documents", target.name(), grouped(measured.documents));
        std::fs::write(path, plot::recall(&measured, &title))
            .map_err(|error| Failure::io("write", path, error))?;
    }
    if arguments.json {
        return output.json(&measured);
    }
    output.line(&format!(
        "{} of {}\n\n  effort   recall@10   queries/s",
        counted(measured.queries as u64, "question", "questions"),
        counted(measured.documents, "document", "documents"),
    ))?;
    let mut line = |name: &str, at: &RecallAt| {
        output.line(&format!(
            "{name:>8}      {:.4}   {:>9}",
            at.recall,
            grouped(at.queries_per_second as u64)
        ))
    };
    for at in &measured.curve {
        line(&at.effort.unwrap_or_default().to_string(), at)?;
    }
    line("default", &measured.default)?;
    let exact = RecallAt {
        effort: None,
        recall: 1.0,
        queries_per_second: measured.exact_queries_per_second,
    };
    line("exact", &exact)
}
