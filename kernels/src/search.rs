//! The exact search: what is asked, checked at the door, and shared among threads.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::dispatch::Kernels;
use crate::{Codes, Error, Instructions, MAX_DIMENSION, Plane};

mod best;
mod coded;
mod counters;
mod panels;
mod scan;
mod scorer;
mod seeds;

use best::Best;
use coded::Coded;
pub use counters::Counters;
pub(crate) use counters::Tally;
use panels::Panels;
use scan::Scan;

/// One row of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The row's number in the planes.
    pub row: u32,
    /// The largest of its inner products over the planes, in f64. Never NaN, never −0.0.
    pub score: f64,
}

/// How to search. `Options::new(k)` asks for the best k of all rows; the methods narrow that.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    pub(crate) k: usize,
    pub(crate) floor: f64,
    pub(crate) floors: Option<&'a [f64]>,
    pub(crate) live: Option<&'a [u64]>,
    pub(crate) order: &'a (dyn Fn(u32, u32) -> Ordering + Sync),
    pub(crate) check: Option<&'a (dyn Fn(Range<u32>) -> bool + Sync)>,
    pub(crate) codes: Option<&'a [Codes<'a>]>,
    pub(crate) counters: Option<&'a Counters>,
    pub(crate) single_threaded: bool,
    pub(crate) instructions: Option<Instructions>,
}

impl<'a> Options<'a> {
    /// The best `k` rows, ties by row number.
    pub fn new(k: usize) -> Self {
        Options {
            k,
            floor: f64::NEG_INFINITY,
            floors: None,
            live: None,
            order: &|a, b| a.cmp(&b),
            check: None,
            codes: None,
            counters: None,
            single_threaded: false,
            instructions: None,
        }
    }

    /// Only rows that score at least `floor`.
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// A floor for each query, shape `[q]`, on top of [`Options::floor`]: for instance what
    /// [`TopK::floor`](crate::TopK::floor) says after other parts have been searched.
    pub fn floors(mut self, floors: &'a [f64]) -> Self {
        self.floors = Some(floors);
        self
    }

    /// Only rows whose bit is set: row `r` is bit `r % 64` of word `r / 64`. Dead rows are not read.
    pub fn live(mut self, live: &'a [u64]) -> Self {
        self.live = Some(live);
        self
    }

    /// Which of two rows of equal score comes first, also where only one of them fits into k: a
    /// total order, for instance of the external ids. Where it says `Equal`, row numbers decide.
    /// It is called while other threads of the search may wait, and must not itself run anything in the rayon pool.
    pub fn order(mut self, order: &'a (dyn Fn(u32, u32) -> Ordering + Sync)) -> Self {
        self.order = order;
        self
    }

    /// Called before vectors of a range of rows are read, in all planes: for a mapped file whose pages
    /// are checked when they are first touched. Rows of a range that it refuses are not found; it is
    /// the caller's to fail the search then. Codes are not asked for.
    pub fn check(mut self, check: &'a (dyn Fn(Range<u32>) -> bool + Sync)) -> Self {
        self.check = Some(check);
        self
    }

    /// Search through the codes of the planes, `[m]`, in the same order: the same answer for a fraction
    /// of the bytes read.
    pub fn codes(mut self, codes: &'a [Codes<'a>]) -> Self {
        self.codes = Some(codes);
        self
    }

    /// Count the work done.
    pub fn counters(mut self, counters: &'a Counters) -> Self {
        self.counters = Some(counters);
        self
    }

    /// Stay on the calling thread, also inside a rayon pool.
    pub fn single_threaded(mut self) -> Self {
        self.single_threaded = true;
        self
    }

    /// Use these instructions, for tests and measurements. The answer is the same with all of them.
    pub fn instructions(mut self, instructions: Instructions) -> Self {
        self.instructions = Some(instructions);
        self
    }
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("k", &self.k)
            .field("floor", &self.floor)
            .field("floors", &self.floors)
            .field("live_words", &self.live.map(<[u64]>::len))
            .field("codes", &self.codes.map(<[Codes]>::len))
            .field("single_threaded", &self.single_threaded)
            .field("instructions", &self.instructions)
            .finish_non_exhaustive()
    }
}

