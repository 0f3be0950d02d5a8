//! From candidates to answers: the best k of each query by f64 scores, as the search on the CPU computes them.

use std::cmp::Ordering;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::gather::Candidates;
use crate::dispatch::Kernels;
use crate::{Candidate, Options, Plane};

/// The answers of all queries of all batches; none where candidates were lost.
pub(super) fn answers(
    queries: &[f32],
    dimension: usize,
    planes: &[Plane],
    batches: &[Candidates],
    floors: &[f64],
    options: &Options,
) -> Vec<Vec<Candidate>> {
    let kernels = options
        .instructions
        .and_then(Kernels::of)
        .unwrap_or_else(Kernels::best);
    let places: Vec<(&Candidates, usize)> = batches
        .iter()
        .flat_map(|batch| (0..batch.queries()).map(move |query| (batch, query)))
        .collect();
    let of_query = |query: usize| {
        let (batch, at) = places[query];
        match batch.scores(at) {
            Some(scores) => best(
                scores.zip(batch.numbers(at)),
                planes.len(),
                floors[query],
                options,
            ),
            None => {
                let asked = &queries[query * dimension..(query + 1) * dimension];
                let score_of = |row: u32| kernels.exact_of_all(planes, row as usize, asked);
                let mut rows: Vec<u32> = batch.numbers(at).collect();
                rows.sort_unstable();
                rows.dedup();
                let scored = rows.into_iter().map(|row| (score_of(row), row));
                best(scored, 1, floors[query], options)
            }
        }
    };
    if rayon::current_thread_index().is_some() && !options.single_threaded {
        (0..places.len()).into_par_iter().map(of_query).collect()
    } else {
        (0..places.len()).map(of_query).collect()
    }
}

/// The best k rows of those with their scores, among which each may be up to `entries` times.
fn best(
    scored: impl Iterator<Item = (f64, u32)>,
    entries: usize,
    floor: f64,
    options: &Options,
) -> Vec<Candidate> {
    // −0.0 counts as 0.0; a score that is not a number is none.
    let mut found: Vec<(f64, u32)> = scored
        .map(|(score, row)| (score + 0.0, row))
        .filter(|(score, _)| *score >= floor)
        .collect();
    // So many entries hold k rows at least: only the few that reach the last of them are worth sorting.
    let rank = options.k.saturating_mul(entries);
    if (1..found.len()).contains(&rank) {
        let (_, &mut (last, _), _) = found.select_nth_unstable_by(rank - 1, |a, b| b.0.total_cmp(&a.0));
        found.retain(|(score, _)| *score >= last);
    }
    let by_order = |a: u32, b: u32| -> Ordering { (options.order)(a, b).then(a.cmp(&b)) };
    found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| by_order(a.1, b.1)));
    found.dedup_by_key(|(_, row)| *row);
    found.truncate(options.k);
    found
        .into_iter()
        .map(|(score, row)| Candidate { row, score })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopK;

    /// The collector that the search on the CPU uses is the model: scores of few values, rows that come several times,
    /// every floor and rank.
    #[test]
    fn the_best_are_those_of_the_collector() {
        let mut state = 3u64;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) % below
        };
        for round in 0..600 {
            let entries = 1 + next(3) as usize;
            let mut scored = Vec::new();
            for row in 0..next(40) as u32 {
                let score = match next(9) {
                    0 => f64::NAN,
                    1 => -0.0,
                    x => x as f64 - 4.0,
                };
                for _ in 0..1 + next(entries as u64) {
                    scored.insert(next(scored.len() as u64 + 1) as usize, (score, row));
                }
            }
            let floor = [f64::NEG_INFINITY, 0.0, -1.0, 5.0][round % 4];
            let backwards = |a: u32, b: u32| b.cmp(&a);
            let options = Options::new(next(12) as usize).order(&backwards);
            let mut expected = TopK::with_floor(options.k, floor, |a: &u32, b: &u32| backwards(*a, *b));
            let mut rows = scored.clone();
            rows.sort_unstable_by_key(|(_, row)| *row);
            rows.dedup_by_key(|(_, row)| *row);
            for (score, row) in rows {
                expected.push(score, row);
            }
            let found: Vec<(u64, u32)> = best(scored.into_iter(), entries, floor, &options)
                .into_iter()
                .map(|candidate| (candidate.score.to_bits(), candidate.row))
                .collect();
            let expected: Vec<(u64, u32)> = expected
                .into_sorted()
                .into_iter()
                .map(|(score, row)| (score.to_bits(), row))
                .collect();
            assert_eq!(found, expected, "round {round}");
        }
    }
}
