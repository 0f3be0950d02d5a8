//! The kernels for AVX-512 F, BW, DQ and VL.

use std::arch::x86_64::*;

use super::{Instructions, Kernels, Tile};
use crate::Element;

pub(super) const KERNELS: Kernels = Kernels {
    instructions: Instructions::Avx512,
    width: WIDTH,
    tile_rows: ROWS,
    widen,
    dot,
    tile,
    exact,
    products: super::product::avx2,
    sweeps: super::sweep::AVX2,
    tiles: Some(super::sweep::BYTES),
};

const WIDTH: usize = 32;
const ROWS: usize = 12;
const LANES: usize = 16;

const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;
const I8: u8 = 3;

const fn size(element: u8) -> usize {
    match element {
        F32 => 4,
        F16 | BF16 => 2,
        _ => 1,
    }
}

/// Sixteen components as f32.
///
/// # Safety
/// `row` must be readable for sixteen components.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn load<const E: u8>(row: *const u8) -> __m512 {
    // SAFETY: sixteen components of `size(E)` bytes are readable; the loads need no alignment.
    unsafe {
        match E {
            F32 => _mm512_loadu_ps(row.cast()),
            F16 => _mm512_cvtph_ps(_mm256_loadu_si256(row.cast())),
            BF16 => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(
                _mm256_loadu_si256(row.cast()),
            ))),
            _ => _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(row.cast()))),
        }
    }
}

