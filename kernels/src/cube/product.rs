//! The product of a step of documents and the queries in shared memory, added to a plane's tiles: the one place that
//! knows of tensor cores, and its plain twin.
//!
//! A plane holds `document_tiles × query_tiles` tiles of 8 documents × 16 queries, of which a unit holds
//! pairs: pair `p` of unit `u` is number `i = p · plane + u`, of query `i / 4` and documents
//! `2 (i mod 4)` and the next. With 32 units that is how the tensor cores lay an accumulator of
//! m16n8 out, so that everything but the product itself is the same on both paths.
//!
//! A step is 64 bytes of a row: 32 halves, which are added in f32, or 64 codes of int8, which are added in whole
//! numbers. A unit holds, of each of its rows of documents, the vector `unit mod 4` of the step: four words of two halves
//! or four codes. The tensor cores take two words of a row from each of four units for a product: so the first
//! product is of the first two of each unit's four words, the second of the others, and [`order`] lays the queries out so
//! that `ldmatrix` gives each unit the same components. Documents are the right side, of which a unit's two registers
//! of a product are of one row, and so lie as they were read.

use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::*;

use super::shape::{STEP_VECTORS, Shape, TILE_DOCUMENTS, TILE_QUERIES};

/// A unit's part of one tile: [`Shape::pairs`] pairs of scores.
pub(crate) type Tile<A> = Array<Vector<A, Const<2>>>;

/// All tiles of a plane, zero.
#[cube]
pub(crate) fn tiles_of<A: Numeric>(#[comptime] shape: Shape) -> Sequence<Tile<A>> {
    let mut tiles = Sequence::<Tile<A>>::new();
    #[unroll]
    for _ in 0..comptime!(shape.tiles()) {
        let mut tile = Array::<Vector<A, Const<2>>>::new(comptime!(shape.pairs()));
        #[unroll(comptime!(shape.tensor))]
        for p in 0..comptime!(shape.pairs()) {
            tile[p] = Vector::new(A::from_int(0));
        }
        tiles.push(tile);
    }
    tiles
}

/// The word of a row that lies at `at` in a query: within a step, word `c` of each unit's four, unit by unit, then the next.
pub(crate) const fn order(at: usize) -> usize {
    let of_step = STEP_VECTORS * 4;
    at / of_step * of_step + at % 4 * 4 + at / 4 % 4
}

/// Where in shared memory a query's vector lies: queries one after the other, the vectors of each in an order that
/// puts one column of eight queries, which the tensor cores read together, into different banks.
#[cube]
pub(crate) fn place_of(query: usize, vector: usize, #[comptime] shape: Shape) -> usize {
    query * comptime!(shape.depth) + (vector ^ (query % 8))
}

/// Adds the products of a step to a plane's tiles, by `mma.m16n8`: queries are A, read from
/// vector `at` of theirs by `ldmatrix`, documents B, held as [`fetch`](super::tiles) read them. `N` are the components of a
/// vector, `W` those of a word.
#[cube]
pub(crate) fn multiply<E: Numeric, A: Numeric, N: Size, W: Size>(
    stage: &Shared<[Vector<E, N>]>,
    own_queries: usize,
    at: usize,
    held: &Array<Vector<E, N>>,
    sums: &mut Sequence<Tile<A>>,
    #[comptime] shape: Shape,
) {
    let unit = UNIT_POS_PLANE as usize;
    let product = MmaDefinition::<E, E, A>::new(16usize, 8usize, comptime!(shape.product()));
    #[unroll]
    for half in 0..2usize {
        #[unroll]
        for u in 0..comptime!(shape.query_tiles) {
            let vector = place_of(
                own_queries + u * TILE_QUERIES + row_of(unit),
                at + column_of(unit, half),
                shape,
            );
            let queries = product.load_matrix::<Vector<E, N>, W>(
                &stage[vector..vector + 1],
                MatrixIdent::A,
                4usize,
                false,
            );
            #[unroll]
            for t in 0..comptime!(shape.document_tiles) {
                let mut documents = Array::<Vector<E, W>>::new(2usize);
                documents[0] = word_of::<E, N, W>(held[t], comptime!(2 * half), comptime!(shape.word()));
                documents[1] = word_of::<E, N, W>(held[t], comptime!(2 * half + 1), comptime!(shape.word()));
                product.execute_inplace(
                    &queries,
                    &documents,
                    sums.index_mut(comptime!(t * shape.query_tiles + u)),
                );
            }
        }
    }
}

