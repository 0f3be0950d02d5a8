//! kill -9 on a real folder: this test program starts itself again as the writer, and kills it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use stratal_storage::{Batch, Error, Store, StoreOptions};

use crate::model::{Dice, World, generation, id};

const FOLDER: &str = "STRATAL_KILL_FOLDER";
const MODE: &str = "STRATAL_KILL_MODE";
const ROUNDS: u64 = 48;

/// The batch of commit `seq`, and what it makes of the world before it. Commit 1 creates the collection.
fn commit(world: &mut World, seq: u64) -> Batch {
    let mut batch = Batch::new();
    for n in [seq * 7, seq * 11 + 3] {
        world.put(&mut batch, "notes", id(n % 60), seq as u32);
    }
    if seq.is_multiple_of(3) {
        world.delete(&mut batch, "notes", id(seq * 13 % 60));
    }
    world.set(&mut batch, "last", seq);
    batch
}

/// The worlds after each commit, made as far as they are asked for.
struct Worlds(Vec<World>);

impl Worlds {
    fn after(&mut self, seq: u64) -> &World {
        while self.0.len() as u64 <= seq {
            let next = self.0.len() as u64;
            let mut world = self.0[next as usize - 1].clone();
            if next == 1 {
                world.collections.insert("notes".into(), 1);
            } else {
                commit(&mut world, next);
            }
            self.0.push(world);
        }
        &self.0[seq as usize]
    }
}

fn options(mode: u64) -> StoreOptions {
    StoreOptions {
        create: true,
        // By turns: flushing by the thread all the time, by the committer, or only when asked.
        background: mode.is_multiple_of(2),
        memory_budget: if mode < 2 { 16 << 10 } else { 64 << 20 },
        lock_wait: Duration::from_secs(5),
        ..StoreOptions::default()
    }
}

/// Not a test of its own: the writer, which tells every commit that is acknowledged.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let mode: u64 = std::env::var(MODE).unwrap().parse().unwrap();
    let mut out = std::io::stdout();
    let store = Store::open(&folder, options(mode)).unwrap();
    let mut world = World::read(&store.snapshot());
    let mut seq = store.snapshot().seq();
    loop {
        seq += 1;
        if seq == 1 {
            store
                .create_collection("notes", json!({}), vec![generation()])
                .unwrap();
            world.collections.insert("notes".into(), 1);
        } else {
            let committed = store.commit(commit(&mut world, seq)).unwrap();
            assert_eq!(committed.seq, seq);
        }
        writeln!(out, "\nacknowledged {seq}").unwrap();
        out.flush().unwrap();
        if mode > 0 && seq.is_multiple_of(23) {
            store.checkpoint().unwrap();
        }
        if mode > 0 && seq.is_multiple_of(57) {
            store.compact(None).unwrap();
        }
    }
}

/// Killed when it goes out of scope, also when the test fails.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the writer for a while and kills it; the last commit that it told. `beside` is called meanwhile.
fn run_and_kill(folder: &Path, mode: u64, time: Duration, mut beside: impl FnMut(u64)) -> u64 {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture"])
        .env(FOLDER, folder)
        .env(MODE, mode.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writer = Writer(child);
    let told = Arc::new(AtomicU64::new(0));
    let lines = BufReader::new(writer.0.stdout.take().unwrap());
    let hearing = std::thread::spawn({
        let told = Arc::clone(&told);
        move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(seq) = line.strip_prefix("acknowledged ") {
                    told.store(seq.parse().unwrap(), Ordering::Release);
                }
            }
        }
    });
    let end = Instant::now() + time;
    while Instant::now() < end {
        beside(told.load(Ordering::Acquire));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(
        writer.0.try_wait().unwrap().is_none(),
        "the writer ended by itself"
    );
    drop(writer);
    hearing.join().unwrap();
    told.load(Ordering::Acquire)
}

fn reader(folder: &Path) -> Option<Store> {
    let options = StoreOptions {
        read_only: true,
        create: false,
        ..options(0)
    };
    match Store::open(folder, options) {
        Ok(store) => Some(store),
        Err(Error::NoDatabase { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

// B69 (for storage), B99
#[test]
fn a_writer_killed_at_any_moment_loses_nothing_and_leaves_no_lock() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("db");
    let mut worlds = Worlds(vec![World::default()]);
    let mut dice = Dice::new(42);
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mode = dice.roll(4);
        // Short ones die while opening.
        let time = Duration::from_millis(if dice.roll(3) == 0 {
            dice.roll(12)
        } else {
            20 + dice.roll(150)
        });
        let mut beside = None;
        let told = run_and_kill(&folder, mode, time, |told| {
            if beside.is_none() {
                beside = reader(&folder);
            } else if let Some(store) = &beside {
                store.refresh().unwrap();
            }
            if let Some(store) = &beside {
                let snapshot = store.snapshot();
                assert!(
                    snapshot.seq() >= told,
                    "round {round}: a refresh misses commit {told}"
                );
                assert_eq!(
                    World::read(&snapshot),
                    *worlds.after(snapshot.seq()),
                    "round {round}, beside"
                );
            }
        });
        acknowledged = told.max(acknowledged);
        let store = Store::open(&folder, options(mode)).unwrap();
        let snapshot = store.snapshot();
        let seq = snapshot.seq();
        assert!(
            seq >= acknowledged,
            "round {round}: lost commits {seq} to {acknowledged}"
        );
        assert_eq!(
            World::read(&snapshot),
            *worlds.after(seq),
            "round {round}, commit {seq}"
        );
        let verification = store.verify().unwrap();
        assert!(verification.is_sound(), "round {round}: {verification:?}");
        assert!(store.opened().foreign.is_empty(), "{:?}", store.opened().foreign);
        acknowledged = seq;
    }
    assert!(acknowledged > 100, "the writer got nowhere: {acknowledged}");
}
