//! Hard negatives: passages that a search puts on top and that do not answer.

use rayon::prelude::*;
use std::collections::HashSet;

use super::TrainingError;
use super::data::{Answers, PairSet, words};

/// What mining found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mined {
    /// Negatives in all.
    pub negatives: u64,
    /// Negatives that questions have fewer than asked for.
    pub shortage: u64,
    /// Passages left out because one of the answers stands in them.
    pub with_answer: u64,
}

impl PairSet {
    /// Gives every question the first `wanted` passages of its ranking (places in the set's passages, best first) that
    /// are no positive of it, have not the text of one, and hold none of its answers; what it had before goes.
    ///
    /// Any search may have made the ranking: BM25, the model in use, a collection.
    ///
    /// # Errors
    /// [`TrainingError::Data`] if there is not one ranking a question, or a place is none of a passage.
    pub fn mine_negatives(&mut self, rankings: &[Vec<usize>], wanted: usize) -> Result<Mined, TrainingError> {
        let wrong = |what: String| Err(TrainingError::Data { what });
        if rankings.len() != self.questions().len() {
            return wrong(format!(
                "{} rankings for {} questions",
                rankings.len(),
                self.questions().len()
            ));
        }
        let n = self.passages().len();
        if let Some(place) = rankings.iter().flatten().find(|&&place| place >= n) {
            return wrong(format!("a ranking names passage {place}, and there are {n}"));
        }
        let set = &*self;
        let split: Vec<Vec<String>> = set
            .passages()
            .par_iter()
            .map(|passage| words(&passage.text))
            .collect();
        let found: Vec<(Vec<usize>, u64)> = (set.questions().par_iter().zip(rankings))
            .map(|(question, ranking)| {
                let answers = Answers::new(&question.answers);
                let text = |place: usize| set.passages()[place].text.trim();
                let twins: HashSet<&str> = question.positives.iter().map(|&place| text(place)).collect();
                let mut seen = HashSet::new();
                let mut with_answer = 0;
                let mut negatives = Vec::new();
                for &place in ranking {
                    if negatives.len() == wanted {
                        break;
                    }
                    let own = question.positives.contains(&place) || twins.contains(text(place));
                    if own || !seen.insert(place) {
                        continue;
                    }
                    if answers.in_words(&split[place]) {
                        with_answer += 1;
                        continue;
                    }
                    negatives.push(place);
                }
                (negatives, with_answer)
            })
            .collect();
        let mut mined = Mined::default();
        for (i, (negatives, with_answer)) in found.into_iter().enumerate() {
            mined.negatives += negatives.len() as u64;
            mined.shortage += (wanted - negatives.len()) as u64;
            mined.with_answer += with_answer;
            self.set_negatives(i, negatives)?;
        }
        Ok(mined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{Passage, Question};

    /// B89: d1 gold, d1' its twin, d2 second gold, three others, of which one holds the answer in a second case.
    #[test]
    fn positives_twins_and_answers_are_no_negatives_and_shortage_is_counted() {
        let texts = [
            "the gold",
            "the gold ",
            "second gold",
            "other one",
            "Other TWO.",
            "other three",
        ];
        let passages = (texts.iter().enumerate())
            .map(|(i, text)| Passage {
                id: i.to_string(),
                title: None,
                text: (*text).to_owned(),
            })
            .collect();
        let question = Question {
            id: "q".into(),
            text: "which?".into(),
            positives: vec![0, 2],
            answers: vec!["gold".into()],
            negatives: vec![],
        };
        let mut set = PairSet::new(passages, vec![question]).unwrap();
        let ranking = vec![vec![1, 0, 5, 2, 3, 4, 5]];
        let mined = set.mine_negatives(&ranking, 5).unwrap();
        assert_eq!(set.questions()[0].negatives, [5, 3, 4]);
        assert_eq!((mined.negatives, mined.shortage, mined.with_answer), (3, 2, 0));
        assert_eq!(set.mine_negatives(&ranking, 2).unwrap().shortage, 0);
        assert_eq!(set.questions()[0].negatives, [5, 3]);
        assert!(set.mine_negatives(&[], 2).is_err() && set.mine_negatives(&[vec![6]], 2).is_err());

        let mut question = set.questions()[0].clone();
        question.answers.push("two".into());
        let mut set = PairSet::new(set.passages().to_vec(), vec![question]).unwrap();
        let mined = set.mine_negatives(&ranking, 3).unwrap();
        assert_eq!(set.questions()[0].negatives, [5, 3]);
        assert_eq!((mined.shortage, mined.with_answer), (1, 1));
    }
}
