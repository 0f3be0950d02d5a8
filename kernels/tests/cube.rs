//! The search on a device against the search on the CPU, on CubeCL's CPU runtime: the same kernels that
//! run on CUDA, but for the product of two tiles. `make test-gpu` runs these.

#![cfg(feature = "cube-cpu")]

use std::cmp::Ordering;
use std::sync::OnceLock;

use cubecl::cpu::CpuDevice;
use half::{bf16, f16};
use stratal_kernels::cube::{Refusal, Searcher};
use stratal_kernels::{Candidate, Element, Error, Options, Plane, max_inner_product};

const PLENTY: u64 = 1 << 30;

fn client() -> cubecl::client::Client {
    cubecl::Device::Cpu(CpuDevice).client()
}

fn searcher() -> Searcher {
    // Blocks of a few hundred rows and little room for candidates, so that small data take many rounds.
    Searcher::with_blocks(client(), PLENTY, 1 << 18).candidates(256)
}

/// Numbers that repeat from run to run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// Any numbers.
    Spread,
    /// Few different numbers, so that many scores are equal.
    Ties,
    /// Lengths over many orders of magnitude.
    Lengths,
}

fn values(random: &mut Random, rows: usize, dimension: usize, kind: Kind) -> Vec<f32> {
    let mut values = Vec::with_capacity(rows * dimension);
    for _ in 0..rows {
        let length = match kind {
            Kind::Lengths => (random.unit() * 4.0).exp(),
            _ => 1.0,
        };
        for _ in 0..dimension {
            values.push(match kind {
                Kind::Ties => (random.next() % 3) as f32 - 1.0,
                _ => random.unit() * length,
            });
        }
    }
    values
}

/// The planes' bytes, rows `pad` bytes longer than they need be, with rubbish between them.
fn stored(values: &[f32], dimension: usize, element: Element, pad: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in values.chunks(dimension) {
        for &x in row {
            match element {
                Element::F16 => bytes.extend(f16::from_f32(x).to_le_bytes()),
                Element::Bf16 => bytes.extend(bf16::from_f32(x).to_le_bytes()),
                Element::I8 => bytes.push((x * 100.0).clamp(-127.0, 127.0) as i8 as u8),
                _ => bytes.extend(x.to_le_bytes()),
            }
        }
        bytes.extend(std::iter::repeat_n(0xffu8, pad));
    }
    bytes
}

struct Case {
    rows: usize,
    dimension: usize,
    planes: Vec<Vec<u8>>,
    element: Element,
    pad: usize,
}

impl Case {
    fn new(seed: u64, rows: usize, dimension: usize, layers: usize, element: Element, kind: Kind) -> Case {
        let mut random = Random(seed * 2654435761 + 1);
        let pad = if seed.is_multiple_of(2) { 0 } else { 6 };
        let planes = (0..layers)
            .map(|_| {
                stored(
                    &values(&mut random, rows, dimension, kind),
                    dimension,
                    element,
                    pad,
                )
            })
            .collect();
        Case {
            rows,
            dimension,
            planes,
            element,
            pad,
        }
    }

    /// One plane of these numbers.
    fn of(values: &[f32], dimension: usize, element: Element) -> Case {
        Case {
            rows: values.len() / dimension,
            dimension,
            planes: vec![stored(values, dimension, element, 0)],
            element,
            pad: 0,
        }
    }

    fn planes(&self) -> Vec<Plane<'_>> {
        self.planes
            .iter()
            .map(|bytes| {
                let stride = self.dimension * self.element.size() + self.pad;
                Plane::new(bytes, self.rows, self.dimension, stride, self.element).unwrap()
            })
            .collect()
    }

    fn queries(&self, seed: u64, count: usize, kind: Kind) -> Vec<f32> {
        values(&mut Random(seed + 77), count, self.dimension, kind)
    }
}

fn chosen<'a>(planes: &[Plane<'a>], layers: &[u32]) -> Vec<Plane<'a>> {
    layers.iter().map(|&layer| planes[layer as usize]).collect()
}

/// The element, or f16 in the place of bf16 where that cannot be tested: products of bf16 are all 0 on CubeCL's CPU
/// runtime, which these tests run on, where the processor has no instructions for them. GPUs have.
fn tested(element: Element) -> Element {
    #[cfg(target_arch = "x86_64")]
    if element == Element::Bf16 && !std::arch::is_x86_feature_detected!("avx512bf16") {
        eprintln!("bf16 is not tested on this processor, which has no instructions for it: f16 in its place");
        return Element::F16;
    }
    element
}

