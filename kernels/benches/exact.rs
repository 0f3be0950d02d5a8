//! Exact search of 100,000 vectors of dimension 384 on one thread, by instruction set, beside the
//! time that merely reading the vectors takes; and of vectors that lie in their directions as an encoder's do, with
//! codes that scan all components and part of them: `cargo bench -p stratal-kernels`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stratal_kernels::{Frame, Instructions, Options, Plane, ScanCodes, max_inner_product};

const ROWS: usize = 100_000;
const DIMENSION: usize = 384;

/// The shares of the variance that stretches of 32 directions have of the vectors of all-MiniLM-L6-v2.
const SHARES: [f32; 12] = [
    0.36, 0.18, 0.127, 0.093, 0.072, 0.057, 0.038, 0.037, 0.014, 0.015, 0.004, 0.003,
];

/// Unit vectors around 300 centres, so many times as long as what is around them, close enough to some for a search to have
/// something to find. A direction has this share of the variance.
fn vectors(count: usize, seed: u64, closeness: f32, share: impl Fn(usize) -> f32) -> Vec<f32> {
    let mut state = seed;
    let mut normal = move || -> f32 {
        (0..4)
            .map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .sum()
    };
    let deviations: Vec<f32> = (0..DIMENSION).map(|i| share(i).sqrt()).collect();
    let mut vector = || -> Vec<f32> { deviations.iter().map(|deviation| deviation * normal()).collect() };
    let centres: Vec<Vec<f32>> = (0..300).map(|_| vector()).collect();
    // Two reflections, so that no direction is an axis.
    let mirrors: [Vec<f32>; 2] = std::array::from_fn(|_| unit(vector().iter().map(|x| x.signum()).collect()));
    let mut all = Vec::with_capacity(count * DIMENSION);
    for i in 0..count {
        let centre = &centres[i * 7919 % 300];
        let mut row: Vec<f32> = centre
            .iter()
            .zip(vector())
            .map(|(c, x)| c * closeness + x)
            .collect();
        for mirror in &mirrors {
            let along: f32 = row.iter().zip(mirror).map(|(x, m)| x * m).sum();
            row.iter_mut()
                .zip(mirror)
                .for_each(|(x, m)| *x -= 2.0 * along * m);
        }
        all.extend(unit(row));
    }
    all
}

fn unit(mut row: Vec<f32>) -> Vec<f32> {
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter_mut().for_each(|x| *x /= norm);
    row
}

fn search(c: &mut Criterion) {
    let stored = vectors(ROWS + 1000, 1, 0.8, |_| 1.0);
    let (stored, queries) = stored.split_at(ROWS * DIMENSION);
    let planes = [Plane::from_f32(stored, DIMENSION).expect("the shape is right")];

    let built = ScanCodes::build(&planes[0]);
    let codes = [built.view()];

    let mut group = c.benchmark_group("100k x 384");
    group.sample_size(10);
    group.throughput(Throughput::Bytes((stored.len() * 4) as u64));
    group.bench_function("read", |b| {
        b.iter(|| stored.iter().fold(0u32, |a, x| a ^ x.to_bits()))
    });
    for count in [1usize, 4, 16, 1000] {
        for path in Instructions::ALL.into_iter().filter(|path| path.is_available()) {
            if count == 1000 && path == Instructions::Portable {
                continue;
            }
            let options = Options::new(10).instructions(path);
            let queries = &queries[..count * DIMENSION];
            let coded = options.codes(&codes);
            let name = BenchmarkId::new(format!("codes {path:?}"), count);
            group.bench_with_input(name, queries, |b, queries| {
                b.iter(|| max_inner_product(queries, DIMENSION, &planes, &coded));
            });
            if path == Instructions::Avx512Vnni {
                // Differs from AVX-512 in the codes only.
                continue;
            }
            let name = BenchmarkId::new(format!("{path:?}"), count);
            group.bench_with_input(name, queries, |b, queries| {
                b.iter(|| max_inner_product(queries, DIMENSION, &planes, &options));
            });
        }
    }
    group.finish();
}

/// What scanning part of the components saves.
fn scanned(c: &mut Criterion) {
    let stored = vectors(ROWS + 1000, 1, 1.0, |i| SHARES[i / 32]);
    let (stored, queries) = stored.split_at(ROWS * DIMENSION);
    let planes = [Plane::from_f32(stored, DIMENSION).expect("the shape is right")];
    let part = ScanCodes::build(&planes[0]);
    let frame = Frame::about(part.view().mean());
    let all = ScanCodes::build_about(&planes[0], &frame).expect("the dimension is right");

    let mut group = c.benchmark_group("100k x 384 of an encoder");
    group.sample_size(10);
    for count in [1usize, 1000] {
        let queries = &queries[..count * DIMENSION];
        for codes in [all.view(), part.view()] {
            let name = BenchmarkId::new(format!("scanning {} components", codes.head()), count);
            let codes = [codes];
            let options = Options::new(10).codes(&codes);
            group.bench_with_input(name, queries, |b, queries| {
                b.iter(|| max_inner_product(queries, DIMENSION, &planes, &options));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, search, scanned);
criterion_main!(benches);
