//! Files of other format versions.

use std::fs;
use std::path::{Path, PathBuf};

use stratal_storage::{Error, Store, StoreOptions};
use xxhash_rust::xxh3::xxh3_64;

use crate::database::*;

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Gives a file another major version and makes its checksums right.
fn set_major(path: &Path, major: u16) {
    let mut bytes = fs::read(path).unwrap();
    let at = if bytes.starts_with(b"STRATSEG") { 12 } else { 8 };
    bytes[at..at + 2].copy_from_slice(&major.to_le_bytes());
    match &bytes[..8] {
        b"STRATSEG" => {
            let sum = xxh3_64(&bytes[..4088]);
            put_u64(&mut bytes, 4088, sum);
            let footer = bytes.len() - 64;
            put_u64(&mut bytes, footer + 16, sum);
            let sum = xxh3_64(&bytes[footer..footer + 56]);
            put_u64(&mut bytes, footer + 56, sum);
        }
        b"STRATDEL" => {
            let sum = xxh3_64(&bytes[..64]);
            put_u64(&mut bytes, 64, sum);
        }
        b"STRATMAN" => {
            let sum = xxh3_64(&bytes[..32]);
            put_u64(&mut bytes, 32, sum);
        }
        b"STRATWAL" => {
            let sum = crc32fast::hash(&bytes[..60]);
            bytes[60..64].copy_from_slice(&sum.to_le_bytes());
        }
        other => panic!("{other:?}"),
    }
    fs::write(path, bytes).unwrap();
}

fn ending(folder: &Path, ending: &str) -> PathBuf {
    let mut found = names(folder)
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with(ending));
    found.next().unwrap_or_else(|| panic!("there is a {ending}"))
}

/// B14
#[test]
fn files_of_another_format_are_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = open(&path);
    create(&store, "a");
    put(&store, "a", 0..50, 0).unwrap();
    store.checkpoint().unwrap();
    delete(&store, "a", 0..5).unwrap();
    store.checkpoint().unwrap();
    put(&store, "a", 50..60, 0).unwrap();
    drop(store);
    for file in ["MANIFEST", ".doc", ".vec", ".del", ".wal"].map(|name| ending(&path, name)) {
        let whole = fs::read(&file).unwrap();
        let newest = if file.ends_with("MANIFEST") { 2 } else { 1 };
        for major in [0, newest + 1] {
            set_major(&file, major);
            let before = files(&path);
            for options in [
                options(),
                read_only(),
                StoreOptions {
                    create: false,
                    ..options()
                },
            ] {
                match Store::open(&path, options) {
                    Err(error @ Error::Version { .. }) => {
                        let text = error.to_string();
                        assert!(text.contains(file.to_str().unwrap()), "{text}");
                        assert!(
                            text.contains(&format!("{major}.0")) && text.contains(&format!("{newest}.0")),
                            "{text}"
                        );
                    }
                    other => panic!("{} of version {major}: {:?}", file.display(), other.err()),
                }
                assert!(files(&path) == before, "nothing is written");
            }
        }
        fs::write(&file, whole).unwrap();
    }
    let store = open(&path);
    assert_eq!(contents(&store, "a"), expected(5..60, 0));
}

/// B17
#[test]
fn lengths_in_heads_are_bounded_before_they_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "a");
    put(&store, "a", 0..50, 0).unwrap();
    store.checkpoint().unwrap();
    put(&store, "a", 50..60, 0).unwrap();
    drop(store);
    let manifest = folder.path().join("MANIFEST");
    let whole = fs::read(&manifest).unwrap();
    for length in [0, 1, 1 << 40, u64::MAX] {
        let mut lying = whole.clone();
        put_u64(&mut lying, 16, length);
        let sum = xxh3_64(&lying[..32]);
        put_u64(&mut lying, 32, sum);
        fs::write(&manifest, lying).unwrap();
        assert!(matches!(
            Store::open(folder.path(), options()),
            Err(Error::Corrupt { .. })
        ));
    }
    fs::write(&manifest, whole).unwrap();
    // The first frame of the log: its length and its number of commits.
    let log = ending(&folder.path().join("wal"), ".wal");
    let whole = fs::read(&log).unwrap();
    for (at, value) in [(4, u32::MAX), (4, 1 << 30), (8, u32::MAX), (8, 0)] {
        let mut lying = whole.clone();
        lying[4096 + at..4096 + at + 4].copy_from_slice(&value.to_le_bytes());
        let number = u64::from_str_radix(log.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        let mut summed = number.to_le_bytes().to_vec();
        summed.extend_from_slice(&lying[4096..4096 + 28]);
        let sum = crc32fast::hash(&summed);
        lying[4096 + 28..4096 + 32].copy_from_slice(&sum.to_le_bytes());
        fs::write(&log, lying).unwrap();
        // It is either damage or a torn tail that was never acknowledged; never a panic or a huge allocation.
        match Store::open(folder.path(), read_only()) {
            Ok(store) => assert_eq!(contents(&store, "a"), expected(0..50, 0)),
            Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
        }
    }
    fs::write(&log, whole).unwrap();
    assert_eq!(contents(&open(folder.path()), "a"), expected(0..60, 0));
}

/// A database as format 1.0 wrote it, kept for ever: flushed documents, deletions, and commits in the log.
fn kept_database() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1.0")
}

fn kept_contents() -> Contents {
    let mut contents = expected(3..20, 0);
    contents.extend(expected(18..24, 1));
    contents
}

/// B14
#[test]
fn a_database_of_format_1_0_opens() {
    let kept = kept_database();
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in files(&kept) {
        let copy = folder.path().join(path.strip_prefix(&kept).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(copy, bytes).unwrap();
    }
    let reader = Store::open(folder.path(), read_only()).unwrap();
    assert_eq!(contents(&reader, "kept"), kept_contents());
    let store = open(folder.path());
    assert_eq!(store.opened().replayed, 1);
    assert_sound(&store);
    assert_eq!(contents(&store, "kept"), kept_contents());
    put(&store, "kept", 100..110, 0).unwrap();
    store.compact(None).unwrap();
    drop(store);
    assert_eq!(contents(&open(folder.path()), "kept").len(), 31);
}

/// Writes the kept database. Only for a new format version, into a folder of its own.
#[test]
#[ignore = "writes a fixture: run by hand for a new format version"]
fn write_the_kept_database() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "kept");
    put(&store, "kept", 0..20, 0).unwrap();
    store.checkpoint().unwrap();
    delete(&store, "kept", 0..3).unwrap();
    store.checkpoint().unwrap();
    put(&store, "kept", 18..24, 1).unwrap();
    drop(store);
    for (path, mut bytes) in files(folder.path()) {
        if path.ends_with("LOCK") {
            continue;
        }
        if path.extension().is_some_and(|ending| ending == "wal") {
            // Without the zeros that a log file is filled with ahead.
            while bytes.ends_with(&[0; 8]) {
                bytes.truncate(bytes.len() - 8);
            }
        }
        let copy = kept_database().join(path.strip_prefix(folder.path()).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(copy, bytes).unwrap();
    }
}
