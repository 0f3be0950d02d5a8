//! What a walk found, in finer estimates and then in scores from the stored vectors.

use std::cmp::Ordering;

use super::ask::Ask;
use super::lanes::Lanes;
use super::links::Links;
use super::query::Slack;
use super::search::Walker;
use super::sections::Graph;
use crate::dispatch::{Kernels, prefetch, prefetch_line};
use crate::search::Tally;
use crate::{Plane, TopK};

/// Documents fetched ahead of the one that is scored.
const AHEAD: usize = 4;

/// What a walk found that can be among the best.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// A node of each document, with estimates.
    nodes: Vec<(f32, u32)>,
    /// Other nodes of these documents.
    seconds: Vec<u32>,
    /// `[nodes, m]`, as far as it is known: no vector of the document scores more.
    bounds: Vec<f32>,
    /// How many codes were read in whole, and documents scored, since [`Found::forget_counts`].
    refined: u64,
    scored: u64,
    /// Codes and vectors of these documents' other layers that were read beside.
    beside: [u64; 2],
}

/// What scores are made of.
pub(super) struct Scale<'a> {
    /// `[D]`, as it was given.
    pub query: &'a [f32],
    /// The score that an estimate of 1 is.
    pub per_score: f64,
}

impl Found {
    pub fn forget_counts(&mut self) {
        (self.refined, self.scored, self.beside) = (0, 0, [0; 2]);
    }

    /// What was done since then, with how many heads and further lines a walk has read.
    pub fn tally(&self, ask: &Ask, [compared, wider]: [u64; 2]) -> Tally {
        let basis = &ask.graph.basis;
        let lines = compared * basis.head as u64
            + wider * basis.lines as u64
            + (self.refined + self.beside[0]) * basis.rest() as u64;
        let vector = ask.planes[0].element().size() * basis.dimension;
        Tally {
            ahead: 0,
            swept: compared,
            left: wider + self.refined,
            multiplied: 0,
            scored: self.scored,
            bytes: lines * 64 + (self.scored + self.beside[1]) * vector as u64,
        }
    }

    /// Takes what a walk found that can be among the best and above `floor`, an estimate; returns how many documents with
    /// live rows it found.
    pub fn gather(&mut self, ask: &Ask, walker: &Walker, floor: f32) -> usize {
        self.nodes.clear();
        // Where all are alive their rows, a line of memory each, need not be known.
        let is_wanted = |&(_, node): &(f32, u32)| {
            ask.options.live.is_none() || ask.rows_of(ask.document(node)).any(|row| ask.is_live(row))
        };
        self.nodes.extend(walker.found().filter(is_wanted));
        let wanted = self.nodes.len();
        // Those that the walk's estimates leave: the k-th one, with doubt.
        let last = self.nodes.get(ask.options.k - 1);
        let last = last.map_or(f32::NEG_INFINITY, |&(estimate, _)| estimate);
        let bar = last.max(floor) - ask.options.doubts()[0] * walker.query.errors[0];
        let left = self.nodes.partition_point(|&(estimate, _)| estimate >= bar);
        self.nodes.truncate(left);
        // Heads cannot tell which vector of a document is its best.
        self.seconds.clear();
        let seconds = walker.seconds().filter(|&(estimate, _)| estimate >= bar);
        self.seconds.extend(seconds.map(|(_, node)| node));
        for &(_, node) in &self.nodes {
            prefetch_line(Graph::row_bytes(ask.sections, ask.document(node)).as_ptr());
        }
        wanted
    }

    /// Puts what was gathered in the order of finer estimates.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`; `links` must be the graph's.
    #[inline(always)]
    unsafe fn refine<L: Lanes>(&mut self, ask: &Ask, links: &Links, walker: &Walker) {
        let seconds = self.seconds.iter();
        for &node in self.nodes.iter().map(|(_, node)| node).chain(seconds.clone()) {
            links.fetch_whole(node as usize);
        }
        // Most of what is first now is among the first then.
        for &(_, node) in self.nodes.iter().take(AHEAD) {
            ask.fetch(links, node);
        }
        self.refined += (self.nodes.len() + seconds.len()) as u64;
        for (estimate, node) in &mut self.nodes {
            // SAFETY: the caller promises the instructions; a walk finds nodes that exist.
            *estimate = unsafe { walker.by_all_bits::<L>(links, *node as usize) };
        }
        for &node in seconds {
            // SAFETY: as above.
            let estimate = unsafe { walker.by_all_bits::<L>(links, node as usize) };
            let layers = links.layers as u32;
            let first = node / layers * layers;
            let is_sibling = |known: &&mut (f32, u32)| known.1.wrapping_sub(first) < layers;
            if let Some(known) = self.nodes.iter_mut().find(is_sibling)
                && known.0 < estimate
            {
                *known = (estimate, node);
            }
        }
        let descending = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        self.nodes.sort_unstable_by(descending);
    }

