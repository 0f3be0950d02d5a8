//! What a transaction asks for, and how its rules are decided against a state.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::record::{Change, GenerationSpec, Vectors};
use super::state::{CollectionState, DatabaseState, LiveRow, has_generation};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::layout::Layout;
use crate::segment::PAYLOAD_BYTES_MAX;

/// What must hold of a document before a put replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything: put it there.
    Any,
    /// No such document.
    Absent,
    /// The document is there at this version.
    Version(u64),
}

#[derive(Debug)]
enum Operation {
    Put {
        id: Id,
        expect: Expect,
        payload: Arc<[u8]>,
        vectors: Vec<Vectors>,
    },
    Delete {
        id: Id,
        expected: Option<u64>,
    },
    AddVectors {
        id: Id,
        version: u64,
        vectors: Vec<Vectors>,
    },
    AddGeneration {
        layout: Layout,
        attributes: Value,
    },
    SetCurrent {
        generation: u32,
    },
    DropGeneration {
        generation: u32,
    },
    Drop,
}

#[derive(Debug)]
enum Step {
    In {
        collection: u32,
        name: Arc<str>,
        operation: Operation,
    },
    Set {
        key: String,
        value: Value,
    },
    Unset {
        key: String,
    },
}

/// The operations of one transaction, in order. Nothing happens before it is committed.
#[derive(Debug, Default)]
pub struct Batch {
    steps: Vec<Step>,
    /// Collections whose documents are none to the user.
    uncounted: HashSet<u32>,
}

/// What a commit did, collections that are not counted ([`Batch::leave_uncounted`]) apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The commit's sequence number; the version of every document it put.
    pub seq: u64,
    /// Documents that were not there before.
    pub inserted: u64,
    /// Documents that took the place of an older version.
    pub replaced: u64,
    /// Documents deleted.
    pub deleted: u64,
}

impl Batch {
    /// An empty transaction.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Whether nothing has been asked for.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Puts a document: its payload and one vector set for each generation of the collection.
    pub fn put(
        &mut self,
        collection: (u32, &Arc<str>),
        id: Id,
        expect: Expect,
        payload: Arc<[u8]>,
        vectors: Vec<Vectors>,
    ) {
        self.push(
            collection,
            Operation::Put {
                id,
                expect,
                payload,
                vectors,
            },
        );
    }

    /// Leaves what happens in a collection out of the figures of [`Committed`]: for one that holds what goes with
    /// the documents of another.
    pub fn leave_uncounted(&mut self, collection: u32) {
        self.uncounted.insert(collection);
    }

    /// Deletes a document; one that is not there is no error unless a version is expected.
    pub fn delete(&mut self, collection: (u32, &Arc<str>), id: Id, expected: Option<u64>) {
        self.push(collection, Operation::Delete { id, expected });
    }

    /// Drops a collection with all its documents.
    pub fn drop_collection(&mut self, collection: (u32, &Arc<str>)) {
        self.push(collection, Operation::Drop);
    }

    /// Adds a generation to a collection; `layout.generation` is what
    /// [`crate::CollectionSnapshot::next_generation`] gave, and the commit fails if it has been given since. It
    /// answers no search before [`Batch::set_current`].
    pub fn add_generation(&mut self, collection: (u32, &Arc<str>), layout: Layout, attributes: Value) {
        self.push(collection, Operation::AddGeneration { layout, attributes });
    }

    /// Gives a document that is still at `version` vectors of more generations; one that has changed since is
    /// passed over. Its version stays.
    pub fn add_vectors(&mut self, collection: (u32, &Arc<str>), id: Id, version: u64, vectors: Vec<Vectors>) {
        self.push(collection, Operation::AddVectors { id, version, vectors });
    }

    /// Lets another generation answer. Fails with [`Error::Incomplete`] if a document lacks its vectors after the
    /// steps before this one; a batch that does this puts and deletes nothing in the collection.
    pub fn set_current(&mut self, collection: (u32, &Arc<str>), generation: u32) {
        self.push(collection, Operation::SetCurrent { generation });
    }

    /// Drops a generation that does not answer; see [`crate::Store::drop_generation`].
    pub(crate) fn drop_generation(&mut self, collection: (u32, &Arc<str>), generation: u32) {
        self.push(collection, Operation::DropGeneration { generation });
    }

    /// Sets a setting of the database.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        self.steps.push(Step::Set {
            key: key.into(),
            value,
        });
    }

    /// Removes a setting.
    pub fn unset(&mut self, key: impl Into<String>) {
        self.steps.push(Step::Unset { key: key.into() });
    }

    fn push(&mut self, (collection, name): (u32, &Arc<str>), operation: Operation) {
        self.steps.push(Step::In {
            collection,
            name: Arc::clone(name),
            operation,
        });
    }
}

