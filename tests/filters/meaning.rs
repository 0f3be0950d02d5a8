//! What filters mean over a collection, and deleting by them.

use serde_json::json;
use stratal::{Element, Error, Filter, FilterError, StorageError, field, time};

use super::{Noise, collection, database, document, ids};

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
fn a_fraction_is_kept_and_found_to_the_last_digit() {
    let (_home, db) = database();
    let c = collection(&db);
    let mut noise = Noise(0xf10a7);
    let mut tx = db.begin();
    let fractions: Vec<f64> = (0..400)
        .map(|_| {
            let bits = (0..4).fold(0u64, |bits, _| bits << 16 | noise.below(1 << 16) as u64);
            let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
            let any = f64::from_bits(bits);
            if noise.below(2) == 0 && any.is_finite() {
                any
            } else {
                unit
            }
        })
        .collect();
    for (id, x) in fractions.iter().enumerate() {
        tx.insert(&c, document(id as u64, json!({ "x": x }))).unwrap();
    }
    tx.commit().unwrap();
    for state in ["memory", "segment"] {
        for (id, &x) in fractions.iter().enumerate() {
            assert_eq!(
                c.get(id as u64).unwrap().unwrap().metadata()["x"],
                json!(x),
                "{state}"
            );
            assert_eq!(ids(&c, field("x").eq(x)), [id.to_string()], "{state}: {x:?}");
            assert_eq!(
                ids(&c, format!("x = {x:?}").as_str()),
                [id.to_string()],
                "{state}"
            );
        }
        db.flush().unwrap();
    }
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
