//! One batch of queries over one part on a device: rounds of scoring and selecting.

use cubecl::bytes::Bytes;
use cubecl::prelude::*;
use cubecl::server::{Handle, MemoryLayoutDescriptor, MemoryLayoutStrategy};

use super::bound::{Bound, Sums};
use super::form::queries;
use super::kernel::{Ability, Kernel};
use super::launch::{Launch, Round};
use super::resident::Resident;
use super::shape::{CODE_LANES, LANES};

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
pub(super) struct Thresholds {
    pub thresholds: Handle,
    pub margins: Handle,
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
