//! File systems whose locks fail or lie.

use std::sync::Arc;

use stratal_storage::vfs::{FailingVfs, Fault, Operation, RealVfs};
use stratal_storage::{Error, Store, StoreOptions};

use crate::database::*;

/// B102
#[test]
fn a_network_file_system_is_refused_for_writing_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let vfs = FailingVfs::new(Arc::new(RealVfs));
    vfs.report_network_kind(Some("nfs"));
    let through = |options: StoreOptions| StoreOptions {
        vfs: Arc::new(vfs.clone()),
        ..options
    };
    match Store::open(&path, through(options())) {
        Err(error @ Error::NetworkFileSystem { .. }) => assert!(error.to_string().contains("nfs"), "{error}"),
        other => panic!("{:?}", other.err()),
    }
    assert_eq!(vfs.changes(), 0);
    assert!(!path.exists());

    let store = Store::open(
        &path,
        StoreOptions {
            allow_network: true,
            ..through(options())
        },
    )
    .unwrap();
    create(&store, "a");
    put(&store, "a", 0..10, 0).unwrap();
    drop(store);
    assert!(matches!(
        Store::open(&path, through(options())),
        Err(Error::NetworkFileSystem { .. })
    ));
    assert_eq!(
        contents(&Store::open(&path, through(read_only())).unwrap(), "a"),
        expected(0..10, 0)
    );
}

/// B102
#[test]
fn a_lock_that_cannot_be_had_and_a_stale_handle_are_typed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "a");
    put(&store, "a", 0..10, 0).unwrap();
    drop(store);
    let before = files(folder.path());
    for (errno, operation) in [(libc::ENOLCK, Operation::Lock), (libc::ESTALE, Operation::Read)] {
        let vfs = FailingVfs::new(Arc::new(RealVfs));
        vfs.fail(Fault::new(errno).on(&[operation]));
        match Store::open(
            folder.path(),
            StoreOptions {
                vfs: Arc::new(vfs.clone()),
                ..options()
            },
        ) {
            Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(errno)),
            other => panic!("{:?}", other.err()),
        }
    }
    assert!(files(folder.path()) == before);
    // At any reading operation of opening.
    for n in 0.. {
        let vfs = FailingVfs::new(Arc::new(RealVfs));
        vfs.fail(
            Fault::new(libc::ESTALE)
                .on(&[Operation::Read, Operation::Open, Operation::Map])
                .nth(n),
        );
        let opened = Store::open(
            folder.path(),
            StoreOptions {
                vfs: Arc::new(vfs.clone()),
                ..options()
            },
        );
        if vfs.hits() == 0 {
            break;
        }
        if let Err(error) = opened {
            assert!(matches!(error, Error::Io { .. }), "{error}");
        }
    }
    assert_eq!(contents(&open(folder.path()), "a"), expected(0..10, 0));
}
