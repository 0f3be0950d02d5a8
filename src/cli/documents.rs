//! `get` and `delete`.

use serde_json::{Value, json};

use super::arguments::{Delete, Get};
use super::output::{Output, counted, note};
use super::select::known_fields;
use super::{Failure, Outcome, collection, id};
use crate::{Database, Id, StoredDocument};

pub fn get(arguments: &Get, output: &mut Output) -> Outcome {
    let db = Database::open_read_only(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?.snapshot()?;
    let mut missing = false;
    for typed in &arguments.ids {
        let id = id(typed, arguments.number)?;
        let Some(document) = target.get(&id)? else {
            tell_missing(&target, typed, arguments.number)?;
            missing = true;
            continue;
        };
        if arguments.json {
            output.json(&document_value(&document, arguments.vectors.then_some(""))?)?;
        } else {
            print(&document, output)?;
        }
    }
    if missing { Err(Failure::NotFound) } else { Ok(()) }
}

pub fn delete(arguments: &Delete, output: &mut Output) -> Outcome {
    let db = Database::open(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?;
    if let Some(text) = &arguments.filter {
        let deleted = target.delete_where(known_fields(&target, text)?)?;
        output.line(&format!("{} deleted", counted(deleted, "document", "documents")))?;
        return Ok(db.close()?);
    }
    let before = target.snapshot()?;
    let mut missing = false;
    let mut transaction = db.begin();
    for typed in &arguments.ids {
        let id = id(typed, arguments.number)?;
        // One that is damaged is there, and can be deleted.
        if matches!(before.get(&id), Ok(None)) {
            tell_missing(&before, typed, arguments.number)?;
            missing = true;
        }
        transaction.delete(&target, id)?;
    }
    let deleted = transaction.commit()?.deleted;
    // Told before what may fail: they are deleted, whether or not the log can be cut.
    output.line(&format!("{} deleted", counted(deleted, "document", "documents")))?;
    db.close()?;
    if missing { Err(Failure::NotFound) } else { Ok(()) }
}

fn tell_missing(target: &crate::CollectionSnapshot, typed: &str, number: bool) -> Outcome {
    let missing = id(typed, number)?;
    let hint = hint(target, typed, number)?;
    note(&format!("no document {missing}{hint}"));
    Ok(())
}

/// Numbers and texts never meet, which is easily forgotten at a command line.
fn hint(target: &crate::CollectionSnapshot, typed: &str, number: bool) -> Result<&'static str, Failure> {
    if number {
        return Ok(if target.get(typed)?.is_some() {
            " (there is one with that text: leave --number out)"
        } else {
            ""
        });
    }
    match typed.parse::<u64>() {
        Ok(as_number) if target.get(as_number)?.is_some() => {
            Ok(" (there is one with that number: say --number)")
        }
        _ => Ok(""),
    }
}

fn print(document: &StoredDocument, output: &mut Output) -> Outcome {
    output.line(&format!("{}  (version {})", document.id(), document.version()))?;
    if let Some(title) = document.title() {
        output.line(title)?;
    }
    if !document.metadata().is_empty() {
        output.line(&json!(document.metadata()).to_string())?;
    }
    if let Some(source) = document.source() {
        output.line(&format!("from {}, part {}", source.name, source.part))?;
    }
    if let Some(text) = document.text() {
        output.line("")?;
        output.line(text)?;
    }
    Ok(())
}

/// An id in JSON: a number or a text, as it is.
pub fn id_value(id: &Id) -> Value {
    match id {
        Id::Number(number) => json!(number),
        Id::Text(text) => json!(text),
    }
}

/// A document as `export` writes it and `add` and `import` read it; with `made_by` (perhaps empty) come its vectors.
pub fn document_value(document: &StoredDocument, made_by: Option<&str>) -> crate::Result<Value> {
    let mut value = json!({ "id": id_value(document.id()) });
    if let Some(title) = document.title() {
        value["title"] = json!(title);
    }
    if let Some(text) = document.text() {
        value["text"] = json!(text);
    }
    if !document.metadata().is_empty() {
        value["metadata"] = json!(document.metadata());
    }
    if let Some(made_by) = made_by {
        value["vectors"] = json!(document.layer_vectors()?);
        if !made_by.is_empty() {
            value["made_by"] = json!(made_by);
        }
    }
    Ok(value)
}
