//! Transactions, snapshots, threads and locks.

use std::sync::atomic::{AtomicUsize, Ordering};

use stratal::{Database, Document, Error, Id, StorageError};

use crate::{database, plane};

// B104
#[test]
fn parallel_writers_all_commit_and_make_no_double() {
    let (_home, db) = database();
    let c = plane(&db, "c", 2);
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for t in 0..32u64 {
            let (c, failed) = (c.clone(), &failed);
            scope.spawn(move || {
                for n in 0..50u64 {
                    let result = c.insert(Document::new(t * 1000 + n).vector([1.0, 0.0]));
                    failed.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
                    c.upsert(Document::new("x").vector([t as f32, n as f32])).unwrap();
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0);
    assert_eq!(c.count().unwrap(), 1601);
    let all = c.search_vector([1.0, 0.0]).k(5000).run().unwrap();
    assert_eq!(all.iter().filter(|hit| hit.id == Id::from("x")).count(), 1);
}

// B104
#[test]
fn eight_databases_with_four_threads_each_do_not_wait_for_each_other() {
    let homes: Vec<_> = (0..8).map(|_| database()).collect();
    std::thread::scope(|scope| {
        for (_, db) in &homes {
            let c = plane(db, "c", 2);
            for t in 0..4u64 {
                let c = c.clone();
                scope.spawn(move || {
                    for n in 0..20u64 {
                        c.insert(Document::new(t * 100 + n).vector([1.0, n as f32]))
                            .unwrap();
                        c.search_vector([1.0, 1.0]).run().unwrap();
                    }
                });
            }
        }
    });
    for (_, db) in homes {
        assert_eq!(db.collection("c").open().unwrap().count().unwrap(), 80);
        db.close().unwrap();
    }
}

// B96
#[test]
fn iterating_a_snapshot_ends_though_the_loop_commits() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    for n in 0..50u64 {
        c.insert(Document::new(n).vector([n as f32])).unwrap();
    }
    let snapshot = db.snapshot();
    let view = snapshot.collection("c").unwrap();
    let mut seen = 0;
    for document in view.iter() {
        let Id::Number(n) = *document.unwrap().id() else {
            panic!("an id of another kind")
        };
        c.insert(Document::new(n + 1000).vector([0.0])).unwrap();
        seen += 1;
    }
    assert_eq!((seen, c.count().unwrap()), (50, 100));
}

#[test]
fn a_snapshot_outlives_its_database_and_lets_the_lock_go() {
    let (home, db) = database();
    let c = plane(&db, "c", 1);
    c.insert(Document::new("a").vector([1.0])).unwrap();
    let snapshot = db.snapshot();
    drop((c, db));
    let again = Database::open(home.path().join("db")).unwrap();
    again.collection("c").open().unwrap().delete("a").unwrap();
    again.compact().unwrap();
    let hits = snapshot
        .collection("c")
        .unwrap()
        .search_vector([2.0])
        .run()
        .unwrap();
    assert_eq!((hits.len(), hits[0].score), (1, 2.0));
}

// B97
#[test]
fn a_second_writer_is_refused_by_any_path_with_the_holders_process_id() {
    let (home, db) = database();
    let path = home.path().join("db");
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for other in [path.clone(), home.path().join("./db"), link] {
        match Database::open(&other).err().unwrap() {
            Error::Storage(StorageError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            error => panic!("{error}"),
        }
    }
    drop(db);
    Database::open(&path).unwrap();
}

#[test]
fn after_closing_other_handles_say_so_and_reads_go_on() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    c.insert(Document::new("a").vector([1.0])).unwrap();
    let other = db.clone();
    db.close().unwrap();
    let closed = c.insert(Document::new("b").vector([1.0])).unwrap_err();
    assert!(matches!(closed, Error::Storage(StorageError::Closed)), "{closed}");
    assert!(other.close().is_ok());
    assert_eq!(c.search_vector([1.0]).run().unwrap().len(), 1);
}

#[test]
fn optimistic_updates_lose_no_increment() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    c.insert(Document::new("counter").vector([0.0])).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (db, c) = (db.clone(), c.clone());
            scope.spawn(move || {
                let mut done = 0;
                while done < 25 {
                    let read = c.get("counter").unwrap().unwrap();
                    let value = read.layer_vectors().unwrap()[0][0];
                    let mut tx = db.begin();
                    tx.replace(&c, Document::new("counter").vector([value + 1.0]), read.version())
                        .unwrap();
                    match tx.commit() {
                        Ok(_) => done += 1,
                        Err(Error::Storage(StorageError::VersionConflict { .. })) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(
        c.get("counter").unwrap().unwrap().layer_vectors().unwrap(),
        [[100.0]]
    );
}

#[test]
fn one_transaction_over_two_collections_is_atomic() {
    let (home, db) = database();
    let (a, b) = (plane(&db, "a", 1), plane(&db, "b", 1));
    let mut tx = db.begin();
    tx.insert(&a, Document::new("x").vector([1.0])).unwrap();
    tx.insert(&b, Document::new("x").vector([2.0])).unwrap();
    tx.commit().unwrap();
    let mut tx = db.begin();
    tx.insert(&a, Document::new("y").vector([1.0])).unwrap();
    tx.insert(&b, Document::new("x").vector([2.0])).unwrap();
    assert!(tx.commit().is_err());
    let mut dropped = db.begin();
    dropped.insert(&a, Document::new("z").vector([1.0])).unwrap();
    drop(dropped);
    assert_eq!((a.count().unwrap(), b.count().unwrap()), (1, 1));
    let elsewhere = Database::create(home.path().join("other")).unwrap();
    assert!(
        elsewhere
            .begin()
            .insert(&a, Document::new("q").vector([1.0]))
            .is_err()
    );
    db.drop_collection("a").unwrap();
    assert!(matches!(
        a.count(),
        Err(Error::Storage(StorageError::UnknownCollection { .. }))
    ));
    assert_eq!(db.collections(), ["b"]);
}
