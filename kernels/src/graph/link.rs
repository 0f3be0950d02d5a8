//! From candidates to edges: pruning, edges back, and a path to every node.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::lanes::Lanes;
use super::leaves::{entry, entry_parts};
use super::links::{DEGREE, NONE};
use super::points::Points;
use super::progress::Progress;
use crate::Error;

/// Edges of points, `[points, DEGREE]`, filled up with [`NONE`].
pub(super) type Edges = Vec<u32>;

/// How much nearer than the point itself a neighbour must be to a candidate to stand in for it:
/// squared distances, so this is the square of what Vamana calls α.
const ALPHA: f32 = 1.1;

/// Layers that lie among each other have most of their edges across.
const APART: usize = 8;

/// Edges back that are weighed for a point at most.
const BACK: usize = 96;

/// Whether hardly an edge, less than one in [`APART`], leads from a vector of one layer to one of another.
pub(super) fn is_apart(edges: &[u32], layers: usize) -> bool {
    if layers == 1 {
        return false;
    }
    let (mut across, mut all) = (0, 0);
    for (node, own) in edges.chunks_exact(DEGREE).enumerate() {
        for &to in own.iter().filter(|&&to| to != NONE) {
            all += 1;
            across += usize::from(to as usize % layers != node % layers);
        }
    }
    across * APART < all
}

/// Chooses neighbours among sorted candidates ([`entry`]s): a candidate is left out if one
/// chosen before is nearer to it. Places that stay free go to the nearest that
/// were left out, those of documents without an edge first.
///
/// # Safety
/// The processor must have the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn prune<L: Lanes>(points: &Points, point: usize, candidates: &[u64], out: &mut [u32]) {
    let mut count = 0;
    let mut left_out: Vec<u32> = Vec::with_capacity(candidates.len());
    for &candidate in candidates {
        if count == out.len() {
            break;
        }
        let (distance, other) = entry_parts(candidate);
        if points.are_siblings(other as usize, point) || out[..count].contains(&other) {
            continue;
        }
        let mut covered = false;
        for &chosen in &out[..count] {
            // SAFETY: the caller promises the instructions.
            let between = unsafe { points.distance::<L>(chosen as usize, other as usize) };
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
    // Vectors of one document can be nearly the same, and then lead to the same places.
    let is_sibling = |chosen: &[u32], other: u32| {
        points.layers > 1
            && chosen
                .iter()
                .any(|&to| points.are_siblings(to as usize, other as usize))
    };
    for takes_siblings in [false, true] {
        for &other in &left_out {
            if count == out.len() {
                break;
            }
            let chosen = &out[..count];
            if !chosen.contains(&other) && (takes_siblings || !is_sibling(chosen, other)) {
                out[count] = other;
                count += 1;
            }
        }
    }
    out[count..].fill(NONE);
}

/// Prunes what `candidates` gives for each point.
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
    let mut edges = vec![NONE; points.count() * DEGREE];
    edges
        .par_chunks_mut(DEGREE)
        .enumerate()
        .try_for_each(|(point, out)| {
            // SAFETY: the caller promises the instructions.
            unsafe { prune::<L>(points, point, &candidates(point), out) };
            progress.step(1)
        })?;
    Ok(edges)
}

/// Adds edges back: every point weighs those that chose it beside its own.
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
    let count = points.count();
    let mut starts = vec![0u32; count + 1];
    for &to in edges.iter().filter(|&&to| to != NONE) {
        starts[to as usize + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut filled = starts.clone();
    let mut back = vec![0u32; starts[count] as usize];
    for (from, to) in edges.iter().enumerate().filter(|&(_, &to)| to != NONE) {
        back[filled[*to as usize] as usize] = (from / DEGREE) as u32;
        filled[*to as usize] += 1;
    }
    let candidates = |point: usize| {
        let mut all: Vec<u32> = edges[point * DEGREE..][..DEGREE]
            .iter()
            .copied()
            .filter(|&to| to != NONE)
            .collect();
        let back = &back[starts[point] as usize..starts[point + 1] as usize];
        // Of very many take some from everywhere.
        let stride = back.len().div_ceil(BACK).max(1);
        all.extend(back.iter().step_by(stride));
        all.sort_unstable();
        all.dedup();
        // SAFETY: the caller promises the instructions.
        unsafe { nearest::<L>(points, point, &all) }
    };
    // SAFETY: the caller promises the instructions.
    unsafe { choose::<L>(points, progress, candidates) }
}

/// `others` as sorted candidates for `point`.
///
/// # Safety
/// As [`prune`].
#[inline(always)]
pub(super) unsafe fn nearest<L: Lanes>(points: &Points, point: usize, others: &[u32]) -> Vec<u64> {
    let mut candidates = Vec::with_capacity(others.len());
    for &other in others {
        if !points.are_siblings(other as usize, point) {
            // SAFETY: the caller promises the instructions.
            let distance = unsafe { points.distance::<L>(point, other as usize) };
            candidates.push(entry(distance, other));
        }
    }
    candidates.sort_unstable();
    candidates
}

/// The points that no path reaches from `entries`, in ascending order.
pub(super) fn unreached(edges: &Edges, entries: &[u32]) -> Vec<u32> {
    let points = edges.len() / DEGREE;
    let mut reached = vec![false; points];
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
    (0..points as u32)
        .filter(|&point| !reached[point as usize])
        .collect()
}

/// The points in the order in which paths from `entries`, distinct, meet them, breadth first.
pub(super) fn order(edges: &Edges, entries: &[u32]) -> Vec<u32> {
    let points = edges.len() / DEGREE;
    let mut met = vec![false; points];
    let mut order = Vec::with_capacity(points);
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
