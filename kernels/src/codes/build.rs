//! Coding a plane.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::{GROUP, LANES, Mean, STEP, ScanCodes, Section, high_block, low_row};
use crate::Plane;
use crate::bound::up;
use crate::dispatch::Kernels;

/// A row longer than this is not coded; it keeps every f32 of a scan far from overflow.
pub(super) const LONGEST: f64 = 1e18;

/// The share of a vector's length that f64 rounding can add to a residual, generously: 2⁻⁵⁰.
const ROUNDING: f64 = 1.0 / (1u64 << 50) as f64;

/// Covers the rounding of a sum of at most 2²⁰ squares in f64 and its root.
const SLACK: f64 = 1.0 + 1e-9;

pub(super) fn build(plane: &Plane) -> ScanCodes {
    let mut mean = Mean::new(plane.dimension());
    mean.add(plane);
    build_about(plane, &mean.finish())
}

pub(super) fn build_about(plane: &Plane, mean: &[f32]) -> ScanCodes {
    let (rows, dimension) = (plane.rows(), plane.dimension());
    // A plane's own bytes lie in memory, and no section is a large multiple of them.
    let mut sections = Section::ALL.map(|section| vec![0u8; section.bytes(rows, dimension).unwrap_or(0)]);
    let [means, norms, high_factors, high, low_factors, low] = &mut sections;
    means.copy_from_slice(bytemuck::cast_slice(mean));
    let groups: Vec<Group> = norms
        .chunks_exact_mut(4)
        .zip(high_factors.chunks_mut(3 * 4 * GROUP))
        .zip(high.chunks_mut(high_block(dimension) * (GROUP / LANES)))
        .zip(low_factors.chunks_mut(8 * GROUP))
        .zip(low.chunks_mut(low_row(dimension) * GROUP))
        .enumerate()
        .map(
            |(group, ((((norm, high_factors), high), low_factors), low))| Group {
                first: group * GROUP,
                norm,
                high_factors,
                high,
                low_factors,
                low,
            },
        )
        .collect();
    // Outside of a pool nothing may start rayon's global one.
    if rayon::current_thread_index().is_some() {
        groups.into_par_iter().for_each(|group| group.code(plane, mean));
    } else {
        groups.into_iter().for_each(|group| group.code(plane, mean));
    }
    ScanCodes {
        rows,
        dimension,
        sections,
    }
}

/// The bytes that belong to [`GROUP`] rows, or to the rest of them at the end.
struct Group<'a> {
    first: usize,
    norm: &'a mut [u8],
    high_factors: &'a mut [u8],
    high: &'a mut [u8],
    low_factors: &'a mut [u8],
    low: &'a mut [u8],
}

/// What coding a row leaves over. All are upper bounds.
struct Left {
    scale: f32,
    /// `‖r‖`.
    length: f32,
    /// `‖r − r̂‖` and `‖r̂‖` by the high halves, and by both.
    high: [f32; 2],
    both: [f32; 2],
}

impl Group<'_> {
    fn code(self, plane: &Plane, mean: &[f32]) {
        let dimension = plane.dimension();
        let mean_length = length(mean.iter().map(|&x| f64::from(x)));
        let mut row = vec![0.0f32; dimension];
        let mut codes = vec![0u8; dimension];
        let mut longest = 0.0f32;
        for at in 0..self.low_factors.len() / 8 {
            Kernels::best().widen(plane.element(), plane.row_bytes(self.first + at), &mut row);
            let left = code(&row, mean, mean_length, &mut codes);
            longest = longest.max(left.length);

            let (block, lane) = (at / LANES, at % LANES);
            for (kind, value) in [left.scale, left.high[0], left.high[1]].into_iter().enumerate() {
                put(self.high_factors, (block * 3 + kind) * LANES + lane, value);
            }
            put(self.low_factors, 2 * at, left.both[0]);
            put(self.low_factors, 2 * at + 1, left.both[1]);

            let high = &mut self.high[block * high_block(dimension)..][..high_block(dimension)];
            let low = &mut self.low[at * low_row(dimension)..][..low_row(dimension)];
            for (i, &code) in codes.iter().enumerate() {
                let (step, byte, shift) = (i / STEP, i % 4, i % STEP / 4 * 4);
                high[(step * LANES + lane) * 4 + byte] |= code >> 4 << shift;
                low[step * 4 + byte] |= (code & 15) << shift;
            }
        }
        put(self.norm, 0, longest);
    }
}

/// Codes one row. The codes need not be the best: whatever they are, the bounds are measured on them.
fn code(row: &[f32], mean: &[f32], mean_length: f64, codes: &mut [u8]) -> Left {
    let residuals = || row.iter().zip(mean).map(|(&d, &m)| f64::from(d) - f64::from(m));
    let whole = length(row.iter().map(|&d| f64::from(d)));
    // Not greater, so that NaN is caught too.
    if whole.is_nan() || whole > LONGEST {
        codes.fill(0);
        let unknown = [f32::INFINITY, 0.0];
        return Left {
            scale: 0.0,
            length: f32::INFINITY,
            high: unknown,
            both: unknown,
        };
    }
    // How far a residual computed in f64 can be from the real one.
    let rounding = ROUNDING * (whole + mean_length);
    let largest = row
        .iter()
        .zip(mean)
        .fold(0.0f32, |a, (&d, &m)| a.max((d - m).abs()));
    let scale = largest / 8.0;
    let steps = 16.0 / scale;
    if !steps.is_finite() {
        // Nothing but the mean is left of the row, or too little to be told apart.
        codes.fill(0);
        let all = up(length(residuals()) + rounding);
        return Left {
            scale: 0.0,
            length: all,
            high: [all, 0.0],
            both: [all, 0.0],
        };
    }
    for ((code, &d), &m) in codes.iter_mut().zip(row).zip(mean) {
        *code = ((d - m) * steps + 128.0) as u8;
    }
    let unit = f64::from(scale);
    let high = || codes.iter().map(|&c| (f64::from(c >> 4) - 7.5) * unit);
    let both = || codes.iter().map(|&c| (f64::from(c) - 127.5) * (unit / 16.0));
    let off = |coded: &mut dyn Iterator<Item = f64>| {
        up(length(residuals().zip(coded).map(|(r, c)| r - c)) + rounding)
    };
    Left {
        scale,
        length: up(length(residuals()) + rounding),
        high: [off(&mut high()), up(length(high()))],
        both: [off(&mut both()), up(length(both()))],
    }
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt() * SLACK
}

fn put(bytes: &mut [u8], at: usize, value: f32) {
    bytes[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
}
