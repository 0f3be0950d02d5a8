//! First candidates for edges: overlapping clusters, and all pairs inside each.
//!
//! After PiPNN (arXiv 2602.21247): points go to the nearest of random leaders, several of them, and
//! again inside each cluster, until a leaf is small enough for all its pairs. Every point keeps the
//! nearest that it met in any leaf. Which thread comes first changes nothing.

use std::sync::{Mutex, PoisonError};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSlice;

use super::lanes::{Lanes, interleave};
use super::links::Shell;
use super::points::{Points, squared};
use super::progress::Progress;
use crate::Error;
use crate::numbers::Numbers;

/// Points in a leaf at most; more only where they cannot be told apart.
const LEAF: usize = 1024;

/// Leaders that a point goes to, by level.
const OVERLAP: [usize; 3] = [3, 2, 1];

/// Points whose lists share a lock.
const SHARD: usize = 64;

/// For each point its nearest ones of other documents, `distance bits << 32 | point`, nearest first.
pub(super) struct Lists {
    length: usize,
    shards: Vec<Mutex<Vec<Vec<u64>>>>,
}

pub(super) fn entry(distance: f32, point: u32) -> u64 {
    u64::from(distance.to_bits()) << 32 | u64::from(point)
}

pub(super) fn entry_parts(entry: u64) -> (f32, u32) {
    (f32::from_bits((entry >> 32) as u32), entry as u32)
}

impl Lists {
    fn new(points: usize, length: usize) -> Lists {
        let shards = (0..points.div_ceil(SHARD))
            .map(|_| Mutex::new(vec![Vec::new(); SHARD]))
            .collect();
        Lists { length, shards }
    }

    /// Adds sorted entries to a point's list.
    fn add(&self, point: usize, entries: &[u64]) {
        let mut shard = self.shards[point / SHARD]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let list = &mut shard[point % SHARD];
        list.reserve_exact(self.length.saturating_sub(list.len()));
        for &entry in entries {
            if list.len() == self.length && list.last().is_some_and(|&last| last <= entry) {
                break;
            }
            let Err(place) = list.binary_search(&entry) else {
                continue;
            };
            if list.len() == self.length {
                list.pop();
            }
            list.insert(place, entry);
        }
    }

    pub fn take(&self, point: usize) -> Vec<u64> {
        let mut shard = self.shards[point / SHARD]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut shard[point % SHARD])
    }
}

/// The nearest `length` points of each, as far as leaves show them.
///
/// # Errors
/// [`Error::Cancelled`].
///
/// # Safety
/// The processor must have the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn lists<L: Lanes>(
    points: &Points,
    length: usize,
    shells: &[Shell],
    progress: &Progress,
) -> Result<Lists, Error> {
    let lists = Lists::new(points.count(), length);
    for shell in shells {
        let members = (shell.first..shell.first + shell.count).collect();
        // SAFETY: the caller promises the instructions.
        unsafe { divide::<L>(points, &lists, members, 0, 1, progress)? };
    }
    Ok(lists)
}

/// # Safety
/// As [`lists`].
unsafe fn divide<L: Lanes>(
    points: &Points,
    lists: &Lists,
    members: Vec<u32>,
    level: usize,
    seed: u64,
    progress: &Progress,
) -> Result<(), Error> {
    progress.check()?;
    if members.len() <= LEAF {
        // SAFETY: the caller promises the instructions.
        unsafe { leaf::<L>(points, lists, &members) };
        return Ok(());
    }
    let mut numbers = Numbers(seed);
    let count = (members.len() / (LEAF / 3)).clamp(2, 1000);
    // A sorted set of distinct leaders.
    let mut leaders: Vec<u32> = (0..count)
        .map(|_| members[numbers.below(members.len())])
        .collect();
    leaders.sort_unstable();
    leaders.dedup();
    let overlap = OVERLAP[level.min(OVERLAP.len() - 1)];
    // SAFETY: the caller promises the instructions.
    let nearest = unsafe { assign::<L>(points, &members, &leaders, overlap) };
    let mut clusters = vec![Vec::new(); leaders.len()];
    for (&member, leaders) in members.iter().zip(nearest.chunks_exact(overlap)) {
        for &leader in leaders {
            if leader != u32::MAX {
                clusters[leader as usize].push(member);
            }
        }
    }
    let total = members.len();
    drop(members);
    // Small clusters go together: a leaf of few points shows few pairs.
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for cluster in clusters {
        match groups.last_mut() {
            Some(last) if last.len() + cluster.len() <= LEAF / 2 => last.extend(cluster),
            _ => groups.push(cluster),
        }
    }
    for group in &mut groups {
        group.sort_unstable();
        group.dedup();
    }
    let run = |(at, group): (usize, Vec<u32>)| {
        if group.len() > LEAF && (group.len() * 4 > total * 3 || level > 12) {
            // Leaders do not tell these apart: cut them into leaves as they come.
            for part in group.chunks(LEAF) {
                progress.check()?;
                // SAFETY: the caller promises the instructions.
                unsafe { leaf::<L>(points, lists, part) };
            }
            return Ok(());
        }
        let seed = seed
            .wrapping_mul(0x2545_f491_4f6c_dd1d)
            .wrapping_add(at as u64 + 1);
        // SAFETY: the caller promises the instructions.
        unsafe { divide::<L>(points, lists, group, level + 1, seed, progress) }
    };
    groups
        .into_iter()
        .enumerate()
        .collect::<Vec<_>>()
        .into_par_iter()
        .try_for_each(run)
}

