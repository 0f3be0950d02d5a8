//! What a walk reads: codes and edges, where they lie, and fetching them ahead.

use super::basis::Basis;
use super::lanes::Line;
use super::points::Doubt;
use crate::dispatch::prefetch_line;

/// Neighbours of a node.
pub(super) const DEGREE: usize = 32;

/// No neighbour.
pub(super) const NONE: u32 = u32::MAX;

/// Documents of about one norm, all vectors of each, with edges among themselves. Numbers are of nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shell {
    pub first: u32,
    pub count: u32,
    /// The first so many nodes are those at which a walk can begin.
    pub entries: u32,
    /// No vector in it is longer.
    pub norm: f32,
}

/// What a walk reads.
#[derive(Clone, Copy)]
pub(super) struct Links<'a> {
    pub basis: &'a Basis,
    /// Nodes of a document, which follow one another.
    pub layers: usize,
    /// Whether layers lie apart, with hardly an edge from one to another.
    pub is_apart: bool,
    /// `[nodes, head]` the lines that a walk reads.
    pub first: &'a [Line],
    /// `[nodes, lines + ⌈lines / 2⌉]` the high halves, and the low bits.
    pub rest: &'a [Line],
    /// `[nodes]` where documents have several vectors: how far codes are off.
    pub doubts: &'a [Doubt],
    /// `[nodes, DEGREE]`, filled up with [`NONE`].
    pub neighbours: &'a [u32],
}

/// Fetches the cache line of an element, which need not exist.
#[inline(always)]
fn prefetch<T>(slice: &[T], at: usize) {
    prefetch_line(slice.as_ptr().wrapping_add(at).cast());
}

impl Links<'_> {
    /// What is beside the head: the high halves, and the low bits.
    #[inline(always)]
    pub fn rest_of(&self, node: usize) -> (&[Line], &[Line]) {
        let rest = self.basis.rest();
        self.rest[node * rest..][..rest].split_at(self.basis.lines)
    }

    #[inline(always)]
    pub fn fetch_neighbours(&self, node: u32) {
        prefetch(self.neighbours, node as usize * DEGREE);
        prefetch(self.neighbours, node as usize * DEGREE + DEGREE / 2);
    }

    #[inline(always)]
    pub fn fetch_heads(&self, nodes: &[u32]) {
        let head = self.basis.head;
        for &node in nodes {
            prefetch(self.first, node as usize * head);
            if head > 1 {
                prefetch(self.first, node as usize * head + 1);
            }
        }
    }

    /// The high halves.
    #[inline(always)]
    pub fn fetch_high(&self, node: usize) {
        self.fetch_beside(node, self.basis.lines);
    }

    /// How far codes are off, of as many nodes as a cache line tells of.
    #[inline(always)]
    pub fn fetch_doubts(&self, node: usize) {
        prefetch(self.doubts, node);
    }

    /// The high halves, and the low bits.
    #[inline(always)]
    pub fn fetch_whole(&self, node: usize) {
        self.fetch_beside(node, self.basis.rest());
    }

    #[inline(always)]
    fn fetch_beside(&self, node: usize, lines: usize) {
        for line in 0..lines.min(8) {
            prefetch(self.rest, node * self.basis.rest() + line);
        }
    }
}
