//! The integer products of the graph with AVX2, for processors without AVX-512.

use std::arch::x86_64::*;

use super::lanes::{HEAD, LANES, LOW_DIMENSION, Lanes, Line, mark};
use super::links::DEGREE;
use super::query::Head;

/// AVX2.
pub(super) struct Avx2;

/// Rows that are multiplied at once in [`Lanes::products`].
const ROWS: usize = 4;

/// Sixteen-bit sums of a line's 128 components: each of 16 lanes adds eight products of at most `15 × 127`.
///
/// # Safety
/// `query` must be readable for 128 bytes.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
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

/// For each mask of eight, the places of its bits, and any behind them.
static FRONT: [[u8; 8]; 256] = {
    let mut all = [[0; 8]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut place, mut count) = (0, 0);
        while place < 8 {
            if mask >> place & 1 == 1 {
                all[mask][count] = place as u8;
                count += 1;
            }
            place += 1;
        }
        mask += 1;
    }
    all
};

/// Sixteen-bit sums of a line of a head: each of 16 lanes adds four products of at most `15 × 127` and eight of at most
/// `3 × 127`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn head_line(line: &Line, query: &[[i8; 32]; 6]) -> __m256i {
    // SAFETY: a line is 64 bytes, and each of the six is 32.
    let (fours, twos, query) = unsafe {
        (
            _mm256_load_si256(line.0.as_ptr().cast()),
            _mm256_load_si256(line.0.as_ptr().add(32).cast()),
            query
                .each_ref()
                .map(|part| _mm256_loadu_si256(part.as_ptr().cast())),
        )
    };
    let (four, two) = (_mm256_set1_epi8(15), _mm256_set1_epi8(3));
    let products = [
        _mm256_maddubs_epi16(_mm256_and_si256(fours, four), query[0]),
        _mm256_maddubs_epi16(_mm256_and_si256(twos, two), query[1]),
        _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(fours), four), query[2]),
        _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<2>(twos), two), query[3]),
        _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(twos), two), query[4]),
        _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<6>(twos), two), query[5]),
    ];
    let [a, b, c, d, e, f] = products;
    let (ab, cd, ef) = (
        _mm256_add_epi16(a, b),
        _mm256_add_epi16(c, d),
        _mm256_add_epi16(e, f),
    );
    _mm256_add_epi16(_mm256_add_epi16(ab, cd), ef)
}

/// Products with heads of `H` lines, at most eight; zeros behind them.
///
/// # Safety
/// `lines` must hold `H` for every entry of `at`, of which there are at most eight.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn heads<const H: usize>(lines: &[Line], at: &[u32], query: &Head) -> __m256i {
    let mut sums = [_mm256_setzero_si256(); 8];
    for (sum, &at) in sums.iter_mut().zip(at) {
        // SAFETY: the caller promises that the head is within `lines`.
        let head = unsafe { std::slice::from_raw_parts(lines.as_ptr().add(at as usize * H), H) };
        let mut products = head_line(&head[0], &query.0[0]);
        if H > 1 {
            products = _mm256_add_epi16(products, head_line(&head[1], &query.0[1]));
        }
        *sum = widened(products);
    }
    let two = |at: usize| _mm256_hadd_epi32(sums[at], sums[at + 1]);
    let (low, high) = (
        _mm256_hadd_epi32(two(0), two(2)),
        _mm256_hadd_epi32(two(4), two(6)),
    );
    // Each half has a part of every sum.
    _mm256_add_epi32(
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    )
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn widened(sum: __m256i) -> __m256i {
    _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn folded(sum: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

/// `R` rows, widened, against eight columns of a block.
///
/// # Safety
/// `rows` must be readable for `R × width` numbers, `block` for the columns' 32 bytes at each of `width / 4` steps of 64,
/// and `out` writable for eight numbers at each of `R` steps of `stride`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn tile<const R: usize>(
    rows: *const i16,
    width: usize,
    block: *const i8,
    out: *mut i32,
    stride: usize,
) {
    // Of each column two sums, side by side.
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    for step in 0..width / 4 {
        // SAFETY: the block holds 64 bytes a step, half of which belong to these columns.
        let columns: [__m256i; 2] = std::array::from_fn(|four| unsafe {
            _mm256_cvtepi8_epi16(_mm_loadu_si128(block.add(step * 64 + four * 16).cast()))
        });
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row `row` holds `width` numbers, of which these are four.
            let row = unsafe {
                _mm256_set1_epi64x(rows.add(row * width + step * 4).cast::<i64>().read_unaligned())
            };
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(row, column));
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        // Adding neighbours puts columns 0, 1, 4, 5 in front of 2, 3, 6, 7.
        let columns = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(sums[0], sums[1]));
        // SAFETY: `out` holds eight numbers there.
        unsafe { _mm256_storeu_si256(out.add(row * stride).cast(), columns) };
    }
}

