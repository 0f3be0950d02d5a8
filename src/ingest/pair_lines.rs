//! Pairs from JSON lines: `{"question": …, "passage_id": …}`, other fields being passed over.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{IngestError, LineProblem};
use super::jsonl::JsonLines;
use super::pipeline::BadLine;
use super::record::{FieldNames, Record};
use super::report::IngestReport;
use crate::{Collection, Result};

/// Pairs of a commit.
const BATCH_PAIRS: usize = 512;
const DOCUMENT: &str = "passage_id";
const QUESTION: &str = "question";

/// Commits the pairs of a file. What is stored already is stored once; a pair whose document is not there is refused.
pub(super) fn commit_pairs(
    collection: &Collection,
    path: &Path,
    bad_line: BadLine,
    cancel: &AtomicBool,
) -> Result<IngestReport> {
    let mut report = IngestReport::default();
    // A pair has no id of its own; a document may answer many questions.
    let fields = FieldNames {
        id: DOCUMENT.to_owned(),
        text: QUESTION.to_owned(),
        ..FieldNames::default()
    };
    let name = path.display().to_string();
    let mut transaction = collection.database().begin();
    for item in JsonLines::open(path, &name, fields)?.with_repeated_ids() {
        if cancel.load(Ordering::Relaxed) {
            report.stopped = true;
            break;
        }
        let added = item.map_err(without_document).and_then(|record| {
            let line = record.line;
            pair(collection, record, &mut transaction).map_err(|problem| IngestError::Line {
                file: name.clone(),
                line,
                problem,
            })
        });
        match (added, bad_line) {
            (Ok(()), _) => report.pairs += 1,
            (Err(error @ IngestError::Line { .. }), BadLine::Skip) => report.refuse(error.to_string()),
            (Err(error), _) => {
                transaction.commit()?;
                return Err(error.into());
            }
        }
        if transaction.len() >= BATCH_PAIRS {
            std::mem::replace(&mut transaction, collection.database().begin()).commit()?;
        }
    }
    if !transaction.is_empty() {
        transaction.commit()?;
    }
    Ok(report)
}

fn pair(
    collection: &Collection,
    record: Record,
    transaction: &mut crate::Transaction,
) -> std::result::Result<(), LineProblem> {
    let id = record.id;
    let question = record.text.unwrap_or_default();
    let there = collection
        .snapshot()
        .and_then(|snapshot| Ok(snapshot.inner.find(&id)?.is_some()));
    if !there.unwrap_or(false) {
        return Err(wrong(DOCUMENT, "the id of a stored document", id.to_string()));
    }
    transaction
        .pair(collection, question, id)
        .map_err(|error| wrong(QUESTION, "a question", error.to_string()))
}

fn wrong(field: &str, expected: &'static str, found: String) -> LineProblem {
    LineProblem::WrongType {
        field: field.to_owned(),
        expected,
        found,
    }
}

/// What a line lacks is no id of its own, but that of a document.
fn without_document(error: IngestError) -> IngestError {
    match error {
        IngestError::Line {
            file,
            line,
            problem: LineProblem::MissingId { field },
        } => IngestError::Line {
            file,
            line,
            problem: wrong(&field, "the id of a document", "not there".to_owned()),
        },
        other => other,
    }
}
