//! Building a graph.

use std::ops::RangeInclusive;

use super::basis::Basis;
use super::entries::Entries;
use super::lanes::Lanes;
use super::leaves;
use super::limits::Limits;
use super::link::{self, Edges};
use super::links::{DEGREE, Links, NONE, Shell};
use super::points::{Points, Source};
use super::progress::Progress;
use super::search::Walker;
use super::{BuiltGraph, GraphOptions};
use crate::dispatch::Kernels;
use crate::numbers::Numbers;
use crate::{Error, Plane};

/// Vectors from which the basis is made at most.
const SAMPLE: usize = 8192;

/// Norms of a shell lie within this ratio.
const RATIO: f32 = 1.5;

/// A shell of fewer nodes is read whole.
pub(super) const SMALL: usize = 256;

/// Nodes at which a walk can begin: of each so many one, at least so many and at most; more save fewer hops than it takes to
/// choose among them. And what a smaller shell has.
const ENTRY_EACH: usize = 16;
const ENTRIES: RangeInclusive<usize> = 512..=4096;
const FEW_ENTRIES: usize = 48;

/// Shells at most; the last one takes what is left, however short.
const SHELLS: usize = 48;

/// Candidates kept of the leaves, and the beam of the refining walks.
const CANDIDATES: usize = 48;
const REFINING: usize = 64;

/// Attempts to give the unreached a neighbour that points to them.
const REPAIRS: usize = 4;

/// # Errors
/// [`Error::Cancelled`].
///
/// # Safety
/// The processor must have the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn build<L: Lanes>(planes: &[Plane], options: &GraphOptions) -> Result<BuiltGraph, Error> {
    let rows: Vec<u32> = (0..planes[0].rows() as u32)
        .filter(|&row| {
            options
                .live
                .is_none_or(|live| live[row as usize / 64] >> (row % 64) & 1 == 1)
        })
        .collect();
    let passes = options.passes.unwrap_or(if planes.len() > 1 { 2 } else { 1 });
    let steps = rows.len() * planes.len() * (3 + 2 * passes);
    let progress = Progress::new(steps, options.progress);
    let (rows, twins) = super::twins::set_apart(planes, rows);
    progress.check()?;
    let (sources, mut shells) = sort_into_shells(planes, &rows);
    let basis = Basis::of(&sample(planes, &sources), planes[0].dimension());
    // SAFETY: the caller promises the instructions.
    let mut points = unsafe { Points::code::<L>(&basis, planes, &sources) };
    progress.step(points.count())?;
    // Several of them may be of one document.
    let length = CANDIDATES * if planes.len() > 1 { 2 } else { 1 };
    // SAFETY: the caller promises the instructions.
    let lists = unsafe { leaves::lists::<L>(&points, length, &shells, &progress)? };
    // SAFETY: as above.
    let mut edges = unsafe { link::choose::<L>(&points, &progress, |point| lists.take(point))? };
    drop(lists);
    // SAFETY: as above.
    edges = unsafe { link::both_ways::<L>(&points, &edges, &progress)? };
    for _ in 0..passes {
        // SAFETY: as above.
        edges = unsafe { refine::<L>(&basis, &points, &shells, &edges, &progress)? };
        // SAFETY: as above.
        edges = unsafe { link::both_ways::<L>(&points, &edges, &progress)? };
    }
    if link::is_apart(&edges, planes.len()) {
        // All of them are looked at for each layer.
        let few = ENTRIES.start().next_multiple_of(planes.len()) as u32;
        shells
            .iter_mut()
            .for_each(|shell| shell.entries = shell.entries.min(few));
    }
    let order = reach(&mut edges, &mut shells, planes.len());
    Ok(numbered(
        basis,
        &mut points,
        shells,
        &edges,
        &order,
        &sources,
        twins,
    ))
}

