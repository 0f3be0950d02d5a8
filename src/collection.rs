//! Collections: opening and creating them, and the calls on one.

use std::sync::Arc;

use stratal_storage::Layout;

#[cfg(feature = "encoder")]
use crate::Encoder;
use crate::query::{BatchSearch, Search};
use crate::schema::{MadeBy, Schema};
use crate::{
    CollectionSnapshot, Database, Document, Element, Error, Filter, Id, Result, Similarity, StoredDocument,
};

/// How often a deletion by filter is decided anew when other commits come between.
const TRIES: usize = 100;

/// Opens or creates a collection; made by [`Database::collection`].
#[must_use = "a builder does nothing before `open`, `create` or `open_or_create`"]
pub struct CollectionBuilder {
    database: Database,
    name: String,
    dimension: Option<usize>,
    layers: Option<Vec<String>>,
    element: Option<Element>,
    similarity: Option<Similarity>,
    label: Option<String>,
    #[cfg(feature = "encoder")]
    encoder: Option<Encoder>,
}

impl CollectionBuilder {
    pub(crate) fn new(database: Database, name: String) -> CollectionBuilder {
        CollectionBuilder {
            database,
            name,
            dimension: None,
            layers: None,
            element: None,
            similarity: None,
            label: None,
            #[cfg(feature = "encoder")]
            encoder: None,
        }
    }

    /// The caller brings the vectors: `dimension` components for each of the named layers.
    pub fn vectors(
        mut self,
        dimension: usize,
        layers: impl IntoIterator<Item = impl Into<String>>,
        element: Element,
    ) -> Self {
        self.dimension = Some(dimension);
        self.layers = Some(layers.into_iter().map(Into::into).collect());
        self.element = Some(element);
        self
    }

    /// An encoder makes the vectors; its files are copied into the database.
    #[cfg(feature = "encoder")]
    pub fn encoder(mut self, encoder: Encoder) -> Self {
        self.encoder = Some(encoder);
        self
    }

    /// The type of a stored component; [`Element::F32`] by default.
    pub fn element(mut self, element: Element) -> Self {
        self.element = Some(element);
        self
    }

    /// How vectors are compared; [`Similarity::InnerProduct`] by default.
    pub fn similarity(mut self, similarity: Similarity) -> Self {
        self.similarity = Some(similarity);
        self
    }

    /// A name for whatever makes the caller's vectors, so that another model's are refused when it changes.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Opens the collection, which must exist. Settings that were given must be those it was created with.
    ///
    /// # Errors
    /// [`Error::Storage`] for an unknown name, [`Error::ForeignModel`], [`Error::SchemaMismatch`].
    pub fn open(self) -> Result<Collection> {
        let snapshot = self.database.store.snapshot();
        let stored = snapshot.collection(&self.name)?;
        let schema = Schema::of(&stored)?;
        self.check_against(&schema)?;
        #[cfg(feature = "encoder")]
        if let Some(encoder) = &self.encoder {
            self.database.engine.models.remember(encoder);
        }
        Ok(Collection {
            number: stored.number(),
            name: Arc::clone(stored.name()),
            opened_with: self.database.engine.schema(&stored)?,
            database: self.database,
        })
    }

    /// Creates the collection, which must not exist.
    ///
    /// # Errors
    /// [`Error::Storage`] for a name that is taken or not allowed, [`Error::Invalid`] without `vectors` or
    /// `encoder`.
    pub fn create(self) -> Result<Collection> {
        if self.name.starts_with(crate::pairs::RESERVED) {
            let what = format!(
                "names that begin with {:?} are the engine's own, unlike yours",
                crate::pairs::RESERVED
            );
            return Err(Error::Invalid { what });
        }
        let schema = self.new_schema()?;
        #[cfg(feature = "encoder")]
        let engine = Arc::clone(&self.database.engine);
        #[cfg(feature = "encoder")]
        let _changing = engine.models.changing();
        #[cfg(feature = "encoder")]
        if let Some(encoder) = &self.encoder {
            self.database.engine.models.keep(encoder)?;
        }
        let generation = schema.to_generation()?;
        let attributes = serde_json::Value::Null;
        let number = self
            .database
            .store
            .create_collection(&self.name, attributes, vec![generation])?;
        Ok(Collection {
            database: self.database,
            number,
            name: Arc::from(self.name),
            opened_with: Arc::new(schema),
        })
    }

