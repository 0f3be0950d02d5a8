//! What a search promises whatever the vectors: ties, masks, floors, layers, extreme values, threads.

mod reference;

use std::cmp::Ordering;

use proptest::prelude::*;
use reference::{Random, Stored, brute_force, paths};
use stratal_kernels::{Codes, Element, Options, Plane, ScanCodes, TopK, max_inner_product};

fn by_row(_: u32, _: u32) -> Ordering {
    Ordering::Equal
}

/// Compares every path, with one query and with all, to brute force.
fn check(queries: &[f32], planes: &[Plane], k: usize) {
    let dimension = planes[0].dimension();
    let built: Vec<ScanCodes> = planes.iter().map(ScanCodes::build).collect();
    let codes: Vec<Codes> = built.iter().map(ScanCodes::view).collect();
    let expected = brute_force(queries, planes, k, f64::NEG_INFINITY, |_| true, &by_row);
    for path in paths() {
        let options = Options::new(k).instructions(path);
        let found = max_inner_product(queries, dimension, planes, &options).unwrap();
        assert_eq!(found, expected, "{path:?}");
        for (query, expected) in queries.chunks_exact(dimension).zip(&expected) {
            let found = max_inner_product(query, dimension, planes, &options).unwrap();
            assert_eq!(&found[0], expected, "{path:?}, alone");
        }
        let coded = options.codes(&codes);
        let found = max_inner_product(queries, dimension, planes, &coded).unwrap();
        assert_eq!(found, expected, "{path:?}, codes");
        for (query, expected) in queries.chunks_exact(dimension).zip(&expected) {
            let found = max_inner_product(query, dimension, planes, &coded).unwrap();
            assert_eq!(&found[0], expected, "{path:?}, codes, alone");
        }
    }
}

// B19
#[test]
fn k_above_n_gives_every_row_once() {
    let mut random = Random::new(1);
    let stored = Stored::new(&random.vector(3 * 8), 8, Element::F32);
    for queries in [1, 19, 20, 33] {
        let asked = random.vector(queries * 8);
        for k in [3, 10, usize::MAX] {
            check(&asked, &[stored.plane()], k);
        }
    }
    let thousand = Stored::new(&random.vector(1000 * 8), 8, Element::F16);
    check(&random.vector(8), &[thousand.plane()], 1000);
    check(&random.vector(8), &[thousand.plane()], 999);
}