/// What a document has become within the transaction.
struct Touched {
    /// The version in the state before the transaction.
    before: Option<u64>,
    /// Where that version is.
    at: Option<LiveRow>,
    /// The version as of the last step.
    now: Option<u64>,
    /// Index of its change, if it needs one.
    change: Option<usize>,
}

struct Resolver<'a> {
    state: &'a DatabaseState,
    seq: u64,
    next_docid: u64,
    changes: Vec<Option<Change>>,
    touched: HashMap<(u32, Id), Touched>,
    /// Documents that get vectors of more generations.
    filled: HashSet<(u32, Id)>,
    dropped: Vec<u32>,
}

/// A batch decided against a state.
pub(crate) struct Decision {
    /// The net changes, one at most for each document.
    pub changes: Vec<Change>,
    /// The rows of that state which they replace or delete, so that nobody looks for them twice.
    pub replaced: Vec<LiveRow>,
    /// What they come to.
    pub committed: Committed,
}

/// Decides a batch against a state.
pub(crate) fn resolve(batch: Batch, state: &DatabaseState, seq: u64) -> Result<Decision> {
    let mut resolver = Resolver {
        state,
        seq,
        next_docid: state.next_docid,
        changes: Vec::with_capacity(batch.steps.len()),
        touched: HashMap::with_capacity(batch.steps.len()),
        filled: HashSet::new(),
        dropped: Vec::new(),
    };
    for step in batch.steps {
        match step {
            Step::Set { key, value } => resolver.changes.push(Some(Change::Set { key, value })),
            Step::Unset { key } => resolver.changes.push(Some(Change::Unset { key })),
            Step::In {
                collection,
                name,
                operation,
            } => resolver.decide(collection, &name, operation)?,
        }
    }
    let mut committed = Committed {
        seq,
        ..Committed::default()
    };
    let mut replaced = Vec::new();
    for ((collection, _), touched) in &resolver.touched {
        if resolver.dropped.contains(collection) {
            continue;
        }
        if touched.change.is_some() {
            replaced.extend(touched.at);
        }
        if batch.uncounted.contains(collection) {
            continue;
        }
        match (touched.before, touched.now) {
            (None, Some(_)) => committed.inserted += 1,
            (Some(_), None) => committed.deleted += 1,
            (Some(_), Some(_)) if touched.change.is_some() => committed.replaced += 1,
            _ => {}
        }
    }
    Ok(Decision {
        changes: resolver.changes.into_iter().flatten().collect(),
        replaced,
        committed,
    })
}