    /// Opens the collection, creating it if there is none.
    ///
    /// # Errors
    /// Those of [`CollectionBuilder::open`] and [`CollectionBuilder::create`].
    pub fn open_or_create(self) -> Result<Collection> {
        if self.exists() {
            return self.open();
        }
        let (database, name) = (self.database.clone(), self.name.clone());
        match self.create() {
            // Another thread was quicker; what it made is opened as it stands.
            Err(Error::Storage(stratal_storage::Error::CollectionExists { .. })) => {
                CollectionBuilder::new(database, name).open()
            }
            created => created,
        }
    }

    fn exists(&self) -> bool {
        self.database.store.snapshot().collection(&self.name).is_ok()
    }

    fn new_schema(&self) -> Result<Schema> {
        let (dimension, layers, made_by) = self.made_by()?;
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = layers
            .iter()
            .find(|layer| layer.is_empty() || !seen.insert(layer.as_str()))
        {
            return Err(Error::Invalid {
                what: format!("layers need names of their own, unlike {twice:?}"),
            });
        }
        let layout = Layout {
            generation: 1,
            // Past 32 bits the layout's own check could not name what was given.
            dimension: u32::try_from(dimension).map_err(|_| {
                let most = stratal_storage::DIMENSION_MAX;
                let what = format!("the dimension must be 1 to {most}, not {dimension}");
                Error::Invalid { what }
            })?,
            layers: u32::try_from(layers.len()).unwrap_or(u32::MAX),
            element: self.element.unwrap_or(Element::F32),
        };
        layout.check()?;
        let similarity = self.similarity.unwrap_or_default();
        let fractions = similarity == Similarity::Cosine || matches!(made_by, MadeBy::Encoder { .. });
        if layout.element == Element::I8 && fractions {
            return Err(Error::Invalid {
                what: format!(
                    "the collection {:?} would hold whole numbers, and its vectors are fractions: take f16 or bf16 \
                     for an encoder's vectors and for cosine",
                    self.name
                ),
            });
        }
        Ok(Schema {
            layout,
            similarity,
            layers,
            made_by,
            lineage: Vec::new(),
        })
    }

    #[cfg(feature = "encoder")]
    fn made_by(&self) -> Result<(usize, Vec<String>, MadeBy)> {
        match &self.encoder {
            Some(encoder) => {
                encoder.validate()?;
                let layers = encoder.settings().layers.iter().map(usize::to_string).collect();
                Ok((encoder.dimension(), layers, MadeBy::encoder(encoder)))
            }
            None => self.made_by_caller(),
        }
    }

    #[cfg(not(feature = "encoder"))]
    fn made_by(&self) -> Result<(usize, Vec<String>, MadeBy)> {
        self.made_by_caller()
    }

    fn made_by_caller(&self) -> Result<(usize, Vec<String>, MadeBy)> {
        let (Some(dimension), Some(layers)) = (self.dimension, self.layers.clone()) else {
            let what = format!(
                "to create the collection {:?}, say `vectors(…)` or `encoder(…)`",
                self.name
            );
            return Err(Error::Invalid { what });
        };
        let label = self
            .label
            .clone()
            .unwrap_or_else(|| "the caller's vectors".to_owned());
        Ok((dimension, layers, MadeBy::Label(label)))
    }

