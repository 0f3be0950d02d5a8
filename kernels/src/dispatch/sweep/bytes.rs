//! Scan codes against many queries with AVX2, the nibbles unpacked once for all of them.
//!
//! What bounds a sweep there is how many products of bytes a cycle can take, so they are added in 16 bits for as long as these
//! hold the sums: a nibble is at most 15 and a component of a query at most 127 in size, two products at most 3,810, and eight
//! of those at most 30,480.

use std::arch::x86_64::*;

use super::avx2::test;
use super::{Survivor, TILE, TileSweep, Tiles};

pub(in crate::dispatch) const TILES: Tiles = Tiles { unpack, sweep };

/// Queries that are multiplied together: with two registers each and what they are multiplied with, all there are.
const QUERIES: usize = 6;

/// Steps of four components whose sums 16 bits hold.
const HELD: usize = 8;

/// Unpacks nibbles of sixteen documents to bytes: `[below, above][steps][16][4]`, zeros behind.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn unpack(codes: &[u8], into: &mut [u8]) {
    let nibble = _mm256_set1_epi8(15);
    let (below, above) = into.split_at_mut(into.len() / 2);
    for at in (0..codes.len()).step_by(32) {
        // SAFETY: there are whole times 64 bytes of codes, and by the caller's check each half has room for all.
        unsafe {
            let both = _mm256_loadu_si256(codes.as_ptr().add(at).cast());
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(both), nibble);
            _mm256_storeu_si256(below.as_mut_ptr().add(at).cast(), _mm256_and_si256(both, nibble));
            _mm256_storeu_si256(above.as_mut_ptr().add(at).cast(), high);
        }
    }
    below[codes.len()..].fill(0);
    above[codes.len()..].fill(0);
}

#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn sweep(sweep: &TileSweep, survivors: &mut Vec<Survivor>) {
    let row = sweep.row;
    let mut sums = [[0i32; TILE]; QUERIES];
    for (block, factors) in sweep.factors.iter().enumerate() {
        let codes = &sweep.codes[block * TILE * row..][..TILE * row];
        for first in (0..sweep.bounds.len()).step_by(QUERIES) {
            let bounds = &sweep.bounds[first..sweep.bounds.len().min(first + QUERIES)];
            let queries = &sweep.queries[first * row..];
            if bounds.len() == QUERIES {
                multiply::<QUERIES>(codes, queries, row, &mut sums);
            } else {
                for (query, sums) in sums.iter_mut().enumerate().take(bounds.len()) {
                    let sums = std::array::from_mut(sums);
                    multiply::<1>(codes, &queries[query * row..], row, sums);
                }
            }
            for (query, (bound, sums)) in bounds.iter().zip(&mut sums).enumerate() {
                let mask = test(factors, sweep.tails[block], sums, bound) & sweep.live[block];
                Survivor::add_all(mask, first + query, block * TILE, sums, survivors);
            }
        }
    }
}

/// Products of `Q` queries with sixteen documents.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn multiply<const Q: usize>(codes: &[u8], queries: &[i8], row: usize, sums: &mut [[i32; TILE]; Q]) {
    assert!(codes.len() >= TILE * row && queries.len() >= Q * row && row.is_multiple_of(4 * HELD));
    let ones = _mm256_set1_epi16(1);
    sums.fill([0; TILE]);
    for from in (0..row).step_by(4 * HELD) {
        let mut lanes = [[_mm256_setzero_si256(); 2]; Q];
        for at in (from..from + 4 * HELD).step_by(4) {
            // SAFETY: there are sixteen bytes of codes for each byte of a row.
            let rows = unsafe {
                let codes = codes.as_ptr().add(TILE * at);
                [
                    _mm256_loadu_si256(codes.cast()),
                    _mm256_loadu_si256(codes.add(32).cast()),
                ]
            };
            for (q, lanes) in lanes.iter_mut().enumerate() {
                // SAFETY: there are `Q` rows of queries.
                let asked = unsafe { queries.as_ptr().add(q * row + at).cast::<i32>().read_unaligned() };
                let asked = _mm256_set1_epi32(asked);
                for (lanes, rows) in lanes.iter_mut().zip(rows) {
                    *lanes = _mm256_add_epi16(*lanes, _mm256_maddubs_epi16(rows, asked));
                }
            }
        }
        for (lanes, sums) in lanes.iter().zip(sums.iter_mut()) {
            for (half, &lanes) in lanes.iter().enumerate() {
                // SAFETY: a query has two times eight sums.
                unsafe {
                    let sums = sums.as_mut_ptr().add(8 * half).cast();
                    let sum = _mm256_add_epi32(_mm256_loadu_si256(sums), _mm256_madd_epi16(lanes, ones));
                    _mm256_storeu_si256(sums, sum);
                }
            }
        }
    }
}
