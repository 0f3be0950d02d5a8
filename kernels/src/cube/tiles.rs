//! The kernel for many queries: a block of documents × a block of queries a cube, on tensor cores.
//!
//! The queries lie in shared memory for as long as a cube works; documents go from memory straight into the registers
//! from which tensor cores multiply, two steps ahead, so that no plane ever waits for another. That works because an
//! inner product does not mind the order of its components: a unit takes 16 bytes of a row, which are the components
//! that it holds of two products, if the queries' lie in the order that [`order`](super::product::order) gives.
//!
//! When a layer is done, each sum is compared with its query's threshold, and the few that reach it are appended to
//! the query's candidates; no other is ever stored. The maximum over layers is taken among candidates: a document of
//! which a layer reaches the threshold is there once for each that does. Maxima beside the sums would take half of the
//! registers, and so half of a plane's part.

use cubecl::prelude::*;

use super::product::{Tile, clear, multiply, multiply_plainly, place_of, tiles_of};
use super::shape::{STEP_VECTORS, Shape, TILE_DOCUMENTS, TILE_QUERIES};

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
    /// The launch takes tiles `(from + i) · step mod tiles` of the block, `i` below `take`: in an order that no
    /// order of the documents lines up with, so that early thresholds hold for what follows.
    pub from: u32,
    pub take: u32,
    pub step: u32,
    pub tiles: u32,
    /// Tiles that a cube takes, one after the other.
    pub run: u32,
    /// Candidates there is room for, a query.
    pub capacity: u32,
    /// What a candidate's number is more for each layer before the one that it was found by.
    pub layer_step: u32,
}

/// Where the documents of a step lie, of all steps of all layers of all tiles of a cube.
#[derive(CubeType, Clone, Copy)]
struct Place {
    /// The first vector of the step in its row.
    vector: usize,
    layer: usize,
    /// The tile, as the launch counts them.
    turn: u32,
    /// The first vector of the tile's first document in the layer.
    base: usize,
}

/// The first step of a tile.
#[cube]
fn place(turn: u32, layers: &[u32], region: &Region, #[comptime] shape: Shape) -> Place {
    Place {
        vector: 0usize,
        layer: 0usize,
        turn,
        base: base_of(turn, 0usize, layers, region, shape),
    }
}

#[cube]
fn first_document(turn: u32, region: &Region, #[comptime] shape: Shape) -> usize {
    let tile = (region.from + turn) * region.step % region.tiles;
    tile as usize * comptime!(shape.documents())
}

#[cube]
fn base_of(turn: u32, layer: usize, layers: &[u32], region: &Region, #[comptime] shape: Shape) -> usize {
    let document = first_document(turn, region, shape);
    (layers[layer] as usize * region.rows as usize + document) * region.width as usize
}

/// Goes on by two steps. Behind the last tile lies the last tile again, which nobody multiplies.
#[cube]
fn advance(place: &mut Place, layers: &[u32], region: &Region, #[comptime] shape: Shape) {
    place.vector += comptime!(2 * STEP_VECTORS);
    if place.vector == region.width as usize {
        place.vector = 0usize;
        place.layer += 1;
        if place.layer == region.layers as usize {
            place.layer = 0usize;
            place.turn = min(place.turn + 1u32, region.take - 1u32);
        }
        place.base = base_of(place.turn, place.layer, layers, region, shape);
    }
}

