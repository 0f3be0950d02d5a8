//! What is deleted or replaced gives its space back, on disk and in memory.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use stratal_storage::{Batch, Expect, Id, Store, StoreOptions, Vectors};

use crate::database::*;
use crate::processes;

fn logs(path: &Path) -> usize {
    names(&path.join("wal")).len()
}

/// A fresh copy of documents, closed: its bytes.
fn fresh_bytes(numbers: std::ops::Range<u64>, round: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "a");
    put(&store, "a", numbers, round).unwrap();
    store.close().unwrap();
    folder_bytes(folder.path())
}

/// B08
#[test]
fn an_idle_collection_does_not_keep_the_log() {
    let folder = quick_folder();
    let store = open(folder.path());
    create(&store, "idle");
    create(&store, "busy");
    put(&store, "idle", 0..10, 0).unwrap();
    for round in 0..50 {
        put(&store, "busy", 0..1000, round).unwrap();
        store.checkpoint().unwrap();
        assert!(logs(folder.path()) <= 2);
    }
    put(&store, "busy", 0..10, 49).unwrap();
    drop(store);
    assert!(logs(folder.path()) <= 2);
    let store = open(folder.path());
    assert_eq!(contents(&store, "idle"), expected(0..10, 0));
    assert_eq!(contents(&store, "busy"), expected(0..1000, 49));
}

/// B105
#[test]
fn the_same_documents_again_and_again_take_the_space_of_one_copy() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "a");
    for round in 0..20 {
        put(&store, "a", 0..1000, round).unwrap();
        store.checkpoint().unwrap();
    }
    store.compact(None).unwrap();
    store.close().unwrap();
    let (bytes, fresh) = (folder_bytes(folder.path()), fresh_bytes(0..1000, 19));
    assert!(
        bytes * 100 <= fresh * 115,
        "{bytes} bytes, a fresh copy has {fresh}"
    );
    drop(store);
    assert_eq!(contents(&open(folder.path()), "a"), expected(0..1000, 19));
}

/// B105
#[test]
fn deleting_most_documents_gives_most_of_the_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "a");
    for thousand in 0..10 {
        put(&store, "a", thousand * 1000..(thousand + 1) * 1000, 0).unwrap();
        store.checkpoint().unwrap();
    }
    delete(&store, "a", 1000..10_000).unwrap();
    store.compact(None).unwrap();
    store.close().unwrap();
    let (bytes, fresh) = (folder_bytes(folder.path()), fresh_bytes(0..1000, 0));
    assert!(
        bytes * 100 <= fresh * 115,
        "{bytes} bytes, a fresh copy has {fresh}"
    );
}

/// B105: the upkeep in the background alone, nobody asks for compaction.
#[test]
fn upkeep_alone_keeps_the_space_near_that_of_one_copy() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        background: true,
        log_budget: 100_000,
        ..options()
    };
    let store = Store::open(folder.path(), options).unwrap();
    create(&store, "a");
    let fresh = fresh_bytes(0..1000, 0);
    for round in 0..30 {
        put(&store, "a", 0..1000, round).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let statistics = store.statistics().unwrap();
        let segments = statistics.disk_bytes - statistics.log_bytes;
        if segments <= fresh * 2 {
            break;
        }
        assert!(
            std::time::Instant::now() < end,
            "{segments} bytes of segments, a fresh copy has {fresh}"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(contents(&store, "a"), expected(0..1000, 29));
}

/// B106
#[test]
fn what_is_deleted_is_in_no_file_after_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let (text, key) = (
        &b"xq7-the-secret-in-the-text-4711"[..],
        "xq7-the-secret-in-the-id-4711",
    );
    let secret_vector = vector(DIMENSION, 123_456_789);
    let found = || {
        let holds = |bytes: &[u8], secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        let secrets = [text, key.as_bytes(), &secret_vector[..]];
        files(folder.path())
            .into_iter()
            .filter(|(_, bytes)| secrets.iter().any(|secret| holds(bytes, secret)))
            .map(|(path, _)| path)
            .collect::<Vec<_>>()
    };
    for flush_first in [false, true] {
        let store = open(folder.path());
        if !flush_first {
            create(&store, "a");
            put(&store, "a", 0..20, 0).unwrap();
        }
        let collection = store.snapshot().collection("a").unwrap();
        let target = (collection.number(), collection.name());
        let mut batch = Batch::new();
        let vectors = Vectors {
            generation: 0,
            bytes: Arc::from(&secret_vector[..]),
        };
        batch.put(target, Id::from(key), Expect::Any, Arc::from(text), vec![vectors]);
        store.commit(batch).unwrap();
        assert!(!found().is_empty(), "the search for it works");
        if flush_first {
            store.checkpoint().unwrap();
            assert!(!found().is_empty());
        }
        // Killed and replayed: the log's last frame is carried into the next file.
        drop(store);
        let store = open(folder.path());
        let mut batch = Batch::new();
        batch.delete(target, Id::from(key), None);
        assert_eq!(store.commit(batch).unwrap().deleted, 1);
        store.compact(None).unwrap();
        assert_eq!(found(), Vec::<std::path::PathBuf>::new());
        store.close().unwrap();
        assert_eq!(found(), Vec::<std::path::PathBuf>::new());
    }
}

