//! The vectors as building a graph compares them: turned, centred, eight bits a component.

use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;

use super::basis::{Basis, COARSE_STEP, STEP, Turned};
use super::lanes::{COARSE, FINE, HEAD_DIMENSION, LINE_DIMENSION, LOW_DIMENSION, Lanes, Line};
use crate::Plane;
use crate::arithmetic::dot;
use crate::dispatch::Kernels;

/// Vectors, `layers` of them a document, one document after the other; each will be a node. Distances are squared, in
/// units of the code; each point carries one more coordinate, which makes all of a shell equally
/// long, so that the nearest is the one of the largest inner product.
#[derive(Default)]
pub(super) struct Points {
    pub layers: usize,
    /// Bytes of a point, a multiple of 64.
    pub width: usize,
    lines: Vec<Line>,
    sums: Vec<i32>,
    lengths: Vec<f32>,
    more: Vec<f32>,
    /// What a step of the code stands for.
    unit: f32,
    /// The codes that a walk reads: `[points, head]` lines; and `[points, lines + ⌈lines / 2⌉]`, the whole code.
    pub first: Vec<Line>,
    pub rest: Vec<Line>,
    /// Where documents have several vectors: how far codes are off, and the length of the longest centred vector.
    pub doubts: Vec<Doubt>,
    pub longest: f32,
}

/// How far a code is off by all its bits: the upper halves of f32, rounded up.
#[derive(Debug, Clone, Copy, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Doubt {
    distance: u16,
    steps: u16,
}

impl Doubt {
    /// How far the vector is from what its code stands for, over its shell's norm.
    pub fn distance(self) -> f32 {
        f32::from_bits(u32::from(self.distance) << 16)
    }

    /// How long the code is, in steps.
    pub fn steps(self) -> f32 {
        f32::from_bits(u32::from(self.steps) << 16)
    }

    /// Of a centred vector, and its code in steps, which is changed.
    fn of(basis: &Basis, vector: &[f32], coded: &mut [f32], back: &mut Vec<f32>) -> Doubt {
        let steps = dot(coded, coded).sqrt();
        coded
            .iter_mut()
            .zip(&basis.steps)
            .for_each(|(value, step)| *value *= step);
        basis.turned_back(coded, back);
        back.iter_mut()
            .zip(vector)
            .for_each(|(back, value)| *back -= value);
        let up = |length: f32| ((length.to_bits() + 0xffff) >> 16) as u16;
        Doubt {
            distance: up(dot(back, back).sqrt()),
            steps: up(steps),
        }
    }
}

/// A document to code: its row in the planes, and the norm of its shell.
pub(super) struct Source {
    pub row: u32,
    pub norm: f32,
}

/// Components above this many standard deviations of the largest direction are cut off.
const REACH: f32 = 4.5;

/// Documents that one task codes, and tasks whose results are held at a time.
const TASK: usize = 256;
const TASKS: usize = 64;

impl Points {
    /// Codes documents.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`.
    #[inline(always)]
    pub unsafe fn code<L: Lanes>(basis: &Basis, planes: &[Plane], sources: &[Source]) -> Points {
        let widest = basis.steps.iter().fold(0f32, |most, step| most.max(*step)) / STEP;
        let unit = if widest > 0.0 { widest * REACH / 127.0 } else { 1.0 };
        let mut all = Points {
            layers: planes.len(),
            width: basis.width,
            unit,
            ..Points::default()
        };
        let count = sources.len() * planes.len();
        all.lines.reserve_exact(count * basis.width / 64);
        all.first.reserve_exact(count * basis.head);
        all.rest.reserve_exact(count * basis.rest());
        for sources in sources.chunks(TASK * TASKS) {
            let tasks: Vec<Points> = sources
                .par_chunks(TASK)
                .map(|sources| {
                    // SAFETY: the caller promises the instructions.
                    unsafe { Points::task::<L>(basis, planes, sources, unit) }
                })
                .collect();
            for mut task in tasks {
                all.lines.append(&mut task.lines);
                all.sums.append(&mut task.sums);
                all.lengths.append(&mut task.lengths);
                all.more.append(&mut task.more);
                all.first.append(&mut task.first);
                all.rest.append(&mut task.rest);
                all.doubts.append(&mut task.doubts);
                all.longest = all.longest.max(task.longest);
            }
        }
        all
    }

