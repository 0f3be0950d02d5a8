//! What recall a graph reaches at which width: measured when it is built, kept in its file.

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use stratal_kernels::{Graph, GraphSearch, GraphSections, Options, Plane, Walk, max_inner_product};

use crate::schema::Schema;
use crate::{Error, Result};

/// Questions that are asked to measure it.
const QUESTIONS: usize = 256;

/// Hits asked for, and the widths tried for each.
const TRIED: [(usize, [u32; 14]); 2] = [
    (10, [10, 13, 17, 22, 28, 36, 48, 64, 88, 120, 170, 250, 400, 640]),
    (
        100,
        [
            100, 115, 135, 160, 190, 230, 280, 350, 440, 560, 720, 950, 1300, 1800,
        ],
    ),
];

/// The share of another document that is mixed into one to make a question: real questions lie beside
/// documents rather than on them. With this share all-MiniLM's documents are as hard to find as by real
/// questions.
const MIXED: f32 = 0.4;

/// Questions of documents' own making can be easier than real ones, and how much so depends on the collection: of a
/// hundred thousand sentences hardly, where each has nine that are nearly the same very much. So for a recall of `1 − e`
/// a walk is never narrower than `k` and this over `e`, which the real questions of both collections needed.
const LEAST: f32 = 2.0;

/// Measured recalls, for each number of hits by ascending width.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curve {
    points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    k: u32,
    width: u32,
    recall: f32,
}

impl Curve {
    /// Asks a fresh graph what an exact search answers too.
    pub fn measure(
        graph: &Graph,
        sections: &GraphSections,
        planes: &[Plane],
        schema: &Schema,
    ) -> Result<Curve> {
        let dimension = schema.dimension();
        let rows = planes.first().map_or(0, Plane::rows);
        let questions = questions(planes, rows, schema);
        let count = questions.len() / dimension.max(1);
        let most = TRIED.iter().map(|(k, _)| *k).max().unwrap_or(1).min(rows.max(1));
        let truth = max_inner_product(&questions, dimension, planes, &Options::new(most))?;
        let mut curve = Curve::default();
        for (k, widths) in TRIED {
            if k > rows {
                break;
            }
            for width in widths {
                let hits: Result<Vec<usize>> = (0..count)
                    .into_par_iter()
                    .map_init(Walk::new, |walk, at| {
                        let question = &questions[at * dimension..][..dimension];
                        let search = GraphSearch::new(k, width as usize);
                        let found = graph.search(sections, planes, question, &search, walk)?;
                        // Of equal scores each may stand for the other.
                        let last = truth[at].get(k - 1).map_or(f64::NEG_INFINITY, |last| last.score);
                        Ok(found.iter().filter(|found| found.score >= last).count())
                    })
                    .collect();
                let recall = hits?.iter().sum::<usize>() as f32 / (count * k).max(1) as f32;
                let (k, before) = (k as u32, curve.points.last().copied());
                let before = before
                    .filter(|before| before.k == k)
                    .map_or(0.0, |before| before.recall);
                // A wider walk that did worse did so by chance.
                let recall = recall.max(before);
                curve.points.push(Point { k, width, recall });
                if recall >= 0.9995 {
                    break;
                }
            }
        }
        Ok(curve)
    }

    /// The width that reaches a recall below 1 for `k` hits; `None` if none that was tried does.
    pub fn width(&self, target: f32, k: usize) -> Option<usize> {
        let least = k + (LEAST / (1.0 - target)).ceil() as usize;
        self.measured(target, k).map(|width| width.max(least))
    }

    fn measured(&self, target: f32, k: usize) -> Option<usize> {
        let mut known = self.points.chunk_by(|a, b| a.k == b.k).filter_map(|points| {
            let at = points.iter().position(|point| point.recall >= target)?;
            let reached = points[at];
            let width = match at.checked_sub(1).map(|before| points[before]) {
                Some(before) if reached.recall > before.recall => {
                    let share = (target - before.recall) / (reached.recall - before.recall);
                    before.width as f32 + share * (reached.width - before.width) as f32
                }
                _ => reached.width as f32,
            };
            Some((points[0].k as f32, width))
        });
        let (low, width) = known.next()?;
        let k = k as f32;
        let Some((high, wider)) = known.next().filter(|_| k > low) else {
            // Past what was measured the width grows as the number of hits.
            return Some((width * (k / low).max(1.0)).ceil() as usize);
        };
        if k >= high {
            return Some((wider * k / high).ceil() as usize);
        }
        let share = (k - low) / (high - low);
        Some((width + share * (wider - width)).ceil() as usize)
    }

    /// `[points]` of u32 hits, u32 width, f32 recall.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.points
            .iter()
            .flat_map(|point| [point.k, point.width, point.recall.to_bits()])
            .flat_map(u32::to_le_bytes)
            .collect()
    }

    /// `None` for bytes that are no curve.
    pub fn read(bytes: &[u8]) -> Option<Curve> {
        let (numbers, rest) = bytes.as_chunks::<4>();
        let numbers: Vec<u32> = numbers.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let (points, left) = numbers.as_chunks::<3>();
        let points: Vec<Point> = points
            .iter()
            .map(|&[k, width, recall]| Point {
                k,
                width,
                recall: f32::from_bits(recall),
            })
            .collect();
        let sound = points
            .iter()
            .all(|point| point.k > 0 && (0.0..=1.0).contains(&point.recall));
        let ascending = points
            .windows(2)
            .all(|two| (two[0].k, two[0].width) < (two[1].k, two[1].width));
        (rest.is_empty() && left.is_empty() && sound && ascending).then_some(Curve { points })
    }
}

/// Questions `[q, D]`, each a vector of one document with a share of one of another's.
fn questions(planes: &[Plane], rows: usize, schema: &Schema) -> Vec<f32> {
    let mut questions = Vec::new();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit.max(1) as u64) as usize
    };
    for number in 0..QUESTIONS.min(rows) {
        let plane = &planes[number % planes.len()];
        let (one, other) = (plane.row(below(rows)), plane.row(below(rows)));
        if let (Some(one), Some(other)) = (one, other) {
            let other = schema.components(other);
            let mixed = schema.components(one).into_iter().zip(other);
            questions.extend(mixed.map(|(one, other)| one + MIXED * other));
        }
    }
    questions
}

/// For errors of the kernels that say that a build was stopped.
pub(super) fn stopped(error: stratal_kernels::Error) -> Error {
    match error {
        stratal_kernels::Error::Cancelled => Error::Cancelled,
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(u32, u32, f32)]) -> Curve {
        let points = points.iter();
        let point = |&(k, width, recall)| Point { k, width, recall };
        Curve {
            points: points.map(point).collect(),
        }
    }

    #[test]
    fn a_width_is_read_off_the_curve_and_never_less_than_real_questions_needed() {
        let hard = curve(&[(10, 100, 0.5), (10, 200, 0.75), (100, 400, 0.5), (100, 800, 0.75)]);
        assert_eq!(hard.width(0.625, 10), Some(150), "between two points");
        assert_eq!(hard.width(0.75, 20), Some(267), "between ten hits and a hundred");
        assert_eq!(hard.width(0.95, 10), None, "nothing that was tried reaches it");
        let easy = curve(&[(10, 10, 0.999)]);
        assert_eq!(easy.width(0.95, 10), Some(10 + 40));
        assert_eq!(easy.width(0.5, 10), Some(10 + 4));
        // The measured width grows with the hits that are asked for, and is more here.
        let wide = curve(&[(10, 200, 0.999)]);
        assert_eq!(wide.width(0.95, 30), Some(600));
    }
}
