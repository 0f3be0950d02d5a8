//! Integer dot products over scan codes: the arithmetic of `codes/query.rs`.

use crate::codes::Loose;

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;
#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::SWEEPS as AVX2;
pub(super) use portable::SWEEPS as PORTABLE;
#[cfg(target_arch = "x86_64")]
pub(super) use vnni::SWEEPS as VNNI;

/// The most queries of one sweep.
pub(crate) const SWEEP_QUERIES: usize = 12;

/// Sixteen rows of codes and up to [`SWEEP_QUERIES`] queries.
pub(crate) struct Sweep<'a> {
    /// `[steps][16][4]`: high halves.
    pub codes: &'a [u8],
    /// `[3][16]` f32: `S`, `ε`, `ν`.
    pub factors: &'a [u8],
    /// `[queries][2][half]`.
    pub queries: &'a [i8],
    pub half: usize,
    /// `[queries]`.
    pub bounds: &'a [Loose],
}

/// The code kernels of one instruction set; unsafe for the same reasons as those beside them.
pub(crate) struct Sweeps {
    pub(super) sweep: unsafe fn(&Sweep, &mut [u32], &mut [[i32; 16]]),
    pub(super) low: unsafe fn(&[u8], &[i8], &[i8]) -> i32,
}
