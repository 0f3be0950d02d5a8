//! A failed sync: the handle says so and goes on reading; a new one writes again.

use std::sync::Arc;

use stratal_storage::vfs::{FailingVfs, Fault, Operation, RealVfs};
use stratal_storage::{Error, Store, StoreOptions};

use crate::database::*;

/// B05
#[test]
fn a_failed_sync_stops_writing_until_it_is_opened_again() {
    for errno in [libc::EIO, libc::ENOSPC] {
        let folder = tempfile::tempdir().unwrap();
        let vfs = FailingVfs::new(Arc::new(RealVfs));
        let through = |vfs: &FailingVfs| StoreOptions {
            vfs: Arc::new(vfs.clone()),
            ..options()
        };
        let store = Store::open(folder.path(), through(&vfs)).unwrap();
        create(&store, "a");
        put(&store, "a", 0..10, 0).unwrap();
        vfs.fail(Fault::new(errno).on(&[Operation::Sync]).in_path("wal").nth(0));
        assert!(put(&store, "a", 10..20, 0).is_err());
        assert_eq!(vfs.hits(), 1);
        for _ in 0..2 {
            match put(&store, "a", 20..30, 0) {
                Err(error @ Error::Poisoned { .. }) => {
                    assert!(error.to_string().contains("opened again"), "{error}")
                }
                other => panic!("{other:?}"),
            }
            assert!(matches!(delete(&store, "a", 0..5), Err(Error::Poisoned { .. })));
            assert!(matches!(store.checkpoint(), Err(Error::Poisoned { .. })));
            assert!(matches!(store.compact(None), Err(Error::Poisoned { .. })));
            assert_eq!(contents(&store, "a"), expected(0..10, 0));
        }
        assert!(store.statistics().unwrap().poisoned.is_some());
        drop(store);
        let store = Store::open(folder.path(), through(&vfs)).unwrap();
        assert!(store.statistics().unwrap().poisoned.is_none());
        let read = contents(&store, "a");
        assert!(
            read == expected(0..10, 0) || read == expected(0..20, 0),
            "the failed commit whole or not at all"
        );
        put(&store, "a", 0..30, 1).unwrap();
        drop(store);
        assert_eq!(contents(&open(folder.path()), "a"), expected(0..30, 1));
    }
}

/// A checkpoint that fails again and again does not fill the disk with segments that nobody names.
#[test]
fn a_checkpoint_that_fails_takes_its_segments_away() {
    let folder = tempfile::tempdir().unwrap();
    let vfs = FailingVfs::new(Arc::new(RealVfs));
    let through = StoreOptions {
        vfs: Arc::new(vfs.clone()),
        ..options()
    };
    let store = Store::open(folder.path(), through).unwrap();
    for name in ["a", "b"] {
        create(&store, name);
        put(&store, name, 0..100, 0).unwrap();
    }
    store.checkpoint().unwrap();
    let before = names(&folder.path().join("segments"));
    put(&store, "a", 100..200, 0).unwrap();
    put(&store, "b", 100..200, 0).unwrap();
    // The first fault: only the second segment; the next: the MANIFEST.
    for (path, nth) in [(".doc", 1), ("MANIFEST", 0)] {
        for _ in 0..3 {
            vfs.fail(
                Fault::new(libc::ENOSPC)
                    .on(&[Operation::Create])
                    .in_path(path)
                    .nth(nth),
            );
            assert!(matches!(store.checkpoint(), Err(Error::NoSpace { .. })));
            vfs.heal();
            assert_eq!(names(&folder.path().join("segments")), before);
            assert_eq!(contents(&store, "a"), expected(0..200, 0));
            put(&store, "b", 0..10, 0).unwrap();
        }
    }
    store.checkpoint().unwrap();
    assert_eq!(contents(&store, "b"), expected(0..200, 0));
    assert_sound(&store);
}
