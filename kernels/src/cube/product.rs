//! The product of two slabs in shared memory, added to a plane's tiles: the one place that knows of
//! tensor cores, and its plain twin.
//!
//! A plane holds `document_tiles × query_tiles` tiles of 16 documents × 8 queries, of which a unit holds
//! pairs: pair `p` of unit `u` is number `i = p · plane + u`, of document `i / 4` and queries
//! `2 (i mod 4)` and the next. With 32 units that is how the tensor cores lay an accumulator of
//! m16n8k16 out, so that everything but the product itself is the same on both paths.

use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::*;

use super::shape::{LANES, Shape, TILE_DOCUMENTS, TILE_QUERIES};

/// A unit's part of one tile: [`Shape::pairs`] pairs of scores.
pub(crate) type Tile = Array<Vector<f32, Const<2>>>;

/// All tiles of a plane, filled with one value.
#[cube]
pub(crate) fn tiles_of(value: f32, #[comptime] shape: Shape) -> Sequence<Tile> {
    let mut tiles = Sequence::<Tile>::new();
    #[unroll]
    for _ in 0..comptime!(shape.tiles()) {
        let mut tile = Array::<Vector<f32, Const<2>>>::new(comptime!(shape.pairs()));
        #[unroll(comptime!(shape.tensor))]
        for p in 0..comptime!(shape.pairs()) {
            tile[p] = Vector::new(value);
        }
        tiles.push(tile);
    }
    tiles
}

/// Adds the products of a slab to a plane's tiles.
///
/// `stage` holds rows of [`Shape::stride`] vectors; the plane's documents begin at row `documents`, its
/// queries at row `queries`.
#[cube]
pub(crate) fn multiply<E: Float>(
    stage: &[Vector<E, Const<8>>],
    documents: usize,
    queries: usize,
    sums: &mut Sequence<Tile>,
    #[comptime] shape: Shape,
) {
    if comptime!(shape.tensor) {
        multiply_on_tensor_cores::<E>(stage, documents, queries, sums, shape);
    } else {
        multiply_plainly::<E>(stage, documents, queries, sums, shape);
    }
}

/// `mma.m16n8k16` with f32 accumulation: the documents are A (row-major), the queries B (column-major),
/// so both are read along their components by `ldmatrix`, 16 bytes a unit.
#[cube]
fn multiply_on_tensor_cores<E: Float>(
    stage: &[Vector<E, Const<8>>],
    documents: usize,
    queries: usize,
    sums: &mut Sequence<Tile>,
    #[comptime] shape: Shape,
) {
    let unit = UNIT_POS_PLANE as usize;
    let stride = comptime!(shape.stride());
    let product = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    #[unroll]
    for step in 0..comptime!(shape.slab / 16) {
        let mut right = Sequence::<Array<Vector<E, Const<2>>>>::new();
        #[unroll]
        for t in 0..comptime!(shape.query_tiles / 2) {
            // Four 8 × 8 matrices: the units of each eight address the rows of one. First the two halves of
            // 16 components of one tile, then those of the next.
            let row = queries + t * comptime!(2 * TILE_QUERIES) + unit / 16 * TILE_QUERIES + unit % 8;
            let at = row * stride + step * 2 + unit / 8 % 2;
            let both = product.load_matrix::<Vector<E, Const<8>>, Const<2>>(
                &stage[at..at + 1],
                MatrixIdent::B,
                4usize,
                false,
            );
            #[unroll]
            for half in 0..2usize {
                let mut tile = Array::<Vector<E, Const<2>>>::new(2usize);
                tile[0] = both[comptime!(2 * half)];
                tile[1] = both[comptime!(2 * half + 1)];
                right.push(tile);
            }
        }
        #[unroll]
        for t in 0..comptime!(shape.document_tiles) {
            // Rows 0..8 and 8..16, then the same of the next eight components.
            let row = documents + t * TILE_DOCUMENTS + unit % 16;
            let at = row * stride + step * 2 + unit / 16;
            let left = product.load_matrix::<Vector<E, Const<8>>, Const<2>>(
                &stage[at..at + 1],
                MatrixIdent::A,
                4usize,
                false,
            );
            #[unroll]
            for u in 0..comptime!(shape.query_tiles) {
                product.execute_inplace(
                    &left,
                    right.index(u),
                    sums.index_mut(comptime!(t * shape.query_tiles + u)),
                );
            }
        }
    }
}

/// The same in ordinary arithmetic, for planes of any size up to 32.
#[cube]
fn multiply_plainly<E: Float>(
    stage: &[Vector<E, Const<8>>],
    documents: usize,
    queries: usize,
    sums: &mut Sequence<Tile>,
    #[comptime] shape: Shape,
) {
    let unit = UNIT_POS_PLANE as usize;
    let stride = comptime!(shape.stride());
    #[unroll]
    for t in 0..comptime!(shape.document_tiles) {
        #[unroll]
        for u in 0..comptime!(shape.query_tiles) {
            let sums = sums.index_mut(comptime!(t * shape.query_tiles + u));
            for p in 0..comptime!(shape.pairs()) {
                let pair = p * comptime!(shape.plane) + unit;
                let document = (documents + t * TILE_DOCUMENTS + pair / 4) * stride;
                let query = (queries + u * TILE_QUERIES + pair % 4 * 2) * stride;
                let mut first = Vector::<f32, Const<8>>::new(0.0f32);
                let mut second = Vector::<f32, Const<8>>::new(0.0f32);
                for v in 0..comptime!(shape.slab_vectors()) {
                    let components = Vector::<f32, Const<8>>::cast_from(stage[document + v]);
                    first += components * Vector::<f32, Const<8>>::cast_from(stage[query + v]);
                    second += components * Vector::<f32, Const<8>>::cast_from(stage[query + stride + v]);
                }
                let mut sum = sums[p];
                let one = sum.extract(0usize) + first.vector_sum();
                let two = sum.extract(1usize) + second.vector_sum();
                sum.insert(0usize, one);
                sum.insert(1usize, two);
                sums[p] = sum;
            }
        }
    }
}

/// `best = max(best, sums)`, and the sums begin again at zero.
#[cube]
pub(crate) fn fold(best: &mut Sequence<Tile>, sums: &mut Sequence<Tile>, #[comptime] shape: Shape) {
    #[unroll]
    for t in 0..comptime!(shape.tiles()) {
        let sums = sums.index_mut(t);
        let best = best.index_mut(t);
        #[unroll(comptime!(shape.tensor))]
        for p in 0..comptime!(shape.pairs()) {
            best[p] = max(best[p], sums[p]);
            sums[p] = Vector::new(0.0f32);
        }
    }
}

/// Components are stored in vectors of this many.
const _: () = assert!(LANES == 8);
