//! Our filtered exact search: `filtered FOLDER COUNT QUERIES` fills a database in FOLDER from
//! `vectors.f32` and answers, for each line `run`, all of `queries.f32` under each filter.
//!
//! Document `i` has the number `i · 7919 mod COUNT`, so that `n < X` passes X documents from all over.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use stratal::{Collection, Database, Document, Element, Field, Filter, Id};
use stratal_peers::{argument, serve, timed};

const DIMENSION: usize = 384;
const K: usize = 10;
/// One document of so many passes.
const ONE_OF: [u64; 5] = [1, 2, 10, 100, 1000];

fn main() {
    let folder: PathBuf = argument(1, "folder");
    let count: u64 = argument(2, "number of documents");
    let queries = vectors(&folder.join("queries.f32"));
    let database = Database::options()
        .create(true)
        .threads(1)
        .open(folder.join("ours.stratal"))
        .expect("the database is made");
    let collection = fill(&database, &folder, count);
    serve(json!({ "documents": count }), || {
        let mut answer = Map::new();
        for one_of in ONE_OF {
            let text = format!("n < {}", count / one_of);
            let (sum, spent) = timed(|| ask(&collection, &queries, &text));
            answer.insert(format!("1/{one_of}"), with_sum(spent, sum));
        }
        let (_, spent) = timed(|| {
            for at in 0..queries.len() as u64 {
                let text = format!("n < {}", count / 2 - at);
                assert_eq!(
                    collection.count_where(text.as_str()).expect("it counts"),
                    count / 2 - at
                );
            }
        });
        answer.insert("count".to_owned(), spent);
        Value::Object(answer)
    });
}

fn with_sum(mut spent: Value, sum: u64) -> Value {
    spent["sum"] = json!(sum);
    spent
}

fn fill(database: &Database, folder: &Path, count: u64) -> Collection {
    let collection = database
        .collection("documents")
        .vectors(DIMENSION, ["v"], Element::F32)
        .open_or_create()
        .expect("the collection is made");
    let vectors = vectors(&folder.join("vectors.f32"));
    for (batch, rows) in vectors.chunks(10_000).enumerate() {
        let mut transaction = database.begin();
        for (row, vector) in rows.iter().enumerate() {
            let id = (batch * 10_000 + row) as u64;
            let document = Document::new(id).metadata(json!({ "n": id * 7919 % count }));
            transaction
                .insert(&collection, document.vector(vector.clone()))
                .expect("the document is good");
        }
        transaction.commit().expect("the commit is durable");
    }
    database.flush().expect("the memory table becomes a segment");
    database.compact().expect("the segments become one");
    collection
}

/// The sum of the ids found, for the other side to agree with.
fn ask(collection: &Collection, queries: &[Vec<f32>], text: &str) -> u64 {
    let filter = Filter::parse(text).expect("the filter is good");
    let mut sum = 0;
    for query in queries {
        let search = collection
            .search_vector(query.clone())
            .filter(filter.clone())
            .k(K);
        let hits = search
            .exact()
            .fields([] as [Field; 0])
            .run()
            .expect("the search works");
        assert_eq!(hits.len(), K);
        sum += hits
            .iter()
            .map(|hit| match hit.id {
                Id::Number(id) => id,
                Id::Text(_) => 0,
            })
            .sum::<u64>();
    }
    sum
}

/// Rows of little-endian f32.
fn vectors(path: &Path) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(path).expect("the vectors are there");
    let components = |row: &[u8]| {
        row.chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    };
    bytes.chunks_exact(4 * DIMENSION).map(components).collect()
}
