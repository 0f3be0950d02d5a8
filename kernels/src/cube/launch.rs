//! One batch of queries over one part on a device: rounds of scoring and selecting.

use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::{Handle, MemoryLayoutDescriptor, MemoryLayoutStrategy};
use half::{bf16, f16};

use super::bound;
use super::form::{Format, queries};
use super::kernel::{Ability, Kernel, step};
use super::resident::{Block, Resident};
use super::rows::score_rows;
use super::select::keep_best;
use super::shape::LANES;
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
}

/// The room for candidates of a query: enough that a round may bring several times the rank that is kept.
fn capacity(rank: usize, ability: &Ability) -> usize {
    (rank * 8).next_power_of_two().max(ability.candidates)
}

/// Buffers of one batch on the device.
pub(super) struct Buffers {
    pub queries: Handle,
    pub query_values: usize,
    /// The queries as they were asked, `[q][width]`, for scores of f64.
    pub asked: Option<Handle>,
    pub layers: Handle,
    pub live: Handle,
    pub thresholds: Handle,
    pub margins: Handle,
    pub counts: Handle,
    pub lost: Handle,
    pub scores: Handle,
    pub numbers: Handle,
    pub padded: usize,
    pub capacity: usize,
}

/// A batch that was searched and is still on the device.
pub(super) struct Batch {
    pub buffers: Buffers,
    /// Entries that a query may be expected to have at most.
    pub expected: usize,
    /// For each query the bound on its scores' error, and the power of two that they are scaled by.
    pub errors: Vec<(f64, f64)>,
}