/// The query of a tile whose vector a unit addresses for `ldmatrix`: of four 8 × 8 matrices, the units of each eight
/// address the rows of one. Queries 0..8 and 8..16 of one vector, then of the next.
#[cube]
fn row_of(unit: usize) -> usize {
    unit % 16
}

/// And the vector, of the two of each half of a step.
#[cube]
fn column_of(unit: usize, #[comptime] half: usize) -> usize {
    half * 2 + unit / 16
}

/// The `word`-th of a vector's four words.
#[cube]
fn word_of<E: Numeric, N: Size, W: Size>(
    vector: Vector<E, N>,
    #[comptime] word: usize,
    #[comptime] components: usize,
) -> Vector<E, W> {
    let mut out = Vector::<E, W>::new(vector.extract(comptime!(word * components)));
    #[unroll]
    for i in 1..components {
        out.insert(i, vector.extract(comptime!(word * components + i)));
    }
    out
}

/// The same in ordinary arithmetic, for planes of any size up to 32: documents are read from vector `first` on.
#[cube]
pub(crate) fn multiply_plainly<E: Numeric, A: Numeric, N: Size>(
    stage: &Shared<[Vector<E, N>]>,
    own_queries: usize,
    at: usize,
    planes: &[Vector<E, N>],
    first: usize,
    width: usize,
    sums: &mut Sequence<Tile<A>>,
    #[comptime] shape: Shape,
) {
    let unit = UNIT_POS_PLANE as usize;
    #[unroll]
    for t in 0..comptime!(shape.document_tiles) {
        #[unroll]
        for u in 0..comptime!(shape.query_tiles) {
            let sums = sums.index_mut(comptime!(t * shape.query_tiles + u));
            for p in 0..comptime!(shape.pairs()) {
                let pair = p * comptime!(shape.plane) + unit;
                let document = first + (t * TILE_DOCUMENTS + pair % 4 * 2) * width;
                let query = own_queries + u * TILE_QUERIES + pair / 4;
                let mut one = A::from_int(0);
                let mut two = A::from_int(0);
                // As `order` says: word `c` of the vector of unit `i` lies at `i` of vector `c`.
                #[unroll]
                for c in 0..STEP_VECTORS {
                    let asked = Vector::<A, N>::cast_from(stage[place_of(query, at + c, shape)]);
                    #[unroll]
                    for i in 0..STEP_VECTORS {
                        let left = Vector::<A, N>::cast_from(planes[document + i]);
                        let right = Vector::<A, N>::cast_from(planes[document + width + i]);
                        #[unroll]
                        for inside in 0..comptime!(shape.word()) {
                            let component = asked.extract(comptime!(i * shape.word() + inside));
                            one += component * left.extract(comptime!(c * shape.word() + inside));
                            two += component * right.extract(comptime!(c * shape.word() + inside));
                        }
                    }
                }
                let mut sum = sums[p];
                let both = (sum.extract(0usize) + one, sum.extract(1usize) + two);
                sum.insert(0usize, both.0);
                sum.insert(1usize, both.1);
                sums[p] = sum;
            }
        }
    }
}

