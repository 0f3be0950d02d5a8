//! Measuring what approximate search finds of what exact search finds.

use std::time::Instant;

use crate::query::{BatchSearch, Hit};
use crate::{Collection, Error, Result};

/// Hits that are compared.
const K: usize = 10;

/// Widths that are measured.
const WIDTHS: [usize; 11] = [10, 14, 20, 28, 40, 56, 80, 120, 180, 280, 450];

/// The questions to measure with.
#[derive(Clone, Debug, PartialEq)]
pub enum RecallSample {
    /// So many documents' own vectors, spread over the collection; each document is left out of its own answer.
    Documents(usize),
    /// These query vectors `[q, D]`.
    Queries(Vec<Vec<f32>>),
}

impl From<usize> for RecallSample {
    fn from(count: usize) -> RecallSample {
        RecallSample::Documents(count)
    }
}

impl From<Vec<Vec<f32>>> for RecallSample {
    fn from(queries: Vec<Vec<f32>>) -> RecallSample {
        RecallSample::Queries(queries)
    }
}

/// What was measured at one setting.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct RecallAt {
    /// The effort; `None` where the engine chose it for a target.
    pub effort: Option<usize>,
    /// The share of exact search's best ten that were found.
    pub recall: f64,
    /// Queries per second of a batch on the database's threads.
    pub queries_per_second: f64,
}

/// What [`Collection::recall`] measured.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Recall {
    /// Questions asked.
    pub queries: usize,
    /// Documents in the collection.
    pub documents: u64,
    /// Exact search's queries per second.
    pub exact_queries_per_second: f64,
    /// Approximate search as it is by default.
    pub default: RecallAt,
    /// By ascending effort.
    pub curve: Vec<RecallAt>,
}

impl Collection {
    /// Measures approximate search against exact search on the collection's own data.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty sample or collection; as [`crate::Search::run`].
    pub fn recall(&self, sample: impl Into<RecallSample>) -> Result<Recall> {
        let snapshot = self.snapshot()?;
        let documents = snapshot.count();
        let (queries, own): (Vec<Vec<f32>>, bool) = match sample.into() {
            RecallSample::Queries(queries) => (queries, false),
            RecallSample::Documents(count) => {
                let stride = (documents as usize / count.max(1)).max(1);
                let mut queries = Vec::new();
                for document in snapshot.iter().step_by(stride).take(count) {
                    queries.extend(document?.layer_vectors()?.into_iter().next());
                }
                (queries, true)
            }
        };
        if queries.is_empty() {
            return Err(Error::Invalid {
                what: "recall is measured with one query at least, on a collection with documents".to_owned(),
            });
        }
        let made_by = snapshot.schema.made_by.identity().to_owned();
        // Its own document is the first answer to a document's vector, and tells nothing.
        let k = K + usize::from(own);
        let search = |change: &dyn Fn(BatchSearch) -> BatchSearch| -> Result<(Vec<Vec<Hit>>, f64)> {
            let started = Instant::now();
            let search = snapshot
                .search_vectors(queries.iter().cloned())
                .made_by(made_by.clone())
                .fields([])
                .k(k);
            let hits = change(search).run()?;
            Ok((
                hits,
                queries.len() as f64 / started.elapsed().as_secs_f64().max(1e-9),
            ))
        };
        let (truth, exact_queries_per_second) = search(&|search| search.exact())?;
        let skipped = usize::from(own);
        let wanted: usize = truth.iter().map(|hits| hits.len().saturating_sub(skipped)).sum();
        let measure = |effort: Option<usize>| -> Result<RecallAt> {
            let (found, queries_per_second) = search(&|search| match effort {
                Some(effort) => search.effort(effort),
                None => search.approximate(),
            })?;
            let reached: usize = found
                .iter()
                .zip(&truth)
                .map(|(found, truth)| {
                    let wanted = truth.iter().skip(skipped);
                    wanted
                        .filter(|hit| found.iter().any(|found| found.id == hit.id))
                        .count()
                })
                .sum();
            Ok(RecallAt {
                effort,
                recall: reached as f64 / wanted.max(1) as f64,
                queries_per_second,
            })
        };
        // Once before, so that no measurement pays for reading files.
        measure(None)?;
        Ok(Recall {
            queries: queries.len(),
            documents,
            exact_queries_per_second,
            default: measure(None)?,
            curve: WIDTHS
                .into_iter()
                .map(|effort| measure(Some(effort)))
                .collect::<Result<_>>()?,
        })
    }
}
