//! The kernel for many queries: a block of documents × a block of queries a cube, on tensor cores.
//!
//! Slabs of both operands are brought to shared memory, two in turn, while the slab before is multiplied.
//! When the last slab of a layer is done, the maximum over layers is taken in registers. The scores are
//! never stored: each is compared with its query's threshold, and the few that reach it are appended to
//! the query's candidates.

use cubecl::prelude::*;

use super::product::{Tile, fold, multiply, tiles_of};
use super::shape::{Shape, TILE_DOCUMENTS, TILE_QUERIES};

/// Where a launch's documents lie. All in one struct for the sake of the argument lists.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Region {
    /// Number of the block's first document among all of the part.
    pub first: u32,
    /// Documents in the block; rows beyond them are padding.
    pub documents: u32,
    /// Rows of a plane in the block, padding included.
    pub rows: u32,
    /// 16-byte vectors in a row.
    pub width: u32,
    /// Layers to search.
    pub layers: u32,
    /// The launch's cubes take tiles `(from + i) · step mod tiles` of the block: in an order that no
    /// order of the documents lines up with, so that early thresholds hold for what follows.
    pub from: u32,
    pub step: u32,
    pub tiles: u32,
    /// Candidates there is room for, a query.
    pub capacity: u32,
}

/// Scores documents × queries and appends what reaches its threshold to its query's candidates.
///
/// `planes` is `[m][rows][width]` vectors, `queries` is `[q][width]` (`q` a multiple of the block, padded
/// with zeros), `layers` lists planes, `live` has a bit a document, `thresholds` and `counts` are `[q]`,
/// `scores` and `numbers` are `[q][capacity]`. A count goes beyond `capacity` if candidates were lost.
/// Cubes: x over blocks of queries, y over tiles of documents.
#[cube(launch_unchecked)]
pub(crate) fn score_tiles<E: Float>(
    planes: &[Vector<E, Const<8>>],
    queries: &[Vector<E, Const<8>>],
    layers: &[u32],
    live: &[u32],
    thresholds: &[f32],
    counts: &mut [Atomic<u32>],
    scores: &mut [f32],
    numbers: &mut [u32],
    region: Region,
    #[comptime] shape: Shape,
) {
    let stage_size = comptime!(shape.stage());
    let mut stage = Shared::<[Vector<E, Const<8>>]>::new_aligned_slice(comptime!(2 * stage_size), 16usize);

    let width = region.width as usize;
    let tile = (region.from + CUBE_POS_Y) * region.step % region.tiles;
    let first_document = tile as usize * comptime!(shape.documents());
    let first_query = CUBE_POS_X as usize * comptime!(shape.queries());
    // The plane's own documents and queries, as rows of the stage.
    let plane = UNIT_POS as usize / comptime!(shape.plane);
    let own_documents =
        plane / comptime!(shape.query_planes) * comptime!(shape.document_tiles * TILE_DOCUMENTS);
    let own_queries = plane % comptime!(shape.query_planes) * comptime!(shape.query_tiles * TILE_QUERIES);

    let slabs = width / comptime!(shape.slab_vectors());
    let steps = slabs * region.layers as usize;
    let query_base = first_query * width;

    let mut held = Array::<Vector<E, Const<8>>>::new(comptime!(
        shape.loads(shape.documents()) + shape.loads(shape.queries())
    ));
    let mut sums = tiles_of(0.0f32, shape);
    let mut best = tiles_of(f32::new(f32::NEG_INFINITY), shape);

    let base = (layers[0] as usize * region.rows as usize + first_document) * width;
    fetch::<E>(planes, queries, base, query_base, width, &mut held, shape);
    put::<E>(&mut stage, 0usize, &held, shape);
    sync_cube();

    let mut slab = 0usize;
    for step in 0..steps {
        let buffer = step % 2 * stage_size;
        let next = step + 1;
        if next < steps {
            let layer = next / slabs;
            let at = next % slabs * comptime!(shape.slab_vectors());
            let base = (layers[layer] as usize * region.rows as usize + first_document) * width;
            fetch::<E>(
                planes,
                queries,
                base + at,
                query_base + at,
                width,
                &mut held,
                shape,
            );
        }
        multiply::<E>(
            &stage[buffer..buffer + stage_size],
            own_documents,
            comptime!(shape.documents()) + own_queries,
            &mut sums,
            shape,
        );
        slab += 1;
        if slab == slabs {
            fold(&mut best, &mut sums, shape);
            slab = 0usize;
        }
        if next < steps {
            // The other half was last read before the last barrier.
            put::<E>(&mut stage, next % 2 * stage_size, &held, shape);
        }
        sync_cube();
    }

    offer(
        &best,
        first_document + own_documents,
        first_query + own_queries,
        live,
        thresholds,
        counts,
        scores,
        numbers,
        &region,
        shape,
    );
}

