//! Answering from a graph: shells from the longest on, what their walks find scored from the vectors.

use super::ask::{Ask, GraphAnswer, GraphSearch};
use super::basis::Turned;
use super::found::{Found, Scale};
use super::lanes::{Lanes, Portable};
use super::limits::Limits;
use super::links::Links;
use super::search::Walker;
use super::sections::{Graph, GraphSection, GraphSections};
use crate::arithmetic::{dot, largest};
use crate::{Candidate, Error, Instructions, Plane, TopK};

/// Queries that are turned together.
const TOGETHER: usize = 8;

/// The memory of a search, to be kept from one to the next: a bit a node, and a little more.
#[derive(Debug)]
pub struct Walk {
    walker: Walker,
    found: Found,
    /// `[TOGETHER, D]`, of length 1, and how long they were.
    units: Vec<f32>,
    lengths: Vec<f64>,
    turned: Turned,
}

impl Default for Walk {
    fn default() -> Self {
        Walk::new()
    }
}

impl Walk {
    /// Fresh.
    pub fn new() -> Walk {
        Walk {
            walker: Walker::new(),
            found: Found::default(),
            units: Vec::new(),
            lengths: Vec::new(),
            turned: Turned::default(),
        }
    }
}

impl Graph {
    /// The best rows for `query` `[D]`, best first, over the stored vectors `planes` (`[m]`, each
    /// `[n, D]`, the rows that the graph was built over); scores are exact, the choice of rows is not.
    ///
    /// # Errors
    /// As [`Graph::search_batch`].
    pub fn search(
        &self,
        sections: &GraphSections,
        planes: &[Plane],
        query: &[f32],
        options: &GraphSearch,
        walk: &mut Walk,
    ) -> Result<Vec<Candidate>, Error> {
        if query.len() != self.basis.dimension {
            return Err(Error::QueryLength {
                row: 0,
                expected: self.basis.dimension,
                got: query.len(),
            });
        }
        let answers = self.search_batch(sections, planes, query, options, walk)?;
        Ok(answers.into_iter().flat_map(|answer| answer.candidates).collect())
    }

