//! Approximate search in one part: by its graph where it has one and that is quicker, else not at all.

use std::cmp::Ordering;

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSlice;
use stratal_kernels::{Candidate, Counters, GraphAnswer, GraphSearch, Plane};
use stratal_storage::{LivePart, Part};

use super::THIN;
use crate::index::is_worth_while;
use crate::{CollectionSnapshot, Result};

/// What an approximate search aims at where the caller does not say.
pub(super) const TARGET: f32 = 0.95;

/// What is taken to be a search's work, in nanoseconds: for each document that a walk keeps; for each vector that an exact
/// scan sweeps; and for each of those that pass where they are few and read one by one. A scan for one query waits
/// for memory, one for many shares what it reads.
const KEPT: u64 = 240;
const SWEPT: [u64; 2] = [8, 4];
const READ: [u64; 2] = [100, 25];

/// Queries from which on they share it.
const MANY: usize = 10;

/// Queries that one thread walks for at a time.
const TOGETHER: usize = 16;

/// How a search goes about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Effort {
    /// Walks keep so many documents.
    Width(usize),
    /// Walks are as wide as this recall needed when the index was built.
    Recall(f32),
}

/// What is asked of a part.
pub(super) struct Ask<'a> {
    pub collection: &'a CollectionSnapshot,
    pub planes: &'a [Plane<'a>],
    /// How many were chosen.
    pub layers: usize,
    /// `[q, D]`.
    pub queries: &'a [f32],
    pub k: usize,
    /// One for each query.
    pub floors: &'a [f64],
    pub ties: &'a (dyn Fn(u32, u32) -> Ordering + Sync),
    /// A bit for each row that counts; `None` if all do.
    pub mask: Option<&'a [u64]>,
    /// Where walks tell what they did.
    pub counters: &'a Counters,
}

/// An exact scan of a part, for queries `[q, D]` with a floor each.
type Scan<'a> = dyn Fn(&[f32], &[f64]) -> Result<Vec<Vec<Candidate>>> + 'a;

/// The best rows of a part for each query, scored exactly. Scanned is what has no graph, where few rows pass, or
/// where a walk met fewer of those than it should have.
pub(super) fn part(
    ask: &Ask,
    live: &LivePart,
    effort: Effort,
    scan: &Scan<'_>,
) -> Result<Vec<Vec<Candidate>>> {
    let mut answers = match walks(ask, live, effort)? {
        None => return scan(ask.queries, ask.floors),
        Some(answers) => answers,
    };
    let dimension = ask.collection.schema.dimension();
    let missing: Vec<usize> = (0..answers.len()).filter(|&at| answers[at].is_none()).collect();
    if !missing.is_empty() {
        let queries = missing
            .iter()
            .map(|at| &ask.queries[at * dimension..][..dimension]);
        let floors: Vec<f64> = missing.iter().map(|&at| ask.floors[at]).collect();
        let found = scan(&queries.collect::<Vec<_>>().concat(), &floors)?;
        for (at, found) in missing.into_iter().zip(found) {
            answers[at] = Some(found);
        }
    }
    Ok(answers.into_iter().map(Option::unwrap_or_default).collect())
}

/// `None` where no walk is worth while, for a query or for all.
fn walks(ask: &Ask, live: &LivePart, effort: Effort) -> Result<Option<Vec<Option<Vec<Candidate>>>>> {
    let dimension = ask.collection.schema.dimension();
    let Part::Segment(segment) = live.part() else {
        return Ok(None);
    };
    let layout = &ask.collection.schema.layout;
    // A graph tells documents by the best of all their vectors.
    if !is_worth_while(segment, layout) || ask.layers < layout.layers as usize {
        return Ok(None);
    }
    let graphs = &ask.collection.engine.graphs;
    let Some(indexed) = graphs.of(segment, layout) else {
        graphs.want(ask.collection.inner.number());
        return Ok(None);
    };
    let width = match effort {
        Effort::Width(width) => Some(width.max(ask.k)),
        // A sample may reach all; that is no promise.
        Effort::Recall(target) if target >= 1.0 => None,
        Effort::Recall(target) => indexed.width(target, ask.k),
    };
    let Some(width) = width else { return Ok(None) };
    let rows = u64::from(segment.rows());
    let passing = match ask.mask {
        None => rows,
        Some(mask) => mask.iter().map(|word| u64::from(word.count_ones())).sum(),
    };
    let many = usize::from(ask.floors.len() >= MANY);
    let scan = match passing * THIN < rows {
        true => READ[many] * passing,
        false => SWEPT[many] * rows,
    } * ask.layers as u64;
    // A walk must be wider by the share that does not pass.
    let walk = KEPT.saturating_mul(width as u64).saturating_mul(rows) / passing.max(1);
    if scan <= walk {
        return Ok(None);
    }
    let sections = match indexed.sections() {
        Ok(sections) => sections,
        Err(error) => {
            tracing::warn!(%error, "an index cannot be used: its segment is scanned instead");
            graphs.want(ask.collection.inner.number());
            return Ok(None);
        }
    };
    let mut search = GraphSearch::new(ask.k, width)
        .order(ask.ties)
        .counters(ask.counters);
    if let Some(mask) = ask.mask {
        search = search.live(mask, passing as usize);
    }
    let is_enough = |answer: &GraphAnswer| {
        // Were they spread evenly it would have come to their share of what it kept: else they lie elsewhere.
        let share = answer.live as u64 * rows * 5 >= answer.kept as u64 * passing * 3;
        ask.mask.is_none() || share && (answer.ended_early || answer.live >= ask.k.min(passing as usize))
    };
    let answer = |(queries, floors): (&[f32], &[f64])| -> Result<Vec<Option<Vec<Candidate>>>> {
        let mut walk = graphs.walk();
        let search = search.floors(floors);
        let answers = indexed
            .graph
            .search_batch(&sections, ask.planes, queries, &search, &mut walk)?;
        graphs.keep(walk);
        let answers = answers.into_iter();
        Ok(answers
            .map(|answer| is_enough(&answer).then_some(answer.candidates))
            .collect())
    };
    if ask.floors.len() == 1 {
        return answer((ask.queries, ask.floors)).map(Some);
    }
    let pool = ask.collection.engine.pool()?;
    let queries = ask.queries.par_chunks(TOGETHER * dimension.max(1));
    let floors = ask.floors.par_chunks(TOGETHER);
    let answers: Result<Vec<_>> = pool.install(|| queries.zip(floors).map(answer).collect());
    Ok(Some(answers?.concat()))
}