/// Documents, longest first, in shells; inside a shell the entries, and then by row.
fn sort_into_shells(planes: &[Plane], rows: &[u32]) -> (Vec<Source>, Vec<Shell>) {
    let kernels = Kernels::best();
    let mut vector = vec![0f32; planes[0].dimension()];
    let mut norms: Vec<(f32, u32)> = rows
        .iter()
        .map(|&row| {
            let longest = planes
                .iter()
                .map(|plane| kernels.widen(plane.element(), plane.row_bytes(row as usize), &mut vector))
                .fold(0f32, f32::max);
            // A little more, so that rounding never makes a vector longer than its shell.
            (longest.sqrt() * 1.000_01, row)
        })
        .collect();
    norms.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut sources = Vec::with_capacity(norms.len());
    let mut shells = Vec::new();
    let mut numbers = Numbers(1);
    let mut from = 0;
    while from < norms.len() {
        let norm = norms[from].0;
        let mut count = norms[from..].partition_point(|&(other, _)| other * RATIO >= norm);
        if shells.len() + 1 == SHELLS {
            count = norms.len() - from;
        }
        let members = &mut norms[from..from + count];
        members.sort_unstable_by_key(|&(_, row)| row);
        let entries = if count <= SMALL {
            count
        } else {
            let nodes = count * planes.len();
            let entries = if nodes / ENTRIES.start() >= 8 {
                (nodes / ENTRY_EACH).clamp(*ENTRIES.start(), *ENTRIES.end())
            } else {
                FEW_ENTRIES
            };
            entries.div_ceil(planes.len())
        };
        for at in 0..entries {
            let other = at + numbers.below(count - at);
            members.swap(at, other);
        }
        sources.extend(members.iter().map(|&(_, row)| Source { row, norm }));
        shells.push(Shell {
            first: (from * planes.len()) as u32,
            count: (count * planes.len()) as u32,
            entries: (entries * planes.len()) as u32,
            norm,
        });
        from += count;
    }
    (sources, shells)
}

/// Vectors `[s, D]` from everywhere, over their shells' norms.
fn sample(planes: &[Plane], sources: &[Source]) -> Vec<f32> {
    let kernels = Kernels::best();
    let dimension = planes[0].dimension();
    let stride = (sources.len() * planes.len()).div_ceil(SAMPLE).max(1);
    let mut sample = Vec::new();
    let mut vector = vec![0f32; dimension];
    for source in sources.iter().step_by(stride) {
        for plane in planes {
            kernels.widen(plane.element(), plane.row_bytes(source.row as usize), &mut vector);
            let inverse = if source.norm > 0.0 { 1.0 / source.norm } else { 0.0 };
            sample.extend(vector.iter().map(|value| value * inverse));
        }
    }
    sample
}

/// Looks for each point where it is, and chooses its edges among what was met.
///
/// # Errors
/// [`Error::Cancelled`].
///
/// # Safety
/// As [`build`].
unsafe fn refine<L: Lanes>(
    basis: &Basis,
    points: &Points,
    shells: &[Shell],
    edges: &Edges,
    progress: &Progress,
) -> Result<Edges, Error> {
    let links = Links {
        basis,
        // Each for itself: siblings are no better known than others.
        layers: 1,
        is_apart: false,
        first: &points.first,
        rest: &points.rest,
        doubts: &points.doubts,
        neighbours: edges,
    };
    let entries: Vec<Entries> = shells
        .iter()
        .map(|shell| Entries::of(shell, &points.first, basis.head, true))
        .collect();
    let idle = std::sync::Mutex::new(Vec::<Walker>::new());
    let candidates = |point: usize| {
        let shell = shells.partition_point(|shell| shell.first as usize <= point) - 1;
        let mut others: Vec<u32> = edges[point * DEGREE..][..DEGREE]
            .iter()
            .copied()
            .filter(|&to| to != NONE)
            .collect();
        let taken = idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop();
        let mut walker = taken.unwrap_or_else(Walker::new);
        walker.keep_trail = true;
        let mut turned = Vec::new();
        points.turned(point, &mut turned);
        walker.query.set_turned(basis, &turned);
        // SAFETY: the caller promises the instructions; the links are of one graph.
        unsafe { walker.walk::<L>(&links, &shells[shell], &entries[shell], &Limits::width(REFINING)) };
        others.extend(&walker.trail);
        others.extend(walker.found().map(|(_, node)| node));
        idle.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(walker);
        others.sort_unstable();
        others.dedup();
        // SAFETY: the caller promises the instructions.
        unsafe { link::nearest::<L>(points, point, &others) }
    };
    // SAFETY: the caller promises the instructions.
    unsafe { link::choose::<L>(points, progress, candidates) }
}

