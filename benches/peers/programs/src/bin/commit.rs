//! Our durable commits.
//!
//! `commit single FOLDER ROUNDS`: turns of 50 commits of one document, ours and bare ones;
//! `commit threads FOLDER THREADS SECONDS`: every thread commits single documents;
//! `commit batch FOLDER BATCHES SIZE`: serves runs that ingest into a new database;
//! `commit once FOLDER BATCHES SIZE`: one such run, for counting its sync calls.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stratal::{Collection, Database, Document, Element, Similarity};
use stratal_peers::{Numbers, argument, bytes_written, serve, tell, timed};

const DIMENSION: usize = 384;
const TURN: usize = 50;

fn main() {
    let folder: PathBuf = argument(2, "folder");
    match argument::<String>(1, "mode").as_str() {
        "single" => tell(&single(&folder, argument(3, "number of rounds"))),
        "threads" => tell(&threads(
            &folder,
            argument(3, "number of threads"),
            argument(4, "number of seconds"),
        )),
        "batch" => {
            let vectors = vectors(argument(4, "documents a batch"));
            let batches = argument(3, "number of batches");
            serve(json!({}), || {
                ingest(&folder.join("batch.stratal"), &vectors, batches)
            });
        }
        "once" => tell(&ingest(
            &folder,
            &vectors(argument(4, "documents a batch")),
            argument(3, "number of batches"),
        )),
        other => panic!("unknown mode {other:?}"),
    }
}

fn vectors(count: usize) -> Vec<Vec<f32>> {
    let mut numbers = Numbers::new(1);
    (0..count).map(|_| numbers.vector(DIMENSION)).collect()
}

fn create(path: &Path) -> (Database, Collection) {
    let database = Database::open_or_create(path).expect("the database is made");
    let collection = database
        .collection("documents")
        .vectors(DIMENSION, ["v"], Element::F32)
        .similarity(Similarity::InnerProduct)
        .open_or_create()
        .expect("the collection is made");
    (database, collection)
}

fn commit(database: &Database, collection: &Collection, first: u64, vectors: &[Vec<f32>]) {
    let mut transaction = database.begin();
    for (place, vector) in vectors.iter().enumerate() {
        let document = Document::new(first + place as u64).vector(vector.as_slice());
        transaction
            .insert(collection, document)
            .expect("the document is good");
    }
    transaction.commit().expect("the commit is durable");
}

fn single(folder: &Path, rounds: usize) -> Value {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    let (database, collection) = create(&folder.join("single.stratal"));
    let vectors = vectors(TURN);
    let mut next = 0;
    let mut ours = || {
        for vector in &vectors {
            commit(&database, &collection, next, std::slice::from_ref(vector));
            next += 1;
        }
    };
    ours();
    let before = bytes_written();
    ours();
    let bytes = (bytes_written() - before) as usize / TURN;

    let mut bare = Bare::create(&folder.join("bare"), bytes, TURN * (rounds + 1));
    (0..TURN).for_each(|_| bare.commit());
    let (mut our_seconds, mut bare_seconds) = (0.0, 0.0);
    for round in 0..rounds {
        for turn in 0..2 {
            let begin = Instant::now();
            if (round + turn) % 2 == 0 {
                ours();
                our_seconds += begin.elapsed().as_secs_f64();
            } else {
                (0..TURN).for_each(|_| bare.commit());
                bare_seconds += begin.elapsed().as_secs_f64();
            }
        }
    }
    let commits = (rounds * TURN) as f64;
    json!({ "ours_per_s": commits / our_seconds, "raw_per_s": commits / bare_seconds, "bytes_per_commit": bytes })
}

/// Records written one after another into a file that has its blocks, each made durable.
struct Bare {
    file: File,
    record: Vec<u8>,
    offset: u64,
}

impl Bare {
    fn create(path: &Path, bytes: usize, records: usize) -> Self {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .expect("a new file");
        for _ in 0..records {
            file.write_all(&vec![0; bytes]).expect("room on the disk");
        }
        file.sync_all().expect("a disk that syncs");
        let record = (0..bytes).map(|place| place as u8).collect();
        Self {
            file,
            record,
            offset: 0,
        }
    }

    fn commit(&mut self) {
        self.file
            .write_all_at(&self.record, self.offset)
            .expect("room on the disk");
        self.file.sync_data().expect("a disk that syncs");
        self.offset += self.record.len() as u64;
    }
}

fn threads(folder: &Path, count: u64, seconds: u64) -> Value {
    let (database, collection) = create(folder);
    let done = AtomicU64::new(0);
    let begin = Instant::now();
    let limit = Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for thread in 0..count {
            let (database, collection, done) = (&database, &collection, &done);
            scope.spawn(move || {
                let vector = [Numbers::new(thread).vector(DIMENSION)];
                let mut next = thread << 32;
                while begin.elapsed() < limit {
                    commit(database, collection, next, &vector);
                    next += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let commits = done.into_inner();
    json!({ "commits": commits, "commits_per_s": commits as f64 / begin.elapsed().as_secs_f64() })
}

fn ingest(path: &Path, vectors: &[Vec<f32>], batches: usize) -> Value {
    let (database, collection) = create(path);
    let (_, mut spent) = timed(|| {
        for batch in 0..batches {
            commit(&database, &collection, (batch * vectors.len()) as u64, vectors);
        }
    });
    drop(collection);
    drop(database);
    std::fs::remove_dir_all(path).expect("the database can be removed");
    let documents = batches * vectors.len();
    spent["documents_per_s"] = json!(documents as f64 / spent["wall_s"].as_f64().expect("a number"));
    spent["commits"] = json!(batches);
    spent
}
