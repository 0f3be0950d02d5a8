//! Answering from a graph: shells from the longest on, what their walks find scored from the vectors.

use std::cmp::Ordering;

use super::basis::dot;
use super::lanes::{Lanes, Portable};
use super::links::Links;
use super::search::Walker;
use super::sections::{Graph, GraphSection};
use crate::dispatch::{Kernels, prefetch};
use crate::{Candidate, Error, Instructions, Plane, TopK};

/// Standard deviations that an estimate is taken to be off at most: by the high halves, by both.
const DOUBT: [f32; 2] = [4.0, 3.5];

/// Rows fetched ahead of the one that is scored.
const AHEAD: usize = 4;

/// What is asked of a graph.
#[derive(Clone, Copy)]
pub struct GraphSearch<'a> {
    k: usize,
    width: usize,
    floor: f64,
    live: Option<(&'a [u64], usize)>,
    layers: Option<&'a [u32]>,
    order: &'a (dyn Fn(u32, u32) -> Ordering + Sync),
    instructions: Option<Instructions>,
}

impl<'a> GraphSearch<'a> {
    /// The best `k` rows, by walks that keep the best `width` nodes: the wider, the surer and the slower.
    pub fn new(k: usize, width: usize) -> Self {
        GraphSearch {
            k,
            width: width.max(k).max(1),
            floor: f64::NEG_INFINITY,
            live: None,
            layers: None,
            order: &|a, b| a.cmp(&b),
            instructions: None,
        }
    }

    /// Only rows that score at least `floor`.
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// Only rows whose bit is set, as [`crate::Options::live`], and how many those are. Walks are made
    /// wider by the share that is missing.
    pub fn live(mut self, live: &'a [u64], count: usize) -> Self {
        self.live = Some((live, count));
        self
    }

    /// Only these layers of the graph's, ascending; the planes that are passed are theirs.
    pub fn layers(mut self, layers: &'a [u32]) -> Self {
        self.layers = Some(layers);
        self
    }

    /// As [`crate::Options::order`].
    pub fn order(mut self, order: &'a (dyn Fn(u32, u32) -> Ordering + Sync)) -> Self {
        self.order = order;
        self
    }

    /// Use these instructions, for tests. The answer is the same with all of them.
    pub fn instructions(mut self, instructions: Instructions) -> Self {
        self.instructions = Some(instructions);
        self
    }
}

impl std::fmt::Debug for GraphSearch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphSearch")
            .field("k", &self.k)
            .field("width", &self.width)
            .field("floor", &self.floor)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

/// The memory of a search, to be kept from one to the next: a byte a node, and a little more.
#[derive(Debug)]
pub struct Walk {
    walker: Walker,
    unit: Vec<f32>,
    nodes: Vec<(f32, u32)>,
    scored: u64,
    met: usize,
    found: usize,
    ended: bool,
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
            unit: Vec::new(),
            nodes: Vec::new(),
            scored: 0,
            met: 0,
            found: 0,
            ended: false,
        }
    }

    /// How many vectors all searches with this have compared by the heads of their codes, by whole
    /// codes, and from the stored vectors.
    pub fn counts(&self) -> [u64; 3] {
        [self.walker.read[0], self.walker.read[1], self.scored]
    }

    /// How many nodes the last search kept, and how many of them live rows have: fewer than their share of
    /// all, and live rows may have been missed, because they lie elsewhere than the query.
    pub fn found(&self) -> [usize; 2] {
        [self.met, self.found]
    }

    /// Whether the last search ended because nothing that is left could score enough.
    pub fn ended_early(&self) -> bool {
        self.ended
    }
}

