//! Passages made ready for questions once, whatever number of sets of questions is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::arguments::{Evaluate, SearchName};
use super::output::{bar, counted, note};
use super::train::Pairs;
use super::{Failure, Outcome};
use crate::encoder::{Embeddings, EncodeOptions, LateInteraction};
use crate::evaluation::{Bm25, Ranking};
use crate::training::{Mined, PairSet};
use crate::{Collection, Encoder};

/// Hits of each search that are fused, at least.
const FUSED_DEPTH: usize = 1_000;
/// Passages that are looked at for one hard negative that may hold an answer.
const DEPTH_FACTOR: usize = 4;

/// Passages under one kind of search.
pub enum Searched<'a> {
    /// A collection that holds the encoder's vectors.
    Collection(&'a Collection),
    /// An encoder's vectors of all passages.
    Vectors(Box<Encoder>, Embeddings),
    /// The same, compared with a vector of each layer of the question too.
    BothLayers(Box<Encoder>, Embeddings),
    Words(Bm25),
}

impl<'a> Searched<'a> {
    /// By the encoder's vectors: the collection if it holds them, else all of the set's passages are encoded.
    pub fn vectors(
        encoder: &Encoder,
        pairs: &'a Pairs,
        set: &PairSet,
        cancel: &AtomicBool,
    ) -> Result<Searched<'a>, Failure> {
        if let Some(collection) = &pairs.collection
            && holds(collection, encoder)?
        {
            return Ok(Searched::Collection(collection));
        }
        let progress = bar(
            "encoding {bar:30} {pos}/{len} passages",
            set.passages().len() as u64,
        );
        let tell = |done: usize, _| progress.set_position(done as u64);
        let options = EncodeOptions {
            progress: Some(&tell),
            cancel: Some(cancel),
        };
        let inputs: Vec<_> = set.passages().iter().map(|passage| passage.as_input()).collect();
        let vectors = encoder.encode_documents(&inputs, &options);
        progress.finish_and_clear();
        Ok(Searched::Vectors(Box::new(encoder.clone()), vectors?))
    }

    /// With a vector of each layer of the question.
    fn with_question_layers(self) -> Result<Searched<'a>, Failure> {
        match self {
            Searched::Vectors(encoder, vectors) => Ok(Searched::BothLayers(encoder, vectors)),
            _ => Err(Failure::Usage(
                "a collection is asked by one vector a question: name the passages by --corpus".to_owned(),
            )),
        }
    }

    /// With another weight of the vectors' lexical part.
    fn weighing(&self, weight: f32, set: &PairSet, k: usize) -> Result<Ranking, Failure> {
        let (encoder, vectors) = match self {
            Searched::Vectors(encoder, vectors) | Searched::BothLayers(encoder, vectors) => {
                (encoder, vectors)
            }
            _ => return Err(under_its_own_weight()),
        };
        let encoder = encoder.weighing(weight)?;
        Ok(match self {
            Searched::BothLayers(..) => Ranking::by_layers_of_both(&encoder, vectors, set, k)?,
            _ => Ranking::by_vectors(&encoder, vectors, set, k)?,
        })
    }

    /// The best `k` for every question of a set over the same passages.
    pub fn ranking(&self, set: &PairSet, k: usize) -> Result<Ranking, Failure> {
        Ok(match self {
            Searched::Collection(collection) => Ranking::of_collection(collection, set, k)?,
            Searched::Vectors(encoder, vectors) => Ranking::by_vectors(encoder, vectors, set, k)?,
            Searched::BothLayers(encoder, vectors) => Ranking::by_layers_of_both(encoder, vectors, set, k)?,
            Searched::Words(index) => Ranking::by_words(index, set, k),
        })
    }

    /// Gives every question of a set the best `negatives` that do not answer it.
    pub fn mine(&self, set: &mut PairSet, negatives: usize) -> Result<Mined, Failure> {
        // There are no more than passages, whatever is asked for.
        let negatives = negatives.min(set.passages().len());
        let ranking = self.ranking(set, DEPTH_FACTOR * negatives)?;
        let mined = set.mine_negatives(&ranking.places(), negatives)?;
        note(&format!(
            "{} for {}, {} passed over for holding an answer",
            counted(mined.negatives, "hard negative", "hard negatives"),
            counted(set.questions().len() as u64, "question", "questions"),
            mined.with_answer
        ));
        Ok(mined)
    }
}

