//! Compact codes of a plane, kept beside it, by which a search skips nearly all full vectors.
//!
//! A stored vector `d` is coded as its residual `r = d − μ` about the mean `μ` of its plane: one
//! scale `S` a row and eight bits `c = 16 h + l` a component, so that `r ≈ S/16 · (c − 127.5)`. The
//! high halves `h` alone say `r ≈ S · (h − 7.5)`. The halves are kept apart: a search reads all high
//! halves (an eighth of the bytes of f32), the low halves of the few rows that these cannot exclude,
//! and the full vectors of the few that remain. What each half leaves over is stored as a norm, and
//! with it every exclusion is proved (`query.rs` holds the proof), so the answer is exact.
//!
//! Where there are many rows and part of the directions hold most of their variance, residuals are first turned so that
//! these directions come first (`turn.rs`): the high halves of the first `H` components, the *head*, are read of all rows, and
//! those of the others with the low halves, of the rows that remain.
//!
//! The bytes come as [`Section`]s, in the form in which a file can hold and map them: [`ScanCodes::build`] makes them,
//! [`Codes::new`] borrows them back, and [`Options::codes`](crate::Options::codes) searches with them.

use crate::dispatch::prefetch;
use crate::{Error, MAX_DIMENSION, Plane};

mod build;
mod frame;
mod head;
mod query;
mod turn;

pub use frame::{Frame, Survey};
pub(crate) use query::{Finer, Loose, QueryCodes};
use turn::Turn;

/// Rows whose high halves are interleaved, one 32-bit lane each.
pub(crate) const LANES: usize = 16;

/// Rows that share a largest norm, and that a search treats together.
pub(crate) const GROUP: usize = 128;

/// Components in one step of a code: four low nibbles, four high ones, in four bytes.
const STEP: usize = 8;

/// One stretch of bytes of the codes of a plane. All numbers are little-endian. `H` is `D` where vectors are not turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// `[D]` f32: the mean `μ`.
    Mean,
    /// `[⌈n / 128⌉]` f32: an upper bound of the largest `‖r‖` of each 128 rows.
    Norms,
    /// `[⌈n / 16⌉][3][16]` f32: for sixteen rows their `S`, and upper bounds of `ε` and `ν` by the high halves of the head.
    HighFactors,
    /// `[⌈n / 16⌉][⌈H / 8⌉][16][4]` bytes: for sixteen rows and eight components at a time, four
    /// bytes a row; byte `b` holds `h` of component `b` below and of component `4 + b` above.
    High,
    /// `[n][2]` f32: upper bounds of `ε` and `ν` by both halves of all components.
    LowFactors,
    /// `[n]` rows of `⌈D / 8⌉ × 4` bytes, padded to a multiple of 64: `l`, as in `High`; then of `⌈(D − H) / 8⌉ × 4`, padded
    /// alike: `h` of the components behind the head.
    Low,
    /// Empty, or the u32 `H` and `[D, D]` f32, a direction a row.
    Turn,
    /// Empty, or `[⌈n / 16⌉][16]` f32: an upper bound of the length of what is behind the head.
    Tails,
}

impl Section {
    /// Every section, in the order in which [`Codes::new`] takes them.
    pub const ALL: [Section; 8] = [
        Section::Mean,
        Section::Norms,
        Section::HighFactors,
        Section::High,
        Section::LowFactors,
        Section::Low,
        Section::Turn,
        Section::Tails,
    ];

    /// The bytes of this section for `rows` vectors of `dimension`, of which searches scan `head` components: all of them
    /// where vectors are not turned. `None` if that overflows or there are no such vectors.
    pub fn bytes(self, rows: usize, dimension: usize, head: usize) -> Option<usize> {
        let shape = Shape {
            rows,
            dimension,
            head,
        };
        shape.bytes(self)
    }
}

/// How large the codes of a plane are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    rows: usize,
    dimension: usize,
    /// Components that a search scans; fewer than the dimension only where vectors are turned.
    head: usize,
}

impl Shape {
    fn is_turned(&self) -> bool {
        self.head < self.dimension
    }

    fn bytes(&self, section: Section) -> Option<usize> {
        if self.dimension > MAX_DIMENSION || self.head > self.dimension {
            return None;
        }
        let blocks = self.rows.div_ceil(LANES);
        match section {
            Section::Mean => self.dimension.checked_mul(4),
            Section::Norms => self.rows.div_ceil(GROUP).checked_mul(4),
            Section::HighFactors => blocks.checked_mul(3 * LANES * 4),
            Section::High => blocks.checked_mul(self.high_block()),
            Section::LowFactors => self.rows.checked_mul(8),
            Section::Low => self.rows.checked_mul(self.low_row()),
            Section::Turn if self.is_turned() => Turn::bytes(self.dimension),
            Section::Tails if self.is_turned() => blocks.checked_mul(LANES * 4),
            Section::Turn | Section::Tails => Some(0),
        }
    }

