//! The f64 scores of candidates on the device, where it holds the stored values themselves.

use cubecl::prelude::*;

/// Sums that a score is made of.
const SUMS: usize = 16;

/// Candidates that a cube of so many units scores.
pub(crate) const fn candidates_at_once(units: usize) -> usize {
    units.div_ceil(SUMS)
}

/// Sums that a unit makes.
const fn own_sums(units: usize) -> usize {
    if units < SUMS { SUMS / units } else { 1 }
}

/// For each query's first `most` candidates the f64 score, as the search on the CPU computes it: component `i` is
/// added to sum `i mod 16`, and the sums are added in halves. Products of stored values and f32 are exact in f64, so
/// the two differ by the power of two that the block is scaled by, and by nothing else.
///
/// `planes` is `[m][rows][width]` components, of a block that begins with document `first` and has `documents`;
/// `queries` is `[q][width]` as they were asked; `counts` is `[q]`, `numbers` `[q][capacity]`, `scores` `[q][most]`.
/// Candidates of other blocks are left alone. Sixteen units of a cube take a candidate, or all where it has fewer.
// Kernels have no iterators.
#[allow(clippy::needless_range_loop)]
#[cube(launch_unchecked)]
pub(crate) fn score_exactly<E: Float>(
    planes: &[E],
    queries: &[f32],
    layers: &[u32],
    counts: &[u32],
    numbers: &[u32],
    scores: &mut [f64],
    first: u32,
    documents: u32,
    rows: u32,
    width: u32,
    layer_count: u32,
    capacity: u32,
    most: u32,
    total: u32,
    #[comptime] units: usize,
) {
    let mut shared = Shared::<[f64]>::new_slice(comptime!(candidates_at_once(units) * SUMS));
    let own = comptime!(own_sums(units));
    let unit = UNIT_POS as usize;
    let row = unit * own / comptime!(SUMS);
    let lane = unit * own % comptime!(SUMS);
    let place = CUBE_POS_X as usize * comptime!(candidates_at_once(units)) + row;

    let width = width as usize;
    let place_inside = min(place, total as usize - 1);
    let query = place_inside / most as usize;
    let slot = (place_inside % most as usize) as u32;
    let mut here = false;
    let mut document = 0usize;
    if place < total as usize && slot < min(counts[query], capacity) {
        let number = numbers[query * capacity as usize + slot as usize];
        if number >= first && number - first < documents {
            here = true;
            document = (number - first) as usize;
        }
    }
    let mut best = 0.0f64;
    for layer in 0..layer_count as usize {
        if here {
            let base = (layers[layer] as usize * rows as usize + document) * width;
            let asked = query * width;
            #[unroll]
            for i in 0..own {
                let mut sum = 0.0f64;
                // Rows have a multiple of 64 components.
                for step in 0..width / comptime!(SUMS * 4) {
                    #[unroll]
                    for part in 0..4usize {
                        let at = (step * 4 + part) * comptime!(SUMS) + lane + i;
                        sum += f64::cast_from(planes[base + at]) * f64::cast_from(queries[asked + at]);
                    }
                }
                shared[row * comptime!(SUMS) + lane + i] = sum;
            }
        }
        sync_cube();
        if here && lane == 0 {
            let sums = row * comptime!(SUMS);
            let mut eight = Array::<f64>::new(8usize);
            #[unroll]
            for i in 0..8usize {
                eight[i] = shared[sums + i] + shared[sums + i + 8];
            }
            #[unroll]
            for i in 0..4usize {
                eight[i] += eight[i + 4];
            }
            let score = (eight[0usize] + eight[2usize]) + (eight[1usize] + eight[3usize]);
            best = select(layer == 0 || score > best, score, best);
        }
        sync_cube();
    }
    if here && lane == 0 {
        scores[place] = best;
    }
}
