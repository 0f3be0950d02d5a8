//! From candidates to edges: pruning, edges back, and a path to every node.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::lanes::Lanes;
use super::leaves::{entry, entry_parts};
use super::links::{DEGREE, NONE};
use super::points::Points;
use super::progress::Progress;
use crate::Error;

/// Edges of documents, `[documents, DEGREE]`, filled up with [`NONE`].
pub(super) type Edges = Vec<u32>;

/// How much nearer than the document itself a neighbour must be to a candidate to stand in for it:
/// squared distances, so this is the square of what Vamana calls α.
const ALPHA: f32 = 1.1;

/// Edges back that are weighed for a document at most.
const BACK: usize = 96;

/// Chooses neighbours among sorted candidates ([`entry`]s of points): a candidate is left out if one
/// chosen before holds a vector that is nearer to it. Places that stay free go to the nearest that
/// were left out.
///
/// # Safety
/// The processor must have the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn prune<L: Lanes>(points: &Points, document: usize, candidates: &[u64], out: &mut [u32]) {
    let mut count = 0;
    let mut left_out: Vec<u32> = Vec::with_capacity(candidates.len());
    for &candidate in candidates {
        if count == out.len() {
            break;
        }
        let (distance, point) = entry_parts(candidate);
        let other = (point as usize / points.layers) as u32;
        if other as usize == document || out[..count].contains(&other) {
            continue;
        }
        let mut covered = false;
        for &chosen in &out[..count] {
            // SAFETY: the caller promises the instructions.
            let between = unsafe { points.nearest_of_document::<L>(chosen as usize, point as usize) };
            if between * ALPHA < distance {
                covered = true;
                break;
            }
        }
        if covered {
            left_out.push(other);
        } else {
            out[count] = other;
            count += 1;
        }
    }
    for other in left_out {
        if count == out.len() {
            break;
        }
        if !out[..count].contains(&other) {
            out[count] = other;
            count += 1;
        }
    }
    out[count..].fill(NONE);
}

/// Prunes what `candidates` gives for each document.
///
/// # Errors
/// [`Error::Cancelled`].
///
/// # Safety
/// As [`prune`].
pub(super) unsafe fn choose<L: Lanes>(
    points: &Points,
    progress: &Progress,
    candidates: impl Fn(usize) -> Vec<u64> + Sync,
) -> Result<Edges, Error> {
    let mut edges = vec![NONE; points.documents() * DEGREE];
    edges
        .par_chunks_mut(DEGREE)
        .enumerate()
        .try_for_each(|(document, out)| {
            // SAFETY: the caller promises the instructions.
            unsafe { prune::<L>(points, document, &candidates(document), out) };
            progress.step(1)
        })?;
    Ok(edges)
}

/// Adds edges back: every document weighs those that chose it beside its own.
///
/// # Errors
/// [`Error::Cancelled`].
///
/// # Safety
/// As [`prune`].
pub(super) unsafe fn both_ways<L: Lanes>(
    points: &Points,
    edges: &Edges,
    progress: &Progress,
) -> Result<Edges, Error> {
    let documents = points.documents();
    let mut starts = vec![0u32; documents + 1];
    for &to in edges.iter().filter(|&&to| to != NONE) {
        starts[to as usize + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut filled = starts.clone();
    let mut back = vec![0u32; starts[documents] as usize];
    for (from, to) in edges.iter().enumerate().filter(|&(_, &to)| to != NONE) {
        back[filled[*to as usize] as usize] = (from / DEGREE) as u32;
        filled[*to as usize] += 1;
    }
    let candidates = |document: usize| {
        let mut all: Vec<u32> = edges[document * DEGREE..][..DEGREE]
            .iter()
            .copied()
            .filter(|&to| to != NONE)
            .collect();
        let back = &back[starts[document] as usize..starts[document + 1] as usize];
        // Of very many take some from everywhere.
        let stride = back.len().div_ceil(BACK).max(1);
        all.extend(back.iter().step_by(stride));
        all.sort_unstable();
        all.dedup();
        // SAFETY: the caller promises the instructions.
        unsafe { nearest_points::<L>(points, document, &all) }
    };
    // SAFETY: the caller promises the instructions.
    unsafe { choose::<L>(points, progress, candidates) }
}

/// The vectors of `others` as sorted candidates for `document`: for each of its own vectors the
/// nearest one of every other document.
///
/// # Safety
/// As [`prune`].
#[inline(always)]
pub(super) unsafe fn nearest_points<L: Lanes>(points: &Points, document: usize, others: &[u32]) -> Vec<u64> {
    let layers = points.layers;
    let mut candidates = Vec::with_capacity(others.len() * layers);
    for &other in others {
        if other as usize == document {
            continue;
        }
        for point in other as usize * layers..(other as usize + 1) * layers {
            // SAFETY: the caller promises the instructions.
            let distance = unsafe { points.nearest_of_document::<L>(document, point) };
            candidates.push(entry(distance, point as u32));
        }
    }
    candidates.sort_unstable();
    candidates
}

/// The documents that no path reaches from `entries`, in ascending order.
pub(super) fn unreached(edges: &Edges, entries: &[u32]) -> Vec<u32> {
    let documents = edges.len() / DEGREE;
    let mut reached = vec![false; documents];
    let mut open: Vec<u32> = Vec::new();
    for &entry in entries {
        if !std::mem::replace(&mut reached[entry as usize], true) {
            open.push(entry);
        }
    }
    while let Some(from) = open.pop() {
        for &to in edges[from as usize * DEGREE..][..DEGREE]
            .iter()
            .take_while(|&&to| to != NONE)
        {
            if !std::mem::replace(&mut reached[to as usize], true) {
                open.push(to);
            }
        }
    }
    (0..documents as u32)
        .filter(|&document| !reached[document as usize])
        .collect()
}

/// The documents in the order in which paths from `entries`, distinct, meet them, breadth first.
pub(super) fn order(edges: &Edges, entries: &[u32]) -> Vec<u32> {
    let documents = edges.len() / DEGREE;
    let mut met = vec![false; documents];
    let mut order = Vec::with_capacity(documents);
    for &entry in entries {
        met[entry as usize] = true;
        order.push(entry);
    }
    let mut at = 0;
    while at < order.len() {
        let from = order[at] as usize;
        at += 1;
        for &to in edges[from * DEGREE..][..DEGREE]
            .iter()
            .take_while(|&&to| to != NONE)
        {
            if !std::mem::replace(&mut met[to as usize], true) {
                order.push(to);
            }
        }
    }
    order
}
