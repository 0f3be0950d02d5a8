//! The integer products of the graph, for VNNI and in plain Rust: one result, whatever the processor.

use super::query::CodedQuery;

/// A cache line of a code: 128 components, four bits each; byte `b` holds component `b` below and
/// component `64 + b` above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u8; 64]);

// SAFETY: 64 bytes without padding, of which every pattern is valid.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above; `Copy`, `repr(C)`, and without pointers.
unsafe impl bytemuck::Pod for Line {}

/// Components in a line.
pub(super) const LINE_DIMENSION: usize = 128;

/// Vectors whose first lines are multiplied together, and columns of a block.
pub(super) const LANES: usize = 16;

/// Products of small integers. Every method of every implementation gives the same numbers.
pub(super) trait Lanes {
    /// `Σ pᵢ cᵢ` of the first lines that `at` names.
    ///
    /// # Safety
    /// The processor must have the instructions, and every entry of `at` must be below `lines.len()`.
    unsafe fn first(lines: &[Line], at: &[u32; LANES], query: &CodedQuery) -> [i32; LANES];

    /// `Σ pᵢ cᵢ` of the lines after the first.
    ///
    /// # Safety
    /// The processor must have the instructions; `query.rest` holds 128 components a line.
    unsafe fn rest(lines: &[Line], query: &CodedQuery) -> i32;

    /// `Σ pᵢ cᵢ` of a line and its 128 components of the query.
    ///
    /// # Safety
    /// The processor must have the instructions.
    unsafe fn one(line: &Line, query: &[i8; LINE_DIMENSION]) -> i32;

    /// `Σ aᵢ bᵢ` of two rows of a multiple of 64 components; `sum` is `Σ bᵢ`.
    ///
    /// # Safety
    /// The processor must have the instructions, and the rows must be equally long.
    unsafe fn dot(a: &[i8], b: &[i8], sum: i32) -> i32;

    /// All products of `rows` `[r, width]` with the columns of `blocks`
    /// (`[⌈columns / 16⌉][width / 4][16][4]`), whose sums are `sums`, into `out` `[r, 16 × blocks]`.
    ///
    /// # Safety
    /// The processor must have the instructions, and the lengths must fit together.
    unsafe fn products(rows: &[i8], width: usize, blocks: &[i8], sums: &[i32], out: &mut [i32]);
}

/// Puts rows of `width` (a multiple of 4) into blocks of sixteen columns; returns blocks and sums.
pub(super) fn interleave<'a>(
    rows: impl ExactSizeIterator<Item = &'a [i8]>,
    width: usize,
) -> (Vec<i8>, Vec<i32>) {
    let columns = rows.len().next_multiple_of(LANES);
    let mut blocks = vec![0i8; columns * width];
    let mut sums = vec![0i32; columns];
    for (column, row) in rows.enumerate() {
        let block = &mut blocks[column / LANES * LANES * width..][..LANES * width];
        let lane = column % LANES * 4;
        for (four, to) in row
            .as_chunks::<4>()
            .0
            .iter()
            .zip(block.chunks_exact_mut(LANES * 4))
        {
            to[lane..lane + 4].copy_from_slice(four);
        }
        sums[column] = row.iter().map(|&value| i32::from(value)).sum();
    }
    (blocks, sums)
}

/// Plain Rust.
pub(super) struct Portable;

fn line_product(line: &Line, query: &[i8]) -> i32 {
    let (low, high) = query.split_at(LINE_DIMENSION / 2);
    line.0
        .iter()
        .zip(low.iter().zip(high))
        .map(|(&byte, (&low, &high))| {
            i32::from(byte & 15) * i32::from(low) + i32::from(byte >> 4) * i32::from(high)
        })
        .sum()
}

impl Lanes for Portable {
    #[inline(always)]
    unsafe fn first(lines: &[Line], at: &[u32; LANES], query: &CodedQuery) -> [i32; LANES] {
        at.map(|at| line_product(&lines[at as usize], &query.first.0))
    }

    #[inline(always)]
    unsafe fn rest(lines: &[Line], query: &CodedQuery) -> i32 {
        lines
            .iter()
            .zip(query.rest.chunks_exact(LINE_DIMENSION))
            .map(|(line, query)| line_product(line, query))
            .sum()
    }

    #[inline(always)]
    unsafe fn one(line: &Line, query: &[i8; LINE_DIMENSION]) -> i32 {
        line_product(line, query)
    }

    #[inline(always)]
    unsafe fn dot(a: &[i8], b: &[i8], _: i32) -> i32 {
        a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
    }

    #[inline(always)]
    unsafe fn products(rows: &[i8], width: usize, blocks: &[i8], sums: &[i32], out: &mut [i32]) {
        for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(sums.len())) {
            for (block, out) in blocks
                .chunks_exact(width * LANES)
                .zip(out.chunks_exact_mut(LANES))
            {
                out.fill(0);
                for (four, columns) in row.chunks_exact(4).zip(block.chunks_exact(4 * LANES)) {
                    for (out, column) in out.iter_mut().zip(columns.chunks_exact(4)) {
                        *out += four
                            .iter()
                            .zip(column)
                            .map(|(&a, &b)| i32::from(a) * i32::from(b))
                            .sum::<i32>();
                    }
                }
            }
        }
    }
}
