//! Coding a plane.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::turn::{Allowance, Turn};
use super::{Frame, GROUP, LANES, STEP, ScanCodes, Section, Shape, Survey, half_row};
use crate::Plane;
use crate::bound::up;
use crate::dispatch::Kernels;

/// A row longer than this is not coded; it keeps every f32 of a scan far from overflow.
pub(super) const LONGEST: f64 = 1e18;

/// The residual of a row about the mean of its plane is shorter.
const LONGEST_RESIDUAL: f64 = 1e22;

/// The share of a vector's length that f64 rounding can add to a residual, generously: 2⁻⁵⁰.
const ROUNDING: f64 = 1.0 / (1u64 << 50) as f64;

/// Covers the rounding of a sum of at most 2²⁰ squares in f64 and its root.
const SLACK: f64 = 1.0 + 1e-9;

pub(super) fn build(plane: &Plane) -> ScanCodes {
    let mut survey = Survey::new(plane.rows(), plane.dimension());
    survey.add(plane);
    build_about(plane, &survey.finish())
}

pub(super) fn build_about(plane: &Plane, frame: &Frame) -> ScanCodes {
    let shape = Shape {
        rows: plane.rows(),
        dimension: plane.dimension(),
        head: frame.head(),
    };
    // A plane's own bytes lie in memory, and so its sections' lengths do not overflow.
    let mut sections = Section::ALL.map(|section| vec![0u8; shape.bytes(section).unwrap_or(0)]);
    let [
        means,
        norms,
        high_factors,
        high,
        low_factors,
        low,
        directions,
        tails,
    ] = &mut sections;
    means.copy_from_slice(bytemuck::cast_slice(&frame.mean));
    if let Some((turn, _)) = &frame.turn {
        *directions = turn.to_bytes();
    }
    let mut high_factors = high_factors.chunks_mut(3 * 4 * GROUP);
    let mut high = high.chunks_mut(shape.high_block() * (GROUP / LANES));
    let mut low_factors = low_factors.chunks_mut(8 * GROUP);
    let mut low = low.chunks_mut(shape.low_row() * GROUP);
    let mut tails = tails.chunks_mut(4 * GROUP);
    let groups: Vec<Group> = norms
        .chunks_exact_mut(4)
        .enumerate()
        .map(|(group, norm)| Group {
            first: group * GROUP,
            norm,
            high_factors: high_factors.next().unwrap_or_default(),
            high: high.next().unwrap_or_default(),
            low_factors: low_factors.next().unwrap_or_default(),
            low: low.next().unwrap_or_default(),
            tails: tails.next().unwrap_or_default(),
        })
        .collect();
    let coder = Coder {
        plane,
        shape,
        mean: &frame.mean,
        mean_length: length(frame.mean.iter().map(|&x| f64::from(x))),
        turn: frame.turn.as_ref(),
    };
    // Outside of a pool nothing may start rayon's global one.
    if rayon::current_thread_index().is_some() {
        groups.into_par_iter().for_each(|group| coder.code(group));
    } else {
        groups.into_iter().for_each(|group| coder.code(group));
    }
    ScanCodes { shape, sections }
}

/// The bytes that belong to [`GROUP`] rows, or to the rest of them at the end.
struct Group<'a> {
    first: usize,
    norm: &'a mut [u8],
    high_factors: &'a mut [u8],
    high: &'a mut [u8],
    low_factors: &'a mut [u8],
    low: &'a mut [u8],
    tails: &'a mut [u8],
}

/// What coding a row leaves over. All are upper bounds.
struct Left {
    scale: f32,
    /// `‖r‖`.
    length: f32,
    /// `ε` and `ν` by the high halves of the head, and by all.
    high: [f32; 2],
    both: [f32; 2],
    /// `τ`.
    tail: f32,
}

struct Coder<'a> {
    plane: &'a Plane<'a>,
    shape: Shape,
    mean: &'a [f32],
    mean_length: f64,
    turn: Option<&'a (Turn<'static>, Allowance)>,
}