    /// The bytes of the high halves of sixteen heads.
    #[inline]
    fn high_block(&self) -> usize {
        self.head.div_ceil(STEP) * 4 * LANES
    }

    /// The bytes of a row's low halves, and of its high ones behind the head.
    #[inline]
    fn low_row(&self) -> usize {
        half_row(self.dimension) + half_row(self.dimension.saturating_sub(self.head))
    }
}

/// The bytes of one half of so many components of a row; also the length of either half of a coded query.
fn half_row(dimension: usize) -> usize {
    (dimension.div_ceil(STEP) * 4).next_multiple_of(64)
}

/// Codes of one plane, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanCodes {
    shape: Shape,
    sections: [Vec<u8>; Section::ALL.len()],
}

impl ScanCodes {
    /// Codes every row of `plane`. Inside a rayon pool its threads share the work; the result is the
    /// same. Takes about the memory of the codes, `n × (D + 24)` bytes and what rows are padded with, and that of 4,096 rows
    /// in f32 where they may be turned.
    ///
    /// A row that cannot be coded (not finite, or longer than 10¹⁸) is marked so that every search
    /// looks at its full vector.
    pub fn build(plane: &Plane) -> ScanCodes {
        build::build(plane)
    }

    /// The same about a given frame, so that a large plane can be coded a piece at a time: where
    /// pieces are whole multiples of 128 rows, their sections (all but the mean and the directions, which are the frame's)
    /// one after the other are those of the whole.
    ///
    /// # Errors
    /// [`Error::CodesLength`] when the frame is not of the plane's dimension.
    pub fn build_about(plane: &Plane, frame: &Frame) -> Result<ScanCodes, Error> {
        if frame.mean().len() != plane.dimension() {
            return Err(Error::CodesLength {
                section: Section::Mean,
                expected: plane.dimension() * 4,
                got: frame.mean().len() * 4,
            });
        }
        Ok(build::build_about(plane, frame))
    }

    /// The bytes of one section.
    pub fn section(&self, section: Section) -> &[u8] {
        &self.sections[section as usize]
    }

    /// All of it, borrowed.
    pub fn view(&self) -> Codes<'_> {
        Codes {
            shape: self.shape,
            sections: self.sections.each_ref().map(Vec::as_slice),
        }
    }
}

/// Codes of one plane, borrowed from memory or from a mapped file, at any alignment.
#[derive(Debug, Clone, Copy)]
pub struct Codes<'a> {
    shape: Shape,
    sections: [&'a [u8]; Section::ALL.len()],
}

impl<'a> Codes<'a> {
    /// Codes of `rows` vectors of `dimension` over `sections`, in the order of [`Section::ALL`]; the last two are empty
    /// where vectors are not turned.
    ///
    /// Whatever the bytes are, a search reads nothing outside of them; but only the codes of the very
    /// plane that is searched give exact answers. The caller's checksums see to that, or
    /// [`Codes::verify`] does.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::TooManyRows`], [`Error::CodesHead`] when the directions tell of a head that is not a
    /// multiple of eight below the dimension, and [`Error::CodesLength`] when a section is not of the length that [`Section::bytes`] says.
    pub fn new(
        rows: usize,
        dimension: usize,
        sections: [&'a [u8]; Section::ALL.len()],
    ) -> Result<Self, Error> {
        if dimension == 0 || dimension > MAX_DIMENSION {
            return Err(Error::Dimension {
                dimension,
                limit: MAX_DIMENSION,
            });
        }
        if rows > u32::MAX as usize {
            return Err(Error::TooManyRows { rows });
        }
        let head = match Turn::head_of(sections[Section::Turn as usize]) {
            None => dimension,
            Some(head) => match usize::try_from(head) {
                Ok(head) if (1..dimension).contains(&head) && head.is_multiple_of(STEP) => head,
                _ => return Err(Error::CodesHead { dimension, head }),
            },
        };
        let shape = Shape {
            rows,
            dimension,
            head,
        };
        for (section, bytes) in Section::ALL.into_iter().zip(sections) {
            let expected = shape.bytes(section).unwrap_or(usize::MAX);
            if bytes.len() != expected {
                return Err(Error::CodesLength {
                    section,
                    expected,
                    got: bytes.len(),
                });
            }
        }
        Ok(Codes { shape, sections })
    }

    /// The number of vectors coded.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// The components of each vector.
    pub fn dimension(&self) -> usize {
        self.shape.dimension
    }

    /// Components that a search scans for every row: all, or fewer where vectors are turned.
    pub fn head(&self) -> usize {
        self.shape.head
    }

    /// Whether these are the codes that are made of `plane` about their own mean and directions, which may be any: reads all
    /// of both.
    ///
    /// # Errors
    /// [`Error::CodesShape`] when they describe another shape, [`Error::CodesDiffer`] with the first
    /// section that is not as it should be.
    pub fn verify(&self, plane: &Plane) -> Result<(), Error> {
        self.check_shape(0, plane)?;
        let frame = Frame::new(self.mean(), self.turn().map(Turn::into_owned));
        let expected = ScanCodes::build_about(plane, &frame)?;
        for section in Section::ALL {
            if expected.section(section) != self.section(section) {
                return Err(Error::CodesDiffer { section });
            }
        }
        Ok(())
    }

    pub(crate) fn check_shape(&self, plane: usize, of: &Plane) -> Result<(), Error> {
        let Shape { rows, dimension, .. } = self.shape;
        if (rows, dimension) != (of.rows(), of.dimension()) {
            return Err(Error::CodesShape {
                plane,
                expected: [of.rows(), of.dimension()],
                got: [rows, dimension],
            });
        }
        Ok(())
    }

    /// The bytes of one section.
    #[inline]
    pub fn section(&self, section: Section) -> &'a [u8] {
        self.sections[section as usize]
    }

