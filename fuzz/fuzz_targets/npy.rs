//! Any bytes as an array: rows of the promised length, all finite, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratal::ingest::NpyReader;

fuzz_target!(|data: &[u8]| {
    let Ok(mut array) = NpyReader::new(data, data.len() as u64, "fuzz") else { return };
    let numbers = array.layers() * array.dimension();
    let mut rows = 0;
    loop {
        match array.next_row() {
            Ok(None) => break,
            Ok(Some(row)) => assert!(row.len() == numbers && row.iter().all(|number| number.is_finite())),
            Err(_) => {}
        }
        rows += 1;
    }
    assert_eq!(rows, array.rows());
});
