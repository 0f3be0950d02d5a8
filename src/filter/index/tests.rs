//! Indexes that say too little, and indexes that lie.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::filter::Filter;
use crate::{Database, Document, Element};

const FILTERS: [&str; 14] = [
    "number < 100",
    "number between 7 and 30 and text != 'a'",
    "not (number in [1, 2, 3] or text starts with 'long')",
    "text = 'a' or text > 'lo'",
    "list = 3 and list is not null",
    "list is empty",
    "exists(list) and not exists(object.of)",
    "object.of = true",
    "object.of != false and number >= 250",
    "at < time('2024-01-05T00:00Z')",
    "at in [time('2024-01-05T01:00+01:00'), 'never']",
    "nowhere = 1",
    "@id in [1, 3, 5] or number = 17",
    "@title starts with 't1' and number > 5",
];

/// A memory part of some hundred documents, and their number and metadata.
fn part() -> (tempfile::TempDir, Database, Part) {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let c = db
        .collection("c")
        .vectors(1, ["v"], Element::F32)
        .create()
        .unwrap();
    let mut tx = db.begin();
    let lists = [json!([]), json!([3]), json!([null, 4])];
    for n in 0..300u64 {
        let text = if n % 3 == 0 {
            "long".repeat(40) + &n.to_string()
        } else {
            ["a", "b", "lo"][n as usize % 3].to_owned()
        };
        let metadata = json!({
            "number": n, "text": text, "at": format!("2024-01-{:02}T00:00Z", 1 + n % 28),
            "list": lists[n as usize % 3], "object": { "of": n % 2 == 0 }
        });
        tx.insert(
            &c,
            Document::new(n)
                .title(format!("t{n}"))
                .metadata(metadata)
                .vector([1.0]),
        )
        .unwrap();
    }
    tx.commit().unwrap();
    let part = c.snapshot().unwrap().inner.parts()[0].part().clone();
    assert_eq!(part.rows(), 300);
    (home, db, part)
}

fn within(part: &Part, memory_max: usize) -> Index {
    let mut builder = Builder::new(part.rows()).within(memory_max);
    for row in 0..part.rows() {
        let bytes = part.payload(row).unwrap();
        builder.add(row, &Payload::read(&bytes).unwrap().metadata());
    }
    Index::in_memory(builder, part.rows())
}

fn passes(part: &Part, filter: &Filter, row: u32) -> bool {
    let bytes = part.payload(row).unwrap();
    let payload = Payload::read(&bytes).unwrap();
    filter
        .matches(&part.id(row).unwrap(), payload.title, &payload.metadata())
        .unwrap()
}

#[test]
fn the_truth_lies_within_the_bounds_however_little_memory_there_is() {
    let (_home, _db, part) = part();
    let mut unsure = Vec::new();
    for memory in [usize::MAX, 20_000, 10_000, 1000, 0] {
        let index = within(&part, memory);
        let mut rows_to_read = 0;
        for text in FILTERS {
            let filter = Filter::parse(text).unwrap();
            let bounds = answer(filter.node().unwrap(), Some(&index), &part).unwrap();
            let possible = bounds.possible.unwrap_or_else(|| bounds.passing.clone());
            for row in 0..part.rows() {
                let truth = passes(&part, &filter, row);
                assert!(
                    !bounds.passing.contains(row) || truth,
                    "{text}, row {row}, {memory} bytes"
                );
                assert!(
                    possible.contains(row) || !truth,
                    "{text}, row {row}, {memory} bytes"
                );
            }
            rows_to_read += possible.len() - bounds.passing.len();
        }
        unsure.push(rows_to_read);
    }
    assert!(unsure.is_sorted() && unsure[0] < unsure[4] / 2, "{unsure:?}");
}

#[test]
fn a_damaged_index_is_refused_or_wrong_but_never_a_panic() {
    let (_home, _db, part) = part();
    let index = within(&part, usize::MAX);
    let filters: Vec<Filter> = FILTERS.iter().map(|text| Filter::parse(text).unwrap()).collect();
    let config = ProptestConfig::with_cases(400);
    proptest!(config, |(section in 0..3usize, at in 0..20_000usize, with in prop::collection::vec(
        prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 1..9
    ))| {
        let damaged = index.damaged(section, at, &with);
        for filter in &filters {
            let _ = answer(filter.node().unwrap(), Some(&damaged), &part);
        }
        let _ = damaged.fields();
    });
}