    fn check_against(&self, schema: &Schema) -> Result<()> {
        let mismatch = |setting: &'static str, stored: String, given: String| {
            Err(Error::SchemaMismatch {
                collection: self.name.clone(),
                setting,
                stored,
                given,
            })
        };
        let foreign = |given: String| {
            Err(Error::ForeignModel {
                collection: self.name.clone(),
                stored: schema.made_by.describe(),
                given,
            })
        };
        #[cfg(feature = "encoder")]
        if let Some(encoder) = &self.encoder {
            let given = encoder.identity();
            match &schema.made_by {
                MadeBy::Encoder { hash, .. }
                    if *hash == given.hash || schema.lineage.contains(&given.hash) => {}
                _ => return foreign(crate::schema::describe_encoder(&given.name, &given.hash)),
            }
        }
        match (&self.label, &schema.made_by) {
            (Some(given), MadeBy::Label(stored)) if given == stored => {}
            (None, _) => {}
            (Some(given), _) => return foreign(format!("{given:?}")),
        }
        if let Some(dimension) = self
            .dimension
            .filter(|dimension| *dimension != schema.dimension())
        {
            return mismatch("dimension", schema.dimension().to_string(), dimension.to_string());
        }
        if let Some(layers) = self.layers.as_ref().filter(|layers| **layers != schema.layers) {
            return mismatch("layers", schema.layers.join(", "), layers.join(", "));
        }
        if let Some(element) = self.element.filter(|element| *element != schema.layout.element) {
            return mismatch(
                "element",
                format!("{:?}", schema.layout.element),
                format!("{element:?}"),
            );
        }
        if let Some(similarity) = self
            .similarity
            .filter(|similarity| *similarity != schema.similarity)
        {
            return mismatch(
                "similarity",
                schema.similarity.to_string(),
                similarity.to_string(),
            );
        }
        Ok(())
    }
}

/// A collection of an open database. Cheap to clone, usable from any thread.
///
/// Reading calls see the last commit; take a [`Database::snapshot`] for several that must agree.
#[derive(Clone)]
pub struct Collection {
    pub(crate) database: Database,
    pub(crate) number: u32,
    pub(crate) name: Arc<str>,
    /// What it is called by after it was dropped.
    opened_with: Arc<Schema>,
}

impl Collection {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database it belongs to.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The schema of the generation that answers now.
    pub(crate) fn schema(&self) -> Arc<Schema> {
        let snapshot = self.database.store.snapshot();
        let current = snapshot
            .collection_number(self.number)
            .and_then(|collection| self.database.engine.schema(&collection).ok());
        current.unwrap_or_else(|| Arc::clone(&self.opened_with))
    }

    /// Components of a vector, `D`.
    pub fn dimension(&self) -> usize {
        self.schema().dimension()
    }

    /// The names of its layers, `m` of them.
    pub fn layers(&self) -> Vec<String> {
        self.schema().layers.clone()
    }

    /// The type of a stored component.
    pub fn element(&self) -> Element {
        self.schema().layout.element
    }

    /// How vectors are compared.
    pub fn similarity(&self) -> Similarity {
        self.schema().similarity
    }

    /// What made its vectors: the identity of its encoder, or the label of the caller's.
    pub fn generation(&self) -> String {
        self.schema().made_by.identity().to_owned()
    }

    /// The same for people: the encoder's name and the first digits of its identity, or the label.
    pub fn made_by(&self) -> String {
        self.schema().made_by.describe()
    }

    /// Whether it has an encoder, so that it takes texts and questions.
    pub fn has_encoder(&self) -> bool {
        matches!(self.schema().made_by, MadeBy::Encoder { .. })
    }

    /// Its encoder, loaded from the database's own copy if need be.
    ///
    /// # Errors
    /// [`Error::NoEncoder`], [`Error::MissingModel`], [`Error::Model`].
    #[cfg(feature = "encoder")]
    pub fn encoder(&self) -> Result<Encoder> {
        self.database.engine.encoder(&self.name, &self.schema().made_by)
    }

    /// The collection as of the last commit.
    ///
    /// # Errors
    /// [`Error::Storage`] if it has been dropped.
    pub fn snapshot(&self) -> Result<CollectionSnapshot> {
        self.database.snapshot().of_number(self.number, &self.name)
    }

    /// Number of documents.
    ///
    /// # Errors
    /// [`Error::Storage`] if it has been dropped.
    pub fn count(&self) -> Result<u64> {
        Ok(self.snapshot()?.count())
    }