/// Both searches, bit for bit. Returns how many queries went to the CPU.
fn check(
    searcher: &Searcher,
    key: u64,
    case: &Case,
    queries: &[f32],
    layers: &[u32],
    options: &Options,
) -> usize {
    let planes = case.planes();
    let expected = max_inner_product(queries, case.dimension, &chosen(&planes, layers), options).unwrap();
    let found = searcher
        .search(key, queries, case.dimension, &planes, layers, options)
        .unwrap();
    let bits = |answers: &[Vec<Candidate>]| -> Vec<Vec<(u32, u64)>> {
        answers
            .iter()
            .map(|answer| answer.iter().map(|c| (c.row, c.score.to_bits())).collect())
            .collect()
    };
    assert_eq!(bits(&found.answers), bits(&expected));
    found.on_cpu
}

/// X4: every shape, element and path gives the answer of the search on the CPU.
#[test]
fn shapes_elements_and_layers_give_the_same_answer() {
    let few = searcher();
    let many = searcher().tiles_only();
    let coded = searcher().with_codes();
    let mut key = 0;
    for (dimension, rows) in [(1, 700), (15, 333), (64, 1000), (384, 257), (768, 130)] {
        for element in [Element::F32, Element::F16, Element::Bf16, Element::I8].map(tested) {
            for kind in [Kind::Spread, Kind::Lengths] {
                key += 1;
                let case = Case::new(key, rows, dimension, 3, element, kind);
                let queries = case.queries(key, 11, Kind::Spread);
                for layers in [vec![0u32], vec![2, 0], vec![0, 1, 2]] {
                    // A single component orders all documents alike whatever the query: it may be many ties.
                    check(
                        &few,
                        key,
                        &case,
                        &queries[..3 * dimension],
                        &layers,
                        &Options::new(10),
                    );
                    check(&many, key, &case, &queries, &layers, &Options::new(7));
                    check(&coded, key, &case, &queries, &layers, &Options::new(7));
                }
            }
        }
    }
}

/// The row kernel is compiled for 1, 2, 4 and 8 queries, and a batch beyond that takes tiles.
#[test]
fn every_number_of_queries() {
    let case = Case::new(5, 901, 40, 2, Element::F16, Kind::Spread);
    let queries = case.queries(9, 33, Kind::Spread);
    for searcher in [searcher(), searcher().with_codes()] {
        for count in [1, 2, 3, 4, 5, 8, 9, 16, 17, 33] {
            let on_cpu = check(
                &searcher,
                1,
                &case,
                &queries[..count * 40],
                &[1, 0],
                &Options::new(12),
            );
            assert_eq!(on_cpu, 0, "{count} queries were answered on the device");
        }
    }
}

/// Sizes around the blocks, and a k that is larger than the number of documents.
#[test]
fn few_documents_and_a_larger_k() {
    for searcher in [searcher(), searcher().with_codes()] {
        for (key, rows) in [1, 2, 15, 16, 17, 31, 32, 33, 63, 100, 255, 256]
            .into_iter()
            .enumerate()
        {
            let case = Case::new(key as u64, rows, 24, 2, Element::F32, Kind::Spread);
            let queries = case.queries(3, 10, Kind::Spread);
            for k in [1, 5, rows, rows + 5] {
                for count in [1, 10] {
                    check(
                        &searcher,
                        key as u64,
                        &case,
                        &queries[..count * 24],
                        &[0, 1],
                        &Options::new(k),
                    );
                }
            }
        }
    }
}

/// Deleted documents are not found, also where nearly all or all are deleted.
#[test]
fn only_live_documents_are_found() {
    for searcher in [searcher(), searcher().with_codes()] {
        let rows = 800;
        let case = Case::new(11, rows, 48, 2, tested(Element::Bf16), Kind::Spread);
        let queries = case.queries(4, 12, Kind::Spread);
        let mut random = Random(99);
        for one_in in [1, 2, 30, 1000] {
            let mut live = vec![0u64; rows.div_ceil(64)];
            for row in 0..rows {
                if one_in < 1000 && random.next().is_multiple_of(one_in) {
                    live[row / 64] |= 1 << (row % 64);
                }
            }
            for count in [2, 12] {
                check(
                    &searcher,
                    1,
                    &case,
                    &queries[..count * 48],
                    &[0, 1],
                    &Options::new(9).live(&live),
                );
            }
        }
    }
}

