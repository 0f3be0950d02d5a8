//! What follows from a segment can go missing, be damaged or be in the making: nothing depends on it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use stratal_storage::{
    CompanionKind, CompanionWriter, Derive, Error, Part, Result, Segment, SegmentCompanions, Store,
    StoreOptions,
};

use crate::database::*;

const CODES: CompanionKind = CompanionKind::Codes { generation: 0 };
const GRAPH: CompanionKind = CompanionKind::Graph { generation: 0 };
const FILTER: CompanionKind = CompanionKind::Filter;

fn segments(store: &Store) -> Vec<Arc<Segment>> {
    let snapshot = store.snapshot();
    let collection = snapshot.collection("a").unwrap();
    let parts = collection.parts().iter();
    parts
        .filter_map(|live| match live.part() {
            Part::Segment(segment) => Some(Arc::clone(segment)),
            Part::Memory(_) => None,
        })
        .collect()
}

fn fill(text: &str) -> impl FnOnce(&mut CompanionWriter<'_>) -> Result<()> {
    move |writer| {
        writer.add(1, 0, text.as_bytes())?;
        writer.start(1, 7)?;
        writer.push(&vec![7; 200_000])?;
        writer.push(&[8])
    }
}

fn filled(path: &Path) -> Store {
    let store = open(path);
    create(&store, "a");
    put(&store, "a", 0..50, 0).unwrap();
    store.checkpoint().unwrap();
    store
}

fn companion_files(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.join("segments")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            [".codes", ".graph", ".filter", ".tmp"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_companion_lives_as_long_as_its_segment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = filled(&path);
    let segment = segments(&store).pop().unwrap();
    let before = segment.disk_bytes();
    for kind in [CODES, GRAPH, FILTER] {
        assert!(segment.companion(kind).is_none());
        let written = store
            .companions_of(&segment)
            .unwrap()
            .write(kind, 3, fill("first"))
            .unwrap();
        assert_eq!(written.version(), 3);
    }
    assert!(segment.disk_bytes() > before + 600_000, "they count");
    assert_sound(&store);
    store.close().unwrap();
    drop(store);

    let store = open(&path);
    let segment = segments(&store).pop().unwrap();
    for kind in [CODES, GRAPH, FILTER] {
        let companion = segment.companion(kind).unwrap();
        assert_eq!(companion.section(1, 0).unwrap(), b"first");
        assert_eq!(companion.section_bytes(1, 7), Some(200_001));
        assert_eq!(companion.read(1, 7, 199_999..200_001).unwrap(), [7, 8]);
        assert!(companion.section_bytes(2, 0).is_none());
        assert!(matches!(companion.section(2, 0), Err(Error::Corrupt { .. })));
        assert!(companion.read(1, 0, 3..9).is_err());
    }
    let held = {
        let companions = store.companions_of(&segment).unwrap();
        let held = segment.companion(GRAPH).unwrap();
        companions.write(GRAPH, 4, fill("second")).unwrap();
        held
    };
    let companion = segment.companion(GRAPH).unwrap();
    assert_eq!(
        (companion.version(), companion.section(1, 0).unwrap()),
        (4, &b"second"[..])
    );

    put(&store, "a", 0..50, 1).unwrap();
    store.compact(None).unwrap();
    assert_eq!(
        companion_files(&path),
        Vec::<String>::new(),
        "they went with their segment"
    );
    assert_eq!(
        held.section(1, 0).unwrap(),
        b"first",
        "a reader keeps what it holds"
    );
    assert_eq!(contents(&store, "a"), expected(0..50, 1));
    // A build that outlives its segment leaves nothing either.
    store
        .companions_of(&segment)
        .unwrap()
        .write(GRAPH, 1, fill("late"))
        .unwrap();
    put(&store, "a", 0..1, 2).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(companion_files(&path), Vec::<String>::new());
}

#[test]
fn a_sweep_leaves_companions_alone_that_are_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = filled(&path);
    let segment = segments(&store).pop().unwrap();
    let companions = store.companions_of(&segment).unwrap();
    let companion = companions
        .write(GRAPH, 1, |writer| {
            writer.add(1, 0, b"begun")?;
            put(&store, "a", 50..60, 0).unwrap();
            store.checkpoint()?;
            let twice = store.companions_of(&segment)?.write(GRAPH, 1, fill("twice"));
            assert!(matches!(twice, Err(Error::Invalid { .. })), "one at a time");
            writer.add(2, 0, b"ended")
        })
        .unwrap();
    put(&store, "a", 60..70, 0).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(companion.section(2, 0).unwrap(), b"ended");
    assert_eq!(companion_files(&path).len(), 1);
    let failed = companions.write(FILTER, 1, |writer| {
        writer.add(1, 0, b"half")?;
        Err(Error::Invalid {
            what: "enough".to_owned(),
        })
    });
    assert!(failed.is_err());
    assert_eq!(companion_files(&path).len(), 1, "what failed leaves nothing");
    companions.remove(GRAPH).unwrap();
    companions.remove(GRAPH).unwrap();
    assert!(segment.companion(GRAPH).is_none());
    assert_eq!(companion_files(&path).len(), 0);
}

