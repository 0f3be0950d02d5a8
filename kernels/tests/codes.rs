//! Scan codes: what they exclude, they exclude rightly, and they do exclude.

mod reference;

use proptest::prelude::*;
use reference::{Random, Stored, brute_force, paths};
use stratal_kernels::{
    Codes, Counters, Element, Error, Frame, Options, Plane, ScanCodes, Section, Survey, max_inner_product,
};

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

/// The codes of a plane whose searches scan `head` components, or all if that cannot be.
fn with_head(plane: &Plane, head: usize) -> ScanCodes {
    let mut survey = Survey::new(plane.rows(), plane.dimension());
    survey.add(plane);
    ScanCodes::build_about(plane, &survey.finish_with_head(head)).unwrap()
}

fn check(queries: &[f32], planes: &[Plane], k: usize) {
    let dimension = planes[0].dimension();
    let order = |_, _| std::cmp::Ordering::Equal;
    let expected = brute_force(queries, planes, k, f64::NEG_INFINITY, |_| true, &order);
    for head in [dimension, 1, dimension / 2] {
        let built: Vec<ScanCodes> = planes.iter().map(|plane| with_head(plane, head)).collect();
        let codes: Vec<Codes> = built.iter().map(ScanCodes::view).collect();
        for path in paths() {
            let options = Options::new(k).instructions(path).codes(&codes);
            let found = max_inner_product(queries, dimension, planes, &options).unwrap();
            assert_eq!(found, expected, "heads of {head}");
        }
    }
}

/// Rows of which the first few directions, none of them an axis, hold most of the variance.
fn concentrated(random: &mut Random, rows: usize, dimension: usize) -> Vec<f32> {
    let directions = random.vector(dimension * dimension);
    let shared = random.vector(dimension);
    (0..rows)
        .flat_map(|_| {
            let mut row = shared.clone();
            for (i, direction) in directions.chunks_exact(dimension).enumerate() {
                let along = random.signed() / (1 + i / 4) as f32;
                row.iter_mut().zip(direction).for_each(|(x, d)| *x += along * d);
            }
            row
        })
        .collect()
}

#[test]
fn a_part_of_the_components_is_scanned_where_it_tells_most() {
    let mut random = Random::new(6);
    let (rows, dimension, queries) = (16_384, 128, 20);
    let all = concentrated(&mut random, rows + queries, dimension);
    let (values, asked) = all.split_at(rows * dimension);
    for element in [Element::F32, Element::F16] {
        let stored = Stored::new(values, dimension, element);
        let planes = [stored.plane()];
        let built = ScanCodes::build(&planes[0]);
        let codes = [built.view()];
        assert!(codes[0].head() <= dimension / 2, "{}", codes[0].head());
        assert_eq!(codes[0].verify(&planes[0]), Ok(()));
        let plain = max_inner_product(asked, dimension, &planes, &Options::new(10)).unwrap();
        for path in paths() {
            for count in [1, queries] {
                let asked = &asked[..count * dimension];
                let counters = Counters::default();
                let options = Options::new(10)
                    .instructions(path)
                    .codes(&codes)
                    .counters(&counters);
                let found = max_inner_product(asked, dimension, &planes, &options).unwrap();
                assert_eq!(found, plain[..count]);
                let pairs = (rows * count) as u64;
                assert_eq!(counters.swept(), pairs);
                assert!(counters.left() < pairs / 5, "{} of {pairs} left", counters.left());
                assert!(counters.scored() < pairs / 50, "{} of {pairs}", counters.scored());
            }
        }
    }
}

#[test]
fn vectors_are_not_turned_where_nothing_is_gained() {
    let mut random = Random::new(7);
    let head = |values: &[f32], dimension: usize| {
        ScanCodes::build(&Plane::from_f32(values, dimension).unwrap())
            .view()
            .head()
    };
    // As much in all directions; few rows; few components; no variance.
    assert_eq!(head(&random.vector(8192 * 64), 64), 64);
    assert_eq!(head(&concentrated(&mut random, 8000, 64), 64), 64);
    assert_eq!(head(&concentrated(&mut random, 8192, 32), 32), 32);
    assert_eq!(head(&vec![0.5; 8192 * 64], 64), 64);
    assert!(head(&concentrated(&mut random, 8192, 64), 64) < 64);
}