    /// The same for each of `queries` `[q, D]`. Several at once take less time each.
    ///
    /// # Errors
    /// [`Error::PlaneDimension`], [`Error::PlaneRows`], [`Error::QueryLength`],
    /// [`Error::QueryNotFinite`], [`Error::ZeroK`], [`Error::LiveMask`], [`Error::FloorCount`], and
    /// [`Error::GraphSection`] when the sections are not those that it was opened with.
    pub fn search_batch(
        &self,
        sections: &GraphSections,
        planes: &[Plane],
        queries: &[f32],
        options: &GraphSearch,
        walk: &mut Walk,
    ) -> Result<Vec<GraphAnswer>, Error> {
        let dimension = self.basis.dimension;
        let rows = crate::search::check_planes(planes, dimension)?;
        crate::search::check_queries(queries, dimension)?;
        if options.k == 0 {
            return Err(Error::ZeroK);
        }
        if let Some(floors) = options.floors
            && floors.len() != queries.len() / dimension
        {
            return Err(Error::FloorCount {
                expected: queries.len() / dimension,
                got: floors.len(),
            });
        }
        if let Some((live, _)) = options.live
            && live.len() < rows.div_ceil(64)
        {
            return Err(Error::LiveMask {
                expected: rows.div_ceil(64),
                got: live.len(),
            });
        }
        if planes.len() != self.layers {
            return Err(Error::GraphSection {
                section: GraphSection::Head,
                what: "has another number of layers than the planes",
            });
        }
        let ask = Ask {
            graph: self,
            sections,
            planes,
            queries,
            options,
            rows,
        };
        #[cfg(target_arch = "x86_64")]
        match options.instructions.unwrap_or(Instructions::best()) {
            // SAFETY: the processor was asked.
            set if set.has_vnni() => return unsafe { answers_vnni(&ask, walk) },
            // SAFETY: as above.
            set if set.has_avx2() => return unsafe { answers_avx2(&ask, walk) },
            _ => {}
        }
        // SAFETY: plain Rust runs everywhere.
        unsafe { answers::<Portable>(&ask, walk) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn answers_vnni(ask: &Ask, walk: &mut Walk) -> Result<Vec<GraphAnswer>, Error> {
    // SAFETY: the caller has asked the processor.
    unsafe { answers::<super::vnni::Vnni>(ask, walk) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn answers_avx2(ask: &Ask, walk: &mut Walk) -> Result<Vec<GraphAnswer>, Error> {
    // SAFETY: the caller has asked the processor.
    unsafe { answers::<super::avx2::Avx2>(ask, walk) }
}

/// # Safety
/// The processor must have the instructions of `L`; what is asked must have been checked.
#[inline(always)]
unsafe fn answers<L: Lanes>(ask: &Ask, walk: &mut Walk) -> Result<Vec<GraphAnswer>, Error> {
    let dimension = ask.graph.basis.dimension;
    let links = ask.graph.links(ask.sections)?;
    walk.walker.read = [0; 2];
    walk.found.forget_counts();
    let mut answers = Vec::with_capacity(ask.queries.len() / dimension);
    for together in ask.queries.chunks(TOGETHER * dimension) {
        set_units(together, dimension, &mut walk.units, &mut walk.lengths);
        // SAFETY: the caller promises the instructions.
        unsafe { ask.graph.basis.turn::<L>(&walk.units, &mut walk.turned) };
        for (at, query) in together.chunks_exact(dimension).enumerate() {
            let unit = &walk.units[at * dimension..][..dimension];
            walk.walker.query.set(&ask.graph.basis, unit, walk.turned.of(at));
            walk.walker.query.rounding = walk.turned.rounding(at);
            let floor = match ask.options.floors {
                Some(floors) => floors[answers.len()],
                None => ask.options.floor,
            };
            let length = walk.lengths[at];
            // SAFETY: the caller promises the instructions; `links` has checked the lengths.
            answers.push(unsafe { answer::<L>(ask, &links, query, length, floor, walk) });
        }
    }
    if let Some(counters) = ask.options.counters {
        counters.add(walk.found.tally(ask, walk.walker.read));
    }
    Ok(answers)
}

/// Queries of length 1, and how long they were.
#[inline(always)]
fn set_units(queries: &[f32], dimension: usize, units: &mut Vec<f32>, lengths: &mut Vec<f64>) {
    units.clear();
    lengths.clear();
    for query in queries.chunks_exact(dimension) {
        let largest = largest(query);
        // By two steps, so that neither very long nor very short queries leave the range.
        let largest = largest.max(f32::MIN_POSITIVE);
        let scale = 1.0 / largest;
        let from = units.len();
        units.extend(query.iter().map(|value| value * scale));
        let unit = &mut units[from..];
        let length = dot(unit, unit).sqrt();
        if length > 0.0 {
            unit.iter_mut().for_each(|value| *value /= length);
        }
        lengths.push(f64::from(length) * f64::from(largest));
    }
}

/// Answers `query`, which the walker has been given and which is `length` long.
///
/// # Safety
/// The processor must have the instructions of `L`; what is asked must have been checked.
#[inline(always)]
unsafe fn answer<L: Lanes>(
    ask: &Ask,
    links: &Links,
    query: &[f32],
    length: f64,
    floor: f64,
    walk: &mut Walk,
) -> GraphAnswer {
    let Ask { graph, options, .. } = *ask;
    let mut answer = GraphAnswer::default();
    // As many more as are not alive.
    let more = |count: usize| match options.live {
        None => count,
        Some((_, live)) => count.saturating_mul(ask.rows) / live.clamp(1, ask.rows.max(1)),
    };
    if let Some((_, 0)) = options.live {
        return answer;
    }
    let width = more(options.width).min(graph.documents.max(1));
    let limits = Limits {
        width,
        rank: more(options.k),
        reach: if width < graph.documents {
            options.reach()
        } else {
            f32::INFINITY
        },
    };
    let order = |a: &u32, b: &u32| (options.order)(*a, *b).then_with(|| a.cmp(b));
    let mut best = TopK::with_floor(options.k, floor, order);
    for (shell, entries) in graph.shells.iter().zip(&graph.entries) {
        // The same slack as for a score: norms are rounded up.
        let per_score = f64::from(shell.norm) * length;
        if per_score < best.floor() {
            answer.ended_early = true;
            break;
        }
        // SAFETY: the caller promises the instructions and the lengths.
        unsafe { walk.walker.walk::<L>(links, shell, entries, &limits) };
        answer.kept += walk.walker.found().len();
        let Walk { walker, found, .. } = &mut *walk;
        answer.live += found.gather(ask, walker, (best.floor() / per_score) as f32);
        let scale = Scale { query, per_score };
        // SAFETY: as above.
        unsafe { found.score::<L, _>(ask, links, walker, &scale, &mut best) };
    }
    let candidate = |(score, row)| Candidate { row, score };
    answer.candidates = best.into_sorted().into_iter().map(candidate).collect();
    answer
}