/// The sums begin again at zero.
#[cube]
pub(crate) fn clear<A: Numeric>(sums: &mut Sequence<Tile<A>>, #[comptime] shape: Shape) {
    #[unroll]
    for t in 0..comptime!(shape.tiles()) {
        let sums = sums.index_mut(t);
        #[unroll(comptime!(shape.tensor))]
        for p in 0..comptime!(shape.pairs()) {
            sums[p] = Vector::new(A::from_int(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cube::shape::SHARED_BYTES;

    /// What unit `unit` gets of `ldmatrix.m8n8.x4`: of matrix `j`, whose row `r` is where unit `8 j + r` points,
    /// row `unit / 4` and its word `unit mod 4`. (PTX ISA, "Warp-level matrix load".)
    fn ldmatrix(stage: &[Vec<f32>], address_of: impl Fn(usize) -> usize, unit: usize) -> [Vec<f32>; 4] {
        std::array::from_fn(|j| {
            let row = &stage[address_of(8 * j + unit / 4)];
            let word = row.len() / 4;
            row[unit % 4 * word..][..word].to_vec()
        })
    }

    /// `mma.m16n8` of k16 halves or k32 codes with the fragments of all units: with words of `w` components, A's registers
    /// are rows `g`, `g + 8` of components `w t`, then of `w t + 4 w`, B's are column `g` of components `w t`,
    /// `w t + 4 w`, C's are rows `g`, `g + 8` of columns `2 t`, with `g = unit / 4`, `t = unit mod 4`. (PTX ISA, "Matrix
    /// fragments for mma.m16n8k16" and "... mma.m16n8k32".)
    fn mma(left: &[[Vec<f32>; 4]], right: &[[Vec<f32>; 2]], sums: &mut [[[f32; 2]; 2]]) {
        let w = left[0][0].len();
        let (mut a, mut b) = (vec![vec![0.0; 8 * w]; 16], vec![[0.0; 8]; 8 * w]);
        for unit in 0..32 {
            let (g, t) = (unit / 4, unit % 4 * w);
            for i in 0..w {
                a[g][t + i] = left[unit][0][i];
                a[g + 8][t + i] = left[unit][1][i];
                a[g][t + 4 * w + i] = left[unit][2][i];
                a[g + 8][t + 4 * w + i] = left[unit][3][i];
                b[t + i][g] = right[unit][0][i];
                b[t + 4 * w + i][g] = right[unit][1][i];
            }
        }
        for (unit, sums) in sums.iter_mut().enumerate() {
            for (half, sums) in sums.iter_mut().enumerate() {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let (row, column) = (unit / 4 + 8 * half, unit % 4 * 2 + i);
                    *sum += (0..8 * w).map(|k| a[row][k] * b[k][column]).sum::<f32>();
                }
            }
        }
    }

    /// The tensor cores cannot be had in a test. What they are documented to do is done here by hand, with the
    /// addresses that the kernel gives them, and every sum is where the rest of the kernel takes it to be.
    #[test]
    fn the_addresses_and_places_of_fragments_are_those_of_the_tensor_cores() {
        for coded in [false, true] {
            let shape = Shape::tensor(1024, 16, false, coded, SHARED_BYTES);
            let (lanes, word, width) = (shape.lanes(), shape.word(), 16 * shape.lanes());
            let number = |row: usize, k: usize| ((row * 37 + k * 11 + row * k) % 9) as f32 - 4.0;
            let (document, query) = (
                |row: usize, k: usize| number(row, k),
                |row: usize, k: usize| number(row + 50, k),
            );
            let mut stage = vec![vec![0.0; lanes]; TILE_QUERIES * shape.depth];
            for row in 0..TILE_QUERIES {
                for vector in 0..shape.depth {
                    stage[place_of(row, vector, shape)] = (0..lanes)
                        .map(|i| query(row, order(vector * 4 + i / word) * word + i % word))
                        .collect();
                }
            }
            // Small whole numbers, so that sums are exact in any order.
            let mut sums = [[[0.0f32; 2]; 2]; 32];
            for step in 0..16 / STEP_VECTORS {
                for half in 0..2 {
                    let address =
                        |unit| place_of(row_of(unit), step * STEP_VECTORS + column_of(unit, half), shape);
                    for eight in 0..4 {
                        // The addresses of each eight units lie in different banks: eight vectors span them all.
                        let mut banks: Vec<usize> = (0..8).map(|i| address(eight * 8 + i) % 8).collect();
                        banks.sort_unstable();
                        assert_eq!(banks, [0, 1, 2, 3, 4, 5, 6, 7]);
                    }
                    let left: Vec<_> = (0..32).map(|unit| ldmatrix(&stage, address, unit)).collect();
                    let right: Vec<_> = (0..32)
                        .map(|unit| {
                            std::array::from_fn(|i| {
                                // Rows as `fetch` reads them, words as `multiply` takes them.
                                let k = (step * STEP_VECTORS + unit % 4) * lanes + word * (2 * half + i);
                                (0..word).map(|j| document(unit / 4, k + j)).collect::<Vec<_>>()
                            })
                        })
                        .collect();
                    mma(&left, &right, &mut sums);
                }
            }
            for (unit, pairs) in sums.iter().enumerate() {
                for (p, both) in pairs.iter().enumerate() {
                    // As `multiply_plainly` and `offer` number them.
                    let pair = p * shape.plane + unit;
                    for (half, sum) in both.iter().enumerate() {
                        let (row, column) = (pair / 4, pair % 4 * 2 + half);
                        let expected: f32 = (0..width).map(|k| query(row, k) * document(column, k)).sum();
                        assert_eq!(
                            *sum, expected,
                            "coded {coded}, unit {unit}, pair {p}, half {half}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_of_a_query_takes_every_word_once() {
        let all: Vec<usize> = (0..3 * STEP_VECTORS * 4).collect();
        let mut taken: Vec<usize> = all.iter().map(|&at| order(at)).collect();
        assert_ne!(taken, all);
        taken.sort_unstable();
        assert_eq!(taken, all);
    }
}
