//! What the engine promises to the program that links it, with vectors of the caller's own.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use stratal::{Collection, Database, Document, Element, Error, Field, Id, Similarity, StorageError};

fn database() -> (tempfile::TempDir, Database) {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    (home, db)
}

fn plane(db: &Database, name: &str, dimension: usize) -> Collection {
    db.collection(name)
        .vectors(dimension, ["v"], Element::F32)
        .create()
        .unwrap()
}

fn ids(hits: &[stratal::Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

/// A repeatable sequence of values in -1..1.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

// B20
#[test]
fn the_best_inner_product_leads() {
    let (_home, db) = database();
    let c = plane(&db, "c", 2);
    for (id, v) in [("a", [2.0, 0.0]), ("b", [1.0, 0.0]), ("c", [-1.0, 0.0])] {
        c.insert(Document::new(id).vector(v)).unwrap();
    }
    let hits = c.search_vector([1.0, 0.0]).run().unwrap();
    assert_eq!(
        hits.iter().map(|hit| hit.score).collect::<Vec<_>>(),
        [2.0, 1.0, -1.0]
    );
    assert_eq!(ids(&hits), ["\"a\"", "\"b\"", "\"c\""]);
    let batch = c.search_vectors([[1.0, 0.0], [-1.0, 0.0]]).run().unwrap();
    assert_eq!(batch[0], hits);
    assert_eq!(batch[1][0].id, Id::from("c"));
}

// B19
#[test]
fn k_above_n_gives_n_hits_and_an_empty_collection_none() {
    let (_home, db) = database();
    let c = plane(&db, "c", 4);
    for queries in [1, 19, 20, 33] {
        let answers = c.search_vectors(vec![vec![1.0; 4]; queries]).run().unwrap();
        assert_eq!(answers.len(), queries);
        assert!(answers.iter().all(Vec::is_empty));
    }
    let mut tx = db.begin();
    for n in 0..1000u64 {
        tx.insert(&c, Document::new(n).vector([n as f32, 1.0, 0.0, 0.0]))
            .unwrap();
    }
    tx.commit().unwrap();
    let all = c.search_vector([1.0, 0.0, 0.0, 0.0]).k(1000).run().unwrap();
    assert_eq!(
        all.iter().map(|hit| hit.id.clone()).collect::<HashSet<_>>().len(),
        1000
    );
    assert_eq!(c.search_vector([1.0; 4]).k(5000).run().unwrap().len(), 1000);
    assert!(c.search_vector([1.0; 4]).k(0).run().is_err());
}

// B22
#[test]
fn a_floor_holds_for_every_element_and_after_a_flush() {
    let (_home, db) = database();
    for (name, element, layers) in [
        ("f32", Element::F32, vec!["v"]),
        ("f16", Element::F16, vec!["v"]),
        ("multi", Element::F32, vec!["a", "b", "c"]),
    ] {
        let c = db
            .collection(name)
            .vectors(8, layers.clone(), element)
            .create()
            .unwrap();
        let mut next = noise(7);
        let mut tx = db.begin();
        for n in 0..300u64 {
            let vectors: Vec<Vec<f32>> = layers.iter().map(|_| (0..8).map(|_| next()).collect()).collect();
            tx.insert(&c, Document::new(n).layer_vectors(vectors)).unwrap();
        }
        tx.commit().unwrap();
        let query: Vec<f32> = (0..8).map(|_| next()).collect();
        let all = c.search_vector(query.clone()).k(300).run().unwrap();
        let median = all[150].score;
        for _ in 0..2 {
            let above = c.search_vector(query.clone()).k(300).floor(median).run().unwrap();
            assert_eq!(
                above,
                all.iter()
                    .filter(|hit| hit.score >= median)
                    .cloned()
                    .collect::<Vec<_>>()
            );
            assert_eq!(
                c.search_vector(query.clone()).k(20).run().unwrap(),
                all[..20],
                "a longer answer's first k"
            );
            db.flush().unwrap();
        }
    }
}

#[test]
fn every_answer_is_that_of_a_float64_brute_force_with_ties_by_id() {
    let (_home, db) = database();
    let c = db
        .collection("c")
        .vectors(5, ["a", "b"], Element::F16)
        .create()
        .unwrap();
    let mut next = noise(3);
    // Few distinct values, so that equal scores are common.
    let mut coarse = move || (next() * 2.0).round() / 2.0;
    let mut model: Vec<(Id, [[f32; 5]; 2])> = Vec::new();
    for round in 0..6u64 {
        let mut tx = db.begin();
        for n in 0..80u64 {
            let number = round * 50 + n;
            let id = if n % 2 == 0 {
                Id::from(number)
            } else {
                Id::from(format!("t{number}"))
            };
            let vectors = [(); 2].map(|()| [(); 5].map(|()| coarse()));
            tx.upsert(&c, Document::new(&id).layer_vectors(vectors.map(Vec::from)))
                .unwrap();
            model.retain(|(other, _)| *other != id);
            model.push((id, vectors));
        }
        tx.commit().unwrap();
        if round % 2 == 1 {
            db.flush().unwrap();
        }
        let gone = model.remove(model.len() / 2).0;
        assert!(c.delete(&gone).unwrap());
        assert_eq!(c.count().unwrap(), model.len() as u64);
        let queries: Vec<Vec<f32>> = (0..7).map(|_| (0..5).map(|_| coarse()).collect()).collect();
        for chosen in [vec!["a", "b"], vec!["b"]] {
            let answers = c
                .search_vectors(queries.clone())
                .k(25)
                .layers(chosen.clone())
                .run()
                .unwrap();
            for (query, answer) in queries.iter().zip(answers) {
                let dot = |v: &[f32; 5]| {
                    v.iter()
                        .zip(query)
                        .map(|(x, y)| f64::from(*x) * f64::from(*y))
                        .sum::<f64>()
                };
                let score = |v: &[[f32; 5]; 2]| {
                    if chosen.len() == 2 {
                        dot(&v[0]).max(dot(&v[1]))
                    } else {
                        dot(&v[1])
                    }
                };
                let mut expected: Vec<(f64, &Id)> =
                    model.iter().map(|(id, v)| (score(v) + 0.0, id)).collect();
                expected.sort_by(|x, y| y.0.total_cmp(&x.0).then_with(|| x.1.cmp(y.1)));
                expected.truncate(25);
                let got: Vec<(f64, &Id)> = answer.iter().map(|hit| (hit.score, &hit.id)).collect();
                assert_eq!(got, expected);
            }
        }
    }
    assert!(db.verify().unwrap().is_sound());
}

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

#[test]
fn cosine_compares_directions_and_refuses_a_vector_without_one() {
    let (_home, db) = database();
    let c = db
        .collection("c")
        .vectors(2, ["v"], Element::F32)
        .similarity(Similarity::Cosine)
        .create()
        .unwrap();
    c.insert(Document::new("long").vector([300.0, 400.0])).unwrap();
    c.insert(Document::new("short").vector([1e-20, 0.0])).unwrap();
    assert!(matches!(
        c.insert(Document::new("zero").vector([0.0, 0.0])),
        Err(Error::ZeroVector { .. })
    ));
    let hits = c.search_vector([0.0, 9e30]).run().unwrap();
    assert!((hits[0].score - 0.8).abs() < 1e-7 && hits[0].id == Id::from("long"));
    assert_eq!(
        c.get("long").unwrap().unwrap().layer_vectors().unwrap(),
        [[0.6, 0.8]]
    );
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

// B104
#[test]
fn parallel_writers_all_commit_and_make_no_double() {
    let (_home, db) = database();
    let c = plane(&db, "c", 2);
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for t in 0..32u64 {
            let (c, failed) = (c.clone(), &failed);
            scope.spawn(move || {
                for n in 0..50u64 {
                    let result = c.insert(Document::new(t * 1000 + n).vector([1.0, 0.0]));
                    failed.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
                    c.upsert(Document::new("x").vector([t as f32, n as f32])).unwrap();
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0);
    assert_eq!(c.count().unwrap(), 1601);
    let all = c.search_vector([1.0, 0.0]).k(5000).run().unwrap();
    assert_eq!(all.iter().filter(|hit| hit.id == Id::from("x")).count(), 1);
}

// B104
#[test]
fn eight_databases_with_four_threads_each_do_not_wait_for_each_other() {
    let homes: Vec<_> = (0..8).map(|_| database()).collect();
    std::thread::scope(|scope| {
        for (_, db) in &homes {
            let c = plane(db, "c", 2);
            for t in 0..4u64 {
                let c = c.clone();
                scope.spawn(move || {
                    for n in 0..20u64 {
                        c.insert(Document::new(t * 100 + n).vector([1.0, n as f32]))
                            .unwrap();
                        c.search_vector([1.0, 1.0]).run().unwrap();
                    }
                });
            }
        }
    });
    for (_, db) in homes {
        assert_eq!(db.collection("c").open().unwrap().count().unwrap(), 80);
        db.close().unwrap();
    }
}

// B96
#[test]
fn iterating_a_snapshot_ends_though_the_loop_commits() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    for n in 0..50u64 {
        c.insert(Document::new(n).vector([n as f32])).unwrap();
    }
    let snapshot = db.snapshot();
    let view = snapshot.collection("c").unwrap();
    let mut seen = 0;
    for document in view.iter() {
        let Id::Number(n) = *document.unwrap().id() else {
            panic!("an id of another kind")
        };
        c.insert(Document::new(n + 1000).vector([0.0])).unwrap();
        seen += 1;
    }
    assert_eq!((seen, c.count().unwrap()), (50, 100));
}

#[test]
fn a_snapshot_outlives_its_database_and_lets_the_lock_go() {
    let (home, db) = database();
    let c = plane(&db, "c", 1);
    c.insert(Document::new("a").vector([1.0])).unwrap();
    let snapshot = db.snapshot();
    drop((c, db));
    let again = Database::open(home.path().join("db")).unwrap();
    again.collection("c").open().unwrap().delete("a").unwrap();
    again.compact().unwrap();
    let hits = snapshot
        .collection("c")
        .unwrap()
        .search_vector([2.0])
        .run()
        .unwrap();
    assert_eq!((hits.len(), hits[0].score), (1, 2.0));
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

// B97
#[test]
fn a_second_writer_is_refused_by_any_path_with_the_holders_process_id() {
    let (home, db) = database();
    let path = home.path().join("db");
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for other in [path.clone(), home.path().join("./db"), link] {
        match Database::open(&other).err().unwrap() {
            Error::Storage(StorageError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            error => panic!("{error}"),
        }
    }
    drop(db);
    Database::open(&path).unwrap();
}

#[test]
fn after_closing_other_handles_say_so_and_reads_go_on() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    c.insert(Document::new("a").vector([1.0])).unwrap();
    let other = db.clone();
    db.close().unwrap();
    let closed = c.insert(Document::new("b").vector([1.0])).unwrap_err();
    assert!(matches!(closed, Error::Storage(StorageError::Closed)), "{closed}");
    assert!(other.close().is_ok());
    assert_eq!(c.search_vector([1.0]).run().unwrap().len(), 1);
}

#[test]
fn optimistic_updates_lose_no_increment() {
    let (_home, db) = database();
    let c = plane(&db, "c", 1);
    c.insert(Document::new("counter").vector([0.0])).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (db, c) = (db.clone(), c.clone());
            scope.spawn(move || {
                let mut done = 0;
                while done < 25 {
                    let read = c.get("counter").unwrap().unwrap();
                    let value = read.layer_vectors().unwrap()[0][0];
                    let mut tx = db.begin();
                    tx.replace(&c, Document::new("counter").vector([value + 1.0]), read.version())
                        .unwrap();
                    match tx.commit() {
                        Ok(_) => done += 1,
                        Err(Error::Storage(StorageError::VersionConflict { .. })) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(
        c.get("counter").unwrap().unwrap().layer_vectors().unwrap(),
        [[100.0]]
    );
}

#[test]
fn one_transaction_over_two_collections_is_atomic() {
    let (home, db) = database();
    let (a, b) = (plane(&db, "a", 1), plane(&db, "b", 1));
    let mut tx = db.begin();
    tx.insert(&a, Document::new("x").vector([1.0])).unwrap();
    tx.insert(&b, Document::new("x").vector([2.0])).unwrap();
    tx.commit().unwrap();
    let mut tx = db.begin();
    tx.insert(&a, Document::new("y").vector([1.0])).unwrap();
    tx.insert(&b, Document::new("x").vector([2.0])).unwrap();
    assert!(tx.commit().is_err());
    let mut dropped = db.begin();
    dropped.insert(&a, Document::new("z").vector([1.0])).unwrap();
    drop(dropped);
    assert_eq!((a.count().unwrap(), b.count().unwrap()), (1, 1));
    let elsewhere = Database::create(home.path().join("other")).unwrap();
    assert!(
        elsewhere
            .begin()
            .insert(&a, Document::new("q").vector([1.0]))
            .is_err()
    );
    db.drop_collection("a").unwrap();
    assert!(matches!(
        a.count(),
        Err(Error::Storage(StorageError::UnknownCollection { .. }))
    ));
    assert_eq!(db.collections(), ["b"]);
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
