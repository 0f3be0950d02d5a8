//! Reports about other engines' approximate indexes, as tests of this one; the rows of the list of cases.

use std::time::{Duration, Instant};

use stratal::{Collection, Database, Document, Element, Hit, Id, SearchPath};

use crate::numbers::Numbers;

const DIMENSION: usize = 24;

/// A vector of unit length near another one.
fn near(centre: &[f32], numbers: &mut Numbers, spread: f32) -> Vec<f32> {
    let other = numbers.unit(DIMENSION);
    let vector: Vec<f32> = centre.iter().zip(&other).map(|(a, b)| a + spread * b).collect();
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / length).collect()
}

fn database() -> (tempfile::TempDir, Database, Collection) {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let collection = db
        .collection("c")
        .vectors(DIMENSION, ["v"], Element::F32)
        .create()
        .unwrap();
    (home, db, collection)
}

fn add(collection: &Collection, first: u64, vectors: &[Vec<f32>]) {
    let mut transaction = collection.database().begin();
    for (at, vector) in vectors.iter().enumerate() {
        let document = Document::new(first + at as u64).vector(vector.clone());
        transaction.upsert(collection, document).unwrap();
    }
    transaction.commit().unwrap();
}

fn delete(collection: &Collection, ids: impl Iterator<Item = u64>) {
    let mut transaction = collection.database().begin();
    ids.for_each(|id| transaction.delete(collection, id).unwrap());
    transaction.commit().unwrap();
}

fn near_hits(collection: &Collection, query: &[f32], k: usize) -> Vec<Hit> {
    let search = collection.search_vector(query.to_vec()).k(k).fields([]);
    search.approximate().run().unwrap()
}

fn ids(hits: &[Hit]) -> Vec<Id> {
    hits.iter().map(|hit| hit.id.clone()).collect()
}

#[test]
fn b31_identical_vectors_cut_nobody_off() {
    let (_home, _db, collection) = database();
    let mut numbers = Numbers(1);
    let (copied, others) = (numbers.unit(DIMENSION), numbers.units(5000, DIMENSION));
    add(&collection, 0, &vec![copied.clone(); 1000]);
    add(&collection, 1000, &others);
    collection.build_index().run().unwrap();
    let found = collection
        .search_vectors(others.clone())
        .effort(40)
        .k(1)
        .fields([])
        .run()
        .unwrap();
    let own = found
        .iter()
        .enumerate()
        .filter(|(at, hits)| hits[0].id == Id::from(1000 + *at as u64));
    assert!(own.count() >= 4950);
    let copies = near_hits(&collection, &copied, 1000);
    assert_eq!(copies.len(), 1000);
    assert!(copies.iter().all(|hit| hit.id < Id::from(1000u64)));
}

#[test]
fn b33_inner_products_of_spread_norms_keep_their_recall_for_many_hits() {
    let (_home, _db, collection) = database();
    let mut numbers = Numbers(2);
    let mut all = numbers.units(8326, DIMENSION);
    for vector in &mut all {
        let sum: f64 = (0..12)
            .map(|_| (numbers.next() >> 11) as f64 / (1u64 << 53) as f64)
            .sum();
        let norm = (sum - 6.0).exp() as f32;
        vector.iter_mut().for_each(|value| *value *= norm);
    }
    add(&collection, 0, &all);
    collection.build_index().run().unwrap();
    let queries = numbers.units(60, DIMENSION);
    for k in [10, 890] {
        let search = || collection.search_vectors(queries.clone()).k(k).fields([]);
        let truth = search().run().unwrap();
        let found = search().recall_target(0.95).run().unwrap();
        let met = found.iter().zip(&truth).map(|(found, truth)| {
            let found = ids(found);
            truth.iter().filter(|hit| found.contains(&hit.id)).count()
        });
        let share = met.sum::<usize>() as f64 / (60 * k) as f64;
        assert!(share >= 0.93, "k {k}: {share}");
    }
}

#[test]
fn b34_where_all_that_is_near_is_deleted_the_far_are_found() {
    let (_home, _db, collection) = database();
    let mut numbers = Numbers(3);
    let centres = numbers.units(2, DIMENSION);
    let mut clusters = Vec::new();
    for centre in &centres {
        clusters.extend((0..3000).map(|_| near(centre, &mut numbers, 0.3)));
    }
    add(&collection, 0, &clusters);
    collection.build_index().run().unwrap();
    delete(&collection, 0..3000);
    for query in [clusters[7].clone(), centres[0].clone()] {
        let search = || collection.search_vector(query.clone()).fields([]);
        let found = search().effort(1).run().unwrap();
        assert_eq!(found, search().run().unwrap());
        assert_eq!(found.len(), 10);
    }
}

