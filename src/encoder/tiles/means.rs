//! What multiplies a block of tiles: the tiles of AMX, AVX-512's dot products of pairs, or plain Rust.

use stratal_kernels::{TileNumbers, TileRegisters};

use super::{BLOCK, Pair, STEP, Sums, TILE, Tile};

/// Bytes of a row of a tile.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Whether the processor adds the products of two pairs of bf16 to each of sixteen sums.
pub(super) fn has_dot_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// What blocks are multiplied with.
pub(super) enum Means {
    Tiles(TileRegisters),
    #[cfg(target_arch = "x86_64")]
    DotProducts,
    Plain,
}

impl Means {
    /// The quickest here.
    pub(super) fn best() -> Means {
        if let Some(registers) = TileRegisters::configured(TileNumbers::Bf16) {
            return Means::Tiles(registers);
        }
        #[cfg(target_arch = "x86_64")]
        if has_dot_products() {
            return Means::DotProducts;
        }
        Means::Plain
    }
}

/// The sums of 32 rows of pairs with a block of tiles.
pub(super) fn multiply(means: &Means, left: &[Pair], right: &[Tile], sums: &mut Sums) {
    let steps = right.len() / 2;
    assert!(steps > 0 && right.len() == 2 * steps && left.len() == BLOCK * steps * TILE);
    match means {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: registers are configured on this thread, which they cannot leave; the lengths fit by the assertion.
        Means::Tiles(_) => unsafe { multiply_on_tiles(left, right, sums) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this is chosen where the processor has the instructions; the lengths fit by the assertion.
        Means::DotProducts => unsafe { multiply_by_dot_products(left, right, sums) },
        #[cfg(not(target_arch = "x86_64"))]
        Means::Tiles(_) => plain_multiply(left, right, sums),
        Means::Plain => plain_multiply(left, right, sums),
    }
}

/// # Safety
/// This thread's tile registers must be configured, `left` hold 32 rows of sixteen pairs for every two tiles of `right`.
#[cfg(target_arch = "x86_64")]
unsafe fn multiply_on_tiles(left: &[Pair], right: &[Tile], sums: &mut Sums) {
    let steps = right.len() / 2;
    let stride = steps * STEP * 2;
    // SAFETY: `left` holds 32 rows of `stride` bytes and `right` `steps` times 2 KiB; what is written are the four tiles of
    // `sums`, and no register that the compiler uses but those named.
    unsafe {
        std::arch::asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{upper} + {stride}*1]",
            "tileloadd tmm6, [{right} + {line}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {line}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {stride}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {upper}, 64",
            "add {lower}, 64",
            "add {right}, 2048",
            "dec {count}",
            "jnz 2b",
            "tilestored [{sums} + {line}*1], tmm0",
            "tilestored [{sums} + {line}*1 + 1024], tmm1",
            "tilestored [{sums} + {line}*1 + 2048], tmm2",
            "tilestored [{sums} + {line}*1 + 3072], tmm3",
            upper = inout(reg) left.as_ptr() => _,
            lower = inout(reg) left.as_ptr().add(TILE * steps * TILE) => _,
            right = inout(reg) right.as_ptr() => _,
            count = inout(reg) steps => _,
            stride = in(reg) stride,
            line = in(reg) LINE,
            sums = in(reg) sums as *mut Sums,
            options(nostack),
        );
    }
}

/// # Safety
/// The processor must have the instructions, `left` hold 32 rows of sixteen pairs for every two tiles of `right`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_by_dot_products(left: &[Pair], right: &[Tile], sums: &mut Sums) {
    use std::arch::x86_64::*;
    /// Rows whose sums, two registers each, stay in registers.
    const ROWS: usize = 8;
    let stride = right.len() / 2 * TILE;
    for (from, rows) in (0..BLOCK).step_by(ROWS).zip(left.chunks_exact(ROWS * stride)) {
        let mut totals = [[_mm512_setzero_ps(); 2]; ROWS];
        for (step, tiles) in right.as_chunks::<2>().0.iter().enumerate() {
            for within in 0..TILE {
                // SAFETY: a line of a tile is 64 bytes, aligned to as many.
                let columns: [__m512bh; 2] = std::array::from_fn(|half| unsafe {
                    std::mem::transmute(_mm512_load_si512((&raw const tiles[half].0[within]).cast()))
                });
                for (row, totals) in totals.iter_mut().enumerate() {
                    // SAFETY: `rows` holds `ROWS` rows of `stride` pairs, `stride` being sixteen for every two tiles.
                    let pair = unsafe { *rows.get_unchecked(row * stride + step * TILE + within) };
                    // SAFETY: both are 64 bytes of which every pattern is valid.
                    let pair: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi32(pair as i32)) };
                    for (total, columns) in totals.iter_mut().zip(columns) {
                        *total = _mm512_dpbf16_ps(*total, pair, columns);
                    }
                }
            }
        }
        for (row, totals) in (from..).zip(totals) {
            for (half, total) in totals.into_iter().enumerate() {
                // SAFETY: sixteen sums are 64 bytes.
                unsafe { _mm512_storeu_ps(sums.0[row / TILE][half][row % TILE].as_mut_ptr(), total) };
            }
        }
    }
}

/// What the tiles compute, one product after another.
pub(super) fn plain_multiply(left: &[Pair], right: &[Tile], sums: &mut Sums) {
    let stride = left.len() / BLOCK;
    let halves = |pair: Pair| [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)];
    for (r, row) in left.chunks_exact(stride).enumerate() {
        for half in 0..2 {
            let mut out = [0.0f32; TILE];
            for (at, &pair) in row.iter().enumerate() {
                let a = halves(pair);
                let tile = &right[at / TILE * 2 + half].0[at % TILE];
                for (out, &pair) in out.iter_mut().zip(tile) {
                    let b = halves(pair);
                    *out += a[0] * b[0] + a[1] * b[1];
                }
            }
            sums.0[r / TILE][half][r % TILE] = out;
        }
    }
}
