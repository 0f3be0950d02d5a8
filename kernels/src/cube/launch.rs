//! One batch of queries over one part on a device: rounds of scoring and selecting.

use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::{Handle, MemoryLayoutDescriptor, MemoryLayoutStrategy};
use half::{bf16, f16};

use super::bound::{Bound, Sums};
use super::form::{Format, queries};
use super::kernel::{Ability, Kernel, step};
use super::refine::refine;
use super::resident::{Block, Resident};
use super::rows::score_rows;
use super::select::keep_best;
use super::shape::{CODE_LANES, LANES, RowShape, Shape};
use super::tiles::{RegionLaunch, score_tiles};

/// The most candidates that are kept of a query.
pub(crate) const MOST_CANDIDATES: usize = 1 << 16;

/// Queries from which on it costs less to ask first how many candidates there are than to bring as many as there may be.
pub(super) const ASK_FIRST: usize = 64;

/// What is asked of one batch.
pub(crate) struct Ask<'a> {
    pub queries: &'a [f32],
    pub dimension: usize,
    pub k: usize,
    /// `[q]`
    pub floors: &'a [f64],
    pub layers: &'a [u32],
    pub live: Option<&'a Handle>,
    /// Through the part's codes, if it has any that can serve; otherwise through its rows.
    pub coded: bool,
    /// Score what codes leave from the rows, as every search does; without, what is left are the codes' own scores, for
    /// measuring their bound.
    pub refined: bool,
}

impl Ask<'_> {
    /// Whether the search goes through the part's codes.
    pub fn is_coded(&self, part: &Resident) -> bool {
        let layers = self.layers.len();
        let serve = |codes: &super::codes::Codes| codes.can_serve(self.k * layers, part.documents(), layers);
        self.coded && part.codes.as_ref().is_some_and(serve)
    }
}

/// How many candidates codes leave for one that rows would.
const COARSENESS: usize = 4;
/// Documents of a round for each that was seen, at most. With more, a query may get more candidates than there is room for
/// where scores lie closer together than codes tell.
const MOST_GROWTH: usize = 8;

/// The room for candidates of a query: enough that a round may bring several times the rank that is kept.
fn capacity(rank: usize, coded: bool, ability: &Ability) -> usize {
    let coarseness = if coded { COARSENESS } else { 1 };
    (rank * 8).next_power_of_two().max(ability.candidates) * coarseness
}

/// Buffers of one batch on the device.
pub(super) struct Buffers {
    pub queries: Handle,
    /// The queries as they were asked, `[q][width]`, for scores of f64.
    pub asked: Option<Handle>,
    pub layers: Handle,
    pub live: Handle,
    pub offsets: Handle,
    pub counts: Handle,
    pub lost: Handle,
    pub scores: Handle,
    pub numbers: Handle,
    pub padded: usize,
    pub capacity: usize,
}

/// What scores are compared with, `[q]` each.
struct Thresholds {
    thresholds: Handle,
    margins: Handle,
}

/// A batch that was searched and is still on the device.
pub(super) struct Batch {
    pub buffers: Buffers,
    /// Entries that a query may be expected to have at most.
    pub expected: usize,
    /// What each query's scores are worth.
    pub bounds: Vec<Bound>,
}

