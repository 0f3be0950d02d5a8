//! Products of matrices rounded to bf16, summed in f32, on the matrix tiles of AMX or by AVX-512's dot products of pairs:
//! for training, where a gradient is a sample anyway.
//!
//! A tile register holds sixteen rows of 64 bytes: of the left matrix sixteen rows and 32 steps of the depth, of the right
//! one 32 steps and sixteen columns, two steps of a column side by side. One instruction adds the product of the two to
//! sixteen by sixteen sums. The compiler knows nothing of these registers on stable Rust, so they live inside blocks of
//! assembly. Every sum runs over the depth in one order, whatever the rows around it and the threads are.

mod means;

use rayon::prelude::*;
use stratal_kernels::{TileNumbers, TileRegisters};

use means::{Means, has_dot_products, multiply};

use super::lanes::{Isa, Lanes, dispatch};
use super::matrix::Rows;

/// Rows and columns of a tile.
const TILE: usize = 16;
/// Rows and columns that are multiplied at once.
pub(crate) const BLOCK: usize = 2 * TILE;
/// Steps of the depth in a tile.
const STEP: usize = 32;

/// Two neighbouring steps of a column, in bf16.
pub(crate) type Pair = u32;

/// A tile of a right matrix: sixteen pairs of steps, sixteen columns.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Tile([[Pair; TILE]; TILE]);

/// Sums of a block of 32 rows and 32 columns.
#[repr(C, align(64))]
struct Sums([[[[f32; TILE]; TILE]; 2]; 2]);

/// A right matrix `[depth, columns]`, rounded and cut into tiles; zeros where it ends within one.
#[derive(Default)]
pub(crate) struct TilePanels {
    /// `[columns / 32][depth / 32][2]`
    tiles: Vec<Tile>,
    depth: usize,
    columns: usize,
}

/// The columns of a matrix as rows `[columns, depth]`, rounded; zeros where a tile reaches further.
#[derive(Default)]
pub(crate) struct TransposedRows {
    pairs: Vec<Pair>,
    depth: usize,
}

/// Whether the processor multiplies bf16, in one way or the other, and the system lets this process do so.
pub(crate) fn is_permitted() -> bool {
    TileRegisters::are_permitted(TileNumbers::Bf16) || has_dot_products()
}

impl TilePanels {
    fn shape(&mut self, depth: usize, columns: usize) -> usize {
        (self.depth, self.columns) = (depth, columns);
        let steps = depth.div_ceil(STEP);
        self.tiles
            .resize(columns.div_ceil(BLOCK) * steps * 2, Tile([[0; TILE]; TILE]));
        steps
    }

    /// A PyTorch weight `[columns, depth]`.
    pub(crate) fn pack_weight(&mut self, isa: Isa, weight: &[f32], depth: usize) {
        let steps = self.shape(depth, weight.len() / depth);
        let blocks = self.tiles.par_chunks_exact_mut((2 * steps).max(1));
        blocks
            .enumerate()
            .for_each(|(block, tiles)| pack_weight_block(isa, weight, depth, block, tiles));
    }

    /// A row-major array `[depth, columns]` without gaps.
    pub(crate) fn pack_rows(&mut self, isa: Isa, data: &[f32], columns: usize) {
        let steps = self.shape(data.len() / columns, columns);
        let blocks = self.tiles.par_chunks_exact_mut((2 * steps).max(1));
        blocks
            .enumerate()
            .for_each(|(block, tiles)| pack_rows_block(isa, data, columns, block, tiles));
    }
}

impl TransposedRows {
    /// The columns of a row-major array `[depth, columns]` without gaps.
    pub(crate) fn pack(&mut self, isa: Isa, data: &[f32], columns: usize) {
        self.depth = data.len() / columns;
        let stride = self.depth.div_ceil(STEP) * TILE;
        self.pairs.resize(columns.div_ceil(BLOCK) * BLOCK * stride, 0);
        let blocks = self.pairs.par_chunks_exact_mut((TILE * stride).max(1));
        blocks
            .enumerate()
            .for_each(|(block, out)| transpose_block(isa, data, columns, block, stride, out));
    }
}

dispatch! {
    /// One block of columns of [`TilePanels::pack_weight`].
    pack_weight_block = pack_weight_body(weight: &[f32], depth: usize, block: usize, tiles: &mut [Tile])
}

