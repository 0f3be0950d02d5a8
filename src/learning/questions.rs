//! What a collection's encoder is trained on and judged by: the pairs that came with the documents, or pairs made
//! from the documents themselves.

use std::collections::{BTreeMap, HashMap};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Learning;
use crate::training::{PairSet, Passage, Question};
use crate::{CollectionSnapshot, Id, Result};

/// Passages that training looks for hard negatives in at most; those that questions ask for come first.
const CORPUS_MAX: usize = 50_000;
/// Pairs made of documents at most.
const MADE_MAX: usize = 20_000;
/// Words of a sentence that can stand for a question, and of the rest of its passage.
const SENTENCE_WORDS: std::ops::RangeInclusive<usize> = 5..=40;
const REST_WORDS: usize = 12;
/// A title that so many passages share says little of any.
const TITLE_PASSAGES_MAX: usize = 32;

/// Questions, split by article, over one corpus.
pub(super) struct Questions {
    pub train: PairSet,
    pub held_out: Vec<Question>,
    /// The document of each passage of the corpus.
    pub ids: HashMap<Id, usize>,
    /// Whether the questions were made from the documents.
    pub made: bool,
    /// Pairs used, and pairs whose document is gone.
    pub pairs: u64,
    pub lost: u64,
}

struct Doc {
    id: Id,
    title: Option<String>,
    text: String,
}

impl Questions {
    pub fn read(collection: &CollectionSnapshot, policy: &Learning) -> Result<Questions> {
        let seed = policy.training.seed;
        let pairs = collection.pairs()?;
        let made = pairs.is_empty() && policy.make_pairs;
        let wanted: HashMap<&Id, ()> = pairs.iter().map(|pair| (&pair.document, ())).collect();
        let mut docs = Vec::new();
        let mut others = Vec::new();
        for document in collection.iter() {
            let document = document?;
            let Some(text) = document.text().filter(|text| !text.trim().is_empty()) else {
                continue;
            };
            let doc = Doc {
                id: document.id().clone(),
                title: document.title().map(str::to_owned),
                text: text.to_owned(),
            };
            match wanted.contains_key(&doc.id) {
                true => docs.push(doc),
                false => others.push((xxh3_64_with_seed(&doc.id.to_bytes(), seed), doc)),
            }
        }
        // A sample that does not depend on the order of rows, which compaction changes.
        others.sort_by_key(|(hash, _)| *hash);
        others.truncate(CORPUS_MAX.saturating_sub(docs.len()));
        docs.extend(others.into_iter().map(|(_, doc)| doc));
        docs.sort_by(|a, b| a.id.cmp(&b.id));

        let ids: HashMap<Id, usize> = docs
            .iter()
            .enumerate()
            .map(|(place, doc)| (doc.id.clone(), place))
            .collect();
        let mut by_text: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let (mut used, mut lost) = (0, 0);
        if made {
            used = make(&mut docs, seed, &mut by_text);
        } else {
            for pair in pairs {
                match ids.get(&pair.document) {
                    Some(&place) => {
                        used += 1;
                        by_text.entry(pair.question).or_default().push(place);
                    }
                    None => lost += 1,
                }
            }
        }
        let article = |place: usize| -> &[u8] {
            let doc: &Doc = &docs[place];
            doc.title.as_deref().unwrap_or(&doc.text).as_bytes()
        };
        let limit = (policy.held_out * u64::MAX as f64) as u64;
        let (mut train, mut held_out) = (Vec::new(), Vec::new());
        for (number, (text, positives)) in by_text.into_iter().enumerate() {
            let apart = xxh3_64_with_seed(article(positives[0]), seed ^ 0x6a09_e667) < limit;
            let question = Question {
                id: number.to_string(),
                text,
                positives,
                answers: Vec::new(),
                negatives: Vec::new(),
            };
            if apart {
                held_out.push(question)
            } else {
                train.push(question)
            }
        }
        let passages = docs
            .into_iter()
            .enumerate()
            .map(|(place, doc)| Passage {
                id: place.to_string(),
                // A question made of the title would find it there.
                title: doc.title.filter(|_| !made),
                text: doc.text,
            })
            .collect();
        Ok(Questions {
            train: PairSet::new(passages, train)?,
            held_out,
            ids,
            made,
            pairs: used,
            lost,
        })
    }