/// Scores documents × queries and appends what reaches its threshold to its query's candidates.
///
/// `planes` is `[m][rows][width]` vectors of `N` components, `queries` is `[q][width]` with the components of each in
/// [`order`](super::product::order) (`q` a multiple of the block, padded with zeros), `layers` lists planes, `live` has
/// a bit a document, `thresholds` and `counts` are `[q]`, `scores` and `numbers` are `[q][capacity]`. To a score through
/// codes `offsets`, `[q][layers]`, are added; others read none. A count goes beyond `capacity` if candidates were lost.
/// Cubes: x over blocks of queries, y over runs of tiles of documents.
#[cube(launch_unchecked)]
pub(crate) fn score_tiles<E: Numeric, A: Numeric, N: Size>(
    planes: &[Vector<E, N>],
    queries: &[Vector<E, N>],
    layers: &[u32],
    live: &[u32],
    offsets: &[f32],
    thresholds: &[f32],
    counts: &mut [Atomic<u32>],
    scores: &mut [f32],
    numbers: &mut [u32],
    region: Region,
    #[comptime] shape: Shape,
) {
    let depth = comptime!(shape.depth);
    let size!(W) = comptime!(shape.word());
    let mut stage = Shared::<[Vector<E, N>]>::new_aligned_slice(comptime!(shape.queries() * depth), 16usize);

    let width = region.width as usize;
    let first_query = CUBE_POS_X as usize * comptime!(shape.queries());
    let plane = UNIT_POS as usize / comptime!(shape.plane);
    let own_documents = plane / comptime!(shape.groups) * comptime!(shape.document_tiles * TILE_DOCUMENTS);
    let own_queries = plane % comptime!(shape.groups) * comptime!(shape.query_tiles * TILE_QUERIES);
    let parts = width.div_ceil(depth);

    let turn = CUBE_POS_Y * region.run;
    let turns = min(region.run, region.take - turn);
    let mut next = place(turn, layers, &region, shape);
    // Where the plain twin is, which reads documents when it multiplies them.
    let mut now = place(turn, layers, &region, shape);
    let mut even = Array::<Vector<E, N>>::new(comptime!(shape.document_tiles));
    let mut odd = Array::<Vector<E, N>>::new(comptime!(shape.document_tiles));
    fetch::<E, N>(planes, &next, own_documents, 0usize, width, &mut even, shape);
    fetch::<E, N>(planes, &next, own_documents, 1usize, width, &mut odd, shape);
    let mut sums = tiles_of::<A>(shape);

    if parts == 1 {
        bring::<E, N>(queries, &mut stage, first_query, 0usize, width, shape);
        sync_cube();
    }
    for tile in turn..turn + turns {
        for layer in 0..region.layers {
            for part in 0..parts {
                if parts > 1 {
                    sync_cube();
                    bring::<E, N>(queries, &mut stage, first_query, part, width, shape);
                    sync_cube();
                }
                let vectors = min(depth, width - part * depth);
                for pair in 0..vectors / comptime!(2 * STEP_VECTORS) {
                    let at = pair * comptime!(2 * STEP_VECTORS);
                    // Where the documents of two steps later lie is known before their registers are free.
                    advance(&mut next, layers, &region, shape);
                    if comptime!(shape.tensor) {
                        multiply::<E, A, N, W>(&stage, own_queries, at, &even, &mut sums, shape);
                        fetch::<E, N>(planes, &next, own_documents, 0usize, width, &mut even, shape);
                        multiply::<E, A, N, W>(
                            &stage,
                            own_queries,
                            at + STEP_VECTORS,
                            &odd,
                            &mut sums,
                            shape,
                        );
                        fetch::<E, N>(planes, &next, own_documents, 1usize, width, &mut odd, shape);
                    } else {
                        let first = now.base + own_documents * width + now.vector;
                        multiply_plainly::<E, A, N>(
                            &stage,
                            own_queries,
                            at,
                            planes,
                            first,
                            width,
                            &mut sums,
                            shape,
                        );
                        let first = first + STEP_VECTORS;
                        multiply_plainly::<E, A, N>(
                            &stage,
                            own_queries,
                            at + STEP_VECTORS,
                            planes,
                            first,
                            width,
                            &mut sums,
                            shape,
                        );
                        advance(&mut now, layers, &region, shape);
                    }
                }
            }
            offer::<A>(
                &sums,
                first_document(tile, &region, shape) + own_documents,
                first_query + own_queries,
                layer,
                live,
                offsets,
                thresholds,
                counts,
                scores,
                numbers,
                &region,
                shape,
            );
            clear::<A>(&mut sums, shape);
        }
    }
}

/// Brings a part of the components of the cube's queries to shared memory.
#[cube]
fn bring<E: Numeric, N: Size>(
    queries: &[Vector<E, N>],
    stage: &mut Shared<[Vector<E, N>]>,
    first_query: usize,
    part: usize,
    width: usize,
    #[comptime] shape: Shape,
) {
    let depth = comptime!(shape.depth);
    let first = part * depth;
    let vectors = min(depth, width - first);
    let mut at = UNIT_POS as usize;
    while at < comptime!(shape.queries()) * vectors {
        let (query, vector) = (at / vectors, at % vectors);
        stage[place_of(query, vector, shape)] = queries[(first_query + query) * width + first + vector];
        at += comptime!(shape.units());
    }
}

/// Reads a unit's vectors of a step of documents: of each tile the row `unit / 4`, of it the vector `unit mod 4` of the
/// step.
#[cube]
fn fetch<E: Numeric, N: Size>(
    planes: &[Vector<E, N>],
    place: &Place,
    own_documents: usize,
    #[comptime] step: usize,
    width: usize,
    held: &mut Array<Vector<E, N>>,
    #[comptime] shape: Shape,
) {
    // The plain twin reads when it multiplies.
    if comptime!(shape.tensor) {
        let unit = UNIT_POS_PLANE as usize;
        let row = own_documents + unit / STEP_VECTORS;
        let first =
            place.base + row * width + place.vector + comptime!(step * STEP_VECTORS) + unit % STEP_VECTORS;
        #[unroll]
        for i in 0..comptime!(shape.document_tiles) {
            held[i] = planes[first + comptime!(i * TILE_DOCUMENTS) * width];
        }
    }
}

