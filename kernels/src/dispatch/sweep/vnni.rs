//! The code kernels for AVX-512 with VNNI.

use std::arch::x86_64::*;

use super::{AHEAD, SWEEP_QUERIES, Sweep, Sweeps};
use crate::dispatch::prefetch_line;

pub(in crate::dispatch) const SWEEPS: Sweeps = Sweeps { sweep, low };

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
fn sweep(sweep: &Sweep, masks: &mut [u32], sums: &mut [[i32; 16]]) {
    let mut at = 0;
    while at < sweep.bounds.len() {
        at += match sweep.bounds.len() - at {
            SWEEP_QUERIES.. => some::<SWEEP_QUERIES>(sweep, at, masks, sums),
            4.. => some::<4>(sweep, at, masks, sums),
            _ => some::<1>(sweep, at, masks, sums),
        };
    }
}

/// Queries `at..at + Q`; returns Q.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
fn some<const Q: usize>(sweep: &Sweep, at: usize, masks: &mut [u32], sums: &mut [[i32; 16]]) -> usize {
    let lanes = match Q {
        1 => products::<Q, 2>(sweep, at),
        _ => products::<Q, 1>(sweep, at),
    };
    let factors = sweep.factors.as_ptr().cast::<f32>();
    // SAFETY: the caller has checked that there are three times sixteen factors, and sixteen tails.
    let (scale, error, norm, tail) = unsafe {
        (
            _mm512_loadu_ps(factors),
            _mm512_loadu_ps(factors.add(16)),
            _mm512_loadu_ps(factors.add(32)),
            _mm512_loadu_ps(sweep.tails.as_ptr().cast()),
        )
    };
    for (q, &sum) in lanes.iter().enumerate() {
        let bound = &sweep.bounds[at + q];
        let j = _mm512_sub_epi32(_mm512_add_epi32(sum, sum), _mm512_set1_epi32(bound.bias));
        let margin = _mm512_fmadd_ps(
            _mm512_set1_ps(bound.error),
            error,
            _mm512_mul_ps(_mm512_set1_ps(bound.norm), norm),
        );
        let margin = _mm512_fmadd_ps(_mm512_set1_ps(bound.tail), tail, margin);
        let gain = _mm512_mul_ps(_mm512_set1_ps(bound.gain), scale);
        let reach = _mm512_fmadd_ps(_mm512_cvtepi32_ps(j), gain, margin);
        let excluded = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(reach, _mm512_set1_ps(bound.low));
        masks[at + q] = u32::from(!excluded);
        if !excluded != 0 {
            // SAFETY: a row of `sums` holds sixteen values.
            unsafe { _mm512_storeu_si512(sums[at + q].as_mut_ptr().cast(), j) };
        }
    }
    Q
}

/// Products of sixteen rows with queries `at..at + Q`, in `P` sums for each half of the codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
fn products<const Q: usize, const P: usize>(sweep: &Sweep, at: usize) -> [__m512i; Q] {
    let nibble = _mm512_set1_epi8(15);
    let mut lanes = [[[_mm512_setzero_si512(); 2]; P]; Q];
    let codes = sweep.codes.as_ptr();
    let queries = sweep.queries[at * 2 * sweep.half..].as_ptr();
    let steps = sweep.codes.len() / 64;
    let mut from = 0;
    while from < steps {
        for p in 0..P {
            let step = from + p;
            if p > 0 && step == steps {
                break;
            }
            if Q < SWEEP_QUERIES {
                prefetch_line(codes.wrapping_add(step * 64 + AHEAD));
            }
            // SAFETY: the codes hold 64 bytes a step.
            let both = unsafe { _mm512_loadu_si512(codes.add(step * 64).cast()) };
            let below = _mm512_and_si512(both, nibble);
            let above = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
            for (q, lanes) in lanes.iter_mut().enumerate() {
                // SAFETY: the caller has checked that a half holds four bytes a step, and that there are
                // two halves for each of `at + Q` queries.
                let (asked_below, asked_above) = unsafe {
                    let query = queries.add(q * 2 * sweep.half + step * 4);
                    (
                        query.cast::<i32>().read_unaligned(),
                        query.add(sweep.half).cast::<i32>().read_unaligned(),
                    )
                };
                let lanes = &mut lanes[p];
                lanes[0] = _mm512_dpbusd_epi32(lanes[0], below, _mm512_set1_epi32(asked_below));
                lanes[1] = _mm512_dpbusd_epi32(lanes[1], above, _mm512_set1_epi32(asked_above));
            }
        }
        from += P;
    }
    lanes.map(|lanes| {
        lanes.iter().fold(_mm512_setzero_si512(), |sum, lanes| {
            _mm512_add_epi32(sum, _mm512_add_epi32(lanes[0], lanes[1]))
        })
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
fn low([low, rest]: [&[u8]; 2], queries: [&[i8]; 2]) -> i32 {
    let (low, rest) = (row(low, queries[0]), row(rest, queries[1]));
    _mm512_reduce_add_epi32(_mm512_add_epi32(low, _mm512_slli_epi32::<4>(rest)))
}

/// Products of a row's halves with a query's, in sixteen sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
fn row(codes: &[u8], query: &[i8]) -> __m512i {
    let nibble = _mm512_set1_epi8(15);
    let mut lanes = [_mm512_setzero_si512(); 2];
    for at in (0..codes.len()).step_by(64) {
        // SAFETY: the caller has checked that the query is twice as long as the codes, a multiple of 64.
        let (both, asked_below, asked_above) = unsafe {
            (
                _mm512_loadu_si512(codes.as_ptr().add(at).cast()),
                _mm512_loadu_si512(query.as_ptr().add(at).cast()),
                _mm512_loadu_si512(query.as_ptr().add(codes.len() + at).cast()),
            )
        };
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
        lanes[0] = _mm512_dpbusd_epi32(lanes[0], _mm512_and_si512(both, nibble), asked_below);
        lanes[1] = _mm512_dpbusd_epi32(lanes[1], high, asked_above);
    }
    _mm512_add_epi32(lanes[0], lanes[1])
}
