//! Floors that a search finds before it begins: they hide no row that belongs to the answer.

mod reference;

use std::cmp::Ordering;

use reference::{Random, Stored, brute_force, paths};
use stratal_kernels::{Codes, Counters, Element, Options, Plane, ScanCodes, max_inner_product};

/// Enough for the fewest groups that are swept for floors, and not whole groups.
const ROWS: usize = 20_003;
const DIMENSION: usize = 16;
/// The largest `k` that floors are found for: an eighth of the rows of nine groups.
const MOST: usize = 144;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Spread,
    /// Few different scores.
    Ties,
    /// The longest come last.
    Rising,
    /// Most rows have no score.
    Broken,
}

fn plane(random: &mut Random, kind: Kind) -> Stored {
    let mut values = Vec::with_capacity(ROWS * DIMENSION);
    for row in 0..ROWS {
        let length = if kind == Kind::Rising {
            row as f32 / ROWS as f32
        } else {
            1.0
        };
        let is_broken = kind == Kind::Broken && random.below(4) > 0;
        for _ in 0..DIMENSION {
            values.push(match kind {
                Kind::Ties => random.below(3) as f32 - 1.0,
                _ if is_broken => f32::NAN,
                _ => random.signed() * length,
            });
        }
    }
    Stored::new(&values, DIMENSION, Element::F32)
}

struct Case<'a> {
    planes: &'a [Plane<'a>],
    codes: &'a [Codes<'a>],
    live: Option<&'a [u64]>,
}

impl Case<'_> {
    /// A search on all paths, alone and by two threads, against brute force. Returns the fewest pairs that were looked at for floors.
    fn check(&self, queries: &[f32], k: usize, floors: &[f64]) -> u64 {
        let is_live = |row: usize| self.live.is_none_or(|live| live[row / 64] >> (row % 64) & 1 == 1);
        let order = |_, _| Ordering::Equal;
        let mut expected = brute_force(queries, self.planes, k, f64::NEG_INFINITY, is_live, &order);
        for (answer, &floor) in expected.iter_mut().zip(floors) {
            answer.retain(|candidate| candidate.score >= floor);
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let mut fewest = u64::MAX;
        for path in paths() {
            let counters = Counters::default();
            let mut options = Options::new(k)
                .instructions(path)
                .codes(self.codes)
                .floors(floors);
            if let Some(live) = self.live {
                options = options.live(live);
            }
            let search = |options| max_inner_product(queries, DIMENSION, self.planes, &options).unwrap();
            assert_eq!(search(options.counters(&counters)), expected, "{path:?}");
            assert_eq!(
                pool.install(|| search(options)),
                expected,
                "{path:?}, two threads"
            );
            fewest = fewest.min(counters.looked_ahead());
        }
        fewest
    }
}

#[test]
fn floors_hide_no_row() {
    let mut random = Random::new(41);
    let queries = random.vector(70 * DIMENSION);
    for kind in [Kind::Spread, Kind::Ties, Kind::Rising, Kind::Broken] {
        let stored: Vec<Stored> = (0..3).map(|_| plane(&mut random, kind)).collect();
        let planes: Vec<Plane> = stored.iter().map(Stored::plane).collect();
        let built: Vec<ScanCodes> = planes.iter().map(ScanCodes::build).collect();
        let codes: Vec<Codes> = built.iter().map(ScanCodes::view).collect();
        for (count, k, layers) in [(1, 10, 1), (5, MOST, 1), (70, 10, 1), (1, 10, 3), (20, 7, 3)] {
            let case = Case {
                planes: &planes[..layers],
                codes: &codes[..layers],
                live: None,
            };
            case.check(&queries[..count * DIMENSION], k, &vec![f64::NEG_INFINITY; count]);
        }
    }
}

/// They are looked for where that pays, and nowhere else: not for a larger `k`, nor where all queries have floors, nor among
/// few live rows.
#[test]
fn floors_are_found_where_that_pays() {
    let mut random = Random::new(42);
    let stored = plane(&mut random, Kind::Spread);
    let planes = [stored.plane()];
    let built = ScanCodes::build(&planes[0]);
    let codes = [built.view()];
    let queries = random.vector(2 * DIMENSION);
    let sparse = |random: &mut Random, one_in: usize| -> Vec<u64> {
        let word =
            |random: &mut Random| (0..64).fold(0, |w, bit| w | u64::from(random.below(one_in) == 0) << bit);
        (0..ROWS.div_ceil(64)).map(|_| word(random)).collect()
    };
    let (half, tenth) = (sparse(&mut random, 2), sparse(&mut random, 10));
    for (live, k, floors, looks) in [
        (None, MOST, [f64::NEG_INFINITY; 2], true),
        (None, MOST + 1, [f64::NEG_INFINITY; 2], false),
        (None, 5, [f64::NEG_INFINITY, 0.5], true),
        (None, 5, [0.25, 0.5], false),
        (Some(&half), 5, [f64::NEG_INFINITY; 2], true),
        (Some(&tenth), 5, [f64::NEG_INFINITY; 2], false),
    ] {
        let case = Case {
            planes: &planes,
            codes: &codes,
            live: live.map(Vec::as_slice),
        };
        let ahead = case.check(&queries, k, &floors);
        // A sixteenth of 156 groups.
        let most = 2 * 9 * 128;
        assert_eq!(ahead > 0, looks, "k {k}, floors {floors:?}");
        assert!(ahead <= most, "{ahead} of {most}, k {k}, floors {floors:?}");
    }
}

/// What fewer than `k` of the rows that are looked at are worth is no floor: the others have no score.
#[test]
fn fewer_rows_than_are_asked_for_are_no_floor() {
    let mut random = Random::new(43);
    let query = random.vector(DIMENSION);
    let mut values = vec![f32::NAN; ROWS * DIMENSION];
    // The first lies in the first group that is looked at, and is the best of all; the others are not looked at.
    for (row, scale) in [(1030, 9.0), (5, 3.0), (9000, 2.0), (17_000, 1.0)] {
        let row = &mut values[row * DIMENSION..][..DIMENSION];
        row.iter_mut().zip(&query).for_each(|(x, q)| *x = q * scale);
    }
    let plane = Plane::from_f32(&values, DIMENSION).unwrap();
    let built = ScanCodes::build(&plane);
    let codes = [built.view()];
    for path in paths() {
        let options = Options::new(4).instructions(path).codes(&codes);
        let found = max_inner_product(&query, DIMENSION, &[plane], &options).unwrap();
        let rows: Vec<u32> = found[0].iter().map(|candidate| candidate.row).collect();
        assert_eq!(rows, [1030, 5, 9000, 17_000], "{path:?}");
    }
}
