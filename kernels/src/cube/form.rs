//! Queries and documents in the form that the kernels multiply, and what that cost in accuracy.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use super::bound::{Bound, Documents, Query, SLACK, Sums, exponent_to_one, power};
use super::product::order;
use super::resident::Resident;
use super::spread::{spread, spread_rows};
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

/// Rows of a part, and queries, that are worth a thread.
const ROWS_EACH: usize = 4096;
const QUERIES_EACH: usize = 128;

/// Applies `of_row` to all rows and keeps the larger results.
pub(super) fn largest_of<T: Send + Sync + Copy>(
    rows: usize,
    zero: T,
    of_row: impl Fn(usize, &mut Vec<f32>) -> T + Sync,
    larger: impl Fn(T, T) -> T + Sync,
) -> T {
    let of_range = |range: std::ops::Range<usize>| {
        let mut scratch = Vec::new();
        range.fold(zero, |so_far, row| larger(so_far, of_row(row, &mut scratch)))
    };
    spread(rows, ROWS_EACH, of_range).into_iter().fold(zero, &larger)
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
        largest = largest.max(largest_of(plane.rows(), 0, of_row, u32::max));
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
    fill(
        planes,
        documents,
        rows,
        width,
        |scratch: &mut Scratch, layer, row, out| {
            scratch.convert(&planes[layer], first + row, format, scale, out)
        },
    )
}

/// A block `[m][rows][width]` of which `of_row` fills the components of each layer's and each document's row, and tells
/// what is known of it.
pub(super) fn fill<T: Copy + Default + Send, S: Default>(
    planes: &[Plane],
    documents: usize,
    rows: usize,
    width: usize,
    of_row: impl Fn(&mut S, usize, usize, &mut [T]) -> Documents + Sync,
) -> (Vec<T>, Documents) {
    let mut filled = vec![T::default(); planes.len() * rows * width];
    let mut known = Documents::default();
    for (layer, (plane, out)) in planes
        .iter()
        .zip(filled.chunks_exact_mut(rows * width))
        .enumerate()
    {
        let of_rows = |first: usize, out: &mut [T]| {
            let mut scratch = S::default();
            let rows = out.chunks_exact_mut(width).enumerate();
            rows.map(|(at, out)| of_row(&mut scratch, layer, first + at, &mut out[..plane.dimension()]))
                .fold(Documents::default(), larger)
        };
        let of_plane = spread_rows(&mut out[..documents * width], width, ROWS_EACH, of_rows);
        known = of_plane.into_iter().fold(known, larger);
    }
    (filled, known)
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
    for (at, (x, rounded)) in numbers.iter().zip(&*rounded).enumerate() {
        let x = f64::from(*x) * scale;
        let difference = x - f64::from(*rounded);
        squares[at % 8] += x * x;
        lost[at % 8] += difference * difference;
    }
    Query {
        length: squares.iter().sum::<f64>().sqrt() * SLACK,
        residual: lost.iter().sum::<f64>().sqrt() * SLACK,
    }
}

/// A batch of queries in the form that a kernel multiplies.
pub(crate) struct Queries {
    /// `[padded][width]`: for the tile kernel of halves or codes, with components in [`order`]; for others of f32 as they
    /// come.
    pub bytes: Vec<u8>,
    /// For codes what is added to a score through each layer, `[padded][layers]`.
    pub offsets: Vec<f32>,
    /// What scores of each query are worth.
    pub bounds: Vec<Bound>,
}

/// Scales and rounds queries `[q, dimension]` for a part's rows as they are stored. With no format they stay f32.
pub(crate) fn queries(
    queries: &[f32],
    part: &Resident,
    format: Option<Format>,
    padded: usize,
    sums: Sums,
) -> Queries {
    let (dimension, width) = (part.dimension, part.width);
    let size = if format.is_some() { 2 } else { 4 };
    let mut bytes = vec![0u8; padded * width * size];
    let of_query = |query: &[f32], out: &mut [u8]| {
        let (mut scaled, mut rounded) = (vec![0.0; dimension], vec![0.0; dimension]);
        let mut bits = vec![0u16; width];
        let exponent = exponent_to_one(largest(query));
        let known = round(
            query,
            power(exponent),
            format,
            &mut scaled,
            &mut bits[..dimension],
            &mut rounded,
        );
        match format {
            Some(_) => in_order(bytemuck::cast_slice(&bits), out),
            None => out[..dimension * 4].copy_from_slice(bytemuck::cast_slice(&rounded)),
        }
        let scale = power(exponent) * power(part.exponent);
        Bound::of_sums(&known, &part.known, sums, dimension, width, scale)
    };
    let bounds = each_query(queries, dimension, &mut bytes, width * size, of_query);
    Queries {
        bytes,
        offsets: Vec::new(),
        bounds,
    }
}

/// The largest component, without its sign.
pub(super) fn largest(query: &[f32]) -> f32 {
    query.iter().fold(0.0, |most: f32, x| most.max(x.abs()))
}

/// A query's row, in the order of [`order`].
pub(super) fn in_order(row: &[u8], out: &mut [u8]) {
    for (at, out) in out.chunks_exact_mut(4).enumerate() {
        out.copy_from_slice(&row[order(at) * 4..][..4]);
    }
}

/// What `of_query` makes of each query `[q, dimension]`, which fills its row of `out`.
pub(super) fn each_query<T: Send>(
    queries: &[f32],
    dimension: usize,
    out: &mut [u8],
    row: usize,
    of_query: impl Fn(&[f32], &mut [u8]) -> T + Sync,
) -> Vec<T> {
    let of_queries = |first: usize, out: &mut [u8]| -> Vec<T> {
        let queries = queries[first * dimension..].chunks_exact(dimension);
        queries
            .zip(out.chunks_exact_mut(row))
            .map(|(query, out)| of_query(query, out))
            .collect()
    };
    let out = &mut out[..queries.len() / dimension * row];
    spread_rows(out, row, QUERIES_EACH, of_queries)
        .into_iter()
        .flatten()
        .collect()
}