/// Appends the scores of a plane's tiles that reach their thresholds.
#[cube]
#[allow(clippy::too_many_arguments)]
fn offer<A: Numeric>(
    sums: &Sequence<Tile<A>>,
    first_document: usize,
    first_query: usize,
    layer: u32,
    live: &[u32],
    offsets: &[f32],
    thresholds: &[f32],
    counts: &mut [Atomic<u32>],
    scores: &mut [f32],
    numbers: &mut [u32],
    region: &Region,
    #[comptime] shape: Shape,
) {
    let unit = UNIT_POS_PLANE as usize;
    #[unroll]
    for u in 0..comptime!(shape.query_tiles) {
        #[unroll(comptime!(shape.tensor))]
        for p in 0..comptime!(shape.pairs()) {
            let pair = p * comptime!(shape.plane) + unit;
            let query = first_query + u * TILE_QUERIES + pair / 4;
            let threshold = thresholds[query];
            let mut offset = 0.0f32;
            if comptime!(shape.coded) {
                offset = offsets[query * region.layers as usize + layer as usize];
            }
            // One comparison rules out nearly all.
            let mut most = A::min_value();
            #[unroll]
            for t in 0..comptime!(shape.document_tiles) {
                let both = sums.index(comptime!(t * shape.query_tiles + u))[p];
                most = max(most, max(both.extract(0usize), both.extract(1usize)));
            }
            if score_of::<A>(most, offset, comptime!(shape.coded)) >= threshold {
                // Room for all of them at once: one after the other they would wait for each other.
                let document = first_document + pair % 4 * 2;
                let mut passing = 0u32;
                #[unroll]
                for t in 0..comptime!(shape.document_tiles) {
                    let both = sums.index(comptime!(t * shape.query_tiles + u))[p];
                    #[unroll]
                    for half in 0..2usize {
                        let here = (document + t * TILE_DOCUMENTS + half) as u32;
                        let passes = passes(
                            score_of::<A>(both.extract(half), offset, comptime!(shape.coded)),
                            threshold,
                            here,
                            live,
                            region,
                            comptime!(shape.masked),
                        );
                        passing |= select(passes, comptime!(1u32 << (2 * t + half)), 0u32);
                    }
                }
                let mut slot = 0u32;
                if passing != 0u32 {
                    slot = counts[query].fetch_add(passing.count_ones());
                }
                #[unroll]
                for t in 0..comptime!(shape.document_tiles) {
                    let both = sums.index(comptime!(t * shape.query_tiles + u))[p];
                    #[unroll]
                    for half in 0..2usize {
                        if passing & comptime!(1u32 << (2 * t + half)) != 0u32 {
                            let score = score_of::<A>(both.extract(half), offset, comptime!(shape.coded));
                            let here = (document + t * TILE_DOCUMENTS + half) as u32;
                            keep(score, here, layer, query, slot, scores, numbers, region);
                            slot += 1u32;
                        }
                    }
                }
            }
        }
    }
}

/// The score that a sum stands for. It grows with the sum.
#[cube]
fn score_of<A: Numeric>(sum: A, offset: f32, #[comptime] coded: bool) -> f32 {
    let mut score = f32::cast_from(sum);
    if comptime!(coded) {
        score += offset;
    }
    score
}

/// Whether a score reaches its query's threshold and its document is there and alive.
// The outer condition is the compiler's, the inner one the device's.
#[allow(clippy::collapsible_if)]
#[cube]
pub(crate) fn passes(
    score: f32,
    threshold: f32,
    document: u32,
    live: &[u32],
    region: &Region,
    #[comptime] masked: bool,
) -> bool {
    let mut passes = score >= threshold && document < region.documents;
    if comptime!(masked) {
        if passes {
            let number = region.first + document;
            passes = (live[(number / 32) as usize] >> (number % 32)) & 1u32 == 1u32;
        }
    }
    passes
}

/// Writes a candidate of a query, found by the `layer`-th of those searched, to its place, if there is room.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(crate) fn keep(
    score: f32,
    document: u32,
    layer: u32,
    query: usize,
    slot: u32,
    scores: &mut [f32],
    numbers: &mut [u32],
    region: &Region,
) {
    if slot < region.capacity {
        let at = query * region.capacity as usize + slot as usize;
        scores[at] = score;
        numbers[at] = region.first + document + layer * region.layer_step;
    }
}
