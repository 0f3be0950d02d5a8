//! Scan codes beside segments: they change no answer, whatever happens to them.

use std::path::{Path, PathBuf};

use stratal::{Collection, Database, Document, Element, Error, SearchPath, Similarity};

const DIMENSION: usize = 24;
const ROWS: u64 = 3000;

/// Repeatable whole numbers, which every element type holds.
fn vector(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..DIMENSION)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % 201) as f32 - 100.0
        })
        .collect()
}

fn fill(path: &Path, element: Element) -> (Database, Collection) {
    let db = Database::create(path).unwrap();
    let c = db
        .collection("c")
        .vectors(DIMENSION, ["a", "b"], element)
        .similarity(Similarity::InnerProduct)
        .create()
        .unwrap();
    let mut tx = db.begin();
    for id in 0..ROWS {
        tx.insert(
            &c,
            Document::new(id).layer_vectors([vector(2 * id), vector(2 * id + 1)]),
        )
        .unwrap();
    }
    tx.commit().unwrap();
    (db, c)
}

type Answers = Vec<(Vec<(stratal::Id, f64)>, Vec<SearchPath>)>;

/// What some searches find, over both layers and over one, and the ways they went.
fn ask(c: &Collection) -> Result<Answers, Error> {
    let mut answers = Vec::new();
    for seed in [7, 1_000_003] {
        for layers in [&["a", "b"][..], &["b"]] {
            let search = c.search_vector(vector(seed)).k(20).layers(layers.iter().copied());
            let (hits, explanation) = search.explain()?;
            answers.push((
                hits.into_iter().map(|hit| (hit.id, hit.score)).collect(),
                explanation.parts.iter().map(|part| part.path).collect(),
            ));
        }
    }
    Ok(answers)
}

fn hits(answers: &Answers) -> Vec<&Vec<(stratal::Id, f64)>> {
    answers.iter().map(|(hits, _)| hits).collect()
}

fn ways(answers: &Answers) -> Vec<SearchPath> {
    let mut ways: Vec<SearchPath> = answers.iter().flat_map(|(_, ways)| ways.clone()).collect();
    ways.dedup();
    ways
}

/// The files of scan codes in a database.
fn code_files(path: &Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(path.join("segments")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "codes"))
        .collect()
}

#[test]
fn every_element_type_is_searched_alike_in_memory_and_through_codes() {
    let home = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for element in [Element::F32, Element::F16, Element::Bf16, Element::I8] {
        let path = home.path().join(format!("{element:?}"));
        let (db, c) = fill(&path, element);
        let before = ask(&c).unwrap();
        assert_eq!(ways(&before), [SearchPath::FullVectors]);
        db.flush().unwrap();
        let after = ask(&c).unwrap();
        assert_eq!(ways(&after), [SearchPath::ScanCodes], "{element:?}");
        assert_eq!(hits(&before), hits(&after), "{element:?}");
        // Whole numbers up to 100 are the same in all of them.
        all.push(hits(&after).into_iter().cloned().collect::<Vec<_>>());
        assert!(all.iter().all(|answers| *answers == all[0]));

        let stored = c.get(5).unwrap().unwrap().layer_vectors().unwrap();
        assert_eq!(stored, [vector(10), vector(11)]);
        assert!(db.verify().unwrap().problems.is_empty());
        db.close().unwrap();
        let db = Database::open(&path).unwrap();
        let again = ask(&db.collection("c").open().unwrap()).unwrap();
        assert_eq!(after, again);
    }
}

#[test]
fn whole_numbers_alone_go_into_8_bits() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let make = |similarity| {
        db.collection("c")
            .vectors(2, ["v"], Element::I8)
            .similarity(similarity)
            .create()
    };
    assert!(matches!(make(Similarity::Cosine), Err(Error::Invalid { .. })));
    let c = make(Similarity::InnerProduct).unwrap();
    for bad in [0.5, 128.0, -129.0, 1e30, f32::NAN] {
        let refused = c.upsert(Document::new(1).vector([0.0, bad]));
        assert!(
            matches!(refused, Err(Error::NotFinite { component: 1, .. })),
            "{bad}"
        );
    }
    c.upsert(Document::new(1).vector([-128.0, 127.0])).unwrap();
    // A query need not be whole.
    let hits = c.search_vector([0.25, -0.5]).run().unwrap();
    assert_eq!(hits[0].score, -32.0 - 63.5);
}

#[test]
fn bf16_refuses_what_it_would_make_infinite() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let c = db
        .collection("c")
        .vectors(1, ["v"], Element::Bf16)
        .create()
        .unwrap();
    assert!(c.upsert(Document::new(1).vector([f32::MAX])).is_err());
    c.upsert(Document::new(1).vector([3e38])).unwrap();
    assert!(c.get(1).unwrap().unwrap().layer_vectors().unwrap()[0][0].is_finite());
}

