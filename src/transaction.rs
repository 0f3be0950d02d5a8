//! Transactions: any number of documents and collections, committed together or not at all.

use std::sync::Arc;

use stratal_storage::{Batch, Committed, Expect, Vectors};

use crate::schema::{MadeBy, Schema};
use crate::{Collection, Database, Document, Error, Id, Result};

/// A transaction. Dropping it aborts it; nothing is encoded or written before [`Transaction::commit`].
///
/// Operations are checked as they are added and decided in their order at the commit, so that the last of two
/// upserts of one id wins.
#[must_use = "a transaction does nothing before `commit`"]
pub struct Transaction {
    database: Database,
    steps: Vec<Step>,
}

enum Step {
    Put {
        collection: Target,
        document: Box<Document>,
        expect: Expect,
        stored: Option<Arc<[u8]>>,
    },
    Delete {
        collection: Target,
        id: Id,
        expected: Option<u64>,
    },
}

#[derive(Clone)]
struct Target {
    number: u32,
    name: Arc<str>,
    schema: Arc<Schema>,
}

impl Transaction {
    pub(crate) fn new(database: Database) -> Transaction {
        Transaction {
            database,
            steps: Vec::new(),
        }
    }

    /// Adds a new document; the commit fails if its id exists.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::Layers`], [`Error::NotFinite`], [`Error::ZeroVector`],
    /// [`Error::NothingToStore`], [`Error::Metadata`], [`Error::ForeignModel`]; nothing is added then.
    pub fn insert(&mut self, collection: &Collection, document: Document) -> Result<()> {
        self.put(collection, document, Expect::Absent)
    }

    /// Adds a document, replacing one of the same id.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn upsert(&mut self, collection: &Collection, document: Document) -> Result<()> {
        self.put(collection, document, Expect::Any)
    }

    /// Replaces a document that must still be at `version`; the commit fails if it has changed since it was read.
    ///
    /// # Errors
    /// As [`Transaction::insert`].
    pub fn replace(&mut self, collection: &Collection, document: Document, version: u64) -> Result<()> {
        self.put(collection, document, Expect::Version(version))
    }

    /// Deletes a document; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the collection belongs to another database.
    pub fn delete(&mut self, collection: &Collection, id: impl Into<Id>) -> Result<()> {
        self.remove(collection, id.into(), None)
    }

    /// Deletes a document that must still be at `version`.
    ///
    /// # Errors
    /// As [`Transaction::delete`].
    pub fn delete_version(&mut self, collection: &Collection, id: impl Into<Id>, version: u64) -> Result<()> {
        self.remove(collection, id.into(), Some(version))
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing has been asked for.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Encodes what needs it, then commits: all or nothing, durable when it returns.
    ///
    /// # Errors
    /// [`Error::Storage`] with the rule that does not hold (an id that exists, another version, a dropped
    /// collection), or a full disk; [`Error::Model`]. Nothing has been changed then.
    pub fn commit(mut self) -> Result<Committed> {
        self.encode()?;
        let mut batch = Batch::new();
        for step in self.steps {
            match step {
                Step::Put {
                    collection,
                    document,
                    expect,
                    stored,
                } => {
                    let bytes = stored.ok_or(Error::Invalid {
                        what: "a document was not encoded".to_owned(),
                    })?;
                    let generation = collection.schema.layout.generation;
                    let payload = document.to_payload()?;
                    batch.put(
                        (collection.number, &collection.name),
                        document.id,
                        expect,
                        Arc::from(payload),
                        vec![Vectors { generation, bytes }],
                    );
                }
                Step::Delete {
                    collection,
                    id,
                    expected,
                } => {
                    batch.delete((collection.number, &collection.name), id, expected);
                }
            }
        }
        Ok(self.database.store.commit(batch)?)
    }

    fn put(&mut self, collection: &Collection, mut document: Document, expect: Expect) -> Result<()> {
        let target = self.target(collection)?;
        document.check()?;
        // From here on only the stored form is wanted: a large transaction holds each vector once.
        let stored = match document.vectors.take() {
            Some(vectors) => {
                let made_by = document.made_by.as_deref();
                target.schema.made_by.accept(&target.name, made_by)?;
                let what = || format!("the vector of {}", document.id);
                Some(target.schema.to_stored(&target.name, &what, &vectors)?.into())
            }
            None => {
                check_text(&target, &document)?;
                None
            }
        };
        self.steps.push(Step::Put {
            collection: target,
            document: Box::new(document),
            expect,
            stored,
        });
        Ok(())
    }

    fn remove(&mut self, collection: &Collection, id: Id, expected: Option<u64>) -> Result<()> {
        let collection = self.target(collection)?;
        self.steps.push(Step::Delete {
            collection,
            id,
            expected,
        });
        Ok(())
    }

    fn target(&self, collection: &Collection) -> Result<Target> {
        if !Arc::ptr_eq(&collection.database.engine, &self.database.engine) {
            let what = format!(
                "the collection {:?} belongs to another open database",
                collection.name
            );
            return Err(Error::Invalid { what });
        }
        Ok(Target {
            number: collection.number,
            name: Arc::clone(&collection.name),
            schema: Arc::clone(&collection.schema),
        })
    }

    /// Makes the vectors of all documents that bring text, collection by collection, outside every lock.
    #[cfg(feature = "encoder")]
    fn encode(&mut self) -> Result<()> {
        use std::collections::BTreeMap;

        use crate::{EncodeOptions, Passage};

        let mut waiting: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            if let Step::Put {
                collection,
                stored: None,
                ..
            } = step
            {
                waiting.entry(collection.number).or_default().push(index);
            }
        }
        for indices in waiting.into_values() {
            let Some(Step::Put { collection, .. }) = indices.first().map(|&index| &self.steps[index]) else {
                continue;
            };
            let target = collection.clone();
            let encoder = self
                .database
                .engine
                .encoder(&target.name, &target.schema.made_by)?;
            let passages: Vec<Passage<'_>> = indices
                .iter()
                .filter_map(|&index| match &self.steps[index] {
                    Step::Put { document, .. } => Some(Passage {
                        title: document.title.as_deref(),
                        text: document.text.as_deref().unwrap_or_default(),
                    }),
                    Step::Delete { .. } => None,
                })
                .collect();
            let embeddings = encoder.encode_documents(&passages, &EncodeOptions::default())?;
            for (row, &index) in indices.iter().enumerate() {
                if let Step::Put { document, stored, .. } = &mut self.steps[index] {
                    let what = || format!("the vector of {}", document.id);
                    let vectors: Vec<&[f32]> =
                        embeddings.of(row).chunks_exact(embeddings.dimension).collect();
                    *stored = Some(target.schema.to_stored(&target.name, &what, &vectors)?.into());
                }
            }
        }
        Ok(())
    }

    #[cfg(not(feature = "encoder"))]
    fn encode(&mut self) -> Result<()> {
        Ok(())
    }
}

fn check_text(target: &Target, document: &Document) -> Result<()> {
    let (missing, remedy) = match &target.schema.made_by {
        MadeBy::Label(_) => (
            "no vectors",
            "the collection has no encoder, so bring `m` vectors of `D` components",
        ),
        MadeBy::Encoder { .. } => {
            if document
                .text
                .as_deref()
                .is_some_and(|text| !text.trim().is_empty())
            {
                return Ok(());
            }
            (
                "no text",
                "give it a text that is not blank, for the encoder to read",
            )
        }
    };
    Err(Error::NothingToStore {
        id: document.id.clone(),
        missing,
        remedy,
    })
}
