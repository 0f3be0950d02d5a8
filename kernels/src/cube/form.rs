//! Queries and documents in the form that the kernels multiply, and what that cost in accuracy.

use half::{bf16, f16};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::bound::{Documents, Query, SLACK, exponent_to_one, power};
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

    /// Rounds once. Too large a number becomes infinite, which callers rule out by scaling.
    fn round(self, x: f64) -> (u16, f64) {
        match self {
            Format::F16 => {
                let rounded = f16::from_f64(x);
                (rounded.to_bits(), rounded.to_f64())
            }
            Format::Bf16 => {
                let mut rounded = bf16::from_f64(x);
                // Devices may read a subnormal as zero: it is made zero here, where it is counted.
                if !rounded.is_normal() {
                    rounded = bf16::from_f32_const(0.0);
                }
                (rounded.to_bits(), rounded.to_f64())
            }
        }
    }
}

/// Component `i` of a stored row.
fn component(row: &[u8], element: Element, i: usize) -> f32 {
    match element {
        Element::F32 => f32::from_le_bytes([row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3]]),
        Element::F16 => f16::from_le_bytes([row[2 * i], row[2 * i + 1]]).to_f32(),
        Element::Bf16 => bf16::from_le_bytes([row[2 * i], row[2 * i + 1]]).to_f32(),
        Element::I8 => f32::from(row[i] as i8),
    }
}

/// The exponent that all planes of a part are scaled by; `None` if a component is not finite.
///
/// f32 and bf16 are brought below one, so that no sum leaves the range of f32 and f16 keeps its bits;
/// f16 and int8 are small enough as they are.
pub(crate) fn scale_of(planes: &[Plane]) -> Option<i32> {
    let mut largest = 0.0f32;
    let mut scaled = false;
    for plane in planes {
        scaled |= matches!(plane.element(), Element::F32 | Element::Bf16);
        for row in 0..plane.rows() {
            let bytes = plane.row_bytes(row);
            for i in 0..plane.dimension() {
                let x = component(bytes, plane.element(), i);
                if !x.is_finite() {
                    return None;
                }
                largest = largest.max(x.abs());
            }
        }
    }
    Some(if scaled { exponent_to_one(largest) } else { 0 })
}

/// Rows `first .. first + documents` of every plane, `[m][rows][width]` with zeros for padding, as bytes;
/// and what is known of them.
pub(crate) fn block(
    planes: &[Plane],
    format: Format,
    exponent: i32,
    first: usize,
    documents: usize,
    rows: usize,
    width: usize,
) -> (Vec<u8>, Documents) {
    let scale = power(exponent);
    let row_bytes = width * 2;
    let mut bytes = vec![0u8; planes.len() * rows * row_bytes];
    let mut known = Documents::default();
    for (plane, out) in planes.iter().zip(bytes.chunks_exact_mut(rows * row_bytes)) {
        let write = |(at, out): (usize, &mut [u8])| {
            convert(
                plane.row_bytes(first + at),
                plane.element(),
                format,
                scale,
                plane.dimension(),
                out,
            )
        };
        let out = &mut out[..documents * row_bytes];
        let of_plane = if rayon::current_thread_index().is_some() {
            out.par_chunks_exact_mut(row_bytes)
                .enumerate()
                .map(write)
                .reduce(Documents::default, larger)
        } else {
            out.chunks_exact_mut(row_bytes)
                .enumerate()
                .map(write)
                .fold(Documents::default(), larger)
        };
        known = larger(known, of_plane);
    }
    (bytes, known)
}

fn larger(a: Documents, b: Documents) -> Documents {
    Documents {
        length: a.length.max(b.length),
        residual: a.residual.max(b.residual),
    }
}

fn convert(
    row: &[u8],
    element: Element,
    format: Format,
    scale: f64,
    dimension: usize,
    out: &mut [u8],
) -> Documents {
    let (mut squares, mut lost) = (0.0, 0.0);
    for i in 0..dimension {
        let x = f64::from(component(row, element, i)) * scale;
        let (bits, rounded) = format.round(x);
        out[2 * i..2 * i + 2].copy_from_slice(&bits.to_le_bytes());
        squares += x * x;
        lost += (x - rounded) * (x - rounded);
    }
    Documents {
        length: squares.sqrt() * SLACK,
        residual: lost.sqrt() * SLACK,
    }
}

/// A batch of queries for the tile kernel, `[padded][width]` of `format`; or for the row kernel, of f32.
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
    let (mut known, mut exponents) = (Vec::new(), Vec::new());
    for (query, out) in queries
        .chunks_exact(dimension)
        .zip(bytes.chunks_exact_mut(width * size))
    {
        let exponent = exponent_to_one(query.iter().fold(0.0, |a: f32, x| a.max(x.abs())));
        let scale = power(exponent);
        let (mut squares, mut lost) = (0.0, 0.0);
        for (x, out) in query.iter().zip(out.chunks_exact_mut(size)) {
            let x = f64::from(*x) * scale;
            let rounded = match format {
                Some(format) => {
                    let (bits, rounded) = format.round(x);
                    out.copy_from_slice(&bits.to_le_bytes());
                    rounded
                }
                None => {
                    let mut rounded = x as f32;
                    if !rounded.is_normal() {
                        rounded = 0.0;
                    }
                    out.copy_from_slice(&rounded.to_le_bytes());
                    f64::from(rounded)
                }
            };
            squares += x * x;
            lost += (x - rounded) * (x - rounded);
        }
        known.push(Query {
            length: squares.sqrt() * SLACK,
            residual: lost.sqrt() * SLACK,
        });
        exponents.push(exponent);
    }
    Queries {
        bytes,
        known,
        exponents,
    }
}
