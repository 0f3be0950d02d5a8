//! Generations: vectors of another encoder come beside the old ones, answer from one commit on, and go again,
//! while documents come, change and go, and the power fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use stratal_storage::vfs::{CrashVfs, Vfs};
use stratal_storage::{
    Batch, Element, Error, Expect, GenerationSpec, Id, Layout, Part, Store, StoreOptions, Vectors,
};

const NAME: &str = "notes";

fn layout(generation: u32) -> Layout {
    // Each generation has a shape of its own, so that a mix-up is seen.
    Layout {
        generation,
        dimension: 1 + generation % 3,
        layers: 1 + generation % 2,
        element: Element::F32,
    }
}

fn vectors(generation: u32, value: u32) -> Vectors {
    let layout = layout(generation);
    let components = layout.dimension * layout.layers;
    let bytes: Vec<u8> = (0..components)
        .flat_map(|at| ((generation * 1_000_000 + value * 10 + at) as f32).to_le_bytes())
        .collect();
    Vectors {
        generation,
        bytes: Arc::from(bytes),
    }
}

struct Fixture {
    vfs: CrashVfs,
    store: Store,
    name: Arc<str>,
    documents: BTreeMap<u32, u32>,
    current: u32,
}

fn open(vfs: &CrashVfs) -> Store {
    let options = StoreOptions {
        vfs: Arc::new(vfs.clone()) as Arc<dyn Vfs>,
        create: true,
        background: false,
        ..StoreOptions::default()
    };
    Store::open(Path::new("/db"), options).unwrap()
}

impl Fixture {
    fn new() -> Fixture {
        let vfs = CrashVfs::default();
        let store = open(&vfs);
        let spec = GenerationSpec {
            layout: layout(1),
            attributes: json!("first"),
        };
        assert_eq!(store.create_collection(NAME, Value::Null, vec![spec]).unwrap(), 1);
        Fixture {
            vfs,
            store,
            name: Arc::from(NAME),
            documents: BTreeMap::new(),
            current: 1,
        }
    }

    fn put(&mut self, id: u32, value: u32) {
        let mut batch = Batch::new();
        let payload: Arc<[u8]> = Arc::from(value.to_le_bytes());
        let given = vec![vectors(self.current, value)];
        batch.put(
            (1, &self.name),
            Id::from(u64::from(id)),
            Expect::Any,
            payload,
            given,
        );
        self.store.commit(batch).unwrap();
        self.documents.insert(id, value);
    }

    fn delete(&mut self, id: u32) {
        let mut batch = Batch::new();
        batch.delete((1, &self.name), Id::from(u64::from(id)), None);
        self.store.commit(batch).unwrap();
        self.documents.remove(&id);
    }

    fn add_generation(&mut self) -> u32 {
        let next = self.store.snapshot().collection(NAME).unwrap().next_generation();
        let mut batch = Batch::new();
        batch.add_generation((1, &self.name), layout(next), json!(next));
        self.store.commit(batch).unwrap();
        next
    }

    /// Gives rows of the first segment that lacks the generation their vectors, so many at most.
    fn fill(&self, generation: u32, rows: u32) -> bool {
        let Some(mut filling) = self.store.fill(1, generation).unwrap() else {
            return false;
        };
        let segment = Arc::clone(filling.segment());
        let end = segment.rows().min(filling.done().saturating_add(rows));
        let part = Part::Segment(segment);
        for row in filling.done()..end {
            let value = u32::from_le_bytes(part.payload(row).unwrap()[..].try_into().unwrap());
            filling.push(&vectors(generation, value).bytes).unwrap();
        }
        if filling.done() == filling.segment().rows() {
            filling.finish().unwrap();
        }
        true
    }

    /// Gives documents in memory their vectors and asks for the cutover in one commit.
    fn cut_over(&mut self, generation: u32) -> Result<(), Error> {
        let snapshot = self.store.snapshot().collection(NAME).unwrap();
        let mut batch = Batch::new();
        for row in snapshot.rows() {
            let in_memory = matches!(row.part, Part::Memory(_));
            if in_memory
                && row
                    .part
                    .layouts()
                    .iter()
                    .all(|layout| layout.generation != generation)
            {
                let value = u32::from_le_bytes(row.part.payload(row.row).unwrap()[..].try_into().unwrap());
                let (id, version) = (row.part.id(row.row).unwrap(), row.part.version(row.row).unwrap());
                batch.add_vectors((1, &self.name), id, version, vec![vectors(generation, value)]);
            }
        }
        batch.set_current((1, &self.name), generation);
        self.store.commit(batch)?;
        self.current = generation;
        Ok(())
    }

    fn crash(&mut self) {
        let after = self.vfs.crash(7);
        // The old store must not touch the new disk.
        self.vfs = after;
        self.store = open(&self.vfs);
    }

