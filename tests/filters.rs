//! Filters over collections: the same answers in memory, in segments, after compaction and after opening again.

use serde_json::{Value, json};
use stratal::{
    Collection, Database, Document, Element, Error, Filter, FilterError, Id, StorageError, field, time,
};

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

// B50
#[test]
fn deleting_by_filter_deletes_what_passes_and_tells_how_many() {
    let (_home, db) = database();
    let c = collection(&db);
    for (id, lang) in [(1u64, "en"), (2, "en"), (3, "en"), (4, "de"), (5, "de")] {
        c.insert(document(id, json!({ "lang": lang }))).unwrap();
    }
    for refused in ["", " ", "lang =", "lang = en", "lang = \"en\" or"] {
        assert!(
            matches!(c.delete_where(refused), Err(Error::Filter(_))),
            "{refused}"
        );
        assert!(
            matches!(c.count_where(refused), Err(Error::Filter(_))),
            "{refused}"
        );
    }
    assert_eq!(c.count().unwrap(), 5);
    assert_eq!(c.delete_where(r#"lang = "en""#).unwrap(), 3);
    assert_eq!(c.count().unwrap(), 2);
    assert_eq!(ids(&c, field("lang").ne("en")), ["4", "5"]);
    assert_eq!(c.delete_where(r#"lang = "en""#).unwrap(), 0);
}

// B51
#[test]
fn ids_with_quotes_are_values_and_never_syntax() {
    let (_home, db) = database();
    let c = collection(&db);
    let all = ["it's", "x' OR '1'='1", "a\"b", "a\\b", "7"];
    for id in all {
        c.insert(document(id, json!({ "key": id }))).unwrap();
    }
    c.insert(document(7u64, json!({}))).unwrap();
    for id in all {
        for filter in [field("@id").eq(id), field("key").eq(id)] {
            assert_eq!(ids(&c, filter.clone()), [format!("{id:?}")]);
            assert_eq!(ids(&c, filter.to_string().as_str()), [format!("{id:?}")]);
        }
    }
    assert_eq!(ids(&c, "@id = 7"), ["7"]);
    assert_eq!(ids(&c, "@id >= 7 and @id <= 7.0"), ["7"]);
    for (deleted, id) in all.into_iter().enumerate() {
        assert_eq!(c.delete_where(field("@id").eq(id)).unwrap(), 1);
        assert_eq!(c.count().unwrap(), 5 - deleted as u64);
    }
}

#[test]
fn a_transaction_deletes_among_its_own_changes_too() {
    let (_home, db) = database();
    let c = collection(&db);
    let other = db
        .collection("other")
        .vectors(2, ["v"], Element::F32)
        .create()
        .unwrap();
    for id in 0..6u64 {
        c.insert(document(id, json!({ "old": id % 2 == 0 }))).unwrap();
        other.insert(document(id, json!({ "old": true }))).unwrap();
    }
    let mut tx = db.begin();
    tx.upsert(&c, document(0u64, json!({ "old": false }))).unwrap();
    tx.upsert(&c, document(1u64, json!({ "old": true }))).unwrap();
    tx.insert(&c, document(10u64, json!({ "old": true }))).unwrap();
    tx.insert(&c, document(11u64, json!({ "old": false }))).unwrap();
    tx.delete(&c, 2u64).unwrap();
    // 4 as it is stored, 1 and 10 as they are put here.
    assert_eq!(tx.delete_where(&c, "old = true").unwrap(), 3);
    assert_eq!(tx.delete_where(&c, "old = true").unwrap(), 0);
    assert!(matches!(
        tx.delete_where(&c, "old ="),
        Err(Error::Filter(FilterError::Syntax { .. }))
    ));
    tx.insert(&c, document(12u64, json!({ "old": true }))).unwrap();
    assert_eq!(c.count().unwrap(), 6);
    tx.commit().unwrap();
    assert_eq!(ids(&c, "exists(@id)"), ["0", "11", "12", "3", "5"]);
    assert_eq!(other.count().unwrap(), 6);
}

#[test]
fn a_document_changed_meanwhile_is_never_deleted_by_what_it_was() {
    let (_home, db) = database();
    let c = collection(&db);
    c.insert(document("a", json!({ "keep": false }))).unwrap();
    let mut tx = db.begin();
    assert_eq!(tx.delete_where(&c, "keep = false").unwrap(), 1);
    c.upsert(document("a", json!({ "keep": true }))).unwrap();
    assert!(matches!(
        tx.commit(),
        Err(Error::Storage(StorageError::VersionConflict { .. }))
    ));
    assert_eq!(c.delete_where("keep = false").unwrap(), 0);
    assert_eq!(c.count().unwrap(), 1);

    // Deleting and writing from two threads: whatever is left was written after its last deletion.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200u64 {
                c.upsert(document(round % 5, json!({ "keep": round % 3 == 0 })))
                    .unwrap();
            }
        });
        scope.spawn(|| {
            for _ in 0..50 {
                c.delete_where("keep = false").unwrap();
            }
        });
    });
    c.delete_where(!field("keep").eq(true)).unwrap();
    assert_eq!(c.count_where("keep = true").unwrap(), c.count().unwrap());
}

