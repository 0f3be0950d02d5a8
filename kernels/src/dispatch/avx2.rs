//! The kernels for AVX2, FMA and F16C.

use std::arch::x86_64::*;

use super::{Instructions, Kernels, Tile};
use crate::Element;

pub(super) const KERNELS: Kernels = Kernels {
    instructions: Instructions::Avx2,
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

const WIDTH: usize = 16;
const ROWS: usize = 6;
const LANES: usize = 8;

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

/// Eight components as f32.
///
/// # Safety
/// `row` must be readable for eight components.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn load<const E: u8>(row: *const u8) -> __m256 {
    // SAFETY: eight components of `size(E)` bytes are readable; the loads need no alignment.
    unsafe {
        match E {
            F32 => _mm256_loadu_ps(row.cast()),
            F16 => _mm256_cvtph_ps(_mm_loadu_si128(row.cast())),
            BF16 => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(
                row.cast(),
            )))),
            _ => _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(row.cast()))),
        }
    }
}

/// The components from `from` on, at most eight, followed by zeros; `from` may be the end.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn load_tail<const E: u8>(row: &[u8], from: usize) -> __m256 {
    let mut buffer = [0u8; LANES * 4];
    let rest = row.get(from * size(E)..).unwrap_or(&[]);
    let count = rest.len().min(LANES * size(E));
    buffer[..count].copy_from_slice(&rest[..count]);
    // SAFETY: the buffer holds eight components of any element.
    unsafe { load::<E>(buffer.as_ptr()) }
}

