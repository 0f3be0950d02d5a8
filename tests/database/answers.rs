//! What a search answers.

use std::collections::HashSet;

use stratal::{Document, Element, Error, Id, Similarity};

use crate::{database, ids, noise, plane};

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
