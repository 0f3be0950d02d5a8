//! Rankings: for each question of a set the passages a search finds, best first.

use rayon::prelude::*;
use stratal_kernels::{Options, Plane, max_inner_product};

use super::bm25::Bm25;
use crate::encoder::{Embeddings, EncodeOptions, Encoder};
use crate::training::PairSet;
use crate::{Collection, Error, Id, Result};

/// Questions searched at once.
const BATCH: usize = 256;

/// The answer of a search to every question of a set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranking {
    /// For each question the places of passages with their scores, best first.
    pub hits: Vec<Vec<(usize, f64)>>,
}

/// Places of passages with their scores, best first.
type Hits = Vec<(usize, f64)>;

impl Ranking {
    /// By the encoder's vectors, exactly: the maximum over a passage's layer vectors of the inner product.
    ///
    /// # Errors
    /// Those of encoding, [`Error::Kernel`].
    pub fn dense(encoder: &Encoder, set: &PairSet, k: usize, options: &EncodeOptions<'_>) -> Result<Ranking> {
        let inputs: Vec<_> = set.passages().iter().map(|passage| passage.as_input()).collect();
        let passages = encoder.encode_documents(&inputs, options)?;
        Ranking::by_vectors(encoder, &passages, set, k)
    }

    /// As [`Ranking::dense`], with the passages' vectors at hand, in the order of the set's passages.
    ///
    /// # Errors
    /// As [`Ranking::dense`].
    pub fn by_vectors(encoder: &Encoder, passages: &Embeddings, set: &PairSet, k: usize) -> Result<Ranking> {
        let (n, m, d) = (passages.n, passages.m, passages.dimension);
        let bytes: &[u8] = bytemuck::cast_slice(&passages.vectors);
        let planes = (0..m)
            .map(|layer| {
                let stride = m * d * 4;
                // The last row of a plane but the last ends before the next layers' elements.
                Plane::new(
                    &bytes[layer * d * 4..],
                    n,
                    d,
                    stride,
                    stratal_kernels::Element::F32,
                )
            })
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let mut ranking = Ranking::default();
        for questions in set.questions().chunks(BATCH) {
            let texts: Vec<&str> = questions.iter().map(|question| question.text.as_str()).collect();
            let vectors = encoder.encode_queries(&texts)?;
            let found = max_inner_product(&vectors.vectors, d, &planes, &Options::new(k))?;
            ranking.hits.extend(found.into_iter().map(|hits| {
                hits.into_iter()
                    .map(|hit| (hit.row as usize, hit.score))
                    .collect()
            }));
        }
        Ok(ranking)
    }

    /// By BM25 over title and text.
    pub fn bm25(set: &PairSet, k: usize) -> Ranking {
        let index = Bm25::new(set.passages().iter().map(|passage| {
            let title = passage.title.as_deref().unwrap_or("");
            format!("{title} {}", passage.text)
        }));
        let questions = set.questions().par_iter();
        Ranking {
            hits: questions
                .map(|question| index.search(&question.text, k))
                .collect(),
        }
    }

    /// By a collection's own search, in words; documents that are none of the set's passages are left out.
    ///
    /// # Errors
    /// Those of the search.
    pub fn of_collection(collection: &Collection, set: &PairSet, k: usize) -> Result<Ranking> {
        let mut ranking = Ranking::default();
        for questions in set.questions().chunks(BATCH) {
            let texts = questions.iter().map(|question| question.text.as_str());
            for hits in collection.search_texts(texts).k(k).fields([]).run()? {
                let place = |id: &Id| match id {
                    Id::Text(id) => set.passage(id),
                    Id::Number(id) => set.passage(&id.to_string()),
                };
                let hits = hits.iter().filter_map(|hit| Some((place(&hit.id)?, hit.score)));
                ranking.hits.push(hits.collect());
            }
        }
        Ok(ranking)
    }

    /// Two rankings as one by reciprocal rank fusion: `Σ 1 / (60 + rank)` (Cormack, Clarke and Büttcher, 2009).
    ///
    /// # Errors
    /// [`Error::Invalid`] if they are not of the same questions.
    pub fn fused(&self, other: &Ranking, k: usize) -> Result<Ranking> {
        if self.hits.len() != other.hits.len() {
            return Err(Error::Invalid {
                what: format!(
                    "rankings of {} and {} questions cannot be fused",
                    self.hits.len(),
                    other.hits.len()
                ),
            });
        }
        let fuse = |(a, b): (&Hits, &Hits)| {
            let mut scores = std::collections::BTreeMap::new();
            for list in [a, b] {
                for (rank, (place, _)) in list.iter().enumerate() {
                    *scores.entry(*place).or_insert(0.0) += 1.0 / (61.0 + rank as f64);
                }
            }
            let mut hits: Vec<(usize, f64)> = scores.into_iter().collect();
            hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            hits.truncate(k);
            hits
        };
        Ok(Ranking {
            hits: self.hits.iter().zip(&other.hits).map(fuse).collect(),
        })
    }

    /// The places alone, as mining takes them.
    pub fn places(&self) -> Vec<Vec<usize>> {
        let places = |hits: &Vec<(usize, f64)>| hits.iter().map(|hit| hit.0).collect();
        self.hits.iter().map(places).collect()
    }
}