/// As `load_tail`, of a query.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn query_tail(query: &[f32], from: usize) -> __m256 {
    load_tail::<F32>(bytemuck::cast_slice(query), from)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn fold(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn widen(element: Element, row: &[u8], out: &mut [f32]) -> f32 {
    match element {
        Element::F32 => widen_as::<F32>(row, out),
        Element::F16 => widen_as::<F16>(row, out),
        Element::Bf16 => widen_as::<BF16>(row, out),
        Element::I8 => widen_as::<I8>(row, out),
    }
}

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn widen_as<const E: u8>(row: &[u8], out: &mut [f32]) -> f32 {
    let dimension = row.len() / size(E);
    let mut squares = [_mm256_setzero_ps(); 2];
    let mut i = 0;
    while i + LANES <= dimension {
        // SAFETY: `i + 8 <= dimension`, which `row` holds and, by the caller's check, `out` too.
        let value = unsafe { load::<E>(row.as_ptr().add(i * size(E))) };
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(i), value) };
        squares[i / LANES % 2] = _mm256_fmadd_ps(value, value, squares[i / LANES % 2]);
        i += LANES;
    }
    if i < dimension {
        let value = load_tail::<E>(row, i);
        let mut buffer = [0.0f32; LANES];
        // SAFETY: the buffer holds eight values.
        unsafe { _mm256_storeu_ps(buffer.as_mut_ptr(), value) };
        out[i..dimension].copy_from_slice(&buffer[..dimension - i]);
        squares[0] = _mm256_fmadd_ps(value, value, squares[0]);
    }
    fold(_mm256_add_ps(squares[0], squares[1]))
}

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn dot(element: Element, row: &[u8], query: &[f32]) -> (f32, f32) {
    match element {
        Element::F32 => dot_as::<F32>(row, query),
        Element::F16 => dot_as::<F16>(row, query),
        Element::Bf16 => dot_as::<BF16>(row, query),
        Element::I8 => dot_as::<I8>(row, query),
    }
}

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn dot_as<const E: u8>(row: &[u8], query: &[f32]) -> (f32, f32) {
    let dimension = query.len();
    let mut products = [_mm256_setzero_ps(); 4];
    let mut squares = [_mm256_setzero_ps(); 4];
    let mut i = 0;
    while i + 4 * LANES <= dimension {
        for lane in 0..4 {
            let at = i + lane * LANES;
            // SAFETY: `at + 8 <= dimension`, which both slices hold.
            let value = unsafe { load::<E>(row.as_ptr().add(at * size(E))) };
            // SAFETY: as above.
            let asked = unsafe { _mm256_loadu_ps(query.as_ptr().add(at)) };
            products[lane] = _mm256_fmadd_ps(value, asked, products[lane]);
            squares[lane] = _mm256_fmadd_ps(value, value, squares[lane]);
        }
        i += 4 * LANES;
    }
    for lane in 0..4 {
        if i < dimension {
            let value = load_tail::<E>(row, i);
            let asked = query_tail(query, i);
            products[lane] = _mm256_fmadd_ps(value, asked, products[lane]);
            squares[lane] = _mm256_fmadd_ps(value, value, squares[lane]);
        }
        i += LANES;
    }
    let sum = |lanes: [__m256; 4]| {
        fold(_mm256_add_ps(
            _mm256_add_ps(lanes[0], lanes[1]),
            _mm256_add_ps(lanes[2], lanes[3]),
        ))
    };
    (sum(products), sum(squares))
}

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn exact(element: Element, row: &[u8], query: &[f32]) -> f64 {
    match element {
        Element::F32 => exact_as::<F32>(row, query),
        Element::F16 => exact_as::<F16>(row, query),
        Element::Bf16 => exact_as::<BF16>(row, query),
        Element::I8 => exact_as::<I8>(row, query),
    }
}

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn exact_as<const E: u8>(row: &[u8], query: &[f32]) -> f64 {
    let dimension = query.len();
    // Four lanes each, of the sixteen that `inner_product` speaks of.
    let mut lanes = [_mm256_setzero_pd(); 4];
    let mut i = 0;
    while i < dimension {
        for half in 0..2 {
            let at = i + half * LANES;
            let (value, asked) = if at + LANES <= dimension {
                // SAFETY: `at + 8 <= dimension`, which both slices hold.
                unsafe {
                    (
                        load::<E>(row.as_ptr().add(at * size(E))),
                        _mm256_loadu_ps(query.as_ptr().add(at)),
                    )
                }
            } else {
                (load_tail::<E>(row, at), query_tail(query, at))
            };
            lanes[2 * half] = _mm256_fmadd_pd(
                _mm256_cvtps_pd(_mm256_castps256_ps128(value)),
                _mm256_cvtps_pd(_mm256_castps256_ps128(asked)),
                lanes[2 * half],
            );
            lanes[2 * half + 1] = _mm256_fmadd_pd(
                _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(value)),
                _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(asked)),
                lanes[2 * half + 1],
            );
        }
        i += 2 * LANES;
    }
    let four = _mm256_add_pd(
        _mm256_add_pd(lanes[0], lanes[2]),
        _mm256_add_pd(lanes[1], lanes[3]),
    );
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
}

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn tile(tile: &Tile, masks: &mut [u32]) {
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    let rows = tile.rows.as_ptr();
    let panel = tile.panel.as_ptr();
    for i in 0..tile.dimension {
        // SAFETY: the caller has checked that the panel holds `dimension × WIDTH` values.
        let queries = unsafe {
            [
                _mm256_loadu_ps(panel.add(i * WIDTH)),
                _mm256_loadu_ps(panel.add(i * WIDTH + LANES)),
            ]
        };
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller has checked that there are `ROWS × stride` values, and
            // `i < dimension <= stride`.
            let value = _mm256_set1_ps(unsafe { *rows.add(r * tile.stride + i) });
            sums[0] = _mm256_fmadd_ps(value, queries[0], sums[0]);
            sums[1] = _mm256_fmadd_ps(value, queries[1], sums[1]);
        }
    }
    let overflow = _mm256_set1_ps(f32::NEG_INFINITY);
    for (r, sums) in sums.iter().enumerate() {
        let length = _mm256_set1_ps(tile.lengths[r]);
        masks[r] = 0;
        for (half, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller has checked that both hold WIDTH values.
            let (low, guard) = unsafe {
                (
                    _mm256_loadu_ps(tile.low.as_ptr().add(half * LANES)),
                    _mm256_loadu_ps(tile.guard.as_ptr().add(half * LANES)),
                )
            };
            let limit = _mm256_fnmadd_ps(guard, length, low);
            let excluded = _mm256_cmp_ps::<_CMP_LT_OQ>(sum, limit);
            // A sum that overflowed says nothing, whatever its sign.
            let certain = _mm256_cmp_ps::<_CMP_NEQ_UQ>(sum, overflow);
            let mask = !_mm256_movemask_ps(_mm256_and_ps(excluded, certain)) as u32 & 0xff;
            masks[r] |= mask << (half * LANES);
        }
    }
}
