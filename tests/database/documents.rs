//! What is stored, as it was given or not at all.

use serde_json::json;
use stratal::{Database, Document, Element, Error, Field, Id, StorageError};

use crate::{database, ids, plane};

// B24, B25, B28
#[test]
fn bad_vectors_are_refused_naming_them_and_nothing_is_stored() {
    let (_home, db) = database();
    let c = db
        .collection("c")
        .vectors(3, ["last", "first"], Element::F16)
        .create()
        .unwrap();
    let good = vec![1.0, 2.0, 3.0];
    let mut tx = db.begin();
    let refused = |document: Document, tx: &mut stratal::Transaction| tx.insert(&c, document).unwrap_err();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 70_000.0] {
        let document = Document::new("x").layer_vectors([good.clone(), vec![0.0, bad, 0.0]]);
        let error = refused(document, &mut tx);
        assert!(matches!(error, Error::NotFinite { component: 1, .. }), "{error}");
        assert!(
            error.to_string().contains("layer first of the vector of \"x\""),
            "{error}"
        );
    }
    let short = refused(
        Document::new("x").layer_vectors([good.clone(), vec![1.0]]),
        &mut tx,
    );
    assert!(
        matches!(
            short,
            Error::Dimension {
                expected: 3,
                got: 1,
                ..
            }
        ),
        "{short}"
    );
    let one = refused(Document::new("x").vector(good.clone()), &mut tx);
    assert!(
        matches!(
            one,
            Error::Layers {
                expected: 2,
                got: 1,
                ..
            }
        ),
        "{one}"
    );
    let none = refused(Document::new("x").text("words alone"), &mut tx);
    assert!(matches!(none, Error::NothingToStore { .. }), "{none}");
    assert!(tx.is_empty());
    tx.insert(&c, Document::new("y").layer_vectors([good.clone(), good.clone()]))
        .unwrap();
    tx.commit().unwrap();
    assert_eq!(c.count().unwrap(), 1);
    for query in [vec![1.0; 2], vec![1.0; 4], vec![]] {
        let length = query.len();
        let error = c.search_vector(query).run().unwrap_err();
        assert!(
            matches!(error, Error::Dimension { expected: 3, got, .. } if got == length),
            "{error}"
        );
    }
    let error = c.search_vectors([vec![1.0; 3], vec![1.0; 2]]).run().unwrap_err();
    assert!(error.to_string().contains("query 1"), "{error}");
    assert!(matches!(
        c.search_vector([f32::NAN, 0.0, 0.0]).run().unwrap_err(),
        Error::NotFinite { .. }
    ));
    assert!(matches!(
        c.search_vector([1.0; 3]).layers(["lst"]).run().unwrap_err(),
        Error::UnknownLayer { .. }
    ));
}

// B59, B51
#[test]
fn ids_of_every_kind_are_kept_found_and_deleted_as_they_are() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    let long = "x".repeat(10_000);
    let texts = [
        "a",
        "a ",
        " a",
        "a/b",
        "../x",
        "é",
        "e\u{301}",
        "👩‍👩‍👧",
        "7",
        "it's",
        "x' OR '1'='1",
        "a\"b",
        "a\\b",
        "\u{1}\n",
        &long,
        "שלום",
    ];
    for (n, text) in texts.iter().enumerate() {
        c.insert(Document::new(*text).vector([n as f32])).unwrap();
    }
    c.insert(Document::new(7u64).vector([100.0])).unwrap();
    let empty = c.insert(Document::new("").vector([0.0])).unwrap_err();
    assert!(
        matches!(empty, Error::Storage(StorageError::Invalid { .. })),
        "{empty}"
    );
    assert!(c.insert(Document::new("x".repeat(20_000)).vector([0.0])).is_err());
    for _ in 0..2 {
        assert_eq!(c.count().unwrap(), texts.len() as u64 + 1);
        for (n, text) in texts.iter().enumerate() {
            assert_eq!(
                c.get(*text).unwrap().unwrap().layer_vectors().unwrap(),
                [[n as f32]],
                "{text:?}"
            );
        }
        assert_eq!(c.get(7u64).unwrap().unwrap().layer_vectors().unwrap(), [[100.0]]);
        db.flush().unwrap();
    }
    for text in texts {
        assert!(c.delete(text).unwrap());
        assert!(!c.delete(text).unwrap());
    }
    assert_eq!(c.count().unwrap(), 1);
}