    /// How many documents pass a filter.
    ///
    /// # Errors
    /// [`Error::Filter`], [`Error::Storage`] for damage or a dropped collection.
    pub fn count_where(&self, filter: impl Into<Filter>) -> Result<u64> {
        self.snapshot()?.count_where(filter)
    }

    /// The document of an id, `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Storage`] for damage or a dropped collection.
    pub fn get(&self, id: impl Into<Id>) -> Result<Option<StoredDocument>> {
        self.snapshot()?.get(id)
    }

    /// Commits one new document; its id must not exist.
    ///
    /// # Errors
    /// As [`crate::Transaction::insert`] and [`crate::Transaction::commit`].
    pub fn insert(&self, document: Document) -> Result<()> {
        let mut transaction = self.database.begin();
        transaction.insert(self, document)?;
        transaction.commit().map(|_| ())
    }

    /// Commits one document, replacing one of the same id.
    ///
    /// # Errors
    /// As [`crate::Transaction::upsert`] and [`crate::Transaction::commit`].
    pub fn upsert(&self, document: Document) -> Result<()> {
        let mut transaction = self.database.begin();
        transaction.upsert(self, document)?;
        transaction.commit().map(|_| ())
    }

    /// Deletes one document and commits; true if it was there.
    ///
    /// # Errors
    /// As [`crate::Transaction::commit`].
    pub fn delete(&self, id: impl Into<Id>) -> Result<bool> {
        let mut transaction = self.database.begin();
        transaction.delete(self, id)?;
        Ok(transaction.commit()?.deleted > 0)
    }

    /// Commits one question with a document that answers it.
    ///
    /// # Errors
    /// As [`crate::Transaction::pair`] and [`crate::Transaction::commit`].
    pub fn pair(&self, question: impl Into<String>, document: impl Into<Id>) -> Result<()> {
        let mut transaction = self.database.begin();
        transaction.pair(self, question, document)?;
        transaction.commit().map(|_| ())
    }

    /// Deletes every document that passes a filter and commits; how many there were. A document that another commit
    /// changes meanwhile is judged again.
    ///
    /// # Errors
    /// As [`crate::Transaction::delete_where`] and [`crate::Transaction::commit`].
    pub fn delete_where(&self, filter: impl Into<Filter>) -> Result<u64> {
        let filter = filter.into();
        let mut tries = 0;
        loop {
            let mut transaction = self.database.begin();
            transaction.delete_where(self, filter.clone())?;
            tries += 1;
            match transaction.commit() {
                Err(Error::Storage(stratal_storage::Error::VersionConflict { .. })) if tries < TRIES => {}
                committed => return Ok(committed?.deleted),
            }
        }
    }

    /// Searches in words: the text is encoded by the collection's own encoder.
    #[cfg(feature = "encoder")]
    pub fn search(&self, text: impl Into<String>) -> Search {
        Search::of_text(self.snapshot(), text.into())
    }

    /// Searches by one query vector `[D]`. A collection with an encoder takes it only with
    /// [`Search::made_by`], so that no other model's vector slips in.
    pub fn search_vector(&self, query: impl Into<Vec<f32>>) -> Search {
        Search::of_vector(self.snapshot(), query.into())
    }

    /// Searches by many query vectors `[q, D]` in one pass over the documents.
    pub fn search_vectors(&self, queries: impl IntoIterator<Item = impl Into<Vec<f32>>>) -> BatchSearch {
        BatchSearch::of_vectors(self.snapshot(), queries.into_iter().map(Into::into).collect())
    }

    /// Searches in many texts' words at once.
    #[cfg(feature = "encoder")]
    pub fn search_texts(&self, texts: impl IntoIterator<Item = impl Into<String>>) -> BatchSearch {
        BatchSearch::of_texts(self.snapshot(), texts.into_iter().map(Into::into).collect())
    }

    /// Gives the space of its deleted documents back.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn compact(&self) -> Result<()> {
        self.database.store.compact(Some(&self.name))?;
        let workers = &self.database.engine.workers;
        crate::derived::complete(&self.database.store, Some(&self.name), workers)
    }
}
