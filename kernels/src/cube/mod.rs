//! The search on a device, as CubeCL kernels: the same answer as
//! [`max_inner_product`] gives, to the last bit and tie.
//!
//! A [`Searcher`] keeps parts (a segment's planes, all layers) on its device, in f16 or bf16, within a
//! memory budget. A batch of queries is scored there: tiles of queries × documents on tensor cores, and
//! of every layer only what reaches a query's threshold is ever written, so that no
//! matrix of scores exists. Few queries take a kernel of their own that is bound by memory. The threshold
//! is the k-th best score so far less a rigorous bound on the error of half-precision scores (the module
//! `bound` holds the proof), so every document of the true answer is among the candidates; their f64
//! scores are then computed from the stored values: on the device where it holds them as they are (f16, bf16,
//! int8), else on the CPU. Where more candidates come than there is
//! room for (as with thousands of equal scores), that query is searched on the CPU.
//!
//! A searcher [with codes](Searcher::with_codes) keeps every row in int8 too and scores these, which takes half of the
//! bytes and products of twice the rate, then the candidates' rows in f32 (the modules `codes` and `refine`).
//!
//! The kernels are written once. They run on CUDA devices (feature `cuda`) and, in the tests, on CubeCL's
//! CPU runtime (feature `cube-cpu`), which differs in one function: the product of two tiles.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use cubecl::bytes::Bytes;
use cubecl::features::Plane as PlaneFeature;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind, IntKind};
use cubecl::prelude::*;

use crate::search::{check_options, check_planes, check_queries};
use crate::{Candidate, Error, Options, Plane, max_inner_product};

mod answers;
mod batch;
mod bound;
mod codes;
#[cfg(feature = "cuda")]
mod cuda;
mod exact;
mod form;
mod gather;
mod kernel;
mod launch;
mod measure;
mod product;
mod refine;
mod resident;
mod rows;
mod select;
mod shape;
mod spread;
#[cfg(feature = "cube-cpu")]
pub mod text;
mod tiles;

use answers::answers;
use batch::{Ask, MOST_CANDIDATES};
#[cfg(feature = "cuda")]
pub use cuda::cuda_device;
use gather::Candidates;
use kernel::Ability;
pub use resident::Refusal;
use resident::Residents;
use shape::SHARED_BYTES;

/// The most queries of one batch on the device.
const BATCH: usize = 1024;
/// The bytes of a batch's queries, at most.
const BATCH_BYTES: usize = 256 << 20;
/// The bytes of one buffer of documents.
const BLOCK_BYTES: usize = 4 << 30;

/// A device that searches parts.
///
/// One search at a time runs on it; others wait.
pub struct Searcher {
    client: Client,
    ability: Ability,
    residents: Mutex<Residents>,
}

/// What a search on a device found, and what it took.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// For each query what [`max_inner_product`] answers.
    pub answers: Vec<Vec<Candidate>>,
    /// Bytes of the part that were brought to the device for this search.
    pub brought: u64,
    /// Candidates whose f64 score was computed, over all queries searched on the device; a document may be among them
    /// once for each layer.
    pub scored: u64,
    /// Queries that were searched on the CPU instead.
    pub on_cpu: usize,
    /// Why all of them were, if all of them were.
    pub refusal: Option<Refusal>,
}

impl Searcher {
    /// A searcher on the device behind `client`, whose parts take at most `budget` bytes there.
    pub fn new(client: Client, budget: u64) -> Searcher {
        Searcher::with_blocks(client, budget, BLOCK_BYTES)
    }

    /// A searcher on CubeCL's CPU runtime: the kernels' source where there is no GPU, for tests. It is slower
    /// than the search on the CPU.
    #[cfg(feature = "cube-cpu")]
    pub fn on_cpu_runtime(budget: u64) -> Searcher {
        let device = cubecl::Device::Cpu(cubecl::cpu::CpuDevice);
        Searcher::new(device.client(), budget)
    }

    /// The same with another size of buffer, in bytes, for parts that are larger than one.
    pub fn with_blocks(client: Client, budget: u64, block_bytes: usize) -> Searcher {
        let properties = client.properties();
        let plane = (properties.hardware.plane_size_max as usize).max(1);
        let features = &properties.features;
        let multiplies = |kind| {
            let config = MmaConfig {
                a_type: ElemType::Float(kind),
                b_type: ElemType::Float(kind),
                cd_type: ElemType::Float(FloatKind::F32),
                m: 16,
                n: 8,
                k: 16,
            };
            features.matmul.mma.contains(&config) && features.matmul.ldmatrix.contains(&ElemType::Float(kind))
        };
        let whole_planes = properties.hardware.plane_size_min == properties.hardware.plane_size_max
            && (plane == 1 || features.plane.is_superset(PlaneFeature::Ops | PlaneFeature::Sync))
            && plane <= 32;
        let plane = if whole_planes { plane } else { 1 };
        let processors = properties.hardware.num_streaming_multiprocessors;
        let ability = Ability {
            plane,
            cubes: processors.unwrap_or(1).max(1) as usize,
            units: if plane == 1 { 2 } else { 256 },
            shared: properties.hardware.max_shared_memory_size,
            tensor: plane == 32
                && multiplies(FloatKind::F16)
                && multiplies(FloatKind::BF16)
                && properties.hardware.max_shared_memory_size >= SHARED_BYTES,
            candidates: 4096,
            tiles_only: false,
            codes: false,
        };
        Searcher {
            client,
            ability,
            residents: Mutex::new(Residents::new(budget, block_bytes)),
        }
    }