// B19
#[test]
fn an_empty_plane_answers_with_empty_lists() {
    let plane = Plane::new(&[], 0, 8, 32, Element::F32).unwrap();
    for queries in [1, 19, 20, 33] {
        let found = max_inner_product(&vec![1.0; queries * 8], 8, &[plane], &Options::new(3)).unwrap();
        assert_eq!(found, vec![vec![]; queries]);
    }
    assert!(
        max_inner_product(&[], 8, &[plane], &Options::new(3))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn ties_follow_the_callers_order_also_at_the_last_place() {
    let mut random = Random::new(2);
    // Vectors from a handful of values: hundreds of equal scores.
    let values: Vec<f32> = (0..500 * 3).map(|_| random.below(3) as f32 - 1.0).collect();
    let stored = Stored::new(&values, 3, Element::I8);
    let asked: Vec<f32> = (0..12 * 3).map(|_| random.below(3) as f32 - 1.0).collect();
    let built = ScanCodes::build(&stored.plane());
    let codes = [built.view()];
    let backwards = |a: u32, b: u32| (b % 7, b).cmp(&(a % 7, a));
    for k in [1, 2, 10, 100, 499] {
        let planes = [stored.plane()];
        let none = f64::NEG_INFINITY;
        let expected = brute_force(&asked, &planes, k, none, |_| true, &backwards);
        for path in paths() {
            let options = Options::new(k).order(&backwards).instructions(path);
            assert_eq!(max_inner_product(&asked, 3, &planes, &options).unwrap(), expected);
            let one = max_inner_product(&asked[..3], 3, &planes, &options).unwrap();
            assert_eq!(one[0], expected[0]);
            let options = options.codes(&codes);
            assert_eq!(max_inner_product(&asked, 3, &planes, &options).unwrap(), expected);
        }
    }
}

#[test]
fn positive_and_negative_zero_score_the_same() {
    let values = [0.0f32, -0.0, 0.0, -0.0];
    let stored = Stored::new(&values, 1, Element::F32);
    let planes = [stored.plane()];
    let found = max_inner_product(&[-1.0], 1, &planes, &Options::new(3)).unwrap();
    let rows: Vec<u32> = found[0].iter().map(|c| c.row).collect();
    assert_eq!(rows, [0, 1, 2]);
    assert!(found[0].iter().all(|c| c.score.to_bits() == 0));
}

#[test]
fn dead_rows_and_scores_below_the_floor_never_appear() {
    let mut random = Random::new(4);
    let stored = Stored::new(&random.vector(300 * 20), 20, Element::F32);
    let planes = [stored.plane()];
    let asked = random.vector(15 * 20);
    let built = ScanCodes::build(&planes[0]);
    let codes = [built.view()];
    for share in [0, 1, 2, 10, 64] {
        let live: Vec<u64> = (0..300usize.div_ceil(64))
            .map(|_| (0..64).fold(0, |w, b| w | u64::from(random.below(64) < share) << b))
            .collect();
        let is_live = |row: usize| live[row / 64] >> (row % 64) & 1 == 1;
        for floor in [f64::NEG_INFINITY, 0.0, 2.0, 1e9, f64::INFINITY] {
            for k in [1, 7, 300] {
                let expected = brute_force(&asked, &planes, k, floor, is_live, &by_row);
                for path in paths() {
                    let options = Options::new(k).floor(floor).live(&live).instructions(path);
                    let found = max_inner_product(&asked, 20, &planes, &options).unwrap();
                    assert_eq!(found, expected);
                    let found = max_inner_product(&asked[..20], 20, &planes, &options).unwrap();
                    assert_eq!(found[0], expected[0]);
                    let options = options.codes(&codes);
                    let found = max_inner_product(&asked, 20, &planes, &options).unwrap();
                    assert_eq!(found, expected);
                }
            }
        }
    }
}

#[test]
fn a_row_equal_to_the_floor_is_kept() {
    let mut random = Random::new(5);
    let stored = Stored::new(&random.vector(200 * 33), 33, Element::F16);
    let planes = [stored.plane()];
    let asked = random.vector(33);
    let all = max_inner_product(&asked, 33, &planes, &Options::new(200)).unwrap();
    for place in [0, 1, 50, 199] {
        let floor = all[0][place].score;
        let options = Options::new(200).floors(std::slice::from_ref(&floor));
        let found = max_inner_product(&asked, 33, &planes, &options).unwrap();
        assert_eq!(found[0], all[0][..=place]);
    }
}

#[test]
fn a_row_scores_as_its_best_layer_once() {
    let mut random = Random::new(6);
    let layers: Vec<Stored> = [Element::F32, Element::F16, Element::Bf16, Element::F32]
        .map(|element| Stored::new(&random.vector(250 * 40), 40, element))
        .into();
    let planes: Vec<Plane> = layers.iter().map(Stored::plane).collect();
    let asked = random.vector(20 * 40);
    for layers in [1, 2, 4] {
        check(&asked, &planes[..layers], 13);
    }
}

#[test]
fn extreme_vectors_are_ranked_as_float64_ranks_them() {
    let mut random = Random::new(7);
    let max = f32::MAX;
    let tiny = f32::from_bits(1);
    let extremes = [
        0.0, -0.0, tiny, -tiny, 1e-30, 1.0, -1.0, 1e19, -1e20, 1e30, max, -max,
    ];
    for dimension in [1, 3, 16, 17, 50] {
        let pick = |random: &mut Random, n: usize| -> Vec<f32> {
            (0..n).map(|_| extremes[random.below(extremes.len())]).collect()
        };
        let mixed = Stored::new(&pick(&mut random, 150 * dimension), dimension, Element::F32);
        let asked = pick(&mut random, 10 * dimension);
        check(&asked, &[mixed.plane()], 9);
        for scale in [tiny, 1e-40, 1e-20, 1e18, 1e37] {
            let values: Vec<f32> = random
                .vector(150 * dimension)
                .into_iter()
                .map(|x| x * scale)
                .collect();
            let stored = Stored::new(&values, dimension, Element::F32);
            check(&asked, &[stored.plane()], 9);
            check(&random.vector(10 * dimension), &[stored.plane()], 9);
        }
    }
    let zeros = Stored::new(&[0.0; 64 * 5], 5, Element::F32);
    check(&[0.0; 50], &[zeros.plane()], 4);
}

#[test]
fn a_sum_that_overflows_f32_downwards_can_still_be_the_best() {
    let max = f32::MAX;
    // −2 MAX on the way, and MAX in the end; the others score less.
    let mut values = vec![-max, -max, max, max, max];
    for row in 1..40 {
        values.extend([0.0, 0.0, row as f32, 0.0, 0.0]);
    }
    let stored = Stored::new(&values, 5, Element::F32);
    for queries in [1, 9] {
        check(&[1.0; 5].repeat(queries), &[stored.plane()], 1);
    }
}

#[test]
fn vectors_that_differ_in_the_last_bit_are_told_apart() {
    let mut random = Random::new(8);
    let dimension = 384;
    let base = random.vector(dimension);
    let mut values = Vec::new();
    for _ in 0..300 {
        let mut row = base.clone();
        for _ in 0..3 {
            let at = random.below(dimension);
            row[at] = if random.below(2) == 0 {
                row[at].next_up()
            } else {
                row[at].next_down()
            };
        }
        values.extend(row);
    }
    let stored = Stored::new(&values, dimension, Element::F32);
    check(&random.vector(9 * dimension), &[stored.plane()], 10);
}

#[test]
fn stored_values_that_are_not_numbers_are_never_found() {
    let mut values = vec![1.0f32; 40 * 4];
    values[4 * 7 + 2] = f32::NAN;
    values[4 * 9] = f32::INFINITY;
    let stored = Stored::new(&values, 4, Element::F32);
    let built = ScanCodes::build(&stored.plane());
    let codes = [built.view()];
    for path in paths() {
        for queries in [1, 9] {
            let asked = [1.0, 1.0, 1.0, 1.0].repeat(queries);
            let options = Options::new(40).instructions(path);
            let found = max_inner_product(&asked, 4, &[stored.plane()], &options).unwrap();
            assert_eq!(found[0].len(), 39);
            assert_eq!((found[0][0].row, found[0][0].score), (9, f64::INFINITY));
            assert!(found[0].iter().all(|c| c.row != 7));
            let coded = max_inner_product(&asked, 4, &[stored.plane()], &options.codes(&codes));
            assert_eq!(coded.unwrap(), found);
        }
    }
}

#[test]
fn threads_change_nothing() {
    let mut random = Random::new(9);
    let (rows, dimension) = (9000, 96);
    let values: Vec<f32> = (0..rows * dimension)
        .map(|_| (random.below(5) as f32 - 2.0) / 4.0)
        .collect();
    let stored = Stored::new(&values, dimension, Element::I8);
    let planes = [stored.plane()];
    let asked = random.vector(10 * dimension);
    let codes = ScanCodes::build(&planes[0]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    for queries in [1, 10] {
        let asked = &asked[..queries * dimension];
        let alone = max_inner_product(asked, dimension, &planes, &Options::new(25)).unwrap();
        let together = pool
            .install(|| max_inner_product(asked, dimension, &planes, &Options::new(25)))
            .unwrap();
        assert_eq!(alone, together);
        let coded = pool
            .install(|| {
                let built = ScanCodes::build(&planes[0]);
                assert_eq!(built, codes);
                max_inner_product(
                    asked,
                    dimension,
                    &planes,
                    &Options::new(25).codes(&[built.view()]),
                )
            })
            .unwrap();
        assert_eq!(alone, coded);
        let kept = Options::new(25).single_threaded();
        let single = pool
            .install(|| max_inner_product(asked, dimension, &planes, &kept))
            .unwrap();
        assert_eq!(alone, single);
    }
}

#[test]
fn parts_merge_to_the_answer_of_the_whole() {
    let mut random = Random::new(10);
    let values: Vec<f32> = (0..600 * 6).map(|_| random.below(4) as f32).collect();
    let asked = [1.0f32, 0.5, -1.0, 2.0, 0.25, -0.5];
    let whole = Stored::new(&values, 6, Element::F32);
    let k = 37;
    let expected = max_inner_product(&asked, 6, &[whole.plane()], &Options::new(k)).unwrap();
    let mut merged = TopK::new(k, |a: &u32, b: &u32| a.cmp(b));
    for (part, values) in values.chunks(6 * 100).enumerate() {
        let stored = Stored::new(values, 6, Element::F32);
        let options = Options::new(k).floor(merged.floor());
        let found = max_inner_product(&asked, 6, &[stored.plane()], &options).unwrap();
        for candidate in &found[0] {
            merged.push(candidate.score, part as u32 * 100 + candidate.row);
        }
    }
    let merged: Vec<(f64, u32)> = merged.into_sorted();
    let expected: Vec<(f64, u32)> = expected[0].iter().map(|c| (c.score, c.row)).collect();
    assert_eq!(merged, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Near-ties, spread norms, odd shapes: whatever could fool the bound of the f32 filter.
    #[test]
    fn no_answer_is_ever_wrong(
        seed: u64,
        dimension in 1usize..80,
        rows in 1usize..160,
        queries in 1usize..20,
        layers in 1usize..4,
        k in 1usize..40,
        spread in -30i32..30,
        closeness in 0u32..24,
    ) {
        let mut random = Random::new(seed);
        let centre = random.vector(dimension);
        let near = 0.5f32.powi(closeness as i32);
        let stored: Vec<Stored> = (0..layers)
            .map(|_| {
                let values: Vec<f32> = (0..rows)
                    .flat_map(|_| {
                        let norm = 2.0f32.powi((random.below(3) as i32 - 1) * spread);
                        let row: Vec<f32> =
                            centre.iter().map(|c| (c + random.signed() * near) * norm).collect();
                        row
                    })
                    .collect();
                Stored::new(&values, dimension, [Element::F32, Element::Bf16][random.below(2)])
            })
            .collect();
        let planes: Vec<Plane> = stored.iter().map(Stored::plane).collect();
        check(&random.vector(queries * dimension), &planes, k);
    }
}