/// Equal scores go by the caller's order; with more of them than there is room for, the CPU answers.
#[test]
fn ties_go_by_the_order_of_the_caller() {
    for searcher in [searcher(), searcher().with_codes()] {
        let backwards = |a: u32, b: u32| -> Ordering { b.cmp(&a) };
        for (key, dimension) in [(1, 6), (2, 1), (3, 30)] {
            let case = Case::new(key, 2000, dimension, 2, Element::F32, Kind::Ties);
            let queries = case.queries(2, 10, Kind::Ties);
            for k in [1, 10, 40] {
                check(&searcher, key, &case, &queries, &[0, 1], &Options::new(k));
                check(
                    &searcher,
                    key,
                    &case,
                    &queries[..dimension * 3],
                    &[1],
                    &Options::new(k).order(&backwards),
                );
            }
        }
        let equal = Case::of(&vec![0.25; 1500 * 8], 8, Element::F16);
        let on_cpu = check(
            &searcher,
            9,
            &equal,
            &[1.0; 16],
            &[0],
            &Options::new(3).order(&backwards),
        );
        assert_eq!(on_cpu, 2);
    }
}

/// Floors, of all queries and of each.
#[test]
fn floors_are_kept() {
    for searcher in [searcher(), searcher().with_codes()] {
        let case = Case::new(21, 600, 32, 1, Element::F16, Kind::Spread);
        let queries = case.queries(8, 4, Kind::Spread);
        let planes = case.planes();
        let best = max_inner_product(&queries, 32, &planes, &Options::new(30)).unwrap();
        let floors: Vec<f64> = best.iter().map(|answer| answer[17].score).collect();
        check(
            &searcher,
            1,
            &case,
            &queries,
            &[0],
            &Options::new(25).floors(&floors),
        );
        check(
            &searcher,
            1,
            &case,
            &queries,
            &[0],
            &Options::new(25).floor(floors[0]),
        );
        check(
            &searcher,
            1,
            &case,
            &queries,
            &[0],
            &Options::new(25).floor(f64::INFINITY),
        );
        check(
            &searcher,
            1,
            &case,
            &queries,
            &[0],
            &Options::new(25).floor(1e300),
        );
    }
}

/// Nearly as many documents as a block has, of which every tile must be visited: turns and steps are multiplied in 32 bits.
#[test]
fn a_block_of_a_million_documents() {
    let (rows, dimension) = (1_000_000, 3);
    let numbers = values(&mut Random(12), rows, dimension, Kind::Spread);
    let case = Case::of(&numbers, dimension, Element::F32);
    let queries = case.queries(3, 9, Kind::Spread);
    let searcher = || Searcher::new(client(), PLENTY);
    for (searcher, count) in [
        (searcher(), 2),
        (searcher().tiles_only(), 9),
        (searcher().with_codes(), 9),
    ] {
        let asked = &queries[..count * dimension];
        let on_cpu = check(&searcher, 1, &case, asked, &[0], &Options::new(20));
        assert_eq!(on_cpu, 0);
    }
}

/// Numbers at the edges of f32, subnormal ones, zeros: the bound or the CPU answers, never a wrong one.
#[test]
fn extreme_numbers_are_answered_exactly() {
    for searcher in [searcher(), searcher().with_codes()] {
        let mut key = 0;
        for (document, query) in [
            (3e38f32, 1e-3f32),
            (1e-42, 1.0),
            (1e-42, 3e38),
            (1.0, 1e-40),
            (0.0, 1.0),
            (1e30, 1e30),
        ] {
            for element in [Element::F32, Element::Bf16].map(tested) {
                key += 1;
                let mut random = Random(key + 5);
                let numbers: Vec<f32> = (0..400 * 20).map(|_| random.unit() * document).collect();
                let case = Case::of(&numbers, 20, element);
                let queries: Vec<f32> = (0..10 * 20).map(|_| random.unit() * query).collect();
                check(&searcher, key, &case, &queries, &[0], &Options::new(5));
                check(&searcher, key, &case, &queries[..20], &[0], &Options::new(5));
            }
        }
    }
}

