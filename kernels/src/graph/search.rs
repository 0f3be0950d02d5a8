//! Walking a graph: from the entries to the nodes whose codes promise the largest scores.

use super::entries::{Entries, Room};
use super::keys::{LEFT, insert_key, key, node_of, score_of};
use super::lanes::{LANES, Lanes};
use super::limits::Limits;
use super::links::{DEGREE, Links, Shell};
use super::query::CodedQuery;

/// The memory of a walk, kept from one to the next.
#[derive(Debug)]
pub(super) struct Walker {
    pub query: CodedQuery,
    /// Best first, one a document: the estimate's order in the upper half, then the node and whether it was left.
    beam: Vec<u64>,
    /// Vectors that another one of their document has kept from the beam, or driven out.
    seconds: Vec<u64>,
    /// Where layers lie apart: what was found in each.
    found_apart: Vec<u64>,
    /// A bit for each node that was seen, and these nodes.
    seen: Vec<u32>,
    met: Vec<u32>,
    /// Room for choosing entries.
    room: Room,
    /// The nodes left by the last walk.
    pub trail: Vec<u32>,
    pub keep_trail: bool,
    /// Vectors whose heads, and whose other lines, were read.
    pub read: [u64; 2],
}

/// Nodes that are being fetched.
#[derive(Clone, Copy)]
struct Fresh {
    nodes: [u32; DEGREE],
    count: usize,
}

/// Places at the top of a beam whose neighbours are fetched at once, for they are left soon.
const SOON: usize = 3;

/// Distances shorter than so many standard deviations of an estimate are taken to be as long.
const ERRORS: f32 = 16.0;

impl Walker {
    pub fn new() -> Walker {
        Walker {
            query: CodedQuery::new(),
            beam: Vec::new(),
            seconds: Vec::new(),
            found_apart: Vec::new(),
            seen: Vec::new(),
            met: Vec::new(),
            room: Room::default(),
            trail: Vec::new(),
            keep_trail: false,
            read: [0; 2],
        }
    }

    /// The best node of each document that was found, with its estimate, best first.
    pub fn found(&self) -> impl ExactSizeIterator<Item = (f32, u32)> {
        self.beam.iter().map(|&key| (score_of(key), node_of(key)))
    }

    /// Other nodes of the documents that were found, with their estimates, in any order.
    pub fn seconds(&self) -> impl Iterator<Item = (f32, u32)> {
        self.seconds.iter().map(|&key| (score_of(key), node_of(key)))
    }

    /// Walks `shell`. The estimates are over the shell's norm.
    ///
    /// It goes on for as long as there is a node to leave that is hardly further away than the last one that is asked
    /// for: an easy question ends early, and a hard one gets what it needs (as in arXiv 2505.15636).
    ///
    /// While the neighbours of one node are compared, those of the next are on their way: a node is
    /// chosen before what the last one led to is known.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`; `first` and `rest` must be as long as `neighbours` asks for.
    #[inline(always)]
    pub unsafe fn walk<L: Lanes>(
        &mut self,
        links: &Links,
        shell: &Shell,
        entries: &Entries,
        limits: &Limits,
    ) {
        self.beam.clear();
        self.seconds.clear();
        self.trail.clear();
        let nodes = links.neighbours.len() / DEGREE;
        self.forget(nodes);
        // A document is left by one of its vectors, so edges alone need not lead to all.
        let reaches_all = limits.width.saturating_mul(links.layers) >= shell.count as usize;
        let count = if reaches_all { shell.count } else { shell.entries };
        let near = (entries.are_many() && !reaches_all).then_some(entries);
        let entries = shell.first..shell.first + count;
        let layers = links.layers as u32;
        // Where layers lie apart what is near in one leads to no other: first a narrow walk in each, then on from all.
        let apart = if links.is_apart && !reaches_all { layers } else { 0 };
        for layer in 0..=apart {
            let is_all = layer == apart;
            let limits = if is_all {
                *limits
            } else {
                limits.narrow(links.layers)
            };
            if !is_all || apart == 0 {
                let is_own = |node: u32| is_all || node % layers == layer;
                // SAFETY: entries are nodes of the graph.
                unsafe {
                    match near {
                        Some(near) if is_all => self.begin_near::<L>(links, near, |_| true, &limits),
                        Some(near) => self.begin_near::<L>(links, near, is_own, &limits),
                        None => {
                            let own = entries.clone().filter(|&node| is_own(node));
                            self.begin::<L>(links, own, &limits);
                        }
                    }
                }
            } else {
                self.gather_apart(layers, limits.width);
            }
            // SAFETY: as the caller promises.
            unsafe { self.go_on::<L>(links, &limits) };
            if !is_all {
                self.found_apart.append(&mut self.beam);
            }
        }
    }

