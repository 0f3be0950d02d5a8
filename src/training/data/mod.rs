//! Questions with the passages that answer them.

mod answers;
mod beir;
mod dpr;
mod jsonl;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

pub use answers::{Answers, words};

use super::TrainingError;

/// A passage of a training or evaluation set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Its id, as the files give it.
    pub id: String,
    /// Its title.
    pub title: Option<String>,
    /// Its text.
    pub text: String,
}

impl Passage {
    /// As an encoder takes it.
    pub fn as_input(&self) -> crate::Passage<'_> {
        crate::Passage {
            title: self.title.as_deref(),
            text: &self.text,
        }
    }
}

/// A question of a training or evaluation set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its id, as the files give it.
    pub id: String,
    /// Its text.
    pub text: String,
    /// The passages that answer it, as places in the set's passages; at least one.
    pub positives: Vec<usize>,
    /// Strings that answer it, where they are known.
    pub answers: Vec<String>,
    /// Hard negatives, best first, as places in the set's passages; may be empty.
    pub negatives: Vec<usize>,
}

/// Questions and the passages that they and their searches refer to.
///
/// ```no_run
/// use stratal::training::PairSet;
/// let set = PairSet::from_jsonl("corpus.jsonl.gz", "train.jsonl.gz")?;
/// println!("{} questions over {} passages", set.questions().len(), set.passages().len());
/// # Ok::<(), stratal::training::TrainingError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct PairSet {
    passages: Vec<Passage>,
    questions: Vec<Question>,
    by_id: HashMap<String, usize>,
    /// Ids of the questions.
    asked: HashSet<String>,
}

impl PairSet {
    /// A set out of a program's own passages and questions.
    ///
    /// # Errors
    /// [`TrainingError::Data`] names the first passage or question that is empty, comes twice, has no positive, or
    /// points at no passage.
    pub fn new(passages: Vec<Passage>, questions: Vec<Question>) -> Result<PairSet, TrainingError> {
        let mut set = PairSet::default();
        let data = |what| TrainingError::Data { what };
        for passage in passages {
            set.add_passage(passage).map_err(data)?;
        }
        for question in questions {
            set.add_question(question).map_err(data)?;
        }
        Ok(set)
    }

    /// All passages, the corpus of an evaluation.
    pub fn passages(&self) -> &[Passage] {
        &self.passages
    }

    /// All questions.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// The place of a passage.
    pub fn passage(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Gives question `i` these hard negatives in place of what it had, places in the set's passages; those that are a
    /// positive of it are left out.
    ///
    /// # Errors
    /// [`TrainingError::Data`] if there is no such question or passage.
    pub fn set_negatives(&mut self, i: usize, negatives: Vec<usize>) -> Result<(), TrainingError> {
        let n = self.passages.len();
        let wrong = negatives.iter().any(|&place| place >= n);
        let Some(question) = self.questions.get_mut(i).filter(|_| !wrong) else {
            return Err(TrainingError::Data {
                what: format!("question {i} or one of its negatives is not in the set"),
            });
        };
        question.negatives = negatives;
        question
            .negatives
            .retain(|place| !question.positives.contains(place));
        Ok(())
    }

    /// Keeps the questions for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(usize, &Question) -> bool) {
        let mut i = 0;
        self.questions.retain(|question| {
            i += 1;
            let kept = keep(i - 1, question);
            if !kept {
                self.asked.remove(&question.id);
            }
            kept
        });
    }

    fn add_passage(&mut self, passage: Passage) -> Result<usize, String> {
        if passage.text.trim().is_empty()
            && passage
                .title
                .as_deref()
                .is_none_or(|title| title.trim().is_empty())
        {
            return Err(format!("the passage {:?} is empty: leave it out", passage.id));
        }
        let place = self.passages.len();
        if self.by_id.insert(passage.id.clone(), place).is_some() {
            return Err(format!(
                "the passage id {:?} was there before: ids are given once",
                passage.id
            ));
        }
        self.passages.push(passage);
        Ok(place)
    }

    fn add_question(&mut self, mut question: Question) -> Result<(), String> {
        let id = &question.id;
        if question.text.trim().is_empty() {
            return Err(format!("the question {id:?} is empty: leave it out"));
        }
        if question.positives.is_empty() {
            return Err(format!(
                "the question {id:?} has no passage that answers it: leave it out, or name one"
            ));
        }
        let mut all = question.positives.iter().chain(&question.negatives);
        if let Some(place) = all.find(|&&place| place >= self.passages.len()) {
            return Err(format!(
                "the question {id:?} points at passage {place}, and there are {}",
                self.passages.len()
            ));
        }
        if self.asked.contains(id) {
            return Err(format!(
                "the question id {id:?} was there before: ids are given once"
            ));
        }
        self.asked.insert(id.clone());
        let mut seen = Vec::new();
        question.positives.retain(|place| {
            !seen.contains(place) && {
                seen.push(*place);
                true
            }
        });
        question
            .negatives
            .retain(|place| !question.positives.contains(place));
        self.questions.push(question);
        Ok(())
    }

    fn place(&self, id: &str) -> Result<usize, String> {
        self.passage(id)
            .ok_or_else(|| format!("there is no passage with the id {id:?} in the corpus"))
    }
}
