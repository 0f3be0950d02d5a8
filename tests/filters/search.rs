//! Filters in searches, and the indexes of metadata on disk: answers never depend on them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use stratal::{Collection, Database, Document, Element, Error, Filter, FilterError, Id, field};

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

fn filled(path: &Path, count: u64, layers: &[&str], seed: u64) -> (Database, Collection) {
    let db = Database::create(path).unwrap();
    let c = db
        .collection("c")
        .vectors(8, layers.iter().copied(), Element::F32)
        .create()
        .unwrap();
    let mut value = noise(seed);
    for first in (0..count).step_by(4000) {
        let mut tx = db.begin();
        for id in first..count.min(first + 4000) {
            let vectors = layers
                .iter()
                .map(|_| (0..8).map(|_| value()).collect::<Vec<f32>>());
            let metadata = json!({ "n": id, "even": id % 2 == 0, "tag": format!("t{}", id % 100) });
            tx.insert(&c, Document::new(id).layer_vectors(vectors).metadata(metadata))
                .unwrap();
        }
        tx.commit().unwrap();
    }
    (db, c)
}

/// The best `k` by computing every score of every document that passes.
fn best(c: &Collection, query: &[f32], filter: &Filter, k: usize) -> Vec<(Id, f64)> {
    let mut scored: Vec<(Id, f64)> = Vec::new();
    for document in c.snapshot().unwrap().iter() {
        let document = document.unwrap();
        if filter
            .matches(document.id(), document.title(), document.metadata())
            .unwrap()
        {
            let score = document
                .layer_vectors()
                .unwrap()
                .iter()
                .map(|vector| {
                    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                    stratal_kernels::inner_product(query, &bytes, stratal_kernels::Element::F32).unwrap()
                })
                .fold(f64::NEG_INFINITY, f64::max);
            scored.push((document.id().clone(), score));
        }
    }
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    scored.truncate(k);
    scored
}

fn found(c: &Collection, query: &[f32], filter: &Filter, k: usize) -> Vec<(Id, f64)> {
    let hits = c.search_vector(query).filter(filter.clone()).k(k).run().unwrap();
    hits.into_iter().map(|hit| (hit.id, hit.score)).collect()
}

// B42
#[test]
fn k_answers_come_whenever_k_documents_pass_however_far_they_are() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::create(home.path().join("db")).unwrap();
    let c = db
        .collection("c")
        .vectors(4, ["v"], Element::F32)
        .create()
        .unwrap();
    let mut value = noise(42);
    let mut tx = db.begin();
    for n in 0..20_000u64 {
        // The range lies on the other side of the query.
        let near = if (5000..5322).contains(&n) { -1.0 } else { 1.0 };
        let vector = [near, value() * 0.1, value() * 0.1, value() * 0.1];
        tx.insert(&c, Document::new(n).vector(vector).metadata(json!({ "n": n })))
            .unwrap();
    }
    tx.commit().unwrap();
    let range = field("n").between(5000, 5321);
    for _ in 0..2 {
        for (k, answers) in [(10, 10), (96, 96), (322, 322), (644, 322)] {
            let hits = c
                .search_vector([1.0, 0.0, 0.0, 0.0])
                .filter(range.clone())
                .k(k)
                .run()
                .unwrap();
            assert_eq!(hits.len(), answers);
            assert!(hits.iter().all(|hit| hit.score < 0.0));
            let text = c
                .search_vector([1.0, 0.0, 0.0, 0.0])
                .filter("n >= 5000")
                .filter("n < 5322")
                .k(k)
                .run();
            assert_eq!(text.unwrap(), hits);
        }
        db.flush().unwrap();
    }
}

#[test]
fn a_filtered_search_is_the_search_among_what_passes() {
    let home = tempfile::tempdir().unwrap();
    let (db, c) = filled(&home.path().join("db"), 3000, &["a", "b"], 7);
    let mut value = noise(11);
    let queries: Vec<Vec<f32>> = (0..20).map(|_| (0..8).map(|_| value()).collect()).collect();
    let filters = [
        "n < 3",
        "n = 2999",
        "even = true",
        "tag in ['t7', 't99'] and even != true",
        "n >= 0",
        "n < 0",
        "not (n between 10 and 2990)",
        "@id in [5, 6, 7000]",
        "tag starts with 't1'",
    ]
    .map(|text| Filter::parse(text).unwrap());
    for state in ["memory", "segment", "segment with deletions", "compacted"] {
        match state {
            "segment" => db.flush().unwrap(),
            "segment with deletions" => {
                assert_eq!(c.delete_where("tag in ['t3', 't7'] and n < 1500").unwrap(), 30);
                assert_eq!(c.delete_where("n in [0, 2999]").unwrap(), 2);
            }
            "compacted" => db.compact().unwrap(),
            _ => {}
        }
        for filter in &filters {
            for query in &queries[..4] {
                for k in [1, 10, 4000] {
                    assert_eq!(
                        found(&c, query, filter, k),
                        best(&c, query, filter, k),
                        "{state}: {filter}"
                    );
                }
            }
            let batch = c
                .search_vectors(queries.clone())
                .filter(filter.clone())
                .k(5)
                .run()
                .unwrap();
            for (query, hits) in queries.iter().zip(batch) {
                let hits: Vec<_> = hits.into_iter().map(|hit| (hit.id, hit.score)).collect();
                assert_eq!(hits, found(&c, query, filter, 5), "{state}: {filter}");
            }
            // B22
            let all = best(&c, &queries[0], filter, 4000);
            if let Some((_, floor)) = all.get(all.len() / 2) {
                let above = c
                    .search_vector(queries[0].clone())
                    .filter(filter.clone())
                    .floor(*floor)
                    .k(4000)
                    .run();
                assert_eq!(
                    above.unwrap().len(),
                    all.iter().filter(|(_, score)| score >= floor).count()
                );
            }
        }
    }
}

