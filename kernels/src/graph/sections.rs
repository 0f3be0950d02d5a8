//! The bytes of a graph.

use super::basis::Basis;
use super::build;
use super::entries::Entries;
use super::lanes::{Line, Portable};
use super::links::{DEGREE, Links, Shell};
use super::points::Doubt;
use crate::{Error, Instructions, MAX_DIMENSION, Plane};

/// One stretch of bytes of a graph. All numbers are little-endian; `N` is the number of documents, `m` of
/// layers, vector `l` of document `n` is node `n m + l`, `D` the dimension, `h` (1 or 2) the lines of a head, `b = ⌈D /
/// 128⌉` those of the high halves of a code, `c = ⌈b / 2⌉` those of its low bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GraphSection {
    /// u32: `m`, `D`, `h`, 1 where layers lie apart, shells; f32: of several layers the length of the longest vector less
    /// the mean, over its shell's norm; then for each shell u32 first node, nodes, entries (its first nodes), and f32 the
    /// norm that none of its vectors exceeds.
    Head,
    /// `[D]` f32 mean of the vectors over their shells' norms; `[D]` f32 steps; `[D]` f32 units.
    Scales,
    /// `[D, D]` i8: direction `i` is row `i` times unit `i`; above 1,024 dimensions `[D]` u32: which
    /// component comes at each place.
    Directions,
    /// `[N]` u32: the row of a document.
    Rows,
    /// Pairs of u32, ascending: a document, and a further row with the same vectors.
    Twins,
    /// `[N, m, 32]` u32: neighbours, filled up with `u32::MAX`.
    Neighbours,
    /// `[N, m, h, 64]` bytes: heads. Line `l` has in its bytes `i < 32` numbers `64 l + i` below and `64 l + 32 + i`
    /// above, as high halves have them; in bytes `32 + i` two bits each, the lowest first, of directions `64 h + 128 l
    /// + 32 j + i`, `j < 4`: a value is [0.9957 / 0.385] steps times the number less 1.5.
    First,
    /// `[N, m, b + c, 64]` bytes: the high halves of all directions, 128 a line, byte `i` holding number `i` below and
    /// number `64 + i` above, a value being the step times the number less 7.5; and two bits more of each, 256 a line, byte
    /// `i` holding numbers `64 j + i`, the lowest first: with them a value is a quarter of the step times four times the
    /// number above plus this one less 31.5.
    Rest,
    /// `[N, m, 2]` bf16, rounded up, of several layers; else nothing: how far a vector is from what all bits of its code
    /// stand for, over its shell's norm; and the length of its code, in steps.
    Doubts,
}

impl GraphSection {
    /// Every section, in the order in which they are passed.
    pub const ALL: [GraphSection; 9] = [
        GraphSection::Head,
        GraphSection::Scales,
        GraphSection::Directions,
        GraphSection::Rows,
        GraphSection::Twins,
        GraphSection::Neighbours,
        GraphSection::First,
        GraphSection::Rest,
        GraphSection::Doubts,
    ];
}

/// The bytes of a graph, in the order of [`GraphSection::ALL`].
pub type GraphSections<'a> = [&'a [u8]; GraphSection::ALL.len()];

/// How to build. `GraphOptions::default()` indexes all rows.
#[derive(Clone, Copy, Default)]
pub struct GraphOptions<'a> {
    pub(super) live: Option<&'a [u64]>,
    pub(super) progress: Option<&'a (dyn Fn(f32) -> bool + Sync)>,
    pub(super) passes: Option<usize>,
    pub(super) instructions: Option<Instructions>,
}

impl std::fmt::Debug for GraphOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphOptions")
            .field("live_words", &self.live.map(<[u64]>::len))
            .field("instructions", &self.instructions)
            .finish_non_exhaustive()
    }
}

impl<'a> GraphOptions<'a> {
    /// All rows.
    pub fn new() -> Self {
        GraphOptions::default()
    }

    /// Only rows whose bit is set, as [`crate::Options::live`].
    pub fn live(mut self, live: &'a [u64]) -> Self {
        self.live = Some(live);
        self
    }

    /// Called now and then, from any thread, with the share that is done; `false` stops the build.
    pub fn progress(mut self, report: &'a (dyn Fn(f32) -> bool + Sync)) -> Self {
        self.progress = Some(report);
        self
    }