/// Whether questions could be asked under other weights of their words, before anything long is done.
pub fn check_weights(encoder: &Encoder, pairs: &Pairs, weights: &[f32]) -> Outcome {
    for &weight in weights {
        encoder.weighing(weight)?;
    }
    match &pairs.collection {
        Some(collection) if !weights.is_empty() && holds(collection, encoder)? => Err(under_its_own_weight()),
        _ => Ok(()),
    }
}

fn under_its_own_weight() -> Failure {
    Failure::Usage(
        "a collection is asked under its own weight of words: name the passages by --corpus".to_owned(),
    )
}

/// Whether a collection's vectors are the encoder's.
fn holds(collection: &Collection, encoder: &Encoder) -> Result<bool, Failure> {
    Ok(collection.has_encoder() && collection.encoder()?.identity().hash == encoder.identity().hash)
}

/// A way of searching, and what it is called.
pub struct Way {
    pub name: String,
    /// Searches with their weights.
    parts: Vec<(SearchName, f64)>,
    /// Fuse by ranks, not by scores.
    by_rank: bool,
    /// By vectors, with one of the weights of their lexical part.
    weighing: Option<usize>,
}

/// The rankings of one set of questions.
#[derive(Clone, Default)]
pub struct Deep {
    by_search: BTreeMap<SearchName, Ranking>,
    /// By vectors, with each of the weights of their lexical part.
    by_weight: Vec<Ranking>,
}

impl Way {
    /// What was asked for, in order; the vectors where nothing was.
    pub fn of(arguments: &Evaluate) -> Vec<Way> {
        let named = arguments.search.iter().map(|&search| Way::alone(search));
        let mixtures = arguments.fuse.iter().map(|mixture| Way {
            name: mixture.name.clone(),
            parts: mixture.parts.clone(),
            by_rank: false,
            weighing: None,
        });
        let mut ways: Vec<Way> = named.chain(mixtures).collect();
        if ways.is_empty() {
            ways.push(Way::alone(SearchName::Dense));
        }
        let weights = arguments.lexical_weight.iter().enumerate();
        ways.extend(weights.map(|(at, weight)| Way {
            name: format!("dense, words {weight}"),
            weighing: Some(at),
            ..Way::alone(SearchName::Dense)
        }));
        ways
    }

    fn alone(search: SearchName) -> Way {
        Way {
            name: search.name().to_owned(),
            parts: match search {
                SearchName::Fused => vec![(SearchName::Dense, 1.0), (SearchName::Bm25, 1.0)],
                alone => vec![(alone, 1.0)],
            },
            by_rank: search == SearchName::Fused,
            weighing: None,
        }
    }

    /// How deep its ranking goes: token vectors put no more in order than they were given.
    pub fn depth(&self, arguments: &Evaluate) -> usize {
        match self.parts.as_slice() {
            [(SearchName::Tokens, _)] => arguments.k.min(arguments.rerank),
            _ => arguments.k,
        }
    }

    /// The best `k` by this way, out of rankings that were made.
    pub fn ranking(&self, deep: &Deep, k: usize) -> Result<Ranking, Failure> {
        let missing = || Failure::invalid(format!("the search {} was not made", self.name));
        if let Some(at) = self.weighing {
            return Ok(deep.by_weight.get(at).ok_or_else(missing)?.cut(k));
        }
        let of = |search: &SearchName| deep.by_search.get(search).ok_or_else(missing);
        match self.parts.as_slice() {
            [(alone, _)] => Ok(of(alone)?.cut(k)),
            [(a, _), (b, _)] if self.by_rank => Ok(of(a)?.fused(of(b)?, k)?),
            parts => {
                let parts = parts.iter().map(|(search, weight)| Ok((of(search)?, *weight)));
                let parts = parts.collect::<Result<Vec<_>, Failure>>()?;
                Ok(Ranking::combined(&parts, k)?)
            }
        }
    }
}

