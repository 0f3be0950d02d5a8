//! The integer products of the graph with AVX-512 and its integer dot products.

use std::arch::x86_64::*;

use super::lanes::{LANES, LOW_DIMENSION, Lanes, Line, mark};
use super::links::DEGREE;
use super::query::Head;

/// AVX-512 F, BW, DQ, VL and VNNI.
pub(super) struct Vnni;

/// Lane `i` of the result is the sum over all lanes of `sums[i]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
fn reduce(sums: &[__m512i; LANES]) -> __m512i {
    let mut quarters = [_mm512_setzero_si512(); 4];
    for (quarter, four) in quarters.iter_mut().zip(sums.chunks_exact(4)) {
        let left = _mm512_add_epi32(
            _mm512_unpacklo_epi32(four[0], four[1]),
            _mm512_unpackhi_epi32(four[0], four[1]),
        );
        let right = _mm512_add_epi32(
            _mm512_unpacklo_epi32(four[2], four[3]),
            _mm512_unpackhi_epi32(four[2], four[3]),
        );
        *quarter = _mm512_add_epi32(
            _mm512_unpacklo_epi64(left, right),
            _mm512_unpackhi_epi64(left, right),
        );
    }
    // Each 128-bit lane now holds partial sums of four vectors, in order.
    let halves = [(0, 1), (2, 3)].map(|(a, b)| {
        _mm512_add_epi32(
            _mm512_shuffle_i32x4::<0b10_00_10_00>(quarters[a], quarters[b]),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(quarters[a], quarters[b]),
        )
    });
    _mm512_add_epi32(
        _mm512_shuffle_i32x4::<0b10_00_10_00>(halves[0], halves[1]),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(halves[0], halves[1]),
    )
}

/// The first `N` heads, of `H` lines.
///
/// # Safety
/// `lines` must hold `H` for every entry of `at`, `H` be 1 or 2, and `N` at most sixteen.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn heads<const H: usize, const N: usize>(
    lines: &[Line],
    at: &[u32; LANES],
    query: &Head,
) -> [i32; LANES] {
    // In the lower half of a register are numbers of four bits, in the upper one those of two.
    let both =
        |lower: i16, upper: i16| _mm512_inserti64x4::<1>(_mm512_set1_epi16(lower), _mm256_set1_epi16(upper));
    let (bits, next) = (both(0x0f0f, 0x0303), both(4, 2));
    let (two, last) = (_mm512_set1_epi8(3), both(4, 6));
    let mut asked = [[_mm512_setzero_si512(); 3]; H];
    for (asked, query) in asked.iter_mut().zip(&query.0) {
        for (asked, pair) in asked.iter_mut().zip(query.as_chunks::<2>().0) {
            // SAFETY: the pair is 64 bytes.
            *asked = unsafe { _mm512_loadu_si512(pair.as_ptr().cast()) };
        }
    }
    let mut sums = [_mm512_setzero_si512(); LANES];
    for (sum, &at) in sums.iter_mut().zip(at).take(N) {
        for (within, asked) in asked.iter().enumerate() {
            // SAFETY: the caller promises that the head is within `lines`.
            let line = unsafe { _mm512_load_si512(lines.as_ptr().add(at as usize * H + within).cast()) };
            let first = _mm512_and_si512(line, bits);
            let second = _mm512_and_si512(_mm512_srlv_epi16(line, next), bits);
            // The two others of the upper half, side by side.
            let upper = _mm512_shuffle_i64x2::<0b11_10_11_10>(line, line);
            let third = _mm512_and_si512(_mm512_srlv_epi16(upper, last), two);
            *sum = _mm512_dpbusd_epi32(*sum, first, asked[0]);
            *sum = _mm512_dpbusd_epi32(*sum, second, asked[1]);
            *sum = _mm512_dpbusd_epi32(*sum, third, asked[2]);
        }
    }
    let mut out = [0; LANES];
    // SAFETY: `out` is 64 bytes.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), reduce(&sums)) };
    out
}

