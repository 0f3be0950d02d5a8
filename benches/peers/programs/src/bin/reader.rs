//! A reader beside whatever else happens to a database: `reader DATABASE COLLECTION DIMENSION` answers, for each line
//! `run`, with the latency of searches made over a second, one each `PACE`, each after looking for new commits.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use stratal::Database;
use stratal_peers::{argument, serve};

const PACE: Duration = Duration::from_millis(50);
const SEARCHES: usize = 20;
const K: usize = 10;

fn main() {
    let path: PathBuf = argument(1, "database");
    let name: String = argument(2, "collection");
    let dimension: usize = argument(3, "components of a vector");
    let database = Database::options()
        .read_only(true)
        .threads(1)
        .open(path)
        .expect("the database opens");
    let collection = database.collection(name).open().expect("the collection is there");
    let mut state = 1u64;
    serve(
        json!({ "documents": collection.count().expect("it counts") }),
        || {
            let mut latencies = Vec::new();
            for _ in 0..SEARCHES {
                let query: Vec<f32> = (0..dimension)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
                    })
                    .collect();
                let begun = Instant::now();
                database.refresh().expect("the commits are read");
                let hits = collection
                    .search_vector(query)
                    .k(K)
                    .run()
                    .expect("the search is made");
                latencies.push(begun.elapsed().as_secs_f64());
                assert_eq!(hits.len(), K);
                std::thread::sleep(PACE.saturating_sub(begun.elapsed()));
            }
            json!({ "seconds": latencies })
        },
    );
}