/// B107
#[test]
fn dropped_collections_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "kept");
    put(&store, "kept", 0..10, 0).unwrap();
    store.checkpoint().unwrap();
    let before = (names(folder.path()).len(), folder_bytes(folder.path()));
    for round in 0..20 {
        store
            .create_collection("dropped", Value::Null, vec![generation(30)])
            .unwrap();
        put(&store, "dropped", 0..500, round).unwrap();
        if round % 2 == 0 {
            store.checkpoint().unwrap();
        }
        drop_collection(&store, "dropped").unwrap();
        store.checkpoint().unwrap();
        let after = (names(folder.path()).len(), folder_bytes(folder.path()));
        assert_eq!(before.0, after.0, "{:?}", names(folder.path()));
        assert!(after.1 <= before.1 + 64, "{} bytes, {} before", after.1, before.1);
    }
    let listed: Vec<_> = store
        .statistics()
        .unwrap()
        .files
        .into_iter()
        .map(|file| folder.path().join(file.path))
        .collect();
    assert_eq!(listed, names(folder.path()), "the statistics list every file");
    assert_eq!(contents(&store, "kept"), expected(0..10, 0));
}

/// Readers keep what they hold, and the space comes back when they let go.
#[test]
fn a_snapshot_outlives_the_files_and_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "a");
    put(&store, "a", 0..100, 0).unwrap();
    store.checkpoint().unwrap();
    put(&store, "a", 100..150, 0).unwrap();
    let held = store.snapshot().collection("a").unwrap();
    put(&store, "a", 0..150, 1).unwrap();
    store.compact(None).unwrap();
    drop_collection(&store, "a").unwrap();
    store.compact(None).unwrap();
    store.close().unwrap();
    drop(store);
    let read: Contents = held
        .rows()
        .map(|row| {
            let payload = row.part.payload(row.row).unwrap().into_owned();
            (
                row.part.id(row.row).unwrap(),
                (payload, row.part.vector(0, 0, row.row).unwrap().to_vec()),
            )
        })
        .collect();
    assert_eq!(read, expected(0..150, 0));
}

/// B109
#[test]
fn memory_stays_flat_while_the_documents_stay_the_same() {
    let folder = quick_folder();
    let mut child = processes::start("memory", folder.path());
    assert!(child.wait().unwrap().success());
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

pub fn with_memory_measured(folder: &Path) {
    if !Path::new("/proc/self/statm").exists() {
        println!("skipped: memory cannot be measured here");
        return;
    }
    const ALLOWED: u64 = 20 << 20;
    let path = folder.join("db");
    let background = || StoreOptions {
        background: true,
        memory_budget: 4 << 20,
        log_budget: 4 << 20,
        ..options()
    };
    let store = Store::open(&path, background()).unwrap();
    create(&store, "a");
    let run = |rounds: std::ops::Range<u64>| {
        for round in rounds {
            put(&store, "a", [round % 200], round).unwrap();
        }
    };
    run(0..500);
    let warm = resident_bytes();
    run(500..2500);
    let after = resident_bytes();
    assert!(after <= warm + ALLOWED, "{warm} bytes, then {after}");
    store.close().unwrap();
    drop(store);
    let cycle = || drop(Store::open(&path, background()).unwrap());
    (0..10).for_each(|_| cycle());
    let warm = resident_bytes();
    (0..100).for_each(|_| cycle());
    let after = resident_bytes();
    assert!(after <= warm + ALLOWED, "{warm} bytes, then {after}");
}
