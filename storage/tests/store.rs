//! What a store promises to the engine above it, on the simulated file system.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use stratal_storage::vfs::{CrashVfs, Vfs};
use stratal_storage::{
    Batch, Element, Error, Expect, GenerationSpec, Id, Layout, Store, StoreOptions, Vectors,
};

fn options(vfs: &Arc<dyn Vfs>) -> StoreOptions {
    StoreOptions {
        vfs: Arc::clone(vfs),
        create: true,
        background: false,
        ..StoreOptions::default()
    }
}

fn generation() -> GenerationSpec {
    let layout = Layout {
        generation: 1,
        dimension: 2,
        layers: 2,
        element: Element::F32,
    };
    GenerationSpec {
        layout,
        attributes: Value::Null,
    }
}

fn vectors(x: f32) -> Vec<Vectors> {
    let bytes: Vec<u8> = [x, 1.0, -x, 2.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    vec![Vectors {
        generation: 1,
        bytes: Arc::from(bytes),
    }]
}

struct Fixture {
    vfs: Arc<dyn Vfs>,
    store: Store,
    number: u32,
    name: Arc<str>,
}

impl Fixture {
    fn new() -> Fixture {
        let vfs: Arc<dyn Vfs> = Arc::new(CrashVfs::default());
        let store = Store::open(Path::new("/db"), options(&vfs)).unwrap();
        let number = store
            .create_collection("notes", json!({}), vec![generation()])
            .unwrap();
        Fixture {
            vfs,
            store,
            number,
            name: Arc::from("notes"),
        }
    }

    fn put(&self, id: &str, x: f32, expect: Expect) -> Result<u64, Error> {
        let mut batch = Batch::new();
        let payload = Arc::from(format!("payload of {id} {x}").into_bytes());
        batch.put(
            (self.number, &self.name),
            Id::from(id),
            expect,
            payload,
            vectors(x),
        );
        self.store.commit(batch).map(|committed| committed.seq)
    }

    fn delete(&self, id: &str) -> u64 {
        let mut batch = Batch::new();
        batch.delete((self.number, &self.name), Id::from(id), None);
        self.store.commit(batch).unwrap().deleted
    }

    fn reopen(self) -> Fixture {
        let Fixture {
            vfs,
            store,
            number,
            name,
        } = self;
        drop(store);
        let store = Store::open(Path::new("/db"), options(&vfs)).unwrap();
        Fixture {
            vfs,
            store,
            number,
            name,
        }
    }

    fn payload(&self, id: &str) -> Option<String> {
        let snapshot = self.store.snapshot();
        let collection = snapshot.collection("notes").unwrap();
        let row = collection.find(&Id::from(id)).unwrap()?;
        Some(String::from_utf8(row.part.payload(row.row).unwrap().into_owned()).unwrap())
    }

    fn count(&self) -> u64 {
        self.store.snapshot().collection("notes").unwrap().count()
    }
}

#[test]
fn what_was_committed_is_there_after_reopening_flushing_and_compacting() {
    let mut fixture = Fixture::new();
    for n in 0..300 {
        fixture.put(&format!("d{n}"), n as f32, Expect::Absent).unwrap();
    }
    for n in 0..100 {
        fixture.put(&format!("d{n}"), 0.5, Expect::Any).unwrap();
    }
    for n in 100..150 {
        assert_eq!(fixture.delete(&format!("d{n}")), 1);
    }
    for step in 0..4 {
        assert_eq!(fixture.count(), 250, "step {step}");
        assert_eq!(fixture.payload("d7").unwrap(), "payload of d7 0.5");
        assert_eq!(fixture.payload("d200").unwrap(), "payload of d200 200");
        assert_eq!(fixture.payload("d120"), None);
        assert!(
            fixture.store.verify().unwrap().is_sound(),
            "{:?}",
            fixture.store.verify()
        );
        match step {
            0 => fixture = fixture.reopen(),
            1 => fixture.store.checkpoint().unwrap(),
            2 => fixture.store.compact(None).unwrap(),
            _ => fixture = fixture.reopen(),
        }
    }
    let statistics = fixture.store.statistics().unwrap();
    assert_eq!(statistics.collections[0].deleted_rows, 0);
    assert_eq!(statistics.collections[0].segments, 1);
}

#[test]
fn a_rule_that_does_not_hold_leaves_everything_as_it_was() {
    let fixture = Fixture::new();
    let version = fixture.put("a", 1.0, Expect::Absent).unwrap();
    assert!(matches!(
        fixture.put("a", 2.0, Expect::Absent),
        Err(Error::DocumentExists { .. })
    ));
    let wrong = fixture.put("a", 2.0, Expect::Version(version + 1));
    assert!(matches!(wrong, Err(Error::VersionConflict { found: Some(found), .. }) if found == version));
    let missing = fixture.put("b", 2.0, Expect::Version(1));
    assert!(matches!(missing, Err(Error::VersionConflict { found: None, .. })));
    assert_eq!(fixture.payload("a").unwrap(), "payload of a 1");
    assert!(fixture.put("a", 3.0, Expect::Version(version)).unwrap() > version);
    let mut batch = Batch::new();
    let target = (fixture.number, &fixture.name);
    batch.put(target, Id::from("x"), Expect::Absent, Arc::from([]), vectors(1.0));
    batch.put(target, Id::from("a"), Expect::Absent, Arc::from([]), vectors(1.0));
    assert!(fixture.store.commit(batch).is_err());
    assert_eq!(fixture.count(), 1, "no half of a transaction");
}

#[test]
fn a_transaction_sees_its_own_steps_in_order() {
    let fixture = Fixture::new();
    let target = (fixture.number, &fixture.name);
    let put = |batch: &mut Batch, id: &str, expect| {
        batch.put(target, Id::from(id), expect, Arc::from([]), vectors(1.0));
    };
    let mut batch = Batch::new();
    put(&mut batch, "a", Expect::Absent);
    put(&mut batch, "a", Expect::Any);
    batch.delete(target, Id::from("a"), None);
    put(&mut batch, "b", Expect::Absent);
    batch.delete(target, Id::from("b"), None);
    put(&mut batch, "b", Expect::Absent);
    let committed = fixture.store.commit(batch).unwrap();
    assert_eq!(
        (committed.inserted, committed.replaced, committed.deleted),
        (1, 0, 0)
    );
    assert_eq!(fixture.count(), 1);
    let mut twice = Batch::new();
    put(&mut twice, "c", Expect::Absent);
    put(&mut twice, "c", Expect::Absent);
    assert!(matches!(
        fixture.store.commit(twice),
        Err(Error::DocumentExists { .. })
    ));
}

#[test]
fn a_snapshot_stays_as_it_was_whatever_happens_after() {
    let fixture = Fixture::new();
    for n in 0..50 {
        fixture.put(&format!("d{n}"), n as f32, Expect::Absent).unwrap();
    }
    let snapshot = fixture.store.snapshot();
    for n in 0..50 {
        fixture.delete(&format!("d{n}"));
    }
    fixture.store.checkpoint().unwrap();
    fixture.store.compact(None).unwrap();
    let Fixture { store, .. } = fixture;
    drop(store);
    let collection = snapshot.collection("notes").unwrap();
    assert_eq!(collection.count(), 50);
    let row = collection.find(&Id::from("d3")).unwrap().unwrap();
    assert_eq!(row.part.payload(row.row).unwrap().as_ref(), b"payload of d3 3");
}

#[test]
fn a_reader_beside_the_writer_follows_commits_and_checkpoints() {
    let fixture = Fixture::new();
    fixture.put("a", 1.0, Expect::Any).unwrap();
    let read_only = StoreOptions {
        read_only: true,
        create: false,
        ..options(&fixture.vfs)
    };
    let reader = Store::open(Path::new("/db"), read_only).unwrap();
    assert_eq!(reader.snapshot().collection("notes").unwrap().count(), 1);
    for n in 0..40 {
        fixture.put(&format!("n{n}"), 1.0, Expect::Any).unwrap();
        if n % 10 == 9 {
            fixture.store.checkpoint().unwrap();
        }
        if n % 3 == 0 {
            assert!(reader.refresh().unwrap());
            assert_eq!(reader.snapshot().collection("notes").unwrap().count(), n + 2);
        }
    }
    fixture.store.compact(None).unwrap();
    reader.refresh().unwrap();
    assert_eq!(reader.snapshot().collection("notes").unwrap().count(), 41);
    assert!(matches!(reader.commit(Batch::new()), Err(Error::ReadOnly)));
}

#[test]
fn the_catalog_is_kept_by_a_clean_close_alone_and_only_at_the_commit_it_was_closed_at() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let open = || {
        Store::open(
            &path,
            StoreOptions {
                create: true,
                ..StoreOptions::default()
            },
        )
        .unwrap()
    };

    let store = open();
    store.catalog().unwrap().put("sources", "a.md", b"1").unwrap();
    store.close().unwrap();
    drop(store);

    let store = open();
    let catalog = store.catalog().unwrap();
    assert!(!catalog.is_new());
    assert_eq!(
        catalog.get("sources", "a.md").unwrap().as_deref(),
        Some(&b"1"[..])
    );
    drop(catalog);
    store.close().unwrap();
    drop(store);

    // A commit that the catalog was not there to hear of.
    let store = open();
    store
        .create_collection("notes", json!({}), vec![generation()])
        .unwrap();
    store.close().unwrap();
    drop(store);
    let store = open();
    assert!(store.catalog().unwrap().is_new());
    // Dropped without a close, as by a kill.
    drop(store);
    let store = open();
    assert!(store.catalog().unwrap().is_new());
    assert_eq!(
        store.snapshot().collections().count(),
        1,
        "the documents do not depend on it"
    );
    drop(store);

    // Deleted, and overwritten with what was never sled's.
    std::fs::remove_dir_all(path.join("catalog")).unwrap();
    open().close().unwrap();
    std::fs::create_dir_all(path.join("catalog/sled")).unwrap();
    std::fs::write(path.join("catalog/sled/db"), vec![0xa5; 70_000]).unwrap();
    let store = open();
    assert!(store.catalog().unwrap().is_new());
    store.close().unwrap();
    let read_only = StoreOptions {
        read_only: true,
        ..StoreOptions::default()
    };
    assert!(matches!(
        Store::open(&path, read_only).unwrap().catalog(),
        Err(Error::ReadOnly)
    ));
}
