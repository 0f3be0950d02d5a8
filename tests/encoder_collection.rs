//! Collections with an encoder: what they take, and whom they refuse. The encoder is a tiny random BERT.

use std::path::{Path, PathBuf};

use stratal::{Database, Document, Encoder, Error, Pooling, StorageError};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert")
}

fn encoder() -> Encoder {
    Encoder::from_folder(model()).unwrap()
}

#[test]
fn texts_go_in_and_questions_are_answered_after_reopening_by_the_databases_own_copy() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let db = Database::create(&path).unwrap();
    let notes = db
        .collection("notes")
        .encoder(encoder().layers([2, 1]))
        .create()
        .unwrap();
    let mut tx = db.begin();
    for text in ["the first text", "another one", "and a third"] {
        tx.insert(&notes, Document::new(text).text(text)).unwrap();
    }
    tx.commit().unwrap();
    let before = notes.search("the first text").k(3).run().unwrap();
    assert_eq!(before.len(), 3);
    assert_eq!(notes.layers(), ["2", "1"]);
    db.close().unwrap();
    drop((notes, db));

    let db = Database::open_read_only(&path).unwrap();
    let notes = db.collection("notes").open().unwrap();
    assert_eq!(notes.search("the first text").k(3).run().unwrap(), before);
    let batch = notes
        .search_texts(["another one", "the first text"])
        .k(3)
        .run()
        .unwrap();
    assert_eq!(batch[1], before);
    assert!(notes.search("   ").run().is_err());
}

// B90
#[test]
fn another_encoder_is_refused_by_name_wherever_it_comes_in() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let own = encoder().pooling(Pooling::Mean).name("own");
    let notes = db.collection("notes").encoder(own.clone()).create().unwrap();
    notes.insert(Document::new("a").text("some text")).unwrap();
    let other = encoder().pooling(Pooling::Cls).name("other");
    let refused = db
        .collection("notes")
        .encoder(other.clone())
        .open()
        .err()
        .unwrap();
    let message = refused.to_string();
    assert!(
        matches!(refused, Error::ForeignModel { .. }) && message.contains("own") && message.contains("other")
    );
    db.collection("notes").encoder(own.clone()).open().unwrap();

    let foreign = other.encode_queries(&["some text"]).unwrap().of(0).to_vec();
    for hash in [None, Some(other.identity().hash)] {
        let mut search = notes.search_vector(foreign.clone());
        let mut document = Document::new("b").vector(foreign.clone());
        if let Some(hash) = hash {
            search = search.made_by(&hash);
            document = document.made_by(&hash);
        }
        assert!(matches!(search.run(), Err(Error::ForeignModel { .. })));
        assert!(matches!(notes.insert(document), Err(Error::ForeignModel { .. })));
    }
    let mine = own.encode_queries(&["some text"]).unwrap().of(0).to_vec();
    let hits = notes
        .search_vector(mine)
        .made_by(own.identity().hash)
        .run()
        .unwrap();
    assert_eq!(hits, notes.search("some text").run().unwrap());
    assert_eq!(notes.count().unwrap(), 1);
}

#[test]
fn a_document_without_text_is_refused_and_a_question_without_an_encoder_too() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let notes = db.collection("notes").encoder(encoder()).create().unwrap();
    for document in [
        Document::new("a"),
        Document::new("a").text(" \n"),
        Document::new("a").title("a title alone"),
    ] {
        assert!(matches!(
            notes.insert(document),
            Err(Error::NothingToStore { .. })
        ));
    }
    let bare = db
        .collection("bare")
        .vectors(2, ["v"], stratal::Element::F32)
        .create()
        .unwrap();
    assert!(matches!(bare.search("words").run(), Err(Error::NoEncoder { .. })));
    notes
        .insert(Document::new("long").text("word ".repeat(2_000_000)))
        .unwrap();
    assert_eq!(notes.search("word").k(1).run().unwrap()[0].id, "long".into());
}

// B107
#[test]
fn the_copy_of_an_encoder_goes_with_the_last_collection_and_a_missing_one_is_named() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let folder = db.models_folder().join(encoder().identity().hash);
    for name in ["one", "two"] {
        db.collection(name).encoder(encoder()).create().unwrap();
    }
    db.drop_collection("one").unwrap();
    assert!(folder.is_dir());
    db.drop_collection("two").unwrap();
    assert!(!folder.exists());

    db.collection("three").encoder(encoder()).create().unwrap();
    let path = db.path().to_owned();
    drop(db);
    std::fs::remove_dir_all(&folder).unwrap();
    let db = Database::open(&path).unwrap();
    let three = db.collection("three").open().unwrap();
    assert!(matches!(
        three.search("words").run(),
        Err(Error::MissingModel { .. })
    ));
    let unknown = db.drop_collection("threee").unwrap_err();
    assert!(matches!(
        unknown,
        Error::Storage(StorageError::UnknownCollection { similar: Some(_), .. })
    ));
}
