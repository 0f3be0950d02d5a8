//! The search on a CUDA device: right, against f64 on the CPU, and how quick, beside the device's own
//! memory bandwidth and matrix rate. README.md in this folder says how to run it.

use std::time::Instant;

use cubecl::Device;
use cubecl::cuda::CudaDevice;
use half::{bf16, f16};
use stratal_kernels::cube::Searcher;
use stratal_kernels::{Candidate, Element, Options, Plane, max_inner_product};

mod limits;

struct Settings {
    documents: usize,
    layers: usize,
    dimension: usize,
    k: usize,
    queries: Vec<usize>,
    device: usize,
    rounds: usize,
}

fn main() {
    let settings = match settings(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(2);
        }
    };
    if let Err(message) = run(&settings) {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let mut settings = Settings {
        documents: 1_000_000,
        layers: 2,
        dimension: 768,
        k: 100,
        queries: vec![1, 32, 1024],
        device: 0,
        rounds: 11,
    };
    while let Some(name) = arguments.next() {
        if name == "--bench" {
            continue; // what `cargo bench` passes
        }
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        let number = || {
            value
                .parse::<usize>()
                .map_err(|_| format!("{name} {value}: not a number"))
        };
        match name.as_str() {
            "--documents" => settings.documents = number()?,
            "--layers" => settings.layers = number()?,
            "--dimension" => settings.dimension = number()?,
            "--k" => settings.k = number()?,
            "--device" => settings.device = number()?,
            "--rounds" => settings.rounds = number()?,
            "--queries" => {
                settings.queries = value
                    .split(',')
                    .map(|count| count.parse().map_err(|_| format!("{name} {value}: not numbers")))
                    .collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(settings)
}

fn run(settings: &Settings) -> Result<(), String> {
    let searcher = || Searcher::cuda(settings.device, None).map_err(|error| error.to_string());
    // One at a time has its parts on the device.
    let ways = [("rows", searcher()?), ("codes", searcher()?.with_codes())];
    if !ways[0].1.has_tensor_cores() {
        println!("note: this device offers no m16n8k16 products; the plain kernel runs");
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .build()
        .map_err(|error| error.to_string())?;
    let client = Device::Cuda(CudaDevice::new(settings.device)).client();
    let limits = limits::measure(&client);
    println!("device: {}", client.properties().identity.name);
    println!("memory, read: {:.0} GB/s", limits.bytes / 1e9);
    println!(
        "products in registers, mma.sync bf16: {:.0} TFLOP/s",
        limits.products / 1e12
    );

    for element in [Element::F16, Element::Bf16] {
        let name = if element == Element::F16 { "f16" } else { "bf16" };
        let data = pool.install(|| documents(settings, element));
        let planes: Vec<Plane> = data
            .iter()
            .map(|bytes| {
                let stride = settings.dimension * 2;
                Plane::new(bytes, settings.documents, settings.dimension, stride, element)
            })
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let most = settings.queries.iter().copied().max().unwrap_or(1);
        let queries = unit_vectors(most, settings.dimension, 7);
        // The CPU takes its time over a million documents: a few queries stand for all.
        let few = &queries[..most.min(CHECKED) * settings.dimension];
        let expected = pool
            .install(|| max_inner_product(few, settings.dimension, &planes, &Options::new(settings.k)))
            .map_err(|error| error.to_string())?;
        for (way, searcher) in &ways {
            let of_way = Way {
                name: format!("{name}, {way}"),
                bytes: if *way == "codes" { 1 } else { 2 },
                searcher,
                pool: &pool,
                planes: &planes,
                queries: &queries,
                expected: &expected,
            };
            of_way.measure(settings, &limits)?;
            if *way == "codes" && searcher.code_bytes() == 0 {
                println!("{name}: codes were too coarse, or had no room, and rows were searched instead");
            }
            searcher.forget(KEY);
        }
    }
    Ok(())
}

/// Queries whose answers are compared.
const CHECKED: usize = 16;
/// The one part that is searched.
const KEY: u64 = 0;

/// A searcher and what it is given.
struct Way<'a> {
    name: String,
    /// Of a component that it scores.
    bytes: usize,
    searcher: &'a Searcher,
    pool: &'a rayon::ThreadPool,
    planes: &'a [Plane<'a>],
    queries: &'a [f32],
    expected: &'a [Vec<Candidate>],
}

impl Way<'_> {
    fn measure(&self, settings: &Settings, limits: &limits::Limits) -> Result<(), String> {
        let Way {
            name,
            searcher,
            planes,
            ..
        } = self;
        let layers: Vec<u32> = (0..settings.layers as u32).collect();
        let used = searcher
            .bound_used(KEY, self.queries, settings.dimension, planes, &layers, settings.k)
            .map_err(|error| error.to_string())?;
        println!("{name}: {used:.3} of the error bound used");
        if used >= 1.0 {
            return Err("the device's scores leave their bound: answers may be wrong".to_owned());
        }
        for &count in &settings.queries {
            let asked = &self.queries[..count * settings.dimension];
            let options = Options::new(settings.k);
            let search = || {
                self.pool
                    .install(|| searcher.search(KEY, asked, settings.dimension, planes, &layers, &options))
                    .map_err(|error| error.to_string())
            };
            let checked = count.min(CHECKED);
            let found = search()?;
            if found.answers[..checked] != self.expected[..checked] {
                return Err(format!(
                    "{name}, {count} queries: the answers differ from the CPU's"
                ));
            }
            let whole = median(settings.rounds, || search().map(|_| ()))?;
            let device = median(settings.rounds, || {
                self.pool
                    .install(|| searcher.scan(KEY, asked, settings.dimension, planes, &layers, settings.k))
                    .map_err(|error| error.to_string())
            })?;
            let size = settings.documents * settings.layers * settings.dimension;
            let bytes = (size * self.bytes) as f64 / device;
            let products = (size * 2 * count) as f64 / device;
            println!(
                "{name}, {count:5} queries: {:9.3} ms, on the device {:9.3} ms; {:6.0} GB/s ({:.2} of its \
                 memory), {:6.1} TFLOP/s ({:.2} of mma.sync in bf16); {:.1} candidates a query, {} on the CPU; {} \
                 answers equal to f64",
                whole * 1e3,
                device * 1e3,
                bytes / 1e9,
                bytes / limits.bytes,
                products / 1e12,
                products / limits.products,
                found.scored as f64 / count as f64,
                found.on_cpu,
                checked,
            );
        }
        Ok(())
    }
}

fn median(rounds: usize, mut run: impl FnMut() -> Result<(), String>) -> Result<f64, String> {
    for _ in 0..2 {
        run()?;
    }
    let mut times = Vec::new();
    for _ in 0..rounds.max(1) {
        let begun = Instant::now();
        run()?;
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// `[m]` planes of unit vectors, as bytes.
fn documents(settings: &Settings, element: Element) -> Vec<Vec<u8>> {
    use rayon::prelude::*;
    (0..settings.layers)
        .map(|layer| {
            let mut bytes = vec![0u8; settings.documents * settings.dimension * 2];
            let rows = 1024;
            bytes
                .par_chunks_mut(rows * settings.dimension * 2)
                .enumerate()
                .for_each(|(at, out)| {
                    let seed = (layer * 1_000_003 + at) as u64 + 100;
                    let vectors = unit_vectors(out.len() / 2 / settings.dimension, settings.dimension, seed);
                    for (x, out) in vectors.iter().zip(out.chunks_exact_mut(2)) {
                        out.copy_from_slice(&match element {
                            Element::F16 => f16::from_f32(*x).to_le_bytes(),
                            _ => bf16::from_f32(*x).to_le_bytes(),
                        });
                    }
                });
            bytes
        })
        .collect()
}

/// Vectors of length one in directions that are spread evenly but for a common part, as real ones have.
fn unit_vectors(count: usize, dimension: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut vectors = Vec::with_capacity(count * dimension);
    for _ in 0..count {
        let first = vectors.len();
        let mut squares = 0.0f32;
        for i in 0..dimension {
            // A sum of uniform numbers is near enough to normal.
            let x = uniform() + uniform() + uniform() - 1.5 + if i % 16 == 0 { 0.3 } else { 0.0 };
            squares += x * x;
            vectors.push(x);
        }
        vectors[first..].iter_mut().for_each(|x| *x /= squares.sqrt());
    }
    vectors
}