/// Reads the units' vectors of a slab: the documents' from `base`, the queries' from `query_base`.
// The first branch is taken when the kernel is compiled: units that all have work are not asked.
#[allow(clippy::if_same_then_else)]
#[cube]
fn fetch<E: Float>(
    planes: &[Vector<E, Const<8>>],
    queries: &[Vector<E, Const<8>>],
    base: usize,
    query_base: usize,
    width: usize,
    held: &mut Array<Vector<E, Const<8>>>,
    #[comptime] shape: Shape,
) {
    let vectors = comptime!(shape.slab_vectors());
    let of_documents = comptime!(shape.loads(shape.documents()));
    #[unroll]
    for i in 0..of_documents {
        let at = i * comptime!(shape.units()) + UNIT_POS as usize;
        held[i] = planes[base + at / vectors * width + at % vectors];
    }
    #[unroll]
    for i in 0..comptime!(shape.loads(shape.queries())) {
        let at = i * comptime!(shape.units()) + UNIT_POS as usize;
        if comptime!(shape.queries_fill_units()) {
            held[comptime!(of_documents + i)] = queries[query_base + at / vectors * width + at % vectors];
        } else if at < comptime!(shape.queries() * vectors) {
            held[comptime!(of_documents + i)] = queries[query_base + at / vectors * width + at % vectors];
        }
    }
}

/// Writes what [`fetch`] read to the half of the stage that begins at `offset`.
// The first branch is taken when the kernel is compiled: units that all have work are not asked.
#[allow(clippy::if_same_then_else)]
#[cube]
fn put<E: Float>(
    stage: &mut Shared<[Vector<E, Const<8>>]>,
    offset: usize,
    held: &Array<Vector<E, Const<8>>>,
    #[comptime] shape: Shape,
) {
    let vectors = comptime!(shape.slab_vectors());
    let stride = comptime!(shape.stride());
    let of_documents = comptime!(shape.loads(shape.documents()));
    #[unroll]
    for i in 0..of_documents {
        let at = i * comptime!(shape.units()) + UNIT_POS as usize;
        stage[offset + at / vectors * stride + at % vectors] = held[i];
    }
    let queries = offset + comptime!(shape.documents()) * stride;
    #[unroll]
    for i in 0..comptime!(shape.loads(shape.queries())) {
        let at = i * comptime!(shape.units()) + UNIT_POS as usize;
        if comptime!(shape.queries_fill_units()) {
            stage[queries + at / vectors * stride + at % vectors] = held[comptime!(of_documents + i)];
        } else if at < comptime!(shape.queries() * vectors) {
            stage[queries + at / vectors * stride + at % vectors] = held[comptime!(of_documents + i)];
        }
    }
}

/// Appends the scores of a plane's tiles that reach their thresholds.
#[cube]
#[allow(clippy::too_many_arguments)]
fn offer(
    best: &Sequence<Tile>,
    first_document: usize,
    first_query: usize,
    live: &[u32],
    thresholds: &[f32],
    counts: &mut [Atomic<u32>],
    scores: &mut [f32],
    numbers: &mut [u32],
    region: &Region,
    #[comptime] shape: Shape,
) {
    let unit = UNIT_POS_PLANE as usize;
    #[unroll]
    for t in 0..comptime!(shape.document_tiles) {
        #[unroll]
        for u in 0..comptime!(shape.query_tiles) {
            let tile = best.index(comptime!(t * shape.query_tiles + u));
            #[unroll(comptime!(shape.tensor))]
            for p in 0..comptime!(shape.pairs()) {
                let pair = p * comptime!(shape.plane) + unit;
                let document = first_document + t * TILE_DOCUMENTS + pair / 4;
                let query = first_query + u * TILE_QUERIES + pair % 4 * 2;
                #[unroll]
                for half in 0..2usize {
                    append(
                        tile[p].extract(half),
                        document as u32,
                        query + half,
                        live,
                        thresholds,
                        counts,
                        scores,
                        numbers,
                        region,
                        comptime!(shape.masked),
                    );
                }
            }
        }
    }
}

/// Appends one score to its query's candidates if it reaches the threshold and its document is there
/// and alive.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn append(
    score: f32,
    document: u32,
    query: usize,
    live: &[u32],
    thresholds: &[f32],
    counts: &mut [Atomic<u32>],
    scores: &mut [f32],
    numbers: &mut [u32],
    region: &Region,
    #[comptime] masked: bool,
) {
    if score >= thresholds[query] && document < region.documents {
        let number = region.first + document;
        let mut alive = true;
        if comptime!(masked) {
            alive = (live[(number / 32) as usize] >> (number % 32)) & 1u32 == 1u32;
        }
        if alive {
            let slot = counts[query].fetch_add(1u32);
            if slot < region.capacity {
                let at = query * region.capacity as usize + slot as usize;
                scores[at] = score;
                numbers[at] = number;
            }
        }
    }
}
