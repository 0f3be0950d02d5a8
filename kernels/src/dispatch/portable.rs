//! The kernels in plain Rust: the reference for every other path.

use half::{bf16, f16};

use super::{Instructions, Kernels, Tile};
use crate::Element;

pub(super) const KERNELS: Kernels = Kernels {
    instructions: Instructions::Portable,
    width: WIDTH,
    tile_rows: ROWS,
    widen,
    dot,
    tile,
    exact,
    products: super::product::portable,
    sweeps: super::sweep::PORTABLE,
    tiles: None,
};

const WIDTH: usize = 8;
const ROWS: usize = 4;
const LANES: usize = 16;

fn convert<const N: usize>(row: &[u8], f: impl Fn([u8; N]) -> f32, mut each: impl FnMut(usize, f32)) {
    for (i, bytes) in row.as_chunks::<N>().0.iter().enumerate() {
        each(i, f(*bytes));
    }
}

/// Calls `each` with the index and the value of every component.
#[inline]
pub(super) fn components(element: Element, row: &[u8], each: impl FnMut(usize, f32)) {
    match element {
        Element::F32 => convert(row, f32::from_le_bytes, each),
        Element::F16 => convert(row, |b| f16::from_le_bytes(b).to_f32(), each),
        Element::Bf16 => convert(row, |b| bf16::from_le_bytes(b).to_f32(), each),
        Element::I8 => convert(row, |[b]: [u8; 1]| f32::from(b as i8), each),
    }
}

fn fold(lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    let mut lanes = lanes;
    while half > 0 {
        for j in 0..half {
            lanes[j] += lanes[j + half];
        }
        half /= 2;
    }
    lanes[0]
}

fn widen(element: Element, row: &[u8], out: &mut [f32]) -> f32 {
    let mut squares = [0.0f32; LANES];
    components(element, row, |i, value| {
        out[i] = value;
        squares[i % LANES] += value * value;
    });
    fold(squares)
}

fn dot(element: Element, row: &[u8], query: &[f32]) -> (f32, f32) {
    let mut products = [0.0f32; LANES];
    let mut squares = [0.0f32; LANES];
    components(element, row, |i, value| {
        products[i % LANES] += query[i] * value;
        squares[i % LANES] += value * value;
    });
    (fold(products), fold(squares))
}

fn exact(element: Element, row: &[u8], query: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    components(element, row, |i, value| {
        lanes[i % LANES] += f64::from(query[i]) * f64::from(value);
    });
    let mut half = LANES / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] += lanes[j + half];
        }
        half /= 2;
    }
    lanes[0]
}

fn tile(tile: &Tile, masks: &mut [u32]) {
    let mut sums = [[0.0f32; WIDTH]; ROWS];
    let rows: [&[f32]; ROWS] =
        std::array::from_fn(|r| &tile.rows[r * tile.stride..r * tile.stride + tile.dimension]);
    for (i, queries) in tile
        .panel
        .as_chunks::<WIDTH>()
        .0
        .iter()
        .take(tile.dimension)
        .enumerate()
    {
        for (sums, row) in sums.iter_mut().zip(rows) {
            for (sum, query) in sums.iter_mut().zip(queries) {
                *sum += row[i] * query;
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        masks[r] = 0;
        for (w, &sum) in sums.iter().enumerate() {
            let excluded = sum < tile.low[w] - tile.guard[w] * tile.lengths[r];
            // A sum that overflowed says nothing, whatever its sign.
            if !excluded || sum == f32::NEG_INFINITY {
                masks[r] |= 1 << w;
            }
        }
    }
}
