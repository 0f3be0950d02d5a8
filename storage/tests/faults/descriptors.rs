//! Few file descriptors.

use std::path::Path;

use stratal_storage::{Error, Store};

use crate::database::*;
use crate::processes;

fn limit_descriptors(limit: u64) {
    let limits = libc::rlimit {
        rlim_cur: limit,
        rlim_max: 4096,
    };
    // SAFETY: the pointer is to a live struct of the type that the call reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limits) }, 0);
}

/// B110
#[test]
fn many_collections_and_flushes_need_few_descriptors() {
    let folder = quick_folder();
    let mut child = processes::start("descriptors", folder.path());
    assert!(child.wait().unwrap().success());
}

pub fn with_few_descriptors(folder: &Path) {
    limit_descriptors(256);
    let path = folder.join("db");
    let store = open(&path);
    let names: Vec<String> = (0..100).map(|number| format!("collection {number}")).collect();
    for name in &names {
        create(&store, name);
    }
    for flush in 0..20 {
        for name in &names {
            put(&store, name, flush * 3..flush * 3 + 3, 0).unwrap();
        }
        store.checkpoint().unwrap();
    }
    for name in &names {
        assert_eq!(contents(&store, name), expected(0..60, 0));
    }
    // At the very limit: no descriptor is left.
    let mut taken = Vec::new();
    let error = loop {
        match std::fs::File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    let tried = [
        store.checkpoint(),
        put(&store, &names[0], 60..61, 0).map(drop),
        store.checkpoint(),
        store.compact(None),
        Store::open(&path, read_only()).map(drop),
    ];
    for error in tried.into_iter().filter_map(Result::err) {
        assert!(
            matches!(error, Error::OutOfHandles { .. } | Error::Poisoned { .. }),
            "{error}"
        );
    }
    for name in &names[1..] {
        assert_eq!(contents(&store, name), expected(0..60, 0), "reading needs none");
    }
    drop(taken);
    drop(store);
    let store = open(&path);
    put(&store, &names[0], 60..62, 0).unwrap();
    assert_eq!(contents(&store, &names[0]), expected(0..62, 0));
    store.compact(None).unwrap();
    assert_sound(&store);
}
