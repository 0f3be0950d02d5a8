//! The kernel for few queries: bound by the memory that the documents come from.
//!
//! A plane reads several documents at a time, 16 bytes a unit, straight into registers, multiplies them
//! with every query (in f32: the queries are not rounded here) and sums over its units. Every stored
//! component is read once, whatever the number of queries.

use cubecl::prelude::*;

use super::shape::RowShape;
use super::tiles::{Region, keep, passes};

/// The same contract as [`score_tiles`](super::tiles::score_tiles), with `queries` as `[q][width]` vectors
/// of f32 and at most `shape.queries` of them. Cubes: x over tiles of documents.
// Kernels have no iterators.
#[allow(clippy::needless_range_loop)]
#[cube(launch_unchecked)]
pub(crate) fn score_rows<E: Float>(
    planes: &[Vector<E, Const<8>>],
    queries: &[Vector<f32, Const<8>>],
    layers: &[u32],
    live: &[u32],
    thresholds: &[f32],
    counts: &mut [Atomic<u32>],
    scores: &mut [f32],
    numbers: &mut [u32],
    region: Region,
    #[comptime] shape: RowShape,
) {
    let width = region.width as usize;
    let tile = (region.from + CUBE_POS_X) * region.step % region.tiles;
    let plane = UNIT_POS as usize / comptime!(shape.plane);
    let unit = UNIT_POS_PLANE as usize;
    let together = comptime!(shape.rows * shape.planes);
    let scores_of_plane = comptime!(shape.rows * shape.queries);

    for turn in 0..comptime!(shape.documents / together) {
        let document =
            tile as usize * comptime!(shape.documents) + turn * together + plane * comptime!(shape.rows);
        let mut best = Array::<f32>::new(scores_of_plane);
        #[unroll]
        for i in 0..scores_of_plane {
            best[i] = f32::new(f32::NEG_INFINITY);
        }
        for layer in 0..region.layers as usize {
            let base = (layers[layer] as usize * region.rows as usize + document) * width;
            let mut sums = Array::<f32>::new(scores_of_plane);
            #[unroll]
            for i in 0..scores_of_plane {
                sums[i] = 0.0f32;
            }
            // The same number of turns for all units: a sum over a plane needs them together.
            for turn in 0..width.div_ceil(comptime!(shape.plane)) {
                let at = turn * comptime!(shape.plane) + unit;
                let inside = at < width;
                let at = min(at, width - 1);
                let mut held = Array::<Vector<f32, Const<8>>>::new(comptime!(shape.rows));
                #[unroll]
                for row in 0..comptime!(shape.rows) {
                    held[row] = Vector::cast_from(planes[base + row * width + at]);
                }
                #[unroll]
                for query in 0..comptime!(shape.queries) {
                    let components = queries[query * width + at];
                    #[unroll]
                    for row in 0..comptime!(shape.rows) {
                        let products = held[row] * components;
                        sums[comptime!(row * shape.queries + query)] +=
                            select(inside, products.vector_sum(), 0.0f32);
                    }
                }
            }
            if comptime!(shape.plane > 1) {
                sync_plane();
            }
            #[unroll]
            for i in 0..scores_of_plane {
                let mut sum = sums[i];
                if comptime!(shape.plane > 1) {
                    sum = plane_sum(sum);
                }
                best[i] = max(best[i], sum);
            }
        }
        // Every unit knows every sum; they share the appending.
        #[unroll]
        for i in 0..scores_of_plane {
            if unit == comptime!(i % shape.plane) {
                let query = comptime!(i % shape.queries);
                let here = (document + comptime!(i / shape.queries)) as u32;
                if passes(
                    best[i],
                    thresholds[query],
                    here,
                    live,
                    &region,
                    comptime!(shape.masked),
                ) {
                    let slot = counts[query].fetch_add(1u32);
                    keep(best[i], here, 0u32, query, slot, scores, numbers, &region);
                }
            }
        }
    }
}
