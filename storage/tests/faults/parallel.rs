//! Many threads and many databases at once.

use std::time::{Duration, Instant};

use stratal_storage::{Store, StoreOptions};

use crate::database::*;

fn background() -> StoreOptions {
    StoreOptions {
        background: true,
        memory_budget: 1 << 20,
        ..options()
    }
}

/// B104
#[test]
fn parallel_writers_all_commit_and_one_key_is_one_document() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), background()).unwrap();
    create(&store, "a");
    create(&store, "x");
    let before = store.statistics().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..32u64 {
            let store = store.clone();
            scope.spawn(move || {
                for number in 0..50 {
                    put(&store, "a", [thread * 50 + number], 0).unwrap();
                }
            });
        }
    });
    let after = store.statistics().unwrap();
    assert_eq!(after.commits - before.commits, 1600);
    assert!(after.log_syncs - before.log_syncs < 1600, "threads share syncs");
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let store = store.clone();
            scope.spawn(move || {
                for round in 0..25 {
                    put(&store, "x", [7], thread * 25 + round).unwrap();
                }
            });
        }
    });
    assert_eq!(contents(&store, "a"), expected(0..1600, 0));
    assert_eq!(contents(&store, "x").len(), 1);
    assert_sound(&store);
    drop(store);
    let store = Store::open(folder.path(), background()).unwrap();
    assert_eq!(contents(&store, "a"), expected(0..1600, 0));
    assert_eq!(contents(&store, "x").len(), 1);
}

/// B104
#[test]
fn many_databases_in_one_process_do_not_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for database in 0..8 {
            let path = folder.path().join(database.to_string());
            scope.spawn(move || {
                let store = Store::open(&path, background()).unwrap();
                create(&store, "a");
                std::thread::scope(|scope| {
                    for thread in 0..4u64 {
                        let store = store.clone();
                        scope.spawn(move || {
                            for number in 0..20 {
                                put(&store, "a", [thread * 20 + number], 0).unwrap();
                            }
                            store.checkpoint().unwrap();
                        });
                    }
                });
                assert_eq!(contents(&store, "a"), expected(0..80, 0));
                store.close().unwrap();
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(60));
}

/// B104: readers see whole commits, whatever flushes and compactions go on.
#[test]
fn readers_see_whole_commits_while_parts_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), background()).unwrap();
    create(&store, "a");
    put(&store, "a", 0..50, 0).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        let (writer, upkeep) = (store.clone(), store.clone());
        scope.spawn(move || {
            for round in 1.. {
                put(&writer, "a", 0..50, round).unwrap();
                if Instant::now() > end {
                    return;
                }
            }
        });
        scope.spawn(move || {
            while Instant::now() < end {
                upkeep.checkpoint().unwrap();
                upkeep.compact(None).unwrap();
            }
        });
        for _ in 0..2 {
            let store = store.clone();
            scope.spawn(move || {
                while Instant::now() < end {
                    let read = contents(&store, "a");
                    let rounds: std::collections::BTreeSet<String> = read
                        .values()
                        .map(|(payload, _)| {
                            String::from_utf8_lossy(payload)
                                .rsplit(' ')
                                .next()
                                .unwrap()
                                .to_owned()
                        })
                        .collect();
                    assert_eq!((read.len(), rounds.len()), (50, 1), "{rounds:?}");
                }
            });
        }
    });
    assert_sound(&store);
}
