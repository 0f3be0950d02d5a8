//! A database in a temporary folder, its documents, and what reading should give.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use stratal_storage::{
    Batch, Committed, Element, Expect, GenerationSpec, Id, Layout, Result, Store, StoreOptions, Vectors,
};

/// A folder in memory, where the system has such, for tests that sync thousands of times.
pub fn quick_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match tempfile::tempdir_in(memory) {
        Ok(folder) => folder,
        Err(_) => tempfile::tempdir().unwrap(),
    }
}

/// Documents by id: payload and vector.
pub type Contents = BTreeMap<Id, (Vec<u8>, Vec<u8>)>;

pub const DIMENSION: u32 = 16;

/// Writes happen when the test says so, as far as they can.
pub fn options() -> StoreOptions {
    StoreOptions {
        create: true,
        background: false,
        ..StoreOptions::default()
    }
}

pub fn read_only() -> StoreOptions {
    StoreOptions {
        read_only: true,
        ..StoreOptions::default()
    }
}

pub fn open(path: &Path) -> Store {
    Store::open(path, options()).unwrap()
}

pub fn generation(dimension: u32) -> GenerationSpec {
    GenerationSpec {
        layout: Layout {
            generation: 0,
            dimension,
            layers: 1,
            element: Element::F32,
        },
        attributes: Value::Null,
    }
}

pub fn create(store: &Store, name: &str) {
    store
        .create_collection(name, Value::Null, vec![generation(DIMENSION)])
        .unwrap();
}

/// The bytes of a vector that no other number has.
pub fn vector(dimension: u32, number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 - 8e6
    };
    (0..dimension).flat_map(|_| next().to_le_bytes()).collect()
}

pub fn payload(number: u64, round: u64) -> Vec<u8> {
    format!("document {number} as written in round {round}").into_bytes()
}

/// A batch that puts documents, one a number.
pub fn puts(store: &Store, name: &str, numbers: impl IntoIterator<Item = u64>, round: u64) -> Result<Batch> {
    let collection = store.snapshot().collection(name)?;
    let dimension = collection.generations()[0].layout.dimension;
    let mut batch = Batch::new();
    for number in numbers {
        let vectors = Vectors {
            generation: 0,
            bytes: Arc::from(vector(dimension, number + round * 1_000_003)),
        };
        let payload = Arc::from(payload(number, round));
        batch.put(
            (collection.number(), collection.name()),
            Id::from(number),
            Expect::Any,
            payload,
            vec![vectors],
        );
    }
    Ok(batch)
}

pub fn put(
    store: &Store,
    name: &str,
    numbers: impl IntoIterator<Item = u64>,
    round: u64,
) -> Result<Committed> {
    store.commit(puts(store, name, numbers, round)?)
}

pub fn delete(store: &Store, name: &str, numbers: impl IntoIterator<Item = u64>) -> Result<Committed> {
    let collection = store.snapshot().collection(name)?;
    let mut batch = Batch::new();
    for number in numbers {
        batch.delete((collection.number(), collection.name()), Id::from(number), None);
    }
    store.commit(batch)
}

pub fn drop_collection(store: &Store, name: &str) -> Result<Committed> {
    let collection = store.snapshot().collection(name)?;
    let mut batch = Batch::new();
    batch.drop_collection((collection.number(), collection.name()));
    store.commit(batch)
}

pub fn expected(numbers: impl IntoIterator<Item = u64>, round: u64) -> Contents {
    let document = |number| {
        (
            payload(number, round),
            vector(DIMENSION, number + round * 1_000_003),
        )
    };
    numbers
        .into_iter()
        .map(|number| (Id::from(number), document(number)))
        .collect()
}

/// Every document of a collection, each of which finds itself by its id.
pub fn contents(store: &Store, name: &str) -> Contents {
    let collection = store.snapshot().collection(name).unwrap();
    let mut contents = Contents::new();
    for row in collection.rows() {
        let id = row.part.id(row.row).unwrap();
        let found = collection.find(&id).unwrap().unwrap();
        assert!(
            found.row == row.row && found.part.is_same(&row.part),
            "{id} finds itself"
        );
        let payload = row.part.payload(row.row).unwrap().into_owned();
        let vector = row.part.vector(0, 0, row.row).unwrap().to_vec();
        assert!(contents.insert(id, (payload, vector)).is_none(), "no id twice");
    }
    assert_eq!(collection.count(), contents.len() as u64);
    contents
}

pub fn assert_sound(store: &Store) {
    let verification = store.verify().unwrap();
    assert!(verification.is_sound(), "{:?}", verification.problems);
}

/// Every file below a folder with its contents.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => drop(files.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    files
}

/// Bytes of all files below a folder.
pub fn folder_bytes(folder: &Path) -> u64 {
    files(folder).values().map(|bytes| bytes.len() as u64).sum()
}

pub fn names(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_keys().collect()
}
