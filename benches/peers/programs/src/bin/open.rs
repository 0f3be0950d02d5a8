//! Our large database: `open build PATH COUNT ODD` fills it (all ids below COUNT, or with
//! ODD = 1 the odd ones), `open open PATH COUNT` opens it and reads one document,
//! `open halve PATH COUNT` deletes the even ids and compacts.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use stratal::{Database, Document, Element, Similarity};
use stratal_peers::{Numbers, argument, resident_mib, tell};

const DIMENSION: usize = 384;
const BATCH: usize = 10_000;

fn main() {
    let path: PathBuf = argument(2, "path");
    let count: u64 = argument(3, "number of documents");
    tell(&match argument::<String>(1, "mode").as_str() {
        "build" => build(&path, count, argument::<u8>(4, "0 or 1") == 1),
        "open" => open(&path, count),
        "halve" => halve(&path, count),
        other => panic!("unknown mode {other:?}"),
    });
}

fn build(path: &Path, count: u64, odd: bool) -> Value {
    let database = Database::open_or_create(path).expect("the database is made");
    let collection = database
        .collection("documents")
        .vectors(DIMENSION, ["v"], Element::F16)
        .similarity(Similarity::InnerProduct)
        .open_or_create()
        .expect("the collection is made");
    let ids: Vec<u64> = (0..count).filter(|id| !odd || id % 2 == 1).collect();
    let begin = Instant::now();
    for batch in ids.chunks(BATCH) {
        let mut transaction = database.begin();
        for &id in batch {
            let document = Document::new(id).vector(Numbers::new(id).vector(DIMENSION));
            transaction
                .insert(&collection, document)
                .expect("the document is good");
        }
        transaction.commit().expect("the commit is durable");
    }
    let seconds = begin.elapsed().as_secs_f64();
    database.flush().expect("the memory table becomes a segment");
    database.close().expect("the database closes");
    json!({ "documents_per_s": ids.len() as f64 / seconds, "peak_mib": resident_mib(true) })
}

fn open(path: &Path, count: u64) -> Value {
    let begin = Instant::now();
    let database = Database::open(path).expect("the database opens");
    let collection = database
        .collection("documents")
        .open()
        .expect("the collection is there");
    let open_ms = begin.elapsed().as_secs_f64() * 1e3;
    let begin = Instant::now();
    let document = collection
        .get(count / 2)
        .expect("the read works")
        .expect("the document is there");
    let vectors = document.layer_vectors().expect("its vectors are whole");
    let first_get_ms = begin.elapsed().as_secs_f64() * 1e3;
    assert_eq!((vectors.len(), vectors[0].len()), (1, DIMENSION));
    json!({ "open_ms": open_ms, "first_get_ms": first_get_ms, "resident_mib": resident_mib(false) })
}

fn halve(path: &Path, count: u64) -> Value {
    let database = Database::open(path).expect("the database opens");
    let collection = database
        .collection("documents")
        .open()
        .expect("the collection is there");
    let even: Vec<u64> = (0..count).step_by(2).collect();
    for batch in even.chunks(BATCH) {
        let mut transaction = database.begin();
        for &id in batch {
            transaction.delete(&collection, id).expect("the id is good");
        }
        transaction.commit().expect("the commit is durable");
    }
    let begin = Instant::now();
    database.compact().expect("the database is compacted");
    let seconds = begin.elapsed().as_secs_f64();
    database.close().expect("the database closes");
    json!({ "compact_s": seconds, "peak_mib": resident_mib(true) })
}
