//! Any text: it parses or is refused at a place inside of it; what parses is written and read back as the same
//! filter, and its negation is the complement.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use stratal::{Filter, FilterError, Id};

fuzz_target!(|text: &str| {
    let filter = match Filter::parse(text) {
        Ok(filter) => filter,
        Err(FilterError::Syntax { at, .. }) => {
            assert!(text.is_char_boundary(at));
            return;
        }
        Err(_) => return,
    };
    let written = filter.to_string();
    assert_eq!(Filter::parse(&written).as_ref(), Ok(&filter), "{written}");
    let metadata = json!({ "a": [1, "b", null, { "c": 2.5 }], "d": "2024-01-31T23:59:00Z", "e": {}, "f": [] });
    let Some(metadata) = metadata.as_object() else { return };
    let passes = |filter: &Filter| filter.matches(&Id::from("a"), Some("b"), metadata);
    let passed = passes(&filter);
    assert_eq!(passes(&!filter), passed.map(|passed| !passed));
});
