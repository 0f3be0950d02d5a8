//! Where a walk begins: of a shell's entries some that lie near the query.
//!
//! A walk from anywhere spends a good part of its time on coming near. Entries lie together in memory and are told by a
//! few components, for which many of them take less time than the hops that they save.

use std::ops::Range;

use super::build::SMALL;
use super::lanes::{FINE, LANES, Lanes, Line, interleave};
use super::links::{NONE, Shell};

/// Entries that are chosen.
const CHOSEN: usize = LANES;

/// More entries than so many are put into groups of entries that lie near each other, so many in each; those of so many
/// groups, which lie the nearest, are looked at.
const UNGROUPED: usize = 1024;
const GROUP: usize = 4 * LANES;
const LOOKED_AT: usize = 4;

/// Groups at most: what is behind them is left out.
const GROUPS: usize = 1024;

/// How often the halves of a group are told anew by their middles.
const ROUNDS: usize = 3;

/// What a component of a middle is times those of entries.
const FINER: i32 = 8;

/// The entries of a shell, by the components of four bits of their heads' first lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    /// Filled up with [`NONE`], whose codes are zeros.
    nodes: Vec<u32>,
    codes: Columns,
    /// The middle of each group, if there are groups.
    middles: Columns,
}

/// Rows that are multiplied with a query together.
#[derive(Debug, Clone, Default)]
struct Columns {
    blocks: Vec<i8>,
    sums: Vec<i32>,
}

impl Columns {
    fn of<'a>(rows: impl ExactSizeIterator<Item = &'a [i8; FINE]>) -> Columns {
        let (blocks, sums) = interleave(rows.map(|row| &row[..]), FINE);
        Columns { blocks, sums }
    }

    /// Products of a query with columns from one multiple of [`LANES`] to another.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`.
    #[inline(always)]
    unsafe fn products<L: Lanes>(&self, query: &[i8], columns: Range<usize>, products: &mut [i32]) {
        let blocks = &self.blocks[columns.start * FINE..columns.end * FINE];
        // SAFETY: the caller promises the instructions; the lengths fit.
        unsafe { L::products(&query[..FINE], FINE, blocks, &self.sums[columns], products) };
    }
}

/// Room for products.
#[derive(Debug, Default)]
pub(super) struct Room {
    groups: Vec<i32>,
    products: Vec<i32>,
}

impl Entries {
    /// Those of a shell, whose nodes' heads, of `each` lines, are in `heads`; in groups where they are many, unless only some
    /// will `count`: these may be in none of the groups that are looked at.
    pub fn of(shell: &Shell, heads: &[Line], each: usize, all_count: bool) -> Entries {
        let count = (shell.entries as usize).min(GROUPS * GROUP);
        let from = shell.first as usize;
        let rows: Vec<[i8; FINE]> = (from..from + count)
            .map(|node| fine(&heads[node * each]))
            .collect();
        let mut order: Vec<u32> = (0..count as u32).collect();
        let mut middles = Vec::new();
        if all_count && count > UNGROUPED {
            divide(&rows, &mut order);
            let groups = order.chunks(GROUP);
            middles.extend(groups.map(|group| middle(&rows, group, FINER).map(|part| part as i8)));
        }
        let mut nodes: Vec<u32> = order.iter().map(|&at| shell.first + at).collect();
        let unit = if middles.is_empty() { CHOSEN } else { GROUP };
        nodes.resize(count.next_multiple_of(unit), NONE);
        let codes = nodes.iter().enumerate();
        let codes = codes.map(|(at, _)| order.get(at).map_or(&[0; FINE], |&at| &rows[at as usize]));
        Entries {
            codes: Columns::of(codes),
            middles: Columns::of(middles.iter()),
            nodes,
        }
    }

    /// Whether there are so many that some are left out: a small shell's are all of it, to be read whole.
    pub fn are_many(&self) -> bool {
        self.nodes.len() > SMALL
    }

    /// Some of the entries that `counts` takes that lie near a query, of which `query` `[64]` has the first components: of
    /// every [`CHOSEN`]th of all, or of those of the groups about it, the nearest one.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`.
    #[inline(always)]
    pub unsafe fn nearest<L: Lanes, C: Fn(u32) -> bool>(
        &self,
        query: &[i8],
        counts: C,
        room: &mut Room,
    ) -> impl Iterator<Item = u32> + use<L, C> {
        let mut best = Best::default();
        let Room { groups, products } = room;
        if self.middles.sums.is_empty() {
            products.resize(self.nodes.len(), 0);
            // SAFETY: the caller promises the instructions.
            unsafe { self.codes.products::<L>(query, 0..self.nodes.len(), products) };
            best.offer(&self.nodes, products, &counts);
        } else {
            groups.resize(self.middles.sums.len(), 0);
            // SAFETY: as above.
            unsafe { self.middles.products::<L>(query, 0..groups.len(), groups) };
            groups.truncate(self.nodes.len() / GROUP);
            // Below each product, which is less than 2²⁰, its group.
            for (group, product) in groups.iter_mut().enumerate() {
                *product = *product * GROUPS as i32 + group as i32;
            }
            products.resize(GROUP, 0);
            for _ in 0..LOOKED_AT {
                let nearest = groups.iter().copied().fold(i32::MIN, i32::max);
                let nearest = nearest as usize % GROUPS;
                groups[nearest] = i32::MIN;
                let group = nearest * GROUP..(nearest + 1) * GROUP;
                // SAFETY: as above.
                unsafe { self.codes.products::<L>(query, group.clone(), products) };
                best.offer(&self.nodes[group], products, &counts);
            }
        }
        best.nodes.into_iter().filter(|&node| node != NONE)
    }
}

