//! Transactions: any number of documents and collections, committed together or not at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use stratal_storage::{Batch, Committed, Expect, Vectors};

use crate::pairs;
use crate::schema::{MadeBy, Schema};
use crate::{Collection, Database, Document, Error, Filter, Id, Pair, Result};

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
    Pair {
        collection: Target,
        pair: Pair,
        kept: bool,
    },
}

impl Step {
    fn target(&self) -> &Target {
        match self {
            Step::Put { collection, .. }
            | Step::Delete { collection, .. }
            | Step::Pair { collection, .. } => collection,
        }
    }
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

    /// Adds a question with a document that answers it, for the collection's encoder to learn from. The same pair
    /// twice is one. Its document must be there at the commit; deleted later, it takes no pair along, but nobody
    /// learns from a pair without a document.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a blank or overlong question, or a collection of another database.
    pub fn pair(
        &mut self,
        collection: &Collection,
        question: impl Into<String>,
        document: impl Into<Id>,
    ) -> Result<()> {
        self.pair_step(collection, question.into(), document.into(), true)
    }

    /// Takes a pair out again; one that is not there is no error.
    ///
    /// # Errors
    /// As [`Transaction::pair`].
    pub fn unpair(
        &mut self,
        collection: &Collection,
        question: impl Into<String>,
        document: impl Into<Id>,
    ) -> Result<()> {
        self.pair_step(collection, question.into(), document.into(), false)
    }

    fn pair_step(
        &mut self,
        collection: &Collection,
        question: String,
        document: Id,
        kept: bool,
    ) -> Result<()> {
        let pair = Pair { question, document };
        pair.check()?;
        let collection = self.target(collection)?;
        self.steps.push(Step::Pair {
            collection,
            pair,
            kept,
        });
        Ok(())
    }

    /// Deletes every document that passes a filter: those of the last commit as this transaction has changed them so
    /// far, documents it puts included. Returns how many there are.
    ///
    /// The documents are read here, outside all locks. The commit fails with a version conflict if one of those to be
    /// deleted has been changed by another since; [`Collection::delete_where`] tries again by itself.
    ///
    /// # Errors
    /// [`Error::Filter`] for one that cannot be used, so also for one made of an empty text or one that does not
    /// parse; [`Error::Invalid`] if the collection belongs to another database; [`Error::Storage`] for damage.
    /// Nothing is added to the transaction then.
    pub fn delete_where(&mut self, collection: &Collection, filter: impl Into<Filter>) -> Result<u64> {
        let filter = filter.into();
        filter.check()?;
        let target = self.target(collection)?;
        let mut own: BTreeMap<&Id, Option<&Document>> = BTreeMap::new();
        for step in &self.steps {
            match step {
                Step::Put {
                    collection, document, ..
                } if collection.number == target.number => own.insert(&document.id, Some(document)),
                Step::Delete { collection, id, .. } if collection.number == target.number => {
                    own.insert(id, None)
                }
                _ => None,
            };
        }
        let mut deleted = Vec::new();
        for row in collection.snapshot()?.rows_where(&filter)? {
            let id = row.part.id(row.row)?;
            if !own.contains_key(&id) {
                deleted.push((id, Some(row.part.version(row.row)?)));
            }
        }
        let empty = serde_json::Map::new();
        for (id, document) in own {
            let Some(document) = document else { continue };
            let metadata = document.metadata.as_object().unwrap_or(&empty);
            if filter.matches(id, document.title.as_deref(), metadata)? {
                deleted.push((id.clone(), None));
            }
        }
        let count = deleted.len() as u64;
        self.steps
            .extend(deleted.into_iter().map(|(id, expected)| Step::Delete {
                collection: target.clone(),
                id,
                expected,
            }));
        Ok(count)
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
        let engine = Arc::clone(&self.database.engine);
        // Another generation may come to answer while texts are encoded for the one before.
        let _no_cutover = loop {
            self.encode()?;
            let no_cutover = engine.cutover.read().unwrap_or_else(PoisonError::into_inner);
            if !self.catch_up()? {
                break no_cutover;
            }
        };
        self.check_pairs()?;
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
                    let payload = document.to_payload();
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
                Step::Pair {
                    collection,
                    pair,
                    kept,
                } => {
                    let (number, name) = pairs::collection_of(&self.database, collection.number)?;
                    batch.leave_uncounted(number);
                    match kept {
                        true => {
                            let payload = Arc::from(pair.to_payload());
                            batch.put((number, &name), pair.key(), Expect::Any, payload, Vec::new());
                        }
                        false => batch.delete((number, &name), pair.key(), None),
                    }
                }
            }
        }
        let committed = self.database.store.commit(batch)?;
        #[cfg(feature = "encoder")]
        engine.learner.notice(&self.database);
        Ok(committed)
    }

    /// Refuses pairs whose document is neither stored nor put by this transaction.
    fn check_pairs(&self) -> Result<()> {
        let snapshot = self.database.store.snapshot();
        let mut changed: HashMap<(u32, &Id), bool> = HashMap::new();
        for step in &self.steps {
            match step {
                Step::Put {
                    collection, document, ..
                } => drop(changed.insert((collection.number, &document.id), true)),
                Step::Delete { collection, id, .. } => drop(changed.insert((collection.number, id), false)),
                Step::Pair { .. } => {}
            }
        }
        for step in &self.steps {
            let Step::Pair {
                collection,
                pair,
                kept: true,
            } = step
            else {
                continue;
            };
            let stored = || match snapshot.collection_number(collection.number) {
                Some(stored) => Ok::<_, Error>(stored.find(&pair.document)?.is_some()),
                None => Ok(false),
            };
            let there = match changed.get(&(collection.number, &pair.document)) {
                Some(&there) => there,
                None => stored()?,
            };
            if !there {
                return Err(Error::NoDocument {
                    collection: collection.name.to_string(),
                    id: pair.document.clone(),
                });
            }
        }
        Ok(())
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

    /// Takes the vectors of an earlier generation out of documents that have text to be encoded again. Returns
    /// whether there were any.
    fn catch_up(&mut self) -> Result<bool> {
        let snapshot = self.database.store.snapshot();
        let mut found = false;
        for step in &mut self.steps {
            let Step::Put {
                collection,
                document,
                stored,
                ..
            } = step
            else {
                continue;
            };
            let current = snapshot.collection_number(collection.number);
            let Some(current) = current.filter(|now| {
                now.current().map(|spec| spec.layout.generation) != Some(collection.schema.layout.generation)
            }) else {
                continue;
            };
            collection.schema = self.database.engine.schema(&current)?;
            check_text(collection, document)?;
            *stored = None;
            found = true;
        }
        Ok(found)
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
        // The commit looks whether another generation answers by then: no need to look for every document.
        if let Some(last) = self.steps.last().map(Step::target)
            && last.number == collection.number
        {
            return Ok(last.clone());
        }
        Ok(Target {
            number: collection.number,
            name: Arc::clone(&collection.name),
            schema: collection.schema(),
        })
    }

    /// Makes the vectors of all documents that bring text, collection by collection, outside every lock.
    #[cfg(feature = "encoder")]
    fn encode(&mut self) -> Result<()> {
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
                    Step::Delete { .. } | Step::Pair { .. } => None,
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
