//! Re-embedding: another encoder takes over in one commit, whatever happens meanwhile. The encoder is a tiny
//! random BERT; its poolings make other vectors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stratal::{
    Collection, Database, Document, Element, Encoder, Error, Field, Pooling, ReembedProgress, Similarity,
};

fn encoder(pooling: Pooling) -> Encoder {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert");
    Encoder::from_folder(model)
        .unwrap()
        .pooling(pooling)
        .name(format!("{pooling:?}"))
}

fn text(number: u64) -> String {
    let words = ["first", "another", "third", "text", "one", "of", "the", "and"];
    let mut rest = number + 1;
    let mut text = String::new();
    while rest > 0 {
        text.push_str(words[(rest % 8) as usize]);
        text.push(' ');
        rest /= 8;
    }
    text
}

fn filled(path: PathBuf, documents: u64) -> (Database, Collection) {
    let db = Database::create(path).unwrap();
    let notes = db
        .collection("notes")
        .encoder(encoder(Pooling::Mean).layers([2, 1]))
        .similarity(Similarity::Cosine)
        .create()
        .unwrap();
    let mut tx = db.begin();
    for number in 0..documents {
        tx.insert(&notes, Document::new(number).text(text(number)))
            .unwrap();
    }
    tx.commit().unwrap();
    (db, notes)
}

/// Every document has exactly the vectors that its text has by the collection's own encoder.
fn assert_true(notes: &Collection) {
    let encoder = notes.encoder().unwrap();
    for document in notes.snapshot().unwrap().iter() {
        let document = document.unwrap();
        let passage = stratal::Passage {
            title: None,
            text: document.text().unwrap(),
        };
        let wanted = encoder.encode_documents(&[passage], &Default::default()).unwrap();
        let stored = document.layer_vectors().unwrap();
        for (layer, stored) in wanted.of(0).chunks_exact(wanted.dimension).zip(&stored) {
            let norm = match notes.similarity() {
                Similarity::Cosine => layer.iter().map(|x| x * x).sum::<f32>().sqrt(),
                Similarity::InnerProduct => 1.0,
            };
            for (a, b) in layer.iter().zip(stored) {
                assert!((a / norm - b).abs() < 1e-5, "of {}", document.id());
            }
        }
    }
}

fn answers(notes: &Collection) -> Vec<(String, f64)> {
    let hits = notes
        .search("another text")
        .k(1000)
        .fields([Field::Title])
        .run()
        .unwrap();
    hits.into_iter()
        .map(|hit| (hit.id.to_string(), hit.score))
        .collect()
}

#[test]
fn the_new_generation_is_searched_through_scan_codes_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let (db, notes) = filled(home.path().join("db"), 1500);
    db.flush().unwrap();
    notes.reembed(encoder(Pooling::Cls)).run().unwrap();
    notes.compact().unwrap();
    let (hits, explanation) = notes.search("another text").k(20).explain().unwrap();
    let ways: Vec<_> = explanation.parts.iter().map(|part| part.path).collect();
    assert_eq!(ways, [stratal::SearchPath::ScanCodes], "{explanation}");
    assert_true(&notes);
    // What the codes left out could not have been an answer: every document, scored by hand.
    let query = notes
        .encoder()
        .unwrap()
        .encode_queries(&["another text"])
        .unwrap();
    let length = query
        .of(0)
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt();
    let mut scores: Vec<f64> = Vec::new();
    for document in notes.snapshot().unwrap().iter() {
        let vectors = document.unwrap().layer_vectors().unwrap();
        let dot = |v: &Vec<f32>| {
            v.iter()
                .zip(query.of(0))
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum::<f64>()
                / length
        };
        scores.push(vectors.iter().map(dot).fold(f64::MIN, f64::max));
    }
    scores.sort_by(|a, b| b.total_cmp(a));
    for (hit, score) in hits.iter().zip(&scores) {
        assert!((hit.score - score).abs() < 1e-5, "{} {score}", hit.score);
    }
}

