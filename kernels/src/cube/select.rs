//! Between two rounds: the k-th best score of each query, the threshold that follows, and what is left.

use cubecl::prelude::*;

/// Digits of four bits that a score is looked at to: twenty bits tell numbers apart to 2⁻¹¹ of their size, below
/// which a threshold lets no more pass than its margin does anyway.
const DIGITS: usize = 5;
/// The counter of what is kept, behind 16 for each digit.
const KEPT: usize = DIGITS * 16;

/// For each query (a cube each): if there are at least `rank` candidates, raises its threshold to a little below the
/// score of that rank less its margin, and keeps the candidates that reach it, in place. A document may be among them
/// once for each layer, so `rank` is `k` times the layers: that many hold at least `k` documents.
///
/// `margins` and the others are `[q]`. A count beyond `capacity` means that candidates were lost: the
/// query is marked in `lost`, and what is left is still searched, so that the kernels stay simple.
#[cube(launch_unchecked)]
pub(crate) fn keep_best(
    counts: &mut [Atomic<u32>],
    scores: &mut [f32],
    numbers: &mut [u32],
    thresholds: &mut [f32],
    margins: &[f32],
    lost: &mut [u32],
    rank: u32,
    capacity: u32,
    #[comptime] units: u32,
) {
    let query = CUBE_POS_X as usize;
    let base = query * capacity as usize;
    // For each digit of a score how many have it, and one counter for what is kept.
    let counters = Shared::<[Atomic<u32>]>::new_slice(comptime!(KEPT + 1));
    for at in range_stepped(UNIT_POS, comptime!(KEPT as u32 + 1), units) {
        counters[at as usize].store(0u32);
    }
    let found = counts[query].load();
    let mut there = found;
    if found > capacity {
        there = capacity;
        if UNIT_POS == 0 {
            lost[query] = 1u32;
        }
    }
    sync_cube();

    if there >= rank {
        // The greatest key of so many digits that at least `rank` candidates reach, digit by digit from the top: how
        // many of those that agree so far have which next digit.
        let turns = there.div_ceil(units);
        let mut kth = 0u32;
        let mut above = 0u32;
        for step in 0..comptime!(DIGITS as u32) {
            let shift = 28u32 - 4u32 * step;
            for turn in 0..turns {
                let at = turn * units + UNIT_POS;
                if at < there {
                    let key = key_of(scores[base + at as usize]);
                    // The digits before this one, and this one.
                    let known = (key >> shift) >> 4u32;
                    if known == (kth >> shift) >> 4u32 {
                        counters[(step * 16u32 + ((key >> shift) & 15u32)) as usize].fetch_add(1u32);
                    }
                }
            }
            sync_cube();
            // From the top digit down, until `rank` are reached.
            let mut digit = 15u32;
            let mut reached = above + counters[(step * 16u32 + 15u32) as usize].load();
            while reached < rank && digit > 0u32 {
                above = reached;
                digit -= 1u32;
                reached += counters[(step * 16u32 + digit) as usize].load();
            }
            kth |= digit << shift;
        }
        let mut threshold = score_of(kth) - margins[query];
        threshold = max(threshold, thresholds[query]);
        // All of a turn is read before any of it is written, and is written no further than it was read.
        for turn in 0..turns {
            let at = turn * units + UNIT_POS;
            let mut score = 0.0f32;
            let mut number = 0u32;
            let mut stays = false;
            if at < there {
                score = scores[base + at as usize];
                number = numbers[base + at as usize];
                stays = score >= threshold;
            }
            sync_cube();
            if stays {
                let slot = counters[KEPT].fetch_add(1u32);
                scores[base + slot as usize] = score;
                numbers[base + slot as usize] = number;
            }
            sync_cube();
        }
        if UNIT_POS == 0 {
            counts[query].store(counters[KEPT].load());
            thresholds[query] = threshold;
        }
    } else {
        if UNIT_POS == 0 {
            counts[query].store(there);
        }
    }
}

/// A number that orders as the score does.
#[cube]
fn key_of(score: f32) -> u32 {
    let bits = u32::reinterpret(score);
    select(bits >> 31u32 == 1u32, !bits, bits | 0x8000_0000u32)
}

/// The score of a key.
#[cube]
fn score_of(key: u32) -> f32 {
    f32::reinterpret(select(key >> 31u32 == 1u32, key ^ 0x8000_0000u32, !key))
}

/// Brings what is known of `queries` queries close together for the way to the host: their counts, who lost
/// candidates, and of the numbers `[q][capacity]` the first `most` of each.
#[cube(launch_unchecked)]
pub(crate) fn pack_numbers(
    counts: &[u32],
    lost: &[u32],
    numbers: &[u32],
    packed: &mut [u32],
    capacity: u32,
    most: u32,
    queries: u32,
) {
    let at = ABSOLUTE_POS as u32;
    if at < queries * most {
        packed[(2u32 * queries + at) as usize] = numbers[(at / most * capacity + at % most) as usize];
    }
    if at < queries {
        packed[at as usize] = counts[at as usize];
        packed[(queries + at) as usize] = lost[at as usize];
    }
}