    /// The held-out questions over a sample of the corpus: their own passages, and others up to `limit` in all, whoever
    /// would find them.
    pub fn judged(&self, limit: usize, seed: u64) -> Result<PairSet> {
        let mut places: Vec<usize> = self
            .held_out
            .iter()
            .flat_map(|question| question.positives.clone())
            .collect();
        places.sort_unstable();
        places.dedup();
        let own: std::collections::HashSet<usize> = places.iter().copied().collect();
        let mut others: Vec<usize> = (0..self.train.passages().len())
            .filter(|place| !own.contains(place))
            .collect();
        others.sort_by_key(|place| xxh3_64_with_seed(&place.to_le_bytes(), seed));
        others.truncate(limit.saturating_sub(places.len()));
        places.extend(others);
        places.sort_unstable();
        let new: HashMap<usize, usize> = places.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        let passages = places
            .iter()
            .map(|&place| self.train.passages()[place].clone())
            .collect();
        let questions = self
            .held_out
            .iter()
            .map(|question| Question {
                positives: question
                    .positives
                    .iter()
                    .filter_map(|place| new.get(place).copied())
                    .collect(),
                ..question.clone()
            })
            .collect();
        Ok(PairSet::new(passages, questions)?)
    }
}

/// Makes questions of titles, and of one sentence of each passage, which is taken out of it. Returns their number.
fn make(docs: &mut [Doc], seed: u64, by_text: &mut BTreeMap<String, Vec<usize>>) -> u64 {
    let mut titles: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, doc) in docs.iter().enumerate() {
        if let Some(title) = doc
            .title
            .as_deref()
            .map(str::trim)
            .filter(|title| !title.is_empty())
        {
            titles.entry(title.to_owned()).or_default().push(place);
        }
    }
    titles.retain(|_, places| places.len() <= TITLE_PASSAGES_MAX);
    let mut order: Vec<usize> = (0..docs.len()).collect();
    order.sort_by_key(|&place| xxh3_64_with_seed(&docs[place].id.to_bytes(), seed ^ 0xbb67_ae85));
    let mut made = 0;
    for place in order {
        if made as usize >= MADE_MAX {
            break;
        }
        let doc = &mut docs[place];
        let title = doc.title.as_deref().map(str::trim);
        if let Some(title) = title.filter(|title| titles.contains_key(*title)) {
            by_text.entry(title.to_owned()).or_default().push(place);
            made += 1;
        }
        let pick = xxh3_64_with_seed(&doc.id.to_bytes(), seed ^ 0x3c6e_f372);
        if let Some((sentence, rest)) = split(&doc.text, pick) {
            by_text.entry(sentence).or_default().push(place);
            doc.text = rest;
            made += 1;
        }
    }
    made
}

/// One sentence of a text, and the rest of it.
fn split(text: &str, pick: u64) -> Option<(String, String)> {
    let words = |text: &str| text.split_whitespace().count();
    let mut sentences = Vec::new();
    let mut start = 0;
    for (at, ending) in text.match_indices(['.', '!', '?', '\n']) {
        let end = at + ending.len();
        let ends = text[end..].chars().next().is_none_or(char::is_whitespace);
        if ends {
            sentences.push(start..end);
            start = end;
        }
    }
    sentences.push(start..text.len());
    let total = words(text);
    sentences.retain(|range| {
        let count = words(&text[range.clone()]);
        SENTENCE_WORDS.contains(&count) && total - count >= REST_WORDS
    });
    let chosen = sentences
        .get((pick % sentences.len().max(1) as u64) as usize)?
        .clone();
    let sentence = text[chosen.clone()].trim().to_owned();
    let rest = format!(
        "{} {}",
        text[..chosen.start].trim_end(),
        text[chosen.end..].trim_start()
    );
    Some((sentence, rest.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_and_the_rest_make_the_passage_and_nothing_is_cut_within_a_number() {
        let text = "The first sentence has a number, 3.14, in it. The second one is here as well! And the third of them closes.";
        for pick in 0..9 {
            let (sentence, rest) = split(text, pick).unwrap();
            assert!(text.contains(&sentence) && !rest.contains(&sentence));
            let count = |text: &str| text.split_whitespace().count();
            assert_eq!(count(&sentence) + count(&rest), count(text));
        }
        assert!(split("Too short to be split. It is.", 0).is_none());
        assert!(split("", 3).is_none());
        assert!(split(&"word ".repeat(100), 1).is_none(), "one sentence alone");
    }
}