/// Sees to it that walks can reach every node of their shell: by an edge where one can be spared, else
/// as an entry. Returns the new order of documents, of `layers` nodes each.
fn reach(edges: &mut Edges, shells: &mut [Shell], layers: usize) -> Vec<u32> {
    let mut entries: Vec<Vec<u32>> = shells
        .iter()
        .map(|shell| (shell.first..shell.first + shell.entries).collect())
        .collect();
    for attempt in 0..=REPAIRS {
        let all: Vec<u32> = entries.iter().flatten().copied().collect();
        let lost = link::unreached(edges, &all);
        if lost.is_empty() {
            break;
        }
        for node in lost {
            if attempt == REPAIRS {
                let shell = shells.partition_point(|shell| shell.first <= node) - 1;
                entries[shell].push(node);
                continue;
            }
            // A neighbour gives up its last edge, another one at each attempt.
            let own = &edges[node as usize * DEGREE..][..DEGREE];
            let count = own.iter().take_while(|&&to| to != NONE).count();
            if count > 0 {
                let from = own[attempt % count] as usize;
                let edges = &mut edges[from * DEGREE..][..DEGREE];
                // Whoever gave one up may be lost too; walks rely on each neighbour being named once.
                if !edges.contains(&node) {
                    let place = edges.iter().position(|&to| to == NONE).unwrap_or(DEGREE - 1);
                    edges[place] = node;
                }
            }
        }
    }
    let mut order = Vec::with_capacity(edges.len() / DEGREE / layers);
    let mut is_placed = vec![false; edges.len() / DEGREE / layers];
    let mut place = |nodes: &[u32]| {
        for document in nodes.iter().map(|&node| node as usize / layers) {
            if !std::mem::replace(&mut is_placed[document], true) {
                order.push(document as u32);
            }
        }
        order.len()
    };
    for (shell, entries) in shells.iter_mut().zip(&entries) {
        let entered = place(entries) - shell.first as usize / layers;
        shell.entries = (entered * layers) as u32;
        place(&link::order(edges, entries));
    }
    order
}

/// The graph with document `order[i]` as the one of nodes `i × layers` and on.
fn numbered(
    basis: Basis,
    points: &mut Points,
    shells: Vec<Shell>,
    edges: &Edges,
    order: &[u32],
    sources: &[Source],
    twins: Vec<[u32; 2]>,
) -> BuiltGraph {
    let mut place = vec![0u32; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old as usize] = new as u32;
    }
    let layers = points.layers;
    let renamed = |node: u32| match node {
        NONE => NONE,
        node => place[node as usize / layers] * layers as u32 + node % layers as u32,
    };
    let mut neighbours = Vec::with_capacity(edges.len());
    for &old in order {
        let own = &edges[old as usize * layers * DEGREE..][..layers * DEGREE];
        neighbours.extend(own.iter().map(|&to| renamed(to)));
    }
    let first = moved(&mut points.first, layers * basis.head, order);
    let rest = moved(&mut points.rest, layers * basis.rest(), order);
    let each = if points.doubts.is_empty() { 0 } else { layers };
    let doubts = moved(&mut points.doubts, each, order);
    let rows: Vec<u32> = order.iter().map(|&old| sources[old as usize].row).collect();
    let mut nodes: Vec<[u32; 2]> = rows
        .iter()
        .enumerate()
        .map(|(node, &row)| [row, node as u32])
        .collect();
    nodes.sort_unstable();
    let mut twins: Vec<[u32; 2]> = twins
        .into_iter()
        .filter_map(|[first, row]| {
            let at = nodes.binary_search_by_key(&first, |&[row, _]| row).ok()?;
            Some([nodes[at][1], row])
        })
        .collect();
    twins.sort_unstable();
    BuiltGraph {
        layers,
        is_apart: link::is_apart(&neighbours, layers),
        basis,
        doubts,
        longest: points.longest,
        shells,
        rows,
        twins,
        neighbours,
        first,
        rest,
    }
}

/// The same, `each` a document, in another order of documents.
fn moved<T: Copy>(all: &mut Vec<T>, each: usize, order: &[u32]) -> Vec<T> {
    let old = std::mem::take(all);
    let mut new = Vec::with_capacity(old.len());
    for &document in order {
        new.extend_from_slice(&old[document as usize * each..][..each]);
    }
    new
}