    /// Scores what can be among the best from the stored vectors.
    ///
    /// # Safety
    /// As [`Found::refine`]; what is asked must have been checked, and `walker` be the one that found.
    #[inline(always)]
    pub unsafe fn score<L: Lanes, F: Fn(&u32, &u32) -> Ordering>(
        &mut self,
        ask: &Ask,
        links: &Links,
        walker: &mut Walker,
        &Scale { query, per_score }: &Scale,
        best: &mut TopK<u32, F>,
    ) {
        let (k, [coarse, fine]) = (ask.options.k, ask.options.doubts());
        // A finer estimate costs a quarter of a score.
        let pays = self.nodes.len() > k.saturating_add(k / 3);
        let doubt = if pays {
            // SAFETY: as the caller promises.
            unsafe { self.refine::<L>(ask, links, walker) };
            fine * walker.query.errors[1]
        } else {
            coarse * walker.query.errors[0]
        };
        let kernels = Kernels::best();
        let layers = ask.planes.len();
        let score =
            |plane: &Plane, row: u32| kernels.exact(plane.element(), plane.row_bytes(row as usize), query);
        let slack = (layers > 1).then(|| walker.query.slack(ask.graph.longest));
        self.bounds.clear();
        // What comes behind is hardly scored, for the k-th score will be about the k-th estimate.
        let last = self
            .nodes
            .get(k - 1)
            .map_or(f32::NEG_INFINITY, |&(estimate, _)| estimate);
        let likely = self
            .nodes
            .partition_point(|&(estimate, _)| estimate + doubt >= last);
        for &(_, node) in self.nodes[..likely].iter().take(AHEAD) {
            ask.fetch(links, node);
        }
        for at in 0..self.nodes.len() {
            let (estimate, node) = self.nodes[at];
            if f64::from(estimate + doubt) * per_score < best.floor() {
                break;
            }
            if let Some(&(_, next)) = self.nodes[..likely].get(at + AHEAD) {
                ask.fetch(links, next);
            }
            if let Some(slack) = &slack {
                // SAFETY: as the caller promises.
                unsafe { self.bound::<L>(ask, links, walker, slack, at + 1) };
            }
            let own = node as usize % layers;
            for row in ask.rows_of(ask.document(node)).filter(|&row| ask.is_live(row)) {
                let mut highest = score(&ask.planes[own], row);
                // The others are read only where their codes do not exclude that they score more.
                for layer in (0..layers).filter(|&layer| layer != own) {
                    let most = f64::from(self.bounds[at * layers + layer]) * per_score;
                    let is_excluded = most <= highest || most < best.floor();
                    if !is_excluded {
                        self.beside[1] += 1;
                        highest = highest.max(score(&ask.planes[layer], row));
                    }
                }
                self.scored += 1;
                best.push(highest, row);
            }
        }
    }

    /// Bounds the scores of documents' vectors, over the shell's norm, up to the document at a place; fetches the vectors
    /// that may score more than the one that was found.
    ///
    /// # Safety
    /// As [`Found::refine`].
    #[inline(always)]
    unsafe fn bound<L: Lanes>(
        &mut self,
        ask: &Ask,
        links: &Links,
        walker: &Walker,
        slack: &Slack,
        place: usize,
    ) {
        let layers = ask.planes.len();
        for at in self.bounds.len() / layers..self.nodes.len().min(place + 1) {
            let (found, node) = self.nodes[at];
            let first = node as usize / layers * layers;
            for (layer, plane) in ask.planes.iter().enumerate() {
                let sibling = first + layer;
                if sibling == node as usize {
                    // It is scored anyway.
                    self.bounds.push(f32::INFINITY);
                    continue;
                }
                self.beside[0] += 1;
                // SAFETY: the caller promises the instructions; a document's nodes exist together.
                let estimate = unsafe { walker.by_all_bits::<L>(links, sibling) };
                let most = estimate + slack.of(links.doubts[sibling]);
                self.bounds.push(most);
                if most > found {
                    let row = Graph::row(ask.sections, ask.document(node));
                    if ask.is_live(row) {
                        prefetch(plane.row_bytes(row as usize));
                    }
                }
            }
        }
    }
}
