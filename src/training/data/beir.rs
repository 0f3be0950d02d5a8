//! BEIR's folders: `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::jsonl::{each_line, parse};
use super::{PairSet, Question, TrainingError};

#[derive(Deserialize)]
struct Query {
    _id: String,
    text: String,
}

impl PairSet {
    /// Reads a BEIR folder: `corpus.jsonl`, `queries.jsonl` (either may end in `.gz`) and `qrels/<split>.tsv`, lines
    /// `query-id corpus-id score` with a header. Queries without a judgement above 0 are left out.
    ///
    /// # Errors
    /// [`TrainingError::Line`] names the file and line of an id that points nowhere, and of what is not in the format.
    pub fn from_beir(folder: impl AsRef<Path>, split: &str) -> Result<PairSet, TrainingError> {
        let folder = folder.as_ref();
        let mut set = PairSet::default();
        set.read_corpus(&packed_or_plain(folder, "corpus.jsonl"))?;
        let mut texts = HashMap::new();
        each_line(&packed_or_plain(folder, "queries.jsonl"), |text| {
            let query: Query = parse(text, r#"a query {"_id": …, "text": …}"#)?;
            match texts.insert(query._id.clone(), query.text) {
                None => Ok(()),
                Some(_) => Err(format!("the query id {:?} was there before", query._id)),
            }
        })?;
        let mut order: Vec<String> = Vec::new();
        let mut relevant: HashMap<String, Vec<usize>> = HashMap::new();
        let mut header = true;
        each_line(&folder.join("qrels").join(format!("{split}.tsv")), |text| {
            if std::mem::take(&mut header) && text.starts_with("query-id") {
                return Ok(());
            }
            let fields: Vec<&str> = text.split('\t').collect();
            let [query, passage, score] = fields[..] else {
                return Err(
                    "a judgement is three fields with tabs between: query-id, corpus-id, score".into(),
                );
            };
            let score: i64 = score
                .trim()
                .parse()
                .map_err(|_| format!("the score {score:?} is no whole number"))?;
            if !texts.contains_key(query) {
                return Err(format!(
                    "there is no query with the id {query:?} in queries.jsonl"
                ));
            }
            let place = set.place(passage)?;
            if score > 0 {
                let places = relevant.entry(query.to_owned()).or_insert_with(|| {
                    order.push(query.to_owned());
                    Vec::new()
                });
                places.push(place);
            }
            Ok(())
        })?;
        for id in order {
            let question = Question {
                text: texts.remove(&id).unwrap_or_default(),
                positives: relevant.remove(&id).unwrap_or_default(),
                id,
                answers: Vec::new(),
                negatives: Vec::new(),
            };
            set.add_question(question)
                .map_err(|what| TrainingError::Data { what })?;
        }
        Ok(set)
    }
}

fn packed_or_plain(folder: &Path, name: &str) -> PathBuf {
    let packed = folder.join(format!("{name}.gz"));
    if packed.exists() {
        packed
    } else {
        folder.join(name)
    }
}