#[test]
fn rows_that_come_in_turns_do_not_hide_how_they_vary() {
    let (rows, dimension) = (65_536, 64);
    let mut values = concentrated(&mut Random::new(9), rows, dimension);
    // Of 4,096 rows at equal distances each would be the same.
    for row in values.chunks_exact_mut(dimension).step_by(rows / 4096) {
        row.fill(0.5);
    }
    let codes = ScanCodes::build(&Plane::from_f32(&values, dimension).unwrap());
    assert!(codes.view().head() < dimension);
}

#[test]
fn pieces_are_coded_as_the_whole() {
    let mut random = Random::new(8);
    let (rows, dimension, piece) = (9300, 72, 4096);
    let values = concentrated(&mut random, rows, dimension);
    let plane = Plane::from_f32(&values, dimension).unwrap();
    let pieces: Vec<Plane> = values
        .chunks(piece * dimension)
        .map(|values| Plane::from_f32(values, dimension).unwrap())
        .collect();
    let mut survey = Survey::new(rows, dimension);
    pieces.iter().for_each(|piece| survey.add(piece));
    let whole = ScanCodes::build(&plane);
    assert!(whole.view().head() < dimension);
    let frame = survey.finish();
    let parts: Vec<ScanCodes> = pieces
        .iter()
        .map(|piece| ScanCodes::build_about(piece, &frame).unwrap())
        .collect();
    for section in Section::ALL {
        let is_frame = matches!(section, Section::Mean | Section::Turn);
        let joined = match is_frame {
            true => parts[0].section(section).to_vec(),
            false => parts
                .iter()
                .flat_map(|part| part.section(section).to_vec())
                .collect(),
        };
        assert!(joined == whole.section(section), "{section:?}");
    }
    let other = Plane::from_f32(&values, dimension / 2).unwrap();
    assert!(matches!(
        ScanCodes::build_about(&other, &frame),
        Err(Error::CodesLength {
            section: Section::Mean,
            ..
        })
    ));
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
    let asked = random.vector(14 * 50);
    let plain = max_inner_product(&asked, 50, &planes, &Options::new(9)).unwrap();
    for (shift, head) in (1..8).flat_map(|shift| [(shift, 50), (shift, 24)]) {
        let built = with_head(&planes[0], head);
        let shifted = stratal_kernels::Section::ALL.map(|section| {
            let mut bytes = vec![0xff; shift];
            bytes.extend(built.section(section));
            bytes
        });
        let sections = shifted.each_ref().map(|bytes| &bytes[shift..]);
        let codes = [Codes::new(300, 50, sections).unwrap()];
        assert_eq!(codes[0].head(), head);
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

#[test]
fn sums_of_a_batch_do_not_leave_their_range_where_all_components_are_the_largest() {
    let dimension = 4096;
    let mut values = vec![-127.0f32; dimension];
    values.extend(vec![127.0f32; dimension]);
    let plane = Plane::from_f32(&values, dimension).unwrap();
    // About another mean all codes are fifteen, or all are zero.
    for mean in [-127.0, 0.0, 127.0] {
        let built = ScanCodes::build_about(&plane, &Frame::about(vec![mean; dimension])).unwrap();
        let codes = [built.view()];
        let asked: Vec<f32> = [-1.0, 1.0, -1.0]
            .iter()
            .cycle()
            .take(19)
            .flat_map(|&sign| vec![sign; dimension])
            .collect();
        for path in paths() {
            let options = Options::new(1).instructions(path).codes(&codes);
            let found = max_inner_product(&asked, dimension, &[plane], &options).unwrap();
            for (best, query) in found.iter().zip(asked.chunks_exact(dimension)) {
                assert_eq!(best[0].row, u32::from(query[0] > 0.0));
                assert_eq!(best[0].score, (dimension * 127) as f64);
            }
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
