//! Any text as Markdown and as plain text: passages are slices in order, none blank, none too long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratal::ingest::{PassageLength, length_in_words, markdown_passages, text_passages};

fuzz_target!(|text: &str| {
    let Ok(limit) = PassageLength::words(12) else { return };
    for passages in [markdown_passages(text, limit), text_passages(text, limit)] {
        let mut end = 0;
        for passage in passages {
            assert!(passage.range.start >= end);
            end = passage.range.end;
            let slice = &text[passage.range];
            assert!(!slice.trim().is_empty() && length_in_words(slice) <= limit.get());
        }
    }
});
