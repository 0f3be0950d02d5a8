//! `import`.

use std::io;
use std::path::Path;

use super::arguments::Import;
use super::output::{Output, counted, note};
use super::{Failure, Outcome, collection};
use crate::ingest::{Compression, FieldNames, JsonLines, NpyReader, Record};
use crate::{Collection, Database, Document, Id};

/// Documents of one commit of an import.
const BATCH: usize = 10_000;

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
