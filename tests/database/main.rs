//! What the engine promises to the program that links it, with vectors of the caller's own.

mod answers;
mod documents;
mod sharing;

use stratal::{Collection, Database, Element};

fn database() -> (tempfile::TempDir, Database) {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    (home, db)
}

fn plane(db: &Database, name: &str, dimension: usize) -> Collection {
    db.collection(name)
        .vectors(dimension, ["v"], Element::F32)
        .create()
        .unwrap()
}

fn ids(hits: &[stratal::Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

/// A repeatable sequence of values in -1..1.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
