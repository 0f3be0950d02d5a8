//! The product of a step of documents and the queries in shared memory, added to a plane's tiles: the one place that
//! knows of tensor cores, and its plain twin.
//!
//! A plane holds `document_tiles × query_tiles` tiles of 8 documents × 16 queries, of which a unit holds
//! pairs: pair `p` of unit `u` is number `i = p · plane + u`, of query `i / 4` and documents
//! `2 (i mod 4)` and the next. With 32 units that is how the tensor cores lay an accumulator of
//! m16n8k16 out, so that everything but the product itself is the same on both paths.
//!
//! Of a step's 32 components a unit holds, of each of its rows of documents, the eight that begin with
//! `8 (unit mod 4)`. The tensor cores take two pairs of a row from each of four units for a product: so the first
//! product is of the first four of each unit's eight, the second of the others, and [`order`] lays the queries out so
//! that `ldmatrix` gives each unit the same components. Documents are the right side, of which a unit's two registers
//! of a product are of one row, and so lie as they were read.

use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::*;

use super::shape::{LANES, STEP, STEP_VECTORS, Shape, TILE_DOCUMENTS, TILE_QUERIES};

/// A unit's part of one tile: [`Shape::pairs`] pairs of scores.
pub(crate) type Tile = Array<Vector<f32, Const<2>>>;

/// All tiles of a plane, zero.
#[cube]
pub(crate) fn tiles_of(#[comptime] shape: Shape) -> Sequence<Tile> {
    let mut tiles = Sequence::<Tile>::new();
    #[unroll]
    for _ in 0..comptime!(shape.tiles()) {
        let mut tile = Array::<Vector<f32, Const<2>>>::new(comptime!(shape.pairs()));
        #[unroll(comptime!(shape.tensor))]
        for p in 0..comptime!(shape.pairs()) {
            tile[p] = Vector::new(0.0f32);
        }
        tiles.push(tile);
    }
    tiles
}

/// The component of a row that lies at `at` in a query: within a step, the pair `c` of each unit's eight, unit by
/// unit, then the next pair.
pub(crate) fn order(at: usize) -> usize {
    let (step, at) = (at / STEP, at % STEP);
    let (c, unit, half) = (at / LANES, at % LANES / 2, at % 2);
    step * STEP + LANES * unit + 2 * c + half
}

/// Where in shared memory a query's vector lies: queries one after the other, the vectors of each in an order that
/// puts one column of eight queries, which the tensor cores read together, into different banks.
#[cube]
pub(crate) fn place_of(query: usize, vector: usize, #[comptime] shape: Shape) -> usize {
    query * comptime!(shape.depth_vectors()) + (vector ^ (query % 8))
}