impl Graph {
    /// The best rows for `query` `[D]`, best first, over the stored vectors `planes` (`[m]`, each
    /// `[n, D]`, the rows that the graph was built over); scores are exact, the choice of rows is not.
    ///
    /// # Errors
    /// [`Error::PlaneDimension`], [`Error::PlaneRows`], [`Error::QueryLength`],
    /// [`Error::QueryNotFinite`], [`Error::ZeroK`], [`Error::LiveMask`], and [`Error::GraphSection`] when
    /// the sections are not those that it was opened with.
    pub fn search(
        &self,
        sections: &[&[u8]; 9],
        planes: &[Plane],
        query: &[f32],
        options: &GraphSearch,
        walk: &mut Walk,
    ) -> Result<Vec<Candidate>, Error> {
        let dimension = self.basis.dimension;
        let rows = crate::search::check_planes(planes, dimension)?;
        if query.len() != dimension {
            return Err(Error::QueryLength {
                row: 0,
                expected: dimension,
                got: query.len(),
            });
        }
        crate::search::check_queries(query, dimension)?;
        if options.k == 0 {
            return Err(Error::ZeroK);
        }
        if let Some((live, _)) = options.live
            && live.len() < rows.div_ceil(64)
        {
            return Err(Error::LiveMask {
                expected: rows.div_ceil(64),
                got: live.len(),
            });
        }
        let all: Vec<u32>;
        let layers = match options.layers {
            Some(layers) => layers,
            None => {
                all = (0..self.layers as u32).collect();
                &all
            }
        };
        if layers.is_empty()
            || layers.len() != planes.len()
            || layers.iter().any(|&layer| layer as usize >= self.layers)
        {
            return Err(Error::GraphSection {
                section: GraphSection::Head,
                what: "does not have the layers that were asked for",
            });
        }
        let ask = Ask {
            graph: self,
            sections,
            planes,
            query,
            layers,
            options,
            rows,
        };
        #[cfg(target_arch = "x86_64")]
        if options.instructions.unwrap_or(Instructions::best()).has_vnni() {
            // SAFETY: the processor was asked.
            return unsafe { answer_vnni(&ask, walk) };
        }
        // SAFETY: plain Rust runs everywhere.
        unsafe { answer::<Portable>(&ask, walk) }
    }
}

struct Ask<'a> {
    graph: &'a Graph,
    sections: &'a [&'a [u8]; 9],
    planes: &'a [Plane<'a>],
    query: &'a [f32],
    layers: &'a [u32],
    options: &'a GraphSearch<'a>,
    rows: usize,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn answer_vnni(ask: &Ask, walk: &mut Walk) -> Result<Vec<Candidate>, Error> {
    // SAFETY: the caller has asked the processor.
    unsafe { answer::<super::vnni::Vnni>(ask, walk) }
}

/// # Safety
/// The processor must have the instructions of `L`; what is asked must have been checked.
#[inline(always)]
unsafe fn answer<L: Lanes>(ask: &Ask, walk: &mut Walk) -> Result<Vec<Candidate>, Error> {
    let Ask { graph, options, .. } = *ask;
    let links = graph.links(ask.sections)?;
    let order = |a: &u32, b: &u32| (options.order)(*a, *b).then_with(|| a.cmp(b));
    let mut best = TopK::with_floor(options.k, options.floor, order);
    let largest = ask.query.iter().fold(0f32, |most, value| most.max(value.abs()));
    walk.unit.clear();
    // By two steps, so that neither very long nor very short queries leave the range.
    let scale = if largest > 0.0 {
        1.0 / largest.max(f32::MIN_POSITIVE)
    } else {
        0.0
    };
    walk.unit.extend(ask.query.iter().map(|value| value * scale));
    let length = dot(&walk.unit, &walk.unit).sqrt();
    if length > 0.0 {
        walk.unit.iter_mut().for_each(|value| *value /= length);
    }
    let length = f64::from(length) * f64::from(largest);
    // SAFETY: the caller promises the instructions.
    unsafe { walk.walker.query.set::<L>(&graph.basis, &walk.unit) };
    (walk.met, walk.found, walk.ended) = (0, 0, false);
    let width = match options.live {
        None => options.width,
        Some((_, 0)) => return Ok(Vec::new()),
        Some((_, count)) => {
            let more = options.width.saturating_mul(ask.rows) / count.min(ask.rows);
            more.min(graph.nodes.max(1))
        }
    };
    for shell in &graph.shells {
        // The same slack as for a score: norms are rounded up.
        if f64::from(shell.norm) * length < best.floor() {
            walk.ended = true;
            break;
        }
        // SAFETY: the caller promises the instructions; `links` has checked the lengths.
        unsafe { walk.walker.walk::<L>(&links, shell, width, ask.layers) };
        let per_score = f64::from(shell.norm) * length;
        // SAFETY: as above.
        unsafe { score::<L, _>(ask, &links, walk, per_score, &mut best) };
    }
    Ok(best
        .into_sorted()
        .into_iter()
        .map(|(score, row)| Candidate { row, score })
        .collect())
}