/// Scores a part's documents and keeps, for each query, those that may belong to its answer: the proof is in
/// [`bound`](super::bound).
pub(super) fn run(client: &Client, ability: &Ability, part: &Resident, ask: &Ask) -> Batch {
    let count = ask.queries.len() / ask.dimension;
    let codes = part.codes.as_ref().filter(|_| ask.is_coded(part));
    let width = match codes {
        Some(codes) => codes.width / CODE_LANES,
        None => part.width / LANES,
    };
    let kernel = Kernel::choose(count, width, ask.live.is_some(), codes.is_some(), ability);
    let padded = kernel.padded(count);
    let entries = kernel.entries(ask.layers.len());
    let rank = ask.k * entries;
    // A round is a tile at least, and the first keeps all of it.
    let of_tile = (kernel.documents() * entries).next_power_of_two();
    let capacity = capacity(rank, codes.is_some(), ability).max(of_tile);
    let form = match codes {
        Some(codes) => codes.queries(ask.queries, part.exponent, ask.layers, padded),
        None => {
            let format = matches!(kernel, Kernel::Tiles(_)).then_some(part.format);
            queries(ask.queries, part, format, padded, kernel.sums())
        }
    };
    // What codes leave is scored again in f32.
    let again = codes
        .filter(|_| ask.refined)
        .map(|_| queries(ask.queries, part, None, padded, Sums::Plain));

    let [thresholds, margins] = limits(&form.bounds, ask.floors, padded);
    let zeros = vec![0u8; padded * 4];
    let mut arrays = vec![
        form.bytes,
        bytemuck::cast_slice(ask.layers).to_vec(),
        thresholds,
        margins,
        zeros.clone(),
        zeros,
        as_asked(part, ask),
    ];
    if codes.is_some() {
        arrays.push(bytemuck::cast_slice(&form.offsets).to_vec());
    }
    let mut bounds = form.bounds;
    let refined = again.is_some();
    if let Some(again) = again {
        arrays.extend(limits(&again.bounds, ask.floors, padded));
        arrays.push(again.bytes);
        bounds = again.bounds;
    }
    // One way to the device for all of them.
    let mut made = upload(client, arrays).into_iter();
    let mut next = || made.next().unwrap_or_else(|| client.empty(4));
    let (queries, layers) = (next(), next());
    let mut thresholds = Thresholds {
        thresholds: next(),
        margins: next(),
    };
    let buffers = Buffers {
        queries,
        live: ask.live.cloned().unwrap_or_else(|| layers.clone()),
        counts: next(),
        lost: next(),
        asked: Some(next()).filter(|_| part.is_exact()),
        offsets: if codes.is_some() { next() } else { layers.clone() },
        layers,
        scores: client.empty(padded * capacity * 4),
        numbers: client.empty(padded * capacity * 4),
        padded,
        capacity,
    };

    // The first round keeps everything, so it is no longer than there is room, and for few queries, where selecting
    // among many takes longer than scoring them, no longer than need be. The candidate of this rank among
    // what was seen lets about as many of as many documents again pass, or several times as many through codes, so later
    // rounds grow by what is left of the room.
    let growth = match codes {
        Some(_) => (capacity / (6 * COARSENESS * rank)).clamp(1, MOST_GROWTH),
        None => (capacity / (4 * rank)).max(1),
    };
    let few = count < ASK_FIRST;
    let first = if few {
        (8 * rank).max(1024).min(capacity)
    } else {
        capacity
    };
    let launch = Launch {
        client,
        ability,
        part,
        buffers: &buffers,
        ask,
    };
    let (mut seen, mut expected) = (0, 0);
    for (at, block) in part.blocks.iter().enumerate() {
        let tiles = block.documents.div_ceil(kernel.documents());
        let mut from = 0;
        while from < tiles {
            let documents = if seen == 0 { first / entries } else { seen * growth };
            let take = (documents / kernel.documents()).clamp(1, tiles - from);
            let round = Round {
                block: at,
                from,
                take,
                tiles,
            };
            launch.score(kernel, &round, &thresholds.thresholds);
            from += take;
            let taken = take * kernel.documents();
            // After the last round nothing is gained by it but less to bring to the host.
            let is_last = from == tiles && at + 1 == part.blocks.len();
            if !(is_last && few) {
                launch.select(&thresholds, rank);
                expected = 2 * rank;
            } else {
                expected = 2 * rank + rank * taken / seen.max(1);
            }
            seen += taken;
        }
    }
    if refined {
        thresholds = Thresholds {
            thresholds: next(),
            margins: next(),
        };
        launch.refine(&next());
        launch.select(&thresholds, rank);
        expected = 2 * rank;
    }
    Batch {
        buffers,
        expected,
        bounds,
    }
}

/// Thresholds for floors and margins, as bytes; of queries that only fill a block nothing reaches its threshold.
fn limits(bounds: &[Bound], floors: &[f64], padded: usize) -> [Vec<u8>; 2] {
    let (mut thresholds, mut margins) = (vec![f32::INFINITY; padded], vec![0.0f32; padded]);
    for (at, (bound, floor)) in bounds.iter().zip(floors).enumerate() {
        thresholds[at] = bound.threshold(*floor);
        margins[at] = bound.margin();
    }
    [thresholds, margins].map(|numbers| bytemuck::cast_slice(&numbers).to_vec())
}

/// The queries, each filled up to the part's width, where the part is held as it is stored.
fn as_asked(part: &Resident, ask: &Ask) -> Vec<u8> {
    if !part.is_exact() {
        return vec![0; 4];
    }
    let mut bytes = vec![0u8; ask.queries.len() / ask.dimension * part.width * 4];
    let rows = bytes.chunks_exact_mut(part.width * 4);
    for (query, out) in ask.queries.chunks_exact(ask.dimension).zip(rows) {
        out[..ask.dimension * 4].copy_from_slice(bytemuck::cast_slice(query));
    }
    bytes
}

