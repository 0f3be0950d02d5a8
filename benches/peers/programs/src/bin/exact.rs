//! Our exact search: `exact VECTORS.npy QUERIES.npy K` loads `[n, D]` or `[n, m, D]` vectors, codes
//! them, and answers one request a line:
//!
//! `single THREADS COUNT`, `batch THREADS COUNT` search COUNT queries one by one or at once;
//! `layers J COUNT` searches the first J planes, one query at a time on one thread;
//! `answers COUNT` gives the ids found; `bandwidth THREADS` reads the vectors and does nothing else;
//! `arithmetic` multiplies 8-bit integers in registers and reads nothing.

use std::path::PathBuf;

use serde_json::{Value, json};
use stratal_kernels::{
    Candidate, Codes, Counters, Instructions, Options, Plane, ScanCodes, TileNumbers, TileRegisters,
    max_inner_product,
};
use stratal_peers::{argument, read_npy, serve_requests, timed};

struct Data {
    planes: Vec<Vec<f32>>,
    dimension: usize,
    queries: Vec<f32>,
    k: usize,
}

fn main() {
    let (vectors, shape) = read_npy(&argument::<PathBuf>(1, "path of vectors"));
    let (queries, _) = read_npy(&argument::<PathBuf>(2, "path of queries"));
    let k = argument(3, "number of answers");
    let dimension = *shape.last().expect("vectors have a shape");
    let layers = if shape.len() == 3 { shape[1] } else { 1 };
    // Layer-major, as a segment keeps them.
    let planes: Vec<Vec<f32>> = match layers {
        1 => vec![vectors],
        _ => (0..layers)
            .map(|layer| {
                let rows = vectors.chunks_exact(layers * dimension);
                rows.flat_map(|row| &row[layer * dimension..][..dimension])
                    .copied()
                    .collect()
            })
            .collect(),
    };
    let data = Data {
        planes,
        dimension,
        queries,
        k,
    };
    let planes: Vec<Plane> = data
        .planes
        .iter()
        .map(|plane| Plane::from_f32(plane, dimension).expect("the shape is right"))
        .collect();
    let (built, coding) = timed(|| planes.iter().map(ScanCodes::build).collect::<Vec<_>>());
    let codes: Vec<Codes> = built.iter().map(ScanCodes::view).collect();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .expect("threads start");

    let ready = json!({
        "documents": planes[0].rows(),
        "layers": layers,
        "head": codes[0].head(),
        "coding": coding,
    });
    serve_requests(ready, |request| {
        let words: Vec<&str> = request.split_whitespace().collect();
        let number =
            |place: usize| -> usize { words[place].parse().expect("a number stands in the request") };
        match words[0] {
            "single" => data.run(&planes, &codes, number(1), &pool, number(2), true),
            "batch" => data.run(&planes, &codes, number(1), &pool, number(2), false),
            "layers" => data.run(
                &planes[..number(1)],
                &codes[..number(1)],
                1,
                &pool,
                number(2),
                true,
            ),
            "answers" => {
                let found = data.search(&planes, &codes, 0..number(1), 1, &pool, &Counters::default());
                let rows: Vec<Vec<u32>> = found
                    .iter()
                    .map(|best| best.iter().map(|c| c.row).collect())
                    .collect();
                json!({ "rows": rows })
            }
            "bandwidth" => data.read(number(1)),
            "arithmetic" => arithmetic(),
            other => panic!("unknown request {other:?}"),
        }
    });
}

impl Data {
    fn search(
        &self,
        planes: &[Plane],
        codes: &[Codes],
        which: std::ops::Range<usize>,
        threads: usize,
        pool: &rayon::ThreadPool,
        counters: &Counters,
    ) -> Vec<Vec<Candidate>> {
        let queries = &self.queries[which.start * self.dimension..which.end * self.dimension];
        let options = Options::new(self.k).codes(codes).counters(counters);
        let search =
            || max_inner_product(queries, self.dimension, planes, &options).expect("the search is good");
        if threads == 1 {
            search()
        } else {
            pool.install(search)
        }
    }

