//! Queries and documents in the form that the kernels multiply, and what that cost in accuracy.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::bound::{Documents, Query, SLACK, exponent_to_one, power};
use super::product::order;
use super::shape::STEP;
use crate::dispatch::Kernels;
use crate::{Element, Plane};

/// How components lie on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    F16,
    Bf16,
}

impl Format {
    /// bf16 stays what it is; f16 and int8 are exact in f16, and f32 loses least in f16 once scaled.
    pub fn of(planes: &[Plane]) -> Format {
        if planes.iter().all(|plane| plane.element() == Element::Bf16) {
            Format::Bf16
        } else {
            Format::F16
        }
    }

    /// Rounds numbers, and says what they became. Too large ones become infinite, which callers rule out by
    /// scaling.
    fn round(self, numbers: &[f32], bits: &mut [u16], rounded: &mut [f32]) {
        match self {
            Format::F16 => {
                let halves = bits.reinterpret_cast_mut::<f16>();
                halves.convert_from_f32_slice(numbers);
                halves.convert_to_f32_slice(rounded);
            }
            Format::Bf16 => {
                let halves = bits.reinterpret_cast_mut::<bf16>();
                halves.convert_from_f32_slice(numbers);
                // Devices may read a subnormal as zero: it is made zero here, where it is counted.
                for x in halves.iter_mut() {
                    if !x.is_normal() {
                        *x = bf16::ZERO;
                    }
                }
                halves.convert_to_f32_slice(rounded);
            }
        }
    }
}

/// Applies `of_row` to all rows, on the threads of the pool if there is one, and keeps the larger results.
fn largest_of<T: Send>(
    rows: usize,
    zero: impl Fn() -> T + Send + Sync,
    of_row: impl Fn(usize, &mut Vec<f32>) -> T + Send + Sync,
    larger: impl Fn(T, T) -> T + Send + Sync,
) -> T {
    if rayon::current_thread_index().is_some() {
        (0..rows)
            .into_par_iter()
            .with_min_len(256)
            .map_init(Vec::new, |scratch, row| of_row(row, scratch))
            .reduce(&zero, &larger)
    } else {
        let mut scratch = Vec::new();
        (0..rows).fold(zero(), |so_far, row| larger(so_far, of_row(row, &mut scratch)))
    }
}

/// The exponent that all planes of a part are scaled by; `None` if a component is not finite.
///
/// f32 and bf16 are brought below one, so that no sum leaves the range of f32 and f16 keeps its bits;
/// f16 and int8 are small enough as they are.
pub(crate) fn scale_of(planes: &[Plane]) -> Option<i32> {
    let kernels = Kernels::best();
    let mut largest = 0u32;
    let mut scaled = false;
    for plane in planes {
        scaled |= matches!(plane.element(), Element::F32 | Element::Bf16);
        let of_row = |row: usize, scratch: &mut Vec<f32>| {
            scratch.resize(plane.dimension(), 0.0);
            kernels.widen(plane.element(), plane.row_bytes(row), scratch);
            // Without its sign a number's bits order as it does, and what is not finite comes last.
            scratch
                .iter()
                .fold(0, |most, x| u32::max(most, x.to_bits() & 0x7fff_ffff))
        };
        largest = largest.max(largest_of(plane.rows(), || 0, of_row, u32::max));
    }
    let largest = f32::from_bits(largest);
    largest
        .is_finite()
        .then(|| if scaled { exponent_to_one(largest) } else { 0 })
}

/// Rows `first .. first + documents` of every plane, `[m][rows][width]` with zeros for padding; and what is
/// known of them.
pub(crate) fn block(
    planes: &[Plane],
    format: Format,
    exponent: i32,
    first: usize,
    documents: usize,
    rows: usize,
    width: usize,
) -> (Vec<u16>, Documents) {
    let scale = power(exponent);
    let mut bits = vec![0u16; planes.len() * rows * width];
    let mut known = Documents::default();
    for (plane, out) in planes.iter().zip(bits.chunks_exact_mut(rows * width)) {
        let write = |scratch: &mut Scratch, (at, out): (usize, &mut [u16])| {
            scratch.convert(plane, first + at, format, scale, &mut out[..plane.dimension()])
        };
        let out = &mut out[..documents * width];
        let of_plane = if rayon::current_thread_index().is_some() {
            out.par_chunks_exact_mut(width)
                .enumerate()
                .with_min_len(256)
                .map_init(Scratch::default, write)
                .reduce(Documents::default, larger)
        } else {
            let mut scratch = Scratch::default();
            out.chunks_exact_mut(width)
                .enumerate()
                .map(|row| write(&mut scratch, row))
                .fold(Documents::default(), larger)
        };
        known = larger(known, of_plane);
    }
    (bits, known)
}

