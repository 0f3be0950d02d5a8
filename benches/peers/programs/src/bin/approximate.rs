//! Approximate search in a database, by the queries and the truth of files.
//!
//!     approximate FOLDER vectors.npy queries.npy truth.npy MORE
//!
//! `vectors.npy` is `[n, D]` or `[n, m, D]` f32, `truth.npy` `[q, ≥ 10]` int64 row numbers. Fills a database of one
//! thread in FOLDER, builds its index, and prints one JSON object: what building took, bytes a document, and for
//! each effort and target the recall@10 and queries per CPU-second, all queries in one call. With `more` as MORE it
//! tries filters and a fifth of the documents changed as well.

use std::path::Path;

use serde_json::{Value, json};
use stratal::{BatchSearch, Collection, Database, Document, Element, Hit, Id};
use stratal_peers::{argument, cpu_seconds, tell, timed};

const K: usize = 10;
const EFFORTS: [usize; 17] = [
    10, 13, 16, 20, 24, 28, 32, 40, 48, 64, 80, 100, 128, 160, 200, 300, 450,
];
const ROUNDS: usize = 3;

/// The shape of a `.npy` file in C order, and where its values begin.
fn header(bytes: &[u8]) -> (Vec<usize>, usize) {
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..10 + length]).into_owned();
    let shape = text.split("'shape': (").nth(1).expect("a shape");
    let shape = shape.split(')').next().expect("its end").split(',');
    (
        shape.filter_map(|number| number.trim().parse().ok()).collect(),
        10 + length,
    )
}

fn floats(path: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).expect("the vectors");
    let (shape, from) = header(&bytes);
    let four = bytes[from..].chunks_exact(4);
    (
        shape,
        four.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
    )
}

fn rows(path: &str) -> Vec<Vec<u64>> {
    let bytes = std::fs::read(path).expect("the truth");
    let (shape, from) = header(&bytes);
    let eight = bytes[from..].chunks_exact(8);
    let all: Vec<u64> = eight
        .map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes")))
        .collect();
    all.chunks_exact(shape[1]).map(|row| row[..K].to_vec()).collect()
}

fn document(id: u64, vectors: &[f32], dimension: usize, rank: u64) -> Document {
    // `chance` knows nothing of the vectors, `rank` follows a direction of theirs.
    let chance = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    Document::new(id)
        .layer_vectors(vectors.chunks_exact(dimension).map(<[f32]>::to_vec))
        .metadata(json!({ "chance": chance % 1000, "rank": rank }))
}

fn share(found: &[Vec<Hit>], truth: &[Vec<u64>]) -> f64 {
    let wanted: usize = truth.iter().map(Vec::len).sum();
    let met = |(found, truth): (&Vec<Hit>, &Vec<u64>)| {
        truth
            .iter()
            .filter(|row| found.iter().any(|hit| hit.id == Id::from(**row)))
            .count()
    };
    found.iter().zip(truth).map(met).sum::<usize>() as f64 / wanted.max(1) as f64
}

struct Asking<'a> {
    collection: &'a Collection,
    queries: Vec<Vec<f32>>,
}

impl Asking<'_> {
    /// Answers, and the best of some rounds' queries per CPU-second.
    fn ask(&self, change: &dyn Fn(BatchSearch) -> BatchSearch, rounds: usize) -> (Vec<Vec<Hit>>, f64) {
        let mut best = 0f64;
        let mut answer = Vec::new();
        for _ in 0..rounds {
            let search = self
                .collection
                .search_vectors(self.queries.iter().cloned())
                .k(K)
                .fields([]);
            let begun = cpu_seconds();
            answer = change(search).run().expect("an answer");
            best = best.max(self.queries.len() as f64 / (cpu_seconds() - begun).max(1e-6));
        }
        (answer, best)
    }

    /// Recall of a default search against an exact one under a filter, and both rates.
    fn filtered(&self, filter: &str) -> Value {
        let (truth, exact) = self.ask(&|search| search.filter(filter), 1);
        let truth: Vec<Vec<u64>> = truth.iter().map(|hits| numbers(hits)).collect();
        let (found, rate) = self.ask(&|search| search.filter(filter).approximate(), 1);
        json!({ "filter": filter, "recall": share(&found, &truth), "per_cpu_s": rate, "exact_per_cpu_s": exact })
    }
}