impl Lanes for Avx2 {
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn heads(
        lines: &[Line],
        each: usize,
        at: &[u32; LANES],
        count: usize,
        query: &Head,
    ) -> [i32; LANES] {
        const { assert!(HEAD <= 2, "sixteen bits hold the sums of two lines") };
        let mut sums = [0; LANES];
        for (from, out) in sums.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let at = &at[8 * from..count.clamp(8 * from, 8 * from + 8)];
            // SAFETY: the caller promises that each head is within `lines`.
            let eight = unsafe {
                match each {
                    1 => heads::<1>(lines, at, query),
                    _ => heads::<2>(lines, at, query),
                }
            };
            // SAFETY: eight sums are 32 bytes.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), eight) };
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn reaching(sums: &[i32; LANES], scale: f32, bar: f32) -> u32 {
        let (scale, bar) = (_mm256_set1_ps(scale), _mm256_set1_ps(bar));
        let (eights, _) = sums.as_chunks::<8>();
        eights.iter().enumerate().fold(0, |mask, (at, eight)| {
            // SAFETY: eight sums are 32 bytes.
            let eight = unsafe { _mm256_loadu_si256(eight.as_ptr().cast()) };
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(eight), scale);
            let reach = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(scaled, bar));
            mask | (reach as u32) << (8 * at)
        })
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
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
        for nodes in nodes.as_chunks::<8>().0 {
            // SAFETY: eight nodes are 32 bytes. Words are read for nodes up to `last` only, which `seen` has. Before the
            // last eight no more have been found than were read, so `out` has room for eight more.
            unsafe {
                let nodes = _mm256_loadu_si256(nodes.as_ptr().cast());
                let within = _mm256_min_epu32(nodes, _mm256_set1_epi32(last as i32));
                let words = _mm256_i32gather_epi32::<4>(seen.as_ptr().cast(), _mm256_srli_epi32::<5>(within));
                let places = _mm256_and_si256(within, _mm256_set1_epi32(31));
                let bits = _mm256_sllv_epi32(_mm256_set1_epi32(1), places);
                let was_seen = _mm256_cmpeq_epi32(_mm256_and_si256(words, bits), bits);
                let unseen = _mm256_andnot_si256(was_seen, _mm256_cmpeq_epi32(within, nodes));
                let mask = _mm256_movemask_ps(_mm256_castsi256_ps(unseen)) as usize;
                let order = _mm256_cvtepu8_epi32(_mm_loadl_epi64(FRONT[mask].as_ptr().cast()));
                let packed = _mm256_permutevar8x32_epi32(within, order);
                _mm256_storeu_si256(out.as_mut_ptr().add(fresh).cast(), packed);
                fresh += mask.count_ones() as usize;
            }
        }
        mark(&out[..fresh.min(DEGREE)], seen);
        fresh
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn insert(keys: &mut [u64], key: u64) -> usize {
        // In order of size each key becomes the larger one of itself and of the smaller one of the new key and the
        // key before. Fours are read as they were written, for what lies across two of them waits for both.
        let top = _mm256_set1_epi64x(i64::MIN);
        let new = _mm256_set1_epi64x(key as i64);
        let asked = _mm256_xor_si256(new, top);
        let mut before = _mm256_set1_epi64x(-1);
        let mut place = 0;
        let (fours, rest) = keys.as_chunks_mut::<4>();
        for four in fours {
            // SAFETY: four keys are 32 bytes.
            unsafe {
                let own = _mm256_loadu_si256(four.as_ptr().cast());
                let turned = _mm256_permute4x64_epi64::<0b10_01_00_11>(own);
                let moved = _mm256_blend_epi32::<0b11>(turned, before);
                let is_larger = |keys| _mm256_cmpgt_epi64(_mm256_xor_si256(keys, top), asked);
                let stays = is_larger(own);
                let next = _mm256_blendv_epi8(moved, new, is_larger(moved));
                _mm256_storeu_si256(four.as_mut_ptr().cast(), _mm256_blendv_epi8(next, own, stays));
                place += (_mm256_movemask_pd(_mm256_castsi256_pd(stays)) as u32).count_ones() as usize;
                before = turned;
            }
        }
        let mut before = _mm256_extract_epi64::<0>(before) as u64;
        for own in rest {
            let stays = *own > key;
            place += usize::from(stays);
            let next = if before > key { key } else { before };
            before = std::mem::replace(own, if stays { *own } else { next });
        }
        place
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn span(lines: &[Line], query: &[i8]) -> i32 {
        let mut sum = _mm256_setzero_si256();
        for (each, query) in lines.iter().zip(query.chunks_exact(128)) {
            // SAFETY: the chunk is 128 bytes.
            sum = _mm256_add_epi32(sum, widened(unsafe { line(each, query.as_ptr()) }));
        }
        folded(sum)
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn low(lines: &[Line], query: &[i8]) -> i32 {
        let two = _mm256_set1_epi8(3);
        let mut sum = _mm256_setzero_si256();
        for (line, query) in lines.iter().zip(query.chunks(LOW_DIMENSION)) {
            for half in 0..2 {
                // SAFETY: a line is 64 bytes.
                let mut bytes = unsafe { _mm256_load_si256(line.0.as_ptr().add(32 * half).cast()) };
                let mut products = _mm256_setzero_si256();
                for query in query.as_chunks::<64>().0 {
                    // SAFETY: the chunk is 64 bytes.
                    let query = unsafe { _mm256_loadu_si256(query.as_ptr().add(32 * half).cast()) };
                    let product = _mm256_maddubs_epi16(_mm256_and_si256(bytes, two), query);
                    products = _mm256_add_epi16(products, product);
                    bytes = _mm256_srli_epi16::<2>(bytes);
                }
                sum = _mm256_add_epi32(sum, widened(products));
            }
        }
        folded(sum)
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
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
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn products(rows: &[i8], width: usize, blocks: &[i8], sums: &[i32], out: &mut [i32]) {
        let columns = sums.len();
        assert!(blocks.len() == columns * width && out.len() >= rows.len() / width * columns);
        let mut wide = vec![0i16; rows.len().min(ROWS * width)];
        for (rows, out) in rows.chunks(ROWS * width).zip(out.chunks_mut(ROWS * columns)) {
            wide.iter_mut()
                .zip(rows)
                .for_each(|(wide, &narrow)| *wide = narrow.into());
            for (at, block) in blocks.chunks_exact(LANES * width).enumerate() {
                for half in 0..2 {
                    // SAFETY: the rows that are taken lie within `wide` and `out`, by the checks above.
                    unsafe {
                        let block = block.as_ptr().add(32 * half);
                        let to = out.as_mut_ptr().add(at * LANES + 8 * half);
                        match rows.len() / width {
                            ROWS => tile::<ROWS>(wide.as_ptr(), width, block, to, columns),
                            count => (0..count).for_each(|row| {
                                tile::<1>(
                                    wide.as_ptr().add(row * width),
                                    width,
                                    block,
                                    to.add(row * columns),
                                    columns,
                                );
                            }),
                        }
                    }
                }
            }
        }
    }
}