// B29 as well: a document that moved comes once, by its new vector
#[test]
fn b36_a_deleted_document_leaves_no_ghost_and_a_new_one_of_its_id_lies_elsewhere() {
    let (home, db, collection) = database();
    let mut numbers = Numbers(4);
    add(&collection, 0, &numbers.units(5000, DIMENSION));
    let (a, b) = (numbers.unit(DIMENSION), numbers.unit(DIMENSION));
    let y = near(&a, &mut numbers, 0.1);
    add(&collection, 9000, &[a.clone(), y]);
    collection.build_index().run().unwrap();
    assert_eq!(ids(&near_hits(&collection, &a, 2)), [9000u64, 9001].map(Id::from));
    delete(&collection, 9000..9001);
    assert_eq!(ids(&near_hits(&collection, &a, 1)), [Id::from(9001u64)]);
    add(&collection, 9000, std::slice::from_ref(&b));
    let settled = |collection: &Collection| {
        assert_eq!(near_hits(collection, &a, 1)[0].id, Id::from(9001u64));
        assert_eq!(near_hits(collection, &b, 1)[0].id, Id::from(9000u64));
        let all = near_hits(collection, &a, 5002);
        assert_eq!(all.iter().filter(|hit| hit.id == Id::from(9000u64)).count(), 1);
        assert_eq!(collection.count().unwrap(), 5002);
    };
    settled(&collection);
    db.flush().unwrap();
    settled(&collection);
    collection.build_index().run().unwrap();
    settled(&collection);
    collection.compact().unwrap();
    collection.build_index().run().unwrap();
    settled(&collection);
    drop(collection);
    db.close().unwrap();
    let db = Database::open(home.path().join("db")).unwrap();
    settled(&db.collection("c").open().unwrap());
}

#[test]
fn b37_a_build_brings_nothing_deleted_back() {
    let (_home, _db, collection) = database();
    let all = Numbers(5).units(12_000, DIMENSION);
    add(&collection, 0, &all);
    delete(&collection, (0..12_000).step_by(2));
    // More goes while it is being built.
    let once = std::sync::Once::new();
    let told = |_: &stratal::IndexProgress| once.call_once(|| delete(&collection, (1..12_000).step_by(10)));
    assert_eq!(
        collection.build_index().progress(&told).run().unwrap().documents,
        6000
    );
    assert_eq!(collection.count().unwrap(), 4800);
    let queries: Vec<&Vec<f32>> = all.iter().step_by(7).collect();
    let search = collection
        .search_vectors(queries.into_iter().cloned())
        .effort(40)
        .fields([]);
    for hits in search.run().unwrap() {
        assert_eq!(hits.len(), 10);
        for hit in hits {
            let Id::Number(found) = hit.id else {
                panic!("{:?}", hit.id)
            };
            assert!(found % 2 == 1 && found % 10 != 1, "{found} was deleted");
        }
    }
}

