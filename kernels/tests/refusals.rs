//! What is wrong with a call is said before anything is searched, with the row that is to blame.

use stratal_kernels::{Candidate, Codes, Instructions, ScanCodes, Section, Survey, max_inner_product};
use stratal_kernels::{Element, Error, MAX_DIMENSION, Options, Plane, inner_product};

fn search(queries: &[f32], dimension: usize, options: &Options) -> Result<Vec<Vec<Candidate>>, Error> {
    let values = [0.5f32; 64 * 3];
    let plane = Plane::from_f32(&values, 64)?;
    max_inner_product(queries, dimension, &[plane], options)
}

// B28
#[test]
fn a_query_of_the_wrong_length_is_refused_alone_and_in_a_batch() {
    for got in [63, 65, 1] {
        let error = search(&vec![0.0; got], 64, &Options::new(1)).unwrap_err();
        assert_eq!(
            error,
            Error::QueryLength {
                row: got / 64,
                expected: 64,
                got: got % 64
            }
        );
        let error = search(&vec![0.0; 64 * 9 + got], 64, &Options::new(1)).unwrap_err();
        assert!(matches!(error, Error::QueryLength { expected: 64, .. }));
    }
    assert_eq!(
        search(&[0.0; 63], 63, &Options::new(1)).unwrap_err(),
        Error::PlaneDimension {
            plane: 0,
            expected: 64,
            got: 63
        }
    );
    let error = search(&[], 0, &Options::new(1)).unwrap_err();
    assert_eq!(
        error,
        Error::Dimension {
            dimension: 0,
            limit: MAX_DIMENSION
        }
    );
}

#[test]
fn a_query_that_is_not_finite_is_refused_by_row_and_component() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut queries = vec![0.0f32; 64 * 20];
        queries[64 * 17 + 5] = bad;
        let error = search(&queries, 64, &Options::new(1)).unwrap_err();
        let Error::QueryNotFinite {
            row,
            component,
            value,
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((row, component, value), (17, 5, bad.to_string()));
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let query = [0.0f32; 64];
    assert_eq!(search(&query, 64, &Options::new(0)).unwrap_err(), Error::ZeroK);
    let error = search(&query, 64, &Options::new(1).floor(f64::NAN)).unwrap_err();
    assert_eq!(error, Error::FloorNotANumber { row: 0 });
    let error = search(&query, 64, &Options::new(1).floors(&[0.0, 1.0])).unwrap_err();
    assert_eq!(error, Error::FloorCount { expected: 1, got: 2 });
    let error = search(&query, 64, &Options::new(1).live(&[])).unwrap_err();
    assert_eq!(error, Error::LiveMask { expected: 1, got: 0 });
}

#[test]
fn planes_that_their_buffer_cannot_hold_are_refused() {
    let bytes = [0u8; 100];
    let new = |rows, dimension, stride| Plane::new(&bytes, rows, dimension, stride, Element::F16);
    assert!(new(2, 25, 50).is_ok());
    assert!(new(2, 20, 60).is_ok(), "the last row needs no padding");
    assert_eq!(
        new(3, 25, 50).unwrap_err(),
        Error::PlaneLength {
            rows: 3,
            needed: 150,
            got: 100
        }
    );
    assert_eq!(
        new(2, 25, 49).unwrap_err(),
        Error::Stride {
            stride: 49,
            needed: 50
        }
    );
    assert!(matches!(new(2, 1, usize::MAX), Err(Error::PlaneLength { .. })));
    assert!(matches!(
        new(3, 1, usize::MAX / 2 + 1),
        Err(Error::PlaneLength { .. })
    ));
    assert!(matches!(new(1 << 33, 1, 2), Err(Error::TooManyRows { .. })));
    assert!(matches!(new(0, 0, 2), Err(Error::Dimension { .. })));
    assert!(matches!(
        new(0, MAX_DIMENSION + 1, usize::MAX),
        Err(Error::Dimension { .. })
    ));
    assert!(new(0, 5, 10).unwrap().row(0).is_none());
    assert!(matches!(
        Plane::from_f32(&[0.0; 5], 2),
        Err(Error::RowLength { .. })
    ));
}

#[test]
fn planes_that_do_not_belong_together_are_refused() {
    let (three, two) = ([0.0f32; 12], [0.0f32; 8]);
    let planes = [
        Plane::from_f32(&three, 4).unwrap(),
        Plane::from_f32(&two, 4).unwrap(),
    ];
    let error = max_inner_product(&[0.0; 4], 4, &planes, &Options::new(1)).unwrap_err();
    assert_eq!(
        error,
        Error::PlaneRows {
            plane: 1,
            expected: 3,
            got: 2
        }
    );
    let planes = [planes[0], Plane::from_f32(&three[..6], 2).unwrap()];
    let error = max_inner_product(&[0.0; 4], 4, &planes, &Options::new(1)).unwrap_err();
    assert_eq!(
        error,
        Error::PlaneDimension {
            plane: 1,
            expected: 2,
            got: 4
        }
    );
    let error = max_inner_product(&[0.0; 4], 4, &[], &Options::new(1)).unwrap_err();
    assert_eq!(error, Error::NoPlanes);
}

#[test]
fn a_row_of_the_wrong_length_has_no_score() {
    assert_eq!(
        inner_product(&[0.0; 4], &[0; 15], Element::F32).unwrap_err(),
        Error::RowLength {
            expected: 16,
            got: 15
        }
    );
}

