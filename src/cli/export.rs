//! `export`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::arguments::Export;
use super::documents::{document_value, id_value};
use super::output::{Output, bar, counted, note};
use super::replacement::{Replacement, real};
use super::{Failure, Outcome, collection};
use crate::ingest::{NpyElement, NpyWriter};
use crate::{Collection, CollectionSnapshot, Database, Element, Error, Id, Pair, StoredDocument};

/// Kinds of damage told one by one, and documents named of each.
const TOLD: usize = 20;
const NAMED: usize = 5;

pub fn export(arguments: &Export, output: &mut Output) -> Outcome {
    let db = Database::options()
        .read_only(true)
        .salvage(arguments.salvage)
        .open(&arguments.database)?;
    let is_npy = arguments
        .output
        .extension()
        .is_some_and(|extension| extension == "npy");
    let ids = is_npy.then(|| arguments.output.with_extension("ids.jsonl"));
    check_places(&db, arguments, ids.as_deref())?;
    for left_out in &db.opened().damaged {
        note(&format!("left out: {left_out}"));
    }
    let target = collection(&db, arguments.collection.as_deref())?;
    let snapshot = target.snapshot()?;
    let mut reading = Reading {
        snapshot: &snapshot,
        salvage: arguments.salvage,
        left_out: LeftOut::default(),
    };
    match &ids {
        Some(ids) => export_npy(&target, &mut reading, &arguments.output, ids)?,
        None => export_lines(&target, &mut reading, arguments, output)?,
    }
    if let Some(path) = &arguments.pairs {
        export_pairs(&mut reading, path)?;
    }
    reading.left_out.tell();
    match reading.left_out.documents == 0 && db.opened().damaged.is_empty() {
        true => Ok(()),
        false => Err(Failure::Partly),
    }
}

fn export_lines(
    target: &Collection,
    reading: &mut Reading<'_>,
    arguments: &Export,
    output: &mut Output,
) -> Outcome {
    let generation = target.generation();
    let made_by = (!arguments.no_vectors).then_some(generation.as_str());
    let value = |document: &StoredDocument| document_value(document, made_by);
    let path = &arguments.output;
    if path == Path::new("-") {
        return reading.each(value, |value| output.json(&value)).map(|_| ());
    }
    let mut file = Replacement::create(path)?;
    let progress = bar("{bar:30} {pos}/{len} documents", reading.snapshot.count());
    let written = reading.each(value, |value| {
        progress.inc(1);
        file.line(&value)
    })?;
    progress.finish_and_clear();
    file.finish()?;
    note(&format!(
        "{} written to {}",
        counted(written, "document", "documents"),
        path.display()
    ));
    Ok(())
}

fn export_npy(target: &Collection, reading: &mut Reading<'_>, path: &Path, ids: &Path) -> Outcome {
    let element = match target.element() {
        Element::F16 => NpyElement::F16,
        _ => NpyElement::F32,
    };
    let layers = target.layers().len();
    let file = Replacement::create(path)?;
    let mut array = NpyWriter::new(file, path, layers, target.dimension(), element)?;
    let mut lines = Replacement::create(ids)?;
    let written = reading.each(
        |document| Ok((id_value(document.id()), document.layer_vectors()?)),
        |(id, vectors)| {
            array.push(vectors.iter().map(Vec::as_slice))?;
            lines.line(&json!({ "id": id }))
        },
    )?;
    array.finish()?.finish()?;
    lines.finish()?;
    note(&format!(
        "{} in {}, their ids in {}",
        counted(written, "row", "rows"),
        path.display(),
        ids.display()
    ));
    Ok(())
}

fn export_pairs(reading: &mut Reading<'_>, path: &Path) -> Outcome {
    let (pairs, damage) = reading.snapshot.readable_pairs();
    for error in damage {
        reading.leave_out(None, error)?;
    }
    let mut file = Replacement::create(path)?;
    for pair in &pairs {
        file.line(&pair_value(pair))?;
    }
    file.finish()?;
    note(&format!(
        "{} written to {}",
        counted(pairs.len() as u64, "pair", "pairs"),
        path.display()
    ));
    Ok(())
}