/// The searches that some ways stand on.
pub fn needed(ways: &[Way], arguments: &Evaluate) -> BTreeSet<SearchName> {
    let parts = ways.iter().flat_map(|way| &way.parts);
    let mut needed: BTreeSet<SearchName> = parts.map(|(search, _)| *search).collect();
    if needed.contains(&SearchName::Tokens) {
        needed.extend(
            Way::alone(arguments.candidates)
                .parts
                .iter()
                .map(|(search, _)| *search),
        );
    }
    needed
}

fn stop_if(cancel: &AtomicBool) -> Outcome {
    if cancel.load(Ordering::Relaxed) {
        note("stopped");
        return Err(Failure::Partly);
    }
    Ok(())
}

/// The rankings of every set, each search done once, passages encoded once for all sets.
pub fn rankings(
    needed: &BTreeSet<SearchName>,
    sets: &[&PairSet],
    encoder: Option<&Encoder>,
    pairs: &Pairs,
    arguments: &Evaluate,
    cancel: &AtomicBool,
) -> Result<Vec<Deep>, Failure> {
    let k = arguments.k;
    let depth = match needed.len() > 1 {
        true => k.max(FUSED_DEPTH),
        false => k,
    };
    let mut all: Vec<Deep> = vec![Deep::default(); sets.len()];
    let mut take = |search: SearchName, passages: &Searched<'_>| {
        for (set, deep) in sets.iter().zip(&mut all) {
            stop_if(cancel)?;
            deep.by_search.insert(search, passages.ranking(set, depth)?);
        }
        Ok::<(), Failure>(())
    };
    if needed.contains(&SearchName::Bm25) {
        take(SearchName::Bm25, &Searched::Words(Bm25::of(&pairs.set)))?;
    }
    let Some(encoder) = encoder else {
        return Ok(all);
    };
    if needed.contains(&SearchName::Dense) {
        let mut vectors = Searched::vectors(encoder, pairs, &pairs.set, cancel)?;
        if arguments.question_layers {
            vectors = vectors.with_question_layers()?;
        }
        take(SearchName::Dense, &vectors)?;
        for &weight in &arguments.lexical_weight {
            for (set, deep) in sets.iter().zip(&mut all) {
                stop_if(cancel)?;
                deep.by_weight.push(vectors.weighing(weight, set, k)?);
            }
        }
    }
    if needed.contains(&SearchName::Tokens) {
        if arguments.candidates == SearchName::Tokens {
            return Err(Failure::Usage(
                "tokens put another search's hits in order: say which with --candidates".to_owned(),
            ));
        }
        let way = Way::alone(arguments.candidates);
        let candidates = (all.iter().map(|deep| way.ranking(deep, arguments.rerank)))
            .collect::<Result<Vec<Ranking>, Failure>>()?;
        let pairs: Vec<(&PairSet, &Ranking)> = sets.iter().copied().zip(&candidates).collect();
        let how = encoder.late_interaction().unwrap_or(LateInteraction::SumOfBest);
        let progress = bar("comparing tokens {bar:30} {pos}/{len} passages", 0);
        let tell = |done: usize, total: usize| {
            progress.set_length(total as u64);
            progress.set_position(done as u64);
        };
        let options = EncodeOptions {
            progress: Some(&tell),
            cancel: Some(cancel),
        };
        let ordered = Ranking::by_tokens(encoder, how, &pairs, &options);
        progress.finish_and_clear();
        for (deep, ranking) in all.iter_mut().zip(ordered?) {
            deep.by_search.insert(SearchName::Tokens, ranking);
        }
    }
    Ok(all)
}
