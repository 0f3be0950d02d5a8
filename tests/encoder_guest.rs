//! An encoder is a good guest: it leaves rayon's global pool alone. A file of its own, since the pool is the process's.

#![cfg(feature = "encoder")]

use std::path::Path;

use stratal::encoder::{EncodeOptions, Encoder, Passage};

#[test]
fn encoding_never_starts_the_global_thread_pool() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert");
    let encoder = Encoder::from_folder(folder).unwrap();
    let text = "the log is written before each page of the database";
    let passages = vec![Passage { title: None, text }; 200];
    encoder
        .encode_documents(&passages, &EncodeOptions::default())
        .unwrap();
    encoder.encode_queries(&["a tree"]).unwrap();
    encoder.hidden_states(passages[0]).unwrap();
    // Refused if anything had started it before.
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .unwrap();
}