    /// Offers the nearest of many entries.
    ///
    /// # Safety
    /// As [`Walker::walk`]; the entries must be nodes of the graph.
    #[inline(always)]
    unsafe fn begin_near<L: Lanes>(
        &mut self,
        links: &Links,
        entries: &Entries,
        counts: impl Fn(u32) -> bool,
        limits: &Limits,
    ) {
        // SAFETY: the caller promises the instructions, and that the entries are nodes.
        unsafe {
            let nearest = entries.nearest::<L, _>(&self.query.small, counts, &mut self.room);
            self.begin::<L>(links, nearest, limits);
        }
    }

    /// Offers nodes at which a walk begins.
    ///
    /// # Safety
    /// As [`Walker::walk`]; the nodes must exist.
    #[inline(always)]
    unsafe fn begin<L: Lanes>(&mut self, links: &Links, entries: impl Iterator<Item = u32>, limits: &Limits) {
        let mut entries = entries.peekable();
        while entries.peek().is_some() {
            let mut some = Fresh {
                nodes: [0; DEGREE],
                count: 0,
            };
            for (to, node) in some.nodes.iter_mut().zip(entries.by_ref()) {
                *to = node;
                some.count += 1;
                self.seen[node as usize / 32] |= 1 << (node % 32);
                self.met.push(node);
            }
            // SAFETY: as the caller promises.
            unsafe { self.enter::<L>(links, &some, limits, 0) };
        }
    }

    /// Puts what was found in each layer into the beam, the best of each document.
    fn gather_apart(&mut self, layers: u32, width: usize) {
        let mut found = std::mem::take(&mut self.found_apart);
        found.sort_unstable_by(|a, b| b.cmp(a));
        for &key in &found {
            if self.sibling_of(node_of(key), layers).is_some() {
                self.seconds.push(key);
            } else if self.beam.len() < width {
                self.beam.push(key);
            }
        }
        found.clear();
        self.found_apart = found;
    }

    /// Leaves nodes of the beam until nothing near enough is left.
    ///
    /// # Safety
    /// As [`Walker::walk`].
    #[inline(always)]
    unsafe fn go_on<L: Lanes>(&mut self, links: &Links, limits: &Limits) {
        let mut waiting = Fresh {
            nodes: [0; DEGREE],
            count: 0,
        };
        let mut at = 0;
        loop {
            while at < self.beam.len() && self.beam[at] & LEFT != 0 {
                at += 1;
            }
            let bar = self.bar(limits);
            let next = self
                .beam
                .get_mut(at)
                .filter(|key| score_of(**key) >= bar)
                .map(|key| {
                    *key |= LEFT;
                    node_of(*key)
                });
            let Some(node) = next else {
                if waiting.count == 0 {
                    break;
                }
                // SAFETY: what waits are nodes of the graph.
                at = at.min(unsafe { self.enter::<L>(links, &waiting, limits, at) });
                waiting.count = 0;
                continue;
            };
            if self.keep_trail {
                self.trail.push(node);
            }
            if let Some(&key) = self.beam.get(at + 1) {
                links.fetch_neighbours(node_of(key));
            }
            // SAFETY: as the caller promises.
            let fresh = unsafe { self.fresh::<L>(links, node) };
            links.fetch_heads(&fresh.nodes[..fresh.count]);
            // SAFETY: what waits are nodes of the graph.
            at = at.min(unsafe { self.enter::<L>(links, &waiting, limits, at) });
            waiting = fresh;
        }
    }

    /// The score that a node must have to be near enough.
    #[inline(always)]
    fn bar(&self, limits: &Limits) -> f32 {
        let last = self.beam.get(limits.rank - 1).map(|&last| score_of(last));
        let last = match last {
            // Infinitely many times no distance at all would be no number.
            Some(last) if limits.reach.is_finite() => last,
            _ => return f32::NEG_INFINITY,
        };
        let distance = (1.0 - last).max(ERRORS * self.query.errors[0]);
        last - (limits.reach - 1.0) * distance
    }

