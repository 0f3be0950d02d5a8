//! Where ingestion stands with each file, in the catalog: a run over files that have not changed reads none of them.
//!
//! A cursor is believed only while the database is at the very commit at which it was left: whatever was changed
//! since, by whomever, is found by reading the files and comparing them with the documents, as if there were no
//! catalog.

use std::collections::HashSet;
use std::fs::Metadata;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::pipeline::Settings;

/// The table of the catalog; its keys are a collection's number and a source.
const TABLE: &str = "ingested";
/// A file that was written so shortly before it was read may have been written again in the same tick of the clock.
const SETTLED: Duration = Duration::from_secs(2);

/// How a file was when all its documents were stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    bytes: u64,
    /// Since 1970, in nanoseconds.
    modified: u128,
    documents: u64,
}

/// What all cursors of a collection stand on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stand {
    sequence: u64,
    generation: String,
    /// Everything of the run's settings that decides what a file's documents are.
    settings: String,
}

/// The cursors of one collection during a run.
pub(super) struct Cursors {
    collection: u32,
    stand: Stand,
    holds: bool,
    left: Vec<(String, Cursor)>,
    /// Sources of which something was refused after it was read: they are read again, to be told again.
    refused: HashSet<String>,
    gone: Vec<String>,
}

impl Cursors {
    /// Looks at what the last run left. A catalog that cannot be had is the same as an empty one.
    pub fn open(settings: &Settings) -> Cursors {
        let collection = &settings.collection;
        let stand = Stand {
            sequence: collection.database.snapshot().seq(),
            generation: collection.generation(),
            settings: format!(
                "{:?} {:?} {:?}",
                settings.fields, settings.length, settings.prefix
            ),
        };
        let before = collection
            .database
            .store
            .catalog()
            .ok()
            .and_then(|catalog| catalog.get(TABLE, &key(collection.number, "")).ok().flatten())
            .and_then(|bytes| serde_json::from_slice::<Stand>(&bytes).ok());
        Cursors {
            collection: collection.number,
            holds: before.as_ref() == Some(&stand),
            stand,
            left: Vec::new(),
            refused: HashSet::new(),
            gone: Vec::new(),
        }
    }

    /// The number of documents of a source that need not be read, since it is as it was when they were stored.
    pub fn unchanged(&mut self, settings: &Settings, source: &str, about: &Metadata) -> Option<u64> {
        if !self.holds {
            return None;
        }
        let catalog = settings.collection.database.store.catalog().ok()?;
        let bytes = catalog.get(TABLE, &key(self.collection, source)).ok()??;
        let cursor: Cursor = serde_json::from_slice(&bytes).ok()?;
        (cursor == of(about, cursor.documents)?).then_some(cursor.documents)
    }

    /// Notes a file all of whose documents have been handed on; `about` is from before it was read.
    pub fn note(&mut self, source: &str, about: &Metadata, documents: u64) {
        if let Some(cursor) = of(about, documents).filter(|_| is_settled(about)) {
            self.left.push((source.to_owned(), cursor));
        }
    }

    /// Notes that something of a source was refused, which may be before or after the source is noted.
    pub fn refuse(&mut self, source: &str) {
        self.refused.insert(source.to_owned());
    }

    /// Forgets a source whose documents have been removed.
    pub fn forget(&mut self, source: String) {
        self.gone.push(source);
    }

    /// The sources that the last run left cursors of; `None` if they are not to be believed.
    pub fn sources(&self, settings: &Settings) -> Option<Vec<String>> {
        if !self.holds {
            return None;
        }
        let catalog = settings.collection.database.store.catalog().ok()?;
        let prefix = key(self.collection, "");
        let entries = catalog.entries(TABLE).ok()?;
        let sources = entries
            .into_iter()
            .filter_map(|(key, _)| Some(key.strip_prefix(&prefix)?.to_owned()));
        Some(sources.filter(|source| !source.is_empty()).collect())
    }

    /// Leaves the cursors of a run that came to its end and made `commits` commits. If others committed meanwhile,
    /// none is left, as they may have changed what was read.
    pub fn leave(self, settings: &Settings, commits: u64) {
        let sequence = settings.collection.database.snapshot().seq();
        let Ok(catalog) = settings.collection.database.store.catalog() else {
            return;
        };
        let write = || -> Result<(), stratal_storage::Error> {
            let stand_key = key(self.collection, "");
            // Last of all comes the stand: without it no cursor counts.
            catalog.remove(TABLE, &stand_key)?;
            if !self.holds {
                // Those of other settings, or of documents that others have changed.
                for (key, _) in catalog.entries(TABLE)? {
                    if key.starts_with(&stand_key) {
                        catalog.remove(TABLE, &key)?;
                    }
                }
            }
            if sequence != self.stand.sequence + commits {
                return Ok(());
            }
            for source in &self.gone {
                catalog.remove(TABLE, &key(self.collection, source))?;
            }
            let left = self.left.iter();
            for (source, cursor) in left.filter(|(source, _)| !self.refused.contains(source)) {
                let bytes = serde_json::to_vec(cursor).unwrap_or_default();
                catalog.put(TABLE, &key(self.collection, source), &bytes)?;
            }
            let stand = Stand {
                sequence,
                ..self.stand
            };
            catalog.put(TABLE, &stand_key, &serde_json::to_vec(&stand).unwrap_or_default())
        };
        if let Err(error) = write() {
            tracing::debug!(%error, "the next ingestion reads every file");
        }
    }
}

fn key(collection: u32, source: &str) -> String {
    format!("{collection}\n{source}")
}

fn of(about: &Metadata, documents: u64) -> Option<Cursor> {
    let modified = about
        .modified()
        .ok()?
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    Some(Cursor {
        bytes: about.len(),
        modified: modified.as_nanos(),
        documents,
    })
}

fn is_settled(about: &Metadata) -> bool {
    about
        .modified()
        .ok()
        .and_then(|modified| modified.elapsed().ok())
        .is_some_and(|age| age > SETTLED)
}
