//! Our answers: `retrieval PATH COLLECTION QUESTIONS.json K ANSWERS.json` asks every question by
//! exact search and writes the ids of the best K for each, best first.

use std::path::PathBuf;

use serde_json::{Value, json};
use stratal::{Database, Field, Id};
use stratal_peers::{argument, tell, timed};

fn main() {
    let (path, questions, answers): (PathBuf, PathBuf, PathBuf) = (
        argument(1, "database"),
        argument(3, "file of questions"),
        argument(5, "file for answers"),
    );
    let questions = std::fs::read(questions).expect("the questions can be read");
    let questions: Vec<String> =
        serde_json::from_slice(&questions).expect("the questions are a list of texts");
    let database = Database::open_read_only(&path).expect("the database opens");
    let collection = database
        .collection(argument::<String>(2, "collection"))
        .open()
        .expect("the collection is there");
    let (found, spent) = timed(|| {
        let search = collection
            .search_texts(questions)
            .k(argument(4, "number of answers"));
        search
            .fields(std::iter::empty::<Field>())
            .exact()
            .run()
            .expect("the questions are answered")
    });
    let name = |id: &Id| match id {
        Id::Number(number) => json!(number),
        Id::Text(text) => json!(text),
    };
    let ids: Vec<Vec<Value>> = found
        .iter()
        .map(|hits| hits.iter().map(|hit| name(&hit.id)).collect())
        .collect();
    std::fs::write(answers, json!(ids).to_string()).expect("the answers can be written");
    tell(&spent);
}
