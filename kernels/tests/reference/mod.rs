//! What the kernels must agree with: the same definitions, written down a second time and slowly.
#![allow(dead_code)] // each test file uses its share

use std::cmp::Ordering;

use half::{bf16, f16};
use stratal_kernels::{Candidate, Element, Instructions, Plane};

/// A small generator, so that a failure can be repeated from its seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// In −1..1.
    pub fn signed(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn vector(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension).map(|_| self.signed()).collect()
    }
}

/// Stored vectors, with the bytes before the first row that put it off any alignment.
pub struct Stored {
    bytes: Vec<u8>,
    skip: usize,
    pub rows: usize,
    pub dimension: usize,
    stride: usize,
    pub element: Element,
}

impl Stored {
    /// Rows of `values`, rounded to `element`, one element off alignment and with gaps of 0xff
    /// (NaN) between them.
    pub fn new(values: &[f32], dimension: usize, element: Element) -> Stored {
        let size = element.size();
        let stride = dimension * size + size;
        let rows = values.len() / dimension;
        let mut bytes = vec![0xff; size];
        for row in values.chunks_exact(dimension) {
            for &x in row {
                match element {
                    Element::F32 => bytes.extend(x.to_le_bytes()),
                    Element::F16 => bytes.extend(f16::from_f32(x).to_le_bytes()),
                    Element::Bf16 => bytes.extend(bf16::from_f32(x).to_le_bytes()),
                    Element::I8 => bytes.extend(((x * 127.0) as i8).to_le_bytes()),
                    _ => unreachable!(),
                }
            }
            bytes.resize(bytes.len() + size, 0xff);
        }
        Stored {
            bytes,
            skip: size,
            rows,
            dimension,
            stride,
            element,
        }
    }

    pub fn plane(&self) -> Plane<'_> {
        let bytes = &self.bytes[self.skip..];
        Plane::new(bytes, self.rows, self.dimension, self.stride, self.element).unwrap()
    }
}

/// The stored values of a row, in f64.
pub fn values(plane: &Plane, row: usize) -> Vec<f64> {
    let bytes = plane.row(row).unwrap();
    match plane.element() {
        Element::F32 => bytes
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()).into())
            .collect(),
        Element::F16 => bytes
            .chunks(2)
            .map(|b| f16::from_le_bytes(b.try_into().unwrap()).into())
            .collect(),
        Element::Bf16 => bytes
            .chunks(2)
            .map(|b| bf16::from_le_bytes(b.try_into().unwrap()).into())
            .collect(),
        Element::I8 => bytes.iter().map(|&b| f64::from(b as i8)).collect(),
        _ => unreachable!(),
    }
}

/// The score as `inner_product` defines it.
pub fn score(query: &[f32], row: &[f64]) -> f64 {
    let mut sums = [0.0f64; 16];
    for (i, (&q, d)) in query.iter().zip(row).enumerate() {
        sums[i % 16] += f64::from(q) * d;
    }
    for half in [8, 4, 2, 1] {
        for j in 0..half {
            sums[j] += sums[j + half];
        }
    }
    sums[0]
}

/// Every live row's score, sorted, cut at `k` and `floor`.
pub fn brute_force(
    queries: &[f32],
    planes: &[Plane],
    k: usize,
    floor: f64,
    live: impl Fn(usize) -> bool,
    order: &dyn Fn(u32, u32) -> Ordering,
) -> Vec<Vec<Candidate>> {
    let dimension = planes[0].dimension();
    let stored: Vec<Vec<Vec<f64>>> = planes
        .iter()
        .map(|plane| (0..plane.rows()).map(|row| values(plane, row)).collect())
        .collect();
    queries
        .chunks_exact(dimension)
        .map(|query| {
            let mut all: Vec<Candidate> = (0..planes[0].rows())
                .filter(|&row| live(row))
                .map(|row| Candidate {
                    row: row as u32,
                    score: stored
                        .iter()
                        .map(|plane| score(query, &plane[row]))
                        .fold(f64::NEG_INFINITY, f64::max),
                })
                .filter(|candidate| candidate.score >= floor)
                .collect();
            all.sort_by(|a, b| {
                b.score
                    .partial_cmp(&a.score)
                    .unwrap()
                    .then(order(a.row, b.row))
                    .then(a.row.cmp(&b.row))
            });
            all.truncate(k);
            all
        })
        .collect()
}

pub fn paths() -> impl Iterator<Item = Instructions> {
    Instructions::ALL.into_iter().filter(|path| path.is_available())
}