#[test]
fn damage_of_a_companion_never_reaches_the_documents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = filled(&path);
    let segment = segments(&store).pop().unwrap();
    store
        .companions_of(&segment)
        .unwrap()
        .write(GRAPH, 1, fill("sound"))
        .unwrap();
    let file = segment.companion(GRAPH).unwrap().path().to_owned();
    let whole = fs::read(&file).unwrap();
    store.close().unwrap();
    drop((store, segment));
    let page = 4096 + 4096 + 70_000;
    for (what, bytes) in [
        ("a page", {
            let mut bytes = whole.clone();
            bytes[page] ^= 1;
            bytes
        }),
        ("the header", {
            let mut bytes = whole.clone();
            bytes[70] ^= 1;
            bytes
        }),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("empty", Vec::new()),
        (
            "another file",
            fs::read(path.join("segments/0000000000000001.doc")).unwrap(),
        ),
    ] {
        fs::write(&file, &bytes).unwrap();
        for options in [read_only(), options()] {
            let store = Store::open(&path, options).unwrap();
            assert_eq!(contents(&store, "a"), expected(0..50, 0), "{what}");
            let segment = segments(&store).pop().unwrap();
            match segment.companion(GRAPH) {
                Some(companion) => {
                    assert!(!store.verify().unwrap().is_sound(), "{what} is found by verify");
                    assert!(matches!(companion.section(1, 7), Err(Error::Corrupt { .. })));
                    assert!(segment.companion(GRAPH).is_none(), "and is not given out again");
                    assert!(!segment.is_quarantined());
                }
                None => assert_ne!(what, "a page"),
            }
            if store.is_read_only() {
                continue;
            }
            let companions = store.companions_of(&segment).unwrap();
            companions.write(GRAPH, 1, fill("anew")).unwrap();
            assert_eq!(segment.companion(GRAPH).unwrap().section(1, 0).unwrap(), b"anew");
            assert_sound(&store);
        }
    }
}

#[test]
fn one_that_follows_from_another_segment_is_left_out_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = filled(&path);
    let segment = segments(&store).pop().unwrap();
    store
        .companions_of(&segment)
        .unwrap()
        .write(FILTER, 1, fill("old"))
        .unwrap();
    let file = segment.companion(FILTER).unwrap().path().to_owned();
    let other = folder.path().join("other");
    let stranger = open(&other);
    create(&stranger, "a");
    put(&stranger, "a", 0..50, 9).unwrap();
    stranger.checkpoint().unwrap();
    let theirs = segments(&stranger).pop().unwrap();
    stranger
        .companions_of(&theirs)
        .unwrap()
        .write(FILTER, 1, fill("theirs"))
        .unwrap();
    let theirs = theirs.companion(FILTER).unwrap().path().to_owned();
    store.close().unwrap();
    fs::copy(theirs, &file).unwrap();
    let store = open(&path);
    assert!(segments(&store).pop().unwrap().companion(FILTER).is_none());
    assert!(!file.exists());
    assert_eq!(contents(&store, "a"), expected(0..50, 0));
}

struct Maker {
    calls: AtomicU64,
    fails: bool,
}

impl Derive for Maker {
    fn derive(
        &self,
        companions: &SegmentCompanions<'_>,
        attributes: &Value,
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert_eq!(attributes, &Value::Null);
        let rows = companions.segment().rows();
        companions.write(CODES, 1, |writer| {
            writer.add(1, 0, &rows.to_le_bytes())?;
            match self.fails {
                true => Err(Error::Invalid {
                    what: "no".to_owned(),
                }),
                false => Ok(()),
            }
        })?;
        Ok(())
    }
}

#[test]
fn new_segments_come_with_what_follows_from_them() {
    for fails in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let maker = Arc::new(Maker {
            calls: AtomicU64::new(0),
            fails,
        });
        let with_maker = StoreOptions {
            derive: Some(maker.clone()),
            ..options()
        };
        let store = Store::open(&path, with_maker).unwrap();
        create(&store, "a");
        put(&store, "a", 0..50, 0).unwrap();
        store.checkpoint().unwrap();
        put(&store, "a", 50..60, 0).unwrap();
        let reader = Store::open(&path, read_only()).unwrap();
        store.compact(None).unwrap();
        assert!(maker.calls.load(Ordering::Relaxed) >= 2);
        reader.refresh().unwrap();
        for store in [&store, &reader] {
            let segment = segments(store).pop().unwrap();
            assert_eq!(segment.rows(), 60);
            match segment.companion(CODES) {
                Some(companion) => assert_eq!(companion.section(1, 0).unwrap(), 60u32.to_le_bytes()),
                None => assert!(fails),
            }
        }
        assert_eq!(contents(&store, "a"), expected(0..60, 0));
        assert_eq!(companion_files(&path).len(), usize::from(!fails));
    }
}
