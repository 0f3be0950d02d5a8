//! One table of kernels per instruction set, chosen once.
//!
//! Nothing of the build machine is baked in: every path is compiled for the features that it names
//! and reached only through a table that is handed out after the processor was asked for them.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::tiles::{TileNumbers, TileRegisters};
use crate::{Element, Plane};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod product;
mod sweep;

pub(crate) use product::{PRODUCTS, product};
pub(crate) use sweep::{SWEEP_QUERIES, Survivor, Sweep, Sweeps, TILE, TILED_QUERIES, TileSweep, Tiles};

/// A set of processor instructions that the kernels are written for. Results never depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Instructions {
    /// Plain Rust.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same, with integer dot products (VNNI) for scan codes.
    Avx512Vnni,
    /// The same, with matrix tiles (AMX for 8-bit integers) for scan codes in batches; on Linux.
    Avx512Amx,
}

impl Instructions {
    /// Every set, slowest first.
    pub const ALL: [Instructions; 5] = [
        Instructions::Portable,
        Instructions::Avx2,
        Instructions::Avx512,
        Instructions::Avx512Vnni,
        Instructions::Avx512Amx,
    ];

    /// Whether this processor offers the set.
    pub fn is_available(self) -> bool {
        Kernels::of(self).is_some()
    }

    /// Whether the set has integer dot products, and this processor offers them.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_vnni(self) -> bool {
        matches!(self, Instructions::Avx512Vnni | Instructions::Avx512Amx)
            && Instructions::Avx512Vnni.is_available()
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_avx2(self) -> bool {
        self != Instructions::Portable && Instructions::Avx2.is_available()
    }

    /// The quickest set that this processor offers; found out once per process.
    pub fn best() -> Instructions {
        Kernels::best().instructions
    }
}

/// A tile of `rows × queries` inner products in f32, and the test that says which can matter.
pub(crate) struct Tile<'a> {
    /// `[tile_rows, stride]`: vectors widened to f32, of which the first `dimension` count.
    pub rows: &'a [f32],
    pub stride: usize,
    pub dimension: usize,
    /// `[tile_rows]`: an upper bound of each row's length.
    pub lengths: &'a [f32],
    /// `[dimension, width]`: queries, component-major.
    pub panel: &'a [f32],
    /// `[width]`: see `bound.rs`.
    pub low: &'a [f32],
    /// `[width]`: see `bound.rs`.
    pub guard: &'a [f32],
}

/// Of a row and a query: the inner product and the row's squared length.
type Dot = unsafe fn(Element, &[u8], &[f32]) -> (f32, f32);

/// The kernels of one instruction set. The functions are unsafe because they must run only where
/// their instructions exist and on slices of matching lengths; the methods see to both.
pub(crate) struct Kernels {
    pub instructions: Instructions,
    /// Queries in a panel; at most 32.
    pub width: usize,
    /// Rows in a tile; divides [`BLOCK_ROWS`].
    pub tile_rows: usize,
    widen: unsafe fn(Element, &[u8], &mut [f32]) -> f32,
    dot: Dot,
    tile: unsafe fn(&Tile, &mut [u32]),
    exact: unsafe fn(Element, &[u8], &[f32]) -> f64,
    products: unsafe fn(&[f32], &[f32]) -> [f32; PRODUCTS],
    sweeps: Sweeps,
    tiles: Option<Tiles>,
}

/// AVX-512 with the integer instructions.
#[cfg(target_arch = "x86_64")]
static VNNI: Kernels = Kernels {
    instructions: Instructions::Avx512Vnni,
    sweeps: sweep::VNNI,
    tiles: None,
    ..avx512::KERNELS
};

/// The same with matrix tiles.
#[cfg(target_arch = "x86_64")]
static AMX: Kernels = Kernels {
    instructions: Instructions::Avx512Amx,
    sweeps: sweep::VNNI,
    tiles: Some(sweep::AMX),
    ..avx512::KERNELS
};