/// Of every [`CHOSEN`]th of what was offered the one with the largest product.
struct Best {
    products: [i32; CHOSEN],
    nodes: [u32; CHOSEN],
}

impl Default for Best {
    #[inline(always)]
    fn default() -> Best {
        Best {
            products: [i32::MIN; CHOSEN],
            nodes: [NONE; CHOSEN],
        }
    }
}

impl Best {
    #[inline(always)]
    fn offer(&mut self, nodes: &[u32], products: &[i32], counts: impl Fn(u32) -> bool) {
        let (nodes, products) = (nodes.as_chunks::<CHOSEN>().0, products.as_chunks::<CHOSEN>().0);
        for (nodes, products) in nodes.iter().zip(products) {
            for lane in 0..CHOSEN {
                let is_nearer =
                    products[lane] > self.products[lane] && nodes[lane] != NONE && counts(nodes[lane]);
                self.products[lane] = if is_nearer {
                    products[lane]
                } else {
                    self.products[lane]
                };
                self.nodes[lane] = if is_nearer { nodes[lane] } else { self.nodes[lane] };
            }
        }
    }
}

/// So many times the mean of some rows.
fn middle(rows: &[[i8; FINE]], members: &[u32], times: i32) -> [i32; FINE] {
    let mut sums = [0i32; FINE];
    for &at in members {
        for (sum, &part) in sums.iter_mut().zip(&rows[at as usize]) {
            *sum += i32::from(part);
        }
    }
    sums.map(|sum| sum * times / members.len() as i32)
}

/// Puts rows that lie near each other into the same [`GROUP`], by halves: each is cut across where the middles of its two
/// halves lie apart.
fn divide(rows: &[[i8; FINE]], members: &mut [u32]) {
    if members.len() <= GROUP {
        return;
    }
    let half = (members.len() / GROUP).div_ceil(2) * GROUP;
    let mut along = between_far(rows, members);
    for _ in 0..ROUNDS {
        let mut places: Vec<(i32, u32)> = members
            .iter()
            .map(|&at| {
                let pairs = rows[at as usize].iter().zip(along);
                (pairs.map(|(&part, along)| i32::from(part) * along).sum(), at)
            })
            .collect();
        places.select_nth_unstable(half);
        members
            .iter_mut()
            .zip(places)
            .for_each(|(member, (_, at))| *member = at);
        let (one, other) = members.split_at(half);
        let [a, b] = [one, other].map(|members| middle(rows, members, FINER));
        along = std::array::from_fn(|i| b[i] - a[i]);
    }
    let (one, other) = members.split_at_mut(half);
    for half in [one, other] {
        // In an order that does not depend on how they were parted.
        half.sort_unstable();
        divide(rows, half);
    }
}

