//! Walking a graph: from the entries to the nodes whose codes promise the largest scores.

use super::basis::Basis;
use super::lanes::{LANES, Lanes, Line};
use super::query::CodedQuery;

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
    /// `[nodes, layers]` first lines.
    pub first: &'a [Line],
    /// `[nodes, layers, lines − 1]` the other lines.
    pub rest: &'a [Line],
    /// `[nodes, layers, lines]` the low halves.
    pub low: &'a [Line],
    /// `[nodes, DEGREE]`, filled up with [`NONE`].
    pub neighbours: &'a [u32],
}

/// The memory of a walk, kept from one to the next.
#[derive(Debug)]
pub(super) struct Walker {
    pub query: CodedQuery,
    /// Best first: the estimate's order in the upper half, then the node and whether it was left.
    beam: Vec<u64>,
    seen: Vec<u8>,
    round: u8,
    /// The nodes left by the last walk.
    pub trail: Vec<u32>,
    pub keep_trail: bool,
    /// Vectors whose first line, and whose other lines, were read.
    pub read: [u64; 2],
}

const LEFT: u64 = 1;

fn key(score: f32, node: u32) -> u64 {
    let bits = score.to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(!node & 0x7fff_ffff) << 1
}

fn node_of(key: u64) -> u32 {
    !(key as u32 >> 1) & 0x7fff_ffff
}

fn score_of(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    })
}

#[inline(always)]
pub(super) fn prefetch<T>(slice: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64; a prefetch of any address reads nothing a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, at);
}

impl Walker {
    pub fn new() -> Walker {
        Walker {
            query: CodedQuery::new(),
            beam: Vec::new(),
            seen: Vec::new(),
            round: 0,
            trail: Vec::new(),
            keep_trail: false,
            read: [0; 2],
        }
    }

    /// The nodes found, with their estimates, best first.
    pub fn found(&self) -> impl Iterator<Item = (f32, u32)> {
        self.beam.iter().map(|&key| (score_of(key), node_of(key)))
    }

    /// Walks `shell` with a beam of `width` nodes, comparing the query with the vectors `layers`. The
    /// estimates are over the shell's norm.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`; `first` and `rest` must be as long as `neighbours` asks for.
    #[inline(always)]
    pub unsafe fn walk<L: Lanes>(&mut self, links: &Links, shell: &Shell, width: usize, layers: &[u32]) {
        self.beam.clear();
        self.trail.clear();
        let nodes = links.neighbours.len() / DEGREE;
        if self.seen.len() != nodes || self.round == u8::MAX {
            self.seen.clear();
            self.seen.resize(nodes, 0);
            self.round = 0;
        }
        self.round += 1;
        let round = self.round;
        let mut fresh = [0u32; DEGREE];
        let mut at = 0;
        let entries: Vec<u32> = (shell.first..shell.first + shell.entries).collect();
        for entries in entries.chunks(DEGREE) {
            for &node in entries {
                self.seen[node as usize] = round;
            }
            // SAFETY: entries are nodes of the graph.
            unsafe { self.enter::<L>(links, entries, width, layers) };
        }
        loop {
            while at < self.beam.len() && self.beam[at] & LEFT != 0 {
                at += 1;
            }
            let Some(key) = self.beam.get_mut(at) else { break };
            *key |= LEFT;
            let node = node_of(*key) as usize;
            if self.keep_trail {
                self.trail.push(node as u32);
            }
            if let Some(&next) = self.beam.get(at + 1) {
                let next = node_of(next) as usize;
                prefetch(links.neighbours, next * DEGREE);
                prefetch(links.neighbours, next * DEGREE + 16);
            }
            let seen = &mut self.seen[..nodes];
            let mut count = 0;
            for &neighbour in &links.neighbours[node * DEGREE..][..DEGREE] {
                // No neighbour, and also what a damaged file would hold.
                let Some(seen) = seen.get_mut(neighbour as usize) else {
                    break;
                };
                fresh[count % DEGREE] = neighbour;
                count += usize::from(*seen != round);
                *seen = round;
            }
            // SAFETY: these are nodes of the graph.
            let first = unsafe { self.enter::<L>(links, &fresh[..count.min(DEGREE)], width, layers) };
            at = first.min(at);
        }
    }