/// Scores a part's documents and keeps, for each query, those that may belong to its answer: the proof is in [`bound`].
pub(super) fn run(client: &Client, ability: &Ability, part: &Resident, ask: &Ask) -> Batch {
    let count = ask.queries.len() / ask.dimension;
    let kernel = Kernel::choose(count, part.width, ask.live.is_some(), ability);
    let padded = kernel.padded(count);
    let entries = kernel.entries(ask.layers.len());
    let rank = ask.k * entries;
    // A round is a tile at least, and the first keeps all of it.
    let of_tile = (kernel.documents() * entries).next_power_of_two();
    let capacity = capacity(rank, ability).max(of_tile);
    let format = matches!(kernel, Kernel::Tiles(_)).then_some(part.format);
    let form = queries(ask.queries, ask.dimension, format, padded, part.width);

    let (mut thresholds, mut margins) = (vec![f32::INFINITY; padded], vec![0.0f32; padded]);
    let mut errors = Vec::with_capacity(count);
    for (at, known) in form.known.iter().enumerate() {
        let error = bound::error(known, &part.known, kernel.sums(), ask.dimension, part.width);
        let scale = bound::power(form.exponents[at]) * bound::power(part.exponent);
        thresholds[at] = bound::threshold(ask.floors[at], scale, error);
        margins[at] = bound::margin(error, known, &part.known);
        errors.push((error, scale));
    }
    let zeros = vec![0u8; padded * 4];
    // One way to the device for all of them.
    let mut made = upload(
        client,
        vec![
            form.bytes,
            bytemuck::cast_slice(ask.layers).to_vec(),
            bytemuck::cast_slice(&thresholds).to_vec(),
            bytemuck::cast_slice(&margins).to_vec(),
            zeros.clone(),
            zeros,
            as_asked(part, ask),
        ],
    )
    .into_iter();
    let mut next = || made.next().unwrap_or_else(|| client.empty(4));
    let (queries, layers) = (next(), next());
    let buffers = Buffers {
        queries,
        query_values: padded * part.width,
        live: match ask.live {
            Some(live) => live.clone(),
            None => layers.clone(),
        },
        layers,
        thresholds: next(),
        margins: next(),
        counts: next(),
        lost: next(),
        asked: part.is_exact().then(next),
        scores: client.empty(padded * capacity * 4),
        numbers: client.empty(padded * capacity * 4),
        padded,
        capacity,
    };

    // The first round keeps everything, so it is no longer than there is room, and for few queries, where selecting
    // among many takes longer than scoring them, no longer than need be. The candidate of this rank among
    // what was seen lets about as many of as many documents again pass, so later rounds grow by what is left of
    // the room.
    let growth = (capacity / (4 * rank)).max(1);
    let few = count < ASK_FIRST;
    let first = if few {
        (8 * rank).max(1024).min(capacity)
    } else {
        capacity
    };
    let (mut seen, mut expected) = (0, 0);
    for (at, block) in part.blocks.iter().enumerate() {
        let tiles = block.documents.div_ceil(kernel.documents());
        let mut from = 0;
        while from < tiles {
            let documents = if seen == 0 { first / entries } else { seen * growth };
            let take = (documents / kernel.documents()).clamp(1, tiles - from);
            score(
                client, ability, kernel, part, block, &buffers, from, take, tiles, ask,
            );
            from += take;
            let taken = take * kernel.documents();
            // After the last round nothing is gained by it but less to bring to the host.
            let is_last = from == tiles && at + 1 == part.blocks.len();
            if !(is_last && few) {
                select(client, ability, &buffers, rank);
                expected = 2 * rank;
            } else {
                expected = 2 * rank + rank * taken / seen.max(1);
            }
            seen += taken;
        }
    }
    Batch {
        buffers,
        expected,
        errors,
    }
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

#[allow(clippy::too_many_arguments)]
fn score(
    client: &Client,
    ability: &Ability,
    kernel: Kernel,
    part: &Resident,
    block: &Block,
    buffers: &Buffers,
    from: usize,
    take: usize,
    tiles: usize,
    ask: &Ask,
) {
    match part.format {
        Format::F16 => score_as::<f16>(
            client, ability, kernel, part, block, buffers, from, take, tiles, ask,
        ),
        Format::Bf16 => score_as::<bf16>(
            client, ability, kernel, part, block, buffers, from, take, tiles, ask,
        ),
    }
}

#[allow(clippy::too_many_arguments)]
fn score_as<E: Float + CubeElement>(
    client: &Client,
    ability: &Ability,
    kernel: Kernel,
    part: &Resident,
    block: &Block,
    buffers: &Buffers,
    from: usize,
    take: usize,
    tiles: usize,
    ask: &Ask,
) {
    let run = run_of(take, ability);
    let region = RegionLaunch::new(
        block.first as u32,
        block.documents as u32,
        block.rows as u32,
        (part.width / LANES) as u32,
        ask.layers.len() as u32,
        from as u32,
        take as u32,
        step(tiles) as u32,
        tiles as u32,
        run as u32,
        buffers.capacity as u32,
    );
    let values = part.layers * block.rows * part.width;
    let live_words = match ask.live {
        Some(live) => live.size() as usize / 4,
        None => 1,
    };
    // SAFETY: every buffer is as long as it is said to be, for this is where they were made. The kernels
    // stay inside: tiles are below `tiles`, so rows below the block's padded rows (a multiple of every
    // kernel's documents); queries below `padded`; layers are those of the part, checked by the caller;
    // slots are compared with `capacity`, numbers of documents with the block's before the mask is read.
    unsafe {
        let planes = BufferArg::from_raw_parts(block.handle.clone(), values);
        let queries = BufferArg::from_raw_parts(buffers.queries.clone(), buffers.query_values);
        let layers = BufferArg::from_raw_parts(buffers.layers.clone(), ask.layers.len());
        let live = BufferArg::from_raw_parts(buffers.live.clone(), live_words);
        let thresholds = BufferArg::from_raw_parts(buffers.thresholds.clone(), buffers.padded);
        let counts = BufferArg::from_raw_parts(buffers.counts.clone(), buffers.padded);
        let scores = BufferArg::from_raw_parts(buffers.scores.clone(), buffers.padded * buffers.capacity);
        let numbers = BufferArg::from_raw_parts(buffers.numbers.clone(), buffers.padded * buffers.capacity);
        match kernel {
            Kernel::Tiles(shape) => score_tiles::launch_unchecked::<E>(
                client,
                CubeCount::Static(
                    (buffers.padded / shape.queries()) as u32,
                    take.div_ceil(run) as u32,
                    1,
                ),
                CubeDim::new_1d(shape.units() as u32),
                planes,
                queries,
                layers,
                live,
                thresholds,
                counts,
                scores,
                numbers,
                region,
                shape,
            ),
            Kernel::Rows(shape) => score_rows::launch_unchecked::<E>(
                client,
                CubeCount::Static(take as u32, 1, 1),
                CubeDim::new_1d((shape.planes * shape.plane) as u32),
                planes,
                queries,
                layers,
                live,
                thresholds,
                counts,
                scores,
                numbers,
                region,
                shape,
            ),
        }
    }
}

fn select(client: &Client, ability: &Ability, buffers: &Buffers, rank: usize) {
    // SAFETY: as for the scores; a cube stays within its own query's candidates, which are `capacity`.
    unsafe {
        keep_best::launch_unchecked(
            client,
            CubeCount::Static(buffers.padded as u32, 1, 1),
            CubeDim::new_1d(ability.units as u32),
            BufferArg::from_raw_parts(buffers.counts.clone(), buffers.padded),
            BufferArg::from_raw_parts(buffers.scores.clone(), buffers.padded * buffers.capacity),
            BufferArg::from_raw_parts(buffers.numbers.clone(), buffers.padded * buffers.capacity),
            BufferArg::from_raw_parts(buffers.thresholds.clone(), buffers.padded),
            BufferArg::from_raw_parts(buffers.margins.clone(), buffers.padded),
            BufferArg::from_raw_parts(buffers.lost.clone(), buffers.padded),
            rank as u32,
            buffers.capacity as u32,
            ability.units as u32,
        );
    }
}
