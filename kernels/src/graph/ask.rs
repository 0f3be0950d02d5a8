//! What can be asked of a graph, and what comes back.

use std::cmp::Ordering;

use super::links::Links;
use super::sections::{Graph, GraphSections};
use crate::dispatch::prefetch;
use crate::{Candidate, Counters, Instructions, Plane};

/// What is asked of a graph.
#[derive(Clone, Copy)]
pub struct GraphSearch<'a> {
    pub(super) k: usize,
    pub(super) width: usize,
    pub(super) floor: f64,
    pub(super) floors: Option<&'a [f64]>,
    pub(super) live: Option<(&'a [u64], usize)>,
    pub(super) counters: Option<&'a Counters>,
    pub(super) order: &'a (dyn Fn(u32, u32) -> Ordering + Sync),
    pub(super) instructions: Option<Instructions>,
}

impl<'a> GraphSearch<'a> {
    /// The best `k` rows, by walks that keep at most `width` documents: the wider, the surer and the slower. A walk of at
    /// least as many as the graph has comes to all of them.
    pub fn new(k: usize, width: usize) -> Self {
        GraphSearch {
            k,
            width: width.max(k).max(1),
            floor: f64::NEG_INFINITY,
            floors: None,
            live: None,
            counters: None,
            order: &|a, b| a.cmp(&b),
            instructions: None,
        }
    }

    /// How near to the k-th another must be, in times of that one's distance: what gives the same recall in the least time,
    /// on sentence vectors of 384 components, a hundred thousand and a million.
    pub(super) fn reach(&self) -> f32 {
        1.0 + 0.01 * (self.width as f32).sqrt()
    }

    /// Standard deviations that an estimate is taken to be off at most: a walk's, and one by all bits. A narrow walk misses
    /// so much that to doubt less loses nothing.
    pub(super) fn doubts(&self) -> [f32; 2] {
        [2.5 + 0.12 * (self.width as f32).sqrt(), 2.5]
    }

    /// Only rows that score at least `floor`.
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// A floor for each query of a batch, in place of [`GraphSearch::floor`].
    pub fn floors(mut self, floors: &'a [f64]) -> Self {
        self.floors = Some(floors);
        self
    }

    /// Only rows whose bit is set, as [`crate::Options::live`], and how many those are. Walks are made
    /// wider by the share that is missing.
    pub fn live(mut self, live: &'a [u64], count: usize) -> Self {
        self.live = Some((live, count));
        self
    }

    /// As [`crate::Options::counters`].
    pub fn counters(mut self, counters: &'a Counters) -> Self {
        self.counters = Some(counters);
        self
    }

    /// As [`crate::Options::order`].
    pub fn order(mut self, order: &'a (dyn Fn(u32, u32) -> Ordering + Sync)) -> Self {
        self.order = order;
        self
    }

    /// Use these instructions, for tests. The answer is the same with all of them.
    pub fn instructions(mut self, instructions: Instructions) -> Self {
        self.instructions = Some(instructions);
        self
    }
}

impl std::fmt::Debug for GraphSearch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphSearch")
            .field("k", &self.k)
            .field("width", &self.width)
            .field("floor", &self.floor)
            .finish_non_exhaustive()
    }
}

/// The answer to one query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GraphAnswer {
    /// The best rows, best first.
    pub candidates: Vec<Candidate>,
    /// Documents that its walks kept.
    pub kept: usize,
    /// How many of those have live rows. When it is less than their share of all, live rows may have been missed, because
    /// they lie elsewhere than the query.
    pub live: usize,
    /// Whether it ended because nothing that was left could score enough.
    pub ended_early: bool,
}

/// What is asked for, checked.
pub(super) struct Ask<'a> {
    pub graph: &'a Graph,
    pub sections: &'a GraphSections<'a>,
    pub planes: &'a [Plane<'a>],
    pub queries: &'a [f32],
    pub options: &'a GraphSearch<'a>,
    pub rows: usize,
}

impl Ask<'_> {
    pub fn is_live(&self, row: u32) -> bool {
        let is_set = |(live, _): (&[u64], usize)| live[row as usize / 64] >> (row % 64) & 1 == 1;
        (row as usize) < self.rows && self.options.live.is_none_or(is_set)
    }

    /// The document whose vector a node is.
    pub fn document(&self, node: u32) -> u32 {
        match self.graph.layers {
            // Most have one, and dividing takes a while.
            1 => node,
            layers => node / layers as u32,
        }
    }

    /// The rows of a document: rows with equal vectors are one.
    pub fn rows_of(&self, document: u32) -> impl Iterator<Item = u32> {
        let twins = &self.graph.twins;
        let from = twins.partition_point(|&[of, _]| of < document);
        let twins = twins[from..].iter().take_while(move |&&[of, _]| of == document);
        std::iter::once(Graph::row(self.sections, document)).chain(twins.map(|&[_, row]| row))
    }

    /// Fetches a node's vector, and the codes of its siblings.
    pub fn fetch(&self, links: &Links, node: u32) {
        let row = Graph::row(self.sections, self.document(node));
        if self.is_live(row) {
            let own = node as usize % self.planes.len();
            prefetch(self.planes[own].row_bytes(row as usize));
            if self.planes.len() > 1 {
                links.fetch_doubts(node as usize - own);
            }
            for layer in (0..self.planes.len()).filter(|&layer| layer != own) {
                let sibling = node as usize - own + layer;
                links.fetch_whole(sibling);
            }
        }
    }
}