    /// The mean, `[D]`.
    pub fn mean(&self) -> Vec<f32> {
        floats(self.section(Section::Mean)).collect()
    }

    /// An upper bound of `‖r‖` for 128 rows.
    pub(crate) fn norm(&self, group: usize) -> f32 {
        float(self.section(Section::Norms), group)
    }

    /// The directions of turned vectors.
    fn turn(&self) -> Option<Turn<'a>> {
        let Shape { dimension, head, .. } = self.shape;
        let turn = || Turn::from_bytes(self.section(Section::Turn), dimension, head);
        self.shape.is_turned().then(turn)
    }

    /// The bytes of sixteen rows that a search reads of all of them.
    #[inline]
    pub(crate) fn block_bytes(&self) -> usize {
        let tails = usize::from(self.shape.is_turned()) * LANES * 4;
        self.shape.high_block() + 3 * LANES * 4 + tails
    }

    /// Factors and high halves of sixteen rows.
    #[inline]
    pub(crate) fn high(&self, block: usize) -> Block<'a> {
        let factors = 3 * LANES * 4;
        let bytes = self.shape.high_block();
        Block {
            factors: &self.section(Section::HighFactors)[block * factors..][..factors],
            tails: match self.section(Section::Tails) {
                [] => &[0; LANES * 4],
                tails => &tails[block * LANES * 4..][..LANES * 4],
            },
            codes: &self.section(Section::High)[block * bytes..][..bytes],
        }
    }

    /// Tells the processor that the factors of sixteen rows will be wanted, if there are such rows.
    #[inline]
    pub(crate) fn prefetch_factors(&self, block: usize) {
        let factors = 3 * LANES * 4;
        for (section, bytes) in [(Section::HighFactors, factors), (Section::Tails, LANES * 4)] {
            if let Some(bytes) = self
                .section(section)
                .get(block * bytes..)
                .and_then(|rest| rest.get(..bytes))
            {
                prefetch(bytes);
            }
        }
    }

    /// The scale `S` of a row.
    #[inline]
    pub(crate) fn scale(&self, row: usize) -> f32 {
        float(
            self.section(Section::HighFactors),
            row / LANES * 3 * LANES + row % LANES,
        )
    }

    /// The two low factors of a row, its low halves, and the high ones behind the head.
    #[inline]
    pub(crate) fn low(&self, row: usize) -> ([f32; 2], [&'a [u8]; 2]) {
        let factors = self.section(Section::LowFactors);
        let (low, rest) = self.low_of(row).split_at(half_row(self.shape.dimension));
        (
            [float(factors, 2 * row), float(factors, 2 * row + 1)],
            [low, rest],
        )
    }

    #[inline]
    fn low_of(&self, row: usize) -> &'a [u8] {
        let bytes = self.shape.low_row();
        &self.section(Section::Low)[row * bytes..][..bytes]
    }

    /// Tells the processor that [`Codes::low`] of a row will be wanted.
    #[inline]
    pub(crate) fn prefetch_low(&self, row: usize) {
        prefetch(self.low_of(row));
        prefetch(&self.section(Section::LowFactors)[8 * row..][..8]);
    }
}

/// Codes of sixteen rows.
pub(crate) struct Block<'a> {
    /// `[3][16]` f32: `S`, `ε`, `ν`.
    pub factors: &'a [u8],
    /// `[16]` f32: `τ`, zeros where vectors are not turned.
    pub tails: &'a [u8],
    /// `[steps][16][4]`: the high halves of heads.
    pub codes: &'a [u8],
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b))
}

fn float(bytes: &[u8], at: usize) -> f32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[4 * at..4 * at + 4]);
    f32::from_le_bytes(four)
}
