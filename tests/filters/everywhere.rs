//! Random filters over random documents: the same answers in memory, in segments, after compaction and after opening
//! again.

use serde_json::{Value, json};
use stratal::{Collection, Database, Filter, field, time};

use super::{Noise, collection, document, ids};

/// Values that meet often, and some that try the edges: long texts, times, neighbours in f64.
fn values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(3),
        json!(3.0),
        json!(-1.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(9_007_199_254_740_992u64),
        json!(9_007_199_254_740_993u64),
        json!(1e300),
        json!(5e-324),
        json!(""),
        json!("a"),
        json!("ab"),
        json!("3"),
        json!("é"),
        json!("2024-01-01T00:30+01:00"),
        json!("2023-12-31T23:30Z"),
        json!("2024-01-01T00:00"),
        json!("2024-13-01"),
        json!("2024-06-01T00:00:00.5Z"),
    ];
    values.extend([127, 128, 129, 300].map(|length| json!("a".repeat(length))));
    values.extend([json!("a".repeat(129) + "b"), json!("a".repeat(200) + "é")]);
    values
}

const KEYS: [&str; 6] = ["a", "b", "c", "d.e", "rare", "x y"];

fn value(noise: &mut Noise, values: &[Value], depth: usize) -> Value {
    match noise.below(if depth == 0 { 6 } else { 9 }) {
        0..6 => noise.of(values),
        6 | 7 => (0..noise.below(4))
            .map(|_| value(noise, values, depth - 1))
            .collect(),
        _ => object(noise, values, depth - 1),
    }
}

fn object(noise: &mut Noise, values: &[Value], depth: usize) -> Value {
    let fields = (0..noise.below(5)).map(|_| (noise.of(&KEYS).to_owned(), value(noise, values, depth)));
    Value::Object(fields.collect())
}

fn literal(noise: &mut Noise, values: &[Value]) -> stratal::Literal {
    if noise.below(5) == 0 {
        let times = [
            "2023-12-31T23:30:00Z",
            "2024-01-01T00:00Z",
            "2024-06-01T01:00:00.5+01:00",
        ];
        return time(noise.of(&times));
    }
    loop {
        return match noise.of(values) {
            Value::String(text) => text.into(),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(whole), _) => whole.into(),
                (_, Some(whole)) => whole.into(),
                _ => number.as_f64().unwrap().into(),
            },
            _ => continue,
        };
    }
}

fn filter(noise: &mut Noise, values: &[Value], depth: usize) -> Filter {
    if depth > 0 {
        match noise.below(4) {
            0 => return filter(noise, values, depth - 1) & filter(noise, values, depth - 1),
            1 => return filter(noise, values, depth - 1) | filter(noise, values, depth - 1),
            2 => return !filter(noise, values, depth - 1),
            _ => {}
        }
    }
    let field = match noise.below(12) {
        0 => field("@id"),
        1 => field("@title"),
        2 => field("nowhere"),
        3 | 4 => stratal::field_at([noise.of(&KEYS), noise.of(&KEYS)]),
        _ => stratal::field_at([noise.of(&KEYS)]),
    };
    let [one, other, third] = [(); 3].map(|()| literal(noise, values));
    let built = match noise.below(13) {
        0 => field.eq(one),
        1 => field.ne(one),
        2 => field.lt(one),
        3 => field.le(one),
        4 => field.gt(one),
        5 => field.ge(one),
        6 => field.between(one, other),
        7 => field.is_in([one, other, third, true.into()]),
        8 => field.starts_with("a".repeat(noise.of(&[0, 1, 2, 127, 128, 129, 200]))),
        9 => field.exists(),
        10 => field.is_null(),
        11 => field.is_empty(),
        _ => field.eq(noise.below(2) == 0),
    };
    // Ends of two kinds are refused.
    if built.check().is_err() {
        filter(noise, values, depth)
    } else {
        built
    }
}

/// Every filter against a plain evaluation of every document: ids, and counts.
fn check(c: &Collection, filters: &[Filter], state: &str) {
    let snapshot = c.snapshot().unwrap();
    let documents: Vec<_> = snapshot.iter().map(Result::unwrap).collect();
    let mut matched = 0;
    for filter in filters {
        let mut expected: Vec<String> = documents
            .iter()
            .filter(|document| {
                filter
                    .matches(document.id(), document.title(), document.metadata())
                    .unwrap()
            })
            .map(|document| document.id().to_string())
            .collect();
        expected.sort();
        assert_eq!(ids(c, filter.clone()), expected, "{state}: {filter}");
        assert_eq!(
            snapshot.count_where(filter.clone()).unwrap(),
            expected.len() as u64
        );
        matched += expected.len();
    }
    assert!(matched > 0 && matched < documents.len() * filters.len());
}

// B43, B45, B47, B48, B54
#[test]
fn every_filter_answers_as_a_plain_evaluation_in_every_state() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let db = Database::create(&path).unwrap();
    let c = collection(&db);
    let values = values();
    let mut noise = Noise(0x5eed);
    let filters: Vec<Filter> = (0..150).map(|_| filter(&mut noise, &values, 3)).collect();
    let put = |noise: &mut Noise, ids: std::ops::Range<u64>| {
        for chunk in ids.collect::<Vec<_>>().chunks(100) {
            let mut tx = db.begin();
            for &id in chunk {
                let document = document(id, object(noise, &values, 3)).title(noise.of(&["a", "ab", "3", ""]));
                tx.upsert(&c, document).unwrap();
            }
            tx.commit().unwrap();
        }
    };
    assert_eq!(c.count_where(filters[0].clone()).unwrap(), 0);
    put(&mut noise, 0..20);
    check(&c, &filters[..40], "a few documents");
    put(&mut noise, 20..900);
    check(&c, &filters, "memory");
    put(&mut noise, 0..50);
    (100..150u64).for_each(|id| assert!(c.delete(id).unwrap()));
    check(&c, &filters, "memory with deletions");
    db.flush().unwrap();
    check(&c, &filters, "one segment");
    put(&mut noise, 850..1500);
    (200..400u64).for_each(|id| assert!(c.delete(id).unwrap()));
    check(&c, &filters, "a segment and memory");
    db.flush().unwrap();
    put(&mut noise, 1500..1510);
    check(&c, &filters, "two segments and a few documents");
    db.compact().unwrap();
    check(&c, &filters, "compacted");
    let before: Vec<_> = filters.iter().map(|filter| ids(&c, filter.clone())).collect();
    db.close().unwrap();
    drop((c, db));
    for read_only in [false, true] {
        let db = Database::options().read_only(read_only).open(&path).unwrap();
        let c = db.collection("c").open().unwrap();
        check(&c, &filters, "opened again");
        assert!(
            filters
                .iter()
                .zip(&before)
                .all(|(filter, before)| ids(&c, filter.clone()) == *before)
        );
    }
}