    /// Nothing has been seen.
    fn forget(&mut self, nodes: usize) {
        let words = nodes.div_ceil(32);
        if self.seen.len() != words || self.met.len() > words {
            self.seen.clear();
            self.seen.resize(words, 0);
        } else {
            for &node in &self.met {
                self.seen[node as usize / 32] = 0;
            }
        }
        self.met.clear();
    }

    /// The neighbours of a node that were not seen; now they are.
    ///
    /// # Safety
    /// As [`Walker::walk`].
    #[inline(always)]
    unsafe fn fresh<L: Lanes>(&mut self, links: &Links, node: u32) -> Fresh {
        let mut fresh = Fresh {
            nodes: [0; DEGREE],
            count: 0,
        };
        let (neighbours, _) = links.neighbours.as_chunks::<DEGREE>();
        // SAFETY: the caller promises the instructions; there is a bit for each node, of which there are less than
        // 2³¹.
        fresh.count = unsafe {
            let own = &neighbours[node as usize];
            L::take_unseen(own, neighbours.len() as u32, &mut self.seen, &mut fresh.nodes)
        };
        self.met
            .extend_from_slice(&fresh.nodes[..fresh.count.min(DEGREE)]);
        fresh
    }

    /// Offers fresh nodes to the beam; returns the first place that changed. Those that come to within
    /// [`SOON`] of the place `near` get their neighbours fetched.
    ///
    /// # Safety
    /// As [`Walker::walk`]; the fresh nodes must exist.
    #[inline(always)]
    unsafe fn enter<L: Lanes>(
        &mut self,
        links: &Links,
        fresh: &Fresh,
        limits: &Limits,
        near: usize,
    ) -> usize {
        let mut changed = usize::MAX;
        let scale = self.query.head_scale;
        for from in (0..fresh.count).step_by(LANES) {
            let count = (fresh.count - from).min(LANES);
            let mut at = [0u32; LANES];
            // Behind the fresh nodes are nodes too.
            at.copy_from_slice(&fresh.nodes[from..][..LANES]);
            // SAFETY: the nodes exist.
            let sums = unsafe { L::heads(links.first, links.basis.head, &at, count, &self.query.head) };
            self.read[0] += count as u64;
            let worst = self.bar(limits).max(self.worst(limits));
            let margin = if links.basis.head_suffices {
                0.0
            } else {
                self.query.margin
            };
            let bar = worst - self.query.head_base - margin;
            // SAFETY: the caller promises the instructions.
            let mut mask = unsafe { L::reaching(&sums, scale, bar) } & ((1u64 << count) - 1) as u32;
            if !links.basis.head_suffices {
                let mut ahead = mask;
                while ahead != 0 {
                    links.fetch_high(at[ahead.trailing_zeros() as usize] as usize);
                    ahead &= ahead - 1;
                }
            }
            while mask != 0 {
                let lane = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                // SAFETY: the node exists.
                let score = unsafe { self.complete::<L>(links, at[lane] as usize, sums[lane]) };
                // SAFETY: the caller promises the instructions.
                changed = changed.min(unsafe { self.offer::<L>(links, score, at[lane], limits.width, near) });
            }
        }
        changed
    }

    /// The score that a node must exceed to be kept.
    #[inline(always)]
    fn worst(&self, limits: &Limits) -> f32 {
        match self.beam.last() {
            Some(&last) if self.beam.len() >= limits.width => score_of(last),
            _ => f32::NEG_INFINITY,
        }
    }

    /// The estimate of a node whose head is known.
    ///
    /// # Safety
    /// As [`Walker::walk`]; `node` must exist.
    #[inline(always)]
    unsafe fn complete<L: Lanes>(&mut self, links: &Links, node: usize, sum: i32) -> f32 {
        if links.basis.head_suffices {
            return self.query.head_base + self.query.head_scale * sum as f32;
        }
        self.read[1] += 1;
        // SAFETY: the query has 128 components for each line of the code.
        let high = unsafe { L::span(links.rest_of(node).0, &self.query.whole) };
        self.query.base + self.query.scale * high as f32
    }

