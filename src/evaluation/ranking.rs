//! Rankings: for each question of a set the passages a search finds, best first.

use rayon::prelude::*;
use stratal_kernels::{Candidate, Options, Plane, max_inner_product};

use super::bm25::Bm25;
use crate::encoder::{Embeddings, EncodeOptions, Encoder, ModelError};
use crate::training::{PairSet, TrainingError};
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
    /// Those of encoding and of [`askable`], [`Error::Kernel`].
    pub fn dense(encoder: &Encoder, set: &PairSet, k: usize, options: &EncodeOptions<'_>) -> Result<Ranking> {
        askable(encoder, set)?;
        let inputs: Vec<_> = set.passages().iter().map(|passage| passage.as_input()).collect();
        let passages = encoder.encode_documents(&inputs, options)?;
        Ranking::by_vectors(encoder, &passages, set, k)
    }

    /// As [`Ranking::dense`], with the passages' vectors at hand, in the order of the set's passages.
    ///
    /// # Errors
    /// As [`Ranking::dense`].
    pub fn by_vectors(encoder: &Encoder, passages: &Embeddings, set: &PairSet, k: usize) -> Result<Ranking> {
        askable(encoder, set)?;
        Ranking::by_encoded(passages, set, k, |texts| encoder.encode_queries(texts))
    }

    /// As [`Ranking::by_vectors`], with a vector of each layer of the question too: the maximum over all pairs.
    ///
    /// # Errors
    /// As [`Ranking::dense`].
    pub fn by_layers_of_both(
        encoder: &Encoder,
        passages: &Embeddings,
        set: &PairSet,
        k: usize,
    ) -> Result<Ranking> {
        askable(encoder, set)?;
        Ranking::by_encoded(passages, set, k, |texts| encoder.encode_queries_by_layer(texts))
    }

    fn by_encoded(
        passages: &Embeddings,
        set: &PairSet,
        k: usize,
        encode: impl Fn(&[&str]) -> std::result::Result<Embeddings, ModelError>,
    ) -> Result<Ranking> {
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
            let vectors = encode(&texts)?;
            let found = max_inner_product(&vectors.vectors, d, &planes, &Options::new(k))?;
            // What is among the best k by some vector of a question holds the best k by all of them.
            ranking
                .hits
                .extend(found.chunks(vectors.m).map(|each| best_of(each, k)));
        }
        Ok(ranking)
    }

    /// By BM25 over title and text.
    pub fn bm25(set: &PairSet, k: usize) -> Ranking {
        Ranking::by_words(&Bm25::of(set), set, k)
    }

    /// As [`Ranking::bm25`], with the index at hand, over the set's passages in their order.
    pub fn by_words(index: &Bm25, set: &PairSet, k: usize) -> Ranking {
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
    /// Those of the search and of [`askable`].
    pub fn of_collection(collection: &Collection, set: &PairSet, k: usize) -> Result<Ranking> {
        askable(&collection.encoder()?, set)?;
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
        let by_rank = |_: &Hits, rank: usize| 1.0 / (61.0 + rank as f64);
        summed(&[(self, 1.0), (other, 1.0)], k, by_rank)
    }

    /// Several rankings as one by the weighted sum of their scores, each question's scores of a ranking taken to 0 for
    /// its last hit and 1 for its first; a passage that a ranking does not have gets nothing from it. Rankings should go
    /// deeper than `k`, or a passage that one of them has just missed loses all of its share.
    ///
    /// Such convex combinations find more than ranks alone do where the weights were chosen on like data (Bruch, Gai and
    /// Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023).
    ///
    /// # Errors
    /// [`Error::Invalid`] if they are not of the same questions.
    pub fn combined(parts: &[(&Ranking, f64)], k: usize) -> Result<Ranking> {
        let by_score = |hits: &Hits, rank: usize| {
            let (first, last) = (hits[0].1, hits[hits.len() - 1].1);
            match first - last > 0.0 {
                true => (hits[rank].1 - last) / (first - last),
                false => 1.0,
            }
        };
        summed(parts, k, by_score)
    }

    /// The best `k` of every question.
    pub fn cut(&self, k: usize) -> Ranking {
        let cut = |hits: &Hits| hits[..k.min(hits.len())].to_vec();
        Ranking {
            hits: self.hits.iter().map(cut).collect(),
        }
    }

    /// The places alone, as mining takes them.
    pub fn places(&self) -> Vec<Vec<usize>> {
        let places = |hits: &Vec<(usize, f64)>| hits.iter().map(|hit| hit.0).collect();
        self.hits.iter().map(places).collect()
    }
}

