//! Several threads commit, the maintenance thread flushes and compacts, and the power goes.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use serde_json::json;
use stratal_storage::vfs::{CrashVfs, FailingVfs, Fault, Vfs};
use stratal_storage::{Batch, Store, StoreOptions};

use crate::model::{Dice, World, generation, id};

const THREADS: u64 = 4;
const ROUNDS: u64 = 120;

fn open(vfs: Arc<dyn Vfs>, memory_budget: u64) -> Store {
    let options = StoreOptions {
        vfs,
        create: true,
        background: true,
        memory_budget,
        ..StoreOptions::default()
    };
    Store::open(Path::new("/db"), options).unwrap()
}

/// Thread `t`'s commit `n`: two documents in two collections and a setting, all with the value `n`.
fn commit(store: &Store, base: &World, t: u64, n: u64) -> bool {
    let mut world = World {
        collections: base.collections.clone(),
        ..World::default()
    };
    let mut batch = Batch::new();
    world.put(&mut batch, "a", id(t), n as u32);
    world.put(&mut batch, "b", id(t), n as u32);
    world.put(&mut batch, "b", id(100 + t * 50 + n % 20), n as u32);
    world.set(&mut batch, &format!("t{t}"), n);
    store.commit(batch).is_ok()
}

/// How far each thread's commits are there; each of them whole.
fn reached(store: &Store) -> Vec<u64> {
    let world = World::read(&store.snapshot());
    let of = |t: u64| {
        let n = world.settings.get(&format!("t{t}")).copied().unwrap_or(0);
        for name in ["a", "b"] {
            let found = world.documents.get(&(name.to_owned(), id(t)));
            assert_eq!(
                found.copied(),
                (n > 0).then_some(n as u32),
                "half of commit {n} of thread {t}"
            );
        }
        for back in 0..n.min(20) {
            let number = n - back;
            let found = world
                .documents
                .get(&("b".to_owned(), id(100 + t * 50 + number % 20)));
            assert_eq!(
                found.copied(),
                Some(number as u32),
                "commit {number} of thread {t} is missing"
            );
        }
        n
    };
    (0..THREADS).map(of).collect()
}

#[test]
fn commits_of_many_threads_survive_the_power_going_while_they_run() {
    let mut disk = CrashVfs::new();
    let mut from = vec![0; THREADS as usize];
    let mut dice = Dice::new(7);
    let mut total = 0;
    for round in 0..ROUNDS {
        let failing = FailingVfs::new(Arc::new(disk.clone()));
        let store = open(
            Arc::new(failing.clone()),
            if round % 3 == 0 { 8 << 10 } else { 1 << 20 },
        );
        if round == 0 {
            for name in ["a", "b"] {
                store
                    .create_collection(name, json!({}), vec![generation()])
                    .unwrap();
            }
        }
        let base = World::read(&store.snapshot());
        let acknowledged: Vec<AtomicU64> = from.iter().map(|&n| AtomicU64::new(n)).collect();
        let limit = 1 + dice.roll(40);
        if round % 2 == 0 {
            failing.fail(Fault::new(libc::EIO).on_changes().from(dice.roll(120)));
        }
        let barrier = Barrier::new(THREADS as usize + 1);
        let (after, sure) = std::thread::scope(|scope| {
            for t in 0..THREADS {
                let (store, base, acknowledged, barrier) = (&store, &base, &acknowledged, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let told = &acknowledged[t as usize];
                    let first = told.load(Ordering::Acquire) + 1;
                    for n in first..first + limit {
                        if !commit(store, base, t, n) {
                            return;
                        }
                        told.store(n, Ordering::Release);
                    }
                });
            }
            barrier.wait();
            if dice.roll(2) == 0 {
                let _ = store.compact(None);
            }
            // What was told before the cut must be there after it.
            let sure: Vec<u64> = acknowledged
                .iter()
                .map(|told| told.load(Ordering::Acquire))
                .collect();
            (disk.crash(dice.roll(1 << 30)), sure)
        });
        drop(store);
        // Cut in the middle of the work, or when all has come to rest.
        let sure = if dice.roll(2) == 0 {
            disk = after;
            sure
        } else {
            disk = disk.crash(dice.roll(1 << 30));
            acknowledged
                .iter()
                .map(|told| told.load(Ordering::Acquire))
                .collect()
        };
        let reopened = open(Arc::new(disk.clone()), 1 << 20);
        from = reached(&reopened);
        for (t, (&found, &sure)) in from.iter().zip(&sure).enumerate() {
            assert!(found >= sure, "round {round}: thread {t} lost {found} to {sure}");
        }
        assert!(reopened.verify().unwrap().is_sound(), "round {round}");
        total = from.iter().sum();
    }
    assert!(total > 1_000, "{total}");
}