    /// The estimate of a node by all bits of its code.
    ///
    /// # Safety
    /// As [`Walker::walk`]; `node` must exist.
    #[inline(always)]
    pub unsafe fn by_all_bits<L: Lanes>(&self, links: &Links, node: usize) -> f32 {
        let (high, low) = links.rest_of(node);
        let query = &self.query;
        // SAFETY: the query has 128 components for each line of high halves, of which there are at most two to one of low
        // bits.
        let [high, low] = unsafe { [L::span(high, &query.whole), L::low(low, &query.whole)] };
        query.fine_base + query.scale * (high as f32 + 0.25 * low as f32)
    }

    /// Puts a node into the beam, if it belongs there; returns its place.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`.
    #[inline(always)]
    unsafe fn offer<L: Lanes>(
        &mut self,
        links: &Links,
        score: f32,
        node: u32,
        width: usize,
        near: usize,
    ) -> usize {
        let key = key(score, node);
        if self.beam.len() >= width && self.beam.last().is_none_or(|&last| key <= last) {
            return usize::MAX;
        }
        let sibling = match links.layers {
            1 => None,
            layers => self.sibling_of(node, layers as u32),
        };
        let end = match sibling {
            Some(place) if self.beam[place] >= key => {
                self.seconds.push(key);
                return usize::MAX;
            }
            // It falls out.
            Some(place) => {
                self.seconds.push(self.beam[place]);
                place + 1
            }
            None => {
                if self.beam.len() < width {
                    self.beam.push(0);
                }
                self.beam.len()
            }
        };
        // SAFETY: the caller promises the instructions.
        let place = unsafe { insert_key::<L>(&mut self.beam[..end], key) };
        if place <= near.saturating_add(SOON) {
            links.fetch_neighbours(node);
        }
        place
    }

    /// The place of another vector of a node's document.
    #[inline(always)]
    fn sibling_of(&self, node: u32, layers: u32) -> Option<usize> {
        let first = node / layers * layers;
        let was_seen = |node: u32| self.seen[node as usize / 32] >> (node % 32) & 1 == 1;
        let mut siblings = (first..first + layers).filter(|&sibling| sibling != node);
        if !siblings.any(was_seen) {
            return None;
        }
        self.beam
            .iter()
            .position(|&key| node_of(key).wrapping_sub(first) < layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::basis::Basis;
    use crate::graph::lanes::Portable;
    use crate::numbers::Numbers;

    #[test]
    fn each_document_is_kept_once_by_the_best_of_its_vectors() {
        let basis = Basis::of(&[0.0, 1.0], 1);
        let links = Links {
            basis: &basis,
            layers: 3,
            is_apart: false,
            first: &[],
            rest: &[],
            doubts: &[],
            neighbours: &[],
        };
        let mut walker = Walker::new();
        let mut numbers = Numbers(5);
        for width in [1, 2, 7, 40] {
            walker.beam.clear();
            walker.seconds.clear();
            walker.seen = vec![0; 3];
            let mut best = [f32::NEG_INFINITY; 30];
            for node in 0..90 {
                // A bijection of the ninety, so that each is seen once.
                let (score, node) = (numbers.below(1000) as f32, node * 7 % 90);
                walker.seen[node as usize / 32] |= 1 << (node % 32);
                // SAFETY: plain Rust runs everywhere; there is a bit for each of the nodes.
                unsafe { walker.offer::<Portable>(&links, score, node, width, 0) };
                let own = &mut best[node as usize / 3];
                *own = own.max(score);
                let mut expected: Vec<f32> = best.iter().copied().filter(|score| score.is_finite()).collect();
                expected.sort_by(|a, b| b.total_cmp(a));
                expected.truncate(width);
                let scores: Vec<f32> = walker.found().map(|(score, _)| score).collect();
                assert_eq!(scores, expected);
                let mut documents: Vec<u32> = walker.found().map(|(_, node)| node / 3).collect();
                documents.sort_unstable();
                documents.dedup();
                assert_eq!(documents.len(), expected.len());
            }
            if width >= 30 {
                let mut all: Vec<u32> = walker
                    .found()
                    .chain(walker.seconds())
                    .map(|(_, node)| node)
                    .collect();
                all.sort_unstable();
                assert!(
                    all.into_iter().eq(0..90),
                    "no vector of a document that is kept is forgotten"
                );
            }
        }
    }
}