/// Whether the encoder reads something of every question of a set.
///
/// # Errors
/// [`TrainingError::Data`] names the first question of which no token is left.
pub fn askable(encoder: &Encoder, set: &PairSet) -> Result<()> {
    let limit = encoder.settings().max_tokens;
    for question in set.questions() {
        if encoder.question_tokens(&question.text, limit)?.is_none() {
            let what = format!(
                "the question {:?} has no token that the encoder reads: leave it out",
                question.id
            );
            return Err(TrainingError::Data { what }.into());
        }
    }
    Ok(())
}

/// The best `k` of what several vectors of one question found, each passage by its best score.
fn best_of(found: &[Vec<Candidate>], k: usize) -> Hits {
    let mut hits: Hits = found
        .iter()
        .flatten()
        .map(|hit| (hit.row as usize, hit.score))
        .collect();
    hits.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    hits.dedup_by_key(|hit| hit.0);
    hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    hits.truncate(k);
    hits
}

/// Rankings as one: what `value` says of a hit (a question's hits and its place among them) times the ranking's weight,
/// summed over the rankings. Of equal sums the earlier passage comes first.
fn summed(
    parts: &[(&Ranking, f64)],
    k: usize,
    value: impl Fn(&Hits, usize) -> f64 + Sync,
) -> Result<Ranking> {
    let questions = parts.first().map_or(0, |(ranking, _)| ranking.hits.len());
    if let Some((other, _)) = parts.iter().find(|(ranking, _)| ranking.hits.len() != questions) {
        return Err(Error::Invalid {
            what: format!(
                "rankings of {questions} and {} questions cannot be fused",
                other.hits.len()
            ),
        });
    }
    let fuse = |question: usize| {
        let mut scores = std::collections::BTreeMap::new();
        for (ranking, weight) in parts {
            let hits = &ranking.hits[question];
            for (rank, (place, _)) in hits.iter().enumerate() {
                *scores.entry(*place).or_insert(0.0) += weight * value(hits, rank);
            }
        }
        let mut hits: Hits = scores.into_iter().collect();
        hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        hits.truncate(k);
        hits
    };
    Ok(Ranking {
        hits: (0..questions).map(fuse).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(hits: &[&[(usize, f64)]]) -> Ranking {
        Ranking {
            hits: hits.iter().map(|hits| hits.to_vec()).collect(),
        }
    }

    #[test]
    fn combinations_are_those_worked_out_by_hand() {
        let a = ranking(&[&[(7, 0.9), (3, 0.8), (5, 0.7)], &[], &[(1, 2.0)]]);
        let b = ranking(&[&[(3, 12.0), (9, 4.0)], &[(4, 1.0)], &[(1, 0.0), (2, 0.0)]]);
        let both = Ranking::combined(&[(&a, 0.75), (&b, 0.25)], 3).unwrap();
        let close = |hits: &Hits, expected: &[(usize, f64)]| {
            assert_eq!(hits.len(), expected.len(), "{hits:?}");
            for (hit, expected) in hits.iter().zip(expected) {
                assert!(
                    hit.0 == expected.0 && (hit.1 - expected.1).abs() < 1e-12,
                    "{hits:?}"
                );
            }
        };
        close(&both.hits[0], &[(7, 0.75), (3, 0.625), (5, 0.0)]);
        close(&both.hits[1], &[(4, 0.25)]);
        close(&both.hits[2], &[(1, 1.0), (2, 0.25)]);
        // A weight of 0 for the rest leaves a ranking as it was.
        let alone = Ranking::combined(&[(&a, 1.0), (&b, 0.0)], 3).unwrap();
        assert_eq!(alone.places()[0], a.places()[0]);
        assert_eq!(a.cut(1).places(), [vec![7], vec![], vec![1]]);
        assert!(Ranking::combined(&[(&a, 1.0), (&ranking(&[]), 1.0)], 3).is_err());
        assert_eq!(Ranking::combined(&[], 3).unwrap().hits.len(), 0);
    }

    #[test]
    fn the_best_pair_of_layers_counts() {
        let hit = |row, score| Candidate { row, score };
        let found = [vec![hit(1, 0.5), hit(2, 0.4)], vec![hit(2, 0.9), hit(3, 0.5)]];
        assert_eq!(best_of(&found, 3), [(2, 0.9), (1, 0.5), (3, 0.5)]);
        assert_eq!(best_of(&found, 1), [(2, 0.9)]);
        assert_eq!(best_of(&[], 3), []);
    }
}