// B53
#[test]
fn metadata_and_texts_come_back_as_they_went_in() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    let metadata =
        json!({"tags": ["x", "y"], "geo": {"lat": 1.5}, "e": [], "n": null, "big": 9007199254740993u64});
    let text = "\u{202e}right to left\u{0} and a control \u{7}".to_owned() + &"long ".repeat(2_000_000);
    let document = Document::new("d")
        .vector([1.0])
        .title("T")
        .text(text.clone())
        .metadata(metadata.clone());
    c.insert(document).unwrap();
    let mut deep = json!(1);
    for _ in 0..64 {
        deep = json!({ "d": deep });
    }
    for refused in [
        deep,
        json!([1]),
        json!("text"),
        json!({ "v": "x".repeat(17 << 20) }),
    ] {
        let error = c
            .insert(Document::new("refused").vector([1.0]).metadata(refused))
            .unwrap_err();
        assert!(matches!(error, Error::Metadata { .. }), "{error}");
    }
    for _ in 0..2 {
        let stored = c.get("d").unwrap().unwrap();
        assert_eq!(json!(stored.metadata()), metadata);
        assert_eq!((stored.title(), stored.text()), (Some("T"), Some(text.as_str())));
        db.flush().unwrap();
    }
    let hits = c.search_vector([1.0]).fields([Field::Vectors]).run().unwrap();
    assert_eq!(
        (hits[0].vectors.as_slice(), &hits[0].text),
        ([vec![1.0]].as_slice(), &None)
    );
}

// B29, B36
#[test]
fn an_updated_document_is_found_once_by_its_new_vector_alone() {
    let (_home, db) = database();
    let c = plane(&db, "c", 2);
    c.insert(Document::new("x").vector([1.0, 0.0])).unwrap();
    c.insert(Document::new("y").vector([0.9, 0.1])).unwrap();
    for step in 0..3 {
        assert!(c.delete("x").unwrap());
        assert_eq!(
            ids(&c.search_vector([1.0, 0.0]).k(1).run().unwrap()),
            ["\"y\""],
            "step {step}"
        );
        c.insert(Document::new("x").vector([0.0, 1.0])).unwrap();
        assert_eq!(
            ids(&c.search_vector([0.0, 1.0]).run().unwrap()),
            ["\"x\"", "\"y\""]
        );
        assert_eq!(
            ids(&c.search_vector([1.0, 0.0]).run().unwrap()),
            ["\"y\"", "\"x\""]
        );
        assert_eq!(c.count().unwrap(), 2);
        match step {
            0 => db.flush().unwrap(),
            _ => db.compact().unwrap(),
        }
    }
}

// B90 (with labels; encoders are in tests/encoder_collection.rs), B95
#[test]
fn a_collection_opens_only_with_the_settings_it_was_created_with() {
    let (_home, db) = database();
    let create = || {
        db.collection("notes")
            .vectors(2, ["v"], Element::F32)
            .label("model one")
    };
    create().create().unwrap();
    assert!(matches!(
        create().create(),
        Err(Error::Storage(StorageError::CollectionExists { .. }))
    ));
    create().open_or_create().unwrap();
    let foreign = db
        .collection("notes")
        .label("model two")
        .open()
        .err()
        .unwrap()
        .to_string();
    assert!(
        foreign.contains("model one") && foreign.contains("model two"),
        "{foreign}"
    );
    let dimension = db
        .collection("notes")
        .vectors(3, ["v"], Element::F32)
        .open()
        .err()
        .unwrap();
    assert!(matches!(
        dimension,
        Error::SchemaMismatch {
            setting: "dimension",
            ..
        }
    ));
    let unknown = db.collection("note").open().err().unwrap();
    assert!(
        unknown.to_string().contains("did you mean \"notes\""),
        "{unknown}"
    );
    assert!(db.collection("bare").create().is_err());
    let notes = db.collection("notes").open().unwrap();
    let stranger = notes.insert(Document::new("a").vector([1.0, 0.0]).made_by("model two"));
    assert!(matches!(stranger, Err(Error::ForeignModel { .. })));
    notes
        .insert(Document::new("a").vector([1.0, 0.0]).made_by("model one"))
        .unwrap();
    let query = notes.search_vector([1.0, 0.0]).made_by("model two").run();
    assert!(matches!(query, Err(Error::ForeignModel { .. })));
}

