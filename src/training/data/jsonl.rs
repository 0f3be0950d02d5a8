//! JSON lines: a corpus `{id, title, text}` and questions `{id, question, passage_id, answers}`.

use std::fs::File;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{PairSet, Passage, Question, TrainingError};
use crate::ingest::lines::{Line, Lines};
use crate::ingest::{Compression, LINE_BYTES_MAX};

/// A line of a corpus; BEIR says `_id`.
#[derive(Deserialize)]
struct CorpusLine {
    #[serde(alias = "_id")]
    id: Value,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    text: Option<String>,
}

/// A line of a file of questions.
#[derive(Deserialize)]
struct QuestionLine {
    #[serde(alias = "_id")]
    id: Value,
    #[serde(alias = "text")]
    question: String,
    #[serde(default)]
    passage_id: Option<Value>,
    #[serde(default)]
    passage_ids: Vec<Value>,
    #[serde(default)]
    answers: Vec<String>,
    #[serde(default)]
    negative_ids: Vec<Value>,
}

const PASSAGE: &str = r#"a passage {"id": …, "title": …, "text": …}"#;
const QUESTION: &str = r#"a question {"id": …, "question": …, "passage_id": …}"#;

/// An id is a text or a whole number.
fn id(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if number.is_u64() => Ok(number.to_string()),
        other => Err(format!("the id {other} is neither a text nor a whole number")),
    }
}

impl PairSet {
    /// Reads a corpus, JSON lines `{"id", "title", "text"}`, and questions, JSON lines `{"id", "question",
    /// "passage_id", "answers"}`, where `passage_ids` may name several passages and `negative_ids` hard negatives.
    /// `.gz` and `.zst` are unpacked.
    ///
    /// # Errors
    /// [`TrainingError::Line`] names the file and line of an id that comes twice or points nowhere, of an empty passage
    /// or question, and of what is no such JSON object.
    pub fn from_jsonl(
        corpus: impl AsRef<Path>,
        questions: impl AsRef<Path>,
    ) -> Result<PairSet, TrainingError> {
        let mut set = PairSet::default();
        set.read_corpus(corpus.as_ref())?;
        set.read_questions(questions.as_ref())?;
        Ok(set)
    }

    /// Adds the passages of a file of JSON lines `{"id", "title", "text"}`.
    ///
    /// # Errors
    /// As [`PairSet::from_jsonl`].
    pub fn read_corpus(&mut self, file: &Path) -> Result<(), TrainingError> {
        each_line(file, |text| {
            let line: CorpusLine = parse(text, PASSAGE)?;
            self.add_passage(Passage {
                id: id(&line.id)?,
                title: line.title.filter(|title| !title.trim().is_empty()),
                text: line.text.unwrap_or_default(),
            })?;
            Ok(())
        })
    }

    /// Adds the questions of a file of JSON lines; their passages must be there.
    ///
    /// # Errors
    /// As [`PairSet::from_jsonl`].
    pub fn read_questions(&mut self, file: &Path) -> Result<(), TrainingError> {
        each_line(file, |text| {
            let line: QuestionLine = parse(text, QUESTION)?;
            let places = |ids: &mut dyn Iterator<Item = &Value>| -> Result<Vec<usize>, String> {
                ids.map(|value| self.place(&id(value)?)).collect()
            };
            let positives = places(&mut line.passage_id.iter().chain(&line.passage_ids))?;
            let negatives = places(&mut line.negative_ids.iter())?;
            self.add_question(Question {
                id: id(&line.id)?,
                text: line.question,
                positives,
                answers: line.answers,
                negatives,
            })
        })
    }
}

impl PairSet {
    /// The questions as lines that [`PairSet::read_questions`] reads, hard negatives among them.
    pub fn question_lines(&self) -> impl Iterator<Item = String> + '_ {
        let ids = |places: &[usize]| -> Vec<&str> {
            let passages = self.passages();
            places.iter().map(|&place| passages[place].id.as_str()).collect()
        };
        self.questions().iter().map(move |question| {
            json!({
                "id": question.id,
                "question": question.text,
                "passage_ids": ids(&question.positives),
                "answers": question.answers,
                "negative_ids": ids(&question.negatives),
            })
            .to_string()
        })
    }
}

/// What a line's JSON object says; `wanted` is what it is to be. A list is refused, though its values could be taken for
/// the fields in their order.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str, wanted: &str) -> Result<T, String> {
    if !text.trim_start().starts_with('{') {
        return Err(format!("it is no JSON object; wanted is {wanted}"));
    }
    serde_json::from_str(text).map_err(|error| {
        // The parser counts lines from this one; the file's is told beside.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        format!("{what} at column {}; wanted is {wanted}", error.column())
    })
}

/// Calls `read` with each line that is not blank.
pub(super) fn each_line(
    path: &Path,
    mut read: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), TrainingError> {
    let file = File::open(path).map_err(TrainingError::io("open", path))?;
    let name = path.display().to_string();
    let mut lines = Lines::new(
        name.clone(),
        Box::new(file),
        Compression::of(path),
        LINE_BYTES_MAX,
    );
    loop {
        let whole = match lines.read()? {
            Line::End => return Ok(()),
            Line::Whole => true,
            Line::TooLong => false,
        };
        let outcome = match std::str::from_utf8(&lines.buffer) {
            _ if !whole => Err(format!("the line is longer than {LINE_BYTES_MAX} bytes")),
            Err(_) => Err("the line is not UTF-8".to_owned()),
            Ok(text) if text.trim().is_empty() => Ok(()),
            Ok(text) => read(text),
        };
        outcome.map_err(|what| TrainingError::Line {
            file: name.clone(),
            line: lines.number,
            what,
        })?;
    }
}
