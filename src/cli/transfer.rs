//! `export` and `import`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::arguments::{Export, Import};
use super::documents::{document_value, id_value};
use super::output::{Output, bar, counted, note};
use super::{Failure, Outcome, collection};
use crate::ingest::{Compression, FieldNames, JsonLines, NpyElement, NpyReader, NpyWriter, Record};
use crate::{Collection, CollectionSnapshot, Database, Document, Element, Id};

/// Documents of one commit of an import.
const BATCH: usize = 10_000;

pub fn export(arguments: &Export, output: &mut Output) -> Outcome {
    let db = Database::options()
        .read_only(true)
        .salvage(arguments.salvage)
        .open(&arguments.database)?;
    for left_out in &db.opened().damaged {
        note(&format!("left out: {left_out}"));
    }
    let target = collection(&db, arguments.collection.as_deref())?;
    let snapshot = target.snapshot()?;
    let is_npy = arguments
        .output
        .extension()
        .is_some_and(|extension| extension == "npy");
    if is_npy {
        return export_npy(&target, &snapshot, &arguments.output);
    }
    let generation = target.generation();
    let made_by = (!arguments.no_vectors).then_some(generation.as_str());
    if arguments.output == Path::new("-") {
        for document in snapshot.iter() {
            output.json(&document_value(&document?, made_by)?)?;
        }
        return Ok(());
    }
    let path = &arguments.output;
    let failed = |error| Failure::io("write", path, error);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    let progress = bar("{bar:30} {pos}/{len} documents", snapshot.count());
    for document in snapshot.iter() {
        writeln!(file, "{}", document_value(&document?, made_by)?).map_err(failed)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    file.into_inner()
        .map_err(|error| failed(error.into_error()))?
        .sync_all()
        .map_err(failed)?;
    note(&format!(
        "{} written to {}",
        counted(snapshot.count(), "document", "documents"),
        path.display()
    ));
    Ok(())
}

/// Where the ids of a `.npy` file's rows are.
fn ids_path(npy: &Path) -> PathBuf {
    npy.with_extension("ids.jsonl")
}

fn export_npy(target: &Collection, snapshot: &CollectionSnapshot, path: &Path) -> Outcome {
    let element = match target.element() {
        Element::F16 => NpyElement::F16,
        _ => NpyElement::F32,
    };
    let layers = target.layers().len();
    let mut array = NpyWriter::create(path, layers, target.dimension(), element)?;
    let ids = ids_path(path);
    let failed = |error| Failure::io("write", &ids, error);
    let mut lines = BufWriter::new(File::create(&ids).map_err(failed)?);
    for document in snapshot.iter() {
        let document = document?;
        let vectors = document.layer_vectors()?;
        array.push(vectors.iter().map(Vec::as_slice))?;
        writeln!(lines, "{}", json!({ "id": id_value(document.id()) })).map_err(failed)?;
    }
    array.finish()?;
    lines.flush().map_err(failed)?;
    note(&format!(
        "{} in {}, their ids in {}",
        counted(snapshot.count(), "row", "rows"),
        path.display(),
        ids.display()
    ));
    Ok(())
}

pub fn import(arguments: &Import, output: &mut Output) -> Outcome {
    let db = Database::open(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?;
    let is_npy = arguments
        .file
        .extension()
        .is_some_and(|extension| extension == "npy");
    let result = if is_npy {
        import_npy(&db, &target, arguments)
    } else {
        import_lines(&db, &target, arguments)
    };
    db.close()?;
    let (imported, refused) = result?;
    let refused_too = if refused > 0 {
        format!(", {refused} refused")
    } else {
        String::new()
    };
    output.line(&format!(
        "{} imported{refused_too}",
        counted(imported, "document", "documents")
    ))?;
    if refused > 0 { Err(Failure::Partly) } else { Ok(()) }
}

fn import_npy(db: &Database, target: &Collection, arguments: &Import) -> Result<(u64, u64), Failure> {
    let mut array = NpyReader::open(&arguments.file)?;
    let mut ids = match &arguments.ids {
        Some(path) => Some(JsonLines::open(
            path,
            &path.display().to_string(),
            FieldNames::default(),
        )?),
        None => None,
    };
    let dimension = array.dimension();
    let mut batch = Batch::new(db, target);
    let mut row = 0u64;
    while let Some(components) = array.next_row()? {
        let id = match &mut ids {
            None => Id::from(row),
            Some(ids) => match ids.next() {
                Some(record) => record?.id,
                None => {
                    return Err(Failure::invalid(format!(
                        "the ids end before row {row} of the array"
                    )));
                }
            },
        };
        let mut document = Document::new(id).layer_vectors(components.chunks(dimension).map(<[f32]>::to_vec));
        if let Some(made_by) = &arguments.made_by {
            document = document.made_by(made_by);
        }
        batch.put(document)?;
        row += 1;
    }
    if ids.is_some_and(|mut ids| ids.next().is_some()) {
        note(&format!(
            "there are more ids than the {row} rows of the array; the rest was not used"
        ));
    }
    Ok((batch.finish()?, 0))
}

fn import_lines(db: &Database, target: &Collection, arguments: &Import) -> Result<(u64, u64), Failure> {
    let name = arguments.file.display().to_string();
    let lines = match arguments.file == Path::new("-") {
        true => JsonLines::from_reader("-", io::stdin(), Compression::None, FieldNames::default()),
        false => JsonLines::open(&arguments.file, &name, FieldNames::default())?,
    };
    let mut batch = Batch::new(db, target);
    let mut refused = 0;
    for record in lines {
        let put = match record {
            Ok(record) => {
                let line = record.line;
                batch
                    .put(document_of(record))
                    .map_err(|failure| at_line(failure, &name, line))
            }
            Err(error) if error.is_one_line() => Err(Failure::from(error)),
            Err(error) => return Err(error.into()),
        };
        match put {
            Ok(()) => {}
            Err(Failure::Error(error)) if arguments.skip_bad_lines => {
                note(&format!("refused: {error}"));
                refused += 1;
            }
            Err(failure) => {
                batch.finish()?;
                return Err(failure);
            }
        }
    }
    Ok((batch.finish()?, refused))
}

fn document_of(record: Record) -> Document {
    let mut document = Document::new(record.id);
    if let Some(title) = record.title {
        document = document.title(title);
    }
    if let Some(text) = record.text {
        document = document.text(text);
    }
    if !record.metadata.is_empty() {
        document = document.metadata(record.metadata.into());
    }
    if let Some(vectors) = record.vectors {
        document = document.layer_vectors(vectors);
    }
    if let Some(made_by) = record.made_by {
        document = document.made_by(made_by);
    }
    document
}

fn at_line(failure: Failure, name: &str, line: u64) -> Failure {
    match failure {
        Failure::Error(error) => Failure::invalid(format!("{name}:{line}: {error}")),
        other => other,
    }
}

/// Documents on their way into commits of a bounded size.
struct Batch<'a> {
    db: &'a Database,
    target: &'a Collection,
    transaction: crate::Transaction,
    imported: u64,
}

impl<'a> Batch<'a> {
    fn new(db: &'a Database, target: &'a Collection) -> Batch<'a> {
        Batch {
            db,
            target,
            transaction: db.begin(),
            imported: 0,
        }
    }

    fn put(&mut self, document: Document) -> Outcome {
        self.transaction.upsert(self.target, document)?;
        if self.transaction.len() >= BATCH {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Outcome {
        let full = std::mem::replace(&mut self.transaction, self.db.begin());
        let documents = full.len() as u64;
        full.commit()?;
        self.imported += documents;
        Ok(())
    }

    fn finish(mut self) -> Result<u64, Failure> {
        self.commit()?;
        Ok(self.imported)
    }
}
