//! Other processes: this test program starts itself again with a task.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use stratal_storage::Store;

use crate::database::*;

const TASK: &str = "STRATAL_TEST_TASK";
const FOLDER: &str = "STRATAL_TEST_FOLDER";

/// Starts a process that runs a task of [`child`] on a folder.
pub fn start(task: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::child", "--nocapture"])
        .env(TASK, task)
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until a child has made a file, which holds a number.
pub fn wait_for(path: &Path, child: &mut Child, at_least: u64) -> u64 {
    let start = Instant::now();
    loop {
        let number = std::fs::read_to_string(path)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        if let Some(number) = number.filter(|&number| number >= at_least) {
            return number;
        }
        assert!(child.try_wait().unwrap().is_none(), "the child ended early");
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the child does nothing"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Not a test of its own: what the started processes do.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let folder = std::path::PathBuf::from(std::env::var_os(FOLDER).unwrap());
    match &*task {
        "write" => write_until_killed(&folder),
        "descriptors" => crate::descriptors::with_few_descriptors(&folder),
        "memory" => crate::space::with_memory_measured(&folder),
        other => panic!("{other}"),
    }
}

/// Commits one document after the other and tells, beside the database, how many are acknowledged.
fn write_until_killed(folder: &Path) {
    let store = open(&folder.join("db"));
    if store.snapshot().collection("a").is_err() {
        create(&store, "a");
    }
    let first = store.snapshot().collection("a").unwrap().count();
    for number in first.. {
        put(&store, "a", [number], 0).unwrap();
        std::fs::write(folder.join("told.tmp"), (number + 1).to_string()).unwrap();
        std::fs::rename(folder.join("told.tmp"), folder.join("told")).unwrap();
        if number % 40 == 39 {
            store.checkpoint().unwrap();
        }
        if number % 100 == 99 {
            store.compact(None).unwrap();
        }
    }
}

/// B97
#[test]
fn a_second_writer_is_refused_by_any_path_and_the_first_is_unharmed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut child = start("write", folder.path());
    wait_for(&folder.path().join("told"), &mut child, 5);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let detour = folder.path().join("./db/../db/.");
    for path in [&path, &link, &detour] {
        match Store::open(path, options()) {
            Err(error @ stratal_storage::Error::Locked { .. }) => {
                assert!(error.to_string().contains(&child.id().to_string()), "{error}");
            }
            other => panic!("{:?}", other.err()),
        }
    }
    let told = wait_for(&folder.path().join("told"), &mut child, 60);
    let reader = Store::open(&path, read_only()).unwrap();
    assert!(reader.snapshot().collection("a").unwrap().count() >= told);
    let told = wait_for(&folder.path().join("told"), &mut child, told + 60);
    reader.refresh().unwrap();
    assert!(reader.snapshot().collection("a").unwrap().count() >= told);
    child.kill().unwrap();
    child.wait().unwrap();
    let told = wait_free_read(&folder.path().join("told"));
    let store = open(&path);
    assert_sound(&store);
    assert!(contents(&store, "a").len() as u64 >= told);

    // And twice in one process.
    for path in [&path, &link] {
        assert!(matches!(
            Store::open(path, options()),
            Err(stratal_storage::Error::Locked { .. })
        ));
    }
    put(&store, "a", 0..10, 1).unwrap();
    assert_sound(&store);
}

fn wait_free_read(path: &Path) -> u64 {
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// B99
#[test]
fn a_killed_writer_leaves_nothing_that_keeps_the_next_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = 0;
    for round in 0..100 {
        let mut child = start("write", folder.path());
        told = wait_for(&folder.path().join("told"), &mut child, told + 1 + round % 7);
        child.kill().unwrap();
        child.wait().unwrap();
        told = told.max(wait_free_read(&folder.path().join("told")));
        let store = open(&folder.path().join("db"));
        let count = store.snapshot().collection("a").unwrap().count();
        assert!(
            count == told || count == told + 1,
            "{count} documents after {told} were acknowledged"
        );
        if round % 10 == 0 {
            assert_eq!(contents(&store, "a"), expected(0..count, 0));
        }
        told = count;
        if round % 20 == 0 {
            assert_sound(&store);
        }
        // Dropped without closing, and opened once more.
        drop(store);
        drop(open(&folder.path().join("db")));
    }
}