// B91
#[test]
fn another_encoder_answers_from_one_commit_on_and_the_old_one_can_be_gone_back_to() {
    let home = tempfile::tempdir().unwrap();
    let (db, notes) = filled(home.path().join("db"), 700);
    db.flush().unwrap();
    let before = answers(&notes);
    let held = notes.snapshot().unwrap();
    let told = AtomicU64::new(0);
    let progress = |now: &ReembedProgress| {
        let last = told.swap(now.done, Ordering::Relaxed);
        assert!(now.done >= last && now.done <= now.total);
        // Others write meanwhile.
        if last == 0 {
            notes.upsert(Document::new(3u64).text("changed text")).unwrap();
            notes.insert(Document::new(9000u64).text("one more")).unwrap();
            notes.delete(4u64).unwrap();
            assert!(answers(&notes).len() > 600, "the old one answers");
        }
    };
    let target = encoder(Pooling::Cls);
    let report = notes.reembed(target.clone()).progress(&progress).run().unwrap();
    assert!(report.cut_over);
    assert_eq!(told.load(Ordering::Relaxed), 700);
    assert!(report.encoded >= 700 && report.encoded < 710, "{report:?}");
    assert_eq!(notes.count().unwrap(), 700);
    assert_eq!(notes.generation(), target.identity().hash);
    assert_eq!(notes.layers(), ["2"]);
    assert_eq!(notes.get(3u64).unwrap().unwrap().text(), Some("changed text"));
    assert!(notes.get(4u64).unwrap().is_none());
    assert_true(&notes);
    // A snapshot from before answers by its own encoder, the question encoded by it too.
    let old: Vec<_> = held
        .search("another text")
        .k(1000)
        .fields([Field::Title])
        .run()
        .unwrap();
    assert_eq!(
        old.into_iter()
            .map(|hit| (hit.id.to_string(), hit.score))
            .collect::<Vec<_>>(),
        before
    );
    // The same again encodes nothing.
    let again = notes.reembed(target.clone()).run().unwrap();
    assert!(again.cut_over && again.encoded == 0);

    notes.insert(Document::new(9001u64).text("after it")).unwrap();
    assert_true(&notes);
    let generations = notes.generations().unwrap();
    assert_eq!(
        generations
            .iter()
            .map(|g| (g.number, g.answers))
            .collect::<Vec<_>>(),
        [(1, false), (2, true)]
    );
    assert!(generations[0].missing > 0);
    let back = notes.roll_back(1).run().unwrap();
    assert!(back.cut_over && back.encoded > 0 && back.encoded < 10, "{back:?}");
    assert_eq!(notes.layers(), ["2", "1"]);
    assert_true(&notes);
    assert!(notes.roll_back(7).run().is_err());
    assert!(notes.drop_generation(1).is_err(), "it answers");
    db.close().unwrap();
    drop((notes, db, held));

    let db = Database::open(home.path().join("db")).unwrap();
    let notes = db.collection("notes").open().unwrap();
    assert_true(&notes);
    notes.roll_back(2).run().unwrap();
    assert_true(&notes);
    let models = || std::fs::read_dir(db.models_folder()).unwrap().count();
    let bytes = db.statistics().unwrap().disk_bytes;
    assert_eq!(models(), 2);
    notes.drop_generation(1).unwrap();
    assert_eq!(models(), 1);
    assert!(db.statistics().unwrap().disk_bytes < bytes);
    assert_true(&notes);
    assert!(db.verify().unwrap().is_sound());
}

#[test]
fn a_run_that_was_stopped_goes_on_where_it_was() {
    let home = tempfile::tempdir().unwrap();
    let (db, notes) = filled(home.path().join("db"), 1300);
    db.flush().unwrap();
    let stop = AtomicBool::new(false);
    let progress = |_: &ReembedProgress| stop.store(true, Ordering::Relaxed);
    let first = notes
        .reembed(encoder(Pooling::Cls))
        .progress(&progress)
        .cancel(&stop)
        .run()
        .unwrap();
    assert!(!first.cut_over);
    assert_eq!(first.encoded, 512);
    assert_eq!(
        notes.generation(),
        encoder(Pooling::Mean).layers([2, 1]).identity().hash
    );
    drop((notes, db));
    let db = Database::open(home.path().join("db")).unwrap();
    let notes = db.collection("notes").open().unwrap();
    let rest = notes.reembed(encoder(Pooling::Cls)).run().unwrap();
    assert!(rest.cut_over);
    assert_eq!(rest.encoded, 1300 - 512);
    assert_true(&notes);
}

