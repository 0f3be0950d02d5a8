//! Scan codes: what they exclude, they exclude rightly, and they do exclude.

mod reference;

use proptest::prelude::*;
use reference::{Random, Stored, brute_force, paths};
use stratal_kernels::{Codes, Counters, Element, Options, Plane, ScanCodes, max_inner_product};

/// Rows around a few centres, with a common part of the given size, their norms spread.
fn clustered(random: &mut Random, rows: usize, dimension: usize, common: f32, spread: f32) -> Vec<f32> {
    let shared = random.vector(dimension);
    let centres = random.vector(20 * dimension);
    (0..rows)
        .flat_map(|_| {
            let centre = random.below(20) * dimension;
            let norm = (random.signed() * spread).exp();
            let row: Vec<f32> = (0..dimension)
                .map(|i| (shared[i] * common + centres[centre + i] + random.signed() * 0.7) * norm)
                .collect();
            row
        })
        .collect()
}

fn check(queries: &[f32], planes: &[Plane], k: usize) {
    let dimension = planes[0].dimension();
    let built: Vec<ScanCodes> = planes.iter().map(ScanCodes::build).collect();
    let codes: Vec<Codes> = built.iter().map(ScanCodes::view).collect();
    let order = |_, _| std::cmp::Ordering::Equal;
    let expected = brute_force(queries, planes, k, f64::NEG_INFINITY, |_| true, &order);
    for path in paths() {
        let options = Options::new(k).instructions(path).codes(&codes);
        assert_eq!(
            max_inner_product(queries, dimension, planes, &options).unwrap(),
            expected
        );
    }
}

#[test]
fn most_rows_are_excluded_without_their_vectors() {
    let mut random = Random::new(1);
    for common in [0.0, 5.0] {
        let (rows, dimension, queries) = (20_000, 96, 13);
        let all = clustered(&mut random, rows + queries, dimension, common, 0.0);
        let (values, asked) = all.split_at(rows * dimension);
        let plane = Plane::from_f32(values, dimension).unwrap();
        let built = ScanCodes::build(&plane);
        let codes = [built.view()];
        let plain = max_inner_product(asked, dimension, &[plane], &Options::new(10)).unwrap();
        for path in paths() {
            let counters = Counters::default();
            let options = Options::new(10)
                .instructions(path)
                .codes(&codes)
                .counters(&counters);
            assert_eq!(
                max_inner_product(asked, dimension, &[plane], &options).unwrap(),
                plain
            );
            let pairs = (rows * queries) as u64;
            assert_eq!(counters.swept(), pairs);
            assert!(counters.left() < pairs / 5, "{} of {pairs} left", counters.left());
            assert!(
                counters.scored() < pairs / 100,
                "{} of {pairs}",
                counters.scored()
            );
        }
    }
}

#[test]
fn where_the_bound_is_useless_the_answer_is_still_exact() {
    // All rows nearly equal, so that every one may be the best.
    let mut random = Random::new(2);
    let (rows, dimension) = (20_000, 24);
    let values: Vec<f32> = (0..rows * dimension)
        .map(|i| 1.0 + (i % 3) as f32 + random.signed() * 1e-6)
        .collect();
    let plane = Plane::from_f32(&values, dimension).unwrap();
    let built = ScanCodes::build(&plane);
    let codes = [built.view()];
    for queries in [1, 9] {
        let asked = vec![1.0f32; dimension * queries];
        for k in [1, 3000, rows] {
            let plain = max_inner_product(&asked, dimension, &[plane], &Options::new(k)).unwrap();
            let options = Options::new(k).codes(&codes);
            assert_eq!(
                max_inner_product(&asked, dimension, &[plane], &options).unwrap(),
                plain
            );
        }
    }
}

