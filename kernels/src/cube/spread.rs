//! Work of the host that is shared among threads of its own.
//!
//! A searcher prepares parts and queries while it holds what is on its device. A thread of a rayon pool that waits for
//! others takes other work of the pool meanwhile, which may be another search with the same searcher: it would wait for
//! itself. So nothing under that lock runs in a pool.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// As many threads as the pool that this is called in has; one outside of a pool.
fn threads() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => 1,
    }
}

/// Calls `work` for ranges that cover `count`, each of `least` at least but for the last.
pub(super) fn spread<T: Send>(count: usize, least: usize, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let each = count.div_ceil(threads()).max(least).max(1);
    let ranges = (0..count)
        .step_by(each)
        .map(|first| first..(first + each).min(count));
    run(ranges.collect(), work)
}

/// Calls `work` for stretches of the rows of `out`, each with its first row.
pub(super) fn spread_rows<O: Send, T: Send>(
    out: &mut [O],
    width: usize,
    least: usize,
    work: impl Fn(usize, &mut [O]) -> T + Sync,
) -> Vec<T> {
    let each = (out.len() / width).div_ceil(threads()).max(least).max(1);
    let stretches = out.chunks_mut(each * width).enumerate();
    run(stretches.collect(), |(at, out)| work(at * each, out))
}

/// Does `work` for all items, in their order: this thread and as many others as can be had.
fn run<I: Send, T: Send>(items: Vec<I>, work: impl Fn(I) -> T + Sync) -> Vec<T> {
    let others = items.len().saturating_sub(1);
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take = || {
        let mut done = Vec::new();
        while let Some((at, item)) = next() {
            done.push((at, work(item)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (0..others)
            .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, take).ok())
            .collect();
        let mut done = take();
        for other in others {
            done.extend(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, done)| done).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once_and_in_order() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for count in [0, 1, 5, 6, 7, 100] {
            for least in [1, 4, 1000] {
                let all = |ranges: Vec<Range<usize>>| ranges.into_iter().flatten().collect::<Vec<_>>();
                let expected: Vec<usize> = (0..count).collect();
                assert_eq!(all(spread(count, least, |range| range)), expected);
                assert_eq!(
                    all(pool.install(|| spread(count, least, |range| range))),
                    expected
                );
                let mut out = vec![0; count * 2];
                pool.install(|| {
                    spread_rows(&mut out, 2, least, |first, rows| {
                        rows.chunks_mut(2)
                            .enumerate()
                            .for_each(|(at, row)| row.fill(first + at));
                    })
                });
                assert_eq!(out, expected.iter().flat_map(|&x| [x, x]).collect::<Vec<_>>());
            }
        }
    }
}