    fn check(&self) {
        let snapshot = self.store.snapshot().collection(NAME).unwrap();
        assert_eq!(snapshot.count(), self.documents.len() as u64);
        assert_eq!(snapshot.current().unwrap().layout, layout(self.current));
        assert_eq!(snapshot.lacking(self.current), 0);
        let mut seen = BTreeMap::new();
        for row in snapshot.rows() {
            let value = u32::from_le_bytes(row.part.payload(row.row).unwrap()[..].try_into().unwrap());
            let Id::Number(id) = row.part.id(row.row).unwrap() else {
                panic!("ids are numbers");
            };
            assert!(seen.insert(id as u32, value).is_none());
            for layout in row.part.layouts() {
                let mut bytes = Vec::new();
                for layer in 0..layout.layers {
                    bytes.extend_from_slice(row.part.vector(layout.generation, layer, row.row).unwrap());
                }
                assert_eq!(
                    bytes,
                    &*vectors(layout.generation, value).bytes,
                    "of document {id}"
                );
            }
        }
        assert_eq!(seen, self.documents);
        let verification = self.store.verify().unwrap();
        assert!(verification.is_sound(), "{:?}", verification.problems);
    }

    fn spools(&self) -> usize {
        let entries = self.vfs.list(Path::new("/db/segments")).unwrap();
        entries
            .iter()
            .filter(|entry| entry.name.ends_with(".spool"))
            .count()
    }
}

#[test]
fn a_generation_is_filled_answers_is_kept_and_goes() {
    let mut fixture = Fixture::new();
    for id in 0..40 {
        fixture.put(id, id);
    }
    fixture.store.checkpoint().unwrap();
    let held = fixture.store.snapshot().collection(NAME).unwrap();
    let second = fixture.add_generation();
    assert!(matches!(
        fixture.cut_over(second),
        Err(Error::Incomplete { missing: 40, .. })
    ));
    assert!(fixture.fill(second, 15));
    assert_eq!(fixture.spools(), 15);
    // What comes meanwhile.
    fixture.put(3, 300);
    fixture.put(100, 100);
    fixture.delete(4);
    fixture.check();
    fixture.crash();
    fixture.check();
    assert_eq!(
        fixture.store.fill(1, second).unwrap().unwrap().done(),
        15,
        "it goes on where it was"
    );
    while fixture.fill(second, 1000) {}
    assert_eq!(fixture.spools(), 0);
    fixture.put(101, 101);
    fixture.check();
    fixture.crash();
    fixture.cut_over(second).unwrap();
    fixture.check();
    assert_eq!(
        held.current().unwrap().layout,
        layout(1),
        "a snapshot stays what it is"
    );
    assert!(held.rows().all(|row| row.part.vector(1, 0, row.row).is_ok()));
    let mut batch = Batch::new();
    let payload: Arc<[u8]> = Arc::from(1u32.to_le_bytes());
    batch.put(
        (1, &fixture.name),
        Id::from(1u64),
        Expect::Any,
        payload,
        vec![vectors(1, 1)],
    );
    assert!(matches!(
        fixture.store.commit(batch),
        Err(Error::StaleGeneration { current: 2, .. })
    ));
    // Documents since then lack the old generation: going back means filling it.
    fixture.put(200, 200);
    fixture.cut_over(1).unwrap();
    fixture.check();
    fixture.cut_over(second).unwrap();
    fixture.store.compact(None).unwrap();
    fixture.check();
    assert!(
        fixture.store.drop_generation((1, &fixture.name), second).is_err(),
        "it answers"
    );
    assert!(fixture.store.drop_generation((1, &fixture.name), 9).is_err());
    fixture.store.drop_generation((1, &fixture.name), 1).unwrap();
    let entries = fixture.vfs.list(Path::new("/db/segments")).unwrap();
    assert!(
        entries.iter().all(|entry| !entry.name.contains("-g1.")),
        "{entries:?}"
    );
    fixture.check();
    fixture.crash();
    fixture.check();
    assert_eq!(fixture.add_generation(), 3, "no number is given twice");
    fixture.crash();
    fixture.check();
}