// B28, B50
#[test]
fn a_filter_changes_nothing_of_what_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (_db, c) = filled(&home.path().join("db"), 10, &["v"], 3);
    for length in [0, 7, 9] {
        let search = c.search_vector(vec![0.5; length]).filter("n > 3");
        assert!(matches!(search.run(), Err(Error::Dimension { expected: 8, .. })));
    }
    let one_bad = c.search_vectors([vec![0.5; 8], vec![0.5; 7]]).filter("n > 3");
    assert!(matches!(one_bad.run(), Err(Error::Dimension { .. })));
    let refused = |filter: Filter| c.search_vector(vec![0.5; 8]).filter(filter).run().unwrap_err();
    assert!(matches!(
        refused(Filter::from("")),
        Error::Filter(FilterError::Empty)
    ));
    assert!(matches!(
        refused(Filter::from("n >")),
        Error::Filter(FilterError::Syntax { .. })
    ));
    assert!(matches!(
        refused(field("n").lt(true)),
        Error::Filter(FilterError::Unordered { .. })
    ));
}

/// The files of indexes, which there are.
fn indexes(database: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(database.join("segments")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "filter"))
        .collect()
}

#[test]
fn an_index_that_is_gone_damaged_or_cut_changes_no_answer_and_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let (db, c) = filled(&path, 2000, &["v"], 5);
    db.flush().unwrap();
    c.delete_where("n in [17, 1999]").unwrap();
    let filters = [
        "n < 100",
        "even != true",
        "tag = 't17' or n >= 1990",
        "exists(tag)",
        "tag is null",
    ];
    let counts = |c: &Collection| filters.map(|filter| c.count_where(filter).unwrap());
    let expected = counts(&c);
    assert_eq!(expected, [99, 998, 28, 1998, 0]);
    db.close().unwrap();
    drop((db, c));
    let [index] = indexes(&path).try_into().unwrap();
    let good = fs::read(&index).unwrap();
    assert!(good.len() < 2000 * 40, "{} bytes", good.len());

    let mut damages: Vec<Option<Vec<u8>>> =
        vec![None, Some(Vec::new()), Some(good[..good.len() / 2].to_vec())];
    for at in [0, 12, 100, 4095]
        .into_iter()
        .chain((4096..good.len()).step_by(1777))
    {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        damages.push(Some(bytes));
    }
    for damage in &damages {
        match damage {
            None => fs::remove_file(&index).unwrap(),
            Some(bytes) => fs::write(&index, bytes).unwrap(),
        }
        let db = Database::open_read_only(&path).unwrap();
        let c = db.collection("c").open().unwrap();
        assert_eq!(counts(&c), expected);
        assert_eq!(counts(&c), expected, "nor the second time");
        assert_eq!(c.snapshot().unwrap().fields().unwrap().len(), 3);
    }

    // Beyond the flipped byte of a page that is read, `compact` writes what is missing.
    fs::remove_file(&index).unwrap();
    let db = Database::open(&path).unwrap();
    assert!(indexes(&path).is_empty());
    db.compact().unwrap();
    assert_eq!(indexes(&path).len(), 1);
    let c = db.collection("c").open().unwrap();
    assert_eq!(counts(&c), expected);
    assert_eq!(db.verify().unwrap().problems.len(), 0);
    c.delete_where("n >= 0").unwrap();
    db.compact().unwrap();
    db.flush().unwrap();
    assert!(indexes(&path).is_empty(), "an index goes with its segment");
}

// B107: what an index takes is bounded by what documents hold, and long texts are left out.
#[test]
fn an_index_stays_small() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let db = Database::create(&path).unwrap();
    let c = db
        .collection("c")
        .vectors(1, ["v"], Element::F32)
        .create()
        .unwrap();
    let mut tx = db.begin();
    for n in 0..20_000u64 {
        let metadata = json!({
            "lang": (["en", "de", "fr"][n as usize % 3]), "n": n, "long": format!("{n} {}", "x".repeat(1000)),
            "year": 1900 + n % 120
        });
        tx.insert(&c, Document::new(n).vector([1.0]).metadata(metadata))
            .unwrap();
    }
    tx.commit().unwrap();
    db.flush().unwrap();
    let [index] = indexes(&path).try_into().unwrap();
    let bytes = fs::metadata(index).unwrap().len();
    assert!(bytes < 20_000 * 32, "{bytes}");
    assert_eq!(
        c.count_where("lang = 'de' and year = 1901 and long starts with '1'")
            .unwrap(),
        93
    );
}
