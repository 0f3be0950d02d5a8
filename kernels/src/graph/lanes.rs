//! The integer products of the graph, for VNNI and in plain Rust: one result, whatever the processor.

use super::links::DEGREE;
use super::query::Head;

/// A cache line of a code, of one of three kinds.
///
/// - *Heads*: in its first 32 bytes 64 components of four bits, byte `b` holding component `b` below and `32 + b` above; in
///   the others 128 components of two bits, byte `b` holding `b`, `32 + b`, `64 + b`, `96 + b`, the first one lowest.
/// - High halves: 128 components of four bits; byte `b` holds component `b` below and component `64 + b` above.
/// - Low bits: 256 components of two bits; byte `b` holds `b`, `64 + b`, `128 + b`, `192 + b`, the first one lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u8; 64]);

// SAFETY: 64 bytes without padding, of which every pattern is valid.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above; `Copy`, `repr(C)`, and without pointers.
unsafe impl bytemuck::Pod for Line {}

/// Components in a line of high halves, and in one of low bits.
pub(super) const LINE_DIMENSION: usize = 128;
pub(super) const LOW_DIMENSION: usize = 256;

/// Components of four bits in a line of a head, and of two.
pub(super) const FINE: usize = 64;
pub(super) const COARSE: usize = 128;
pub(super) const HEAD_DIMENSION: usize = FINE + COARSE;

/// Lines of a head at most.
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

    /// Puts those of `nodes` that are below `count` and have no bit in `seen` into the front of `out` and gives them
    /// one; returns how many those are. What `out` holds behind them is below `count` if it was, or 0. A node that is
    /// named twice is there twice.
    ///
    /// # Safety
    /// The processor must have the instructions, and `seen` hold a bit for each number below `count`, which is at
    /// most 2³¹.
    unsafe fn take_unseen(
        nodes: &[u32; DEGREE],
        count: u32,
        seen: &mut [u32],
        out: &mut [u32; DEGREE],
    ) -> usize;

    /// Puts `key` among `keys`, the largest of which comes first and the last of which, a smaller one, falls out. Returns
    /// its place.
    ///
    /// # Safety
    /// The processor must have the instructions.
    unsafe fn insert(keys: &mut [u64], key: u64) -> usize;

    /// `Σ pᵢ cᵢ` of lines of high halves and their 128 components each of the query.
    ///
    /// # Safety
    /// The processor must have the instructions, and `query` hold 128 components a line.
    unsafe fn span(lines: &[Line], query: &[i8]) -> i32;

    /// The same of lines of low bits; the last one may have fewer components than 256, a multiple of 64.
    ///
    /// # Safety
    /// The processor must have the instructions, and `query` hold 256 components for each line but the last.
    unsafe fn low(lines: &[Line], query: &[i8]) -> i32;

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