fn larger(a: Documents, b: Documents) -> Documents {
    Documents {
        length: a.length.max(b.length),
        residual: a.residual.max(b.residual),
    }
}

/// Room for one row on its way.
#[derive(Default)]
struct Scratch {
    stored: Vec<f32>,
    scaled: Vec<f32>,
    rounded: Vec<f32>,
}

impl Scratch {
    fn convert(
        &mut self,
        plane: &Plane,
        row: usize,
        format: Format,
        scale: f64,
        out: &mut [u16],
    ) -> Documents {
        for room in [&mut self.stored, &mut self.scaled, &mut self.rounded] {
            room.resize(out.len(), 0.0);
        }
        Kernels::best().widen(plane.element(), plane.row_bytes(row), &mut self.stored);
        let known = round(
            &self.stored,
            scale,
            Some(format),
            &mut self.scaled,
            out,
            &mut self.rounded,
        );
        Documents {
            length: known.length,
            residual: known.residual,
        }
    }
}

/// Scales numbers, rounds them (to f32 without a format), and tells what that lost.
fn round(
    numbers: &[f32],
    scale: f64,
    format: Option<Format>,
    scaled: &mut [f32],
    bits: &mut [u16],
    rounded: &mut [f32],
) -> Query {
    for (x, scaled) in numbers.iter().zip(&mut *scaled) {
        *scaled = (f64::from(*x) * scale) as f32;
    }
    match format {
        Some(format) => format.round(scaled, bits, rounded),
        None => {
            for (x, rounded) in scaled.iter().zip(&mut *rounded) {
                *rounded = if x.is_normal() { *x } else { 0.0 };
            }
        }
    }
    // Sums in f64, in lanes that the compiler can keep in one register.
    let (mut squares, mut lost) = ([0.0f64; 8], [0.0f64; 8]);
    let mut add = |lane: usize, x: f32, rounded: f32| {
        let x = f64::from(x) * scale;
        let difference = x - f64::from(rounded);
        squares[lane] += x * x;
        lost[lane] += difference * difference;
    };
    let (eights, rest) = numbers.as_chunks::<8>();
    let (rounded_eights, rounded_rest) = rounded.as_chunks::<8>();
    for (eight, rounded) in eights.iter().zip(rounded_eights) {
        for lane in 0..8 {
            add(lane, eight[lane], rounded[lane]);
        }
    }
    for (lane, (x, rounded)) in rest.iter().zip(rounded_rest).enumerate() {
        add(lane, *x, *rounded);
    }
    Query {
        length: squares.iter().sum::<f64>().sqrt() * SLACK,
        residual: lost.iter().sum::<f64>().sqrt() * SLACK,
    }
}

/// A batch of queries for the tile kernel, `[padded][width]` of `format` with components in [`order`]; or for the row
/// kernel, of f32 as they come.
pub(crate) struct Queries {
    pub bytes: Vec<u8>,
    pub known: Vec<Query>,
    /// The exponent that each was scaled by.
    pub exponents: Vec<i32>,
}

/// Scales and rounds queries `[q, dimension]`. With no format they stay f32.
pub(crate) fn queries(
    queries: &[f32],
    dimension: usize,
    format: Option<Format>,
    padded: usize,
    width: usize,
) -> Queries {
    let size = if format.is_some() { 2 } else { 4 };
    let mut bytes = vec![0u8; padded * width * size];
    let of_query = |(query, out): (&[f32], &mut [u8])| {
        let (mut scaled, mut rounded) = (vec![0.0; dimension], vec![0.0; dimension]);
        let mut bits = vec![0u16; width];
        let exponent = exponent_to_one(query.iter().fold(0.0, |a: f32, x| a.max(x.abs())));
        let known = round(
            query,
            power(exponent),
            format,
            &mut scaled,
            &mut bits[..dimension],
            &mut rounded,
        );
        match format {
            Some(_) => {
                let (steps, _) = bits.as_chunks::<STEP>();
                for (step, out) in steps.iter().zip(out.chunks_exact_mut(STEP * 2)) {
                    for (at, out) in out.chunks_exact_mut(2).enumerate() {
                        out.copy_from_slice(&step[order(at)].to_le_bytes());
                    }
                }
            }
            None => out[..dimension * 4].copy_from_slice(bytemuck::cast_slice(&rounded)),
        }
        (known, exponent)
    };
    let (known, exponents) = if rayon::current_thread_index().is_some() {
        queries
            .par_chunks_exact(dimension)
            .zip(bytes.par_chunks_exact_mut(width * size))
            .map(of_query)
            .unzip()
    } else {
        queries
            .chunks_exact(dimension)
            .zip(bytes.chunks_exact_mut(width * size))
            .map(of_query)
            .unzip()
    };
    Queries {
        bytes,
        known,
        exponents,
    }
}
