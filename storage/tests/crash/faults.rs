//! One fixed history, and a fault at every operation of it.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use stratal_storage::vfs::{CrashVfs, FailingVfs, Fault, Vfs};
use stratal_storage::{Batch, Error, Store, StoreOptions};

use crate::model::{World, generation, id};

fn options(vfs: &FailingVfs) -> StoreOptions {
    StoreOptions {
        vfs: Arc::new(vfs.clone()),
        create: true,
        background: false,
        ..StoreOptions::default()
    }
}

/// What a run reached before a fault stopped it: the last acknowledged world, and the one after it.
#[derive(Default)]
struct Reached {
    acknowledged: World,
    tried: World,
}

/// Commits, flushes, deletes, compacts and closes, until something fails.
fn work(vfs: &FailingVfs, reached: &mut Reached) -> Result<(), Error> {
    let store = Store::open(Path::new("/db"), options(vfs))?;
    if reached.acknowledged.collections.is_empty() {
        reached.tried.collections.insert("notes".into(), 1);
        store.create_collection("notes", json!({}), vec![generation()])?;
        reached.acknowledged = reached.tried.clone();
    }
    for round in 0..3u64 {
        for n in 0..4 {
            let mut batch = Batch::new();
            reached
                .tried
                .put(&mut batch, "notes", id(n), (round * 10 + n) as u32);
            reached
                .tried
                .put(&mut batch, "notes", id(n + 10), (round * 10 + n) as u32);
            if n == 3 {
                reached.tried.delete(&mut batch, "notes", id(0));
            }
            store.commit(batch)?;
            reached.acknowledged = reached.tried.clone();
        }
        store.checkpoint()?;
    }
    store.compact(None)?;
    store.close()
}

fn fresh() -> CrashVfs {
    let vfs = CrashVfs::new();
    vfs.create_folder(Path::new("/")).unwrap();
    vfs
}

fn is_typed(error: &Error, errno: i32) -> bool {
    match errno {
        libc::ENOSPC => matches!(error, Error::NoSpace { .. } | Error::Poisoned { .. }),
        libc::EMFILE => matches!(error, Error::OutOfHandles { .. } | Error::Poisoned { .. }),
        _ => matches!(error, Error::Io { .. } | Error::Poisoned { .. }),
    }
}

/// After the fault: the same disk, healed, and the disk after a power cut both hold what was acknowledged.
fn check(disk: &CrashVfs, reached: &Reached, what: &str) {
    let mut disks: Vec<CrashVfs> = (1..4).map(|cut| disk.crash(cut)).collect();
    disks.push(disk.clone());
    for (cut, disk) in disks.into_iter().enumerate() {
        let healed = FailingVfs::new(Arc::new(disk));
        let store =
            Store::open(Path::new("/db"), options(&healed)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let world = World::read(&store.snapshot());
        assert!(
            world == reached.acknowledged || world == reached.tried,
            "{what}, cut {cut}: {world:?}"
        );
        assert!(store.verify().unwrap().is_sound(), "{what}");
        drop(store);
        // Writing works again.
        let mut reached = Reached {
            acknowledged: world.clone(),
            tried: world,
        };
        work(&healed, &mut reached).unwrap_or_else(|error| panic!("{what}, after healing: {error}"));
    }
}

fn every_operation(errno: i32, only_this_one: bool) {
    let counting = FailingVfs::new(Arc::new(fresh()));
    work(&counting, &mut Reached::default()).unwrap();
    let operations = counting.operations();
    assert!(operations > 100, "{operations}");
    for n in 0..operations {
        let disk = fresh();
        let failing = FailingVfs::new(Arc::new(disk.clone()));
        let fault = Fault::new(errno).short_write(n as usize * 7 % 500);
        failing.fail(if only_this_one {
            fault.nth(n)
        } else {
            fault.from(n)
        });
        let mut reached = Reached::default();
        let result = work(&failing, &mut reached);
        let what = format!("errno {errno} at operation {n} of {operations}");
        if let Err(error) = &result {
            assert!(is_typed(error, errno), "{what}: {error:?}");
        }
        check(&disk, &reached, &what);
    }
}

// B04
#[test]
fn a_disk_that_fills_at_any_operation_loses_nothing_and_opens_again() {
    every_operation(libc::ENOSPC, false);
    every_operation(libc::ENOSPC, true);
}

// B05
#[test]
fn an_io_error_at_any_operation_loses_nothing_and_opens_again() {
    every_operation(libc::EIO, false);
    every_operation(libc::EIO, true);
}

// B110
#[test]
fn running_out_of_descriptors_at_any_operation_is_named_and_harms_nothing() {
    every_operation(libc::EMFILE, true);
}

// B102
#[test]
fn a_stale_handle_at_any_operation_is_an_error_of_the_system_and_no_damage() {
    every_operation(libc::ESTALE, true);
}

// B05
#[test]
fn after_a_failed_sync_commits_say_poisoned_and_reads_go_on() {
    let disk = fresh();
    let failing = FailingVfs::new(Arc::new(disk));
    let mut reached = Reached::default();
    let store = Store::open(Path::new("/db"), options(&failing)).unwrap();
    store
        .create_collection("notes", json!({}), vec![generation()])
        .unwrap();
    reached.tried.collections.insert("notes".into(), 1);
    let put = |world: &mut World, n: u32| {
        let mut batch = Batch::new();
        world.put(&mut batch, "notes", id(u64::from(n)), n);
        store.commit(batch)
    };
    put(&mut reached.tried, 1).unwrap();
    reached.acknowledged = reached.tried.clone();
    failing.fail(
        Fault::new(libc::EIO)
            .on(&[stratal_storage::vfs::Operation::Sync])
            .nth(0),
    );
    assert!(matches!(put(&mut reached.tried, 2), Err(Error::Io { .. })));
    let Err(Error::Poisoned { reason }) = put(&mut reached.tried.clone(), 3) else {
        panic!("a commit after a failed sync");
    };
    assert!(reason.contains("sync"), "{reason}");
    assert_eq!(World::read(&store.snapshot()), reached.acknowledged);
    assert!(store.statistics().unwrap().poisoned.is_some());
    drop(store);
    let store = Store::open(Path::new("/db"), options(&failing)).unwrap();
    let mut world = World::read(&store.snapshot());
    assert!(world == reached.acknowledged || world == reached.tried);
    let mut batch = Batch::new();
    world.put(&mut batch, "notes", id(4), 4);
    store.commit(batch).unwrap();
    assert_eq!(World::read(&store.snapshot()), world);
}
