//! Approximate search in a database, by the queries and the truth of files.
//!
//!     approximate FOLDER vectors.npy queries.npy truth.npy
//!
//! `vectors.npy` is `[n, D]` or `[n, m, D]` f32, `truth.npy` `[q, ≥ 10]` int64 row numbers. Fills a database of one
//! thread in FOLDER, builds its index, says what that took, and answers a line each:
//!
//!     curve      [effort, recall@10, queries per CPU-second] for each effort, all queries in one call
//!     single     the same, one query a call
//!     targets    the same for recall targets
//!     filters    recall under filters, beside an exact search of what passes
//!     latency    the 99th percentile of single searches, alone and beside a thread that changes documents
//!     churn      recall after a fifth of the documents has been changed; the last that can be asked

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use stratal::{BatchSearch, Collection, Database, Document, Element, Hit, Id};
use stratal_peers::{argument, cpu_seconds, read_npy, serve_requests, timed};

const K: usize = 10;
const EFFORTS: [usize; 18] = [
    10, 13, 16, 20, 24, 28, 34, 42, 52, 64, 80, 104, 128, 160, 200, 260, 340, 450,
];
const TARGETS: [f32; 3] = [0.9, 0.95, 0.99];

/// Single searches whose latency is measured.
const SINGLE: usize = 5000;

fn rows(path: &str) -> Vec<Vec<u64>> {
    let bytes = std::fs::read(path).expect("the truth");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..header]).into_owned();
    assert!(text.contains("'<i8'"), "row numbers are int64, not {text}");
    let columns = text.split("'shape': (").nth(1).expect("a shape");
    let columns = columns.split([',', ')']).nth(1).expect("two sizes");
    let columns: usize = columns.trim().parse().expect("a size");
    let eight = bytes[header..].as_chunks::<8>().0;
    let all: Vec<u64> = eight.iter().map(|&b| u64::from_le_bytes(b)).collect();
    all.chunks_exact(columns).map(|row| row[..K].to_vec()).collect()
}

fn share(found: &[Vec<Hit>], truth: &[Vec<u64>]) -> f64 {
    let wanted: usize = truth.iter().map(Vec::len).sum();
    let met = |(found, truth): (&Vec<Hit>, &Vec<u64>)| {
        let is_found = |row: &&u64| found.iter().any(|hit| hit.id == Id::from(**row));
        truth.iter().filter(is_found).count()
    };
    found.iter().zip(truth).map(met).sum::<usize>() as f64 / wanted.max(1) as f64
}

fn numbers(hits: &[Vec<Hit>]) -> Vec<Vec<u64>> {
    let number = |hit: &Hit| match hit.id {
        Id::Number(number) => number,
        Id::Text(_) => u64::MAX,
    };
    hits.iter()
        .map(|hits| hits.iter().map(number).collect())
        .collect()
}

fn percentile_99(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() * 99 / 100]
}

struct Bench {
    collection: Collection,
    count: usize,
    dimension: usize,
    /// All vectors, `each` components a document.
    vectors: Vec<f32>,
    each: usize,
    queries: Vec<Vec<f32>>,
    truth: Vec<Vec<u64>>,
}

impl Bench {
    fn document(&self, id: usize) -> Document {
        let own = &self.vectors[id % self.count * self.each..][..self.each];
        // `chance` knows nothing of the vectors, `rank` follows a direction of theirs.
        let chance = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let rank = ((own[0] + 0.15).clamp(0.0, 0.3) * 3333.0) as u64;
        Document::new(id as u64)
            .layer_vectors(own.chunks_exact(self.dimension).map(<[f32]>::to_vec))
            .metadata(json!({ "chance": chance % 1000, "rank": rank }))
    }

    fn fill(&self, ids: impl Iterator<Item = usize>) {
        let mut ids = ids.peekable();
        while ids.peek().is_some() {
            let mut transaction = self.collection.database().begin();
            for id in ids.by_ref().take(2000) {
                transaction
                    .upsert(&self.collection, self.document(id))
                    .expect("a document");
            }
            transaction.commit().expect("a commit");
        }
    }

    /// The answers, all in one call, and queries per CPU-second.
    fn ask(&self, change: impl Fn(BatchSearch) -> BatchSearch) -> (Vec<Vec<Hit>>, f64) {
        let search = self.collection.search_vectors(self.queries.iter().cloned());
        let search = change(search.k(K).fields([]));
        let begun = cpu_seconds();
        let answer = search.run().expect("an answer");
        (
            answer,
            self.queries.len() as f64 / (cpu_seconds() - begun).max(1e-6),
        )
    }

    /// Recall, and the better rate of two.
    fn measured(&self, change: impl Fn(BatchSearch) -> BatchSearch) -> (f64, f64) {
        let (found, first) = self.ask(&change);
        let (_, second) = self.ask(&change);
        (share(&found, &self.truth), first.max(second))
    }

    fn curve(&self) -> Value {
        let point = |&effort: &usize| {
            let (recall, rate) = self.measured(|search| search.effort(effort));
            json!([effort, recall, rate])
        };
        EFFORTS.iter().map(point).collect()
    }

