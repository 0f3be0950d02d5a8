//! One batch of queries over one part on a device: rounds of scoring and selecting.

use std::collections::BTreeMap;

use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::{Handle, MemoryLayoutDescriptor, MemoryLayoutStrategy, ServerError};
use half::{bf16, f16};

use super::bound;
use super::exact::{candidates_at_once, score_exactly};
use super::form::{Format, queries};
use super::kernel::{Ability, Kernel, step};
use super::resident::{Block, Resident};
use super::rows::score_rows;
use super::select::{keep_best, pack_numbers};
use super::shape::LANES;
use super::tiles::{RegionLaunch, score_tiles};

/// The most candidates that are kept of a query.
pub(crate) const MOST_CANDIDATES: usize = 1 << 16;

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

/// The rows that may belong to a query's answer. One may come several times.
pub(crate) struct Rows {
    pub numbers: Vec<u32>,
    /// Their f64 scores, where the device holds the stored values.
    pub scores: Option<Vec<f64>>,
}

/// Those of each query; `None` where there were too many to keep.
pub(crate) type Candidates = Vec<Option<Rows>>;

/// A query's candidates with the device's own scores, unscaled, and the bound on their error.
pub(crate) type Scored = (Vec<(u32, f64)>, f64);

/// The room for candidates of a query: enough that a round may bring several times the rank that is kept.
fn capacity(rank: usize, ability: &Ability) -> usize {
    (rank * 8).next_power_of_two().max(ability.candidates)
}

/// Buffers of one batch on the device.
struct Buffers {
    queries: Handle,
    query_values: usize,
    /// The queries as they were asked, `[q][width]`, for scores of f64.
    asked: Option<Handle>,
    layers: Handle,
    live: Handle,
    thresholds: Handle,
    margins: Handle,
    counts: Handle,
    lost: Handle,
    scores: Handle,
    numbers: Handle,
    padded: usize,
    capacity: usize,
}

/// A batch that was searched and is still on the device.
struct Batch {
    buffers: Buffers,
    /// Entries that a query may be expected to have at most.
    expected: usize,
    /// For each query the bound on its scores' error, and the power of two that they are scaled by.
    errors: Vec<(f64, f64)>,
}

/// Finds every row that may belong to the answers: the proof is in [`bound`].
pub(crate) fn candidates(
    client: &Client,
    ability: &Ability,
    part: &Resident,
    ask: &Ask,
) -> Result<Candidates, ServerError> {
    let batch = run(client, ability, part, ask);
    read(client, ability, part, &batch, ask)
}

/// The same with the scores, for measuring the bound.
pub(crate) fn scores(
    client: &Client,
    ability: &Ability,
    part: &Resident,
    ask: &Ask,
) -> Result<Vec<Scored>, ServerError> {
    let Batch { buffers, errors, .. } = run(client, ability, part, ask);
    let read = client.read(vec![
        buffers.counts.clone(),
        buffers.numbers.clone(),
        buffers.scores.clone(),
    ])?;
    let (counts, numbers, scores) = (words(&read[0]), words(&read[1]), words(&read[2]));
    Ok(errors
        .into_iter()
        .enumerate()
        .map(|(query, (error, scale))| {
            let first = query * buffers.capacity;
            // Of a document that is there for several layers its best is its score.
            let mut best = BTreeMap::new();
            for at in first..first + (counts[query] as usize).min(buffers.capacity) {
                let score = f64::from(f32::from_bits(scores[at])) / scale;
                let so_far = best.entry(numbers[at]).or_insert(score);
                *so_far = score.max(*so_far);
            }
            (best.into_iter().collect(), error / scale)
        })
        .collect())
}

