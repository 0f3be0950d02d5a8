//! Where a walk begins: of a shell's entries some that lie near the query.
//!
//! A walk from anywhere spends a good part of its time on coming near. Entries lie together in memory and are told by a
//! few components, for which many of them take less time than the hops that they save.

use super::build::SMALL;
use super::lanes::{FINE, LANES, Lanes, Line, interleave};
use super::links::Shell;

/// Entries that are chosen.
const CHOSEN: usize = LANES;

/// The entries of a shell, by the components of four bits of their heads' first lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    first: u32,
    blocks: Vec<i8>,
    sums: Vec<i32>,
}

impl Entries {
    /// Those of a shell, whose nodes' heads, of `each` lines, are in `heads`. What is left behind the last
    /// whole [`CHOSEN`] is left out.
    pub fn of(shell: &Shell, heads: &[Line], each: usize) -> Entries {
        let count = shell.entries as usize / CHOSEN * CHOSEN;
        let from = shell.first as usize;
        let rows: Vec<[i8; FINE]> = (from..from + count)
            .map(|node| fine(&heads[node * each]))
            .collect();
        let (blocks, sums) = interleave(rows.iter().map(|row| &row[..]), FINE);
        Entries {
            first: shell.first,
            blocks,
            sums,
        }
    }

    /// Whether there are so many that some are left out: a small shell's are all of it, to be read whole.
    pub fn are_many(&self) -> bool {
        self.sums.len() > SMALL
    }

    /// Of every [`CHOSEN`]th of the entries that `counts` takes the nearest one to a query, of which `query` `[64]` has the
    /// first components. `products` is room.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`.
    #[inline(always)]
    pub unsafe fn nearest<L: Lanes, C: Fn(u32) -> bool>(
        &self,
        query: &[i8],
        counts: C,
        products: &mut Vec<i32>,
    ) -> impl Iterator<Item = u32> + use<L, C> {
        products.resize(self.sums.len(), 0);
        // SAFETY: the caller promises the instructions; the lengths fit.
        unsafe { L::products(&query[..FINE], FINE, &self.blocks, &self.sums, products) };
        let mut best = [i32::MIN; CHOSEN];
        let mut nodes = [u32::MAX; CHOSEN];
        for (block, products) in products.as_chunks::<CHOSEN>().0.iter().enumerate() {
            for (lane, &product) in products.iter().enumerate() {
                let node = self.first + (block * CHOSEN + lane) as u32;
                let is_nearer = product > best[lane] && counts(node);
                best[lane] = if is_nearer { product } else { best[lane] };
                nodes[lane] = if is_nearer { node } else { nodes[lane] };
            }
        }
        nodes.into_iter().filter(|&node| node != u32::MAX)
    }
}

/// The components of four bits of a line of a head.
fn fine(line: &Line) -> [i8; FINE] {
    let byte = |i: usize| line.0[i % (FINE / 2)];
    std::array::from_fn(|i| (if i < FINE / 2 { byte(i) & 15 } else { byte(i) >> 4 }) as i8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::lanes::Portable;
    use crate::numbers::Numbers;

    #[test]
    fn the_nearest_of_each_part_is_found() {
        let mut numbers = Numbers(3);
        let heads: Vec<Line> = (0..800)
            .map(|_| Line(std::array::from_fn(|_| numbers.below(256) as u8)))
            .collect();
        let shell = Shell {
            first: 20,
            count: 360,
            // What is behind the last whole part of each is left out.
            entries: 300,
            norm: 1.0,
        };
        let entries = Entries::of(&shell, &heads, 2);
        assert!(entries.are_many());
        let query: Vec<i8> = (0..FINE)
            .map(|_| (numbers.below(255) as i32 - 127) as i8)
            .collect();
        let product = |node: usize| -> i32 {
            let line = heads[2 * node].0;
            let below = line[..32].iter().map(|byte| byte & 15);
            let above = line[..32].iter().map(|byte| byte >> 4);
            let pairs = below.chain(above).zip(&query);
            pairs
                .map(|(part, &asked)| i32::from(part) * i32::from(asked))
                .sum()
        };
        // All of them; those of one layer of three; and none.
        for layers in [1, 3, 1000] {
            let counts = |node: u32| node.is_multiple_of(layers);
            // SAFETY: plain Rust runs everywhere.
            let found = unsafe { entries.nearest::<Portable, _>(&query, counts, &mut Vec::new()) };
            let of_lane = |lane: usize| {
                let nodes = (20 + lane..20 + 288).step_by(CHOSEN);
                nodes
                    .filter(|&node| counts(node as u32))
                    .max_by_key(|&node| product(node))
            };
            let expected: Vec<u32> = (0..CHOSEN).filter_map(of_lane).map(|node| node as u32).collect();
            assert!(found.eq(expected));
        }
    }
}