#[test]
fn writers_on_many_threads_never_leave_a_document_with_the_wrong_vectors() {
    let home = tempfile::tempdir().unwrap();
    let (db, notes) = filled(home.path().join("db"), 300);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3u64 {
            let (notes, done) = (&notes, &done);
            scope.spawn(move || {
                let mut round = 0;
                while !done.load(Ordering::Relaxed) {
                    let number = 1000 * (writer + 1) + round % 20;
                    notes
                        .upsert(Document::new(number).text(text(number + round)))
                        .unwrap();
                    if round % 5 == 0 {
                        notes.delete(number).unwrap();
                    }
                    assert!(!answers(notes).is_empty());
                    round += 1;
                }
            });
        }
        for pooling in [Pooling::Cls, Pooling::Mean, Pooling::Cls] {
            assert!(notes.reembed(encoder(pooling)).run().unwrap().cut_over);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_true(&notes);
    assert!(db.verify().unwrap().is_sound());
}

// B91
#[test]
fn documents_without_text_are_named_and_nothing_changes() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let notes = db
        .collection("notes")
        .vectors(2, ["v"], Element::F32)
        .create()
        .unwrap();
    notes
        .insert(Document::new("bare").vector(vec![1.0, 2.0]))
        .unwrap();
    notes
        .insert(Document::new("worded").text("the text").vector(vec![2.0, 1.0]))
        .unwrap();
    let refused = notes.reembed(encoder(Pooling::Cls)).run().unwrap_err();
    let message = refused.to_string();
    assert!(
        matches!(refused, Error::Invalid { .. })
            && message.contains("\"bare\"")
            && message.contains("1 of the documents"),
        "{message}"
    );
    let by_id: BTreeMap<String, f64> = notes
        .search_vector(vec![1.0, 0.0])
        .run()
        .unwrap()
        .into_iter()
        .map(|hit| (hit.id.to_string(), hit.score))
        .collect();
    assert_eq!(
        by_id,
        BTreeMap::from([("\"bare\"".into(), 1.0), ("\"worded\"".into(), 2.0)])
    );
    notes.delete("bare").unwrap();
    assert!(notes.reembed(encoder(Pooling::Cls)).run().unwrap().cut_over);
    assert_true(&notes);
    assert_eq!(notes.search("the text").run().unwrap().len(), 1);
    // The caller's vectors can be gone back to, as long as no document lacks them.
    assert!(notes.roll_back(1).run().unwrap().cut_over);
    notes.roll_back(2).run().unwrap();
    notes.insert(Document::new("new").text("another text")).unwrap();
    assert!(matches!(notes.roll_back(1).run(), Err(Error::NoEncoder { .. })));
    assert_true(&notes);
}

/// Vectors get longer by a lexical part, words find what the model does not, and the way back is open.
#[test]
fn an_encoder_that_weighs_words_takes_over() {
    let home = tempfile::tempdir().unwrap();
    let (db, notes) = filled(home.path().join("db"), 60);
    let before = answers(&notes);
    let plain = encoder(Pooling::Mean).layers([2, 1]);
    let options = stratal::encoder::LexicalOptions {
        dimension: 512,
        weight: 50.0,
    };
    let words = notes.count_words(&plain, &options).unwrap();
    let weighing = plain
        .save_with_lexical(&words, home.path().join("model"))
        .unwrap();
    let dimension = weighing.dimension();
    assert!(notes.reembed(weighing).run().unwrap().cut_over);
    assert_eq!(notes.dimension(), dimension);
    assert_true(&notes);
    // Which is the model's own folder in the database, not the one it came from.
    std::fs::remove_dir_all(home.path().join("model")).unwrap();
    drop((notes, db));
    let db = Database::open(home.path().join("db")).unwrap();
    let notes = db.collection("notes").open().unwrap();
    notes
        .insert(Document::new(1000).text("the the the of one"))
        .unwrap();
    assert_true(&notes);
    let hits = notes.search("the").k(60).fields([Field::Text]).run().unwrap();
    let with = |hit: &stratal::Hit| hit.text.as_deref().unwrap().split(" ").any(|word| word == "the");
    let having = hits.iter().filter(|hit| with(hit)).count();
    assert!(
        having > 10 && hits[..having].iter().all(with),
        "those with the word come first"
    );
    notes.delete(1000).unwrap();
    assert!(notes.roll_back(1).run().unwrap().cut_over);
    assert_eq!(answers(&notes), before);
}