/// The best `k` rows for each query by `max over planes of <query, row>`, best first.
///
/// `queries` is `[q, dimension]`, row after row; `planes` is `[m]`, each `[n, dimension]`, all over
/// the same n documents (element types and strides may differ). The answer has q lists of at most k
/// candidates, fewer where fewer rows are live or reach the floor. It is exactly what computing every
/// score with [`inner_product`](crate::inner_product) and sorting by score (highest first), then by
/// [`Options::order`], would give.
///
/// Stored vectors should be finite, as the database sees to. A plane's score that is NaN (from a
/// stored NaN, or from infinities that cancel) counts as no score; a row without any is not found.
///
/// Every stored vector is read once for all queries of the call. Inside a rayon pool the rows are
/// shared among its threads; outside of one the search runs on the calling thread, and rayon's global
/// pool is never started.
///
/// # Errors
/// Nothing is searched if a query is of the wrong length or not finite ([`Error::QueryLength`],
/// [`Error::QueryNotFinite`], with its row), the planes do not fit together ([`Error::NoPlanes`],
/// [`Error::PlaneRows`], [`Error::PlaneDimension`]), or an option makes no sense ([`Error::ZeroK`],
/// [`Error::FloorCount`], [`Error::FloorNotANumber`], [`Error::LiveMask`], [`Error::CodesCount`],
/// [`Error::CodesShape`], [`Error::Unsupported`]).
pub fn max_inner_product(
    queries: &[f32],
    dimension: usize,
    planes: &[Plane],
    options: &Options,
) -> Result<Vec<Vec<Candidate>>, Error> {
    let rows = check_planes(planes, dimension)?;
    let count = check_queries(queries, dimension)?;
    let floors = check_options(options, count, rows)?;
    check_codes(options.codes, planes)?;
    let kernels = match options.instructions {
        None => Kernels::best(),
        Some(instructions) => Kernels::of(instructions).ok_or(Error::Unsupported { instructions })?,
    };
    if count == 0 {
        return Ok(Vec::new());
    }

    let order = |a: &u32, b: &u32| (options.order)(*a, *b).then_with(|| a.cmp(b));
    let may_share = rayon::current_thread_index().is_some() && !options.single_threaded;
    let scan = Scan {
        planes,
        rows,
        queries,
        dimension,
        kernels,
        live: options.live,
        live_rows: live_rows(options.live, rows),
        check: options.check,
        panels: Panels::new(queries, dimension, kernels),
        coded: options.codes.map(|codes| Coded::new(codes, queries, may_share)),
        best: Best::new(options.k, &floors, &order),
        next: AtomicUsize::new(0),
    };
    let count = |tally: Tally| {
        if let Some(counters) = options.counters {
            counters.add(tally);
        }
    };
    scan.find_floors(may_share, count);
    let run = || count(scan.run());
    match may_share {
        true => (0..rayon::current_num_threads().min(scan.chunks()))
            .into_par_iter()
            .for_each(|_| run()),
        false => run(),
    }
    Ok(scan.best.into_answers())
}

/// How many of the rows are live.
fn live_rows(live: Option<&[u64]>, rows: usize) -> usize {
    let Some(live) = live else { return rows };
    let words = &live[..rows.div_ceil(64)];
    // Bits beyond the last row, if any are set, only make a chunk shorter.
    words
        .iter()
        .map(|word| word.count_ones() as usize)
        .sum::<usize>()
        .min(rows)
}

/// The rows that all planes share.
pub(crate) fn check_planes(planes: &[Plane], dimension: usize) -> Result<usize, Error> {
    let rows = planes.first().ok_or(Error::NoPlanes)?.rows();
    if dimension == 0 || dimension > MAX_DIMENSION {
        return Err(Error::Dimension {
            dimension,
            limit: MAX_DIMENSION,
        });
    }
    for (plane, p) in planes.iter().enumerate() {
        if p.rows() != rows {
            return Err(Error::PlaneRows {
                plane,
                expected: rows,
                got: p.rows(),
            });
        }
        if p.dimension() != dimension {
            return Err(Error::PlaneDimension {
                plane,
                expected: p.dimension(),
                got: dimension,
            });
        }
    }
    Ok(rows)
}

/// The number of queries, all of them whole and finite.
pub(crate) fn check_queries(queries: &[f32], dimension: usize) -> Result<usize, Error> {
    let (count, rest) = (queries.len() / dimension, queries.len() % dimension);
    if rest != 0 {
        return Err(Error::QueryLength {
            row: count,
            expected: dimension,
            got: rest,
        });
    }
    // By stretches, for which one it is need hardly ever be known.
    let is_finite = |values: &[f32]| values.iter().fold(true, |all, x| all & x.is_finite());
    if queries.chunks(64).all(is_finite) {
        return Ok(count);
    }
    let at = queries.iter().position(|x| !x.is_finite()).unwrap_or_default();
    Err(Error::QueryNotFinite {
        row: at / dimension,
        component: at % dimension,
        value: queries[at].to_string(),
    })
}

fn check_codes(codes: Option<&[Codes]>, planes: &[Plane]) -> Result<(), Error> {
    let Some(codes) = codes else { return Ok(()) };
    if codes.len() != planes.len() {
        return Err(Error::CodesCount {
            expected: planes.len(),
            got: codes.len(),
        });
    }
    codes
        .iter()
        .zip(planes)
        .enumerate()
        .try_for_each(|(at, (c, plane))| c.check_shape(at, plane))
}

/// The score floor of each query.
pub(crate) fn check_options(options: &Options, count: usize, rows: usize) -> Result<Vec<f64>, Error> {
    if options.k == 0 {
        return Err(Error::ZeroK);
    }
    if let Some(live) = options.live
        && live.len() < rows.div_ceil(64)
    {
        return Err(Error::LiveMask {
            expected: rows.div_ceil(64),
            got: live.len(),
        });
    }
    let mut floors = vec![options.floor; count];
    if options.floor.is_nan() {
        return Err(Error::FloorNotANumber { row: 0 });
    }
    if let Some(each) = options.floors {
        if each.len() != count {
            return Err(Error::FloorCount {
                expected: count,
                got: each.len(),
            });
        }
        for (row, (floor, &own)) in floors.iter_mut().zip(each).enumerate() {
            if own.is_nan() {
                return Err(Error::FloorNotANumber { row });
            }
            *floor = floor.max(own);
        }
    }
    Ok(floors)
}

impl Scan<'_> {
    /// The next unclaimed chunk of rows, as a range.
    fn claim(&self) -> Option<std::ops::Range<usize>> {
        let size = self.chunk_rows();
        let start = self.next.fetch_add(1, Relaxed).checked_mul(size)?;
        (start < self.rows).then(|| start..(start + size).min(self.rows))
    }
}
