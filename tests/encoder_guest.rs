//! An encoder is a good guest: it leaves rayon's global pool alone and keeps no memory. A file of its own, since
//! both belong to the whole process.

#![cfg(feature = "encoder")]

use std::path::Path;

use stratal::encoder::{EncodeOptions, Encoder, Passage};

/// Resident memory in MiB, where the system tells it.
fn resident_mib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? / 1024)
}

// The second half is row B109.
#[test]
fn encoding_never_starts_the_global_thread_pool_and_keeps_no_memory() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert");
    let encoder = Encoder::from_folder(folder).unwrap();
    let text = "the log is written before each page of the database ".repeat(40);
    let passages: Vec<Passage<'_>> = (0..5000)
        .map(|i| Passage {
            title: None,
            text: &text[..3 + (i * 37) % 2000],
        })
        .collect();
    let encode = || {
        encoder
            .encode_documents(&passages, &EncodeOptions::default())
            .unwrap();
        encoder.encode_queries(&["a tree"]).unwrap();
    };
    encode();
    let before = resident_mib();
    for _ in 0..3 {
        encode();
    }
    if let (Some(before), Some(after)) = (before, resident_mib()) {
        assert!(after <= before + 20, "{before} MiB became {after}");
    }
    encoder.hidden_states(passages[0]).unwrap();
    // Refused if anything had started it before.
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .unwrap();
}