fn numbers(hits: &[Hit]) -> Vec<u64> {
    let number = |hit: &Hit| match hit.id {
        Id::Number(number) => number,
        Id::Text(_) => u64::MAX,
    };
    hits.iter().map(number).collect()
}

fn fill(
    collection: &Collection,
    ids: impl Iterator<Item = usize>,
    vectors: &[f32],
    each: usize,
    dimension: usize,
) {
    let mut ids = ids.peekable();
    while ids.peek().is_some() {
        let mut transaction = collection.database().begin();
        for id in ids.by_ref().take(2000) {
            let own = &vectors[id % (vectors.len() / each) * each..][..each];
            let rank = ((own[0] + 0.15).clamp(0.0, 0.3) * 3333.0) as u64;
            transaction
                .upsert(collection, document(id as u64, own, dimension, rank))
                .expect("a document");
        }
        transaction.commit().expect("a commit");
    }
}

fn main() {
    let folder: String = argument(1, "folder");
    let (shape, vectors) = floats(&argument::<String>(2, "file of vectors"));
    let (asked, queries) = floats(&argument::<String>(3, "file of queries"));
    let truth = rows(&argument::<String>(4, "file of true answers"));
    let more = argument::<String>(5, "extent") == "more";
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
    fill(&collection, 0..count, &vectors, each, dimension);
    db.flush().expect("segments");
    db.compact().expect("few segments");
    let (built, spent) = timed(|| collection.build_index().run().expect("an index"));
    let asking = Asking {
        collection: &collection,
        queries: queries.chunks_exact(dimension).map(<[f32]>::to_vec).collect(),
    };
    asking.ask(&|search| search.approximate(), 1);
    let curve: Vec<Value> = EFFORTS
        .iter()
        .map(|&effort| {
            let (found, rate) = asking.ask(&|search| search.effort(effort), ROUNDS);
            json!([effort, share(&found, &truth), rate])
        })
        .collect();
    let targets: Vec<Value> = [0.9f32, 0.95, 0.99]
        .iter()
        .map(|&target| {
            let (found, rate) = asking.ask(&|search| search.recall_target(target), ROUNDS);
            json!([target, share(&found, &truth), rate])
        })
        .collect();
    let mut answer = json!({
        "documents": count,
        "segments": built.segments,
        "build": spent,
        "bytes": (built.bytes + (vectors.len() * 4) as u64) as f64 / count as f64,
        "curve": curve,
        "targets": targets,
    });
    if more {
        let filters = ["chance < 500", "chance < 100", "chance < 10", "chance = 7"];
        let correlated = ["rank < 500", "rank < 350", "rank < 200", "rank > 800"];
        let all = filters
            .iter()
            .chain(&correlated)
            .map(|filter| asking.filtered(filter));
        answer["filters"] = Value::Array(all.collect());
        let mut transaction = db.begin();
        (0..count as u64)
            .step_by(5)
            .for_each(|id| transaction.delete(&collection, id).expect("a deletion"));
        transaction.commit().expect("a commit");
        fill(
            &collection,
            (0..count).step_by(5).map(|id| id + count),
            &vectors,
            each,
            dimension,
        );
        let (now, _) = asking.ask(&|search| search, 1);
        let now: Vec<Vec<u64>> = now.iter().map(|hits| numbers(hits)).collect();
        let (found, rate) = asking.ask(&|search| search.approximate(), 1);
        answer["churn"] = json!({ "recall": share(&found, &now), "per_cpu_s": rate });
    }
    tell(&answer);
    db.close().expect("a good end");
}