#[inline(always)]
unsafe fn pack_weight_body<L: Lanes>(weight: &[f32], depth: usize, block: usize, tiles: &mut [Tile]) {
    let columns = weight.len() / depth;
    for (at, tile) in tiles.iter_mut().enumerate() {
        let (step, first) = (at / 2 * STEP, block * BLOCK + at % 2 * TILE);
        for c in 0..TILE {
            let mut part = [0.0; STEP];
            if first + c < columns {
                let row = &weight[(first + c) * depth..(first + c + 1) * depth][step..];
                match row.first_chunk::<STEP>() {
                    Some(whole) => part = *whole,
                    None => part[..row.len()].copy_from_slice(row),
                }
            }
            for (r, pairs) in tile.0.iter_mut().enumerate() {
                pairs[c] = pair(part[2 * r], part[2 * r + 1]);
            }
        }
    }
}

dispatch! {
    /// One block of columns of [`TilePanels::pack_rows`].
    pack_rows_block = pack_rows_body(data: &[f32], columns: usize, block: usize, tiles: &mut [Tile])
}

#[inline(always)]
unsafe fn pack_rows_body<L: Lanes>(data: &[f32], columns: usize, block: usize, tiles: &mut [Tile]) {
    let depth = data.len() / columns;
    for (at, tile) in tiles.iter_mut().enumerate() {
        let (step, first) = (at / 2 * STEP, block * BLOCK + at % 2 * TILE);
        for (r, pairs) in tile.0.iter_mut().enumerate() {
            let low = sixteen(data, columns, depth, step + 2 * r, first);
            let high = sixteen(data, columns, depth, step + 2 * r + 1, first);
            *pairs = interleaved(&low, &high);
        }
    }
}

dispatch! {
    /// Sixteen columns of [`TransposedRows::pack`].
    transpose_block = transpose_body(data: &[f32], columns: usize, block: usize, stride: usize, out: &mut [Pair])
}

#[inline(always)]
unsafe fn transpose_body<L: Lanes>(
    data: &[f32],
    columns: usize,
    block: usize,
    stride: usize,
    out: &mut [Pair],
) {
    let depth = data.len() / columns;
    for step in 0..stride / TILE {
        let mut square = [[0; TILE]; TILE];
        for (r, pairs) in square.iter_mut().enumerate() {
            let low = sixteen(data, columns, depth, step * STEP + 2 * r, block * TILE);
            let high = sixteen(data, columns, depth, step * STEP + 2 * r + 1, block * TILE);
            *pairs = interleaved(&low, &high);
        }
        for (c, out) in out.chunks_exact_mut(stride).enumerate() {
            let mut turned = [0; TILE];
            for (turned, pairs) in turned.iter_mut().zip(&square) {
                *turned = pairs[c];
            }
            out[step * TILE..][..TILE].copy_from_slice(&turned);
        }
    }
}

/// Sixteen elements of a row from `first` on, zeros where the array ends.
#[inline(always)]
fn sixteen(data: &[f32], columns: usize, depth: usize, row: usize, first: usize) -> [f32; TILE] {
    let mut out = [0.0; TILE];
    if row < depth && first < columns {
        let from = &data[row * columns + first..(row + 1) * columns];
        match from.first_chunk::<TILE>() {
            Some(whole) => out = *whole,
            None => out[..from.len()].copy_from_slice(from),
        }
    }
    out
}

#[inline(always)]
fn interleaved(low: &[f32; TILE], high: &[f32; TILE]) -> [Pair; TILE] {
    std::array::from_fn(|i| pair(low[i], high[i]))
}

/// Two numbers rounded to bf16, to the nearest, ties to even.
#[inline(always)]
fn pair(low: f32, high: f32) -> Pair {
    let round = |x: f32| {
        let bits = x.to_bits();
        bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
    };
    round(low) >> 16 | round(high) & 0xffff_0000
}

