//! Reading where nothing can be written.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use stratal_storage::vfs::{FailingVfs, Fault, Operation, RealVfs};
use stratal_storage::{Error, Store, StoreOptions};

use crate::database::*;

fn make(path: &Path) {
    let store = open(path);
    create(&store, "a");
    put(&store, "a", 0..50, 0).unwrap();
    store.checkpoint().unwrap();
    put(&store, "a", 50..60, 0).unwrap();
}

fn read_everything(path: &Path, options: StoreOptions) {
    let store = Store::open(path, options).unwrap();
    assert_eq!(contents(&store, "a"), expected(0..60, 0));
    assert_eq!(store.statistics().unwrap().collections[0].documents, 60);
    assert!(store.verify().unwrap().is_sound());
    assert!(!store.refresh().unwrap());
    assert!(matches!(put(&store, "a", [1], 1), Err(Error::ReadOnly)));
    assert!(matches!(store.checkpoint(), Err(Error::ReadOnly)));
    assert!(matches!(store.compact(None), Err(Error::ReadOnly)));
    store.close().unwrap();
}

/// B101
#[test]
fn reading_asks_for_no_change_at_all() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let before = files(folder.path());
    let vfs = FailingVfs::new(Arc::new(RealVfs));
    vfs.fail(Fault::new(libc::EROFS).on_changes());
    vfs.fail(Fault::new(libc::EROFS).on(&[Operation::Lock]));
    let through = || Arc::new(vfs.clone());
    read_everything(
        folder.path(),
        StoreOptions {
            vfs: through(),
            ..read_only()
        },
    );
    assert_eq!(vfs.hits(), 0);
    match Store::open(
        folder.path(),
        StoreOptions {
            vfs: through(),
            ..options()
        },
    ) {
        Err(error @ Error::NotWritable { .. }) => assert!(error.to_string().contains("read-only"), "{error}"),
        other => panic!("{:?}", other.err()),
    }
    assert!(files(folder.path()) == before);
}

/// B101, on a real mount
#[test]
fn a_read_only_mount_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    make(&path);
    let run = |arguments: &[&str]| {
        let output = Command::new(arguments[0]).args(&arguments[1..]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let at = folder.path().join("mount");
    std::fs::create_dir(&at).unwrap();
    let (from, to) = (path.to_str().unwrap(), at.to_str().unwrap());
    if !run(&["mount", "--bind", from, to]) {
        println!("skipped: mounting is not permitted here");
        return;
    }
    if run(&["mount", "-o", "remount,ro,bind", to]) {
        read_everything(&at, read_only());
        let refused = Store::open(&at, options());
        run(&["umount", "-l", to]);
        assert!(
            matches!(refused, Err(Error::NotWritable { .. })),
            "{:?}",
            refused.err()
        );
    } else {
        run(&["umount", "-l", to]);
        println!("skipped: mounting read-only is not permitted here");
    }
}