/// Scores what the last walk found.
///
/// # Safety
/// As [`answer`].
#[inline(always)]
unsafe fn score<L: Lanes, F: Fn(&u32, &u32) -> Ordering>(
    ask: &Ask,
    links: &Links,
    walk: &mut Walk,
    per_score: f64,
    best: &mut TopK<u32, F>,
) {
    let kernels = Kernels::best();
    let is_live = |row: u32| match ask.options.live {
        None => (row as usize) < ask.rows,
        Some((live, _)) => (row as usize) < ask.rows && live[row as usize / 64] >> (row % 64) & 1 == 1,
    };
    let Walk { walker, nodes, .. } = walk;
    nodes.clear();
    let twins = &ask.graph.twins;
    let twins_of = |node: u32| {
        let from = twins.partition_point(|&[of, _]| of < node);
        twins[from..]
            .iter()
            .take_while(move |&&[of, _]| of == node)
            .map(|&[_, row]| row)
    };
    nodes.extend(
        walker
            .found()
            .filter(|&(_, node)| is_live(Graph::row(ask.sections, node)) || twins_of(node).any(is_live)),
    );
    walk.met += walker.found().len();
    walk.found += nodes.len();
    let doubts: [f32; 2] = std::array::from_fn(|at| DOUBT[at] * walker.query.errors[at]);
    // Those that the high halves leave: the k-th estimate, with doubt on both sides.
    let last = nodes
        .get(ask.options.k - 1)
        .map_or(f32::NEG_INFINITY, |&(estimate, _)| estimate);
    let floor = (best.floor() / per_score) as f32;
    let bar = (last - 1.5 * doubts[0]).max(floor - doubts[0]);
    let left = nodes.partition_point(|&(estimate, _)| estimate >= bar);
    nodes.truncate(left);
    for &(_, node) in &*nodes {
        for &layer in ask.layers {
            let vector = node as usize * links.layers + layer as usize;
            links.fetch_rest(vector);
            links.fetch_low(vector);
        }
    }
    for (estimate, node) in &mut *nodes {
        let mut finest = f32::NEG_INFINITY;
        for &layer in ask.layers {
            let vector = *node as usize * links.layers + layer as usize;
            // SAFETY: the caller promises the instructions; the walk gives nodes that exist.
            finest = finest.max(unsafe { walker.both::<L>(links, vector) });
        }
        *estimate = finest;
    }
    nodes.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let fetch = |row: u32| {
        if is_live(row) {
            for plane in ask.planes {
                prefetch(plane.row_bytes(row as usize));
            }
        }
    };
    for &(_, node) in nodes.iter().take(AHEAD) {
        fetch(Graph::row(ask.sections, node));
    }
    for at in 0..nodes.len() {
        let (estimate, node) = nodes[at];
        if f64::from(estimate + doubts[1]) * per_score < best.floor() {
            break;
        }
        if let Some(&(_, next)) = nodes.get(at + AHEAD) {
            fetch(Graph::row(ask.sections, next));
        }
        let mut offer = |row: u32| {
            if !is_live(row) {
                return;
            }
            let mut score = f64::NAN;
            for plane in ask.planes {
                score = score.max(kernels.exact(plane.element(), plane.row_bytes(row as usize), ask.query));
            }
            walk.scored += 1;
            best.push(score, row);
        };
        offer(Graph::row(ask.sections, node));
        twins_of(node).for_each(&mut offer);
    }
}
