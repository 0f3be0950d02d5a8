//! sqlite-vec's side: `sqlite_vec batch FOLDER BATCHES SIZE` serves runs that ingest into a new
//! database; `sqlite_vec once FOLDER BATCHES SIZE` does one, for counting its sync calls;
//! `sqlite_vec build FILE COUNT` fills a database, `sqlite_vec open FILE COUNT` opens one.
//!
//! WAL and `synchronous = FULL`: one fdatasync of the log per commit, as durable as ours.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::{Connection, params};
use serde_json::{Value, json};
use stratal_peers::{Numbers, argument, resident_mib, serve, tell, timed};

const DIMENSION: usize = 384;

fn main() {
    // SAFETY: the function is sqlite-vec's entry point, which has the signature that SQLite
    // calls; the binding declares it without its arguments.
    unsafe {
        rusqlite::ffi::sqlite3_auto_extension(Some(std::mem::transmute::<*const (), _>(
            sqlite_vec::sqlite3_vec_init as *const (),
        )));
    }
    let path: PathBuf = argument(2, "path");
    match argument::<String>(1, "mode").as_str() {
        "batch" => {
            let vectors = vectors(argument(4, "documents a batch"));
            let batches = argument(3, "number of batches");
            serve(json!({}), || ingest(&path, &vectors, batches));
        }
        "once" => tell(&ingest(
            &path,
            &vectors(argument(4, "documents a batch")),
            argument(3, "number of batches"),
        )),
        "build" => {
            let vectors = vectors(10_000);
            let mut database = create(&path);
            for batch in 0..argument::<usize>(3, "number of documents") / vectors.len() {
                insert(&mut database, &vectors, batch);
            }
            tell(&json!({ "batches": argument::<usize>(3, "number of documents") / vectors.len() }));
        }
        "open" => tell(&open(&path, argument(3, "number of documents"))),
        other => panic!("unknown mode {other:?}"),
    }
}

fn vectors(count: usize) -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(1);
    (0..count)
        .map(|_| {
            numbers
                .vector(DIMENSION)
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        })
        .collect()
}

fn connect(path: &Path) -> Connection {
    let database = Connection::open(path).expect("the database opens");
    database
        .pragma_update(None, "journal_mode", "WAL")
        .expect("WAL is available");
    database
        .pragma_update(None, "synchronous", "FULL")
        .expect("FULL is available");
    database
}

fn create(path: &Path) -> Connection {
    let database = connect(path);
    let table = format!(
        "CREATE VIRTUAL TABLE documents USING vec0(id INTEGER PRIMARY KEY, vector FLOAT[{DIMENSION}])"
    );
    database.execute_batch(&table).expect("the table is made");
    database
}

fn insert(database: &mut Connection, vectors: &[Vec<u8>], batch: usize) {
    let transaction = database.transaction().expect("a transaction begins");
    {
        let mut insert = transaction
            .prepare_cached("INSERT INTO documents (id, vector) VALUES (?1, ?2)")
            .expect("the statement is good");
        for (row, vector) in vectors.iter().enumerate() {
            insert
                .execute(params![(batch * vectors.len() + row) as i64, vector])
                .expect("the row goes in");
        }
    }
    transaction.commit().expect("the commit is durable");
}

fn ingest(folder: &Path, vectors: &[Vec<u8>], batches: usize) -> Value {
    let path = folder.join("sqlite-vec.db");
    let mut database = create(&path);
    let (_, mut spent) = timed(|| (0..batches).for_each(|batch| insert(&mut database, vectors, batch)));
    drop(database);
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(ending);
        let _ = std::fs::remove_file(name);
    }
    let documents = batches * vectors.len();
    spent["documents_per_s"] = json!(documents as f64 / spent["wall_s"].as_f64().expect("a number"));
    spent["commits"] = json!(batches);
    spent
}

fn open(path: &Path, count: i64) -> Value {
    let begin = Instant::now();
    let database = connect(path);
    let open_ms = begin.elapsed().as_secs_f64() * 1e3;
    let begin = Instant::now();
    let vector: Vec<u8> = database
        .query_row("SELECT vector FROM documents WHERE id = ?1", [count / 2], |row| {
            row.get(0)
        })
        .expect("the document is there");
    let first_get_ms = begin.elapsed().as_secs_f64() * 1e3;
    assert_eq!(vector.len(), DIMENSION * 4);
    json!({ "open_ms": open_ms, "first_get_ms": first_get_ms, "resident_mib": resident_mib(false) })
}