impl Coder<'_> {
    fn code(&self, group: Group) {
        let Shape { dimension, head, .. } = self.shape;
        let rows = group.low_factors.len() / 8;
        // Several rows are turned at once. Others may be very long, and take one buffer.
        let together = if self.turn.is_some() { rows } else { 1 };
        let mut widened = vec![0.0f32; together * dimension];
        let mut values = widened.clone();
        let mut codes = vec![0u8; dimension];
        let mut longest = 0.0f32;
        for at in 0..rows {
            let among = at % together * dimension..(at % together + 1) * dimension;
            if among.start == 0 {
                for (row, widened) in (at..).zip(widened.chunks_exact_mut(dimension)) {
                    let bytes = self.plane.row_bytes(group.first + row);
                    Kernels::best().widen(self.plane.element(), bytes, widened);
                }
                self.values(&widened, &mut values);
            }
            let left = self.code_row(&widened[among.clone()], &values[among], &mut codes);
            longest = longest.max(left.length);

            let (block, lane) = (at / LANES, at % LANES);
            for (kind, value) in [left.scale, left.high[0], left.high[1]].into_iter().enumerate() {
                put(group.high_factors, (block * 3 + kind) * LANES + lane, value);
            }
            put(group.low_factors, 2 * at, left.both[0]);
            put(group.low_factors, 2 * at + 1, left.both[1]);
            if !group.tails.is_empty() {
                put(group.tails, at, left.tail);
            }

            let high = &mut group.high[block * self.shape.high_block()..][..self.shape.high_block()];
            let low = &mut group.low[at * self.shape.low_row()..][..self.shape.low_row()];
            let (low, rest) = low.split_at_mut(half_row(dimension));
            for (i, &code) in codes.iter().enumerate() {
                let (step, byte, shift) = place(i);
                low[step * 4 + byte] |= (code & 15) << shift;
                if i < head {
                    high[(step * LANES + lane) * 4 + byte] |= code >> 4 << shift;
                } else {
                    let (step, byte, shift) = place(i - head);
                    rest[step * 4 + byte] |= code >> 4 << shift;
                }
            }
        }
        put(group.norm, 0, longest);
    }

    /// The residuals of rows `[n, D]`, turned where they are, into `values`.
    fn values(&self, rows: &[f32], values: &mut Vec<f32>) {
        let residuals = rows
            .chunks_exact(self.shape.dimension)
            .flat_map(|row| row.iter().zip(self.mean).map(|(d, m)| d - m));
        match self.turn {
            None => {
                values.clear();
                values.extend(residuals);
            }
            Some((turn, _)) => turn.turn(&residuals.collect::<Vec<f32>>(), values),
        }
    }

    fn code_row(&self, row: &[f32], values: &[f32], codes: &mut [u8]) -> Left {
        let whole = length(row.iter().map(|&d| f64::from(d)));
        let residuals = || {
            row.iter()
                .zip(self.mean)
                .map(|(&d, &m)| f64::from(d) - f64::from(m))
        };
        let measured = length(residuals());
        // A mean that is not of the plane may be long too. NaN is caught.
        if whole.is_nan() || whole > LONGEST || measured.is_nan() || measured > LONGEST_RESIDUAL {
            codes.fill(0);
            let unknown = [f32::INFINITY, 0.0];
            return Left {
                scale: 0.0,
                length: f32::INFINITY,
                high: unknown,
                both: unknown,
                tail: 0.0,
            };
        }
        // How far a residual computed in f64 can be from the real one.
        let rounding = ROUNDING * (whole + self.mean_length);
        let residual = Residual {
            measured,
            rounding,
            head: self.shape.head,
        };
        match self.turn {
            None => residual.code(values, residuals, None, codes),
            Some((_, allowance)) => {
                let turned = || values.iter().map(|&value| f64::from(value));
                residual.code(values, turned, Some(allowance), codes)
            }
        }
    }
}

/// A row's residual.
struct Residual {
    /// `‖r‖`, and how much longer it may be.
    measured: f64,
    rounding: f64,
    head: usize,
}

impl Residual {
    /// Codes components: `quick` in f32, which choose the codes, and `real`, on which the bounds are measured, whatever the codes
    /// are.
    #[inline(always)]
    fn code<R: Iterator<Item = f64>>(
        &self,
        quick: &[f32],
        real: impl Fn() -> R,
        allowance: Option<&Allowance>,
        codes: &mut [u8],
    ) -> Left {
        let longest = self.measured + self.rounding;
        let off = allowance.map_or(0.0, |a| a.turned * longest + a.constant) + self.rounding;
        // What a document's part of the bound comes to, from what its code was measured to be off.
        let widened = |measured: f64| match allowance {
            None => up(measured + off),
            Some(a) => up((measured + off) * a.factor + a.product * longest),
        };
        let head = quick[..self.head].iter();
        let scale = head.fold(0.0f32, |most, value| most.max(value.abs())) / 8.0;
        let steps = 16.0 / scale;
        if !steps.is_finite() {
            // Nothing but the mean is left of the row, or too little to be told apart.
            codes.fill(0);
            let all = widened(self.measured);
            return Left {
                scale: 0.0,
                length: up(longest),
                high: [all, 0.0],
                both: [all, 0.0],
                tail: 0.0,
            };
        }
        for (code, &value) in codes.iter_mut().zip(quick) {
            *code = (value * steps + 128.0) as u8;
        }
        let unit = f64::from(scale);
        let codes = || codes.iter();
        let high = || codes().take(self.head).map(|&c| (f64::from(c >> 4) - 7.5) * unit);
        let both = || codes().map(|&c| (f64::from(c) - 127.5) * (unit / 16.0));
        let high_off = length(real().zip(high()).map(|(r, c)| r - c));
        let both_off = length(real().zip(both()).map(|(r, c)| r - c));
        Left {
            scale,
            length: up(longest),
            high: [widened(high_off), up(length(high()))],
            both: [widened(both_off), up(length(both()))],
            tail: up(length(real().skip(self.head)) + off),
        }
    }
}

/// Where component `i` of a row lies: its step, the byte of four, and the bits of it.
pub(super) fn place(i: usize) -> (usize, usize, usize) {
    (i / STEP, i % 4, i % STEP / 4 * 4)
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt() * SLACK
}

fn put(bytes: &mut [u8], at: usize, value: f32) {
    bytes[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
}
