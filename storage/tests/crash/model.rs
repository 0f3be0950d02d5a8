//! What a store ought to hold: plain maps, one for every commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use stratal_storage::{Batch, Element, Expect, GenerationSpec, Id, Layout, Snapshot, Vectors};

/// A deterministic stream of small numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        // PCG's multiplier and increment (O'Neill 2014); the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Collection name, id → the number that payload and vectors are made from.
pub type Documents = BTreeMap<(String, Id), u32>;

/// All that one commit leaves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub collections: BTreeMap<String, u32>,
    pub documents: Documents,
    pub settings: BTreeMap<String, u64>,
}

pub fn generation() -> GenerationSpec {
    GenerationSpec {
        layout: Layout {
            generation: 1,
            dimension: 3,
            layers: 2,
            element: Element::F32,
        },
        attributes: Value::Null,
    }
}

pub fn payload(n: u32) -> Vec<u8> {
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.resize(4 + n as usize % 97, n as u8);
    bytes
}

pub fn vector(n: u32, layer: u32) -> Vec<u8> {
    let component = |c: u32| (n as f32 + layer as f32 * 0.5) * (c + 1) as f32;
    (0..3).flat_map(|c| component(c).to_le_bytes()).collect()
}

pub fn id(n: u64) -> Id {
    if n.is_multiple_of(2) {
        Id::from(n)
    } else {
        Id::from(format!("t{n}"))
    }
}

impl World {
    /// Adds a put to the batch and carries it out here.
    pub fn put(&mut self, batch: &mut Batch, collection: &str, id: Id, n: u32) {
        let name: Arc<str> = Arc::from(collection);
        let bytes: Vec<u8> = (0..2).flat_map(|layer| vector(n, layer)).collect();
        let vectors = vec![Vectors {
            generation: 1,
            bytes: Arc::from(bytes),
        }];
        let target = (self.collections[collection], &name);
        batch.put(target, id.clone(), Expect::Any, Arc::from(payload(n)), vectors);
        self.documents.insert((collection.to_owned(), id), n);
    }

    /// Adds a deletion to the batch and carries it out here.
    pub fn delete(&mut self, batch: &mut Batch, collection: &str, id: Id) {
        let name: Arc<str> = Arc::from(collection);
        batch.delete((self.collections[collection], &name), id.clone(), None);
        self.documents.remove(&(collection.to_owned(), id));
    }

    /// Adds a drop to the batch and carries it out here.
    pub fn drop_collection(&mut self, batch: &mut Batch, collection: &str) {
        let name: Arc<str> = Arc::from(collection);
        batch.drop_collection((self.collections[collection], &name));
        self.collections.remove(collection);
        self.documents.retain(|(of, _), _| of != collection);
    }

    /// Adds a setting to the batch and carries it out here.
    pub fn set(&mut self, batch: &mut Batch, key: &str, value: u64) {
        batch.set(key, json!(value));
        self.settings.insert(key.to_owned(), value);
    }

    /// What a snapshot holds, every byte of it looked at.
    pub fn read(snapshot: &Snapshot) -> World {
        let mut world = World::default();
        for collection in snapshot.collections() {
            let name = collection.name().to_string();
            world.collections.insert(name.clone(), collection.number());
            let mut rows = 0;
            for row in collection.rows() {
                rows += 1;
                let id = row.part.id(row.row).unwrap();
                let bytes = row.part.payload(row.row).unwrap();
                let n = u32::from_le_bytes(bytes[..4].try_into().unwrap());
                assert_eq!(bytes.as_ref(), payload(n), "payload of {id}");
                for layer in 0..2 {
                    let found = row.part.vector(1, layer, row.row).unwrap();
                    assert_eq!(found, vector(n, layer), "layer {layer} of {id}");
                }
                let twice = world.documents.insert((name.clone(), id.clone()), n);
                assert_eq!(twice, None, "{id} is there twice");
                let place = collection.find(&id).unwrap().unwrap();
                assert!(place.part.is_same(&row.part) && place.row == row.row);
            }
            assert_eq!(collection.count(), rows);
        }
        for (key, value) in snapshot.settings("") {
            world.settings.insert(key.to_owned(), value.as_u64().unwrap());
        }
        world
    }
}