fn run(client: &Client, ability: &Ability, part: &Resident, ask: &Ask) -> Batch {
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

/// Queries from which on it costs less to ask first how many candidates there are than to bring as many as there may be.
const ASK_FIRST: usize = 64;

fn read(
    client: &Client,
    ability: &Ability,
    part: &Resident,
    batch: &Batch,
    ask: &Ask,
) -> Result<Candidates, ServerError> {
    let (buffers, count) = (&batch.buffers, batch.errors.len());
    let mut most = match count < ASK_FIRST {
        true => batch.expected.clamp(1, buffers.capacity),
        false => 0,
    };
    let mut packed = client.read(pack(client, ability, part, buffers, count, most, ask))?;
    let mut all = words(&packed[0]);
    // After the last round nothing may have marked those that lost candidates.
    let is_kept =
        |all: &[u32], query: usize| all[count + query] == 0 && all[query] as usize <= buffers.capacity;
    let kept = (0..count).filter(|&query| is_kept(&all, query));
    let needed = kept.map(|query| all[query] as usize).max().unwrap_or(0);
    if needed > most {
        most = needed;
        packed = client.read(pack(client, ability, part, buffers, count, most, ask))?;
        all = words(&packed[0]);
    }
    let (counts, numbers) = (&all[..count], &all[2 * count..]);
    let scale = bound::power(-part.exponent);
    let scores: Option<Vec<f64>> = packed.get(1).map(|bytes| {
        let number = |b: &[u8]| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        bytes.chunks_exact(8).map(|bytes| number(bytes) * scale).collect()
    });
    Ok((0..count)
        .map(|query| {
            let own = query * most..query * most + counts[query] as usize;
            is_kept(&all, query).then(|| Rows {
                numbers: numbers[own.clone()].to_vec(),
                scores: scores.as_ref().map(|scores| scores[own].to_vec()),
            })
        })
        .collect())
}

/// What [`pack_numbers`] packs of each query with its first `most` candidates, and where the part is held as it is stored
/// their f64 scores `[q][most]`, scaled as the part is.
fn pack(
    client: &Client,
    ability: &Ability,
    part: &Resident,
    buffers: &Buffers,
    count: usize,
    most: usize,
    ask: &Ask,
) -> Vec<Handle> {
    let total = count * most;
    let words = 2 * count + total;
    let numbers = client.empty(words * 4);
    // SAFETY: `most` is at most `capacity`, and a unit is launched for each number and each query.
    unsafe {
        pack_numbers::launch_unchecked(
            client,
            CubeCount::Static(total.max(count).div_ceil(UNITS) as u32, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            BufferArg::from_raw_parts(buffers.counts.clone(), buffers.padded),
            BufferArg::from_raw_parts(buffers.lost.clone(), buffers.padded),
            BufferArg::from_raw_parts(buffers.numbers.clone(), buffers.padded * buffers.capacity),
            BufferArg::from_raw_parts(numbers.clone(), words),
            buffers.capacity as u32,
            most as u32,
            count as u32,
        );
    }
    let mut packed = vec![numbers];
    if let Some(asked) = buffers.asked.as_ref().filter(|_| total > 0) {
        let scores = client.empty(total * 8);
        for block in &part.blocks {
            let launch = match part.format {
                Format::F16 => exactly::<f16>,
                Format::Bf16 => exactly::<bf16>,
            };
            launch(
                client, ability, part, block, buffers, asked, &scores, most, total, ask,
            );
        }
        packed.push(scores);
    }
    packed
}

/// Units of a cube that gathers.
const UNITS: usize = 256;

#[allow(clippy::too_many_arguments)]
fn exactly<E: Float + CubeElement>(
    client: &Client,
    ability: &Ability,
    part: &Resident,
    block: &Block,
    buffers: &Buffers,
    asked: &Handle,
    scores: &Handle,
    most: usize,
    total: usize,
    ask: &Ask,
) {
    let units = if ability.plane == 1 { 2 } else { UNITS };
    // SAFETY: as for the scores; a unit reads a candidate's number only below its query's count and `capacity`, and
    // rows only of documents of the block.
    unsafe {
        score_exactly::launch_unchecked::<E>(
            client,
            CubeCount::Static(total.div_ceil(candidates_at_once(units)) as u32, 1, 1),
            CubeDim::new_1d(units as u32),
            BufferArg::from_raw_parts(block.handle.clone(), part.layers * block.rows * part.width),
            BufferArg::from_raw_parts(asked.clone(), total / most * part.width),
            BufferArg::from_raw_parts(buffers.layers.clone(), ask.layers.len()),
            BufferArg::from_raw_parts(buffers.counts.clone(), buffers.padded),
            BufferArg::from_raw_parts(buffers.numbers.clone(), buffers.padded * buffers.capacity),
            BufferArg::from_raw_parts(scores.clone(), total),
            block.first as u32,
            block.documents as u32,
            block.rows as u32,
            part.width as u32,
            ask.layers.len() as u32,
            buffers.capacity as u32,
            most as u32,
            total as u32,
            units,
        );
    }
}

/// Words that were read back, wherever in memory they lie.
fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect()
}
