//! One batch of queries over one part on a device: rounds of scoring and selecting.

use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::{Handle, ServerError};
use half::{bf16, f16};

use super::bound;
use super::form::{Format, queries};
use super::kernel::{Ability, Kernel, step};
use super::resident::{Block, Resident};
use super::rows::score_rows;
use super::select::{keep_best, pack};
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

/// The rows that may belong to each query's answer; `None` where there were too many to keep.
pub(crate) type Candidates = Vec<Option<Vec<u32>>>;

/// A query's candidates with the device's own scores, unscaled, and the bound on their error.
pub(crate) type Scored = (Vec<(u32, f64)>, f64);

/// The room for candidates of a query: enough that a round may bring several times `k`.
pub(crate) fn capacity(k: usize, ability: &Ability) -> usize {
    (k * 8).next_power_of_two().max(ability.candidates)
}

/// Buffers of one batch on the device.
struct Buffers {
    queries: Handle,
    query_values: usize,
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
    read(client, &batch.buffers, batch.errors.len())
}

/// The same with the scores, for measuring the bound.
pub(crate) fn scores(
    client: &Client,
    ability: &Ability,
    part: &Resident,
    ask: &Ask,
) -> Result<Vec<Scored>, ServerError> {
    let Batch { buffers, errors } = run(client, ability, part, ask);
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
            let found = (first..first + counts[query] as usize)
                .map(|at| (numbers[at], f64::from(f32::from_bits(scores[at])) / scale))
                .collect();
            (found, error / scale)
        })
        .collect())
}

fn run(client: &Client, ability: &Ability, part: &Resident, ask: &Ask) -> Batch {
    let count = ask.queries.len() / ask.dimension;
    let kernel = Kernel::choose(count, ask.live.is_some(), ability);
    let padded = kernel.padded(count);
    let capacity = capacity(ask.k, ability);
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
    let upload = |bytes: &[u8]| client.create(Bytes::from_bytes_vec(bytes.to_vec()));
    let zeros = vec![0u32; padded];
    let buffers = Buffers {
        queries: client.create(Bytes::from_bytes_vec(form.bytes)),
        query_values: padded * part.width,
        layers: upload(bytemuck::cast_slice(ask.layers)),
        live: match ask.live {
            Some(live) => live.clone(),
            None => upload(&[0; 4]),
        },
        thresholds: upload(bytemuck::cast_slice(&thresholds)),
        margins: upload(bytemuck::cast_slice(&margins)),
        counts: upload(bytemuck::cast_slice(&zeros)),
        lost: upload(bytemuck::cast_slice(&zeros)),
        scores: client.empty(padded * capacity * 4),
        numbers: client.empty(padded * capacity * 4),
        padded,
        capacity,
    };

    // The first round keeps everything, so it is no longer than there is room. The k-th best of what was
    // seen lets about k of as many documents again pass, so later rounds grow by what is left of the room.
    let growth = (capacity / (4 * ask.k)).max(1);
    let mut seen = 0;
    for block in &part.blocks {
        let tiles = block.documents.div_ceil(kernel.documents());
        let mut from = 0;
        while from < tiles {
            let documents = if seen == 0 { capacity } else { seen * growth };
            let take = (documents / kernel.documents()).clamp(1, tiles - from);
            score(client, kernel, part, block, &buffers, from, take, tiles, ask);
            select(client, ability, &buffers, ask.k);
            from += take;
            seen += take * kernel.documents();
        }
    }
    Batch { buffers, errors }
}

#[allow(clippy::too_many_arguments)]
fn score(
    client: &Client,
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
        Format::F16 => score_as::<f16>(client, kernel, part, block, buffers, from, take, tiles, ask),
        Format::Bf16 => score_as::<bf16>(client, kernel, part, block, buffers, from, take, tiles, ask),
    }
}

#[allow(clippy::too_many_arguments)]
fn score_as<E: Float + CubeElement>(
    client: &Client,
    kernel: Kernel,
    part: &Resident,
    block: &Block,
    buffers: &Buffers,
    from: usize,
    take: usize,
    tiles: usize,
    ask: &Ask,
) {
    let region = RegionLaunch::new(
        block.first as u32,
        block.documents as u32,
        block.rows as u32,
        (part.width / LANES) as u32,
        ask.layers.len() as u32,
        from as u32,
        step(tiles) as u32,
        tiles as u32,
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
                CubeCount::Static((buffers.padded / shape.queries()) as u32, take as u32, 1),
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

fn select(client: &Client, ability: &Ability, buffers: &Buffers, k: usize) {
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
            k as u32,
            buffers.capacity as u32,
            ability.units as u32,
            ability.plane as u32,
        );
    }
}

fn read(client: &Client, buffers: &Buffers, count: usize) -> Result<Candidates, ServerError> {
    let both = client.read(vec![buffers.counts.clone(), buffers.lost.clone()])?;
    let counts: Vec<u32> = words(&both[0]);
    let lost: Vec<u32> = words(&both[1]);
    let most = (0..count)
        .filter(|&query| lost[query] == 0)
        .map(|query| counts[query] as usize)
        .max()
        .unwrap_or(0)
        .min(buffers.capacity);
    if most == 0 {
        return Ok(lost[..count]
            .iter()
            .map(|&lost| (lost == 0).then(Vec::new))
            .collect());
    }
    let total = count * most;
    let packed = client.empty(total * 4);
    // SAFETY: `most` is at most `capacity`, and one unit a packed number is launched.
    unsafe {
        pack::launch_unchecked(
            client,
            CubeCount::Static(total.div_ceil(256) as u32, 1, 1),
            CubeDim::new_1d(256),
            BufferArg::from_raw_parts(buffers.numbers.clone(), buffers.padded * buffers.capacity),
            BufferArg::from_raw_parts(packed.clone(), total),
            buffers.capacity as u32,
            most as u32,
            total as u32,
        );
    }
    let numbers: Vec<u32> = words(&client.read_one(packed)?);
    Ok((0..count)
        .map(|query| {
            (lost[query] == 0)
                .then(|| numbers[query * most..query * most + (counts[query] as usize).min(most)].to_vec())
        })
        .collect())
}

/// Words that were read back, wherever in memory they lie.
fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect()
}