    /// How often each vector is looked for in the graph so far, to choose its edges anew; by default once, and twice where
    /// documents have several vectors.
    pub fn passes(mut self, passes: usize) -> Self {
        self.passes = Some(passes);
        self
    }

    /// Use these instructions, for tests. The graph is the same with all of them.
    pub fn instructions(mut self, instructions: Instructions) -> Self {
        self.instructions = Some(instructions);
        self
    }
}

/// A graph as it was built, owned.
#[derive(Debug, Clone)]
pub struct BuiltGraph {
    pub(super) layers: usize,
    pub(super) is_apart: bool,
    pub(super) basis: Basis,
    pub(super) longest: f32,
    pub(super) shells: Vec<Shell>,
    pub(super) rows: Vec<u32>,
    pub(super) twins: Vec<[u32; 2]>,
    pub(super) neighbours: Vec<u32>,
    pub(super) first: Vec<Line>,
    pub(super) rest: Vec<Line>,
    pub(super) doubts: Vec<Doubt>,
}

impl BuiltGraph {
    /// Builds a graph over the documents of `planes` (`[m]`, each `[n, D]`). Inside a rayon pool its
    /// threads share the work; the result is the same. Takes about `n × m × (2 D + 700)` bytes meanwhile.
    ///
    /// # Errors
    /// [`Error::NoPlanes`], [`Error::PlaneRows`], [`Error::PlaneDimension`], [`Error::LiveMask`],
    /// [`Error::TooManyRows`] above 2³⁰ vectors, [`Error::Cancelled`].
    pub fn build(planes: &[Plane], options: &GraphOptions) -> Result<BuiltGraph, Error> {
        let first = planes.first().ok_or(Error::NoPlanes)?;
        let rows = crate::search::check_planes(planes, first.dimension())?;
        if let Some(live) = options.live
            && live.len() < rows.div_ceil(64)
        {
            return Err(Error::LiveMask {
                expected: rows.div_ceil(64),
                got: live.len(),
            });
        }
        if first.rows().saturating_mul(planes.len()) > 1 << 30 {
            return Err(Error::TooManyRows { rows: first.rows() });
        }
        #[cfg(target_arch = "x86_64")]
        match options.instructions.unwrap_or(Instructions::best()) {
            // SAFETY: the processor was asked.
            set if set.has_vnni() => return unsafe { build_vnni(planes, options) },
            // SAFETY: as above.
            set if set.has_avx2() => return unsafe { build_avx2(planes, options) },
            _ => {}
        }
        // SAFETY: plain Rust runs everywhere.
        unsafe { build::build::<Portable>(planes, options) }
    }

    /// The bytes of one section.
    pub fn section(&self, section: GraphSection) -> Vec<u8> {
        match section {
            GraphSection::Head => self.head(),
            GraphSection::Scales => [&self.basis.mean, &self.basis.steps, &self.basis.units]
                .into_iter()
                .flat_map(|values| bytemuck::cast_slice(values))
                .copied()
                .collect(),
            GraphSection::Directions if self.basis.order.is_empty() => {
                bytemuck::cast_slice(&self.basis.rows).to_vec()
            }
            GraphSection::Directions => bytemuck::cast_slice(&self.basis.order).to_vec(),
            GraphSection::Rows => bytemuck::cast_slice(&self.rows).to_vec(),
            GraphSection::Twins => bytemuck::cast_slice(&self.twins).to_vec(),
            GraphSection::Neighbours => bytemuck::cast_slice(&self.neighbours).to_vec(),
            GraphSection::First => bytemuck::cast_slice(&self.first).to_vec(),
            GraphSection::Rest => bytemuck::cast_slice(&self.rest).to_vec(),
            GraphSection::Doubts => bytemuck::cast_slice(&self.doubts).to_vec(),
        }
    }

    /// The large sections, without a copy; `None` for the others.
    pub fn large(&self, section: GraphSection) -> Option<&[u8]> {
        match section {
            GraphSection::Rows => Some(bytemuck::cast_slice(&self.rows)),
            GraphSection::Neighbours => Some(bytemuck::cast_slice(&self.neighbours)),
            GraphSection::First => Some(bytemuck::cast_slice(&self.first)),
            GraphSection::Rest => Some(bytemuck::cast_slice(&self.rest)),
            GraphSection::Doubts => Some(bytemuck::cast_slice(&self.doubts)),
            _ => None,
        }
    }

