//! Filters: what they mean, where they are used, and that no index changes an answer.

mod everywhere;
mod meaning;
mod search;

use serde_json::Value;
use stratal::{Collection, Database, Document, Element, Filter, Id};

fn database() -> (tempfile::TempDir, Database) {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    (home, db)
}

fn collection(db: &Database) -> Collection {
    db.collection("c")
        .vectors(2, ["v"], Element::F32)
        .open_or_create()
        .unwrap()
}

fn document(id: impl Into<Id>, metadata: Value) -> Document {
    Document::new(id).vector([1.0, 0.0]).metadata(metadata)
}

fn ids(c: &Collection, filter: impl Into<Filter>) -> Vec<String> {
    let snapshot = c.snapshot().unwrap();
    let found = snapshot.iter_where(filter).unwrap();
    let mut ids: Vec<String> = found.map(|found| found.unwrap().id().to_string()).collect();
    ids.sort();
    ids
}

/// A repeatable sequence of numbers.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}
