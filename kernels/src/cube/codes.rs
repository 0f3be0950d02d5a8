//! A part's rows in int8, beside the rows themselves: half of the bytes to read, products of twice the rate. What codes
//! leave is scored again from the stored values (the module `refine`), so answers do not depend on them.
//!
//! A code is a component of the residual about its layer's mean, in steps that are the same for all of the part. Small
//! vectors are coarse in them, but only large ones reach the best scores; the proof is in [`bound`](super::bound).

use cubecl::bytes::Bytes;
use cubecl::prelude::Client;
use cubecl::server::Handle;

use super::bound::{Bound, Documents, Query, SLACK, exponent_to_one, power};
use super::form::{Queries, each_query, fill, in_order, largest, largest_of};
use super::shape::{CODE_LANES, WIDTH_VECTORS};
use crate::Plane;
use crate::dispatch::Kernels;

/// The largest code.
const MOST: f64 = 127.0;
/// Rows that a mean is taken of, at most.
const SAMPLE: usize = 1024;
/// The most components for which a sum of products of codes fits 32 bits.
const WIDEST: usize = (i32::MAX / (127 * 127)) as usize;
/// Residuals smaller than this, beside the means, are lost in the rounding of f32.
const LEAST_RESIDUAL: f64 = 1.0 / 1024.0;
/// The largest rank whose candidates there is room for: codes leave several times as many as halves.
const MOST_RANK: usize = 1024;

/// What codes of a part are steps of.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Of each layer `[dimension]`, scaled as the part is.
    means: Vec<Vec<f32>>,
    /// The length of the longest.
    mean: f64,
    step: f64,
}

impl Plan {
    /// None where codes would be of no use: all rows alike, or rows too long to add up.
    pub fn of(planes: &[Plane], exponent: i32) -> Option<Plan> {
        if Codes::width(planes[0].dimension()) > WIDEST {
            return None;
        }
        let scale = power(exponent);
        let means: Vec<Vec<f32>> = planes.iter().map(|plane| mean_of(plane, scale)).collect();
        let mut most = 0.0f64;
        for (plane, mean) in planes.iter().zip(&means) {
            let of_row = |row: usize, stored: &mut Vec<f32>| {
                widen(plane, row, stored);
                let residuals = stored.iter().zip(mean);
                residuals.fold(0.0, |most: f64, (x, mean)| {
                    most.max((f64::from(*x) * scale - f64::from(*mean)).abs())
                })
            };
            most = most.max(largest_of(plane.rows(), 0.0, of_row, f64::max));
        }
        let length = |mean: &Vec<f32>| mean.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let largest = means
            .iter()
            .flatten()
            .fold(0.0, |most: f64, x| most.max(f64::from(x.abs())));
        let plan = Plan {
            mean: means.iter().map(length).fold(0.0, f64::max) * SLACK,
            means,
            step: most / MOST,
        };
        (most > largest * LEAST_RESIDUAL && most.is_normal()).then_some(plan)
    }
}

/// The mean of some rows from all over a plane.
fn mean_of(plane: &Plane, scale: f64) -> Vec<f32> {
    let step = plane.rows().div_ceil(SAMPLE).max(1);
    let mut sums = vec![0.0f64; plane.dimension()];
    let mut stored = Vec::new();
    let rows = (0..plane.rows()).step_by(step);
    let count = rows.len().max(1) as f64;
    for row in rows {
        widen(plane, row, &mut stored);
        for (sum, x) in sums.iter_mut().zip(&stored) {
            *sum += f64::from(*x);
        }
    }
    sums.into_iter().map(|sum| (sum / count * scale) as f32).collect()
}

fn widen(plane: &Plane, row: usize, out: &mut Vec<f32>) {
    out.resize(plane.dimension(), 0.0);
    Kernels::best().widen(plane.element(), plane.row_bytes(row), out);
}

/// Writes numbers in steps, and tells how long they are and what that lost of them.
fn write(numbers: impl Iterator<Item = f64>, step: f64, out: &mut [i8]) -> [f64; 2] {
    // Sums in lanes that the compiler can keep in one register.
    let (mut squares, mut lost) = ([0.0f64; 8], [0.0f64; 8]);
    for (at, (x, out)) in numbers.zip(out).enumerate() {
        let code = (x / step).round().clamp(-MOST, MOST);
        *out = code as i8;
        squares[at % 8] += x * x;
        lost[at % 8] += (x - code * step).powi(2);
    }
    [squares, lost].map(|sums| sums.iter().sum::<f64>().sqrt() * SLACK)
}

/// The codes of a part.
#[derive(Debug)]
pub(crate) struct Codes {
    plan: Plan,
    /// Of each block `[m][rows][width]`.
    pub handles: Vec<Handle>,
    /// Components of a row, with its padding.
    pub width: usize,
    /// Of residuals.
    known: Documents,
    pub bytes: u64,
    asked: usize,
    failed: usize,
}

