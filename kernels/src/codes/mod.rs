//! Compact codes of a plane, kept beside it, by which a search skips nearly all full vectors.
//!
//! A stored vector `d` is coded as its residual `r = d − μ` about the mean `μ` of its plane: one
//! scale `S` a row and eight bits `c = 16 h + l` a component, so that `r ≈ S/16 · (c − 127.5)`. The
//! high halves `h` alone say `r ≈ S · (h − 7.5)`. The halves are kept apart: a search reads all high
//! halves (an eighth of the bytes of f32), the low halves of the few rows that these cannot exclude,
//! and the full vectors of the few that remain. What each half leaves over is stored as a norm, and
//! with it every exclusion is proved (`query.rs` holds the proof), so the answer is exact.
//!
//! The bytes come as [`Section`]s, each of a length that follows from rows and dimension alone, in
//! the form in which a file can hold and map them: [`ScanCodes::build`] makes them, [`Codes::new`]
//! borrows them back, and [`Options::codes`](crate::Options::codes) searches with them.

use crate::dispatch::prefetch;
use crate::{Error, MAX_DIMENSION, Plane};

mod build;
mod mean;
mod query;

pub use mean::Mean;
pub(crate) use query::{Loose, QueryCodes};

/// Rows whose high halves are interleaved, one 32-bit lane each.
pub(crate) const LANES: usize = 16;

/// Rows that share a largest norm, and that a search treats together.
pub(crate) const GROUP: usize = 128;

/// Components in one step of a code: four low nibbles, four high ones, in four bytes.
const STEP: usize = 8;

/// One stretch of bytes of the codes of a plane. All numbers are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// `[D]` f32: the mean `μ`.
    Mean,
    /// `[⌈n / 128⌉]` f32: an upper bound of the largest `‖r‖` of each 128 rows.
    Norms,
    /// `[⌈n / 16⌉][3][16]` f32: for sixteen rows their `S`, upper bounds of `‖r − S (h − 7.5)‖`, and
    /// of `‖S (h − 7.5)‖`.
    HighFactors,
    /// `[⌈n / 16⌉][⌈D / 8⌉][16][4]` bytes: for sixteen rows and eight components at a time, four
    /// bytes a row; byte `b` holds `h` of component `b` below and of component `4 + b` above.
    High,
    /// `[n][2]` f32: upper bounds of `‖r − S/16 (c − 127.5)‖` and of `‖S/16 (c − 127.5)‖`.
    LowFactors,
    /// `[n]` rows of `⌈D / 8⌉ × 4` bytes, padded to a multiple of 64: `l`, as in `High`.
    Low,
}

impl Section {
    /// Every section, in the order in which [`Codes::new`] takes them.
    pub const ALL: [Section; 6] = [
        Section::Mean,
        Section::Norms,
        Section::HighFactors,
        Section::High,
        Section::LowFactors,
        Section::Low,
    ];

    /// The bytes of this section for `rows` vectors of `dimension`; `None` if that overflows.
    pub fn bytes(self, rows: usize, dimension: usize) -> Option<usize> {
        let blocks = rows.div_ceil(LANES);
        match self {
            Section::Mean => dimension.checked_mul(4),
            Section::Norms => rows.div_ceil(GROUP).checked_mul(4),
            Section::HighFactors => blocks.checked_mul(3 * LANES * 4),
            Section::High => blocks.checked_mul(high_block(dimension)),
            Section::LowFactors => rows.checked_mul(8),
            Section::Low => rows.checked_mul(low_row(dimension)),
        }
    }
}

/// The bytes of the high halves of sixteen rows.
pub(crate) fn high_block(dimension: usize) -> usize {
    dimension.div_ceil(STEP) * 4 * LANES
}

/// The bytes of the low halves of one row; also the length of either half of a coded query.
pub(crate) fn low_row(dimension: usize) -> usize {
    (dimension.div_ceil(STEP) * 4).next_multiple_of(64)
}

/// Codes of one plane, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanCodes {
    rows: usize,
    dimension: usize,
    sections: [Vec<u8>; 6],
}

impl ScanCodes {
    /// Codes every row of `plane`. Inside a rayon pool its threads share the work; the result is the
    /// same. Takes about the memory of the codes: `n × (D + 20)` bytes and a little padding.
    ///
    /// A row that cannot be coded (not finite, or longer than 10¹⁸) is marked so that every search
    /// looks at its full vector.
    pub fn build(plane: &Plane) -> ScanCodes {
        build::build(plane)
    }

    /// The same about a given mean, `[D]`, so that a large plane can be coded a piece at a time: where
    /// pieces are whole multiples of 128 rows, their sections (all but the mean) one after the other
    /// are those of the whole.
    ///
    /// # Errors
    /// [`Error::CodesLength`] when the mean is not of the plane's dimension.
    pub fn build_about(plane: &Plane, mean: &[f32]) -> Result<ScanCodes, Error> {
        if mean.len() != plane.dimension() {
            return Err(Error::CodesLength {
                section: Section::Mean,
                expected: plane.dimension() * 4,
                got: mean.len() * 4,
            });
        }
        Ok(build::build_about(plane, mean))
    }

