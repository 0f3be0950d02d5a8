//! The integer products of the graph, for VNNI and in plain Rust: one result, whatever the processor.

use super::links::DEGREE;
use super::query::Head;

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

/// Lines of a code that a walk reads at once: neighbours in memory, which processors fetch in pairs.
pub(super) const HEAD: usize = 2;

/// Vectors whose heads are multiplied together, and columns of a block.
pub(super) const LANES: usize = 16;

/// Products of small integers. Every method of every implementation gives the same numbers.
pub(super) trait Lanes {
    /// `Σ pᵢ cᵢ` of the heads, of `each` lines, that the first `count` of `at` name. What comes behind those means nothing.
    ///
    /// # Safety
    /// The processor must have the instructions, `each` be 1 or 2, and `lines` hold `each` for every entry of `at`.
    unsafe fn heads(
        lines: &[Line],
        each: usize,
        at: &[u32; LANES],
        count: usize,
        query: &Head,
    ) -> [i32; LANES];

    /// A bit for each sum that reaches `bar` times `scale`.
    ///
    /// # Safety
    /// The processor must have the instructions.
    unsafe fn reaching(sums: &[i32; LANES], scale: f32, bar: f32) -> u32;

    /// Puts those of `nodes` that are below `count` and have no bit in `seen` into the front of `out`; returns how
    /// many those are. What `out` holds behind them is below `count` if it was, or 0.
    ///
    /// # Safety
    /// The processor must have the instructions, and `seen` hold a bit for each number below `count`, which is at
    /// most 2³¹.
    unsafe fn unseen(nodes: &[u32; DEGREE], count: u32, seen: &[u32], out: &mut [u32; DEGREE]) -> usize;

    /// How many of `keys` are larger than `key`.
    ///
    /// # Safety
    /// The processor must have the instructions.
    unsafe fn above(keys: &[u64], key: u64) -> usize;

    /// Puts `key` in front of `keys`, whose last one falls out.
    ///
    /// # Safety
    /// The processor must have the instructions.
    unsafe fn insert(keys: &mut [u64], key: u64);

    /// `Σ pᵢ cᵢ` of lines and their 128 components each of the query.
    ///
    /// # Safety
    /// The processor must have the instructions, and `query` hold 128 components a line.
    unsafe fn span(lines: &[Line], query: &[i8]) -> i32;

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
    unsafe fn heads(
        lines: &[Line],
        each: usize,
        at: &[u32; LANES],
        count: usize,
        query: &Head,
    ) -> [i32; LANES] {
        let mut sums = [0; LANES];
        for (sum, &at) in sums.iter_mut().zip(at).take(count) {
            let head = &lines[at as usize * each..][..each];
            *sum = head
                .iter()
                .zip(query.0.chunks_exact(LINE_DIMENSION))
                .map(|(line, query)| line_product(line, query))
                .sum();
        }
        sums
    }

    #[inline(always)]
    unsafe fn reaching(sums: &[i32; LANES], scale: f32, bar: f32) -> u32 {
        sums.iter().enumerate().fold(0, |mask, (lane, &sum)| {
            mask | u32::from(sum as f32 * scale >= bar) << lane
        })
    }

    #[inline(always)]
    unsafe fn unseen(nodes: &[u32; DEGREE], count: u32, seen: &[u32], out: &mut [u32; DEGREE]) -> usize {
        let Some(last) = count.checked_sub(1) else {
            return 0;
        };
        let mut fresh = 0;
        for &node in nodes {
            // No branch, for which ones were seen cannot be guessed.
            let within = node.min(last);
            out[fresh] = within;
            let unseen = seen[within as usize / 32] >> (within % 32) & 1 == 0;
            fresh += usize::from((node == within) & unseen);
        }
        fresh
    }

    #[inline(always)]
    unsafe fn above(keys: &[u64], key: u64) -> usize {
        keys.iter().filter(|&&other| other > key).count()
    }

    #[inline(always)]
    unsafe fn insert(keys: &mut [u64], key: u64) {
        let mut carried = key;
        for key in keys {
            std::mem::swap(key, &mut carried);
        }
    }

    #[inline(always)]
    unsafe fn span(lines: &[Line], query: &[i8]) -> i32 {
        lines
            .iter()
            .zip(query.chunks_exact(LINE_DIMENSION))
            .map(|(line, query)| line_product(line, query))
            .sum()
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
