//! The code kernels for AVX2.
//!
//! A nibble is at most 15 and a component of a query at most 127 in size, so the sum of four of their
//! products, the most that is held in 16 bits here, is at most 7,620.

use std::arch::x86_64::*;

use super::{AHEAD, Sweep, Sweeps, TILE};
use crate::codes::Loose;
use crate::dispatch::prefetch_line;

pub(in crate::dispatch) const SWEEPS: Sweeps = Sweeps { sweep, low };

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn sweep(sweep: &Sweep, masks: &mut [u32], sums: &mut [[i32; 16]]) {
    let mut at = 0;
    while at < sweep.bounds.len() {
        at += match sweep.bounds.len() - at {
            4.. => some::<4>(sweep, at, masks, sums),
            _ => some::<1>(sweep, at, masks, sums),
        };
    }
}

/// Products of codes with components of a query, four of each added into a lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn products(codes: __m256i, asked_below: __m256i, asked_above: __m256i) -> __m256i {
    let nibble = _mm256_set1_epi8(15);
    let below = _mm256_and_si256(codes, nibble);
    let above = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble);
    let pairs = _mm256_add_epi16(
        _mm256_maddubs_epi16(below, asked_below),
        _mm256_maddubs_epi16(above, asked_above),
    );
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// Queries `at..at + Q`; returns Q.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn some<const Q: usize>(sweep: &Sweep, at: usize, masks: &mut [u32], sums: &mut [[i32; 16]]) -> usize {
    let mut lanes = [[_mm256_setzero_si256(); 2]; Q];
    let codes = sweep.codes.as_ptr();
    let queries = sweep.queries[at * 2 * sweep.half..].as_ptr();
    for step in 0..sweep.codes.len() / 64 {
        if Q == 1 {
            prefetch_line(codes.wrapping_add(step * 64 + AHEAD));
        }
        // SAFETY: the codes hold 64 bytes a step.
        let rows = unsafe {
            [
                _mm256_loadu_si256(codes.add(step * 64).cast()),
                _mm256_loadu_si256(codes.add(step * 64 + 32).cast()),
            ]
        };
        for (q, lanes) in lanes.iter_mut().enumerate() {
            // SAFETY: the caller has checked that a half holds four bytes a step, and that there are
            // two halves for each of `at + Q` queries.
            let (below, above) = unsafe {
                let query = queries.add(q * 2 * sweep.half + step * 4);
                (
                    query.cast::<i32>().read_unaligned(),
                    query.add(sweep.half).cast::<i32>().read_unaligned(),
                )
            };
            let (below, above) = (_mm256_set1_epi32(below), _mm256_set1_epi32(above));
            for (lanes, rows) in lanes.iter_mut().zip(rows) {
                *lanes = _mm256_add_epi32(*lanes, products(rows, below, above));
            }
        }
    }
    for (q, lanes) in lanes.iter().enumerate() {
        let sums = &mut sums[at + q];
        for (half, &sum) in lanes.iter().enumerate() {
            // SAFETY: a row of `sums` holds sixteen values.
            unsafe { _mm256_storeu_si256(sums.as_mut_ptr().add(half * 8).cast(), sum) };
        }
        masks[at + q] = test(sweep.factors, sweep.tails, sums, &sweep.bounds[at + q]);
    }
    Q
}

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn low([low, rest]: [&[u8]; 2], queries: [&[i8]; 2]) -> i32 {
    let (low, rest) = (row(low, queries[0]), row(rest, queries[1]));
    let lanes = _mm256_add_epi32(low, _mm256_slli_epi32::<4>(rest));
    let four = _mm_add_epi32(
        _mm256_castsi256_si128(lanes),
        _mm256_extracti128_si256::<1>(lanes),
    );
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
}

/// Products of a row's halves with a query's, in eight sums.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn row(codes: &[u8], query: &[i8]) -> __m256i {
    let mut lanes = _mm256_setzero_si256();
    for at in (0..codes.len()).step_by(32) {
        // SAFETY: the caller has checked that the query is twice as long as the codes, a multiple of 64.
        let (both, below, above) = unsafe {
            (
                _mm256_loadu_si256(codes.as_ptr().add(at).cast()),
                _mm256_loadu_si256(query.as_ptr().add(at).cast()),
                _mm256_loadu_si256(query.as_ptr().add(codes.len() + at).cast()),
            )
        };
        lanes = _mm256_add_epi32(lanes, products(both, below, above));
    }
    lanes
}

/// The mask of documents that are not excluded; `sums` become their `J`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn test(factors: &[u8], tails: &[u8], sums: &mut [i32; TILE], bound: &Loose) -> u32 {
    let factors = factors[..3 * TILE * 4].as_ptr().cast::<f32>();
    let tails = tails[..TILE * 4].as_ptr().cast::<f32>();
    let mut mask = 0;
    for half in 0..2 {
        // SAFETY: there are three times sixteen factors, sixteen tails and sixteen sums.
        let ([scale, error, norm, tail], sums) = unsafe {
            let factors = factors.add(8 * half);
            let floats = [factors, factors.add(16), factors.add(32), tails.add(8 * half)];
            (
                floats.map(|at| _mm256_loadu_ps(at)),
                sums.as_mut_ptr().add(8 * half).cast(),
            )
        };
        // SAFETY: as above.
        let sum = unsafe { _mm256_loadu_si256(sums) };
        let j = _mm256_sub_epi32(_mm256_add_epi32(sum, sum), _mm256_set1_epi32(bound.bias));
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(sums, j) };
        let margin = _mm256_fmadd_ps(
            _mm256_set1_ps(bound.error),
            error,
            _mm256_mul_ps(_mm256_set1_ps(bound.norm), norm),
        );
        let margin = _mm256_fmadd_ps(_mm256_set1_ps(bound.tail), tail, margin);
        let gain = _mm256_mul_ps(_mm256_set1_ps(bound.gain), scale);
        let reach = _mm256_fmadd_ps(_mm256_cvtepi32_ps(j), gain, margin);
        let excluded = _mm256_cmp_ps::<_CMP_LT_OQ>(reach, _mm256_set1_ps(bound.low));
        mask |= (!_mm256_movemask_ps(excluded) as u32 & 0xff) << (8 * half);
    }
    mask
}