impl Codes {
    /// Components of a row, with its padding.
    pub fn width(dimension: usize) -> usize {
        dimension.next_multiple_of(WIDTH_VECTORS * CODE_LANES)
    }

    /// Codes of no block yet, which will take so many bytes.
    pub fn new(plan: Plan, bytes: u64) -> Codes {
        Codes {
            width: Codes::width(plan.means[0].len()),
            plan,
            handles: Vec::new(),
            known: Documents::default(),
            bytes,
            asked: 0,
            failed: 0,
        }
    }

    /// Brings those of the next block to the device.
    pub fn add(
        &mut self,
        client: &Client,
        planes: &[Plane],
        exponent: i32,
        first: usize,
        documents: usize,
        rows: usize,
    ) {
        let (codes, known) = block(planes, &self.plan, exponent, first, documents, rows);
        self.known.length = self.known.length.max(known.length);
        self.known.residual = self.known.residual.max(known.residual);
        self.handles.push(client.create(Bytes::from_elems(codes)));
    }

    /// Whether there is room for what they leave of a search of `layers` layers of a part of so many documents, and
    /// numbers for it.
    pub fn can_serve(&self, rank: usize, documents: usize, layers: usize) -> bool {
        rank <= MOST_RANK && (documents as u64 * layers as u64) < 1 << 32
    }

    /// Notes how many of `asked` queries rows could answer and codes could not. True if that is so many that codes are not
    /// worth their bytes.
    pub fn serve_badly(&mut self, asked: usize, failed: usize) -> bool {
        self.asked += asked;
        self.failed += failed;
        self.failed >= 64 && self.failed * 8 > self.asked
    }

    /// Queries `[q, dimension]` in steps of their own.
    pub fn queries(&self, queries: &[f32], exponent: i32, layers: &[u32], padded: usize) -> Queries {
        let dimension = self.plan.means[0].len();
        let mut bytes = vec![0u8; padded * self.width];
        let of_query = |query: &[f32], out: &mut [u8]| self.query(query, exponent, layers, out);
        let made = each_query(queries, dimension, &mut bytes, self.width, of_query);
        let mut offsets = vec![0.0f32; padded * layers.len()];
        let mut bounds = Vec::with_capacity(made.len());
        for ((bound, own), offsets) in made.into_iter().zip(offsets.chunks_exact_mut(layers.len())) {
            offsets.copy_from_slice(&own);
            bounds.push(bound);
        }
        Queries {
            bytes,
            offsets,
            bounds,
        }
    }

    /// One of them: what its scores are worth, and what is added for each layer.
    fn query(&self, query: &[f32], exponent: i32, layers: &[u32], out: &mut [u8]) -> (Bound, Vec<f32>) {
        let own = exponent_to_one(largest(query));
        let scale = power(own);
        let step = match f64::from(largest(query)) * scale / MOST {
            0.0 => 1.0,
            step => step,
        };
        let mut codes = vec![0i8; self.width];
        let [length, residual] = write(query.iter().map(|x| f64::from(*x) * scale), step, &mut codes);
        let known = Query { length, residual };
        in_order(bytemuck::cast_slice(&codes), out);
        let unit = step * self.plan.step;
        let products: Vec<f64> = layers
            .iter()
            .map(|&layer| {
                let products = query.iter().zip(&self.plan.means[layer as usize]);
                scale
                    * products
                        .map(|(x, mean)| f64::from(*x) * f64::from(*mean))
                        .sum::<f64>()
            })
            .collect();
        // What the first layer's mean adds to all is left to the host, for f32 has no bits to waste on it.
        let shift = products.first().copied().unwrap_or(0.0);
        let offset = products
            .iter()
            .fold(0.0, |most: f64, x| most.max((x - shift).abs()));
        let offsets = products
            .into_iter()
            .map(|x| ((x - shift) / unit) as f32)
            .collect();
        let bound = Bound::of_codes(
            &known,
            &self.known,
            self.plan.mean,
            [shift, offset],
            query.len(),
            unit,
            scale * power(exponent),
        );
        (bound, offsets)
    }
}

/// The codes of rows `first .. first + documents` of every plane, `[m][rows][width]` with zeros for padding; and what is
/// known of their residuals.
fn block(
    planes: &[Plane],
    plan: &Plan,
    exponent: i32,
    first: usize,
    documents: usize,
    rows: usize,
) -> (Vec<i8>, Documents) {
    let scale = power(exponent);
    let width = Codes::width(planes[0].dimension());
    let of_row = |stored: &mut Vec<f32>, layer: usize, row: usize, out: &mut [i8]| {
        widen(&planes[layer], first + row, stored);
        let residuals = stored.iter().zip(&plan.means[layer]);
        let residuals = residuals.map(|(x, mean)| f64::from(*x) * scale - f64::from(*mean));
        let [length, residual] = write(residuals, plan.step, out);
        Documents { length, residual }
    };
    fill(planes, documents, rows, width, of_row)
}