/// What the device cannot do is done on the CPU, and said.
#[test]
fn refusals_are_answered_on_the_cpu() {
    let case = Case::new(2, 500, 32, 1, Element::F32, Kind::Spread);
    let planes = case.planes();
    let queries = case.queries(1, 2, Kind::Spread);
    let expected = max_inner_product(&queries, 32, &planes, &Options::new(4)).unwrap();
    let small = Searcher::new(client(), 1000);
    let found = small
        .search(1, &queries, 32, &planes, &[0], &Options::new(4))
        .unwrap();
    assert!(matches!(
        found.refusal,
        Some(Refusal::Budget { budget: 1000, .. })
    ));
    assert_eq!((found.answers, found.on_cpu), (expected, 2));

    let mut numbers = vec![0.5f32; 64];
    numbers[40] = f32::INFINITY;
    let infinite = [Plane::from_f32(&numbers, 32).unwrap()];
    let found = searcher()
        .search(1, &queries, 32, &infinite, &[0], &Options::new(1))
        .unwrap();
    assert_eq!(found.refusal, Some(Refusal::NotFinite));

    let layer = searcher().search(1, &queries, 32, &planes, &[1], &Options::new(1));
    assert_eq!(layer, Err(Error::Layer { layer: 1, layers: 1 }));
    let none = searcher().search(1, &queries, 32, &planes, &[], &Options::new(1));
    assert_eq!(none, Err(Error::NoPlanes));
}

/// Parts stay while the budget allows, and the one that was used longest ago goes first.
#[test]
fn parts_stay_within_the_budget_by_use() {
    let cases: Vec<Case> = (0..3)
        .map(|seed| Case::new(seed, 512, 32, 1, Element::F16, Kind::Spread))
        .collect();
    let of_one = 512 * 64 * 2; // rows are padded to 64 components
    let searcher = Searcher::new(client(), 2 * of_one);
    let brought = |key: usize| {
        let case = &cases[key];
        let queries = case.queries(1, 1, Kind::Spread);
        let found = searcher.search(key as u64, &queries, 32, &case.planes(), &[0], &Options::new(3));
        found.unwrap().brought
    };
    assert_eq!(brought(0), of_one);
    assert_eq!(brought(1), of_one);
    assert_eq!(brought(0), 0);
    assert_eq!(brought(2), of_one); // in the place of 1
    assert_eq!(brought(0), 0);
    assert_eq!(brought(1), of_one);
    assert_eq!(searcher.resident_bytes(), 2 * of_one);
    assert!(searcher.forget(1) && !searcher.forget(1));
    assert_eq!(searcher.resident_bytes(), of_one);
}

/// Codes are there where the budget has room for them beside the rows, and they never take another part's.
#[test]
fn codes_take_what_room_is_left() {
    let cases: Vec<Case> = (0..2)
        .map(|seed| Case::new(seed, 512, 32, 1, Element::F16, Kind::Spread))
        .collect();
    let (rows, codes) = (512 * 64 * 2, 512 * 128); // padded to 64 components, and to 128
    let resident = |budget: u64, searched: &[usize]| {
        let searcher = Searcher::new(client(), budget).with_codes();
        for &key in searched {
            let queries = cases[key].queries(1, 1, Kind::Spread);
            check(
                &searcher,
                key as u64,
                &cases[key],
                &queries,
                &[0],
                &Options::new(3),
            );
        }
        searcher.resident_bytes()
    };
    assert_eq!(resident(rows + codes, &[0]), rows + codes);
    assert_eq!(resident(rows + codes - 1, &[0]), rows);
    assert_eq!(resident(2 * rows + codes, &[0, 1]), 2 * rows + codes);
    assert_eq!(resident(2 * rows + codes - 1, &[0, 1]), rows); // the first had them, and went
    assert_eq!(resident(2 * (rows + codes), &[0, 1]), 2 * (rows + codes));
}

