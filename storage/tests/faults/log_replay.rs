//! Reopening without a clean close: the log alone brings everything back.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use stratal_storage::Store;

use crate::database::*;

/// B09
#[test]
fn documents_written_just_before_a_drop_find_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let background = || stratal_storage::StoreOptions {
        background: true,
        ..options()
    };
    let store = Store::open(folder.path(), background()).unwrap();
    create(&store, "a");
    for number in 0..500 {
        put(&store, "a", [number], 0).unwrap();
    }
    drop(store);
    let store = Store::open(folder.path(), background()).unwrap();
    assert_eq!(contents(&store, "a"), expected(0..500, 0));
    put(&store, "a", 500..2000, 0).unwrap();
    drop(store);
    let store = Store::open(folder.path(), background()).unwrap();
    assert_eq!(contents(&store, "a"), expected(0..2000, 0));
}

/// B13, as it was reported
#[test]
fn a_collection_dropped_and_made_again_in_one_log_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "c");
    put(&store, "c", [1], 0).unwrap();
    delete(&store, "c", [1]).unwrap();
    put(&store, "c", [2], 0).unwrap();
    drop_collection(&store, "c").unwrap();
    store
        .create_collection("c", Value::Null, vec![generation(5)])
        .unwrap();
    put(&store, "c", [3], 0).unwrap();
    drop(store);
    for _ in 0..2 {
        let store = open(folder.path());
        let read = contents(&store, "c");
        assert_eq!(
            read.into_values().collect::<Vec<_>>(),
            [(payload(3, 0), vector(5, 3))]
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8, u32),
    Drop(u8),
    Put(u8, u64, u64),
    Delete(u8, u64, u64),
    Checkpoint,
    Compact,
    Reopen,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0u8..3;
    prop_oneof![
        2 => (name.clone(), 1u32..6).prop_map(|(name, dimension)| Step::Create(name, dimension)),
        1 => name.clone().prop_map(Step::Drop),
        5 => (name.clone(), 0u64..20, 1u64..9).prop_map(|(name, first, count)| Step::Put(name, first, count)),
        2 => (name, 0u64..20, 1u64..9).prop_map(|(name, first, count)| Step::Delete(name, first, count)),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Compact),
        2 => Just(Step::Reopen),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// B13: any order of schema changes, rows and reopenings gives what a plain map gives.
    #[test]
    fn any_list_of_changes_is_replayed_to_the_same_state(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = quick_folder();
        let mut store = open(folder.path());
        let mut model: BTreeMap<String, (u32, Contents)> = BTreeMap::new();
        for (round, step) in (0u64..).zip(steps) {
            match step {
                Step::Create(name, dimension) => {
                    let name = name.to_string();
                    let created = store.create_collection(&name, Value::Null, vec![generation(dimension)]);
                    prop_assert_eq!(created.is_ok(), !model.contains_key(&name));
                    model.entry(name).or_insert((dimension, Contents::new()));
                }
                Step::Drop(name) => {
                    let dropped = drop_collection(&store, &name.to_string());
                    prop_assert_eq!(dropped.is_ok(), model.remove(&name.to_string()).is_some());
                }
                Step::Put(name, first, count) => {
                    let name = name.to_string();
                    let done = put(&store, &name, first..first + count, round);
                    prop_assert_eq!(done.is_ok(), model.contains_key(&name));
                    if let Some((dimension, documents)) = model.get_mut(&name) {
                        for number in first..first + count {
                            let document = (payload(number, round), vector(*dimension, number + round * 1_000_003));
                            documents.insert(number.into(), document);
                        }
                    }
                }
                Step::Delete(name, first, count) => {
                    let done = delete(&store, &name.to_string(), first..first + count);
                    if let Some((_, documents)) = model.get_mut(&name.to_string()) {
                        let before = documents.len();
                        documents.retain(|id, _| !(first..first + count).any(|number| *id == number.into()));
                        prop_assert_eq!(done.unwrap().deleted, (before - documents.len()) as u64);
                    }
                }
                Step::Checkpoint => store.checkpoint().unwrap(),
                Step::Compact => store.compact(None).unwrap(),
                Step::Reopen => {
                    drop(store);
                    store = open(folder.path());
                }
                Step::Close => {
                    store.close().unwrap();
                    drop(store);
                    store = open(folder.path());
                }
            }
            let names: Vec<String> = store.snapshot().collections().map(|collection| collection.name().to_string()).collect();
            prop_assert_eq!(names.len(), model.len());
            for (name, (_, documents)) in &model {
                prop_assert_eq!(&contents(&store, name), documents);
            }
        }
        assert_sound(&store);
        drop(store);
        // Replayed twice, the second time by a reader.
        let twice = [open(folder.path()), Store::open(folder.path(), read_only()).unwrap()];
        for store in twice {
            for (name, (_, documents)) in &model {
                prop_assert_eq!(&contents(&store, name), documents);
            }
        }
    }
}