#[test]
fn codes_that_do_not_fit_are_refused() {
    let values = [0.5f32; 64 * 3];
    let plane = Plane::from_f32(&values, 64).unwrap();
    let other = Plane::from_f32(&values, 32).unwrap();
    let (codes, others) = (ScanCodes::build(&plane), ScanCodes::build(&other));
    let query = [1.0f32; 64];
    let search =
        |codes: &[Codes]| max_inner_product(&query, 64, &[plane], &Options::new(1).codes(codes)).map(|_| ());
    assert_eq!(search(&[codes.view()]), Ok(()));
    assert_eq!(search(&[]), Err(Error::CodesCount { expected: 1, got: 0 }));
    assert_eq!(
        search(&[others.view()]),
        Err(Error::CodesShape {
            plane: 0,
            expected: [3, 64],
            got: [6, 32]
        })
    );
    assert_eq!(codes.view().verify(&plane), Ok(()));
    assert!(matches!(
        codes.view().verify(&other),
        Err(Error::CodesShape { .. })
    ));

    let sections = Section::ALL.map(|section| codes.section(section));
    assert!(Codes::new(3, 64, sections).is_ok());
    check_sections(&plane, sections);
    assert!(matches!(
        Codes::new(1 << 33, 64, sections),
        Err(Error::TooManyRows { .. })
    ));
    assert!(matches!(Codes::new(3, 0, sections), Err(Error::Dimension { .. })));
}

/// Each section must be of its length and, to be verified, of its bytes.
fn check_sections(plane: &Plane, sections: [&[u8]; Section::ALL.len()]) {
    let (rows, dimension) = (plane.rows(), plane.dimension());
    for (at, section) in Section::ALL.into_iter().enumerate() {
        let expected = sections[at].len();
        let Some(last) = expected.checked_sub(1) else {
            continue;
        };
        let mut cut = sections;
        cut[at] = &cut[at][..last];
        let refused = Codes::new(rows, dimension, cut).unwrap_err();
        let got = last;
        assert_eq!(
            refused,
            Error::CodesLength {
                section,
                expected,
                got
            }
        );
        let mut wrong = sections[at].to_vec();
        wrong[expected / 2] ^= 1;
        let mut changed = sections;
        changed[at] = &wrong;
        let changed = Codes::new(rows, dimension, changed).unwrap();
        match (section, changed.verify(plane)) {
            // The others are made about these.
            (Section::Mean | Section::Turn, Err(Error::CodesDiffer { .. })) => {}
            (_, told) => assert_eq!(told, Err(Error::CodesDiffer { section })),
        }
    }
}

#[test]
fn codes_of_turned_vectors_that_do_not_fit_are_refused() {
    // One direction of sixty-four holds nearly everything.
    let values: Vec<f32> = (0..8192 * 64i64)
        .map(|i| ((i / 64) % 37) as f32 + ((i * 7919) % 13) as f32 / 100.0)
        .collect();
    let plane = Plane::from_f32(&values, 64).unwrap();
    let codes = ScanCodes::build(&plane);
    assert_eq!(codes.view().head(), 32);
    let sections = Section::ALL.map(|section| codes.section(section));
    check_sections(&plane, sections);
    for head in [0u32, 31, 64, 72, u32::MAX] {
        let mut turn = codes.section(Section::Turn).to_vec();
        turn[..4].copy_from_slice(&head.to_le_bytes());
        let mut changed = sections;
        changed[Section::Turn as usize] = &turn;
        let refused = Codes::new(8192, 64, changed).unwrap_err();
        assert_eq!(refused, Error::CodesHead { dimension: 64, head });
    }
    // A head that the other sections are not made for, and directions without a head.
    let mut turn = codes.section(Section::Turn).to_vec();
    turn[..4].copy_from_slice(&24u32.to_le_bytes());
    for turn in [&turn[..], &turn[..3], &[]] {
        let mut changed = sections;
        changed[Section::Turn as usize] = turn;
        let refused = Codes::new(8192, 64, changed).unwrap_err();
        assert!(matches!(refused, Error::CodesLength { .. }), "{refused:?}");
    }
    // Turning needs variance, and part of the components must be left.
    let mut survey = Survey::new(3, 64);
    survey.add(&Plane::from_f32(&values[..3 * 64], 64).unwrap());
    assert_eq!(survey.clone().finish_with_head(0).head(), 8);
    assert_eq!(survey.clone().finish_with_head(57).head(), 64);
    assert_eq!(Survey::new(0, 64).finish_with_head(8).head(), 64);
}

#[test]
fn codes_of_any_bytes_are_searched_without_a_panic() {
    let values = [0.5f32; 40 * 20];
    let plane = Plane::from_f32(&values, 20).unwrap();
    let mut state = 1u64;
    for round in 0..300 {
        let head = [20, 8, 16][round % 3];
        let mut bytes = Section::ALL.map(|section| {
            let mut bytes = vec![0u8; section.bytes(40, 20, head).unwrap()];
            for byte in &mut bytes {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                *byte = (state >> 56) as u8;
            }
            bytes
        });
        if head < 20 {
            bytes[Section::Turn as usize][..4].copy_from_slice(&(head as u32).to_le_bytes());
        }
        let codes = Codes::new(40, 20, bytes.each_ref().map(Vec::as_slice)).unwrap();
        for path in Instructions::ALL.into_iter().filter(|path| path.is_available()) {
            let options = Options::new(3)
                .instructions(path)
                .codes(std::slice::from_ref(&codes));
            assert!(max_inner_product(&[1.0; 20 * 5], 20, &[plane], &options).is_ok());
        }
    }
}