#[test]
fn databases_without_codes_are_searched_and_get_them_by_compaction() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let (db, c) = fill(&path, Element::F32);
    db.flush().unwrap();
    let expected = ask(&c).unwrap();
    db.close().unwrap();
    drop((db, c));
    // As a build before the codes would have left it.
    let files = code_files(&path);
    assert_eq!(files.len(), 1);
    std::fs::remove_file(&files[0]).unwrap();

    let db = Database::open(&path).unwrap();
    let c = db.collection("c").open().unwrap();
    let without = ask(&c).unwrap();
    assert_eq!(ways(&without), [SearchPath::FullVectors]);
    assert_eq!(hits(&without), hits(&expected));
    db.compact().unwrap();
    let compacted = ask(&c).unwrap();
    assert_eq!(compacted, expected);
    assert_eq!(code_files(&path).len(), 1);
}

#[test]
fn damaged_codes_change_no_answer() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let (db, c) = fill(&path, Element::F16);
    db.flush().unwrap();
    let expected = ask(&c).unwrap();
    db.close().unwrap();
    drop((db, c));
    let file = code_files(&path).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let mut fell_back = 0;
    for step in 0..40 {
        let mut bytes = whole.clone();
        if step % 8 == 7 {
            bytes.truncate(bytes.len() * step / 40);
        } else {
            let at = bytes.len() * step / 40 + 11 * step;
            bytes[at] ^= 0x10;
        }
        // Replaced, as nothing of ours writes into a file that may be mapped.
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        let db = Database::open_read_only(&path).unwrap();
        let c = db.collection("c").open().unwrap();
        for _ in 0..2 {
            let found = ask(&c).unwrap();
            assert_eq!(hits(&found), hits(&expected), "step {step}");
            fell_back += usize::from(ways(&found).contains(&SearchPath::FullVectors));
        }
    }
    assert!(fell_back > 20, "{fell_back}: the damage was never met");
}

#[test]
fn deleted_documents_are_not_found_through_codes() {
    let home = tempfile::tempdir().unwrap();
    let (db, c) = fill(&home.path().join("db"), Element::F32);
    db.flush().unwrap();
    let first = ask(&c).unwrap();
    let mut tx = db.begin();
    let gone: std::collections::BTreeSet<_> = first
        .iter()
        .flat_map(|(hits, _)| &hits[..10])
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(id, _)| id.clone())
        .collect();
    for id in &gone {
        tx.delete(&c, id.clone()).unwrap();
    }
    tx.commit().unwrap();
    for ((before, _), (after, ways)) in first.iter().zip(ask(&c).unwrap()) {
        assert_eq!(ways, [SearchPath::ScanCodes]);
        let left: Vec<_> = before
            .iter()
            .filter(|(id, _)| !gone.contains(id))
            .cloned()
            .collect();
        assert_eq!(after.len(), 20);
        assert_eq!(after[..left.len()], left);
    }
    // All of them: nothing is left to find.
    let mut tx = db.begin();
    for id in (0..ROWS).map(stratal::Id::from).filter(|id| !gone.contains(id)) {
        tx.delete(&c, id).unwrap();
    }
    tx.commit().unwrap();
    assert!(ask(&c).unwrap().iter().all(|(hits, _)| hits.is_empty()));
}

#[test]
fn an_explanation_tells_what_the_search_did() {
    let home = tempfile::tempdir().unwrap();
    let (db, c) = fill(&home.path().join("db"), Element::F32);
    db.flush().unwrap();
    c.upsert(Document::new(ROWS).layer_vectors([vector(1), vector(2)]))
        .unwrap();
    let queries: Vec<Vec<f32>> = (0..3).map(vector).collect();
    let (answers, explanation) = c.search_vectors(queries.clone()).k(1).explain().unwrap();
    assert_eq!(answers, c.search_vectors(queries).k(1).run().unwrap());
    assert_eq!((explanation.queries, explanation.layers), (3, 2));
    let [segment, memory] = &explanation.parts[..] else {
        panic!("two parts, not {}", explanation.parts.len());
    };
    assert_eq!((segment.path, segment.documents), (SearchPath::ScanCodes, ROWS));
    assert!(segment.segment.is_some() && memory.segment.is_none());
    assert_eq!(segment.scanned, 3 * 2 * ROWS);
    assert!(segment.left_by_high >= segment.scored && segment.scored >= 3);
    assert!(
        segment.left_by_high < segment.scanned / 10,
        "{}",
        segment.left_by_high
    );
    assert_eq!(
        (memory.path, memory.documents, memory.multiplied),
        (SearchPath::FullVectors, 1, 3 * 2)
    );
    assert!(explanation.bytes_read() > 2 * ROWS * DIMENSION as u64 / 2);
    let told = explanation.to_string();
    assert!(
        told.contains("scan codes") && told.contains("memory, 1 documents"),
        "{told}"
    );
}
