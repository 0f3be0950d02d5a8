//! Search requests: what is asked, how it is answered, what comes back.

mod approximate;
mod exact;
mod explain;

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use stratal_kernels::Device;

use self::approximate::Effort;
use crate::{CollectionSnapshot, Error, Filter, Id, Result};

pub use explain::{Explanation, PartExplanation, SearchPath};

/// How many hits are returned where the caller does not say.
const K_DEFAULT: usize = 10;

/// Where fewer than one row in so many counts, reading those vectors is less than reading the codes around them.
const THIN: u64 = 16;

/// A part of a document that a hit can bring along. The id, version and score always come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The title.
    Title,
    /// The text.
    Text,
    /// The metadata.
    Metadata,
    /// The layer vectors as stored, `[m, D]`.
    Vectors,
}

/// A document that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its id.
    pub id: Id,
    /// The maximum over its layers of the inner product with the query, in f64.
    pub score: f64,
    /// The commit that wrote it.
    pub version: u64,
    /// Its title, if asked for and there.
    pub title: Option<String>,
    /// Its text, if asked for and there.
    pub text: Option<String>,
    /// Its metadata, if asked for.
    pub metadata: Map<String, Value>,
    /// Its layer vectors `[m, D]`, if asked for.
    pub vectors: Vec<Vec<f32>>,
}

/// What is asked for: the same for one query and for many.
struct Request {
    /// The collection, or why it could not be looked at; told when the search runs.
    collection: Result<CollectionSnapshot>,
    questions: Questions,
    k: usize,
    floor: Option<f64>,
    layers: Option<Vec<String>>,
    filter: Option<Filter>,
    fields: BTreeSet<Field>,
    made_by: Option<String>,
    device: Device,
    /// `None` for exact search.
    effort: Option<Effort>,
}

enum Questions {
    Vectors(Vec<Vec<f32>>),
    #[cfg(feature = "encoder")]
    Texts(Vec<String>),
}

impl Request {
    fn new(collection: Result<CollectionSnapshot>, questions: Questions) -> Request {
        Request {
            collection,
            questions,
            k: K_DEFAULT,
            floor: None,
            layers: None,
            filter: None,
            fields: BTreeSet::from([Field::Title, Field::Text, Field::Metadata]),
            made_by: None,
            device: Device::Auto,
            effort: None,
        }
    }

    fn run(self) -> Result<(Vec<Vec<Hit>>, Explanation)> {
        let Request {
            collection,
            questions,
            k,
            floor,
            layers,
            filter,
            fields,
            made_by,
            device,
            effort,
        } = self;
        let collection = collection?;
        let name = collection.name();
        if k == 0 {
            return Err(Error::Invalid {
                what: "k is 0: ask for one hit at least".to_owned(),
            });
        }
        if floor.is_some_and(f64::is_nan) {
            return Err(Error::Invalid {
                what: "the score floor is not a number".to_owned(),
            });
        }
        if let Some(filter) = &filter {
            filter.check()?;
        }
        if let Some(Effort::Recall(target)) = effort
            && !(target > 0.0 && target <= 1.0)
        {
            return Err(Error::Invalid {
                what: format!("a recall target lies above 0 and at most at 1, unlike {target}"),
            });
        }
        let schema = &collection.schema;
        let planes = match &layers {
            None => (0..schema.layout.layers).collect(),
            Some(names) => chosen_layers(&collection, names)?,
        };
        let mut explanation = Explanation::default();
        let vectors = match questions {
            Questions::Vectors(vectors) => {
                schema.made_by.accept(name, made_by.as_deref())?;
                vectors
            }
            #[cfg(feature = "encoder")]
            Questions::Texts(texts) => {
                let encoder = collection.engine.encoder(name, &schema.made_by)?;
                if let Some((row, _)) = texts.iter().enumerate().find(|(_, text)| text.trim().is_empty()) {
                    return Err(Error::Invalid {
                        what: format!("query {row} is blank: ask in words"),
                    });
                }
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let begun = std::time::Instant::now();
                let embeddings = encoder.encode_queries(&texts).map_err(|error| match error {
                    // Control characters alone, for example.
                    crate::ModelError::EmptyText { index } => Error::Invalid {
                        what: format!("query {index} has no token that the encoder reads: ask in words"),
                    },
                    error => error.into(),
                })?;
                explanation.encoding = begun.elapsed();
                (0..texts.len()).map(|row| embeddings.of(row).to_vec()).collect()
            }
        };
        let mut queries = Vec::with_capacity(vectors.len() * schema.dimension());
        for (row, vector) in vectors.iter().enumerate() {
            queries.extend_from_slice(&schema.prepared(name, vector, &|| format!("query {row}"))?);
        }
        let asked = exact::Asked {
            queries: &queries,
            count: vectors.len(),
            k,
            floor,
            layers: &planes,
            filter: filter.as_ref(),
            device,
            effort,
        };
        explanation.queries = asked.count;
        explanation.layers = planes.len();
        let hits = exact::search(&collection, &asked, &fields, &mut explanation)?;
        Ok((hits, explanation))
    }
}

fn chosen_layers(collection: &CollectionSnapshot, names: &[String]) -> Result<Vec<u32>> {
    if names.is_empty() {
        return Err(Error::Invalid {
            what: "a search needs one layer at least".to_owned(),
        });
    }
    let layers = &collection.schema.layers;
    let mut chosen = BTreeSet::new();
    for name in names {
        let index = layers
            .iter()
            .position(|layer| layer == name)
            .ok_or_else(|| Error::UnknownLayer {
                collection: collection.name().to_owned(),
                name: name.clone(),
                layers: layers.join(", "),
            })?;
        chosen.insert(index as u32);
    }
    Ok(chosen.into_iter().collect())
}

