//! Integer dot products over scan codes: the arithmetic of `codes/query.rs`.

use crate::codes::Loose;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod bytes;
mod portable;
#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(target_arch = "x86_64")]
pub(super) use amx::TILES as AMX;
#[cfg(target_arch = "x86_64")]
pub(super) use avx2::SWEEPS as AVX2;
#[cfg(target_arch = "x86_64")]
pub(super) use bytes::TILES as BYTES;
pub(super) use portable::SWEEPS as PORTABLE;
#[cfg(target_arch = "x86_64")]
pub(super) use vnni::SWEEPS as VNNI;

/// The most queries of one sweep.
pub(crate) const SWEEP_QUERIES: usize = 12;

/// How many bytes ahead codes are prefetched for few queries: the hardware's own guesses end with each page, and fall short
/// of what the caches can deliver. Where many queries read the same codes these are in the cache already.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8192;

/// Sixteen rows of codes and up to [`SWEEP_QUERIES`] queries.
pub(crate) struct Sweep<'a> {
    /// `[steps][16][4]`: high halves.
    pub codes: &'a [u8],
    /// `[3][16]` f32: `S`, `ε`, `ν`.
    pub factors: &'a [u8],
    /// `[16]` f32: `τ`.
    pub tails: &'a [u8],
    /// `[queries][2][half]`.
    pub queries: &'a [i8],
    pub half: usize,
    /// `[queries]`.
    pub bounds: &'a [Loose],
}

/// Of a row's codes and a query's, low halves and what is behind the head.
type Low = unsafe fn([&[u8]; 2], [&[i8]; 2]) -> i32;

/// The code kernels of one instruction set; unsafe for the same reasons as those beside them.
pub(crate) struct Sweeps {
    pub(super) sweep: unsafe fn(&Sweep, &mut [u32], &mut [[i32; 16]]),
    pub(super) low: Low,
}

/// Queries and documents of one tile: a matrix register where there are such.
pub(crate) const TILE: usize = 16;

/// Queries that are multiplied together.
pub(crate) const TILED_QUERIES: usize = 2 * TILE;

/// Blocks of sixteen rows of codes, unpacked, and any number of queries.
pub(crate) struct TileSweep<'a> {
    /// `[blocks][16 × row]`, as `Tiles::unpack` leaves them.
    pub codes: &'a [u8],
    /// `[blocks]` of `[3][16]` f32: `S`, `ε`, `ν`.
    pub factors: &'a [&'a [u8]],
    /// `[blocks]` of `[16]` f32: `τ`.
    pub tails: &'a [&'a [u8]],
    /// `[blocks]`: which of the sixteen rows count.
    pub live: &'a [u32],
    /// `[queries rounded up to 32][row]`.
    pub queries: &'a [i8],
    /// Bytes of a coded query, both halves: a multiple of 128.
    pub row: usize,
    /// `[queries]`.
    pub bounds: &'a [Loose],
}

/// A row that the high halves could not exclude for a query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Survivor {
    pub query: u32,
    /// The row's place in the blocks.
    pub at: u32,
    /// `J`.
    pub sum: i32,
}

impl Survivor {
    /// Adds the rows of a mask, of which the first is the one in place `first`, with their sums.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn add_all(mut mask: u32, query: usize, first: usize, sums: &[i32; TILE], to: &mut Vec<Survivor>) {
        while mask != 0 {
            let lane = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            to.push(Survivor {
                query: query as u32,
                at: (first + lane) as u32,
                sum: sums[lane],
            });
        }
    }
}

/// The code kernels for batches, of codes that are unpacked once for all queries; unsafe as the others are.
pub(crate) struct Tiles {
    pub(super) unpack: unsafe fn(&[u8], &mut [u8]),
    pub(super) sweep: unsafe fn(&TileSweep, &mut Vec<Survivor>),
}