#[test]
fn groups_of_short_vectors_are_not_even_read() {
    let mut random = Random::new(3);
    let (rows, dimension) = (4096, 32);
    let values: Vec<f32> = (0..rows)
        .flat_map(|row| {
            let scale = 1.0 / (1 + row) as f32;
            random
                .vector(dimension)
                .into_iter()
                .map(move |x| x * scale)
                .collect::<Vec<_>>()
        })
        .collect();
    let plane = Plane::from_f32(&values, dimension).unwrap();
    let built = ScanCodes::build(&plane);
    let (codes, counters) = ([built.view()], Counters::default());
    let options = Options::new(5).codes(&codes).counters(&counters);
    let asked = &values[..dimension];
    let found = max_inner_product(asked, dimension, &[plane], &options).unwrap();
    let plain = max_inner_product(asked, dimension, &[plane], &Options::new(5)).unwrap();
    assert_eq!(found, plain);
    assert!(counters.swept() <= 512, "{} swept", counters.swept());
}

#[test]
fn codes_lie_at_any_alignment() {
    let mut random = Random::new(4);
    let stored = Stored::new(&random.vector(300 * 50), 50, Element::F16);
    let planes = [stored.plane()];
    let built = ScanCodes::build(&planes[0]);
    let asked = random.vector(14 * 50);
    let plain = max_inner_product(&asked, 50, &planes, &Options::new(9)).unwrap();
    for shift in 1..8 {
        let shifted = stratal_kernels::Section::ALL.map(|section| {
            let mut bytes = vec![0xff; shift];
            bytes.extend(built.section(section));
            bytes
        });
        let sections = shifted.each_ref().map(|bytes| &bytes[shift..]);
        let codes = [Codes::new(300, 50, sections).unwrap()];
        for path in paths() {
            let options = Options::new(9).codes(&codes).instructions(path);
            assert_eq!(max_inner_product(&asked, 50, &planes, &options).unwrap(), plain);
        }
    }
}

#[test]
fn the_largest_dimension_does_not_wrap_the_integer_sums() {
    let dimension = stratal_kernels::MAX_DIMENSION;
    let mut values = vec![-127.0f32; dimension];
    values.extend(vec![127.0f32; dimension]);
    let plane = Plane::from_f32(&values, dimension).unwrap();
    let built = ScanCodes::build(&plane);
    let codes = [built.view()];
    for (sign, row) in [(-127.0f32, 0), (127.0, 1)] {
        let asked = vec![sign; dimension];
        for path in paths() {
            let options = Options::new(1).codes(&codes).instructions(path);
            let found = max_inner_product(&asked, dimension, &[plane], &options).unwrap();
            assert_eq!(found[0][0].row, row);
            assert_eq!(found[0][0].score, (dimension as i64 * 127 * 127) as f64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Clusters, common parts, norms over many magnitudes, queries at the scale of nothing or of
    /// everything: whatever could make a certified answer wrong.
    #[test]
    fn no_certified_answer_is_ever_wrong(
        seed: u64,
        dimension in 1usize..100,
        rows in 1usize..400,
        queries in 1usize..40,
        layers in 1usize..3,
        k in 1usize..30,
        common in 0f32..100.0,
        spread in 0f32..20.0,
        scale in -40i32..40,
    ) {
        let mut random = Random::new(seed);
        let stored: Vec<Stored> = (0..layers)
            .map(|_| {
                let values = clustered(&mut random, rows, dimension, common, spread);
                Stored::new(&values, dimension, [Element::F32, Element::Bf16][random.below(2)])
            })
            .collect();
        let planes: Vec<Plane> = stored.iter().map(Stored::plane).collect();
        let scale = 2.0f32.powi(scale);
        // Half of the queries are stored vectors, which score high and close to their neighbours.
        let asked: Vec<f32> = (0..queries)
            .flat_map(|q| match q % 2 {
                0 => random.vector(dimension),
                _ => reference::values(&planes[0], random.below(rows)).iter().map(|&x| x as f32).collect(),
            })
            .map(|x: f32| x * scale)
            .map(|x| if x.is_finite() { x } else { 1.0 })
            .collect();
        check(&asked, &planes, k);
    }
}
