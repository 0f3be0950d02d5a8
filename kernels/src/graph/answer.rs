//! Answering from a graph: shells from the longest on, what their walks find scored from the vectors.

use std::cmp::Ordering;

use super::ask::{GraphAnswer, GraphSearch};
use super::basis::Turned;
use super::lanes::{Lanes, Portable};
use super::links::Links;
use super::search::{Limits, Walker};
use super::sections::{Graph, GraphSection};
use crate::arithmetic::{dot, largest};
use crate::dispatch::{Kernels, prefetch, prefetch_line};
use crate::search::Tally;
use crate::{Candidate, Error, Instructions, Plane, TopK};

/// Queries that are turned together.
const TOGETHER: usize = 8;

/// Documents fetched ahead of the one that is scored.
const AHEAD: usize = 4;

/// The memory of a search, to be kept from one to the next: a bit a node, and a little more.
#[derive(Debug)]
pub struct Walk {
    walker: Walker,
    /// What the last walk found, a node of each document, with estimates.
    nodes: Vec<(f32, u32)>,
    /// `[TOGETHER, D]`, of length 1, and how long they were.
    units: Vec<f32>,
    lengths: Vec<f64>,
    turned: Turned,
    /// How many codes were read in whole, and documents scored, by the last search.
    refined: u64,
    scored: u64,
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
            nodes: Vec::new(),
            units: Vec::new(),
            lengths: Vec::new(),
            turned: Turned::default(),
            refined: 0,
            scored: 0,
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
        sections: &[&[u8]; 8],
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
        sections: &[&[u8]; 8],
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

/// What is asked for, checked.
struct Ask<'a> {
    graph: &'a Graph,
    sections: &'a [&'a [u8]; 8],
    planes: &'a [Plane<'a>],
    queries: &'a [f32],
    options: &'a GraphSearch<'a>,
    rows: usize,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn answers_vnni(ask: &Ask, walk: &mut Walk) -> Result<Vec<GraphAnswer>, Error> {
    // SAFETY: the caller has asked the processor.
    unsafe { answers::<super::vnni::Vnni>(ask, walk) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
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
    (walk.refined, walk.scored) = (0, 0);
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
        counters.add(walk.tally(ask));
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
    for shell in &graph.shells {
        // The same slack as for a score: norms are rounded up.
        let per_score = f64::from(shell.norm) * length;
        if per_score < best.floor() {
            answer.ended_early = true;
            break;
        }
        // SAFETY: the caller promises the instructions and the lengths.
        unsafe { walk.walker.walk::<L>(links, shell, &limits) };
        answer.kept += walk.walker.found().len();
        answer.live += walk.gather(ask, (best.floor() / per_score) as f32);
        // A finer estimate costs a quarter of a score.
        let pays = walk.nodes.len() > options.k.saturating_add(options.k / 3);
        let doubt = if pays {
            // SAFETY: as above.
            unsafe { walk.refine::<L>(links) };
            options.doubts()[1] * walk.walker.query.errors[1]
        } else {
            options.doubts()[0] * walk.walker.query.errors[0]
        };
        // SAFETY: as above.
        unsafe { walk.score::<L, _>(ask, links, query, per_score, doubt, &mut best) };
    }
    let candidate = |(score, row)| Candidate { row, score };
    answer.candidates = best.into_sorted().into_iter().map(candidate).collect();
    answer
}

impl Walk {
    /// What the last search came to.
    fn tally(&self, ask: &Ask) -> Tally {
        let basis = &ask.graph.basis;
        let [compared, wider] = self.walker.read;
        let lines =
            compared * basis.head as u64 + wider * basis.lines as u64 + self.refined * basis.rest() as u64;
        let vector = ask.planes[0].element().size() * basis.dimension;
        Tally {
            swept: compared,
            left: wider + self.refined,
            multiplied: 0,
            scored: self.scored,
            bytes: lines * 64 + self.scored * vector as u64,
        }
    }

    /// What the last walk found that can be among the best; returns how many documents with live rows it found.
    fn gather(&mut self, ask: &Ask, floor: f32) -> usize {
        self.nodes.clear();
        // Where all are alive their rows, a line of memory each, need not be known.
        let is_wanted = |&(_, node): &(f32, u32)| {
            ask.options.live.is_none() || ask.rows_of(ask.document(node)).any(|row| ask.is_live(row))
        };
        self.nodes.extend(self.walker.found().filter(is_wanted));
        let wanted = self.nodes.len();
        // Those that the walk's estimates leave: the k-th one, with doubt.
        let last = self.nodes.get(ask.options.k - 1);
        let last = last.map_or(f32::NEG_INFINITY, |&(estimate, _)| estimate);
        let bar = last.max(floor) - ask.options.doubts()[0] * self.walker.query.errors[0];
        let left = self.nodes.partition_point(|&(estimate, _)| estimate >= bar);
        self.nodes.truncate(left);
        for &(_, node) in &self.nodes {
            prefetch_line(Graph::row_bytes(ask.sections, ask.document(node)).as_ptr());
        }
        wanted
    }

    /// Puts what was gathered in the order of finer estimates.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`; `links` must be the graph's.
    #[inline(always)]
    unsafe fn refine<L: Lanes>(&mut self, links: &Links) {
        for &(_, node) in &self.nodes {
            links.fetch_whole(node as usize);
        }
        self.refined += self.nodes.len() as u64;
        for (estimate, node) in &mut self.nodes {
            // SAFETY: the caller promises the instructions; a walk finds nodes that exist.
            *estimate = unsafe { self.walker.by_all_bits::<L>(links, *node as usize) };
        }
        let descending = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        self.nodes.sort_unstable_by(descending);
    }

    /// Scores what can be among the best from the stored vectors.
    ///
    /// # Safety
    /// As [`Walk::refine`].
    #[inline(always)]
    unsafe fn score<L: Lanes, F: Fn(&u32, &u32) -> Ordering>(
        &mut self,
        ask: &Ask,
        links: &Links,
        query: &[f32],
        per_score: f64,
        doubt: f32,
        best: &mut TopK<u32, F>,
    ) {
        let kernels = Kernels::best();
        let layers = ask.planes.len();
        let score =
            |plane: &Plane, row: u32| kernels.exact(plane.element(), plane.row_bytes(row as usize), query);
        let slack = match layers {
            1 => 0.0,
            _ => self.walker.query.slack(&ask.graph.doubt),
        };
        for &(_, node) in self.nodes.iter().take(AHEAD) {
            ask.fetch(links, node);
        }
        for at in 0..self.nodes.len() {
            let (estimate, node) = self.nodes[at];
            if f64::from(estimate + doubt) * per_score < best.floor() {
                break;
            }
            if let Some(&(_, next)) = self.nodes.get(at + AHEAD) {
                ask.fetch(links, next);
            }
            let own = node as usize % layers;
            for row in ask.rows_of(ask.document(node)).filter(|&row| ask.is_live(row)) {
                let mut highest = score(&ask.planes[own], row);
                // The others are read only where their codes do not exclude that they score more.
                for layer in (0..layers).filter(|&layer| layer != own) {
                    let sibling = node as usize - own + layer;
                    // SAFETY: the caller promises the instructions; a document's nodes exist together.
                    let estimate = unsafe { self.walker.by_all_bits::<L>(links, sibling) };
                    let most = f64::from(estimate + slack) * per_score;
                    let is_excluded = most <= highest || most < best.floor();
                    if !is_excluded {
                        highest = highest.max(score(&ask.planes[layer], row));
                    }
                }
                self.scored += 1;
                best.push(highest, row);
            }
        }
    }
}

impl Ask<'_> {
    fn is_live(&self, row: u32) -> bool {
        let is_set = |(live, _): (&[u64], usize)| live[row as usize / 64] >> (row % 64) & 1 == 1;
        (row as usize) < self.rows && self.options.live.is_none_or(is_set)
    }

    /// The document whose vector a node is.
    fn document(&self, node: u32) -> u32 {
        match self.graph.layers {
            // Most have one, and dividing takes a while.
            1 => node,
            layers => node / layers as u32,
        }
    }

    /// The rows of a document: rows with equal vectors are one.
    fn rows_of(&self, document: u32) -> impl Iterator<Item = u32> {
        let twins = &self.graph.twins;
        let from = twins.partition_point(|&[of, _]| of < document);
        let twins = twins[from..].iter().take_while(move |&&[of, _]| of == document);
        std::iter::once(Graph::row(self.sections, document)).chain(twins.map(|&[_, row]| row))
    }

    /// Fetches a node's vector, and the codes of its siblings.
    fn fetch(&self, links: &Links, node: u32) {
        let row = Graph::row(self.sections, self.document(node));
        if self.is_live(row) {
            let own = node as usize % self.planes.len();
            prefetch(self.planes[own].row_bytes(row as usize));
            for layer in (0..self.planes.len()).filter(|&layer| layer != own) {
                let sibling = node as usize - own + layer;
                links.fetch_whole(sibling);
            }
        }
    }
}
