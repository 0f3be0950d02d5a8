//! What a walk reads: codes and edges, where they lie, and fetching them ahead.

use super::basis::Basis;
use super::lanes::Line;
use crate::dispatch::prefetch_line;

/// Neighbours of a node.
pub(super) const DEGREE: usize = 32;

/// No neighbour.
pub(super) const NONE: u32 = u32::MAX;

/// Nodes of about one norm, with edges among themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shell {
    pub first: u32,
    pub count: u32,
    /// The first so many nodes are where a walk begins.
    pub entries: u32,
    /// No vector in it is longer.
    pub norm: f32,
}

/// What a walk reads.
#[derive(Clone, Copy)]
pub(super) struct Links<'a> {
    pub basis: &'a Basis,
    /// Vectors of a node.
    pub layers: usize,
    /// `[nodes, layers, head]` the lines that a walk reads.
    pub first: &'a [Line],
    /// `[nodes, layers, lines − head + lines]` the other lines, and the low halves.
    pub rest: &'a [Line],
    /// `[nodes, DEGREE]`, filled up with [`NONE`].
    pub neighbours: &'a [u32],
}

/// Fetches the cache line of an element, which need not exist.
#[inline(always)]
fn prefetch<T>(slice: &[T], at: usize) {
    prefetch_line(slice.as_ptr().wrapping_add(at).cast());
}

impl Links<'_> {
    #[inline(always)]
    pub fn head_of(&self, vector: usize) -> &[Line] {
        &self.first[vector * self.basis.head..][..self.basis.head]
    }

    /// What is beside the head: the other lines of the high halves, and the low halves.
    #[inline(always)]
    pub fn rest_of(&self, vector: usize) -> (&[Line], &[Line]) {
        let rest = self.basis.rest();
        self.rest[vector * rest..][..rest].split_at(self.basis.lines - self.basis.head)
    }

    #[inline(always)]
    pub fn fetch_neighbours(&self, node: u32) {
        prefetch(self.neighbours, node as usize * DEGREE);
        prefetch(self.neighbours, node as usize * DEGREE + DEGREE / 2);
    }

    #[inline(always)]
    pub fn fetch_heads(&self, nodes: &[u32], layers: &[u32]) {
        let head = self.basis.head;
        let fetch = |vector: usize| {
            prefetch(self.first, vector * head);
            if head > 1 {
                prefetch(self.first, vector * head + 1);
            }
        };
        if self.layers == 1 {
            nodes.iter().for_each(|&node| fetch(node as usize));
        } else {
            for &node in nodes {
                for &layer in layers {
                    fetch(node as usize * self.layers + layer as usize);
                }
            }
        }
    }

    /// The other lines of the high halves.
    #[inline(always)]
    pub fn fetch_rest(&self, vector: usize) {
        self.fetch_beside(vector, self.basis.lines - self.basis.head);
    }

    /// Those and the low halves.
    #[inline(always)]
    pub fn fetch_whole(&self, vector: usize) {
        self.fetch_beside(vector, self.basis.rest());
    }

    #[inline(always)]
    fn fetch_beside(&self, vector: usize, lines: usize) {
        for line in 0..lines.min(8) {
            prefetch(self.rest, vector * self.basis.rest() + line);
        }
    }
}
