//! `stat`, `verify` and `compact`.

use serde_json::json;

use super::arguments::{Compact, Stat, Verify};
use super::output::{Output, bytes, counted, grouped, note};
use super::{Failure, Outcome};
use crate::Database;

pub fn stat(arguments: &Stat, output: &mut Output) -> Outcome {
    let db = Database::open_read_only(&arguments.database)?;
    let statistics = db.statistics()?;
    if arguments.json {
        return output.json(&statistics);
    }
    output.line(&format!(
        "{}  {} in {}, {} of log, commit {}",
        arguments.database.display(),
        bytes(statistics.disk_bytes),
        counted(statistics.files.len() as u64, "file", "files"),
        bytes(statistics.log_bytes),
        grouped(statistics.seq)
    ))?;
    for figures in &statistics.collections {
        let collection = db.collection(&figures.name).open()?;
        output.line(&format!(
            "\n{}  {}",
            figures.name,
            counted(figures.documents, "document", "documents")
        ))?;
        output.line(&format!(
            "  vectors    {} × {} {:?}, {}",
            counted(collection.layers().len() as u64, "layer", "layers"),
            collection.dimension(),
            collection.element(),
            collection.similarity()
        ))?;
        let kind = if collection.has_encoder() {
            "encoder"
        } else {
            "label"
        };
        output.line(&format!("  {kind:9}  {}", collection.made_by()))?;
        output.line(&format!(
            "  on disk    {} in {}; {} deleted, {} not flushed yet",
            bytes(figures.segment_bytes),
            counted(figures.segments, "segment", "segments"),
            grouped(figures.deleted_rows),
            grouped(figures.unflushed_documents)
        ))?;
    }
    Ok(())
}

pub fn verify(arguments: &Verify, output: &mut Output) -> Outcome {
    let db = Database::options().salvage(true).open(&arguments.database)?;
    let found = db.verify()?;
    if arguments.json {
        output.json(&json!({ "sound": found.is_sound(), "found": found }))?;
    } else {
        for problem in &found.problems {
            output.line(&format!("damage: {}", problem.what))?;
        }
        for path in &found.foreign {
            note(&format!("not part of the database: {}", path.display()));
        }
        output.line(&format!(
            "{}: {} in {} ({}), {} in the log",
            if found.is_sound() { "sound" } else { "damaged" },
            counted(found.documents, "document", "documents"),
            counted(found.segments, "segment", "segments"),
            bytes(found.bytes),
            counted(found.log_commits, "commit", "commits")
        ))?;
    }
    if found.is_sound() {
        Ok(())
    } else {
        Err(Failure::Damage)
    }
}

pub fn compact(arguments: &Compact, output: &mut Output) -> Outcome {
    let db = Database::open(&arguments.database)?;
    let before = db.statistics()?.disk_bytes;
    match &arguments.collection {
        Some(name) => db.collection(name).open()?.compact()?,
        None => db.compact()?,
    }
    let after = db.statistics()?.disk_bytes;
    db.close()?;
    output.line(&format!("{} before, {} now", bytes(before), bytes(after)))
}
