//! BM25 over a set's passages: the baseline, and a source of hard negatives.
//!
//! Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with Lucene's `idf = ln(1 +
//! (N - n + 0.5) / (n + 0.5))`, k1 1.2, b 0.75; words as in the answer match, English function words left out, no
//! stemming. It is a page of code; the crates that offer it stand on libraries that nobody keeps any more.

use std::collections::HashMap;

use crate::training::{PairSet, words};

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// Words that say nothing of a text's matter.
const FUNCTION_WORDS: &str = "a about above after again against all am an and any are as at be because been before being \
    below between both but by can could did do does doing down during each few for from further had has have having he \
    her here hers herself him himself his how i if in into is it its itself just me more most my myself no nor not now of \
    off on once only or other our ours ourselves out over own s same she should so some such t than that the their theirs \
    them themselves then there these they this those through to too under until up very was we were what when where which \
    while who whom why will with would you your yours yourself yourselves";

/// An index of words over passages.
pub struct Bm25 {
    /// For each word the passages that have it, with how often over the length's factor.
    postings: HashMap<String, Vec<(u32, f32)>>,
    passages: usize,
}

fn terms(text: &str) -> impl Iterator<Item = String> {
    words(text).into_iter().filter(|word| {
        word.chars().any(char::is_alphanumeric)
            && !FUNCTION_WORDS.split_ascii_whitespace().any(|other| other == word)
    })
}

impl Bm25 {
    /// Indexes titles and texts of a set's passages.
    pub fn of(set: &PairSet) -> Bm25 {
        Bm25::new(set.passages().iter().map(|passage| {
            let title = passage.title.as_deref().unwrap_or("");
            format!("{title} {}", passage.text)
        }))
    }

    /// Indexes texts; a passage is known by its place.
    pub fn new<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Bm25 {
        let mut postings: HashMap<String, Vec<(u32, f32)>> = HashMap::new();
        let mut lengths: Vec<u32> = Vec::new();
        for text in texts {
            let place = lengths.len() as u32;
            let mut length = 0;
            for term in terms(text.as_ref()) {
                length += 1;
                let list = postings.entry(term).or_default();
                match list.last_mut() {
                    Some((last, count)) if *last == place => *count += 1.0,
                    _ => list.push((place, 1.0)),
                }
            }
            lengths.push(length);
        }
        let total: f64 = lengths.iter().map(|&length| f64::from(length)).sum();
        let mean = (total / lengths.len().max(1) as f64).max(1.0);
        for (place, weight) in postings.values_mut().flatten() {
            let norm = K1 * (1.0 - B + B * f64::from(lengths[*place as usize]) / mean);
            let count = f64::from(*weight);
            *weight = (count * (K1 + 1.0) / (count + norm)) as f32;
        }
        Bm25 {
            postings,
            passages: lengths.len(),
        }
    }

    /// The best `k` passages for a question with their scores; those without any of its words are not among them. Of
    /// equal scores the earlier passage comes first.
    pub fn search(&self, question: &str, k: usize) -> Vec<(usize, f64)> {
        let mut scores = vec![0.0f64; self.passages];
        for term in terms(question) {
            let Some(list) = self.postings.get(&term) else {
                continue;
            };
            let n = list.len() as f64;
            let idf = (1.0 + (self.passages as f64 - n + 0.5) / (n + 0.5)).ln();
            for &(place, weight) in list {
                scores[place as usize] += idf * f64::from(weight);
            }
        }
        let mut found: Vec<(usize, f64)> = scores
            .into_iter()
            .enumerate()
            .filter(|(_, score)| *score > 0.0)
            .collect();
        let better = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if found.len() > k && k > 0 {
            found.select_nth_unstable_by(k - 1, better);
        }
        found.truncate(k);
        found.sort_unstable_by(better);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_formula() {
        let index = Bm25::new(["tree tree leaf", "leaf", "the log"]);
        // N 3, lengths 3, 1, 1, mean 5/3; `tree` is in one passage, twice.
        let idf = (1.0f64 + 2.5 / 1.5).ln();
        let weight = 2.0 * 2.2 / (2.0 + 1.2 * (0.25 + 0.75 * 3.0 / (5.0 / 3.0)));
        let found = index.search("The Tree?", 10);
        assert_eq!(found.len(), 1);
        assert!((found[0].1 - idf * weight).abs() < 1e-6);
        let leaf: Vec<usize> = index.search("leaf", 10).into_iter().map(|hit| hit.0).collect();
        assert_eq!(leaf, [1, 0], "the shorter passage is more about it");
        assert_eq!(index.search("leaf", 1).len(), 1);
        assert!(index.search("the", 10).is_empty() && index.search("leaf", 0).is_empty());
    }
}
