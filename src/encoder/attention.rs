//! Attention over the tokens of one text, for every architecture.

use super::elementwise::exponentials;
use super::lanes::Isa;
use super::matrix::{PLAIN, Panels, Rows, product};

/// Query rows of one head whose scores are kept at once.
const SCORE_ROWS: usize = 56;

/// The shape of attention, and what becomes of the products of queries and keys.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a> {
    pub heads: usize,
    /// Of one head.
    pub size: usize,
    /// Scores are multiplied by it.
    pub factor: f32,
    /// Added to the scores before that.
    pub bias: Option<&'a DistanceBias>,
}

impl Heads<'_> {
    /// Size of what attention works on, all heads together.
    pub(crate) fn width(&self) -> usize {
        self.heads * self.size
    }
}

/// A number for each head and distance of a key from its query.
pub(crate) struct DistanceBias {
    /// Tokens of the longest text that it serves.
    tokens: usize,
    /// `[heads, 2 tokens - 1]`, from the key farthest before the query to the one farthest behind.
    values: Vec<f32>,
}

impl DistanceBias {
    /// `value(head, distance)` gives the numbers, the distance being the key's position less the query's.
    pub(crate) fn new(heads: usize, tokens: usize, value: impl Fn(usize, isize) -> f32) -> Self {
        let reach = tokens as isize - 1;
        Self {
            tokens,
            values: (0..heads)
                .flat_map(|head| (-reach..=reach).map(move |distance| (head, distance)))
                .map(|(head, distance)| value(head, distance))
                .collect(),
        }
    }

    /// The numbers for the first `n` keys of one query.
    fn row(&self, head: usize, query: usize, n: usize) -> &[f32] {
        &self.values[head * (2 * self.tokens - 1) + self.tokens - 1 - query..][..n]
    }

    /// Adds to the scores of one head, rows of `stride` elements of which `n` count, the first being that of query `from`.
    pub(crate) fn add(&self, head: usize, from: usize, scores: &mut [f32], stride: usize, n: usize) {
        for (i, scores) in scores.chunks_exact_mut(stride).enumerate() {
            for (score, bias) in scores.iter_mut().zip(self.row(head, from + i, n)) {
                *score += bias;
            }
        }
    }
}

/// Working memory of one thread's [`attention`].
pub(crate) struct AttentionScratch {
    scores: Vec<f32>,
    sums: Vec<f32>,
    keys: Panels,
    values: Panels,
}

impl AttentionScratch {
    pub(crate) fn new(isa: Isa) -> Self {
        Self {
            scores: Vec::new(),
            sums: vec![0.0; SCORE_ROWS],
            keys: Panels::new(isa),
            values: Panels::new(isa),
        }
    }
}

/// `softmax(factor (q kᵀ + bias)) v` for one text, head by head: `qkv` is `[n, 3 width]`, `context` `[n, width]`.
pub(crate) fn attention(
    isa: Isa,
    shape: Heads<'_>,
    qkv: &[f32],
    context: &mut [f32],
    s: &mut AttentionScratch,
) {
    attention_with(isa, shape, qkv, context, s, |_, _, _, _| {});
}

/// As [`attention`], with `thin(head, first, weights, stride)` called on rows of weights before they meet the values, the
/// first row being that of query `first`. Their sums, by which the softmax divides, are those from before.
pub(crate) fn attention_with(
    isa: Isa,
    shape: Heads<'_>,
    qkv: &[f32],
    context: &mut [f32],
    s: &mut AttentionScratch,
    thin: impl Fn(usize, usize, &mut [f32], usize),
) {
    let Heads {
        heads, size, factor, ..
    } = shape;
    let d = shape.width();
    let wide = 3 * d;
    let n = qkv.len() / wide;
    let stride = n.next_multiple_of(32);
    s.scores.resize(SCORE_ROWS * stride, 0.0);
    for head in 0..heads {
        let at = head * size;
        s.keys.pack(size, n, true, |i, key| qkv[key * wide + d + at + i]);
        s.values
            .pack(n, size, false, |key, i| qkv[key * wide + 2 * d + at + i]);
        for row in (0..n).step_by(SCORE_ROWS) {
            let rows = SCORE_ROWS.min(n - row);
            let queries = Rows {
                data: &qkv[row * wide + at..],
                stride: wide,
                rows,
            };
            let scores = &mut s.scores[..rows * stride];
            product(isa, queries, &s.keys, PLAIN, scores, stride);
            if let Some(bias) = shape.bias {
                bias.add(head, row, scores, stride, n);
            }
            let sums = &mut s.sums[..rows];
            exponentials(isa, scores, stride, n, factor, sums);
            thin(head, row, scores, stride);
            let weights = Rows {
                data: scores,
                stride,
                rows,
            };
            let out = &mut context[row * d + at..];
            product(isa, weights, &s.values, PLAIN, out, d);
            for (i, sum) in sums.iter().enumerate() {
                let inverse = 1.0 / sum;
                out[i * d..i * d + size].iter_mut().for_each(|x| *x *= inverse);
            }
        }
    }
}
