//! The integer products of the graph with AVX2, for processors without AVX-512.

use std::arch::x86_64::*;

use super::lanes::{HEAD, LANES, Lanes, Line, Portable};
use super::links::DEGREE;
use super::query::Head;

/// AVX2.
pub(super) struct Avx2;

/// Rows that are multiplied at once in [`Lanes::products`].
const ROWS: usize = 2;

/// Sixteen-bit sums of a line's 128 components: each of 16 lanes adds eight products of at most `15 × 127`.
///
/// # Safety
/// `query` must be readable for 128 bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn line(line: &Line, query: *const i8) -> __m256i {
    let nibble = _mm256_set1_epi8(15);
    let mut sum = _mm256_setzero_si256();
    for half in 0..2 {
        // SAFETY: a line is 64 bytes, and the query has 128.
        unsafe {
            let both = _mm256_load_si256(line.0.as_ptr().add(32 * half).cast());
            let above = _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble);
            let asked = _mm256_loadu_si256(query.add(32 * half).cast());
            let asked_above = _mm256_loadu_si256(query.add(64 + 32 * half).cast());
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(_mm256_and_si256(both, nibble), asked));
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(above, asked_above));
        }
    }
    sum
}

#[inline]
#[target_feature(enable = "avx2")]
fn widened(sum: __m256i) -> __m256i {
    _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn folded(sum: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

/// `R` rows against one block of sixteen columns.
///
/// # Safety
/// `rows` must be readable for `R × width` bytes and `block` for `16 × width`, and `out` writable for sixteen numbers at
/// each of `R` steps of `stride`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn tile<const R: usize>(
    rows: *const i8,
    width: usize,
    block: *const i8,
    out: *mut i32,
    stride: usize,
) {
    // Of each column two sums, side by side.
    let mut sums = [[_mm256_setzero_si256(); 4]; R];
    for step in 0..width / 4 {
        // SAFETY: the block holds 64 bytes a step.
        let columns: [__m256i; 4] = std::array::from_fn(|four| unsafe {
            _mm256_cvtepi8_epi16(_mm_loadu_si128(block.add(step * 64 + four * 16).cast()))
        });
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row `row` holds `width` bytes, of which these are four.
            let four = unsafe { rows.add(row * width + step * 4).cast::<i32>().read_unaligned() };
            let row = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(row, column));
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (at, two) in sums.as_chunks::<2>().0.iter().enumerate() {
            // Adding neighbours puts columns 0, 1, 4, 5 in front of 2, 3, 6, 7.
            let columns = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(two[0], two[1]));
            // SAFETY: `out` holds sixteen numbers there.
            unsafe { _mm256_storeu_si256(out.add(row * stride + at * 8).cast(), columns) };
        }
    }
}

impl Lanes for Avx2 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn heads(
        lines: &[Line],
        each: usize,
        at: &[u32; LANES],
        count: usize,
        query: &Head,
    ) -> [i32; LANES] {
        const { assert!(HEAD <= 2, "sixteen bits hold the sums of two lines") };
        let query = query.0.as_ptr();
        let mut sums = [0; LANES];
        for (sum, &at) in sums.iter_mut().zip(at).take(count) {
            // SAFETY: the caller promises that the head is within `lines`; the query has 128 bytes for each line of it.
            *sum = unsafe {
                let head = lines.as_ptr().add(at as usize * each);
                let mut products = line(&*head, query);
                if each > 1 {
                    products = _mm256_add_epi16(products, line(&*head.add(1), query.add(128)));
                }
                folded(widened(products))
            };
        }
        sums
    }

    #[inline(always)]
    unsafe fn reaching(sums: &[i32; LANES], scale: f32, bar: f32) -> u32 {
        // SAFETY: it needs no instructions.
        unsafe { Portable::reaching(sums, scale, bar) }
    }

    #[inline(always)]
    unsafe fn unseen(nodes: &[u32; DEGREE], count: u32, seen: &[u32], out: &mut [u32; DEGREE]) -> usize {
        // SAFETY: it needs no instructions; the rest the caller promises.
        unsafe { Portable::unseen(nodes, count, seen, out) }
    }

    #[inline(always)]
    unsafe fn above(keys: &[u64], key: u64) -> usize {
        // SAFETY: it needs no instructions.
        unsafe { Portable::above(keys, key) }
    }

    #[inline(always)]
    unsafe fn insert(keys: &mut [u64], key: u64) {
        // SAFETY: it needs no instructions.
        unsafe { Portable::insert(keys, key) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn span(lines: &[Line], query: &[i8]) -> i32 {
        let mut sum = _mm256_setzero_si256();
        for (each, query) in lines.iter().zip(query.chunks_exact(128)) {
            // SAFETY: the chunk is 128 bytes.
            sum = _mm256_add_epi32(sum, widened(unsafe { line(each, query.as_ptr()) }));
        }
        folded(sum)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn dot(a: &[i8], b: &[i8], _: i32) -> i32 {
        let mut sum = _mm256_setzero_si256();
        for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
            // SAFETY: both are sixteen bytes.
            unsafe {
                let a = _mm256_cvtepi8_epi16(_mm_loadu_si128(a.as_ptr().cast()));
                let b = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.as_ptr().cast()));
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
            }
        }
        folded(sum)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn products(rows: &[i8], width: usize, blocks: &[i8], sums: &[i32], out: &mut [i32]) {
        let (count, columns) = (rows.len() / width, sums.len());
        assert!(blocks.len() == columns * width && out.len() >= count * columns);
        for (block, columns_of) in blocks.chunks_exact(LANES * width).enumerate() {
            let mut row = 0;
            while row < count {
                // SAFETY: the rows that are taken lie within `rows` and `out`, by the checks above.
                unsafe {
                    let from = rows.as_ptr().add(row * width);
                    let to = out.as_mut_ptr().add(row * columns + block * LANES);
                    if row + ROWS <= count {
                        tile::<ROWS>(from, width, columns_of.as_ptr(), to, columns);
                        row += ROWS;
                    } else {
                        tile::<1>(from, width, columns_of.as_ptr(), to, columns);
                        row += 1;
                    }
                }
            }
        }
    }
}
