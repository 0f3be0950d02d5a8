//! Scan codes against many queries on the matrix tiles of AMX (INT8).
//!
//! A tile register holds sixteen rows of 64 bytes. Sixteen queries and 64 of their components are one; 64
//! components of sixteen documents another, in the order in which codes are laid out anyway (`[steps][16][4]`),
//! once their nibbles are bytes. One instruction multiplies the two into a tile of 16 × 16 sums in 32 bits.
//! The compiler knows nothing of these registers on stable Rust, so they live inside blocks of assembly.
//!
//! Linux gives a process the room to save the registers in only when it is asked to; that is done once, and where
//! it is refused the other kernels serve.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Survivor, TILE, TILED_QUERIES, TileSweep, Tiles};
use crate::codes::Loose;
use crate::tiles::TileRegisters;

pub(in crate::dispatch) const TILES: Tiles = Tiles { unpack, sweep };

/// Bytes of a row of a tile.
const LINE: usize = 64;

/// Sums of 32 queries and 32 documents: `[2 of queries][2 of documents][16][16]`.
#[repr(C, align(64))]
struct Sums([[[[i32; TILE]; TILE]; 2]; 2]);

/// Unpacks nibbles of sixteen documents to bytes: `[below, above][tiles][16][16][4]`, zeros behind.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn unpack(codes: &[u8], into: &mut [u8]) {
    let nibble = _mm512_set1_epi8(15);
    let half = into.len() / 2;
    let (below, above) = into.split_at_mut(half);
    let steps = codes.len() / 64;
    for step in 0..steps {
        // SAFETY: the codes hold 64 bytes a step, and by the caller's check each half has room for all steps.
        unsafe {
            let both = _mm512_loadu_si512(codes.as_ptr().add(step * 64).cast());
            let low = _mm512_and_si512(both, nibble);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
            _mm512_storeu_si512(below.as_mut_ptr().add(step * 64).cast(), low);
            _mm512_storeu_si512(above.as_mut_ptr().add(step * 64).cast(), high);
        }
    }
    below[steps * 64..].fill(0);
    above[steps * 64..].fill(0);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn sweep(sweep: &TileSweep, survivors: &mut Vec<Survivor>) {
    // SAFETY: the table that leads here is handed out only where tiles are permitted.
    let _registers = unsafe { TileRegisters::configure() };
    let mut sums = Sums([[[[0; TILE]; TILE]; 2]; 2]);
    let row = sweep.row;
    let blocks = sweep.factors.len();
    for first in (0..sweep.bounds.len()).step_by(TILED_QUERIES) {
        let count = (sweep.bounds.len() - first).min(TILED_QUERIES);
        let asked = &sweep.queries[first * row..][..TILED_QUERIES * row];
        for pair in (0..blocks).step_by(2) {
            // An odd block at the end is multiplied twice and looked at once.
            let other = (pair + 1).min(blocks - 1);
            let documents = [pair, other].map(|block| &sweep.codes[block * TILE * row..][..TILE * row]);
            // SAFETY: tiles are configured; `asked` holds 32 rows of `row` bytes and each of `documents` sixteen,
            // which is `row / 64` tiles of 1 KiB; `sums` has room for four tiles.
            unsafe {
                multiply(
                    asked.as_ptr(),
                    documents[0].as_ptr(),
                    documents[1].as_ptr(),
                    row,
                    &mut sums,
                )
            };
            for (which, block) in (pair..=other).enumerate() {
                let factors = Factors::load(sweep.factors[block], sweep.tails[block]);
                let live = sweep.live[block];
                for (query, bound) in sweep.bounds[first..first + count].iter().enumerate() {
                    let sum = &mut sums.0[query / TILE][which][query % TILE];
                    let mask = factors.test(sum, bound) & live;
                    Survivor::add_all(mask, first + query, block * TILE, sum, survivors);
                }
            }
        }
    }
}

/// Products of 32 queries with two times sixteen documents.
///
/// # Safety
/// Tiles must be permitted and configured; `queries` must be readable for 32 rows of `row` bytes, `one` and
/// `other` for `row / 64` KiB, and `row` be a multiple of 64, not zero.
#[inline]
unsafe fn multiply(queries: *const i8, one: *const u8, other: *const u8, row: usize, sums: &mut Sums) {
    // SAFETY: the caller's promise; what is written are the four tiles of `sums`, and no register that the
    // compiler uses but those named.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{upper} + {row}*1]",
            "tileloadd tmm6, [{one} + {line}*1]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{other} + {line}*1]",
            "tdpbsud tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {row}*1]",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            "add {upper}, 64",
            "add {lower}, 64",
            "add {one}, 1024",
            "add {other}, 1024",
            "dec {count}",
            "jnz 2b",
            "tilestored [{sums} + {line}*1], tmm0",
            "tilestored [{sums} + {line}*1 + 1024], tmm1",
            "tilestored [{sums} + {line}*1 + 2048], tmm2",
            "tilestored [{sums} + {line}*1 + 3072], tmm3",
            upper = inout(reg) queries => _,
            lower = inout(reg) queries.add(TILE * row) => _,
            one = inout(reg) one => _,
            other = inout(reg) other => _,
            count = inout(reg) row / LINE => _,
            row = in(reg) row,
            line = in(reg) LINE,
            sums = in(reg) sums as *mut Sums,
            options(nostack),
        );
    }
}

/// The factors of sixteen documents.
struct Factors {
    scale: __m512,
    error: __m512,
    norm: __m512,
    tail: __m512,
}

impl Factors {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
    fn load(factors: &[u8], tails: &[u8]) -> Factors {
        let factors = factors[..3 * TILE * 4].as_ptr().cast::<f32>();
        let tails = tails[..TILE * 4].as_ptr().cast::<f32>();
        // SAFETY: there are three times sixteen, and sixteen.
        unsafe {
            Factors {
                scale: _mm512_loadu_ps(factors),
                error: _mm512_loadu_ps(factors.add(16)),
                norm: _mm512_loadu_ps(factors.add(32)),
                tail: _mm512_loadu_ps(tails),
            }
        }
    }

    /// The mask of documents that are not excluded; `sum` becomes their `J` where there are any.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
    fn test(&self, sum: &mut [i32; TILE], bound: &Loose) -> u32 {
        // SAFETY: sixteen sums are readable.
        let sums = unsafe { _mm512_loadu_si512(sum.as_ptr().cast()) };
        let j = _mm512_sub_epi32(_mm512_add_epi32(sums, sums), _mm512_set1_epi32(bound.bias));
        let margin = _mm512_fmadd_ps(
            _mm512_set1_ps(bound.error),
            self.error,
            _mm512_mul_ps(_mm512_set1_ps(bound.norm), self.norm),
        );
        let margin = _mm512_fmadd_ps(_mm512_set1_ps(bound.tail), self.tail, margin);
        let gain = _mm512_mul_ps(_mm512_set1_ps(bound.gain), self.scale);
        let reach = _mm512_fmadd_ps(_mm512_cvtepi32_ps(j), gain, margin);
        let excluded = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(reach, _mm512_set1_ps(bound.low));
        if excluded != u16::MAX {
            // SAFETY: sixteen sums are writable.
            unsafe { _mm512_storeu_si512(sum.as_mut_ptr().cast(), j) };
        }
        u32::from(!excluded)
    }
}
