//! How many components a search of turned vectors had best scan.
//!
//! Fewer take less time and leave more rows, how many more depends on the vectors. So rows of a sample are asked for each
//! other, and what every head would leave is counted, by estimates of the bounds.

use crate::arithmetic::dot;

/// Heads are multiples of so many components.
const HEAD_STEP: usize = 32;

/// Turning must make a search at least so much shorter.
const WORTH: f64 = 0.9;

/// What a row that is left costs, against scanning all components of one: about that, for one query and for many.
const LEFT_COST: f64 = 20.0;

/// Rows that are taken for queries.
const ASKED: usize = 32;

/// How many of the rows a query shall find, and of which part of them: most is left while few have been seen.
const FOUND: f64 = 10.0;
const SEEN: f64 = 0.25;

/// About what four bits leave over of a vector, as a share of its length.
const LEFT_OVER: f32 = 0.11;

/// Places in order, the row itself coming before the first, between which scores are taken to fall with the logarithm.
const PLACES: [usize; 2] = [1, 10];

/// The score at a place that need not exist.
fn at_place(mut scores: Vec<f32>, place: f64) -> f32 {
    let [first, last] = PLACES.map(|place| {
        let (_, &mut score, _) = scores.select_nth_unstable_by(place, |a, b| b.total_cmp(a));
        score
    });
    let decades = (place / PLACES[0] as f64).log10() / (PLACES[1] as f64 / PLACES[0] as f64).log10();
    first - (first - last) * decades.min(1.0) as f32
}

/// The head with which a search of rows like these takes the least time; `None` if that is not much less than without
/// turning. `turned` are residuals of a sample `of` so many rows, `[s, D]`, and `centre` the mean; some of the rows ask for others,
/// by estimates of the bounds.
pub(super) fn shortest(turned: &[f32], centre: &[f32], of: usize) -> Option<usize> {
    let dimension = centre.len();
    let rows = turned.len() / dimension;
    if rows <= PLACES[1] {
        return None;
    }
    // The place in the sample of what a query finds last; it may lie before the first.
    let place = FOUND * rows as f64 / (SEEN * of as f64);
    let steps = dimension / HEAD_STEP;
    let length = |values: &[f32]| dot(values, values).sqrt();
    // `[steps]`: how long a vector is in heads of one step, of two, and so on, and behind them.
    let parts = |vector: &[f32]| -> Vec<[f32; 2]> {
        (1..=steps)
            .map(|step| vector.split_at(step * HEAD_STEP))
            .map(|(head, behind)| [length(head), length(behind)])
            .collect()
    };
    let lengths: Vec<(f32, Vec<[f32; 2]>)> = turned
        .chunks_exact(dimension)
        .map(|row| (length(row), parts(row)))
        .collect();
    // Of all pairs, how many each head leaves, and the high halves of all components.
    let (mut left, mut left_by_all, mut pairs) = (vec![0usize; steps], 0usize, 0usize);
    let mut products = vec![0f32; rows * steps];
    for asked in (0..rows).step_by(rows.div_ceil(ASKED).max(1)) {
        let row = &turned[asked * dimension..][..dimension];
        let query: Vec<f32> = row.iter().zip(centre).map(|(row, centre)| row + centre).collect();
        let mut scores = Vec::with_capacity(rows);
        for (row, products) in turned
            .chunks_exact(dimension)
            .zip(products.chunks_exact_mut(steps))
        {
            let mut sum = 0.0;
            let (row, query) = (row.chunks(HEAD_STEP), query.chunks(HEAD_STEP));
            for (step, (row, query)) in row.zip(query).enumerate() {
                sum += dot(row, query);
                if let Some(product) = products.get_mut(step) {
                    *product = sum;
                }
            }
            scores.push(sum);
        }
        let threshold = at_place(scores.clone(), place);
        let rounding = LEFT_OVER * length(&query);
        let own = parts(&query);
        for ((products, score), (whole, parts)) in products.chunks_exact(steps).zip(scores).zip(&lengths) {
            for (step, left) in left.iter_mut().enumerate() {
                let reach = products[step] + rounding * parts[step][0] + own[step][1] * parts[step][1];
                *left += usize::from(reach >= threshold);
            }
            left_by_all += usize::from(score + rounding * whole >= threshold);
        }
        pairs += rows;
    }
    let cost = |scanned: usize, left: usize| {
        scanned as f64 / dimension as f64 + LEFT_COST * left as f64 / pairs as f64
    };
    let (head, least) = (1..=steps)
        .map(|step| (step * HEAD_STEP, cost(step * HEAD_STEP, left[step - 1])))
        .min_by(|a, b| a.1.total_cmp(&b.1))?;
    (head < dimension && least <= WORTH * cost(dimension, left_by_all)).then_some(head)
}
