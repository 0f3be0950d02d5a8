//! The candidates that codes left, scored again from the rows themselves.

use cubecl::prelude::*;

/// Gives each query's candidates, found by one layer each, that layer's score in f32 arithmetic from the stored row, and
/// takes the layer out of their numbers.
///
/// `planes` is `[m][rows][width]` vectors of the block that begins with document `first` and has `documents` of the
/// part's `total`; `queries` is `[q][width]` vectors of f32; `counts` is `[q]`; `scores` and `numbers` are `[q][capacity]`.
/// Candidates of other blocks are left alone: those that were scored have numbers below `total`, which are none of a later
/// block. Cubes: x over queries, y over `strips` of their candidates, of which each plane of units takes one at a time.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn refine<E: Float>(
    planes: &[Vector<E, Const<8>>],
    queries: &[Vector<f32, Const<8>>],
    layers: &[u32],
    counts: &[u32],
    scores: &mut [f32],
    numbers: &mut [u32],
    first: u32,
    documents: u32,
    rows: u32,
    width: u32,
    total: u32,
    capacity: u32,
    strips: u32,
    #[comptime] plane: u32,
    #[comptime] planes_of_cube: u32,
) {
    let query = CUBE_POS_X as usize;
    let width = width as usize;
    let unit = UNIT_POS_PLANE as usize;
    let there = min(counts[query], capacity);
    let together = strips * planes_of_cube;
    let mut slot = CUBE_POS_Y * planes_of_cube + UNIT_POS / plane;
    while slot < there {
        let place = query * capacity as usize + slot as usize;
        let number = numbers[place];
        let document = number % total;
        // The same for all units of a plane.
        if document >= first && document - first < documents {
            let layer = layers[(number / total) as usize] as usize;
            let base = (layer * rows as usize + (document - first) as usize) * width;
            let mut sum = 0.0f32;
            for turn in 0..width.div_ceil(plane as usize) {
                let at = turn * plane as usize + unit;
                if at < width {
                    let row = Vector::<f32, Const<8>>::cast_from(planes[base + at]);
                    let products = row * queries[query * width + at];
                    sum += products.vector_sum();
                }
            }
            if comptime!(plane > 1) {
                sync_plane();
                sum = plane_sum(sum);
            }
            if unit == 0 {
                scores[place] = sum;
                numbers[place] = document;
            }
        }
        slot += together;
    }
}