/// Where scores lie closer together than codes tell, rows answer, and after many such queries the codes go.
#[test]
fn codes_that_tell_nothing_apart_are_given_up() {
    let searcher = searcher().with_codes();
    let mut random = Random(5);
    let (rows, dimension) = (6000, 16);
    // All within a tenth of each other but for one far off, which is what steps are made for.
    let mut numbers: Vec<f32> = (0..rows * dimension)
        .map(|_| 0.5 + random.unit() * 0.05)
        .collect();
    numbers[77 * dimension..78 * dimension].fill(-8.0);
    let case = Case::of(&numbers, dimension, Element::F16);
    let queries = vec![0.3f32; 70 * dimension];
    let some = check(&searcher, 1, &case, &queries[..dimension], &[0], &Options::new(5));
    let with_codes = searcher.resident_bytes();
    check(&searcher, 1, &case, &queries, &[0], &Options::new(5));
    assert_eq!(some, 0, "rows tell apart what codes do not");
    assert!(searcher.resident_bytes() < with_codes);
    check(&searcher, 1, &case, &queries, &[0], &Options::new(5));
}

/// Threads share a device, also those of one pool: a thread that waits for others there takes another search meanwhile, and
/// must not wait for itself.
#[test]
fn threads_share_a_searcher() {
    static SEARCHER: OnceLock<Searcher> = OnceLock::new();
    let shared = SEARCHER.get_or_init(|| searcher().with_codes());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let pool = &pool;
    std::thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || {
                let case = Case::new(seed, 400, 33, 2, Element::F16, Kind::Spread);
                let queries = case.queries(seed, 9, Kind::Spread);
                let search = || check(shared, seed, &case, &queries, &[0, 1], &Options::new(6));
                for _ in 0..3 {
                    if seed % 2 == 0 {
                        search()
                    } else {
                        pool.install(search)
                    };
                }
            });
        }
    });
}

/// The device's scores stay within the bound that the candidates are chosen by.
#[test]
fn scores_stay_within_their_bound() {
    for searcher in [searcher(), searcher().tiles_only(), searcher().with_codes()] {
        for (key, element) in [Element::F32, Element::F16, Element::Bf16]
            .map(tested)
            .into_iter()
            .enumerate()
        {
            for (dimension, kind) in [(15, Kind::Spread), (384, Kind::Spread), (64, Kind::Lengths)] {
                let key = (key * 1000 + dimension) as u64;
                let case = Case::new(key, 200, dimension, 2, element, kind);
                let queries = case.queries(3, 8, Kind::Spread);
                let used = searcher
                    .bound_used(key, &queries, dimension, &case.planes(), &[0, 1], 200)
                    .unwrap();
                assert!(
                    used < 1.0 && used > 0.0,
                    "{element:?} {dimension} {kind:?}: {used}"
                );
            }
        }
    }
}

/// A hunt for a wrong answer, in a pool of threads: shapes, elements, masks, floors and layers at random.
#[test]
fn random_searches_give_the_same_answer() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let (few, many, coded) = (searcher(), searcher().tiles_only(), searcher().with_codes());
    let mut random = Random(20_261_125);
    let mut on_device = 0;
    for key in 0..120 {
        let mut up_to = |most: u64| (random.next() % most) as usize;
        let (rows, dimension, layers) = (1 + up_to(900), 1 + up_to(130), 1 + up_to(4));
        let element = tested([Element::F32, Element::F16, Element::Bf16, Element::I8][up_to(4)]);
        let kind = [Kind::Spread, Kind::Ties, Kind::Lengths][up_to(3)];
        let (count, k) = (1 + up_to(12), 1 + up_to(30));
        let case = Case::new(key, rows, dimension, layers, element, kind);
        let queries = case.queries(key, count, kind);
        let first = up_to(layers as u64) as u32;
        let chosen: Vec<u32> = (first..layers as u32).rev().collect();
        let mut options = Options::new(k);
        let live: Vec<u64> = (0..rows.div_ceil(64))
            .map(|_| random.next() | random.next())
            .collect();
        if key % 3 == 0 {
            options = options.live(&live);
        }
        let floors: Vec<f64> = (0..count).map(|_| f64::from(random.unit())).collect();
        if key % 5 == 0 {
            options = options.floors(&floors);
        }
        let searcher = [&few, &coded, &many, &coded][key as usize % 4];
        let on_cpu = pool.install(|| check(searcher, key, &case, &queries, &chosen, &options));
        on_device += count - on_cpu;
    }
    assert!(
        on_device > 300,
        "only {on_device} queries were searched on the device"
    );
}