/// Columns of `B` blocks times `R` rows.
///
/// # Safety
/// `rows` must be readable for `R × width` bytes, `blocks` for `B × 16 × width`, `sums` for `16 × B`
/// numbers, and `out` writable for `16 × B` numbers at each of `R` steps of `stride`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn tile<const R: usize, const B: usize>(
    rows: *const i8,
    width: usize,
    blocks: *const i8,
    sums: *const i32,
    out: *mut i32,
    stride: usize,
) {
    let mut products = [[_mm512_setzero_si512(); B]; R];
    for step in 0..width / 4 {
        let mut columns = [_mm512_setzero_si512(); B];
        for (b, columns) in columns.iter_mut().enumerate() {
            // SAFETY: block `b` holds `width / 4` steps of 64 bytes.
            *columns = unsafe { _mm512_loadu_si512(blocks.add(b * 16 * width + step * 64).cast()) };
        }
        for (r, products) in products.iter_mut().enumerate() {
            // SAFETY: row `r` holds `width` bytes, of which these are four.
            let four = unsafe { rows.add(r * width + step * 4).cast::<i32>().read_unaligned() };
            // The left operand is unsigned: 128 is added here and taken away below.
            let four = _mm512_set1_epi32(four ^ 0x8080_8080u32 as i32);
            for (product, columns) in products.iter_mut().zip(columns) {
                *product = _mm512_dpbusd_epi32(*product, four, columns);
            }
        }
    }
    for b in 0..B {
        // SAFETY: `sums` holds sixteen numbers a block.
        let sums = unsafe { _mm512_loadu_si512(sums.add(b * 16).cast()) };
        let excess = _mm512_slli_epi32::<7>(sums);
        for (r, products) in products.iter().enumerate() {
            let product = _mm512_sub_epi32(products[b], excess);
            // SAFETY: `out` holds sixteen numbers there.
            unsafe { _mm512_storeu_si512(out.add(r * stride + b * 16).cast(), product) };
        }
    }
}

/// `R` rows against all blocks, `B` at a time.
///
/// # Safety
/// As [`tile`], for all of `blocks`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn strip<const R: usize, const B: usize>(
    rows: *const i8,
    width: usize,
    blocks: *const i8,
    sums: &[i32],
    out: *mut i32,
) {
    let count = sums.len() / LANES;
    let mut block = 0;
    while block + B <= count {
        // SAFETY: blocks `block .. block + B` lie within all three.
        unsafe {
            tile::<R, B>(
                rows,
                width,
                blocks.add(block * 16 * width),
                sums.as_ptr().add(block * 16),
                out.add(block * 16),
                sums.len(),
            );
        }
        block += B;
    }
    while block < count {
        // SAFETY: as above, for one block.
        unsafe {
            tile::<R, 1>(
                rows,
                width,
                blocks.add(block * 16 * width),
                sums.as_ptr().add(block * 16),
                out.add(block * 16),
                sums.len(),
            );
        }
        block += 1;
    }
}

/// How many of `keys` are larger than `key`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
fn above(keys: &[u64], key: u64) -> usize {
    let key = _mm512_set1_epi64(key as i64);
    let (eights, rest) = keys.as_chunks::<8>();
    let mut count = 0;
    for eight in eights {
        // SAFETY: eight keys are 64 bytes.
        let eight = unsafe { _mm512_loadu_si512(eight.as_ptr().cast()) };
        count += _mm512_cmpgt_epu64_mask(eight, key).count_ones();
    }
    if !rest.is_empty() {
        let mask = (1u8 << rest.len()) - 1;
        // SAFETY: the mask keeps the load within `rest`.
        let rest = unsafe { _mm512_maskz_loadu_epi64(mask, rest.as_ptr().cast()) };
        count += _mm512_mask_cmpgt_epu64_mask(mask, rest, key).count_ones();
    }
    count as usize
}

/// Puts `key` in front of `keys`, whose last one falls out.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
fn push_front(keys: &mut [u64], key: u64) {
    // Each eight are moved up by one place, with the last of the eight before in front.
    let mut before = _mm512_set1_epi64(key as i64);
    let (eights, rest) = keys.as_chunks_mut::<8>();
    for eight in eights {
        // SAFETY: eight keys are 64 bytes.
        unsafe {
            let own = _mm512_loadu_si512(eight.as_ptr().cast());
            _mm512_storeu_si512(eight.as_mut_ptr().cast(), _mm512_alignr_epi64::<7>(own, before));
            before = own;
        }
    }
    if !rest.is_empty() {
        let mask = (1u8 << rest.len()) - 1;
        // SAFETY: the mask keeps both within `rest`.
        unsafe {
            let own = _mm512_maskz_loadu_epi64(mask, rest.as_ptr().cast());
            let moved = _mm512_alignr_epi64::<7>(own, before);
            _mm512_mask_storeu_epi64(rest.as_mut_ptr().cast(), mask, moved);
        }
    }
}

