//! Which questions, passages and masks make a step's batch: a function of seed and step alone.

use std::collections::HashMap;

use super::TrainingError;
use super::data::PairSet;
use super::options::TrainingOptions;
use crate::random::{below, key, permutation};

/// The places of a random choice, so that no two share one.
pub(super) const ORDER: u64 = 1;
const POSITIVE: u64 = 2;
const NEGATIVES: u64 = 3;
pub(super) const GROUPS: u64 = 4;

/// One step's questions and passages.
#[derive(Debug, PartialEq)]
pub(crate) struct Members {
    pub questions: Vec<usize>,
    pub passages: Vec<usize>,
    /// For each question the place of its positive in `passages`.
    pub positives: Vec<usize>,
    /// `[B, N]`
    pub left_out: Vec<bool>,
    /// Hard negatives that questions had too few of.
    pub shortage: usize,
}

pub(super) fn members(
    set: &PairSet,
    options: &TrainingOptions,
    epoch: u64,
    questions: Vec<usize>,
) -> Members {
    let mut passages = Vec::new();
    let mut places: HashMap<usize, usize> = HashMap::new();
    let mut positives = Vec::with_capacity(questions.len());
    let mut shortage = 0;
    let mut place = |passage: usize, passages: &mut Vec<usize>| {
        // The published way has a passage once for each question that brings it.
        if options.mask_equals
            && let Some(&place) = places.get(&passage)
        {
            return place;
        }
        passages.push(passage);
        places.insert(passage, passages.len() - 1);
        passages.len() - 1
    };
    for &q in &questions {
        let question = &set.questions()[q];
        let choice = below(
            key(options.seed, &[POSITIVE, epoch, q as u64]),
            question.positives.len(),
        );
        positives.push(place(question.positives[choice], &mut passages));
        let pool = &question.negatives[..question.negatives.len().min(options.negative_pool)];
        shortage += options.hard_negatives.saturating_sub(pool.len());
        if options.hard_negatives == 0 || pool.is_empty() {
            continue;
        }
        let order = permutation(pool.len(), key(options.seed, &[NEGATIVES, epoch, q as u64]));
        for &negative in order.iter().take(options.hard_negatives) {
            place(pool[negative], &mut passages);
        }
    }
    let left_out = if options.mask_equals {
        equals(set, &questions, &passages, &positives)
    } else {
        vec![false; questions.len() * passages.len()]
    };
    Members {
        questions,
        passages,
        positives,
        left_out,
        shortage,
    }
}

/// Which passages are no negatives of which questions: other positives of the question, passages whose text is that of
/// one of them, and positives of a question with the same text.
fn equals(set: &PairSet, questions: &[usize], passages: &[usize], positives: &[usize]) -> Vec<bool> {
    let n = passages.len();
    let text = |passage: usize| set.passages()[passage].text.trim();
    let mut by_text: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, &passage) in passages.iter().enumerate() {
        by_text.entry(text(passage)).or_default().push(j);
    }
    let mut twins: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, &q) in questions.iter().enumerate() {
        twins.entry(set.questions()[q].text.trim()).or_default().push(i);
    }
    let mut left_out = vec![false; questions.len() * n];
    for (i, &q) in questions.iter().enumerate() {
        for &twin in &twins[set.questions()[q].text.trim()] {
            for &positive in &set.questions()[questions[twin]].positives {
                for &j in by_text.get(text(positive)).into_iter().flatten() {
                    left_out[i * n + j] = j != positives[i];
                }
            }
        }
    }
    left_out
}

impl Members {
    /// The mean number of passages that a question is compared with.
    pub fn candidates(&self) -> f64 {
        let kept = self.left_out.iter().filter(|&&out| !out).count();
        kept as f64 / self.questions.len().max(1) as f64
    }
}