#[test]
fn a_damaged_spool_is_made_again_and_a_stranger_is_not_taken_for_one() {
    let mut fixture = Fixture::new();
    for id in 0..10 {
        fixture.put(id, id);
    }
    fixture.store.checkpoint().unwrap();
    let second = fixture.add_generation();
    fixture.fill(second, 5);
    let path = Path::new("/db/segments").join("0000000000000001-g2-00000002.spool");
    let mut bytes = fixture.vfs.read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fixture.vfs.remove(&path).unwrap();
    let file = fixture.vfs.create(&path).unwrap();
    file.write_at(&bytes, 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(fixture.store.fill(1, second).unwrap().unwrap().done(), 2);
    fixture.fill(second, 100);
    fixture.cut_over(second).unwrap();
    fixture.check();
    // Spools of a generation that went are swept.
    let third = fixture.add_generation();
    fixture.fill(third, 5);
    assert_eq!(fixture.spools(), 5);
    fixture.store.drop_generation((1, &fixture.name), third).unwrap();
    assert_eq!(fixture.spools(), 0);
    let mut filling = fixture.store.fill(1, 1).unwrap();
    assert!(filling.is_none(), "every segment has it");
    let fourth = fixture.add_generation();
    filling = fixture.store.fill(1, fourth).unwrap();
    let mut filling = filling.unwrap();
    assert!(filling.push(&[1, 2, 3]).is_err());
    assert!(filling.push(&[]).is_err());
    assert!(fixture.store.fill(1, fourth).is_err(), "one at a time");
    assert!(fixture.store.fill(1, 77).is_err());
    assert!(fixture.store.fill(7, 1).is_err());
    fixture.store.compact(None).unwrap();
    drop(filling);
    fixture.check();
}

#[test]
fn a_reader_beside_the_writer_follows_across_the_cutover() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let writer = Store::open(
        &path,
        StoreOptions {
            create: true,
            background: false,
            ..StoreOptions::default()
        },
    )
    .unwrap();
    let spec = GenerationSpec {
        layout: layout(1),
        attributes: Value::Null,
    };
    writer.create_collection(NAME, Value::Null, vec![spec]).unwrap();
    let name: Arc<str> = Arc::from(NAME);
    let put = |id: u64, generation: u32| {
        let mut batch = Batch::new();
        let given = vec![vectors(generation, id as u32)];
        batch.put(
            (1, &name),
            Id::from(id),
            Expect::Any,
            Arc::from((id as u32).to_le_bytes()),
            given,
        );
        writer.commit(batch).unwrap();
    };
    (0..20).for_each(|id| put(id, 1));
    writer.checkpoint().unwrap();
    let reader = Store::open(
        &path,
        StoreOptions {
            read_only: true,
            ..StoreOptions::default()
        },
    )
    .unwrap();
    let mut batch = Batch::new();
    batch.add_generation((1, &name), layout(2), Value::Null);
    writer.commit(batch).unwrap();
    reader.refresh().unwrap();
    let mut filling = writer.fill(1, 2).unwrap().unwrap();
    for row in 0..20 {
        filling.push(&vectors(2, row).bytes).unwrap();
    }
    filling.finish().unwrap();
    let mut batch = Batch::new();
    batch.set_current((1, &name), 2);
    writer.commit(batch).unwrap();
    put(20, 2);
    reader.refresh().unwrap();
    let snapshot = reader.snapshot().collection(NAME).unwrap();
    assert_eq!(snapshot.current().unwrap().layout.generation, 2);
    assert_eq!((snapshot.count(), snapshot.lacking(2)), (21, 0));
    writer.drop_generation((1, &name), 1).unwrap();
    reader.refresh().unwrap();
    assert_eq!(reader.snapshot().collection(NAME).unwrap().generations().len(), 1);
    assert!(reader.verify().unwrap().is_sound());
}

#[derive(Clone, Debug)]
enum Step {
    Put(u32, u32),
    Delete(u32),
    Add,
    Fill(usize, u32),
    CutOver(usize),
    Drop(usize),
    Checkpoint,
    Compact,
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u32, 0..1000u32).prop_map(|(id, value)| Step::Put(id, value)),
        2 => (0..12u32).prop_map(Step::Delete),
        1 => Just(Step::Add),
        4 => (0..4usize, 1..9u32).prop_map(|(which, rows)| Step::Fill(which, rows)),
        3 => (0..4usize).prop_map(Step::CutOver),
        1 => (0..4usize).prop_map(Step::Drop),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_steps_leaves_every_document_with_the_right_vectors(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut fixture = Fixture::new();
        for step in steps {
            let generations: Vec<u32> = {
                let snapshot = fixture.store.snapshot().collection(NAME).unwrap();
                snapshot.generations().iter().map(|spec| spec.layout.generation).collect()
            };
            let pick = |which: usize| generations[which % generations.len()];
            match step {
                Step::Put(id, value) => fixture.put(id, value),
                Step::Delete(id) => fixture.delete(id),
                Step::Add if generations.len() < 4 => drop(fixture.add_generation()),
                Step::Add => {}
                Step::Fill(which, rows) => drop(fixture.fill(pick(which), rows)),
                Step::CutOver(which) => match fixture.cut_over(pick(which)) {
                    Ok(()) | Err(Error::Incomplete { .. }) => {}
                    Err(error) => panic!("{error}"),
                },
                Step::Drop(which) if pick(which) != fixture.current => {
                    fixture.store.drop_generation((1, &fixture.name), pick(which)).unwrap();
                }
                Step::Drop(_) => {}
                Step::Checkpoint => fixture.store.checkpoint().unwrap(),
                Step::Compact => fixture.store.compact(None).unwrap(),
                Step::Reopen => {
                    fixture.store.close().unwrap();
                    fixture.store = open(&fixture.vfs);
                }
                Step::Crash => fixture.crash(),
            }
            fixture.check();
        }
    }
}
