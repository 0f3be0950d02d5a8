//! DPR's biencoder JSON: a list of questions, each with the texts of its passages.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::{PairSet, Passage, Question, TrainingError};
use crate::ingest::Compression;

#[derive(Deserialize)]
struct Entry {
    question: String,
    #[serde(default)]
    answers: Vec<String>,
    positive_ctxs: Vec<Context>,
    #[serde(default)]
    hard_negative_ctxs: Vec<Context>,
}

#[derive(Deserialize)]
struct Context {
    #[serde(default)]
    title: Option<String>,
    text: String,
    #[serde(default, alias = "psg_id")]
    passage_id: Option<Value>,
}

impl PairSet {
    /// Reads DPR's biencoder JSON: a list of `{"question", "answers", "positive_ctxs", "hard_negative_ctxs"}` with
    /// contexts `{"title", "text", "passage_id"}`. A context without an id is known by its title and text. The corpus is
    /// all contexts; `negative_ctxs`, drawn at random, are passed over. Curly apostrophes of questions become straight,
    /// as there.
    ///
    /// # Errors
    /// [`TrainingError::Line`] with the number of the entry.
    pub fn from_dpr(file: impl AsRef<Path>) -> Result<PairSet, TrainingError> {
        let path = file.as_ref();
        let open = File::open(path).map_err(TrainingError::io("open", path))?;
        let reader: Box<dyn Read> = match Compression::of(path) {
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(open))),
            _ => Box::new(BufReader::new(open)),
        };
        let at = |line: usize, what: String| TrainingError::Line {
            file: path.display().to_string(),
            line: line as u64,
            what,
        };
        let entries: Vec<Value> = serde_json::from_reader(BufReader::new(reader))
            .map_err(|error| at(error.line(), format!("{error}: not a JSON list")))?;
        let mut set = PairSet::default();
        for (i, entry) in entries.into_iter().enumerate() {
            set.add_entry(i, entry).map_err(|what| at(i + 1, what))?;
        }
        Ok(set)
    }

    fn add_entry(&mut self, i: usize, entry: Value) -> Result<(), String> {
        let wanted = r#"an entry {"question": …, "positive_ctxs": [{"title": …, "text": …}]}"#;
        if !entry.is_object() {
            return Err(format!("it is no JSON object; wanted is {wanted}"));
        }
        let entry: Entry =
            serde_json::from_value(entry).map_err(|error| format!("{error}; wanted is {wanted}"))?;
        let positives = self.contexts(entry.positive_ctxs)?;
        let negatives = self.contexts(entry.hard_negative_ctxs)?;
        self.add_question(Question {
            id: i.to_string(),
            text: entry.question.replace('\u{2019}', "'"),
            positives,
            answers: entry.answers,
            negatives,
        })
    }

    fn contexts(&mut self, contexts: Vec<Context>) -> Result<Vec<usize>, String> {
        let mut places = Vec::with_capacity(contexts.len());
        for context in contexts {
            let id = match &context.passage_id {
                Some(Value::String(id)) if !id.is_empty() => id.clone(),
                Some(Value::Number(id)) => id.to_string(),
                _ => {
                    let title = context.title.as_deref().unwrap_or("");
                    format!(
                        "{:032x}",
                        xxh3_128(format!("{title}\0{}", context.text).as_bytes())
                    )
                }
            };
            let place = match self.passage(&id) {
                Some(place) => place,
                None => self.add_passage(Passage {
                    id,
                    title: context.title.filter(|title| !title.trim().is_empty()),
                    text: context.text,
                })?,
            };
            places.push(place);
        }
        Ok(places)
    }
}