/// Brings several arrays to the device at once.
fn upload(client: &Client, arrays: Vec<Vec<u8>>) -> Vec<Handle> {
    let described = arrays.into_iter().map(|array| {
        let shape = [array.len()].into();
        (
            MemoryLayoutDescriptor::new(MemoryLayoutStrategy::Contiguous, shape, 1),
            Bytes::from_bytes_vec(array),
        )
    });
    client
        .create_tensors(described.collect())
        .into_iter()
        .map(|layout| layout.memory)
        .collect()
}

/// Tiles that a cube of the tile kernel takes: several where there are many, as few as keep all of the device busy to
/// the end where there are not.
fn run_of(take: usize, ability: &Ability) -> usize {
    (take / (ability.cubes * 4)).clamp(1, 8)
}

/// Tiles of a block, `take` from the `from`-th of `tiles` on.
struct Round {
    block: usize,
    from: usize,
    take: usize,
    tiles: usize,
}

/// What all launches of a batch share.
struct Launch<'a> {
    client: &'a Client,
    ability: &'a Ability,
    part: &'a Resident,
    buffers: &'a Buffers,
    ask: &'a Ask<'a>,
}

// SAFETY of the launches below: every buffer is as long as it is said to be, for `run` made them and the part's. The kernels
// stay inside: tiles are below `tiles`, so rows below the block's padded rows (a multiple of every
// kernel's documents); queries below `padded`; layers are those of the part, checked by the caller;
// slots are compared with `capacity`, numbers of documents with the block's before the mask or a row is read.
impl Launch<'_> {
    fn score(&self, kernel: Kernel, round: &Round, thresholds: &Handle) {
        match (kernel, self.part.format) {
            (Kernel::Tiles(shape), _) if shape.coded => self.tiles::<i8, i32>(shape, round, thresholds),
            (Kernel::Tiles(shape), Format::F16) => self.tiles::<f16, f32>(shape, round, thresholds),
            (Kernel::Tiles(shape), Format::Bf16) => self.tiles::<bf16, f32>(shape, round, thresholds),
            (Kernel::Rows(shape), Format::F16) => self.rows::<f16>(shape, round, thresholds),
            (Kernel::Rows(shape), Format::Bf16) => self.rows::<bf16>(shape, round, thresholds),
        }
    }

    fn tiles<E: Numeric + CubeElement, A: Numeric + CubeElement>(
        &self,
        shape: Shape,
        round: &Round,
        thresholds: &Handle,
    ) {
        let (part, buffers, block) = (self.part, self.buffers, self.block(round));
        let (planes, width) = match &part.codes {
            Some(codes) if shape.coded => (&codes.handles[round.block], codes.width),
            _ => (&block.handle, part.width),
        };
        let run = run_of(round.take, self.ability);
        let layer_step = if shape.coded { part.documents() } else { 0 };
        // SAFETY: above.
        unsafe {
            score_tiles::launch_unchecked::<E, A>(
                self.client,
                CubeCount::Static(
                    (buffers.padded / shape.queries()) as u32,
                    round.take.div_ceil(run) as u32,
                    1,
                ),
                CubeDim::new_1d(shape.units() as u32),
                shape.lanes(),
                BufferArg::from_raw_parts(planes.clone(), part.layers * block.rows * width),
                BufferArg::from_raw_parts(buffers.queries.clone(), buffers.padded * width),
                self.layers(),
                self.live(),
                BufferArg::from_raw_parts(
                    buffers.offsets.clone(),
                    if shape.coded {
                        buffers.padded * self.ask.layers.len()
                    } else {
                        1
                    },
                ),
                self.of_queries(thresholds),
                self.of_queries(&buffers.counts),
                self.candidates(&buffers.scores),
                self.candidates(&buffers.numbers),
                self.region(round, width / shape.lanes(), run, layer_step),
                shape,
            );
        }
    }

    fn rows<E: Float + CubeElement>(&self, shape: RowShape, round: &Round, thresholds: &Handle) {
        let (part, buffers, block) = (self.part, self.buffers, self.block(round));
        // SAFETY: above.
        unsafe {
            score_rows::launch_unchecked::<E>(
                self.client,
                CubeCount::Static(round.take as u32, 1, 1),
                CubeDim::new_1d((shape.planes * shape.plane) as u32),
                BufferArg::from_raw_parts(block.handle.clone(), part.layers * block.rows * part.width),
                BufferArg::from_raw_parts(buffers.queries.clone(), buffers.padded * part.width),
                self.layers(),
                self.live(),
                self.of_queries(thresholds),
                self.of_queries(&buffers.counts),
                self.candidates(&buffers.scores),
                self.candidates(&buffers.numbers),
                self.region(round, part.width / LANES, 1, 0),
                shape,
            );
        }
    }

    fn select(&self, limits: &Thresholds, rank: usize) {
        let (buffers, units) = (self.buffers, self.ability.units);
        // SAFETY: above; a cube stays within its own query's candidates, which are `capacity`.
        unsafe {
            keep_best::launch_unchecked(
                self.client,
                CubeCount::Static(buffers.padded as u32, 1, 1),
                CubeDim::new_1d(units as u32),
                self.of_queries(&buffers.counts),
                self.candidates(&buffers.scores),
                self.candidates(&buffers.numbers),
                self.of_queries(&limits.thresholds),
                self.of_queries(&limits.margins),
                self.of_queries(&buffers.lost),
                rank as u32,
                buffers.capacity as u32,
                units as u32,
            );
        }
    }

    /// Scores the candidates that codes left from the rows, for `queries` of f32.
    fn refine(&self, queries: &Handle) {
        for block in &self.part.blocks {
            match self.part.format {
                Format::F16 => self.refine_block::<f16>(block, queries),
                Format::Bf16 => self.refine_block::<bf16>(block, queries),
            }
        }
    }

    fn refine_block<E: Float + CubeElement>(&self, block: &Block, queries: &Handle) {
        let (part, buffers, plane) = (self.part, self.buffers, self.ability.plane);
        let planes = if plane == 1 { 2 } else { 256 / plane };
        // Several cubes for each of few queries, so that all of the device has work.
        let strips = (self.ability.cubes * 8).div_ceil(buffers.padded).clamp(1, 64);
        // SAFETY: above.
        unsafe {
            refine::launch_unchecked::<E>(
                self.client,
                CubeCount::Static(buffers.padded as u32, strips as u32, 1),
                CubeDim::new_1d((planes * plane) as u32),
                BufferArg::from_raw_parts(block.handle.clone(), part.layers * block.rows * part.width),
                BufferArg::from_raw_parts(queries.clone(), buffers.padded * part.width),
                self.layers(),
                self.of_queries(&buffers.counts),
                self.candidates(&buffers.scores),
                self.candidates(&buffers.numbers),
                block.first as u32,
                block.documents as u32,
                block.rows as u32,
                (part.width / LANES) as u32,
                part.documents() as u32,
                buffers.capacity as u32,
                strips as u32,
                plane as u32,
                planes as u32,
            );
        }
    }

    fn block(&self, round: &Round) -> &Block {
        &self.part.blocks[round.block]
    }

    fn region(&self, round: &Round, width: usize, run: usize, layer_step: usize) -> RegionLaunch {
        let block = self.block(round);
        RegionLaunch::new(
            block.first as u32,
            block.documents as u32,
            block.rows as u32,
            width as u32,
            self.ask.layers.len() as u32,
            round.from as u32,
            round.take as u32,
            step(round.tiles) as u32,
            round.tiles as u32,
            run as u32,
            self.buffers.capacity as u32,
            layer_step as u32,
        )
    }

    fn layers(&self) -> BufferArg {
        // SAFETY: as long as what it was made of.
        unsafe { BufferArg::from_raw_parts(self.buffers.layers.clone(), self.ask.layers.len()) }
    }

    fn live(&self) -> BufferArg {
        let words = self.ask.live.map_or(1, |live| live.size() as usize / 4);
        // SAFETY: its own size, or that of one layer's number.
        unsafe { BufferArg::from_raw_parts(self.buffers.live.clone(), words) }
    }

    /// A buffer `[q]`.
    fn of_queries(&self, handle: &Handle) -> BufferArg {
        // SAFETY: `run` makes them so long.
        unsafe { BufferArg::from_raw_parts(handle.clone(), self.buffers.padded) }
    }

    /// A buffer `[q][capacity]`.
    fn candidates(&self, handle: &Handle) -> BufferArg {
        // SAFETY: `run` makes them so long.
        unsafe { BufferArg::from_raw_parts(handle.clone(), self.buffers.padded * self.buffers.capacity) }
    }
}
