//! Between two rounds: the k-th best score of each query, the threshold that follows, and what is left.

use cubecl::prelude::*;

/// The counter of what is kept, behind 15 for each of eight digits.
const KEPT: usize = 8 * 15;

/// For each query (a cube each): if there are at least `k` candidates, raises its threshold to the k-th
/// best score less its margin, and keeps the candidates that reach it, in place.
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
    k: u32,
    capacity: u32,
    #[comptime] units: u32,
    #[comptime] plane: u32,
) {
    let query = CUBE_POS_X as usize;
    let base = query * capacity as usize;
    // For every four bits of a score how many reach each of 15 trials, and one counter for what is kept.
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

    if there >= k {
        // The greatest key that at least k candidates reach, four bits at a time from the top. Units count by
        // themselves and planes add up, so that few of them ask for the same counter.
        let turns = there.div_ceil(units);
        let mut kth = 0u32;
        for step in 0..8u32 {
            let shift = 28u32 - 4u32 * step;
            let mut reach = Array::<u32>::new(15usize);
            #[unroll]
            for trial in 0..15usize {
                reach[trial] = 0u32;
            }
            // The same number of turns for all units: a sum over a plane needs them together.
            for turn in 0..turns {
                let at = turn * units + UNIT_POS;
                let key = key_of(scores[base + min(at, there - 1u32) as usize]);
                // No trial is as low as zero.
                let key = select(at < there, key, 0u32);
                #[unroll]
                for trial in 0..15usize {
                    let low = kth | (comptime!(trial as u32 + 1) << shift);
                    reach[trial] += select(key >= low, 1u32, 0u32);
                }
            }
            if comptime!(plane > 1) {
                sync_plane();
            }
            #[unroll]
            for trial in 0..15usize {
                let mut sum = reach[trial];
                let mut speaks = true;
                if comptime!(plane > 1) {
                    sum = plane_sum(sum);
                    speaks = UNIT_POS.is_multiple_of(plane);
                }
                if speaks && sum > 0 {
                    counters[step as usize * 15 + trial].fetch_add(sum);
                }
            }
            sync_cube();
            // Fewer reach a greater trial: the number that k reach is the digit.
            let mut digit = 0u32;
            #[unroll]
            for trial in 0..15usize {
                if counters[step as usize * 15 + trial].load() >= k {
                    digit += 1u32;
                }
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

/// Brings the numbers `[q][capacity]` close together: `[q][most]`, for the way to the host.
#[cube(launch_unchecked)]
pub(crate) fn pack(numbers: &[u32], packed: &mut [u32], capacity: u32, most: u32, total: u32) {
    if ABSOLUTE_POS < total as usize {
        let at = ABSOLUTE_POS as u32;
        packed[ABSOLUTE_POS] = numbers[(at / most * capacity + at % most) as usize];
    }
}