    /// # Safety
    /// As [`Points::code`].
    #[inline(always)]
    unsafe fn task<L: Lanes>(basis: &Basis, planes: &[Plane], sources: &[Source], unit: f32) -> Points {
        let kernels = Kernels::best();
        let mut task = Points::default();
        let dimension = basis.dimension;
        let mut vector = vec![0f32; dimension];
        let mut turned = Turned::default();
        let mut eight = vec![0i8; basis.width];
        let mut head = vec![Line([0; 64]); basis.head];
        let mut rest = vec![Line([0; 64]); basis.rest()];
        let (mut coded, mut back) = (vec![0f32; dimension], Vec::new());
        for source in sources {
            let inverse = if source.norm > 0.0 { 1.0 / source.norm } else { 0.0 };
            for plane in planes {
                kernels.widen(plane.element(), plane.row_bytes(source.row as usize), &mut vector);
                let mut length = 0f32;
                for (value, mean) in vector.iter_mut().zip(&basis.mean) {
                    let full = *value * inverse;
                    length += full * full;
                    *value = full - mean;
                }
                // SAFETY: the caller promises the instructions.
                unsafe { basis.turn::<L>(&vector, &mut turned) };
                let (numbers, scale) = turned.of(0);
                head.fill(Line([0; 64]));
                rest.fill(Line([0; 64]));
                for (i, (&value, row)) in numbers[..dimension].iter().zip(&basis.units).enumerate() {
                    let value = value as f32 * scale * row;
                    eight[i] = (value / unit).round_ties_even().clamp(-127.0, 127.0) as i8;
                    let step = basis.steps[i];
                    // Of 64 levels: four times the high half, and the low bits. Nothing varies where a step is 0.
                    let part = if step > 0.0 { value / step } else { 0.0 };
                    let level = (part * 4.0 + 31.5).round_ties_even().clamp(0.0, 63.0) as u8;
                    coded[i] = f32::from(level) / 4.0 - 31.5 / 4.0;
                    put_whole(&mut rest, basis.lines, i, level);
                    put_head(&mut head, i, level >> 2, part / COARSE_STEP);
                }
                if planes.len() > 1 {
                    task.longest = task.longest.max(dot(&vector, &vector).sqrt());
                    task.doubts.push(Doubt::of(basis, &vector, &mut coded, &mut back));
                }
                let squares: i32 = eight
                    .iter()
                    .map(|&value| i32::from(value) * i32::from(value))
                    .sum();
                // What one is short of the shell's norm. A little is rounding, and left out.
                let short = (1.0 - length).max(0.0);
                let more = if short > 0.02 { short.sqrt() / unit } else { 0.0 };
                task.lines.extend(
                    eight
                        .as_chunks::<64>()
                        .0
                        .iter()
                        .map(|chunk| Line(chunk.map(|value| value as u8))),
                );
                task.sums.push(eight.iter().map(|&value| i32::from(value)).sum());
                task.lengths.push(squares as f32 + more * more);
                task.more.push(more);
                task.first.extend_from_slice(&head);
                task.rest.extend_from_slice(&rest);
            }
        }
        task
    }

    pub fn count(&self) -> usize {
        self.sums.len()
    }

    /// Whether two points are vectors of one document.
    #[inline(always)]
    pub fn are_siblings(&self, a: usize, b: usize) -> bool {
        a / self.layers == b / self.layers
    }

    pub fn row(&self, point: usize) -> &[i8] {
        let lines = self.width / 64;
        bytemuck::cast_slice(&self.lines[point * lines..][..lines])
    }

    /// A point as a vector again, turned and over the shell's norm; for asking a graph for it.
    pub fn turned(&self, point: usize, out: &mut Vec<f32>) {
        out.clear();
        out.extend(self.row(point).iter().map(|&value| f32::from(value) * self.unit));
    }

    /// The squared distance of two points.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`.
    #[inline(always)]
    pub unsafe fn distance<L: Lanes>(&self, a: usize, b: usize) -> f32 {
        // SAFETY: all rows are equally long.
        let product = unsafe { L::dot(self.row(a), self.row(b), self.sums[b]) };
        squared(self.measure(a), self.measure(b), product)
    }

    /// A point's squared length and its additional coordinate.
    #[inline(always)]
    pub fn measure(&self, point: usize) -> [f32; 2] {
        [self.lengths[point], self.more[point]]
    }
}

/// Puts component `i` of six bits into the lines of high halves and of low bits.
fn put_whole(rest: &mut [Line], high_lines: usize, i: usize, level: u8) {
    let (high, low) = rest.split_at_mut(high_lines);
    let (line, within) = (i / LINE_DIMENSION, i % LINE_DIMENSION);
    high[line].0[within % 64] |= level >> 2 << (within / 64 * 4);
    let (line, within) = (i / LOW_DIMENSION, i % LOW_DIMENSION);
    low[line].0[within % 64] |= (level & 3) << (within / 64 * 2);
}

/// Puts component `i` into a head, if it has a place there: its high half, or its number of coarse steps in two bits.
fn put_head(head: &mut [Line], i: usize, high: u8, coarse: f32) {
    let fine = head.len() * FINE;
    if i < fine {
        let (line, within) = (i / FINE, i % FINE);
        head[line].0[within % 32] |= high << (within / 32 * 4);
    } else if i < head.len() * HEAD_DIMENSION {
        let (line, within) = ((i - fine) / COARSE, (i - fine) % COARSE);
        let level = (coarse + 1.5).round_ties_even().clamp(0.0, 3.0) as u8;
        head[line].0[32 + within % 32] |= level << (within / 32 * 2);
    }
}

/// The squared distance of two points of these measures whose codes have this product; the same to
/// the bit whichever comes first.
#[inline(always)]
pub(super) fn squared(a: [f32; 2], b: [f32; 2], product: i32) -> f32 {
    (a[0] + b[0] - 2.0 * (product as f32 + a[1] * b[1])).max(0.0)
}