dispatch! {
    /// `out[i, j] = sum over k of a[i, k] b[k, j] + bias[j]`; rows of `out` are `out_stride` elements apart.
    product = product_body(a: Rows<'_>, b: &TilePanels, bias: &[f32], out: &mut [f32], out_stride: usize)
}

#[inline(always)]
unsafe fn product_body<L: Lanes>(
    a: Rows<'_>,
    b: &TilePanels,
    bias: &[f32],
    out: &mut [f32],
    out_stride: usize,
) {
    thread_local! {
        static LEFT: std::cell::RefCell<Vec<Pair>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let depth = b.depth;
    let stride = depth.div_ceil(STEP) * TILE;
    // Taken, not borrowed: nothing here waits for other work, but a panic must not leave it borrowed.
    let mut left = LEFT.take();
    left.resize(a.rows.div_ceil(BLOCK) * BLOCK * stride, 0);
    for (i, to) in left.chunks_exact_mut(stride.max(1)).enumerate() {
        if i < a.rows {
            let row = &a.data[i * a.stride..][..depth];
            let (whole, rest) = row.as_chunks::<2>();
            to.iter_mut()
                .zip(whole)
                .for_each(|(to, x)| *to = pair(x[0], x[1]));
            to[whole.len()..].fill(0);
            if let [last] = rest {
                to[whole.len()] = pair(*last, 0.0);
            }
        } else {
            to.fill(0);
        }
    }
    blocks(&left, stride, a.rows, b, |row, column, sums| {
        let width = TILE.min(b.columns - column);
        let out = &mut out[row * out_stride + column..][..width];
        match bias.is_empty() {
            true => out.copy_from_slice(&sums[..width]),
            false => {
                let bias = &bias[column..][..width];
                out.iter_mut()
                    .zip(sums)
                    .zip(bias)
                    .for_each(|((out, sum), bias)| *out = sum + bias);
            }
        }
    });
    LEFT.set(left);
}

dispatch! {
    /// `out[i, j] += sum over t of a[t, i] b[t, j]` for the 32 columns of `a` from `32 block` on, and as many rows of
    /// `out`, which lie without gaps.
    add_transposed_product = add_transposed_body(a: &TransposedRows, block: usize, b: &TilePanels, out: &mut [f32])
}

#[inline(always)]
unsafe fn add_transposed_body<L: Lanes>(a: &TransposedRows, block: usize, b: &TilePanels, out: &mut [f32]) {
    let stride = a.depth.div_ceil(STEP) * TILE;
    let left = &a.pairs[block * BLOCK * stride..][..BLOCK * stride];
    let rows = out.len() / b.columns;
    blocks(left, stride, rows, b, |row, column, sums| {
        let width = TILE.min(b.columns - column);
        let out = &mut out[row * b.columns + column..][..width];
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    });
}

/// Multiplies block by block; `take(row, column, sums)` gets the sums of a row and sixteen columns.
#[inline(always)]
fn blocks(
    left: &[Pair],
    stride: usize,
    rows: usize,
    b: &TilePanels,
    mut take: impl FnMut(usize, usize, &[f32; TILE]),
) {
    let steps = stride / TILE;
    if steps == 0 {
        return;
    }
    let mut sums = Sums([[[[0.0; TILE]; TILE]; 2]; 2]);
    let means = Means::best();
    for (block, right) in b.tiles.chunks_exact(2 * steps).enumerate() {
        for (first, left) in (0..rows).step_by(BLOCK).zip(left.chunks_exact(BLOCK * stride)) {
            multiply(&means, left, right, &mut sums);
            for (r, row) in (first..rows.min(first + BLOCK)).enumerate() {
                for (half, sums) in sums.0[r / TILE].iter().enumerate() {
                    let column = block * BLOCK + half * TILE;
                    if column < b.columns {
                        take(row, column, &sums[r % TILE]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::means::plain_multiply;
    use super::*;

    /// Whole numbers, which bf16 holds and whose sums f32 holds: every product must be exact.
    fn whole(n: usize, seed: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 37 + seed * 11 + i / 7) % 23) as f32 - 11.0)
            .collect()
    }

    #[test]
    fn products_of_whole_numbers_are_exact_whatever_the_shape() {
        if !is_permitted() {
            eprintln!("no products of bf16 here: the plain twin is tested");
        }
        let isa = Isa::detect();
        let shapes = [
            (1, 1, 1),
            (5, 7, 3),
            (32, 32, 32),
            (33, 65, 40),
            (112, 96, 130),
            (70, 3, 17),
        ];
        for (rows, depth, columns) in shapes {
            let (a, weight, bias) = (
                whole(rows * (depth + 2), 1),
                whole(columns * depth, 2),
                whole(columns, 3),
            );
            let (mut ahead, mut back) = (TilePanels::default(), TilePanels::default());
            ahead.pack_weight(isa, &weight, depth);
            let transposed: Vec<f32> = (0..depth * columns)
                .map(|i| weight[i % columns * depth + i / columns])
                .collect();
            back.pack_rows(isa, &transposed, columns);
            let rows_of = Rows {
                data: &a,
                stride: depth + 2,
                rows,
            };
            for (panels, bias) in [(&ahead, &bias[..]), (&back, &[])] {
                let mut out = vec![7.0; rows * (columns + 1)];
                product(isa, rows_of, panels, bias, &mut out, columns + 1);
                for i in 0..rows {
                    for j in 0..columns {
                        let sum: f32 = (0..depth)
                            .map(|k| a[i * (depth + 2) + k] * weight[j * depth + k])
                            .sum();
                        let want = sum + bias.get(j).unwrap_or(&0.0);
                        assert_eq!(
                            out[i * (columns + 1) + j],
                            want,
                            "{rows} {depth} {columns}: {i} {j}"
                        );
                    }
                    assert_eq!(
                        out[i * (columns + 1) + columns],
                        7.0,
                        "between rows nothing is written"
                    );
                }
            }
        }
    }

    #[test]
    fn transposed_products_add_up() {
        let isa = Isa::detect();
        for (depth, left, right) in [(1, 1, 1), (40, 33, 50), (64, 32, 32), (131, 70, 5)] {
            let (a, b) = (whole(depth * left, 4), whole(depth * right, 5));
            let (mut rows, mut panels) = (TransposedRows::default(), TilePanels::default());
            // Of another shape before, as a run's last batch is.
            rows.pack(isa, &whole(90 * left, 6), left);
            panels.pack_rows(isa, &whole(90 * right, 6), right);
            rows.pack(isa, &a, left);
            panels.pack_rows(isa, &b, right);
            let mut out = whole(left * right, 7);
            let before = out.clone();
            for (block, out) in out.chunks_mut(BLOCK * right).enumerate() {
                add_transposed_product(isa, &rows, block, &panels, out);
            }
            for i in 0..left {
                for j in 0..right {
                    let sum: f32 = (0..depth).map(|t| a[t * left + i] * b[t * right + j]).sum();
                    assert_eq!(
                        out[i * right + j],
                        before[i * right + j] + sum,
                        "{depth} {left} {right}"
                    );
                }
            }
        }
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_all_means_agree_with_plain_arithmetic() {
        assert_eq!(pair(1.0, -2.0), 0xc000_3f80);
        assert_eq!(pair(1.003_906_3, 1.011_718_8), 0x3f82_3f80, "ties to even");
        assert!(f32::from_bits(pair(f32::NAN, 0.0) << 16).is_nan());
        assert!(f32::from_bits(pair(f32::INFINITY, 0.0) << 16).is_infinite());
        let steps = 3;
        let left: Vec<Pair> = (0..BLOCK * steps * TILE)
            .map(|i| pair((i as f32 * 0.37).sin(), (i as f32 * 0.21).cos()))
            .collect();
        let mut right = vec![Tile([[0; TILE]; TILE]); 2 * steps];
        for (i, pairs) in right.iter_mut().flat_map(|tile| &mut tile.0).enumerate() {
            *pairs = std::array::from_fn(|j| pair((i * j) as f32 * 0.01, (i as f32 - j as f32) * 0.1));
        }
        let zeros = || Sums([[[[0.0; TILE]; TILE]; 2]; 2]);
        let flat = |sums: &Sums| sums.0.as_flattened().as_flattened().as_flattened().to_vec();
        let mut plain = zeros();
        plain_multiply(&left, &right, &mut plain);
        let mut means = vec![Means::best()];
        #[cfg(target_arch = "x86_64")]
        if has_dot_products() {
            means.push(Means::DotProducts);
        }
        for means in means {
            let mut sums = zeros();
            multiply(&means, &left, &right, &mut sums);
            for (a, b) in flat(&plain).iter().zip(flat(&sums)) {
                assert!((a - b).abs() < 1e-3 * a.abs().max(1.0), "{a} {b}");
            }
        }
    }
}