/// A pair as `add --pairs` reads it.
fn pair_value(pair: &Pair) -> Value {
    json!({ "question": pair.question, "passage_id": id_value(&pair.document) })
}

/// Refuses to write into the database, or two things to one place.
fn check_places(db: &Database, arguments: &Export, ids: Option<&Path>) -> Outcome {
    let failed = |path: &Path, error| Failure::io("write", path, error);
    let folder = db
        .path()
        .canonicalize()
        .map_err(|error| Failure::io("read", db.path(), error))?;
    let mut places: Vec<PathBuf> = Vec::new();
    let given = [Some(arguments.output.as_path()), ids, arguments.pairs.as_deref()];
    for path in given.into_iter().flatten() {
        if path == Path::new("-") {
            continue;
        }
        let place = real(path).map_err(|error| failed(path, error))?;
        if place.starts_with(&folder) {
            return Err(Failure::invalid(format!(
                "{} is inside the database: write the export beside it",
                path.display()
            )));
        }
        // Devices and pipes may take several things.
        if places.contains(&place) && !place.metadata().is_ok_and(|about| !about.is_file()) {
            return Err(Failure::Usage(format!(
                "{} is named for two things: give each a file of its own",
                path.display()
            )));
        }
        places.push(place);
    }
    Ok(())
}

/// All documents of a snapshot, one after the other; past damaged ones where what is left is to be saved.
struct Reading<'a> {
    snapshot: &'a CollectionSnapshot,
    salvage: bool,
    left_out: LeftOut,
}

impl Reading<'_> {
    /// Hands on what is read of each document, and gives how many there were.
    fn each<T>(
        &mut self,
        read: impl Fn(&StoredDocument) -> crate::Result<T>,
        mut write: impl FnMut(T) -> Outcome,
    ) -> Result<u64, Failure> {
        let (mut written, snapshot) = (0, self.snapshot);
        for document in snapshot.iter() {
            let (id, value) = match document {
                Ok(document) => (Some(document.id().clone()), read(&document)),
                Err(error) => (None, Err(error)),
            };
            match value {
                Ok(value) => {
                    write(value)?;
                    written += 1;
                }
                Err(error) => self.leave_out(id, error)?,
            }
        }
        Ok(written)
    }

    fn leave_out(&mut self, id: Option<Id>, error: Error) -> Outcome {
        if !self.salvage {
            return Err(error.into());
        }
        self.left_out.add(id, error.to_string());
        Ok(())
    }
}

/// What was damaged: a page takes many documents along, so damage is counted by what was said of it.
#[derive(Default)]
struct LeftOut {
    documents: u64,
    damage: Vec<Damage>,
    untold: u64,
}

struct Damage {
    what: String,
    documents: u64,
    named: Vec<String>,
}

impl LeftOut {
    fn add(&mut self, id: Option<Id>, what: String) {
        self.documents += 1;
        let name = id.map(|id| id.to_string());
        if let Some(damage) = self.damage.iter_mut().find(|damage| damage.what == what) {
            damage.documents += 1;
            let room = damage.named.len() < NAMED;
            damage.named.extend(name.filter(|_| room));
        } else if self.damage.len() < TOLD {
            self.damage.push(Damage {
                what,
                documents: 1,
                named: name.into_iter().collect(),
            });
        } else {
            self.untold += 1;
        }
    }

    fn tell(&self) {
        for damage in &self.damage {
            let more = match damage.documents > damage.named.len() as u64 {
                true if !damage.named.is_empty() => ", …",
                _ => "",
            };
            let named = match damage.named.is_empty() {
                true => String::new(),
                false => format!(" ({}{more})", damage.named.join(", ")),
            };
            note(&format!(
                "left out: {}{named}: {}",
                counted(damage.documents, "document", "documents"),
                damage.what
            ));
        }
        if self.untold > 0 {
            note(&format!(
                "left out: {} more, for other damage; `verify` tells all of it",
                counted(self.untold, "document", "documents")
            ));
        }
    }
}
