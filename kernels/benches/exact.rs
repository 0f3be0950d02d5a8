//! Exact search of 100,000 vectors of dimension 384 on one thread, by instruction set, beside the
//! time that merely reading the vectors takes: `cargo bench -p stratal-kernels`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stratal_kernels::{Instructions, Options, Plane, ScanCodes, max_inner_product};

const ROWS: usize = 100_000;
const DIMENSION: usize = 384;

/// Unit vectors around 300 centres, close enough to some for a search to have something to find.
fn vectors(count: usize, seed: u64) -> Vec<f32> {
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
    let centres: Vec<f32> = (0..300 * DIMENSION).map(|_| normal()).collect();
    let mut all = Vec::with_capacity(count * DIMENSION);
    for i in 0..count {
        let centre = &centres[i * 7919 % 300 * DIMENSION..][..DIMENSION];
        let row: Vec<f32> = centre.iter().map(|c| c * 0.8 + normal()).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        all.extend(row.iter().map(|x| x / norm));
    }
    all
}

fn search(c: &mut Criterion) {
    let stored = vectors(ROWS + 1000, 1);
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

criterion_group!(benches, search);
criterion_main!(benches);