macro_rules! request_settings {
    () => {
        /// How many hits to return at most; 10 by default.
        pub fn k(mut self, k: usize) -> Self {
            self.request.k = k;
            self
        }

        /// Return only hits whose score is at least `floor`.
        pub fn floor(mut self, floor: f64) -> Self {
            self.request.floor = Some(floor);
            self
        }

        /// Compare with these layers of the documents only; with all by default. Over fewer than all every search is
        /// exact.
        pub fn layers(mut self, layers: impl IntoIterator<Item = impl Into<String>>) -> Self {
            self.request.layers = Some(layers.into_iter().map(Into::into).collect());
            self
        }

        /// Only documents that pass: `field("year").ge(2020)`, or the same as text, `"year >= 2020"`. The best `k`
        /// of those are returned, however few they are of all. Of two filters both must be passed.
        pub fn filter(mut self, filter: impl Into<Filter>) -> Self {
            let filter = filter.into();
            self.request.filter = Some(match self.request.filter.take() {
                Some(other) => other & filter,
                None => filter,
            });
            self
        }

        /// What hits bring along; title, text and metadata by default.
        pub fn fields(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
            self.request.fields = fields.into_iter().collect();
            self
        }

        /// Says which encoder state (its identity's hash) or label made the query vectors.
        pub fn made_by(mut self, generation: impl Into<String>) -> Self {
            self.request.made_by = Some(generation.into());
            self
        }

        /// Where to compare: by default on a GPU if this build (feature `cuda`) and this machine have one and the
        /// search is large enough, else on the CPU. The answer is the same.
        pub fn device(mut self, device: Device) -> Self {
            self.request.device = device;
            self
        }

        /// Compare with every document, as a search does by default; said, it stays so.
        pub fn exact(mut self) -> Self {
            self.request.effort = None;
            self
        }

        /// Walk the index where there is one, and find 95 of 100 of what an exact search finds; see
        /// `recall_target`. Scores are those of exact search, and what has no index yet is compared with as ever.
        pub fn approximate(mut self) -> Self {
            self.request
                .effort
                .get_or_insert(Effort::Recall(approximate::TARGET));
            self
        }

        /// Approximate, so that about this share of an exact search's hits is found, above 0 and at most at 1.
        /// Each index says how hard that is, as measured when it was built with questions made of its documents;
        /// questions unlike them may be harder and reach less, which [`crate::Collection::recall`] tells. 1 is an
        /// exact search.
        pub fn recall_target(mut self, share: f32) -> Self {
            self.request.effort = Some(Effort::Recall(share));
            self
        }

        /// Approximate, with so many documents kept in view while an index is walked: the more, the surer and
        /// the slower. At least `k` are.
        pub fn effort(mut self, documents: usize) -> Self {
            self.request.effort = Some(Effort::Width(documents));
            self
        }
    };
}

/// A search with one query; made by [`crate::Collection::search`] and its kin.
#[must_use = "a search does nothing before `run`"]
pub struct Search {
    request: Request,
}

impl Search {
    pub(crate) fn of_vector(collection: Result<CollectionSnapshot>, query: Vec<f32>) -> Search {
        Search {
            request: Request::new(collection, Questions::Vectors(vec![query])),
        }
    }

    #[cfg(feature = "encoder")]
    pub(crate) fn of_text(collection: Result<CollectionSnapshot>, text: String) -> Search {
        Search {
            request: Request::new(collection, Questions::Texts(vec![text])),
        }
    }

    request_settings!();

    /// Answers: the best `k` documents, best first, equal scores in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotFinite`], [`Error::ForeignModel`], [`Error::UnknownLayer`],
    /// [`Error::NoEncoder`], [`Error::Filter`], [`Error::Invalid`], [`Error::Storage`] for damage or a dropped collection,
    /// [`Error::Kernel`] for a device that was named and is not there.
    pub fn run(self) -> Result<Vec<Hit>> {
        Ok(self.explain()?.0)
    }

    /// Answers as [`Search::run`] does, and says how: which way each part was searched, how many documents each
    /// bound left over, bytes read, time per stage.
    ///
    /// # Errors
    /// As [`Search::run`].
    pub fn explain(self) -> Result<(Vec<Hit>, Explanation)> {
        let (mut hits, explanation) = self.request.run()?;
        Ok((hits.pop().unwrap_or_default(), explanation))
    }
}

/// A search with many queries at once; made by [`crate::Collection::search_vectors`] and its kin.
#[must_use = "a search does nothing before `run`"]
pub struct BatchSearch {
    request: Request,
}

impl BatchSearch {
    pub(crate) fn of_vectors(collection: Result<CollectionSnapshot>, queries: Vec<Vec<f32>>) -> BatchSearch {
        BatchSearch {
            request: Request::new(collection, Questions::Vectors(queries)),
        }
    }

    #[cfg(feature = "encoder")]
    pub(crate) fn of_texts(collection: Result<CollectionSnapshot>, texts: Vec<String>) -> BatchSearch {
        BatchSearch {
            request: Request::new(collection, Questions::Texts(texts)),
        }
    }

    request_settings!();

    /// Answers every query, in their order; each answer as [`Search::run`] gives it.
    ///
    /// # Errors
    /// As [`Search::run`], naming the query's row; one bad query fails the call, and nothing is answered.
    pub fn run(self) -> Result<Vec<Vec<Hit>>> {
        Ok(self.request.run()?.0)
    }

    /// Answers as [`BatchSearch::run`] does, and says how: see [`Search::explain`].
    ///
    /// # Errors
    /// As [`Search::run`].
    pub fn explain(self) -> Result<(Vec<Vec<Hit>>, Explanation)> {
        self.request.run()
    }
}