    fn head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        for number in [
            self.layers,
            self.basis.dimension,
            self.basis.head,
            usize::from(self.is_apart),
            self.shells.len(),
        ] {
            head.extend((number as u32).to_le_bytes());
        }
        head.extend(self.longest.to_le_bytes());
        for shell in &self.shells {
            for number in [shell.first, shell.count, shell.entries] {
                head.extend(number.to_le_bytes());
            }
            head.extend(shell.norm.to_le_bytes());
        }
        head
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn build_vnni(planes: &[Plane], options: &GraphOptions) -> Result<BuiltGraph, Error> {
    // SAFETY: the caller has asked the processor.
    unsafe { build::build::<super::vnni::Vnni>(planes, options) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn build_avx2(planes: &[Plane], options: &GraphOptions) -> Result<BuiltGraph, Error> {
    // SAFETY: the caller has asked the processor.
    unsafe { build::build::<super::avx2::Avx2>(planes, options) }
}

/// A graph for searching: its small parts, owned and checked. The large ones stay where they are.
#[derive(Debug, Clone)]
pub struct Graph {
    pub(super) layers: usize,
    is_apart: bool,
    pub(super) documents: usize,
    pub(super) basis: Basis,
    pub(super) longest: f32,
    pub(super) shells: Vec<Shell>,
    /// One for each shell.
    pub(super) entries: Vec<Entries>,
    pub(super) twins: Vec<[u32; 2]>,
}

/// Bytes of the head before its shells.
const HEAD_BYTES: usize = 24;

/// A section that is not as it must be.
fn wrong(section: GraphSection, what: &'static str) -> Error {
    Error::GraphSection { section, what }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&four| u32::from_le_bytes(four))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&four| f32::from_le_bytes(four))
        .collect()
}

impl Graph {
    /// Reads the small sections and checks the lengths of all, in the order of [`GraphSection::ALL`].
    ///
    /// Whatever the bytes are, a search reads nothing outside of them and does not panic.
    ///
    /// # Errors
    /// [`Error::GraphSection`].
    pub fn open(sections: &GraphSections) -> Result<Graph, Error> {
        let [head, scales, directions, rows, twins, ..] = *sections;
        let mut numbers_of_head = numbers(head);
        let mut next = || {
            numbers_of_head
                .next()
                .ok_or(wrong(GraphSection::Head, "is cut short"))
                .map(|n| n as usize)
        };
        let (layers, dimension, lines, apart, count) = (next()?, next()?, next()?, next()?, next()?);
        let longest = f32::from_bits(next()? as u32);
        if layers == 0
            || dimension == 0
            || dimension > MAX_DIMENSION
            || !(1..=super::lanes::HEAD).contains(&lines)
            || head.len() != HEAD_BYTES + count.saturating_mul(16)
            || !longest.is_finite()
        {
            return Err(wrong(GraphSection::Head, "has a shape that cannot be"));
        }
        let documents = rows.len() / 4;
        let mut shells = Vec::with_capacity(count);
        let mut from = 0u32;
        for shell in head[HEAD_BYTES..].as_chunks::<16>().0 {
            let mut each = numbers(shell);
            let mut next = || each.next().unwrap_or_default();
            let shell = Shell {
                first: next(),
                count: next(),
                entries: next(),
                norm: f32::from_bits(next()),
            };
            if shell.first != from
                || shell.count == 0
                || shell.entries > shell.count
                || !(shell.count as usize).is_multiple_of(layers)
                || shell.norm.is_nan()
                || shell.norm < 0.0
            {
                return Err(wrong(GraphSection::Head, "has shells that do not fit together"));
            }
            from = from
                .checked_add(shell.count)
                .ok_or(wrong(GraphSection::Head, "has too many nodes"))?;
            shells.push(shell);
        }
        let vectors = documents.saturating_mul(layers);
        if from as usize != vectors || vectors > 1 << 30 {
            return Err(wrong(GraphSection::Rows, "does not hold what the shells say"));
        }
        if scales.len() != 12 * dimension {
            return Err(wrong(GraphSection::Scales, "has the wrong length"));
        }
        let scales = floats(scales);
        if scales.iter().any(|value| !value.is_finite()) {
            return Err(wrong(GraphSection::Scales, "has a value that is not finite"));
        }
        let turned = dimension <= super::basis::LARGEST;
        let expected = if turned {
            dimension * dimension
        } else {
            4 * dimension
        };
        if directions.len() != expected {
            return Err(wrong(GraphSection::Directions, "has the wrong length"));
        }
        let order: Vec<u32> = if turned {
            Vec::new()
        } else {
            numbers(directions).collect()
        };
        if order.iter().any(|&at| at as usize >= dimension) {
            return Err(wrong(
                GraphSection::Directions,
                "names a component that is not there",
            ));
        }
        let twins: Vec<[u32; 2]> = twins
            .as_chunks::<8>()
            .0
            .iter()
            .map(|&[a, b, c, d, e, f, g, h]| {
                [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
            })
            .collect();
        let basis = Basis::from_parts(
            dimension,
            scales[..dimension].to_vec(),
            scales[dimension..2 * dimension].to_vec(),
            scales[2 * dimension..].to_vec(),
            if turned {
                bytemuck::cast_slice(directions).to_vec()
            } else {
                Vec::new()
            },
            order,
            lines,
        );
        let mut graph = Graph {
            layers,
            is_apart: apart != 0,
            documents,
            basis,
            longest,
            shells,
            entries: Vec::new(),
            twins,
        };
        let heads = graph.links(sections)?.first;
        let entries = graph.shells.iter();
        graph.entries = entries
            .map(|shell| Entries::of(shell, heads, lines, !graph.is_apart))
            .collect();
        Ok(graph)
    }

    /// The number of documents; rows with equal vectors are one.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Layer vectors of a document.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// The components of a vector.
    pub fn dimension(&self) -> usize {
        self.basis.dimension
    }

    /// The large sections, checked for their lengths.
    pub(super) fn links<'a>(&'a self, sections: &GraphSections<'a>) -> Result<Links<'a>, Error> {
        let [.., neighbours, first, rest, doubts] = *sections;
        let nodes = self.documents * self.layers;
        let neighbours: &[u32] = bytemuck::try_cast_slice(neighbours)
            .map_err(|_| wrong(GraphSection::Neighbours, "is not aligned"))?;
        let first: &[Line] = bytemuck::try_cast_slice(first)
            .map_err(|_| wrong(GraphSection::First, "is not aligned to 64 bytes"))?;
        let rest: &[Line] = bytemuck::try_cast_slice(rest)
            .map_err(|_| wrong(GraphSection::Rest, "is not aligned to 64 bytes"))?;
        let doubts: &[Doubt] =
            bytemuck::try_cast_slice(doubts).map_err(|_| wrong(GraphSection::Doubts, "is not aligned"))?;
        if neighbours.len() != nodes * DEGREE {
            return Err(wrong(GraphSection::Neighbours, "has the wrong length"));
        }
        if first.len() != nodes.saturating_mul(self.basis.head) {
            return Err(wrong(GraphSection::First, "has the wrong length"));
        }
        if rest.len() != nodes.saturating_mul(self.basis.rest()) {
            return Err(wrong(GraphSection::Rest, "has the wrong length"));
        }
        if doubts.len() != if self.layers > 1 { nodes } else { 0 } {
            return Err(wrong(GraphSection::Doubts, "has the wrong length"));
        }
        Ok(Links {
            basis: &self.basis,
            layers: self.layers,
            is_apart: self.is_apart,
            first,
            rest,
            doubts,
            neighbours,
        })
    }

    /// The row of a document.
    pub(super) fn row(sections: &GraphSections, document: u32) -> u32 {
        let bytes = Graph::row_bytes(sections, document);
        bytes
            .first_chunk::<4>()
            .map_or(u32::MAX, |&four| u32::from_le_bytes(four))
    }

    /// Where that stands.
    pub(super) fn row_bytes<'a>(sections: &GraphSections<'a>, document: u32) -> &'a [u8] {
        sections[3].get(document as usize * 4..).unwrap_or_default()
    }
}