    /// Offers the fresh nodes to the beam; returns the first place that changed.
    ///
    /// # Safety
    /// As [`Walker::walk`]; the fresh nodes must exist.
    #[inline(always)]
    unsafe fn enter<L: Lanes>(
        &mut self,
        links: &Links,
        fresh: &[u32],
        width: usize,
        layers: &[u32],
    ) -> usize {
        let mut changed = usize::MAX;
        let rest_lines = links.basis.lines - 1;
        let per_batch = LANES / layers.len().min(LANES);
        if layers.len() > LANES {
            // More layers than lanes: one after the other.
            for &node in fresh {
                let mut best = f32::NEG_INFINITY;
                for &layer in layers {
                    let line = node as usize * links.layers + layer as usize;
                    // SAFETY: the node exists, and so does its layer.
                    best = best.max(unsafe { self.whole::<L>(links, line) });
                }
                changed = changed.min(self.offer(best, node, width));
            }
        } else {
            for &node in fresh {
                for &layer in layers {
                    prefetch(links.first, node as usize * links.layers + layer as usize);
                }
            }
            for batch in fresh.chunks(per_batch) {
                let mut at = [0u32; LANES];
                let mut filled = 0;
                for &node in batch {
                    for &layer in layers {
                        at[filled] = node * links.layers as u32 + layer;
                        filled += 1;
                    }
                }
                let last = at[filled.saturating_sub(1)];
                at[filled..].fill(last);
                // SAFETY: the nodes exist, and so do their layers.
                let sums = unsafe { L::first(links.first, &at, &self.query) };
                self.read[0] += filled as u64;
                let worst = if self.beam.len() < width {
                    f32::NEG_INFINITY
                } else {
                    self.beam.last().map_or(f32::NEG_INFINITY, |&key| score_of(key))
                };
                let bar = worst - self.query.base - self.query.margin;
                let scale = self.query.scales[0];
                let mut mask = 0u32;
                let reaches = sums.map(|sum| u32::from(sum as f32 * scale >= bar));
                for (lane, reaches) in reaches.into_iter().enumerate() {
                    mask |= reaches << lane;
                }
                mask &= ((1u64 << filled) - 1) as u32;
                let mut ahead = mask;
                while ahead != 0 && rest_lines > 0 {
                    let line = at[ahead.trailing_zeros() as usize] as usize * rest_lines;
                    ahead &= ahead - 1;
                    for next in 0..rest_lines.min(4) {
                        prefetch(links.rest, line + next);
                    }
                }
                if layers.len() == 1 {
                    while mask != 0 {
                        let lane = mask.trailing_zeros() as usize;
                        mask &= mask - 1;
                        // SAFETY: the line exists.
                        let score = unsafe { self.complete::<L>(links, at[lane] as usize, sums[lane]) };
                        changed = changed.min(self.offer(score, batch[lane], width));
                    }
                } else {
                    let each = (1u32 << layers.len()) - 1;
                    for (index, &node) in batch.iter().enumerate() {
                        let mut mine = mask >> (index * layers.len()) & each;
                        let mut best = f32::NEG_INFINITY;
                        while mine != 0 {
                            let lane = index * layers.len() + mine.trailing_zeros() as usize;
                            mine &= mine - 1;
                            // SAFETY: the line exists.
                            best =
                                best.max(unsafe { self.complete::<L>(links, at[lane] as usize, sums[lane]) });
                        }
                        if best > f32::NEG_INFINITY {
                            changed = changed.min(self.offer(best, node, width));
                        }
                    }
                }
            }
        }
        changed
    }

    /// The estimate of a vector whose first line is known.
    ///
    /// # Safety
    /// As [`Walker::walk`].
    #[inline(always)]
    unsafe fn complete<L: Lanes>(&mut self, links: &Links, line: usize, sum: i32) -> f32 {
        let rest = links.basis.lines - 1;
        let mut score = self.query.base + self.query.scales[0] * sum as f32;
        if rest > 0 {
            self.read[1] += 1;
            let lines = &links.rest[line * rest..][..rest];
            // SAFETY: the query has 128 components for each line of the code.
            score += self.query.scales[1] * unsafe { L::rest(lines, &self.query) } as f32;
        }
        score
    }

    /// The estimate of a vector.
    ///
    /// # Safety
    /// As [`Walker::walk`]; `line` must exist.
    #[inline(always)]
    unsafe fn whole<L: Lanes>(&mut self, links: &Links, line: usize) -> f32 {
        // SAFETY: the line exists.
        let sums = unsafe { L::first(links.first, &[line as u32; LANES], &self.query) };
        // SAFETY: as above.
        unsafe { self.complete::<L>(links, line, sums[0]) }
    }

    /// The estimate of a vector by both halves of its code.
    ///
    /// # Safety
    /// As [`Walker::walk`]; `line` must exist.
    #[inline(always)]
    pub unsafe fn both<L: Lanes>(&mut self, links: &Links, line: usize) -> f32 {
        let rest = links.basis.lines - 1;
        let [scale, rest_scale] = self.query.scales;
        // SAFETY: the line exists, and the query has 128 components for each line of the code.
        unsafe {
            let first = L::one(&links.first[line], &self.query.first.0) as f32 * scale;
            let rest = L::rest(&links.rest[line * rest..][..rest], &self.query) as f32 * rest_scale;
            self.query.base + first + rest + self.finer::<L>(links, line)
        }
    }

    /// What the low halves of a vector add to its estimate.
    ///
    /// # Safety
    /// As [`Walker::walk`]; `line` must exist.
    #[inline(always)]
    unsafe fn finer<L: Lanes>(&self, links: &Links, line: usize) -> f32 {
        let lines = &links.low[line * links.basis.lines..][..links.basis.lines];
        // SAFETY: the query has 128 components for each line of the code.
        let (first, rest) = unsafe {
            (
                L::one(&lines[0], &self.query.first.0),
                L::rest(&lines[1..], &self.query),
            )
        };
        let [scale, rest_scale] = self.query.scales;
        (scale * first as f32 + rest_scale * rest as f32) / 16.0 + self.query.low_base
    }

    /// Puts a node into the beam, if it belongs there; returns its place.
    #[inline(always)]
    fn offer(&mut self, score: f32, node: u32, width: usize) -> usize {
        let key = key(score, node);
        if self.beam.len() < width {
            self.beam.push(0);
        } else if self.beam.last().is_none_or(|&last| key <= last) {
            return usize::MAX;
        }
        // The last one falls out. Most come in near the end.
        let mut place = self.beam.len() - 1;
        while place >= 8 && self.beam[place - 8] < key {
            self.beam.copy_within(place - 8..place, place - 7);
            place -= 8;
        }
        while place > 0 && self.beam[place - 1] < key {
            self.beam[place] = self.beam[place - 1];
            place -= 1;
        }
        self.beam[place] = key;
        place
    }
}