    fn single(&self) -> Value {
        let point = |&effort: &usize| {
            let begun = cpu_seconds();
            let one = |query: &Vec<f32>| {
                let search = self.collection.search_vector(query.clone()).k(K).fields([]);
                search.effort(effort).run().expect("an answer")
            };
            let found: Vec<Vec<Hit>> = self.queries.iter().map(one).collect();
            let rate = self.queries.len() as f64 / (cpu_seconds() - begun).max(1e-6);
            json!([effort, share(&found, &self.truth), rate])
        };
        EFFORTS.iter().map(point).collect()
    }

    fn targets(&self) -> Value {
        let point = |&target: &f32| {
            let (recall, rate) = self.measured(|search| search.recall_target(target));
            json!([target, recall, rate])
        };
        TARGETS.iter().map(point).collect()
    }

    /// A default search under filters that pass 50% to 0.1%, by chance and by where the vectors lie.
    fn filters(&self) -> Value {
        let by_chance = ["chance < 500", "chance < 100", "chance < 10", "chance = 7"];
        let by_place = ["rank < 500", "rank < 350", "rank < 200", "rank > 800"];
        let row = |filter: &&str| {
            let (truth, exact) = self.ask(|search| search.filter(*filter));
            let (found, first) = self.ask(|search| search.filter(*filter).approximate());
            let (_, second) = self.ask(|search| search.filter(*filter).approximate());
            let (_, exact_again) = self.ask(|search| search.filter(*filter));
            json!({
                "filter": filter,
                "recall": share(&found, &numbers(&truth)),
                "per_cpu_s": first.max(second),
                "exact_per_cpu_s": exact.max(exact_again),
            })
        };
        by_chance.iter().chain(&by_place).map(row).collect()
    }

    /// Seconds that single searches took.
    fn latencies(&self) -> Vec<f64> {
        let one = |at: usize| {
            let query = self.queries[at % self.queries.len()].clone();
            let search = self.collection.search_vector(query).k(K).fields([]);
            let begun = Instant::now();
            search.approximate().run().expect("an answer");
            begun.elapsed().as_secs_f64()
        };
        (0..SINGLE).map(one).collect()
    }

    /// Documents are written anew, a hundred a commit, while searches are timed; indexing goes on beside.
    fn latency(&self) -> Value {
        let quiet = percentile_99(self.latencies());
        let over = AtomicBool::new(false);
        let (churned, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut written = 0;
                while !over.load(Ordering::Relaxed) {
                    let mut transaction = self.collection.database().begin();
                    for id in (written..written + 100).map(|at| at * 7919 % self.count) {
                        transaction
                            .upsert(&self.collection, self.document(id))
                            .expect("a document");
                    }
                    transaction.commit().expect("a commit");
                    written += 100;
                    // Some thousand documents a second: a fifth of all within a minute.
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                written
            });
            let churned = percentile_99(self.latencies());
            over.store(true, Ordering::Relaxed);
            (churned, writer.join().expect("a writer"))
        });
        json!({ "quiet_p99_ms": quiet * 1e3, "churn_p99_ms": churned * 1e3, "written": written })
    }

    fn churn(&self) -> Value {
        let mut transaction = self.collection.database().begin();
        for id in (0..self.count as u64).step_by(5) {
            transaction.delete(&self.collection, id).expect("a deletion");
        }
        transaction.commit().expect("a commit");
        self.fill((0..self.count).step_by(5).map(|id| id + self.count));
        let (now, _) = self.ask(|search| search);
        let (found, rate) = self.ask(|search| search.approximate());
        json!({ "recall": share(&found, &numbers(&now)), "per_cpu_s": rate })
    }
}

fn main() {
    let folder: String = argument(1, "folder");
    let (vectors, shape) = read_npy(Path::new(&argument::<String>(2, "file of vectors")));
    let (queries, asked) = read_npy(Path::new(&argument::<String>(3, "file of queries")));
    let truth = rows(&argument::<String>(4, "file of true answers"));
    let (count, dimension) = (shape[0], asked[1]);
    let each = vectors.len() / count;
    let layers: Vec<String> = (0..each / dimension).map(|layer| layer.to_string()).collect();
    let options = Database::options().create(true).threads(1);
    let db = options
        .memory_budget(6 << 30)
        .log_budget(6 << 30)
        .open(Path::new(&folder))
        .expect("a database");
    let collection = db
        .collection("c")
        .vectors(dimension, layers, Element::F32)
        .create()
        .expect("a collection");
    let bench = Bench {
        collection,
        count,
        dimension,
        vectors,
        each,
        queries: queries.chunks_exact(dimension).map(<[f32]>::to_vec).collect(),
        truth,
    };
    bench.fill(0..count);
    db.flush().expect("segments");
    db.compact().expect("few segments");
    let (built, spent) = timed(|| bench.collection.build_index().run().expect("an index"));
    bench.ask(|search| search.approximate());
    let ready = json!({
        "documents": count,
        "segments": built.segments,
        "build": spent,
        "bytes": (built.bytes + (bench.vectors.len() * 4) as u64) as f64 / count as f64,
    });
    serve_requests(ready, |request| match request {
        "curve" => bench.curve(),
        "single" => bench.single(),
        "targets" => bench.targets(),
        "filters" => bench.filters(),
        "latency" => bench.latency(),
        "churn" => bench.churn(),
        other => panic!("unknown request {other:?}"),
    });
    db.close().expect("a good end");
}
