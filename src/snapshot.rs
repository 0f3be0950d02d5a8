//! Snapshots: the database at one commit, read for as long as they are held.

use std::sync::Arc;

use serde_json::{Map, Value};
use stratal_storage::Row;

use crate::database::Engine;
use crate::document::Payload;
use crate::filter::passing;
use crate::pairs;
use crate::query::{BatchSearch, Search};
use crate::schema::Schema;
use crate::{Error, Filter, Id, Result, Similarity, Source};

/// An unchanging view of a database. It outlives the handle it came from and keeps no one from writing.
#[derive(Clone)]
pub struct Snapshot {
    engine: Arc<Engine>,
    inner: stratal_storage::Snapshot,
}

/// One collection of a [`Snapshot`].
#[derive(Clone)]
pub struct CollectionSnapshot {
    pub(crate) engine: Arc<Engine>,
    pub(crate) inner: stratal_storage::CollectionSnapshot,
    pub(crate) schema: Arc<Schema>,
    pub(crate) pairs: Option<stratal_storage::CollectionSnapshot>,
}

/// A document as it is stored.
#[derive(Clone, Debug)]
pub struct StoredDocument {
    id: Id,
    version: u64,
    title: Option<String>,
    text: Option<String>,
    metadata: Map<String, Value>,
    source: Option<Source>,
    row: Row,
    schema: Arc<Schema>,
}

impl Snapshot {
    pub(crate) fn new(engine: Arc<Engine>, inner: stratal_storage::Snapshot) -> Snapshot {
        Snapshot { engine, inner }
    }

    /// The sequence number of the last commit it shows.
    pub fn seq(&self) -> u64 {
        self.inner.seq()
    }

    /// The names of its collections.
    pub fn collections(&self) -> Vec<String> {
        names(&self.inner)
    }

    /// The collection of that name.
    ///
    /// # Errors
    /// [`Error::Storage`] for an unknown name, with a similar one if there is.
    pub fn collection(&self, name: &str) -> Result<CollectionSnapshot> {
        self.wrap(self.inner.collection(name)?)
    }

    /// The collection of a handle.
    pub(crate) fn of_number(&self, number: u32, name: &str) -> Result<CollectionSnapshot> {
        let unknown = || stratal_storage::Error::UnknownCollection {
            name: name.to_owned(),
            similar: None,
        };
        self.wrap(self.inner.collection_number(number).ok_or_else(unknown)?)
    }

    fn wrap(&self, inner: stratal_storage::CollectionSnapshot) -> Result<CollectionSnapshot> {
        let pairs = pairs::number_of(&self.inner, inner.number());
        Ok(CollectionSnapshot {
            pairs: pairs.and_then(|number| self.inner.collection_number(number)),
            schema: self.engine.schema(&inner)?,
            engine: Arc::clone(&self.engine),
            inner,
        })
    }
}

/// The names of the collections that users made.
pub(crate) fn names(snapshot: &stratal_storage::Snapshot) -> Vec<String> {
    let names = snapshot
        .collections()
        .map(|collection| collection.name().to_string());
    names.filter(|name| !name.starts_with(pairs::RESERVED)).collect()
}

impl CollectionSnapshot {
    /// The collection's name.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// The sequence number of the last commit it shows.
    pub fn seq(&self) -> u64 {
        self.inner.seq()
    }

    /// Number of documents.
    pub fn count(&self) -> u64 {
        self.inner.count()
    }

    /// How vectors are compared.
    pub fn similarity(&self) -> Similarity {
        self.schema.similarity
    }

    /// The document of an id, `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Storage`] for damage.
    pub fn get(&self, id: impl Into<Id>) -> Result<Option<StoredDocument>> {
        let id = id.into();
        self.inner.find(&id)?.map(|row| self.read(row)).transpose()
    }

    /// Every document, in no promised order. Commits made meanwhile change nothing of what comes. One that is
    /// damaged is an error in its place, and not the end: the others follow.
    pub fn iter(&self) -> impl Iterator<Item = Result<StoredDocument>> + '_ {
        self.inner.rows().map(|row| self.read(row))
    }

    /// Every document that passes a filter, in no promised order. Which do is decided at the call.
    ///
    /// # Errors
    /// [`Error::Filter`], [`Error::Storage`] for damage; and for each document as [`CollectionSnapshot::iter`].
    pub fn iter_where(
        &self,
        filter: impl Into<Filter>,
    ) -> Result<impl Iterator<Item = Result<StoredDocument>> + '_> {
        Ok(self.rows_where(&filter.into())?.map(|row| self.read(row)))
    }

    pub(crate) fn rows_where<'a>(&'a self, filter: &Filter) -> Result<impl Iterator<Item = Row> + use<'a>> {
        let parts = self.inner.parts();
        let passing: Vec<_> = parts
            .iter()
            .map(|live| passing(self, live, filter))
            .collect::<Result<_>>()?;
        Ok(parts.iter().zip(passing).flat_map(|(live, passing)| {
            let rows: Vec<u32> = passing.iter().collect();
            rows.into_iter().map(|row| Row {
                part: live.part().clone(),
                row,
            })
        }))
    }

    /// Searches in words; see [`crate::Collection::search`].
    #[cfg(feature = "encoder")]
    pub fn search(&self, text: impl Into<String>) -> Search {
        Search::of_text(Ok(self.clone()), text.into())
    }

    /// Searches by one query vector `[D]`; see [`crate::Collection::search_vector`].
    pub fn search_vector(&self, query: impl Into<Vec<f32>>) -> Search {
        Search::of_vector(Ok(self.clone()), query.into())
    }

    /// Searches by many query vectors `[q, D]`; see [`crate::Collection::search_vectors`].
    pub fn search_vectors(&self, queries: impl IntoIterator<Item = impl Into<Vec<f32>>>) -> BatchSearch {
        BatchSearch::of_vectors(Ok(self.clone()), queries.into_iter().map(Into::into).collect())
    }

    pub(crate) fn read(&self, row: Row) -> Result<StoredDocument> {
        let id = row.part.id(row.row)?;
        let version = row.part.version(row.row)?;
        let bytes = row.part.payload(row.row)?;
        let payload = Payload::read(&bytes).map_err(|what| Error::Payload { id: id.clone(), what })?;
        let document = StoredDocument {
            id,
            version,
            title: payload.title.map(str::to_owned),
            text: payload.text.map(str::to_owned),
            metadata: payload.metadata(),
            source: payload.source(),
            row: row.clone(),
            schema: Arc::clone(&self.schema),
        };
        Ok(document)
    }
}

impl StoredDocument {
    /// Its id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The commit that wrote it: what [`crate::Transaction::replace`] expects.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its title.
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Its text.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }

    /// Where its text came from, if it was ingested.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Its layer vectors `[m, D]` as they are stored: normalised in a cosine collection, rounded to the element
    /// type.
    ///
    /// # Errors
    /// [`Error::Storage`] for damage.
    pub fn layer_vectors(&self) -> Result<Vec<Vec<f32>>> {
        let layout = self.schema.layout;
        (0..layout.layers)
            .map(|layer| {
                let bytes = self.row.part.vector(layout.generation, layer, self.row.row)?;
                Ok(self.schema.components(bytes))
            })
            .collect()
    }
}