    fn run(
        &self,
        planes: &[Plane],
        codes: &[Codes],
        threads: usize,
        pool: &rayon::ThreadPool,
        count: usize,
        one_by_one: bool,
    ) -> Value {
        let counters = Counters::default();
        let (found, mut spent) = timed(|| match one_by_one {
            false => self.search(planes, codes, 0..count, threads, pool, &counters),
            true => (0..count)
                .flat_map(|q| self.search(planes, codes, q..q + 1, threads, pool, &counters))
                .collect(),
        });
        let each = |total: u64| total as f64 / count as f64;
        spent["queries"] = json!(count);
        spent["sum"] = json!(found.iter().flatten().map(|c| u64::from(c.row)).sum::<u64>());
        spent["swept"] = json!(each(counters.swept()));
        spent["left"] = json!(each(counters.left()));
        spent["scored"] = json!(each(counters.scored()));
        spent["multiplied"] = json!(each(counters.multiplied()));
        spent
    }

    /// Reads all planes once on each of `threads` (each its share).
    fn read(&self, threads: usize) -> Value {
        let bytes: usize = self.planes.iter().map(|plane| plane.len() * 4).sum();
        let (_, mut spent) = timed(|| {
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    scope.spawn(move || {
                        for plane in &self.planes {
                            let share = plane.len() / threads;
                            std::hint::black_box(sum(&plane[thread * share..][..share]));
                        }
                    });
                }
            });
        });
        spent["bytes"] = json!(bytes);
        spent
    }
}

/// The most multiply-adds of 8-bit integers that one thread does, by the instructions that a batch is searched with.
#[cfg(target_arch = "x86_64")]
fn arithmetic() -> Value {
    const TURNS: usize = 20_000_000;
    let (each, mut spent) = if let Some(registers) = TileRegisters::configured(TileNumbers::Int8) {
        let ((), spent) = timed(|| multiply_tiles(&registers, TURNS / 4));
        (16 * 16 * 64, spent)
    } else if Instructions::Avx512Vnni.is_available() {
        // SAFETY: the processor has VNNI.
        let ((), spent) = timed(|| unsafe { multiply_lanes(TURNS) });
        (8 * 64, spent)
    } else {
        return json!({ "multiply_adds": 0, "cpu_s": 1.0, "instructions": "neither AMX nor VNNI" });
    };
    spent["multiply_adds"] = json!(TURNS * each);
    spent["instructions"] = json!(format!("{:?}", Instructions::best()));
    spent
}

#[cfg(not(target_arch = "x86_64"))]
fn arithmetic() -> Value {
    json!({ "multiply_adds": 0, "cpu_s": 1.0, "instructions": "neither AMX nor VNNI" })
}

/// Four products of tiles a turn, into four tiles of sums.
#[cfg(target_arch = "x86_64")]
fn multiply_tiles(_configured: &TileRegisters, turns: usize) {
    // SAFETY: registers are configured; nothing but tiles and the counter is written.
    unsafe {
        std::arch::asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "2:",
            "tdpbusd tmm0, tmm4, tmm6", "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm2, tmm5, tmm6", "tdpbusd tmm3, tmm5, tmm7",
            "dec {turns}", "jnz 2b",
            turns = inout(reg) turns.max(1) => _,
            options(nostack),
        );
    }
}

/// Eight products of lanes a turn, into eight sums.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply_lanes(turns: usize) {
    use std::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_set1_epi8, _mm512_setzero_si512};
    let (a, b) = std::hint::black_box((_mm512_set1_epi8(1), _mm512_set1_epi8(2)));
    let mut sums = [_mm512_setzero_si512(); 8];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    std::hint::black_box(sums);
}

/// Reads as fast as it can; the wrapping sum of the bits is there to be used.
fn sum(values: &[f32]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn wide(values: &[f32]) -> u32 {
            narrow(values)
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { wide(values) };
        }
    }
    narrow(values)
}

#[inline(always)]
fn narrow(values: &[f32]) -> u32 {
    let mut lanes = [0u32; 64];
    let whole = values.chunks_exact(64);
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(value.to_bits());
        }
    }
    lanes.iter().fold(0, |a, b| a.wrapping_add(*b))
}
