//! Random histories: what was acknowledged is there after any power cut, whole and in order.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use stratal_storage::vfs::{CrashVfs, FailingVfs, Fault, Vfs};
use stratal_storage::{Batch, Error, Snapshot, Store, StoreOptions};

use crate::model::{Dice, World, generation, id};

const HISTORIES: u64 = 10_000;
const SESSIONS: u64 = 3;
const STEPS_MAX: u64 = 14;
const FOLDER: &str = "/data/db";

fn options(vfs: Arc<dyn Vfs>, dice: &mut Dice) -> StoreOptions {
    StoreOptions {
        vfs,
        create: true,
        background: false,
        // Sometimes every commit flushes.
        memory_budget: if dice.roll(8) == 0 { 1 } else { 1 << 20 },
        ..StoreOptions::default()
    }
}

/// One history: the disk, what each commit left, and how far commits are acknowledged.
struct History {
    seed: u64,
    dice: Dice,
    vfs: CrashVfs,
    /// The world after commit `n`, for each commit that was tried.
    worlds: Vec<World>,
    acknowledged: usize,
    created: bool,
    values: u32,
}

/// What a session does next.
enum Outcome {
    GoOn,
    Stopped,
}

impl History {
    fn new(seed: u64) -> History {
        let vfs = CrashVfs::new();
        vfs.create_folder(Path::new("/data")).unwrap();
        vfs.sync_folder(Path::new("/")).unwrap();
        History {
            seed,
            dice: Dice::new(seed),
            vfs,
            worlds: vec![World::default()],
            acknowledged: 0,
            created: false,
            values: 0,
        }
    }

    fn run(&mut self) {
        for _ in 0..SESSIONS {
            self.session();
            if self.dice.roll(3) > 0 {
                let cut = self.dice.roll(1 << 30);
                self.vfs = self.vfs.crash(cut);
            }
        }
        let last = self.open(Arc::new(self.vfs.clone()));
        let store = last.unwrap_or_else(|error| panic!("history {}: {error}", self.seed));
        let verification = store.verify().unwrap();
        assert!(verification.is_sound(), "history {}: {verification:?}", self.seed);
    }

    /// Opens, and holds what is there against the model.
    fn open(&mut self, vfs: Arc<dyn Vfs>) -> Result<Store, Error> {
        let mut options = options(vfs, &mut self.dice);
        options.create = !self.created;
        let store = Store::open(Path::new(FOLDER), options)?;
        self.created = true;
        let snapshot = store.snapshot();
        let seq = snapshot.seq() as usize;
        let seed = self.seed;
        assert!(
            seq >= self.acknowledged,
            "history {seed}: lost commits after {seq}"
        );
        assert!(
            seq < self.worlds.len(),
            "history {seed}: commit {seq} was never made"
        );
        assert_eq!(
            World::read(&snapshot),
            self.worlds[seq],
            "history {seed}, commit {seq}"
        );
        // What was read is built upon, so it must stay.
        self.acknowledged = seq;
        self.worlds.truncate(seq + 1);
        Ok(store)
    }

    fn session(&mut self) {
        let failing = FailingVfs::new(Arc::new(self.vfs.clone()));
        let fault = Fault::new(if self.dice.roll(2) == 0 {
            libc::EIO
        } else {
            libc::ENOSPC
        })
        .on_changes()
        .short_write(self.dice.roll(600) as usize);
        match self.dice.roll(4) {
            0 => {}
            1 => failing.fail(fault.nth(self.dice.roll(60))),
            _ => failing.fail(fault.from(self.dice.roll(60))),
        }
        let store = match self.open(Arc::new(failing.clone())) {
            Ok(store) => store,
            Err(Error::Io { .. } | Error::NoSpace { .. } | Error::Poisoned { .. }) if failing.hits() > 0 => {
                return;
            }
            Err(error) => panic!("history {}: {error}", self.seed),
        };
        let mut held: Vec<(Snapshot, World)> = Vec::new();
        for _ in 0..self.dice.roll(STEPS_MAX) {
            match self.step(&store, &mut held, &failing) {
                Outcome::GoOn => {}
                Outcome::Stopped => break,
            }
            let shown = store.snapshot();
            assert_eq!(shown.seq() as usize, self.acknowledged, "history {}", self.seed);
        }
        for (snapshot, world) in &held {
            assert_eq!(
                World::read(snapshot),
                *world,
                "history {}: a held snapshot changed",
                self.seed
            );
        }
        if self.dice.roll(4) == 0 {
            let closed = store.close();
            assert!(
                closed.is_ok() || failing.hits() > 0,
                "history {}: {closed:?}",
                self.seed
            );
        }
    }