/// From the first of some rows to the one that is farthest from it.
fn between_far(rows: &[[i8; FINE]], members: &[u32]) -> [i32; FINE] {
    let first = rows[members[0] as usize];
    let difference = |at: u32, i: usize| i32::from(rows[at as usize][i]) - i32::from(first[i]);
    let distance = |at: &u32| -> i32 { (0..FINE).map(|i| difference(*at, i).pow(2)).sum() };
    let far = members.iter().copied().max_by_key(distance).unwrap_or(members[0]);
    std::array::from_fn(|i| difference(far, i))
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

    fn shell(first: u32, entries: u32) -> Shell {
        Shell {
            first,
            count: entries + 60,
            entries,
            norm: 1.0,
        }
    }

    fn query(numbers: &mut Numbers) -> Vec<i8> {
        let component = |_| (numbers.below(255) as i32 - 127) as i8;
        (0..FINE).map(component).collect()
    }

    fn product(line: &Line, query: &[i8]) -> i32 {
        let below = line.0[..32].iter().map(|byte| byte & 15);
        let above = line.0[..32].iter().map(|byte| byte >> 4);
        let pairs = below.chain(above).zip(query);
        pairs
            .map(|(part, &asked)| i32::from(part) * i32::from(asked))
            .sum()
    }

    #[test]
    fn the_nearest_of_each_part_is_found() {
        let mut numbers = Numbers(3);
        let heads: Vec<Line> = (0..800)
            .map(|_| Line(std::array::from_fn(|_| numbers.below(256) as u8)))
            .collect();
        let entries = Entries::of(&shell(20, 300), &heads, 2, true);
        assert!(entries.are_many());
        let query = query(&mut numbers);
        let product = |node: usize| product(&heads[2 * node], &query);
        // All of them; those of one layer of three; and none.
        for layers in [1, 3, 1000] {
            let counts = |node: u32| node.is_multiple_of(layers);
            // SAFETY: plain Rust runs everywhere.
            let found = unsafe { entries.nearest::<Portable, _>(&query, counts, &mut Room::default()) };
            let of_lane = |lane: usize| {
                let nodes = (20 + lane..20 + 300).step_by(CHOSEN);
                nodes
                    .filter(|&node| counts(node as u32))
                    .max_by_key(|&node| product(node))
            };
            let expected: Vec<u32> = (0..CHOSEN).filter_map(of_lane).map(|node| node as u32).collect();
            assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }

    /// What is found must not depend on the instructions.
    fn found(entries: &Entries, query: &[i8]) -> Vec<u32> {
        let mut room = Room::default();
        // SAFETY: plain Rust runs everywhere.
        let plain = unsafe { entries.nearest::<Portable, _>(query, |_| true, &mut room) };
        let plain: Vec<u32> = plain.collect();
        #[cfg(target_arch = "x86_64")]
        {
            use crate::Instructions;
            use crate::graph::{avx2::Avx2, vnni::Vnni};
            if Instructions::best().has_avx2() {
                // SAFETY: the processor was asked.
                let found = unsafe { entries.nearest::<Avx2, _>(query, |_| true, &mut room) };
                assert!(found.eq(plain.iter().copied()));
            }
            if Instructions::best().has_vnni() {
                // SAFETY: as above.
                let found = unsafe { entries.nearest::<Vnni, _>(query, |_| true, &mut room) };
                assert!(found.eq(plain.iter().copied()));
            }
        }
        plain
    }

    #[test]
    fn a_walk_always_begins_somewhere() {
        let mut numbers = Numbers(17);
        for count in [257, 300, 1024, 1025, 1250, 4096, 4098] {
            for bytes in [0, 255, 256] {
                let heads: Vec<Line> = (0..count)
                    .map(|_| {
                        Line(std::array::from_fn(|_| {
                            if bytes < 256 {
                                bytes as u8
                            } else {
                                numbers.below(256) as u8
                            }
                        }))
                    })
                    .collect();
                let entries = Entries::of(&shell(0, count as u32), &heads, 1, true);
                // To zeros, which entries are filled up with, one of these is nearer than any entry.
                for query in [[-1; FINE], [-127; FINE], [127; FINE]] {
                    let found = found(&entries, &query);
                    assert_eq!(found.len(), CHOSEN, "{count} of {bytes}");
                    assert!(found.iter().all(|&node| (node as usize) < count));
                }
            }
        }
    }

    #[test]
    fn every_entry_is_in_one_group_and_the_nearest_is_nearly_always_found() {
        let mut numbers = Numbers(7);
        // About a hundred places, so that there is something to group.
        let places: Vec<[i32; FINE]> = (0..100)
            .map(|_| std::array::from_fn(|_| numbers.below(16) as i32))
            .collect();
        for count in [UNGROUPED + 1, 3000, 4096] {
            let heads: Vec<Line> = (0..count + 9)
                .map(|_| {
                    let place = &places[numbers.below(100)];
                    let mut part = |i: usize| (place[i] + numbers.below(5) as i32 - 2).clamp(0, 15) as u8;
                    Line(std::array::from_fn(|b| {
                        if b < 32 { part(b) | part(32 + b) << 4 } else { 0 }
                    }))
                })
                .collect();
            let entries = Entries::of(&shell(9, count as u32), &heads, 1, true);
            let mut nodes = entries.nodes.clone();
            nodes.sort_unstable();
            assert!(nodes.iter().copied().take(count).eq(9..9 + count as u32));
            assert!(nodes.len().is_multiple_of(GROUP) && nodes[count..].iter().all(|&node| node == NONE));
            let mut hits = 0;
            for _ in 0..100 {
                let near = 9 + numbers.below(count);
                let query: Vec<i8> = fine(&heads[near]).map(|part| 12 * (part - 7)).to_vec();
                let found = found(&entries, &query);
                let best = (9..9 + count).max_by_key(|&node| product(&heads[node], &query));
                hits += usize::from(found.iter().any(|&node| {
                    product(&heads[node as usize], &query)
                        == best.map_or(0, |best| product(&heads[best], &query))
                }));
                let mut distinct = found.clone();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), found.len());
            }
            assert!(hits >= 95, "{hits} of 100 with {count}");
        }
    }
}
