//! Every instruction set, element type, dimension and alignment gives the answer of the definition.

mod reference;

use reference::{Random, Stored, brute_force, paths, score, values};
use stratal_kernels::{Element, Options, ScanCodes, inner_product, max_inner_product};

/// Searches random vectors of one shape on every path, alone and in a batch.
fn check(dimension: usize, element: Element, rows: usize, queries: usize, seed: u64) {
    let mut random = Random::new(seed);
    let stored = Stored::new(&random.vector(rows * dimension), dimension, element);
    let plane = stored.plane();
    let asked = random.vector(queries * dimension);
    let built = ScanCodes::build(&plane);
    let codes = [built.view()];
    let expected = brute_force(&asked, &[plane], 5, f64::NEG_INFINITY, |_| true, &|_, _| {
        std::cmp::Ordering::Equal
    });
    for path in paths() {
        let options = Options::new(5).instructions(path);
        let found = max_inner_product(&asked, dimension, &[plane], &options).unwrap();
        assert_eq!(
            found, expected,
            "{path:?}, {element:?}, dimension {dimension}, batch"
        );
        let found = max_inner_product(&asked[..dimension], dimension, &[plane], &options).unwrap();
        assert_eq!(
            found,
            expected[..1],
            "{path:?}, {element:?}, dimension {dimension}, one query"
        );
        for queries in [&asked[..], &asked[..dimension]] {
            let found = max_inner_product(queries, dimension, &[plane], &options.codes(&codes)).unwrap();
            let expected = &expected[..queries.len() / dimension];
            assert_eq!(
                found, expected,
                "{path:?}, {element:?}, dimension {dimension}, codes"
            );
        }
    }
}

// B26
#[test]
fn every_path_agrees_with_float64_in_every_dimension() {
    for dimension in 1..=130 {
        for (at, element) in Element::ALL.into_iter().enumerate() {
            check(dimension, element, 29, 9, (dimension * 4 + at) as u64);
        }
    }
}

#[test]
fn every_path_agrees_with_float64_in_large_dimensions() {
    for dimension in (131..=1100)
        .step_by(37)
        .chain([383, 384, 385, 511, 512, 768, 1023, 1024])
    {
        for (at, element) in Element::ALL.into_iter().enumerate() {
            check(dimension, element, 17, 10, (dimension * 4 + at) as u64);
        }
    }
}

#[test]
fn batches_of_every_size_agree() {
    for queries in (1..=70).chain([129]) {
        check(24, Element::F32, 131, queries, queries as u64);
    }
}

#[test]
fn every_number_of_rows_agrees() {
    for rows in 1..=200 {
        check(7, Element::F16, rows, 1 + rows % 19, rows as u64);
    }
}

#[test]
fn the_reference_score_is_the_documented_sum() {
    let mut random = Random::new(3);
    for dimension in 1..=1100 {
        let element = Element::ALL[dimension % 4];
        let stored = Stored::new(&random.vector(dimension), dimension, element);
        let query = random.vector(dimension);
        let got = inner_product(&query, stored.plane().row(0).unwrap(), element).unwrap();
        let expected = score(&query, &values(&stored.plane(), 0));
        assert_eq!(
            got.to_bits(),
            expected.to_bits(),
            "{element:?}, dimension {dimension}"
        );
    }
}

// B25
#[test]
fn half_precision_sums_do_not_overflow() {
    let hundreds = [100.0f32; 32];
    let stored = Stored::new(&hundreds, 32, Element::F16);
    for path in paths() {
        let options = Options::new(1).instructions(path);
        let found = max_inner_product(&hundreds, 32, &[stored.plane()], &options).unwrap();
        assert_eq!(found[0][0].score, 320_000.0);
    }
}

// B25
#[test]
fn byte_sums_are_exact_at_the_largest_dimension() {
    let dimension = stratal_kernels::MAX_DIMENSION;
    let stored = Stored::new(&vec![-1.0; dimension], dimension, Element::I8);
    let query = vec![-127.0f32; dimension];
    for path in paths() {
        let options = Options::new(1).instructions(path);
        let found = max_inner_product(&query, dimension, &[stored.plane()], &options).unwrap();
        assert_eq!(found[0][0].score, (dimension as i64 * 127 * 127) as f64);
    }
}

#[test]
fn every_half_precision_value_is_read_exactly() {
    for element in [Element::F16, Element::Bf16] {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let plane = stratal_kernels::Plane::new(&bytes, 4096, 16, 32, element).unwrap();
        for row in 0..4096 {
            let stored = values(&plane, row);
            if stored.iter().any(|x| !x.is_finite()) {
                continue;
            }
            for lane in [0, row % 16] {
                let mut query = [0.0f32; 16];
                query[lane] = 1.0;
                let got = inner_product(&query, plane.row(row).unwrap(), element).unwrap();
                assert_eq!(got, stored[lane]);
            }
        }
    }
}