    fn step(&mut self, store: &Store, held: &mut Vec<(Snapshot, World)>, failing: &FailingVfs) -> Outcome {
        let result = match self.dice.roll(20) {
            0..=11 => return self.commit(store, failing),
            12 | 13 => return self.create_collection(store, failing),
            14 | 15 => store.checkpoint(),
            16 => store.compact(None),
            17 => {
                held.push((store.snapshot(), self.worlds[self.acknowledged].clone()));
                Ok(())
            }
            18 => {
                self.read_beside();
                Ok(())
            }
            _ => {
                assert_eq!(World::read(&store.snapshot()), self.worlds[self.acknowledged]);
                Ok(())
            }
        };
        self.judge(result.err(), failing)
    }

    fn judge(&self, error: Option<Error>, failing: &FailingVfs) -> Outcome {
        match error {
            None => Outcome::GoOn,
            Some(Error::Io { .. } | Error::NoSpace { .. } | Error::Poisoned { .. }) if failing.hits() > 0 => {
                if self.seed.is_multiple_of(2) {
                    Outcome::GoOn
                } else {
                    Outcome::Stopped
                }
            }
            Some(error) => panic!("history {}: {error}", self.seed),
        }
    }

    /// A reader beside the writer sees what is acknowledged.
    fn read_beside(&mut self) {
        let mut options = options(Arc::new(self.vfs.clone()), &mut self.dice);
        options.create = false;
        options.read_only = true;
        let reader = Store::open(Path::new(FOLDER), options).unwrap();
        let snapshot = reader.snapshot();
        let seq = snapshot.seq() as usize;
        assert!(seq >= self.acknowledged, "history {}: a reader lags", self.seed);
        assert_eq!(World::read(&snapshot), self.worlds[seq], "history {}", self.seed);
    }

    fn commit(&mut self, store: &Store, failing: &FailingVfs) -> Outcome {
        let mut world = self.worlds[self.acknowledged].clone();
        let mut batch = Batch::new();
        let names: Vec<String> = world.collections.keys().cloned().collect();
        let value = self.dice.roll(1_000);
        if names.is_empty() || self.dice.roll(10) == 0 {
            world.set(&mut batch, &format!("key{}", value % 3), value);
        }
        for _ in 0..self.dice.roll(5) {
            let Some(name) = names.get(self.dice.roll(4) as usize) else {
                continue;
            };
            if !world.collections.contains_key(name) {
                continue;
            }
            let id = id(self.dice.roll(12));
            match self.dice.roll(10) {
                0..=2 => world.delete(&mut batch, name, id),
                3 if self.dice.roll(6) == 0 => world.drop_collection(&mut batch, name),
                _ => {
                    self.values += 1;
                    world.put(&mut batch, name, id, self.values);
                }
            }
        }
        let result = store.commit(batch).map(|committed| committed.seq);
        self.committed(result, world, failing)
    }

    fn create_collection(&mut self, store: &Store, failing: &FailingVfs) -> Outcome {
        let mut world = self.worlds[self.acknowledged].clone();
        let name = format!("c{}", self.dice.roll(3));
        let result = store.create_collection(&name, json!({}), vec![generation()]);
        if world.collections.contains_key(&name) {
            assert!(matches!(
                result,
                Err(Error::CollectionExists { .. } | Error::Poisoned { .. })
            ));
            return Outcome::GoOn;
        }
        // Numbers are given in order and never again; one that was not acknowledged is a guess.
        let next = || {
            self.worlds
                .iter()
                .flat_map(|world| world.collections.values())
                .max()
                .map_or(1, |max| max + 1)
        };
        let number = result.as_ref().map_or_else(|_| next(), |number| *number);
        world.collections.insert(name, number);
        let seq = store.snapshot().seq();
        self.committed(result.map(|_| seq), world, failing)
    }

    fn committed(&mut self, result: Result<u64, Error>, world: World, failing: &FailingVfs) -> Outcome {
        match result {
            Ok(seq) => {
                let seq = seq as usize;
                if seq == self.acknowledged {
                    assert_eq!(
                        world, self.worlds[seq],
                        "history {}: a commit vanished",
                        self.seed
                    );
                } else {
                    assert_eq!(seq, self.acknowledged + 1, "history {}", self.seed);
                    self.worlds.truncate(seq);
                    self.worlds.push(world);
                    self.acknowledged = seq;
                }
                Outcome::GoOn
            }
            Err(error) => {
                if !matches!(error, Error::Poisoned { .. }) && self.worlds.len() == self.acknowledged + 1 {
                    // It may be on the disk all the same, whole.
                    self.worlds.push(world);
                }
                self.judge(Some(error), failing)
            }
        }
    }
}

#[test]
fn ten_thousand_histories_of_faults_and_power_cuts_lose_nothing_acknowledged() {
    let next = AtomicU64::new(0);
    let histories = std::env::var("STRATAL_HISTORIES").map_or(HISTORIES, |text| text.parse().unwrap());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= histories {
                        return;
                    }
                    History::new(seed).run();
                }
            });
        }
    });
}