/// Gives each of these nodes its bit.
#[inline(always)]
pub(super) fn mark(nodes: &[u32], seen: &mut [u32]) {
    for &node in nodes {
        seen[node as usize / 32] |= 1 << (node % 32);
    }
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

/// With the two bits of each byte that stand `shift` above the lowest.
fn twos_product(bytes: &[u8], query: &[i8], shift: u32) -> i32 {
    let pairs = bytes.iter().zip(query);
    pairs
        .map(|(byte, &component)| i32::from(byte >> shift & 3) * i32::from(component))
        .sum()
}

fn head_product(
    line: &Line,
    [fine, coarse_0, fine_above, coarse_1, coarse_2, coarse_3]: &[[i8; 32]; 6],
) -> i32 {
    let (fours, twos) = line.0.split_at(32);
    let fours = fours.iter().zip(fine.iter().zip(fine_above));
    let fours = fours.map(|(byte, (&below, &above))| {
        i32::from(byte & 15) * i32::from(below) + i32::from(byte >> 4) * i32::from(above)
    });
    let coarse = [coarse_0, coarse_1, coarse_2, coarse_3]
        .into_iter()
        .zip([0, 2, 4, 6]);
    let twos = coarse.map(|(query, shift)| twos_product(twos, query, shift));
    fours.sum::<i32>() + twos.sum::<i32>()
}

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
                .zip(&query.0)
                .map(|(line, query)| head_product(line, query))
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
    unsafe fn take_unseen(
        nodes: &[u32; DEGREE],
        count: u32,
        seen: &mut [u32],
        out: &mut [u32; DEGREE],
    ) -> usize {
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
        mark(&out[..fresh], seen);
        fresh
    }

    #[inline(always)]
    unsafe fn insert(keys: &mut [u64], key: u64) -> usize {
        // Counted, for the place cannot be guessed: looking at one after the other is a branch mispredicted.
        let place = keys.iter().filter(|&&other| other > key).count();
        let mut carried = key;
        for key in &mut keys[place..] {
            std::mem::swap(key, &mut carried);
        }
        place
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
    unsafe fn low(lines: &[Line], query: &[i8]) -> i32 {
        let lines = lines.iter().zip(query.chunks(LOW_DIMENSION));
        lines
            .flat_map(|(line, query)| query.chunks(64).zip([0, 2, 4, 6]).map(move |part| (line, part)))
            .map(|(line, (query, shift))| twos_product(&line.0, query, shift))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;

    /// # Safety
    /// The processor must have the instructions of `L`.
    unsafe fn agrees_with_plain_rust<L: Lanes>() {
        let mut numbers = Numbers(11);
        let lines: Vec<Line> = (0..120)
            .map(|_| Line(std::array::from_fn(|_| numbers.below(256) as u8)))
            .collect();
        let mut small = || std::array::from_fn(|_| (numbers.below(255) as i32 - 127) as i8);
        let heads = [(); 2].map(|_| Head(std::array::from_fn(|_| std::array::from_fn(|_| small()))));
        // Also the largest sums that there can be.
        let same = |value| Head([[[value; 32]; 6]; HEAD]);
        let heads = heads.into_iter().chain([same(127), same(-127)]);
        let full = vec![Line([0xff; 64]); 120];
        for head in heads {
            for lines in [&lines, &full] {
                for each in 1..=HEAD {
                    for count in 0..=LANES {
                        // What lies behind is not to be read: it may be in memory that is far away.
                        let at = std::array::from_fn(
                            |lane| if lane < count { numbers.below(60) as u32 } else { 0 },
                        );
                        // SAFETY: the caller promises the instructions; there are lines for sixty.
                        let [own, plain] = unsafe {
                            [
                                L::heads(lines, each, &at, count, &head),
                                Portable::heads(lines, each, &at, count, &head),
                            ]
                        };
                        assert_eq!(own[..count], plain[..count], "{each} lines, {count} heads");
                        for bar in [f32::NEG_INFINITY, -3.5, 0.0, own[0] as f32 * 0.25, 1e6] {
                            // SAFETY: as above.
                            let [own, plain] = unsafe {
                                [L::reaching(&own, 0.25, bar), Portable::reaching(&own, 0.25, bar)]
                            };
                            assert_eq!(own, plain);
                        }
                    }
                }
            }
        }
        for count in 0..6usize {
            for parts in [2 * count, (2 * count).saturating_sub(1)] {
                let query: Vec<i8> = (0..parts * LINE_DIMENSION)
                    .map(|at| (at * 37 % 255) as u8 as i8)
                    .collect();
                let low = &lines[..parts.div_ceil(2)];
                // SAFETY: the caller promises the instructions; a line has as many components as `query` has for it.
                unsafe {
                    assert_eq!(
                        L::span(&lines[..parts], &query),
                        Portable::span(&lines[..parts], &query)
                    );
                    assert_eq!(L::low(low, &query), Portable::low(low, &query));
                }
            }
        }
        for count in [0usize, 1, 31, 32, 33, 500, 1 << 20] {
            let mut seen = vec![0u32; count.div_ceil(32)];
            let mut plain_seen = seen.clone();
            for _ in 0..60 {
                let mut nodes = [u32::MAX; DEGREE];
                let several = numbers.below(DEGREE + 1);
                for node in &mut nodes[..several] {
                    // Some that do not exist, as in a damaged file.
                    *node = match numbers.below(9) {
                        0 => u32::MAX - numbers.below(1 << 31) as u32,
                        1 => count as u32,
                        _ => numbers.below(count.max(1)) as u32,
                    };
                }
                let [mut out, mut plain] = [[0; DEGREE]; 2];
                // SAFETY: the caller promises the instructions; there is a bit for each number below `count`.
                let [fresh, expected] = unsafe {
                    [
                        L::take_unseen(&nodes, count as u32, &mut seen, &mut out),
                        Portable::take_unseen(&nodes, count as u32, &mut plain_seen, &mut plain),
                    ]
                };
                assert_eq!(out[..fresh], plain[..expected]);
                assert!(out.iter().all(|&node| node == 0 || (node as usize) < count));
                assert_eq!(seen, plain_seen);
            }
        }
        for length in 1..=70 {
            let mut keys: Vec<u64> = (0..length)
                .map(|_| (numbers.below(1 << 20) as u64) << 44)
                .collect();
            keys.sort_unstable_by(|a, b| b.cmp(a));
            for _ in 0..40 {
                let key = (numbers.below(1 << 20) as u64) << 44 | 1;
                if key < keys[length - 1] {
                    continue;
                }
                let mut expected = keys.clone();
                expected[length - 1] = key;
                expected.sort_unstable_by(|a, b| b.cmp(a));
                // SAFETY: the caller promises the instructions.
                let place = unsafe { L::insert(&mut keys, key) };
                assert_eq!((&keys, keys[place]), (&expected, key));
            }
        }
    }

    #[test]
    fn all_instructions_give_what_plain_rust_gives() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor was asked.
        unsafe {
            let best = crate::Instructions::best();
            if best.has_vnni() {
                agrees_with_plain_rust::<crate::graph::vnni::Vnni>();
            }
            if best.has_avx2() {
                agrees_with_plain_rust::<crate::graph::avx2::Avx2>();
            }
        }
        // SAFETY: plain Rust runs everywhere.
        unsafe { agrees_with_plain_rust::<Portable>() };
    }
}
