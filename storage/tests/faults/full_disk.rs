//! A disk that fills up: a small one in memory, and every single operation failing for want of space.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use stratal_storage::vfs::{FailingVfs, Fault, RealVfs};
use stratal_storage::{Error, Store, StoreOptions};

use crate::database::*;

/// A file system in memory of a bounded size, taken away when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and a word on it, where mounting is not allowed.
    fn mount(mebibytes: u32) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(folder));
        }
        println!("skipped: mounting a small file system is not permitted here");
        None
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("db")
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

fn fill(path: &Path) {
    let mut bytes = vec![0xa5u8; 1 << 20];
    let mut file = std::fs::File::create(path).unwrap();
    while !bytes.is_empty() {
        if std::io::Write::write_all(&mut file, &bytes).is_err() {
            bytes.truncate(bytes.len() / 2);
        }
    }
}

/// B04
#[test]
fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    let Some(disk) = SmallDisk::mount(20) else { return };
    fill(&disk.ballast());
    std::fs::OpenOptions::new()
        .write(true)
        .open(disk.ballast())
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    let store = open(&disk.path());
    create(&store, "a");
    let mut acknowledged = 0;
    let error = loop {
        match put(&store, "a", acknowledged * 100..(acknowledged + 1) * 100, 0) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        if acknowledged % 50 == 0
            && let Err(error) = store.checkpoint()
        {
            break error;
        }
        assert!(acknowledged < 100_000);
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert!(acknowledged > 100, "{acknowledged} commits of 100 documents fit");
    let all = expected(0..acknowledged * 100, 0);
    let read = contents(&store, "a");
    assert!(read == all, "reading goes on: {} of {}", read.len(), all.len());
    drop(store);

    // While it is full: reading works, and opening either works or says why.
    let store = Store::open(&disk.path(), read_only()).unwrap();
    let seen = contents(&store, "a");
    assert!(all.iter().all(|(id, document)| seen.get(id) == Some(document)));
    drop(store);
    if let Err(error) = Store::open(&disk.path(), options()) {
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    }
    std::fs::remove_file(disk.ballast()).unwrap();
    let store = open(&disk.path());
    let seen = contents(&store, "a");
    assert!(all.iter().all(|(id, document)| seen.get(id) == Some(document)));
    assert!(seen.len() <= all.len() + 100);
    put(&store, "a", 0..50, 1).unwrap();
    store.checkpoint().unwrap();
    assert_sound(&store);
}

/// A workload of all kinds of writing; gives the last contents that were acknowledged and those that were
/// asked for last.
fn work(path: &Path, vfs: &FailingVfs) -> (Contents, Contents, Option<Error>) {
    let mut before = Contents::new();
    let mut after = Contents::new();
    let mut run = || -> Result<(), Error> {
        let store = Store::open(
            path,
            StoreOptions {
                vfs: Arc::new(vfs.clone()),
                ..options()
            },
        )?;
        store.create_collection("a", serde_json::Value::Null, vec![generation(DIMENSION)])?;
        let mut put_to = |numbers: std::ops::Range<u64>, round| {
            after = before.clone();
            after.extend(expected(numbers.clone(), round));
            put(&store, "a", numbers, round).map(|_| before = after.clone())
        };
        put_to(0..20, 0)?;
        store.checkpoint()?;
        put_to(10..30, 1)?;
        put_to(30..40, 1)?;
        store.checkpoint()?;
        after = before.clone();
        after.retain(|id, _| *id >= stratal_storage::Id::from(25));
        delete(&store, "a", 0..25)?;
        before = after.clone();
        store.compact(None)?;
        after.extend(expected(0..5, 2));
        put(&store, "a", 0..5, 2)?;
        before = after.clone();
        store.close()
    };
    let error = run().err();
    (before, after, error)
}

/// B04, at each operation
#[test]
fn no_space_at_any_operation_loses_nothing() {
    for errno in [libc::ENOSPC, libc::EIO] {
        let mut n = 0;
        loop {
            let folder = quick_folder();
            let path = folder.path().join("db");
            let vfs = FailingVfs::new(Arc::new(RealVfs));
            // Once for a moment, then for good, by turns.
            let fault = Fault::new(errno).on_changes();
            vfs.fail(if n % 2 == 0 { fault.nth(n) } else { fault.from(n) });
            let (acknowledged, asked, error) = work(&path, &vfs);
            if vfs.hits() == 0 {
                assert!(error.is_none(), "{error:?}");
                assert!(n > 30, "only {n} changes");
                break;
            }
            match error {
                Some(Error::NoSpace { .. }) => assert_eq!(errno, libc::ENOSPC),
                Some(Error::Io { .. } | Error::Poisoned { .. }) | None => {}
                Some(error) => panic!("operation {n}: {error}"),
            }
            let store = open(&path);
            let collection = store.snapshot().collection("a");
            match collection {
                Ok(_) => {
                    let read = contents(&store, "a");
                    assert!(read == acknowledged || read == asked, "after a failure at {n}");
                }
                Err(_) => assert!(acknowledged.is_empty()),
            }
            assert_sound(&store);
            if store.snapshot().collection("a").is_err() {
                create(&store, "a");
            }
            put(&store, "a", 100..110, 0).unwrap();
            store.close().unwrap();
            n += 1;
        }
    }
}

/// B06
#[test]
fn deleting_and_compacting_on_a_nearly_full_disk_gives_space_back() {
    let Some(disk) = SmallDisk::mount(20) else { return };
    let store = open(&disk.path());
    create(&store, "a");
    for batch in 0..50 {
        put(&store, "a", batch * 1000..(batch + 1) * 1000, 0).unwrap();
        if batch % 10 == 9 {
            store.checkpoint().unwrap();
        }
    }
    store.compact(None).unwrap();
    store.checkpoint().unwrap();
    // Leave 700 KiB free, far less than the collection takes.
    fill(&disk.ballast());
    let ballast = std::fs::OpenOptions::new()
        .write(true)
        .open(disk.ballast())
        .unwrap();
    ballast
        .set_len(ballast.metadata().unwrap().len() - 700 * 1024)
        .unwrap();
    let before = store.statistics().unwrap().disk_bytes;
    for batch in 0..25 {
        delete(&store, "a", batch * 1000..(batch + 1) * 1000).unwrap();
    }
    match store.compact(None) {
        Ok(()) => assert!(store.statistics().unwrap().disk_bytes < before * 3 / 4),
        Err(error) => {
            assert!(matches!(error, Error::NoSpace { .. }), "{error}");
            assert!(error.to_string().contains("bytes"), "{error}");
        }
    }
    // Told before the disk was full, and not dead of it.
    assert!(contents(&store, "a") == expected(25_000..50_000, 0));
    put(&store, "a", 0..10, 0).unwrap();
    drop(ballast);
    std::fs::remove_file(disk.ballast()).unwrap();
    store.compact(None).unwrap();
    assert!(store.statistics().unwrap().disk_bytes < before * 3 / 4);
    assert_sound(&store);
}
