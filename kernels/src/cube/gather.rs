//! What a batch left on the device, brought to the host.

use std::collections::BTreeMap;

use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::{Handle, ServerError};
use half::{bf16, f16};

use super::batch::{ASK_FIRST, Ask, Batch, Buffers, run};
use super::bound::power;
use super::exact::{candidates_at_once, score_exactly};
use super::form::Format;
use super::kernel::Ability;
use super::resident::{Block, Resident};
use super::select::pack_numbers;

/// The rows that may belong to the answers of a batch, as they came from the device.
pub(crate) struct Candidates {
    /// How many each query has; `None` where there were too many to keep.
    counts: Vec<Option<usize>>,
    /// Candidates that each query has room for in what was brought.
    most: usize,
    /// What [`pack_numbers`] packed.
    packed: Bytes,
    /// The rows' f64 scores `[q][most]`, scaled by a power of two, where the device holds the stored values.
    scores: Option<Bytes>,
    /// Takes the scores to what they are.
    scale: f64,
    /// Whether they were found through codes.
    pub coded: bool,
}

impl Candidates {
    /// The queries of the batch.
    pub fn queries(&self) -> usize {
        self.counts.len()
    }

    /// Candidates of all queries.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().map(|&count| count as u64).sum()
    }

    /// Of each query whether its candidates were too many to keep.
    pub fn lost(&self) -> impl Iterator<Item = bool> {
        self.counts.iter().map(Option::is_none)
    }

    /// The numbers of a query's rows, none if they were lost. One may come once for each layer.
    pub fn numbers(&self, query: usize) -> impl Iterator<Item = u32> {
        let first = 2 * self.queries() + query * self.most;
        let count = self.counts[query].unwrap_or(0);
        words(&self.packed[first * 4..(first + count) * 4])
    }

    /// Their scores, if the device computed them.
    pub fn scores(&self, query: usize) -> Option<impl Iterator<Item = f64>> {
        let first = query * self.most;
        let count = self.counts[query].unwrap_or(0);
        let bytes = self.scores.as_ref()?.get(first * 8..(first + count) * 8)?;
        let number = |b: &[u8]| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        Some(bytes.chunks_exact(8).map(move |bytes| number(bytes) * self.scale))
    }
}

/// A query's candidates with the device's own scores as they are, and the bound on their error; of a search through codes
/// the layer's place that a score is of, of others none, for they are of the best.
pub(crate) struct Scored {
    pub found: Vec<(u32, Option<usize>, f64)>,
    pub error: f64,
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

/// The same with the scores, before anything is scored again, for measuring the bound. Queries that lost candidates have none.
pub(crate) fn scores(
    client: &Client,
    ability: &Ability,
    part: &Resident,
    ask: &Ask,
) -> Result<Vec<Scored>, ServerError> {
    let Batch { buffers, bounds, .. } = run(client, ability, part, ask);
    let read = client.read(vec![
        buffers.counts.clone(),
        buffers.lost.clone(),
        buffers.numbers.clone(),
        buffers.scores.clone(),
    ])?;
    let [counts, lost, numbers, scores] = [0, 1, 2, 3].map(|i| words(&read[i]).collect::<Vec<_>>());
    let coded = ask.is_coded(part);
    Ok(bounds
        .into_iter()
        .enumerate()
        .map(|(query, bound)| {
            let first = query * buffers.capacity;
            let count = counts[query] as usize;
            let kept = if lost[query] == 0 && count <= buffers.capacity {
                count
            } else {
                0
            };
            // Of a document that is there for several layers its best is its score.
            let mut best = BTreeMap::new();
            for at in first..first + kept {
                let score = (f64::from(f32::from_bits(scores[at])) + bound.shift) / bound.scale;
                let number = numbers[at] as usize;
                let place = coded.then_some(number / part.documents());
                let so_far = best.entry((number % part.documents(), place)).or_insert(score);
                *so_far = score.max(*so_far);
            }
            let found = best
                .into_iter()
                .map(|((row, place), score)| (row as u32, place, score));
            Scored {
                found: found.collect(),
                error: bound.error / bound.scale,
            }
        })
        .collect())
}

fn read(
    client: &Client,
    ability: &Ability,
    part: &Resident,
    batch: &Batch,
    ask: &Ask,
) -> Result<Candidates, ServerError> {
    let (buffers, count) = (&batch.buffers, batch.bounds.len());
    let mut most = match count < ASK_FIRST {
        true => batch.expected.clamp(1, buffers.capacity),
        false => 0,
    };
    let mut packed = client.read(pack(client, ability, part, buffers, count, most, ask))?;
    let mut counts = counts_of(&packed[0], count, buffers.capacity);
    let needed = counts.iter().flatten().copied().max().unwrap_or(0);
    if needed > most {
        most = needed;
        packed = client.read(pack(client, ability, part, buffers, count, most, ask))?;
        counts = counts_of(&packed[0], count, buffers.capacity);
    }
    let mut packed = packed.into_iter();
    Ok(Candidates {
        counts,
        most,
        packed: packed.next().unwrap_or_else(|| Bytes::from_bytes_vec(Vec::new())),
        scores: packed.next(),
        scale: power(-part.exponent),
        coded: ask.is_coded(part),
    })
}

/// How many candidates each query has, of what was packed. After the last round nothing may have marked those that lost
/// some.
fn counts_of(packed: &[u8], queries: usize, capacity: usize) -> Vec<Option<usize>> {
    let lost = words(&packed[queries * 4..]);
    words(packed)
        .zip(lost)
        .take(queries)
        .map(|(count, lost)| (lost == 0 && count as usize <= capacity).then_some(count as usize))
        .collect()
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
    // SAFETY: every buffer is as long as the caller made it; a unit reads a candidate's number only below its query's count and `capacity`, and
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
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}