// B54
#[test]
fn a_retagged_document_is_found_by_its_new_tag_only() {
    let (_home, db) = database();
    let c = collection(&db);
    for id in 0..4u64 {
        c.insert(document(id, json!({ "tag": "a" }))).unwrap();
    }
    db.flush().unwrap();
    c.upsert(document(2u64, json!({ "tag": "z" }))).unwrap();
    for _ in 0..2 {
        assert_eq!(ids(&c, "tag = 'z'"), ["2"]);
        assert_eq!(ids(&c, "tag = 'a'"), ["0", "1", "3"]);
        c.compact().unwrap();
    }
    for id in 0..500u64 {
        c.upsert(document(id, json!({ "tag": "b", "round": 0 }))).unwrap();
    }
    for round in [0..128u64, 128..256] {
        for id in round {
            c.upsert(document(id, json!({ "tag": "b", "round": 1 }))).unwrap();
        }
        c.compact().unwrap();
    }
    assert_eq!(c.count().unwrap(), 500);
    assert_eq!(c.count_where("round = 1").unwrap(), 256);
    assert_eq!(c.count_where("tag = 'b'").unwrap(), 500);
}

// B95
#[test]
fn a_misspelt_field_is_told_with_the_one_that_was_meant() {
    let (_home, db) = database();
    let c = collection(&db);
    for id in 0..5u64 {
        c.insert(document(id, json!({ "year": 2000 + id, "geo": { "lat": 1.5 } })))
            .unwrap();
    }
    let snapshot = c.snapshot().unwrap();
    let told = |text: &str| -> Vec<String> {
        let unknown = snapshot.unknown_fields(&Filter::parse(text).unwrap()).unwrap();
        unknown.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told("yaer > 2000"),
        ["no document has a field yaer; did you mean year, which 5 documents have?"]
    );
    assert_eq!(
        told("goe.lat = 1 or year = 3"),
        ["no document has a field goe.lat; did you mean geo.lat, which 5 documents have?"]
    );
    assert_eq!(told("colour = 'red'"), ["no document has a field colour"]);
    assert_eq!(told("year > 3 and exists(geo) and @title = 'x'"), [""; 0]);
    let fields: Vec<_> = snapshot.fields().unwrap().into_iter().collect();
    assert_eq!(
        fields,
        [("geo", 5), ("geo.lat", 5), ("year", 5)].map(|(name, n)| (name.to_owned(), n))
    );
}

#[test]
fn a_time_of_the_program_is_compared_as_an_instant() {
    let (_home, db) = database();
    let c = collection(&db);
    c.insert(document("old", json!({ "at": "1999-12-31T23:59:59Z" })))
        .unwrap();
    c.insert(document("new", json!({ "at": "2999-12-31T23:59:59+02:00" })))
        .unwrap();
    assert_eq!(ids(&c, field("at").lt(std::time::SystemTime::now())), ["\"old\""]);
    assert_eq!(
        ids(&c, field("at").ge(time("2999-12-31T22:59:59+01:00"))),
        ["\"new\""]
    );
    assert!(matches!(
        c.count_where(field("at").eq(time("2024-13-01"))),
        Err(Error::Filter(FilterError::Time { .. }))
    ));
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

#[test]
fn more_fields_than_an_index_lists_are_found_all_the_same() {
    let (_home, db) = database();
    let c = collection(&db);
    let mut tx = db.begin();
    for id in 0..1500u64 {
        tx.insert(
            &c,
            document(id, json!({ format!("k{id}"): id, "all": { "of": [id] } })),
        )
        .unwrap();
    }
    tx.commit().unwrap();
    for _ in 0..2 {
        for id in [0u64, 700, 1499] {
            let key = format!("k{id}");
            assert_eq!(ids(&c, field(&key).ge(id)), [id.to_string()]);
            assert_eq!(ids(&c, field(&key).exists()), [id.to_string()]);
            assert_eq!(c.count_where(!field(&key).eq(id)).unwrap(), 1499);
            assert_eq!(c.count_where(field(&key).is_empty()).unwrap(), 0);
        }
        assert_eq!(c.count_where("all.of between 10 and 19").unwrap(), 10);
        assert_eq!(c.snapshot().unwrap().fields().unwrap().len(), 1502);
        db.flush().unwrap();
    }
}