/// The components from `from` to the end of the row, fewer than sixteen, followed by zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn load_tail<const E: u8>(row: &[u8], from: usize) -> __m512 {
    let mut buffer = [0u8; LANES * 4];
    let rest = &row[from * size(E)..];
    buffer[..rest.len()].copy_from_slice(rest);
    // SAFETY: the buffer holds sixteen components of any element.
    unsafe { load::<E>(buffer.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn mask_of(count: usize) -> __mmask16 {
    ((1u32 << count) - 1) as __mmask16
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn widen(element: Element, row: &[u8], out: &mut [f32]) -> f32 {
    match element {
        Element::F32 => widen_as::<F32>(row, out),
        Element::F16 => widen_as::<F16>(row, out),
        Element::Bf16 => widen_as::<BF16>(row, out),
        Element::I8 => widen_as::<I8>(row, out),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn widen_as<const E: u8>(row: &[u8], out: &mut [f32]) -> f32 {
    let dimension = row.len() / size(E);
    let whole = dimension / LANES * LANES;
    let mut squares = [_mm512_setzero_ps(); 2];
    let mut i = 0;
    while i < whole {
        // SAFETY: `i + 16 <= dimension`, which `row` holds and, by the caller's check, `out` too.
        let value = unsafe { load::<E>(row.as_ptr().add(i * size(E))) };
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(i), value) };
        squares[i / LANES % 2] = _mm512_fmadd_ps(value, value, squares[i / LANES % 2]);
        i += LANES;
    }
    if i < dimension {
        let value = load_tail::<E>(row, i);
        // SAFETY: the mask keeps the store below `dimension`, which `out` holds.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr().add(i), mask_of(dimension - i), value) };
        squares[0] = _mm512_fmadd_ps(value, value, squares[0]);
    }
    _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1]))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn dot(element: Element, row: &[u8], query: &[f32]) -> (f32, f32) {
    match element {
        Element::F32 => dot_as::<F32>(row, query),
        Element::F16 => dot_as::<F16>(row, query),
        Element::Bf16 => dot_as::<BF16>(row, query),
        Element::I8 => dot_as::<I8>(row, query),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn dot_as<const E: u8>(row: &[u8], query: &[f32]) -> (f32, f32) {
    let dimension = query.len();
    let mut products = [_mm512_setzero_ps(); 4];
    let mut squares = [_mm512_setzero_ps(); 4];
    let mut i = 0;
    while i + 4 * LANES <= dimension {
        for lane in 0..4 {
            let at = i + lane * LANES;
            // SAFETY: `at + 16 <= dimension`, which both slices hold.
            let value = unsafe { load::<E>(row.as_ptr().add(at * size(E))) };
            // SAFETY: as above.
            let asked = unsafe { _mm512_loadu_ps(query.as_ptr().add(at)) };
            products[lane] = _mm512_fmadd_ps(value, asked, products[lane]);
            squares[lane] = _mm512_fmadd_ps(value, value, squares[lane]);
        }
        i += 4 * LANES;
    }
    while i + LANES <= dimension {
        // SAFETY: `i + 16 <= dimension`, which both slices hold.
        let value = unsafe { load::<E>(row.as_ptr().add(i * size(E))) };
        // SAFETY: as above.
        let asked = unsafe { _mm512_loadu_ps(query.as_ptr().add(i)) };
        products[0] = _mm512_fmadd_ps(value, asked, products[0]);
        squares[0] = _mm512_fmadd_ps(value, value, squares[0]);
        i += LANES;
    }
    if i < dimension {
        let value = load_tail::<E>(row, i);
        // SAFETY: the mask keeps the load below `dimension`.
        let asked = unsafe { _mm512_maskz_loadu_ps(mask_of(dimension - i), query.as_ptr().add(i)) };
        products[1] = _mm512_fmadd_ps(value, asked, products[1]);
        squares[1] = _mm512_fmadd_ps(value, value, squares[1]);
    }
    let sum = |lanes: [__m512; 4]| {
        _mm512_reduce_add_ps(_mm512_add_ps(
            _mm512_add_ps(lanes[0], lanes[1]),
            _mm512_add_ps(lanes[2], lanes[3]),
        ))
    };
    (sum(products), sum(squares))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn exact(element: Element, row: &[u8], query: &[f32]) -> f64 {
    match element {
        Element::F32 => exact_as::<F32>(row, query),
        Element::F16 => exact_as::<F16>(row, query),
        Element::Bf16 => exact_as::<BF16>(row, query),
        Element::I8 => exact_as::<I8>(row, query),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn exact_as<const E: u8>(row: &[u8], query: &[f32]) -> f64 {
    let dimension = query.len();
    // Lanes 0 to 7 and 8 to 15 of the sixteen that `inner_product` speaks of.
    let mut low = _mm512_setzero_pd();
    let mut high = _mm512_setzero_pd();
    let mut i = 0;
    while i < dimension {
        let (value, asked) = if i + LANES <= dimension {
            // SAFETY: `i + 16 <= dimension`, which both slices hold.
            unsafe {
                (
                    load::<E>(row.as_ptr().add(i * size(E))),
                    _mm512_loadu_ps(query.as_ptr().add(i)),
                )
            }
        } else {
            // SAFETY: the mask keeps the load below `dimension`.
            let asked = unsafe { _mm512_maskz_loadu_ps(mask_of(dimension - i), query.as_ptr().add(i)) };
            (load_tail::<E>(row, i), asked)
        };
        low = _mm512_fmadd_pd(
            _mm512_cvtps_pd(_mm512_castps512_ps256(value)),
            _mm512_cvtps_pd(_mm512_castps512_ps256(asked)),
            low,
        );
        high = _mm512_fmadd_pd(
            _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(value)),
            _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(asked)),
            high,
        );
        i += LANES;
    }
    let eight = _mm512_add_pd(low, high);
    let four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd::<1>(eight));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn tile(tile: &Tile, masks: &mut [u32]) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let rows = tile.rows.as_ptr();
    let panel = tile.panel.as_ptr();
    for i in 0..tile.dimension {
        // SAFETY: the caller has checked that the panel holds `dimension × WIDTH` values.
        let queries = unsafe {
            [
                _mm512_loadu_ps(panel.add(i * WIDTH)),
                _mm512_loadu_ps(panel.add(i * WIDTH + LANES)),
            ]
        };
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller has checked that there are `ROWS × stride` values, and
            // `i < dimension <= stride`.
            let value = _mm512_set1_ps(unsafe { *rows.add(r * tile.stride + i) });
            sums[0] = _mm512_fmadd_ps(value, queries[0], sums[0]);
            sums[1] = _mm512_fmadd_ps(value, queries[1], sums[1]);
        }
    }
    // SAFETY: the caller has checked that both hold WIDTH values.
    let (low, guard) = unsafe {
        (
            [
                _mm512_loadu_ps(tile.low.as_ptr()),
                _mm512_loadu_ps(tile.low.as_ptr().add(LANES)),
            ],
            [
                _mm512_loadu_ps(tile.guard.as_ptr()),
                _mm512_loadu_ps(tile.guard.as_ptr().add(LANES)),
            ],
        )
    };
    let overflow = _mm512_set1_ps(f32::NEG_INFINITY);
    for (r, sums) in sums.iter().enumerate() {
        let length = _mm512_set1_ps(tile.lengths[r]);
        let mut mask = 0u32;
        for half in 0..2 {
            let limit = _mm512_fnmadd_ps(guard[half], length, low[half]);
            let excluded = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(sums[half], limit);
            // A sum that overflowed says nothing, whatever its sign.
            let certain = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(sums[half], overflow);
            mask |= u32::from(!(excluded & certain)) << (half * LANES);
        }
        masks[r] = mask;
    }
}