#[test]
fn pairs_are_committed_with_their_documents_and_go_with_their_collection() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let db = Database::create(&path).unwrap();
    let notes = db
        .collection("notes")
        .vectors(1, ["v"], Element::F32)
        .create()
        .unwrap();
    let other = db
        .collection("other")
        .vectors(1, ["v"], Element::F32)
        .create()
        .unwrap();
    let mut tx = db.begin();
    tx.pair(&notes, "what is it?", "a").unwrap();
    tx.insert(&notes, Document::new("a").vector(vec![1.0])).unwrap();
    tx.insert(&notes, Document::new(7u64).vector(vec![1.0])).unwrap();
    tx.pair(&notes, "which number?", 7u64).unwrap();
    tx.pair(&notes, "what is it?", "a").unwrap();
    tx.commit().unwrap();
    let pairs = |notes: &stratal::Collection| notes.snapshot().unwrap().pairs().unwrap();
    assert_eq!(pairs(&notes).len(), 2);
    let held = notes.snapshot().unwrap();
    // The whole transaction fails with a pair that names nothing.
    let mut tx = db.begin();
    tx.insert(&notes, Document::new("b").vector(vec![1.0])).unwrap();
    tx.delete(&notes, "a").unwrap();
    tx.pair(&notes, "gone?", "a").unwrap();
    let refused = tx.commit().unwrap_err();
    assert!(
        matches!(&refused, Error::NoDocument { id, .. } if *id == Id::from("a")),
        "{refused}"
    );
    assert!(notes.get("b").unwrap().is_none());
    for wrong in ["", " \n"] {
        assert!(notes.pair(wrong, "a").is_err());
    }
    assert!(notes.pair("x".repeat(70_000), "a").is_err());
    assert!(matches!(
        notes.pair("text or number?", "7"),
        Err(Error::NoDocument { .. })
    ));
    assert!(notes.delete("a").unwrap());
    assert_eq!(pairs(&notes).len(), 2, "a pair outlives its document");
    db.close().unwrap();
    drop((notes, other, db));

    let db = Database::open(&path).unwrap();
    let notes = db.collection("notes").open().unwrap();
    assert_eq!(
        pairs(&notes),
        [
            stratal::Pair {
                question: "which number?".into(),
                document: Id::from(7u64)
            },
            stratal::Pair {
                question: "what is it?".into(),
                document: Id::from("a")
            },
        ]
    );
    assert_eq!(db.collections(), ["notes", "other"]);
    assert_eq!(db.snapshot().collections(), ["notes", "other"]);
    assert_eq!(db.statistics().unwrap().collections.len(), 2);
    assert!(
        db.collection("stratal:pairs:1")
            .vectors(1, ["v"], Element::F32)
            .create()
            .is_err()
    );
    let mut tx = db.begin();
    tx.unpair(&notes, "what is it?", "a").unwrap();
    tx.commit().unwrap();
    assert_eq!(notes.snapshot().unwrap().pair_count(), 1);
    db.compact().unwrap();
    assert_eq!(notes.snapshot().unwrap().pair_count(), 1);
    db.drop_collection("notes").unwrap();
    let again = db
        .collection("notes")
        .vectors(1, ["v"], Element::F32)
        .create()
        .unwrap();
    assert_eq!(again.snapshot().unwrap().pair_count(), 0);
    assert_eq!(held.pairs().unwrap().len(), 2, "a snapshot stays what it is");
    assert!(db.verify().unwrap().is_sound());
}

#[test]
fn metadata_past_the_limit_is_refused_as_it_is_added() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    let mut tx = db.begin();
    let with = |id: u64, bytes: usize| {
        let metadata = json!({ "text": "\u{1}".repeat(bytes) });
        Document::new(id).vector([1.0]).metadata(metadata)
    };
    // Six bytes of JSON each, as they are control characters.
    let fits = (stratal::METADATA_BYTES_MAX - "{\"text\":\"\"}".len()) / 6;
    let error = tx.upsert(&c, with(1, fits + 1)).unwrap_err();
    assert!(matches!(error, Error::Metadata { .. }), "{error}");
    assert!(tx.is_empty());
    tx.upsert(&c, with(2, fits)).unwrap();
    tx.commit().unwrap();
    assert_eq!(c.count().unwrap(), 1);
}

#[test]
fn pairs_are_no_documents_in_what_a_commit_tells() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    let mut tx = db.begin();
    tx.upsert(&c, Document::new(1u64).vector([1.0])).unwrap();
    tx.pair(&c, "what is one?", 1u64).unwrap();
    let committed = tx.commit().unwrap();
    assert_eq!(
        (committed.inserted, committed.replaced, committed.deleted),
        (1, 0, 0)
    );
    let mut tx = db.begin();
    tx.unpair(&c, "what is one?", 1u64).unwrap();
    assert_eq!(tx.commit().unwrap().deleted, 0);
    assert_eq!(c.snapshot().unwrap().pair_count(), 0);
}

#[test]
fn options_at_their_ends_open_or_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let open = |options: stratal::DatabaseOptions| options.create(true).open(&path);
    let forever = std::time::Duration::MAX;
    drop(open(Database::options().lock_wait(forever)).unwrap());
    let error = open(Database::options().threads(usize::MAX)).err().unwrap();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert!(error.to_string().contains("4096"), "{error}");
}
