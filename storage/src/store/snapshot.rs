//! What readers see: the database at one commit, for as long as they hold it.

use std::sync::Arc;

use serde_json::Value;

use super::record::GenerationSpec;
use super::state::{CollectionState, DatabaseState, LivePart};
use crate::error::Result;
use crate::id::Id;
use crate::part::Part;

/// An unchanging view of the whole database at one commit. It outlives the handle it came from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) state: Arc<DatabaseState>,
}

/// One collection of a [`Snapshot`].
#[derive(Clone, Debug)]
pub struct CollectionSnapshot {
    state: Arc<CollectionState>,
    seq: u64,
}

/// Where a document is: a row of a part.
#[derive(Clone, Debug)]
pub struct Row {
    /// The part.
    pub part: Part,
    /// The row in it.
    pub row: u32,
}

impl Snapshot {
    /// The sequence number of the last commit it shows.
    pub fn seq(&self) -> u64 {
        self.state.seq
    }

    /// All collections, in the order they were created.
    pub fn collections(&self) -> impl Iterator<Item = CollectionSnapshot> + '_ {
        self.state
            .collections
            .values()
            .map(|collection| CollectionSnapshot {
                state: Arc::clone(collection),
                seq: self.state.seq,
            })
    }

    /// The collection of that name.
    ///
    /// # Errors
    /// [`crate::Error::UnknownCollection`], with a similar name if there is one.
    pub fn collection(&self, name: &str) -> Result<CollectionSnapshot> {
        let state = Arc::clone(self.state.collection(name)?);
        Ok(CollectionSnapshot {
            state,
            seq: self.state.seq,
        })
    }

    /// The collection of that number, if it is still there.
    pub fn collection_number(&self, number: u32) -> Option<CollectionSnapshot> {
        let state = Arc::clone(self.state.collections.get(&number)?);
        Some(CollectionSnapshot {
            state,
            seq: self.state.seq,
        })
    }

    /// A setting of the database.
    pub fn setting(&self, key: &str) -> Option<&Value> {
        self.state.settings.get(key)
    }

    /// All settings whose key begins with `prefix`, in order.
    pub fn settings(&self, prefix: &str) -> impl Iterator<Item = (&str, &Value)> {
        let prefix = prefix.to_owned();
        self.state
            .settings
            .range(prefix.clone()..)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(key, value)| (key.as_str(), value))
    }
}

impl CollectionSnapshot {
    /// The collection's number: given once in a database and never again.
    pub fn number(&self) -> u32 {
        self.state.number
    }

    /// The collection's name.
    pub fn name(&self) -> &Arc<str> {
        &self.state.name
    }

    /// What the layers above keep with the collection.
    pub fn attributes(&self) -> &Arc<Value> {
        &self.state.attributes
    }

    /// Its generations.
    pub fn generations(&self) -> &[GenerationSpec] {
        &self.state.generations
    }

    /// The generation that answers; `None` for a collection without vectors.
    pub fn current(&self) -> Option<&GenerationSpec> {
        self.generation(self.state.current)
    }

    /// The generation of a number.
    pub fn generation(&self, generation: u32) -> Option<&GenerationSpec> {
        let mut generations = self.state.generations.iter();
        generations.find(|spec| spec.layout.generation == generation)
    }

    /// The number that a generation added now would have.
    pub fn next_generation(&self) -> u32 {
        self.state.next_generation
    }

    /// How many documents lack the vectors of a generation.
    pub fn lacking(&self, generation: u32) -> u64 {
        self.state.lacking(generation)
    }

    /// The sequence number of the snapshot's last commit.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Number of documents.
    pub fn count(&self) -> u64 {
        self.state.live_rows()
    }

    /// The parts that hold its documents, with their deletions.
    pub fn parts(&self) -> &[LivePart] {
        &self.state.parts
    }

    /// Where the document of that id is.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if an id table cannot be read.
    pub fn find(&self, id: &Id) -> Result<Option<Row>> {
        Ok(self.state.find(id)?.map(|(part, row)| Row {
            part: self.state.parts[part].part().clone(),
            row,
        }))
    }

    /// Every live row, part by part.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.state.parts.iter().flat_map(|live| {
            (0..live.part().rows())
                .filter(|row| !live.dead().contains(*row))
                .map(|row| Row {
                    part: live.part().clone(),
                    row,
                })
        })
    }
}