/// For each member the `overlap` nearest leaders, by number; `u32::MAX` where there are fewer.
///
/// # Safety
/// As [`lists`].
unsafe fn assign<L: Lanes>(points: &Points, members: &[u32], leaders: &[u32], overlap: usize) -> Vec<u32> {
    let (blocks, sums) = interleave(
        leaders.iter().map(|&leader| points.row(leader as usize)),
        points.width,
    );
    let measures: Vec<[f32; 2]> = leaders
        .iter()
        .map(|&leader| points.measure(leader as usize))
        .collect();
    members
        .par_chunks(128)
        .flat_map_iter(|members| {
            let rows: Vec<i8> = members
                .iter()
                .flat_map(|&member| points.row(member as usize))
                .copied()
                .collect();
            let mut products = vec![0i32; members.len() * sums.len()];
            // SAFETY: the caller promises the instructions; the lengths fit.
            unsafe { L::products(&rows, points.width, &blocks, &sums, &mut products) };
            let mut nearest = Vec::with_capacity(members.len() * overlap);
            for (&member, products) in members.iter().zip(products.chunks_exact(sums.len())) {
                let mut best = [(f32::INFINITY, u32::MAX); OVERLAP[0]];
                let own = points.measure(member as usize);
                for (number, (&leader, &product)) in measures.iter().zip(products).enumerate() {
                    let distance = squared(own, leader, product);
                    if distance < best[overlap - 1].0 {
                        let mut place = overlap - 1;
                        while place > 0 && best[place - 1].0 > distance {
                            best[place] = best[place - 1];
                            place -= 1;
                        }
                        best[place] = (distance, number as u32);
                    }
                }
                nearest.extend(best[..overlap].iter().map(|&(_, number)| number));
            }
            nearest
        })
        .collect()
}

/// Shows all pairs of a leaf to the lists.
///
/// # Safety
/// As [`lists`].
unsafe fn leaf<L: Lanes>(points: &Points, lists: &Lists, members: &[u32]) {
    let (blocks, sums) = interleave(
        members.iter().map(|&member| points.row(member as usize)),
        points.width,
    );
    let columns = sums.len();
    let measures: Vec<[f32; 2]> = members
        .iter()
        .map(|&member| points.measure(member as usize))
        .collect();
    let mut products = vec![0i32; 64 * columns];
    let mut distances = vec![f32::INFINITY; members.len()];
    let mut best: Vec<u64> = Vec::with_capacity(lists.length + 1);
    for group in members.chunks(64) {
        let rows: Vec<i8> = group
            .iter()
            .flat_map(|&member| points.row(member as usize))
            .copied()
            .collect();
        // SAFETY: the caller promises the instructions; the lengths fit.
        unsafe {
            L::products(
                &rows,
                points.width,
                &blocks,
                &sums,
                &mut products[..group.len() * columns],
            )
        };
        for (&member, products) in group.iter().zip(products.chunks_exact(columns)) {
            let own = points.measure(member as usize);
            for ((distance, &other), &product) in distances.iter_mut().zip(&measures).zip(products) {
                *distance = squared(own, other, product);
            }
            best.clear();
            let mut bar = f32::INFINITY;
            for (&distance, &other) in distances.iter().zip(members) {
                if distance > bar || points.are_siblings(other as usize, member as usize) {
                    continue;
                }
                best.push(entry(distance, other));
                // Let some gather before the worst are dropped.
                if best.len() == 4 * lists.length {
                    best.select_nth_unstable(lists.length - 1);
                    best.truncate(lists.length);
                    bar = best.iter().map(|&entry| entry_parts(entry).0).fold(0.0, f32::max);
                }
            }
            best.sort_unstable();
            best.truncate(lists.length);
            lists.add(member as usize, &best);
        }
    }
}