/// Refuses a set from which nothing can be learned.
pub(crate) fn check(set: &PairSet, options: &TrainingOptions) -> Result<(), TrainingError> {
    let what = |what: &str| TrainingError::Data {
        what: what.to_owned(),
    };
    if set.questions().is_empty() {
        return Err(what("there is no question to train on"));
    }
    let compared = set.questions().len() > 1 && options.batch > 1;
    let hard = options.hard_negatives > 0
        && set
            .questions()
            .iter()
            .any(|question| !question.negatives.is_empty());
    if !compared && !hard {
        return Err(what(
            "a single pair has nothing to be told from: give more questions, a batch of two or more, or hard negatives",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::data::{Passage, Question};
    use crate::training::order::Order;

    fn set(texts: &[&str], questions: &[(&str, &[usize], &[usize])]) -> PairSet {
        let passage = |(i, text): (usize, &&str)| Passage {
            id: i.to_string(),
            title: None,
            text: (*text).to_owned(),
        };
        let question = |(i, (text, positives, negatives)): (usize, &(&str, &[usize], &[usize]))| Question {
            id: i.to_string(),
            text: (*text).to_owned(),
            positives: positives.to_vec(),
            answers: Vec::new(),
            negatives: negatives.to_vec(),
        };
        PairSet::new(
            texts.iter().enumerate().map(passage).collect(),
            questions.iter().enumerate().map(question).collect(),
        )
        .unwrap()
    }

    fn excluded(members: &Members, set: &PairSet) -> Vec<(String, Vec<String>)> {
        let n = members.passages.len();
        let mut all: Vec<_> = (members.questions.iter().enumerate())
            .map(|(i, &q)| {
                let mut out: Vec<String> = (0..n)
                    .filter(|j| members.left_out[i * n + j])
                    .map(|j| set.passages()[members.passages[j]].id.clone())
                    .collect();
                out.sort();
                (set.questions()[q].id.clone(), out)
            })
            .collect();
        all.sort();
        all
    }

    /// B82: (q1, d1), (q2, d1), (q1, d2), and equal texts under other ids.
    #[test]
    fn equals_of_a_batch_are_no_negatives_of_each_other() {
        let set = set(
            &["one", "two", "one", "four"],
            &[("q1", &[0], &[3]), ("q2", &[0], &[2]), ("q1", &[1], &[3])],
        );
        let options = TrainingOptions {
            batch: 3,
            ..TrainingOptions::default()
        };
        let members = Order::new().members(&set, &options, 0);
        assert_eq!(members.passages.len(), 4, "a passage is encoded once");
        let own = |id: &str, out: &[&str]| (id.to_owned(), out.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(
            excluded(&members, &set),
            [own("0", &["1", "2"]), own("1", &["2"]), own("2", &["0", "2"])]
        );
        let published = TrainingOptions {
            mask_equals: false,
            ..options
        };
        let members = Order::new().members(&set, &published, 0);
        assert_eq!(members.passages.len(), 6);
        assert!(members.left_out.iter().all(|out| !out));
    }

    #[test]
    fn an_epoch_loses_no_question_and_draws_anew() {
        let texts: Vec<String> = (0..23).map(|i| format!("text {i}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let questions: Vec<String> = (0..10).map(|i| format!("question {i}")).collect();
        let places: Vec<[usize; 1]> = (0..10).map(|i| [i]).collect();
        let questions: Vec<(&str, &[usize], &[usize])> = (0..10)
            .map(|i| {
                (
                    questions[i].as_str(),
                    &places[i][..],
                    &[10, 11, 12, 13, 14, 15][..if i == 0 { 1 } else { 6 }],
                )
            })
            .collect();
        let set = set(&texts, &questions);
        let options = TrainingOptions {
            batch: 4,
            hard_negatives: 2,
            ..TrainingOptions::default()
        };
        let mut order = Order::new();
        let mut epochs = Vec::new();
        for epoch in 0..2 {
            let steps: Vec<Members> = (0..3)
                .map(|step| order.members(&set, &options, 3 * epoch + step))
                .collect();
            let mut seen: Vec<usize> = steps.iter().flat_map(|step| step.questions.clone()).collect();
            epochs.push(seen.clone());
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
            assert_eq!(steps.iter().map(|step| step.shortage).sum::<usize>(), 1);
        }
        assert!(epochs[0] != epochs[1]);
        assert_eq!(
            Order::new().members(&set, &options, 4),
            order.members(&set, &options, 4)
        );
    }

    #[test]
    fn one_pair_is_refused_unless_it_has_something_to_be_told_from() {
        let options = TrainingOptions::default();
        assert!(check(&set(&["a"], &[]), &options).is_err());
        assert!(check(&set(&["a"], &[("q", &[0], &[])]), &options).is_err());
        assert!(check(&set(&["a", "b"], &[("q", &[0], &[1])]), &options).is_ok());
    }
}
