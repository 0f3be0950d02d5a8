//! A reader beside whatever else happens to a database: `reader DATABASE COLLECTION` answers, for each line `run`, with
//! the latency of searches in words made over a second, one each `PACE`, each after looking for new commits.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use stratal::Database;
use stratal_peers::{argument, serve};

const PACE: Duration = Duration::from_millis(50);
const QUESTIONS: [&str; 4] = [
    "what keeps a planet in its orbit",
    "who wrote the constitution",
    "how do plants make sugar from light",
    "when did the war end",
];
const K: usize = 10;

fn main() {
    let path: PathBuf = argument(1, "database");
    let name: String = argument(2, "collection");
    let database = Database::options()
        .read_only(true)
        .threads(1)
        .open(path)
        .expect("the database opens");
    let collection = database.collection(name).open().expect("the collection is there");
    let ready = json!({ "documents": collection.count().expect("it counts") });
    serve(ready, || {
        let mut latencies = Vec::new();
        for question in QUESTIONS.iter().cycle().take(20) {
            let begun = Instant::now();
            database.refresh().expect("the commits are read");
            let hits = collection
                .search(*question)
                .k(K)
                .run()
                .expect("the search is made");
            latencies.push(begun.elapsed().as_secs_f64());
            assert_eq!(hits.len(), K);
            std::thread::sleep(PACE.saturating_sub(begun.elapsed()));
        }
        json!({ "seconds": latencies })
    });
}
