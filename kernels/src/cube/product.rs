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
            let row = queries + t * comptime!(2 * TILE_QUERIES);
            let at = row * stride + right_of(unit, step, stride);
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
            let row = documents + t * TILE_DOCUMENTS;
            let at = row * stride + left_of(unit, step, stride);
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

/// The vector that a unit addresses for `ldmatrix` of a tile of documents, from the tile's first row: of four
/// 8 × 8 matrices, the units of each eight address the rows of one. Rows 0..8 and 8..16 of eight components,
/// then the same of the next eight.
#[cube]
fn left_of(unit: usize, step: usize, stride: usize) -> usize {
    unit % 16 * stride + step * 2 + unit / 16
}

/// The same for two tiles of queries at once: both halves of 16 components of one, then of the other.
#[cube]
fn right_of(unit: usize, step: usize, stride: usize) -> usize {
    (unit / 16 * TILE_QUERIES + unit % 8) * stride + step * 2 + unit / 8 % 2
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A row's 16-byte vector, as the stage holds it.
    type Stored = [f32; LANES];

    /// What unit `unit` gets of `ldmatrix.m8n8.x4`: of matrix `j`, whose row `r` is where unit `8 j + r` points,
    /// row `unit / 4` and two components from `unit mod 4 · 2`. (PTX ISA, "Warp-level matrix load".)
    fn ldmatrix(stage: &[Stored], address_of: impl Fn(usize) -> usize, unit: usize) -> [[f32; 2]; 4] {
        std::array::from_fn(|j| {
            let row = stage[address_of(8 * j + unit / 4)];
            [row[unit % 4 * 2], row[unit % 4 * 2 + 1]]
        })
    }

    /// `mma.m16n8k16` with the fragments of all units: A's registers are rows `g`, `g + 8` of components
    /// `2 t`, then of `2 t + 8`, B's are column `g` of components `2 t`, `2 t + 8`, C's are rows `g`, `g + 8`
    /// of columns `2 t`, with `g = unit / 4`, `t = unit mod 4`. (PTX ISA, "Matrix fragments for mma.m16n8k16".)
    fn mma(left: &[[[f32; 2]; 4]], right: &[[[f32; 2]; 2]], sums: &mut [[[f32; 2]; 2]]) {
        let (mut a, mut b) = ([[0.0; 16]; 16], [[0.0; 8]; 16]);
        for unit in 0..32 {
            let (g, t) = (unit / 4, unit % 4 * 2);
            for i in 0..2 {
                a[g][t + i] = left[unit][0][i];
                a[g + 8][t + i] = left[unit][1][i];
                a[g][t + 8 + i] = left[unit][2][i];
                a[g + 8][t + 8 + i] = left[unit][3][i];
                b[t + i][g] = right[unit][0][i];
                b[t + 8 + i][g] = right[unit][1][i];
            }
        }
        for (unit, sums) in sums.iter_mut().enumerate() {
            for (half, sums) in sums.iter_mut().enumerate() {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let (row, column) = (unit / 4 + 8 * half, unit % 4 * 2 + i);
                    *sum += (0..16).map(|k| a[row][k] * b[k][column]).sum::<f32>();
                }
            }
        }
    }

    /// The tensor cores cannot be had in a test. What they are documented to do is done here by hand, with the
    /// addresses that the kernel gives them, and every sum is where the rest of the kernel takes it to be.
    #[test]
    fn the_addresses_and_places_of_fragments_are_those_of_the_tensor_cores() {
        let shape = Shape::tensor(1024, false);
        let stride = shape.stride();
        // 16 documents, then 16 queries: one tile of the former, two of the latter. Small whole numbers, so
        // that sums are exact in any order.
        let stage: Vec<Stored> = (0..32 * stride)
            .map(|at| std::array::from_fn(|i| ((at * 37 + i * 11 + at * i) % 9) as f32 - 4.0))
            .collect();
        let mut sums = [[[[0.0f32; 2]; 2]; 32]; 2];
        for step in 0..shape.slab / 16 {
            let left: Vec<_> = (0..32)
                .map(|unit| ldmatrix(&stage, |unit| left_of(unit, step, stride), unit))
                .collect();
            let right: Vec<_> = (0..32)
                .map(|unit| {
                    let address = |unit| 16 * stride + right_of(unit, step, stride);
                    ldmatrix(&stage, address, unit)
                })
                .collect();
            for (tile, sums) in sums.iter_mut().enumerate() {
                let of_tile: Vec<_> = right.iter().map(|r| [r[2 * tile], r[2 * tile + 1]]).collect();
                mma(&left, &of_tile, sums);
            }
        }
        let component = |row: usize, k: usize| stage[row * stride + k / LANES][k % LANES];
        for (tile, sums) in sums.iter().enumerate() {
            for (unit, pairs) in sums.iter().enumerate() {
                for (p, both) in pairs.iter().enumerate() {
                    // As `multiply_plainly` and `offer` number them.
                    let pair = p * shape.plane + unit;
                    for (half, sum) in both.iter().enumerate() {
                        let (document, query) = (pair / 4, 16 + tile * TILE_QUERIES + pair % 4 * 2 + half);
                        let expected: f32 = (0..shape.slab)
                            .map(|k| component(document, k) * component(query, k))
                            .sum();
                        assert_eq!(*sum, expected, "tile {tile}, unit {unit}, pair {p}, half {half}");
                    }
                }
            }
        }
    }
}
