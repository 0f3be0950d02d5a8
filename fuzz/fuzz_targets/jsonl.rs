//! Any bytes as JSON lines, plain and compressed: bad lines are errors, the reader ends, vectors are finite.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use stratal::ingest::{Compression, FieldNames, JsonLines};

fuzz_target!(|data: &[u8]| {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let input = Cursor::new(data.to_vec());
        let lines = JsonLines::with_line_limit("fuzz", input, compression, FieldNames::default(), 4_096);
        let mut last = 0;
        for record in lines.flatten() {
            assert!(record.line > last);
            last = record.line;
            assert!(record.vectors.iter().flatten().flatten().all(|component| component.is_finite()));
        }
    }
});