impl Resolver<'_> {
    fn decide(&mut self, number: u32, name: &Arc<str>, operation: Operation) -> Result<()> {
        let collection = match self.state.collections.get(&number) {
            Some(collection) if !self.dropped.contains(&number) => Arc::clone(collection),
            _ => {
                return Err(Error::UnknownCollection {
                    name: name.to_string(),
                    similar: None,
                });
            }
        };
        match operation {
            Operation::Drop => {
                self.changes.push(Some(Change::DropCollection { number }));
                self.dropped.push(number);
                // Puts before the drop are undone by it; replay would otherwise build them for nothing.
                for ((collection, _), touched) in &mut self.touched {
                    if *collection == number
                        && let Some(index) = touched.change.take()
                    {
                        self.changes[index] = None;
                    }
                }
                Ok(())
            }
            Operation::Put {
                id,
                expect,
                payload,
                vectors,
            } => {
                id.check()?;
                collection.check_vectors(&id, &vectors)?;
                if payload.len() > PAYLOAD_BYTES_MAX {
                    return Err(Error::Invalid {
                        what: format!(
                            "the document {id} has {} bytes of text and metadata, and at most \
                             {PAYLOAD_BYTES_MAX} fit: split it",
                            payload.len()
                        ),
                    });
                }
                let now = self.touch(number, &id)?.now;
                match expect {
                    Expect::Absent if now.is_some() => {
                        return Err(Error::DocumentExists {
                            collection: name.to_string(),
                            id,
                        });
                    }
                    Expect::Version(version) => check_version(name, &id, version, now)?,
                    _ => {}
                }
                let docid = self.next_docid;
                self.next_docid += 1;
                let put = Change::Put {
                    collection: number,
                    docid,
                    id: id.clone(),
                    payload,
                    vectors,
                };
                self.settle(number, &id, Some(self.seq), Some(put))
            }
            Operation::AddVectors { id, version, vectors } => {
                self.add_vectors(&collection, id, version, vectors)
            }
            Operation::AddGeneration { layout, attributes } => {
                layout.check()?;
                if layout.generation != collection.next_generation {
                    return Err(Error::Invalid {
                        what: format!("another generation has been added to {name:?}: look again"),
                    });
                }
                let spec = GenerationSpec { layout, attributes };
                let collection = number;
                self.changes
                    .push(Some(Change::AddGeneration { collection, spec }));
                Ok(())
            }
            Operation::SetCurrent { generation } => self.set_current(&collection, generation),
            Operation::DropGeneration { generation } => {
                if collection.layout(generation).is_none() || generation == collection.current {
                    return Err(Error::Invalid {
                        what: format!(
                            "generation {generation} of {name:?} answers, or is not there: it stays"
                        ),
                    });
                }
                let collection = number;
                self.changes.push(Some(Change::DropGeneration {
                    collection,
                    generation,
                }));
                Ok(())
            }
            Operation::Delete { id, expected } => {
                id.check()?;
                let touched = self.touch(number, &id)?;
                let (before, now) = (touched.before, touched.now);
                if let Some(version) = expected {
                    check_version(name, &id, version, now)?;
                }
                if now.is_none() {
                    return Ok(());
                }
                let delete = before.map(|_| Change::Delete {
                    collection: number,
                    id: id.clone(),
                });
                self.settle(number, &id, None, delete)
            }
        }
    }

    fn add_vectors(
        &mut self,
        collection: &CollectionState,
        id: Id,
        version: u64,
        vectors: Vec<Vectors>,
    ) -> Result<()> {
        let number = collection.number;
        let touched = self.touch(number, &id)?;
        if touched.now != Some(version) || touched.before != touched.now {
            return Ok(());
        }
        let lacks = touched.at.is_some_and(|at| {
            let part = collection.parts[at.part].part();
            vectors
                .iter()
                .any(|given| !has_generation(part, given.generation))
        });
        if !lacks || !self.filled.insert((number, id.clone())) {
            return Ok(());
        }
        // Checked now, as what is in the log must replay.
        for given in &vectors {
            match collection.layout(given.generation) {
                Some(layout) if layout.document_bytes() == given.bytes.len() => {}
                _ => {
                    let name = &collection.name;
                    let what = format!("the vectors added to {id} fit no generation of {name:?}");
                    return Err(Error::Invalid { what });
                }
            }
        }
        self.changes.push(Some(Change::AddVectors {
            collection: number,
            id,
            vectors,
        }));
        Ok(())
    }

    fn set_current(&mut self, collection: &CollectionState, generation: u32) -> Result<()> {
        let (number, name) = (collection.number, &collection.name);
        let changed = |((of, _), touched): (&(u32, Id), &Touched)| *of == number && touched.change.is_some();
        if collection.layout(generation).is_none() || self.touched.iter().any(changed) {
            return Err(Error::Invalid {
                what: format!(
                    "generation {generation} of {name:?} is not there, or the transaction changes documents too"
                ),
            });
        }
        let filled = self.filled.iter().filter(|(of, id)| {
            let at = self
                .touched
                .get(&(*of, id.clone()))
                .and_then(|touched| touched.at);
            *of == number
                && at.is_some_and(|at| !has_generation(collection.parts[at.part].part(), generation))
        });
        let missing = collection
            .lacking(generation)
            .saturating_sub(filled.count() as u64);
        if missing > 0 {
            return Err(Error::Incomplete {
                collection: name.to_string(),
                generation,
                missing,
            });
        }
        let collection = number;
        self.changes.push(Some(Change::SetCurrent {
            collection,
            generation,
        }));
        Ok(())
    }

    /// The document's state within the transaction, looked up once.
    fn touch(&mut self, number: u32, id: &Id) -> Result<&mut Touched> {
        match self.touched.entry((number, id.clone())) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let collection = &self.state.collections[&number];
                let at = collection.find(id)?;
                let before = match at {
                    Some((part, row)) => Some(collection.parts[part].part().version(row)?),
                    None => None,
                };
                let at = at.map(|(part, row)| LiveRow {
                    collection: number,
                    part,
                    row,
                });
                Ok(entry.insert(Touched {
                    before,
                    at,
                    now: before,
                    change: None,
                }))
            }
        }
    }

    /// Makes `change` the document's only change.
    fn settle(&mut self, collection: u32, id: &Id, now: Option<u64>, change: Option<Change>) -> Result<()> {
        let free = self.changes.len();
        let touched = self.touch(collection, id)?;
        touched.now = now;
        match (touched.change, change) {
            (Some(index), change) => {
                if change.is_none() {
                    touched.change = None;
                }
                self.changes[index] = change;
            }
            (None, Some(change)) => {
                touched.change = Some(free);
                self.changes.push(Some(change));
            }
            (None, None) => {}
        }
        Ok(())
    }
}

fn check_version(collection: &str, id: &Id, expected: u64, found: Option<u64>) -> Result<()> {
    if found == Some(expected) {
        return Ok(());
    }
    Err(Error::VersionConflict {
        collection: collection.to_owned(),
        id: id.clone(),
        expected,
        found,
    })
}