/// Rows that are widened together; a multiple of every `tile_rows`.
pub(crate) const BLOCK_ROWS: usize = 96;

impl Kernels {
    /// The table of `instructions`, if the processor has them.
    pub fn of(instructions: Instructions) -> Option<&'static Kernels> {
        match instructions {
            Instructions::Portable => Some(&portable::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => (is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt"))
            .then_some(&avx2::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => (is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && Kernels::of(Instructions::Avx2).is_some())
            .then_some(&avx512::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Vnni => (is_x86_feature_detected!("avx512vnni")
                && Kernels::of(Instructions::Avx512).is_some())
            .then_some(&VNNI),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Amx => (Kernels::of(Instructions::Avx512Vnni).is_some()
                && TileRegisters::are_permitted(TileNumbers::Int8))
            .then_some(&AMX),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }

    /// The quickest table, chosen once.
    pub fn best() -> &'static Kernels {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| {
            Instructions::ALL
                .iter()
                .rev()
                .find_map(|&instructions| Kernels::of(instructions))
                .unwrap_or(&portable::KERNELS)
        })
    }

    /// Converts a row to f32 into the front of `out`; returns its squared length, summed in f32.
    pub fn widen(&self, element: Element, row: &[u8], out: &mut [f32]) -> f32 {
        assert!(row.len() <= out.len() * element.size() && row.len().is_multiple_of(element.size()));
        // SAFETY: `of` hands out a table only where its instructions exist; `out` holds the row.
        unsafe { (self.widen)(element, row, out) }
    }

    /// The inner product and the row's squared length, both summed in f32.
    pub fn dot(&self, element: Element, row: &[u8], query: &[f32]) -> (f32, f32) {
        assert!(row.len() == query.len() * element.size());
        // SAFETY: `of` hands out a table only where its instructions exist; the lengths match.
        unsafe { (self.dot)(element, row, query) }
    }

    /// For each row a mask of the panel's queries whose threshold it may reach.
    pub fn tile(&self, tile: &Tile, masks: &mut [u32]) {
        let (rows, width) = (self.tile_rows, self.width);
        assert!(tile.dimension <= tile.stride && tile.rows.len() >= rows * tile.stride);
        assert!(tile.lengths.len() >= rows && masks.len() >= rows);
        assert!(tile.panel.len() >= tile.dimension * width);
        assert!(tile.low.len() >= width && tile.guard.len() >= width);
        // SAFETY: `of` hands out a table only where its instructions exist; the lengths suffice.
        unsafe { (self.tile)(tile, masks) }
    }

    /// The score in f64, in the order that [`crate::inner_product`] states.
    pub fn exact(&self, element: Element, row: &[u8], query: &[f32]) -> f64 {
        assert!(row.len() == query.len() * element.size());
        // SAFETY: `of` hands out a table only where its instructions exist; the lengths match.
        unsafe { (self.exact)(element, row, query) }
    }

    /// The score of a row over all planes, the largest; NaN if no plane gives it one.
    #[inline]
    pub fn exact_of_all(&self, planes: &[Plane], row: usize, query: &[f32]) -> f64 {
        planes
            .iter()
            .map(|plane| self.exact(plane.element(), plane.row_bytes(row), query))
            // `max` passes over a NaN on either side.
            .fold(f64::NAN, f64::max)
    }

    /// The inner products of four vectors, one after the other, with one: sums of [`product`]'s order.
    pub fn products(&self, vectors: &[f32], row: &[f32]) -> [f32; PRODUCTS] {
        assert!(vectors.len() == PRODUCTS * row.len());
        // SAFETY: `of` hands out a table only where its instructions exist; the lengths match.
        unsafe { (self.products)(vectors, row) }
    }

    /// For each query of a sweep a mask of the sixteen rows that it cannot exclude, and for queries
    /// with any the sums `J` of all sixteen.
    pub fn sweep(&self, sweep: &Sweep, masks: &mut [u32], sums: &mut [[i32; 16]]) {
        let count = sweep.bounds.len();
        assert!(count <= masks.len() && count <= sums.len());
        assert!(sweep.codes.len().is_multiple_of(64));
        assert!(sweep.factors.len() == 3 * 16 * 4 && sweep.tails.len() == 16 * 4);
        assert!(sweep.codes.len() / 16 <= sweep.half && sweep.queries.len() >= count * 2 * sweep.half);
        // SAFETY: `of` hands out a table only where its instructions exist; the lengths suffice.
        unsafe { (self.sweeps.sweep)(sweep, masks, sums) }
    }

    /// Whether there are kernels for batches: matrix tiles, or sums of bytes.
    pub fn has_tiles(&self) -> bool {
        self.tiles.is_some()
    }

    /// Lays out the codes of sixteen rows as [`Kernels::sweep_tiles`] takes them.
    pub fn unpack(&self, codes: &[u8], into: &mut [u8]) {
        let Some(tiles) = &self.tiles else { return };
        assert!(codes.len().is_multiple_of(64) && into.len() >= 2 * codes.len());
        assert!(into.len().is_multiple_of(2 * 1024));
        // SAFETY: `of` hands out a table only where its instructions exist; the lengths suffice.
        unsafe { (tiles.unpack)(codes, into) }
    }

    /// Adds every row and query to `survivors` that the high halves cannot exclude.
    pub fn sweep_tiles(&self, sweep: &TileSweep, survivors: &mut Vec<Survivor>) {
        let Some(tiles) = &self.tiles else { return };
        let blocks = sweep.factors.len();
        assert!(sweep.row > 0 && sweep.row.is_multiple_of(128) && blocks > 0 && sweep.live.len() >= blocks);
        assert!(sweep.tails.len() >= blocks && sweep.codes.len() >= blocks * TILE * sweep.row);
        assert!(sweep.queries.len() >= sweep.bounds.len().next_multiple_of(TILED_QUERIES) * sweep.row);
        // SAFETY: `of` hands out a table only where its instructions exist; the lengths suffice.
        unsafe { (tiles.sweep)(sweep, survivors) }
    }

    /// Of a row's low halves, the high ones behind its head, and a query coded to meet both: `Σ pᵢ lᵢ + 16 Σ pᵢ hᵢ`.
    pub fn low(&self, codes: [&[u8]; 2], query: [&[i8]; 2]) -> i32 {
        for (codes, query) in codes.iter().zip(query) {
            assert!(codes.len().is_multiple_of(64) && query.len() == 2 * codes.len());
        }
        // SAFETY: `of` hands out a table only where its instructions exist; the lengths match.
        unsafe { (self.sweeps.low)(codes, query) }
    }
}

/// Tells the processor that `bytes` will be read soon; hardware stops its own guesses at each page.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    for line in bytes.chunks(64) {
        prefetch_line(line.as_ptr());
    }
}

/// The same of the cache line at an address, whatever is there.
#[inline(always)]
pub(crate) fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64; a prefetch of any address reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_is_listed_and_the_last_available_one_is_chosen() {
        for (at, instructions) in Instructions::ALL.into_iter().enumerate() {
            let place = match instructions {
                Instructions::Portable => 0,
                Instructions::Avx2 => 1,
                Instructions::Avx512 => 2,
                Instructions::Avx512Vnni => 3,
                Instructions::Avx512Amx => 4,
            };
            assert_eq!(place, at);
            if let Some(kernels) = Kernels::of(instructions) {
                assert_eq!(kernels.instructions, instructions);
                assert!(BLOCK_ROWS.is_multiple_of(kernels.tile_rows) && kernels.width <= 32);
            }
        }
        let last = Instructions::ALL.into_iter().rfind(|path| path.is_available());
        assert_eq!(last, Some(Instructions::best()));
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") {
            let best = Instructions::best();
            assert!(
                matches!(best, Instructions::Avx512Vnni | Instructions::Avx512Amx),
                "{best:?}"
            );
        }
    }
}
