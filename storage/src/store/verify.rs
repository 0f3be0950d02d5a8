//! Reading a whole database back: every page, every table, every rule that ties them.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Serialize;

use super::manifest::Manifest;
use super::open::foreign_files;
use super::{Store, locked};
use crate::error::{Error, Result};
use crate::part::Part;
use crate::wal;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What, in words, with the file and the place.
    pub what: String,
}

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Documents read.
    pub documents: u64,
    /// Segments read.
    pub segments: u64,
    /// Bytes of segments read.
    pub bytes: u64,
    /// Commits in the log.
    pub log_commits: u64,
    /// What is wrong; empty if the database is sound.
    pub problems: Vec<Problem>,
    /// Files in the folder that are not part of the database.
    pub foreign: Vec<PathBuf>,
}

impl Store {
    /// Reads everything and checks it. A damaged database that does not open can be verified by opening it
    /// read-only with `salvage`.
    ///
    /// # Errors
    /// Only what keeps it from looking at all; what is wrong inside is in the answer.
    pub fn verify(&self) -> Result<Verification> {
        let shared = &self.shared;
        // No checkpoint meanwhile: it would take files away.
        let _maintaining = locked(&shared.maintaining);
        let mut found = Verification {
            problems: self
                .opened()
                .damaged
                .iter()
                .map(|what| Problem { what: what.clone() })
                .collect(),
            foreign: foreign_files(shared.vfs(), &shared.folder)?,
            ..Verification::default()
        };
        let manifest = match Manifest::read(shared.vfs(), &shared.folder) {
            Ok(Some(manifest)) => Some(manifest),
            Ok(None) => {
                found.note(Error::NoDatabase {
                    path: shared.folder.root.clone(),
                });
                None
            }
            Err(error) => {
                found.note(error);
                None
            }
        };
        if let Some(manifest) = manifest {
            let _log = locked(&shared.log);
            let mut commits = 0;
            let replayed = wal::replay(
                shared.vfs(),
                &shared.folder.wal(),
                manifest.seq,
                false,
                &mut |_, _| {
                    commits += 1;
                    Ok(())
                },
            );
            found.log_commits = commits;
            if let Err(error) = replayed {
                found.note(error);
            }
        }
        for collection in self.snapshot().collections() {
            let mut docids = HashSet::new();
            for live in collection.parts() {
                if let Part::Segment(segment) = live.part() {
                    found.segments += 1;
                    found.bytes += segment.disk_bytes();
                    if let Err(error) = segment.verify_all() {
                        found.note(error);
                        continue;
                    }
                }
                for row in (0..live.part().rows()).filter(|row| !live.dead().contains(*row)) {
                    found.documents += 1;
                    match live.part().docid(row) {
                        Ok(docid) if docids.insert(docid) => {}
                        Ok(docid) => found.problems.push(Problem {
                            what: format!("docid {docid} is live twice in {:?}", collection.name()),
                        }),
                        Err(error) => found.note(error),
                    }
                    let first = live.part().id(row).and_then(|id| collection.find(&id));
                    match first {
                        Ok(Some(found_row))
                            if found_row.row == row && found_row.part.is_same(live.part()) => {}
                        Ok(_) => found.problems.push(Problem {
                            what: format!("row {row} of {:?} is not found by its id", collection.name()),
                        }),
                        Err(error) => found.note(error),
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn note(&mut self, error: Error) {
        self.problems.push(Problem {
            what: error.to_string(),
        });
    }
}
