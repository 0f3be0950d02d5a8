//! `count` and `list`, and filters as they are typed.

use super::arguments::{Count, List};
use super::documents::document_value;
use super::output::{Output, excerpt, note, plain};
use super::{Failure, Outcome, collection};
use crate::{Collection, CollectionSnapshot, Database, Filter, Id};

/// Lines of a document's text that are shown.
const EXCERPT_LINES: usize = 1;

pub fn count(arguments: &Count, output: &mut Output) -> Outcome {
    let db = Database::open_read_only(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?.snapshot()?;
    let count = match &arguments.filter {
        None => target.count(),
        Some(text) => {
            let filter = parsed(text)?;
            tell_unknown_fields(&target, &filter)?;
            target.count_where(filter)?
        }
    };
    output.line(&count.to_string())
}

pub fn list(arguments: &List, output: &mut Output) -> Outcome {
    let db = Database::open_read_only(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?.snapshot()?;
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let Some(text) = &arguments.filter else {
        return print(target.iter().take(limit), arguments.json, output);
    };
    let filter = parsed(text)?;
    tell_unknown_fields(&target, &filter)?;
    print(target.iter_where(filter)?.take(limit), arguments.json, output)
}

fn print(
    documents: impl Iterator<Item = crate::Result<crate::StoredDocument>>,
    json: bool,
    output: &mut Output,
) -> Outcome {
    for document in documents {
        let document = document?;
        if json {
            output.json(&document_value(&document, None)?)?;
            continue;
        }
        let name = match document.id() {
            Id::Number(number) => number.to_string(),
            Id::Text(text) => plain(text),
        };
        let title = document.title().map(plain).unwrap_or_default();
        let between = if title.is_empty() { "" } else { "  " };
        output.line(&format!("{name}{between}{title}"))?;
        if let Some(text) = document.text().filter(|text| !text.trim().is_empty()) {
            output.line(&excerpt(text, EXCERPT_LINES, "    "))?;
        }
    }
    Ok(())
}

/// A filter as it was typed.
pub fn parsed(text: &str) -> Result<Filter, Failure> {
    Filter::parse(text).map_err(|error| Failure::Usage(error.to_string()))
}

/// Says on standard error which fields of a filter no document has.
pub fn tell_unknown_fields(target: &CollectionSnapshot, filter: &Filter) -> Result<(), Failure> {
    for unknown in target.unknown_fields(filter)? {
        note(&unknown.to_string());
    }
    Ok(())
}

/// A filter for deleting: a slip in a name, with `!=` or `not`, would let everything through.
pub fn known_fields(target: &Collection, text: &str) -> Result<Filter, Failure> {
    let filter = parsed(text)?;
    match target.snapshot()?.unknown_fields(&filter)?.first() {
        None => Ok(filter),
        Some(unknown) => Err(Failure::invalid(format!("{unknown}; nothing was deleted"))),
    }
}