/// Adds the products of a step to a plane's tiles, by `mma.m16n8k16` with f32 accumulation: queries are A, read from
/// vector `at` of theirs by `ldmatrix`, documents B, held as [`fetch`](super::tiles) read them.
#[cube]
pub(crate) fn multiply<E: Float>(
    stage: &Shared<[Vector<E, Const<8>>]>,
    at: usize,
    held: &Array<Vector<E, Const<8>>>,
    sums: &mut Sequence<Tile>,
    #[comptime] shape: Shape,
) {
    let unit = UNIT_POS_PLANE as usize;
    let product = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    #[unroll]
    for half in 0..2usize {
        #[unroll]
        for u in 0..comptime!(shape.query_tiles) {
            let vector = place_of(u * TILE_QUERIES + row_of(unit), at + column_of(unit, half), shape);
            let queries = product.load_matrix::<Vector<E, Const<8>>, Const<2>>(
                &stage[vector..vector + 1],
                MatrixIdent::A,
                4usize,
                false,
            );
            #[unroll]
            for t in 0..comptime!(shape.document_tiles) {
                let mut documents = Array::<Vector<E, Const<2>>>::new(2usize);
                documents[0] = pair_of::<E>(held[t], comptime!(2 * half));
                documents[1] = pair_of::<E>(held[t], comptime!(2 * half + 1));
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

/// Two neighbouring components of eight.
#[cube]
fn pair_of<E: Float>(eight: Vector<E, Const<8>>, #[comptime] pair: usize) -> Vector<E, Const<2>> {
    let mut both = Vector::<E, Const<2>>::new(eight.extract(comptime!(2 * pair)));
    both.insert(1usize, eight.extract(comptime!(2 * pair + 1)));
    both
}

/// The same in ordinary arithmetic, for planes of any size up to 32: documents are read from vector `first` on.
#[cube]
pub(crate) fn multiply_plainly<E: Float>(
    stage: &Shared<[Vector<E, Const<8>>]>,
    at: usize,
    planes: &[Vector<E, Const<8>>],
    first: usize,
    width: usize,
    sums: &mut Sequence<Tile>,
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
                let query = u * TILE_QUERIES + pair / 4;
                let mut one = 0.0f32;
                let mut two = 0.0f32;
                // As `order` says: pair `c` of the vector of unit `i` lies at `i` of vector `c`.
                #[unroll]
                for c in 0..STEP_VECTORS {
                    let asked = Vector::<f32, Const<8>>::cast_from(stage[place_of(query, at + c, shape)]);
                    #[unroll]
                    for i in 0..STEP_VECTORS {
                        let left = Vector::<f32, Const<8>>::cast_from(planes[document + i]);
                        let right = Vector::<f32, Const<8>>::cast_from(planes[document + width + i]);
                        #[unroll]
                        for half in 0..2usize {
                            let component = asked.extract(comptime!(2 * i + half));
                            one += component * left.extract(comptime!(2 * c + half));
                            two += component * right.extract(comptime!(2 * c + half));
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
pub(crate) fn clear(sums: &mut Sequence<Tile>, #[comptime] shape: Shape) {
    #[unroll]
    for t in 0..comptime!(shape.tiles()) {
        let sums = sums.index_mut(t);
        #[unroll(comptime!(shape.tensor))]
        for p in 0..comptime!(shape.pairs()) {
            sums[p] = Vector::new(0.0f32);
        }
    }
}

/// Components are stored in vectors of this many, of which four units hold a step.
const _: () = assert!(LANES == 8 && STEP_VECTORS == 4);

#[cfg(test)]
mod tests {
    use super::*;

    /// A row's 16-byte vector.
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
        let shape = Shape::tensor(1024, 128, false);
        let number = |row: usize, k: usize| ((row * 37 + k * 11 + row * k) % 9) as f32 - 4.0;
        let (document, query) = (
            |row: usize, k: usize| number(row, k),
            |row: usize, k: usize| number(row + 50, k),
        );
        let mut stage = vec![[0.0; LANES]; TILE_QUERIES * shape.depth_vectors()];
        for row in 0..TILE_QUERIES {
            for vector in 0..shape.depth_vectors() {
                stage[place_of(row, vector, shape)] =
                    std::array::from_fn(|i| query(row, order(vector * LANES + i)));
            }
        }
        // Small whole numbers, so that sums are exact in any order.
        let mut sums = [[[0.0f32; 2]; 2]; 32];
        for step in 0..128 / STEP {
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
                            // Rows as `fetch` reads them, pairs as `multiply` takes them.
                            let k = step * STEP + unit % 4 * LANES + 2 * (2 * half + i);
                            [document(unit / 4, k), document(unit / 4, k + 1)]
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
                    let expected: f32 = (0..128).map(|k| query(row, k) * document(column, k)).sum();
                    assert_eq!(*sum, expected, "unit {unit}, pair {p}, half {half}");
                }
            }
        }
    }

    #[test]
    fn the_order_of_a_query_takes_every_component_once() {
        let mut taken: Vec<usize> = (0..3 * STEP).map(order).collect();
        assert_ne!(taken, (0..3 * STEP).collect::<Vec<_>>());
        taken.sort_unstable();
        assert_eq!(taken, (0..3 * STEP).collect::<Vec<_>>());
    }
}