impl Lanes for Vnni {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn heads(
        lines: &[Line],
        each: usize,
        at: &[u32; LANES],
        count: usize,
        query: &Head,
    ) -> [i32; LANES] {
        // SAFETY: the caller promises that each head is within `lines`.
        unsafe {
            match (each, count) {
                (1, 0..=8) => heads::<1, 8>(lines, at, query),
                (1, _) => heads::<1, LANES>(lines, at, query),
                (_, 0..=8) => heads::<2, 8>(lines, at, query),
                (_, _) => heads::<2, LANES>(lines, at, query),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn reaching(sums: &[i32; LANES], scale: f32, bar: f32) -> u32 {
        // SAFETY: `sums` is 64 bytes.
        let sums = unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) };
        let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scale));
        u32::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(scaled, _mm512_set1_ps(bar)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn take_unseen(
        nodes: &[u32; DEGREE],
        count: u32,
        seen: &mut [u32],
        out: &mut [u32; DEGREE],
    ) -> usize {
        let mut fresh = 0;
        for nodes in nodes.chunks_exact(LANES) {
            // SAFETY: the chunk is 64 bytes. Words are read for nodes below `count` only, which `seen` has. Before the
            // last sixteen no more have been found than were read, so `out` has room for sixteen more.
            unsafe {
                let nodes = _mm512_loadu_si512(nodes.as_ptr().cast());
                let exist = _mm512_cmplt_epu32_mask(nodes, _mm512_set1_epi32(count as i32));
                let words = _mm512_mask_i32gather_epi32::<4>(
                    _mm512_setzero_si512(),
                    exist,
                    _mm512_srli_epi32::<5>(nodes),
                    seen.as_ptr().cast(),
                );
                let within = _mm512_and_si512(nodes, _mm512_set1_epi32(31));
                let bits = _mm512_sllv_epi32(_mm512_set1_epi32(1), within);
                let unseen = _mm512_mask_testn_epi32_mask(exist, words, bits);
                // Through a register: compressing into memory takes some hundred cycles on processors by AMD.
                let packed = _mm512_maskz_compress_epi32(unseen, nodes);
                _mm512_storeu_si512(out.as_mut_ptr().add(fresh).cast(), packed);
                fresh += unseen.count_ones() as usize;
            }
        }
        mark(&out[..fresh.min(DEGREE)], seen);
        fresh
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn insert(keys: &mut [u64], key: u64) -> usize {
        let place = above(keys, key);
        push_front(&mut keys[place..], key);
        place
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn span(lines: &[Line], query: &[i8]) -> i32 {
        let nibble = _mm512_set1_epi8(15);
        let mut sums = [_mm512_setzero_si512(); 2];
        for (line, query) in lines.iter().zip(query.chunks_exact(128)) {
            // SAFETY: a line is 64 bytes, and the query has 128 for it.
            unsafe {
                let line = _mm512_load_si512(line.0.as_ptr().cast());
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(line), nibble);
                let below = _mm512_loadu_si512(query.as_ptr().cast());
                let above = _mm512_loadu_si512(query.as_ptr().add(64).cast());
                sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_and_si512(line, nibble), below);
                sums[1] = _mm512_dpbusd_epi32(sums[1], high, above);
            }
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn low(lines: &[Line], query: &[i8]) -> i32 {
        let two = _mm512_set1_epi8(3);
        let mut sum = _mm512_setzero_si512();
        for (line, query) in lines.iter().zip(query.chunks(LOW_DIMENSION)) {
            // SAFETY: a line is 64 bytes.
            let mut bytes = unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
            for query in query.as_chunks::<64>().0 {
                // SAFETY: the chunk is 64 bytes.
                let query = unsafe { _mm512_loadu_si512(query.as_ptr().cast()) };
                sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(bytes, two), query);
                bytes = _mm512_srli_epi16::<2>(bytes);
            }
        }
        _mm512_reduce_add_epi32(sum)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn dot(a: &[i8], b: &[i8], sum: i32) -> i32 {
        let flip = _mm512_set1_epi8(-128);
        let mut product = _mm512_setzero_si512();
        for (a, b) in a.as_chunks::<64>().0.iter().zip(b.as_chunks::<64>().0) {
            // SAFETY: both hold 64 bytes.
            unsafe {
                let a = _mm512_xor_si512(_mm512_loadu_si512(a.as_ptr().cast()), flip);
                product = _mm512_dpbusd_epi32(product, a, _mm512_loadu_si512(b.as_ptr().cast()));
            }
        }
        _mm512_reduce_add_epi32(product) - 128 * sum
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
    unsafe fn products(rows: &[i8], width: usize, blocks: &[i8], sums: &[i32], out: &mut [i32]) {
        let count = rows.len() / width;
        assert!(blocks.len() == sums.len() * width && out.len() >= count * sums.len());
        let mut row = 0;
        while row < count {
            // SAFETY: the rows that a strip takes lie within `rows` and `out`, by the checks above.
            unsafe {
                let from = rows.as_ptr().add(row * width);
                let to = out.as_mut_ptr().add(row * sums.len());
                if row + 8 <= count {
                    strip::<8, 2>(from, width, blocks.as_ptr(), sums, to);
                    row += 8;
                } else {
                    strip::<1, 8>(from, width, blocks.as_ptr(), sums, to);
                    row += 1;
                }
            }
        }
    }
}
