//! What an interrupted program, or somebody else, left in the folder.

use std::fs;

use stratal_storage::{Error, Store, StoreOptions};

use crate::database::*;

/// B01
#[test]
fn our_leftovers_go_and_foreign_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = open(&path);
    create(&store, "a");
    put(&store, "a", 0..10, 0).unwrap();
    store.close().unwrap();
    drop(store);

    let ours = [
        "MANIFEST.tmp",
        "segments/0000000000000009.doc.tmp",
        "segments/0000000000000009-g0.vec.tmp",
        "segments/0000000000000008.doc",
        "segments/0000000000000001-0000000000000004.del.tmp",
    ];
    let foreign = [
        "wal/.atomicX",
        "segments/9.tmp",
        "MANIFEST-9.tmp",
        "notes.txt",
        "segments/ünlaut.doc",
    ];
    for name in ours.iter().chain(&foreign) {
        fs::write(path.join(name), b"left over").unwrap();
    }
    fs::create_dir(path.join("segments/folder")).unwrap();
    let store = open(&path);
    assert_eq!(contents(&store, "a"), expected(0..10, 0));
    let mut told = store.opened().removed.clone();
    told.sort();
    let mut expected: Vec<_> = ours.iter().map(|name| path.join(name)).collect();
    expected.sort();
    assert_eq!(told, expected);
    for name in ours {
        assert!(!path.join(name).exists(), "{name} is removed");
    }
    for name in foreign {
        assert!(
            store.opened().foreign.contains(&path.join(name)),
            "{name} is told"
        );
        assert_eq!(fs::read(path.join(name)).unwrap(), b"left over");
    }
    put(&store, "a", 10..20, 0).unwrap();
    store.compact(None).unwrap();
    assert_sound(&store);
    for name in foreign {
        assert!(path.join(name).exists(), "{name} is left alone by upkeep too");
    }
}

/// B02 (a)
#[test]
fn a_log_file_that_was_never_written_to_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "a");
    put(&store, "a", 0..10, 0).unwrap();
    drop(store);
    for (number, len) in [(200, 0), (201, 100), (202, 4096), (203, 1 << 20)] {
        fs::write(folder.path().join(format!("wal/{number:016x}.wal")), vec![0; len]).unwrap();
        let store = open(folder.path());
        assert_eq!(contents(&store, "a"), expected(0..10, 0));
    }
    let store = open(folder.path());
    put(&store, "a", 10..20, 0).unwrap();
    drop(store);
    assert_eq!(contents(&open(folder.path()), "a"), expected(0..20, 0));
}

/// B02 (b)
#[test]
fn a_log_file_with_commits_and_no_header_is_damage_and_the_rest_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "a");
    put(&store, "a", 0..10, 0).unwrap();
    store.checkpoint().unwrap();
    put(&store, "a", 10..20, 0).unwrap();
    drop(store);
    let logs: Vec<_> = names(&folder.path().join("wal"));
    let last = logs.last().unwrap();
    let mut bytes = fs::read(last).unwrap();
    bytes[..4096].fill(0);
    fs::write(last, &bytes).unwrap();

    let before = files(folder.path());
    for _ in 0..2 {
        match Store::open(folder.path(), options()) {
            Err(Error::Corrupt { path, .. }) => assert_eq!(&path, last),
            other => panic!("{:?}", other.map(|store| store.opened().clone())),
        }
        let mut after = files(folder.path());
        after.retain(|path, _| before.contains_key(path));
        assert!(after == before, "nothing is deleted or changed");
    }
    let salvaging = StoreOptions {
        salvage: true,
        ..read_only()
    };
    let store = Store::open(folder.path(), salvaging).unwrap();
    let read = contents(&store, "a");
    assert!(
        expected(0..10, 0)
            .iter()
            .all(|(id, document)| read.get(id) == Some(document))
    );
    assert!(!store.opened().damaged.is_empty());
    assert!(!store.verify().unwrap().is_sound());
}