#[test]
fn b39_writers_beside_a_build_lose_nothing_and_end() {
    let (_home, _db, collection) = database();
    let all = Numbers(6).units(8000, DIMENSION);
    add(&collection, 0, &all[..6000]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| collection.build_index().run().unwrap());
        for writer in 0..10usize {
            let (collection, all) = (&collection, &all);
            scope.spawn(move || {
                for at in 0..100 {
                    let id = 6000 + writer * 100 + at;
                    let document = Document::new(id as u64).vector(all[id].clone());
                    collection.insert(document).unwrap();
                }
            });
        }
        for writer in 0..16usize {
            let (collection, all) = (&collection, &all);
            scope.spawn(move || {
                for id in 0..50usize {
                    let document = Document::new(id as u64).vector(all[7000 + id + writer].clone());
                    collection.upsert(document).unwrap();
                }
            });
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(collection.count().unwrap(), 7000);
    for (id, vector) in all.iter().enumerate().take(7000).skip(6000) {
        assert_eq!(near_hits(&collection, vector, 1)[0].id, Id::from(id as u64));
    }
}

// B42: few of many pass, and all of them lie far from the query
#[test]
fn b42_a_narrow_filter_gives_as_many_hits_as_pass() {
    let (_home, db, collection) = database();
    let mut numbers = Numbers(7);
    let all = numbers.units(20_000, DIMENSION);
    let query = numbers.unit(DIMENSION);
    let product = |vector: &[f32]| vector.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
    let mut far: Vec<usize> = (0..all.len()).collect();
    far.sort_by(|&a, &b| product(&all[a]).total_cmp(&product(&all[b])));
    let far: std::collections::HashSet<usize> = far.into_iter().take(322).collect();
    let mut transaction = db.begin();
    for (id, vector) in all.iter().enumerate() {
        let metadata = serde_json::json!({ "far": far.contains(&id) });
        let document = Document::new(id as u64).vector(vector.clone()).metadata(metadata);
        transaction.upsert(&collection, document).unwrap();
    }
    transaction.commit().unwrap();
    collection.build_index().run().unwrap();
    for (k, expected) in [(10, 10), (96, 96), (644, 322)] {
        let search = || {
            collection
                .search_vector(query.clone())
                .filter("far = true")
                .k(k)
                .fields([])
        };
        let found = search().approximate().run().unwrap();
        assert_eq!(found.len(), expected);
        assert_eq!(found, search().run().unwrap());
    }
}

#[test]
fn explanations_say_which_parts_were_walked_and_which_were_scanned() {
    let (_home, db, collection) = database();
    let mut numbers = Numbers(8);
    let mut transaction = db.begin();
    for id in 0..9000u64 {
        let metadata = serde_json::json!({ "n": id });
        let document = Document::new(id)
            .vector(numbers.unit(DIMENSION))
            .metadata(metadata);
        transaction.upsert(&collection, document).unwrap();
    }
    transaction.commit().unwrap();
    collection.build_index().run().unwrap();
    add(&collection, 9000, &numbers.units(100, DIMENSION));
    let query = numbers.unit(DIMENSION);
    let paths = |search: stratal::Search| {
        let (hits, explanation) = search.explain().unwrap();
        assert_eq!(hits.len(), 10);
        assert_eq!((explanation.queries, explanation.layers), (1, 1));
        let parts = explanation.parts.iter();
        let told: Vec<_> = parts
            .map(|part| (part.segment.is_some(), part.documents, part.path))
            .collect();
        (hits, told, explanation.to_string())
    };
    let search = || collection.search_vector(query.clone()).fields([]);
    let (found, told, text) = paths(search().effort(40));
    assert_eq!(
        told,
        [
            (true, 9000, SearchPath::Graph),
            (false, 100, SearchPath::FullVectors)
        ]
    );
    assert!(
        text.contains("9000 documents, graph") && text.contains("memory, 100 documents"),
        "{text}"
    );
    assert_eq!(found, search().effort(40).run().unwrap());
    // A walk compares a part of the documents, scores few of them, and reads at least a line of memory for each.
    let (_, explanation) = search().effort(40).explain().unwrap();
    let walked = &explanation.parts[0];
    assert!((100..9000).contains(&walked.scanned), "{walked:?}");
    assert!((10..100).contains(&walked.scored), "{walked:?}");
    assert!(walked.bytes_read >= 64 * walked.scanned, "{walked:?}");
    // All is compared with where that is asked for, and where few are left.
    for scanned in [
        search(),
        search().approximate().exact(),
        search().recall_target(1.0),
        search().effort(40).filter("n < 40"),
    ] {
        let (_, told, _) = paths(scanned);
        assert!(
            told.iter().all(|&(_, _, path)| path != SearchPath::Graph),
            "{told:?}"
        );
    }
    // Without its index a segment is scanned, and that is told.
    let (_home, db, collection) = database();
    add(&collection, 0, &numbers.units(5000, DIMENSION));
    db.flush().unwrap();
    let reader = Database::open_read_only(db.path()).unwrap();
    let collection = reader.collection("c").open().unwrap();
    let (_, explanation) = collection.search_vector(query).approximate().explain().unwrap();
    assert!(
        explanation
            .parts
            .iter()
            .all(|part| part.path != SearchPath::Graph)
    );
}

#[test]
fn an_index_of_another_make_is_not_read_but_made_again() {
    let (home, db, collection) = database();
    let mut numbers = Numbers(9);
    add(&collection, 0, &numbers.units(5000, DIMENSION));
    collection.build_index().run().unwrap();
    let folder = home.path().join("db");
    let files = std::fs::read_dir(folder.join("segments")).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    let path = paths
        .find(|path| path.extension().is_some_and(|ending| ending == "graph"))
        .unwrap();
    drop(collection);
    db.close().unwrap();
    let sound = std::fs::read(&path).unwrap();
    // As an earlier program would have written it: the make, and all checksums of it.
    let mut other = sound.clone();
    let put = |bytes: &mut [u8], at: usize, of: std::ops::Range<usize>| {
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes[of]).to_le_bytes();
        bytes[at..at + 8].copy_from_slice(&sum);
    };
    other[60..64].copy_from_slice(&1u32.to_le_bytes());
    put(&mut other, 4088, 0..4088);
    let footer = other.len() - 64;
    let header: [u8; 8] = other[4088..4096].try_into().unwrap();
    other[footer + 16..footer + 24].copy_from_slice(&header);
    put(&mut other, footer + 56, footer..footer + 56);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &other).unwrap();
    let query = numbers.unit(DIMENSION);
    let scanned = |db: &Database| {
        let collection = db.collection("c").open().unwrap();
        let search = || collection.search_vector(query.clone()).fields([]);
        let (found, explanation) = search().approximate().explain().unwrap();
        assert!(
            explanation
                .parts
                .iter()
                .all(|part| part.path != SearchPath::Graph)
        );
        assert_eq!(found, search().run().unwrap());
    };
    scanned(&Database::open_read_only(&folder).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), other, "a reader leaves it");
    let db = Database::open(&folder).unwrap();
    scanned(&db);
    let begun = Instant::now();
    while std::fs::read(&path).is_ok_and(|bytes| bytes == other) || !path.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the search asked for another"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(db);
    assert_eq!(std::fs::read(&path).unwrap(), sound);
}