    /// The bytes of one section.
    pub fn section(&self, section: Section) -> &[u8] {
        &self.sections[section as usize]
    }

    /// All of it, borrowed.
    pub fn view(&self) -> Codes<'_> {
        Codes {
            rows: self.rows,
            dimension: self.dimension,
            sections: self.sections.each_ref().map(Vec::as_slice),
        }
    }
}

/// Codes of one plane, borrowed from memory or from a mapped file, at any alignment.
#[derive(Debug, Clone, Copy)]
pub struct Codes<'a> {
    pub(crate) rows: usize,
    pub(crate) dimension: usize,
    sections: [&'a [u8]; 6],
}

impl<'a> Codes<'a> {
    /// Codes of `rows` vectors of `dimension` over `sections`, in the order of [`Section::ALL`].
    ///
    /// Whatever the bytes are, a search reads nothing outside of them; but only the codes of the very
    /// plane that is searched give exact answers. The caller's checksums see to that, or
    /// [`Codes::verify`] does.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::TooManyRows`], and [`Error::CodesLength`] when a section is not
    /// of the length that [`Section::bytes`] says.
    pub fn new(rows: usize, dimension: usize, sections: [&'a [u8]; 6]) -> Result<Self, Error> {
        if dimension == 0 || dimension > MAX_DIMENSION {
            return Err(Error::Dimension {
                dimension,
                limit: MAX_DIMENSION,
            });
        }
        if rows > u32::MAX as usize {
            return Err(Error::TooManyRows { rows });
        }
        for (section, bytes) in Section::ALL.into_iter().zip(sections) {
            let expected = section.bytes(rows, dimension).unwrap_or(usize::MAX);
            if bytes.len() != expected {
                return Err(Error::CodesLength {
                    section,
                    expected,
                    got: bytes.len(),
                });
            }
        }
        Ok(Codes {
            rows,
            dimension,
            sections,
        })
    }

    /// The number of vectors coded.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The components of each vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Whether these are the codes that [`ScanCodes::build`] makes of `plane`: reads all of both.
    ///
    /// # Errors
    /// [`Error::CodesShape`] when they describe another shape, [`Error::CodesDiffer`] with the first
    /// section that is not as it should be.
    pub fn verify(&self, plane: &Plane) -> Result<(), Error> {
        self.check_shape(0, plane)?;
        let expected = ScanCodes::build(plane);
        for section in Section::ALL {
            if expected.section(section) != self.section(section) {
                return Err(Error::CodesDiffer { section });
            }
        }
        Ok(())
    }

    pub(crate) fn check_shape(&self, plane: usize, of: &Plane) -> Result<(), Error> {
        if (self.rows, self.dimension) != (of.rows(), of.dimension()) {
            return Err(Error::CodesShape {
                plane,
                expected: [of.rows(), of.dimension()],
                got: [self.rows, self.dimension],
            });
        }
        Ok(())
    }

    /// The bytes of one section.
    pub fn section(&self, section: Section) -> &'a [u8] {
        self.sections[section as usize]
    }

    pub(crate) fn mean(&self) -> Vec<f32> {
        floats(self.section(Section::Mean)).collect()
    }

    /// An upper bound of `‖r‖` for 128 rows.
    pub(crate) fn norm(&self, group: usize) -> f32 {
        float(self.section(Section::Norms), group)
    }

    /// Factors and high halves of sixteen rows.
    pub(crate) fn high(&self, block: usize) -> (&'a [u8], &'a [u8]) {
        let factors = 3 * LANES * 4;
        let bytes = high_block(self.dimension);
        (
            &self.section(Section::HighFactors)[block * factors..][..factors],
            &self.section(Section::High)[block * bytes..][..bytes],
        )
    }

    /// The scale `S` of a row.
    pub(crate) fn scale(&self, row: usize) -> f32 {
        float(
            self.section(Section::HighFactors),
            row / LANES * 3 * LANES + row % LANES,
        )
    }

    /// The two low factors of a row, and its low halves.
    pub(crate) fn low(&self, row: usize) -> ([f32; 2], &'a [u8]) {
        let factors = self.section(Section::LowFactors);
        let bytes = low_row(self.dimension);
        (
            [float(factors, 2 * row), float(factors, 2 * row + 1)],
            &self.section(Section::Low)[row * bytes..][..bytes],
        )
    }

    /// Tells the processor that [`Codes::low`] of a row will be wanted.
    pub(crate) fn prefetch_low(&self, row: usize) {
        let bytes = low_row(self.dimension);
        prefetch(&self.section(Section::Low)[row * bytes..][..bytes]);
        prefetch(&self.section(Section::LowFactors)[8 * row..][..8]);
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b))
}

fn float(bytes: &[u8], at: usize) -> f32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[4 * at..4 * at + 4]);
    f32::from_le_bytes(four)
}