    /// Room for at least this many candidates a query (a power of two), for tests: fewer means more
    /// rounds. The answer is the same.
    #[doc(hidden)]
    pub fn candidates(mut self, candidates: usize) -> Searcher {
        self.ability.candidates = candidates.next_power_of_two();
        self
    }

    /// The kernel for many queries also where there are few, for tests. The answer is the same.
    #[doc(hidden)]
    pub fn tiles_only(mut self) -> Searcher {
        self.ability.tiles_only = true;
        self
    }

    /// Scores parts through codes of int8, where they have room for them (half as much again) and the device multiplies
    /// them. The answer is the same. It has not run on a GPU yet, so it must be asked for.
    pub fn with_codes(mut self) -> Searcher {
        let config = MmaConfig {
            a_type: ElemType::Int(IntKind::I8),
            b_type: ElemType::Int(IntKind::I8),
            cd_type: ElemType::Int(IntKind::I32),
            m: 16,
            n: 8,
            k: 32,
        };
        self.ability.codes =
            !self.ability.tensor || self.client.properties().features.matmul.mma.contains(&config);
        self
    }

    /// Whether products are computed on tensor cores.
    pub fn has_tensor_cores(&self) -> bool {
        self.ability.tensor
    }

    /// The bytes that parts take on the device.
    pub fn resident_bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// The bytes of them that codes take: none where there was no room, or they were given up.
    pub fn code_bytes(&self) -> u64 {
        self.lock().code_bytes()
    }

    /// Gives up a part that will not be searched any more; false if it was not there.
    pub fn forget(&self, key: u64) -> bool {
        self.lock().forget(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Residents> {
        self.residents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`max_inner_product`] over the planes that `layers` names, with the same answer.
    ///
    /// `planes` are all layers of a part, `[m]`, each `[n, dimension]`; `key` names the part: the same key
    /// must always come with the same stored values, which are brought to the device once. `layers` are
    /// indices of planes, in any order.
    ///
    /// Where the device cannot search the part ([`Refusal`]) the CPU does, and the answer says so.
    ///
    /// # Errors
    /// What [`max_inner_product`] refuses; [`Error::NoPlanes`] and [`Error::Layer`] for `layers`;
    /// [`Error::Device`] when the device fails, also for lack of memory: nothing has been lost, and the
    /// same search can be made on the CPU.
    pub fn search(
        &self,
        key: u64,
        queries: &[f32],
        dimension: usize,
        planes: &[Plane],
        layers: &[u32],
        options: &Options,
    ) -> Result<Found, Error> {
        let rows = check_planes(planes, dimension)?;
        let count = check_queries(queries, dimension)?;
        let floors = check_options(options, count, rows)?;
        let chosen = choose(planes, layers)?;
        let limit = MOST_CANDIDATES / 8 / layers.len();
        let mut found = Found {
            answers: Vec::new(),
            brought: 0,
            scored: 0,
            on_cpu: 0,
            refusal: None,
        };
        if count == 0 {
            return Ok(found);
        }
        found.answers = vec![Vec::new(); count];
        let part = Part {
            key,
            dimension,
            planes,
            layers,
            chosen: &chosen,
            k: options.k.min(rows.max(1)),
            options,
        };
        let for_cpu = if part.k > limit {
            found.refusal = Some(Refusal::ManyResults { limit });
            (0..count).collect()
        } else {
            self.on_device(&part, queries, &floors, &mut found)?
        };
        found.on_cpu = for_cpu.len();
        if !for_cpu.is_empty() {
            let (asked, floors) = gathered(queries, dimension, &floors, &for_cpu);
            let options = without_codes(options).floors(&floors);
            let answers = max_inner_product(&asked, dimension, &chosen, &options)?;
            for (query, answer) in for_cpu.into_iter().zip(answers) {
                found.answers[query] = answer;
            }
        }
        Ok(found)
    }

    /// Answers what the device can answer, and returns the queries, in order, that are left for the CPU.
    fn on_device(
        &self,
        part: &Part,
        queries: &[f32],
        floors: &[f64],
        found: &mut Found,
    ) -> Result<Vec<usize>, Error> {
        // The queries without an answer: those that codes lost go through rows, those that rows lost to the CPU.
        let mut open: Vec<usize> = (0..floors.len()).collect();
        let mut for_cpu = Vec::new();
        let (mut through_codes, mut lost_by_codes) = (0, Vec::new());
        for coded in [self.ability.codes, false] {
            if open.is_empty() {
                break;
            }
            let (asked, floors) = gathered(queries, part.dimension, floors, &open);
            let (batches, brought) = match self.candidates_of(part, &asked, &floors, coded)? {
                Ok(candidates) => candidates,
                Err(refusal) => {
                    found.refusal = Some(refusal);
                    break;
                }
            };
            found.brought += brought;
            found.scored += batches.iter().map(Candidates::total).sum::<u64>();
            let answers = answers(
                &asked,
                part.dimension,
                part.chosen,
                &batches,
                &floors,
                part.options,
            );
            let ways = batches
                .iter()
                .flat_map(|batch| batch.lost().map(|lost| (lost, batch.coded)));
            for ((query, answer), (lost, coded)) in
                std::mem::take(&mut open).into_iter().zip(answers).zip(ways)
            {
                through_codes += usize::from(coded);
                match (lost, coded) {
                    (false, _) => found.answers[query] = answer,
                    (true, true) => lost_by_codes.push(query),
                    (true, false) => for_cpu.push(query),
                }
            }
            if coded {
                open.clone_from(&lost_by_codes);
            }
        }
        for_cpu.extend(open);
        for_cpu.sort_unstable();
        if through_codes > 0 {
            // Where rows lost a query too, as one to which all documents are equal, codes are not to blame.
            lost_by_codes.retain(|query| for_cpu.binary_search(query).is_err());
            let failed = lost_by_codes.len();
            self.lock().note(&self.client, part.key, through_codes, failed);
        }
        Ok(for_cpu)
    }

    fn candidates_of(
        &self,
        part: &Part,
        queries: &[f32],
        floors: &[f64],
        coded: bool,
    ) -> Result<Result<(Vec<Candidates>, u64), Refusal>, Error> {
        let Part {
            key,
            dimension,
            planes,
            layers,
            k,
            options,
            ..
        } = *part;
        let failed = |error: cubecl::server::ServerError| Error::Device {
            device: self.client.name().to_owned(),
            reason: error.to_string(),
        };
        let mut residents = self.lock();
        let (part, brought) = match residents.part(&self.client, key, planes, self.ability.codes) {
            Ok(part) => part,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let live = options.live.map(|live| {
            self.client
                .create(Bytes::from_bytes_vec(bytemuck::cast_slice(live).to_vec()))
        });
        let batch = (BATCH_BYTES / (part.width * 4)).clamp(1, BATCH);
        let mut candidates = Vec::new();
        let mut failure = None;
        for (queries, floors) in queries.chunks(batch * dimension).zip(floors.chunks(batch)) {
            let ask = Ask {
                queries,
                dimension,
                k,
                floors,
                layers,
                live: live.as_ref(),
                coded,
                refined: true,
            };
            match gather::candidates(&self.client, &self.ability, part, &ask) {
                Ok(batch) => candidates.push(batch),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        match failure {
            None => Ok(Ok((candidates, brought))),
            Some(error) => {
                // It may be the part that failed to arrive.
                residents.forget(key);
                Err(failed(error))
            }
        }
    }
}

impl std::fmt::Debug for Searcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Searcher")
            .field("device", &self.client.name())
            .field("ability", &self.ability)
            .finish_non_exhaustive()
    }
}

/// A part, and what of it is searched.
struct Part<'a> {
    key: u64,
    dimension: usize,
    planes: &'a [Plane<'a>],
    layers: &'a [u32],
    /// The planes that `layers` names.
    chosen: &'a [Plane<'a>],
    k: usize,
    options: &'a Options<'a>,
}

/// Some of the queries, and their floors.
fn gathered<'a>(
    queries: &'a [f32],
    dimension: usize,
    floors: &'a [f64],
    some: &[usize],
) -> (Cow<'a, [f32]>, Cow<'a, [f64]>) {
    if some.len() == floors.len() {
        return (Cow::Borrowed(queries), Cow::Borrowed(floors));
    }
    let of_query = |&query: &usize| &queries[query * dimension..(query + 1) * dimension];
    (
        some.iter().flat_map(of_query).copied().collect(),
        some.iter().map(|&query| floors[query]).collect(),
    )
}

/// The planes that are searched.
fn choose<'a>(planes: &[Plane<'a>], layers: &[u32]) -> Result<Vec<Plane<'a>>, Error> {
    if layers.is_empty() {
        return Err(Error::NoPlanes);
    }
    layers
        .iter()
        .map(|&layer| {
            planes.get(layer as usize).copied().ok_or(Error::Layer {
                layer,
                layers: planes.len(),
            })
        })
        .collect()
}

/// Codes may be of other planes than those that are left.
fn without_codes<'a>(options: &Options<'a>) -> Options<'a> {
    Options {
        codes: None,
        ..*options
    }
}
