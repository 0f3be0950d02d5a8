//! Parts: immutable sets of rows, in memory or in a segment, read in one way.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::chunk::Chunk;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::layout::Layout;
use crate::segment::{PayloadCursor, Segment};

/// An immutable set of rows. Which rows are dead is not the part's to know: a snapshot says so.
#[derive(Clone, Debug)]
pub enum Part {
    /// Rows that are in the log only.
    Memory(Arc<Chunk>),
    /// Rows in segment files.
    Segment(Arc<Segment>),
}

/// Rows of a plane: `[rows, stride]` bytes, each row a vector and zeros up to the stride.
#[derive(Clone, Copy, Debug)]
pub struct PlaneBytes<'a> {
    /// `rows * stride` bytes, starting at a multiple of 8.
    pub bytes: &'a [u8],
    /// Bytes from one row to the next, a multiple of 64.
    pub stride: usize,
    /// The number of rows.
    pub rows: u32,
}

/// What a part takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartBytes {
    /// Bytes of memory that only this part holds.
    pub memory: usize,
    /// Bytes of files.
    pub disk: u64,
}

pub(crate) fn check_row(row: u32, rows: u32) -> Result<()> {
    match row < rows {
        true => Ok(()),
        false => Err(Error::Invalid {
            what: format!("there is no row {row} in a part of {rows} rows"),
        }),
    }
}

pub(crate) fn check_layer(layer: u32, layout: &Layout) -> Result<()> {
    match layer < layout.layers {
        true => Ok(()),
        false => Err(Error::Invalid {
            what: format!(
                "generation {} has {} layers, and layer {layer} is asked for",
                layout.generation, layout.layers
            ),
        }),
    }
}

pub(crate) fn unknown_generation(generation: u32) -> Error {
    Error::Invalid {
        what: format!("a part lacks the vectors of generation {generation}"),
    }
}

/// Every reading method gives [`Error::Invalid`] for a row, layer or generation that is not there, and
/// [`Error::Corrupt`] for a damaged page of a segment.
impl Part {
    /// Whether both are one and the same part, rather than equal ones.
    pub fn is_same(&self, other: &Part) -> bool {
        match (self, other) {
            (Part::Memory(a), Part::Memory(b)) => Arc::ptr_eq(a, b),
            (Part::Segment(a), Part::Segment(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// The number of rows, dead ones included.
    pub fn rows(&self) -> u32 {
        match self {
            Part::Memory(chunk) => chunk.rows(),
            Part::Segment(segment) => segment.rows(),
        }
    }

    /// The generations whose vectors every row has.
    pub fn layouts(&self) -> &[Layout] {
        match self {
            Part::Memory(chunk) => chunk.layouts(),
            Part::Segment(segment) => segment.layouts(),
        }
    }

    /// What the part takes.
    pub fn bytes(&self) -> PartBytes {
        match self {
            Part::Memory(chunk) => PartBytes {
                memory: chunk.memory_bytes(),
                disk: 0,
            },
            Part::Segment(segment) => PartBytes {
                memory: segment.memory_bytes(),
                disk: segment.disk_bytes(),
            },
        }
    }

    /// The docid of a row.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn docid(&self, row: u32) -> Result<u64> {
        match self {
            Part::Memory(chunk) => chunk.docid(row),
            Part::Segment(segment) => segment.docid(row),
        }
    }

    /// The commit that wrote a row.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn version(&self, row: u32) -> Result<u64> {
        match self {
            Part::Memory(chunk) => chunk.version(row),
            Part::Segment(segment) => segment.version(row),
        }
    }

    /// The external id of a row.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn id(&self, row: u32) -> Result<Id> {
        match self {
            Part::Memory(chunk) => chunk.id(row),
            Part::Segment(segment) => segment.id(row),
        }
    }

    /// The external ids of several rows and the commits that wrote them, in their order; quicker than one after the
    /// other.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn ids_and_versions(&self, rows: &[u32]) -> Result<Vec<(Id, u64)>> {
        match self {
            Part::Memory(chunk) => {
                let rows = rows.iter();
                rows.map(|&row| Ok((chunk.id(row)?, chunk.version(row)?)))
                    .collect()
            }
            Part::Segment(segment) => segment.ids_and_versions(rows),
        }
    }

    /// All rows with an id, in ascending order: at most one of them is alive in any snapshot.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn find_all(&self, id: &Id) -> Result<Vec<u32>> {
        self.find_hashed(id.hash64(), id)
    }

    /// [`Part::find_all`] for a caller who has the id's [`Id::hash64`].
    ///
    /// # Errors
    /// As for all: see above.
    pub fn find_hashed(&self, hash: u64, id: &Id) -> Result<Vec<u32>> {
        match self {
            Part::Memory(chunk) => Ok(chunk.find_hashed(hash, id)),
            Part::Segment(segment) => segment.find_hashed(hash, id),
        }
    }

    /// The payload of a row.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn payload(&self, row: u32) -> Result<Cow<'_, [u8]>> {
        match self {
            Part::Memory(chunk) => Ok(Cow::Borrowed(chunk.payload(row)?)),
            Part::Segment(segment) => {
                let mut cursor = PayloadCursor::default();
                Ok(Cow::Owned(segment.payload(row, &mut cursor)?.to_vec()))
            }
        }
    }

    /// The payload of a row, for callers who read many: neighbouring rows are unpacked together.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn payload_with<'a>(&'a self, row: u32, cursor: &'a mut PayloadCursor) -> Result<&'a [u8]> {
        match self {
            Part::Memory(chunk) => chunk.payload(row),
            Part::Segment(segment) => segment.payload(row, cursor),
        }
    }

    /// A whole plane `[n, stride]`.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn plane(&self, generation: u32, layer: u32) -> Result<PlaneBytes<'_>> {
        self.plane_rows(generation, layer, 0..self.rows())
    }

    /// A range of rows of a plane, for callers who scan in tiles and want each page checked while it is warm.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn plane_rows(&self, generation: u32, layer: u32, rows: Range<u32>) -> Result<PlaneBytes<'_>> {
        match self {
            Part::Memory(chunk) => chunk.plane(generation, layer, rows),
            Part::Segment(segment) => segment.plane(generation, layer, rows),
        }
    }

    /// A whole plane of which a caller will touch few rows: pages are not checked. Before it reads rows it
    /// asks [`Part::plane_rows`] for them, which checks theirs.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown generation or layer.
    pub fn unchecked_plane(&self, generation: u32, layer: u32) -> Result<PlaneBytes<'_>> {
        match self {
            Part::Memory(chunk) => chunk.plane(generation, layer, 0..self.rows()),
            Part::Segment(segment) => segment.unchecked_plane(generation, layer),
        }
    }

    /// One layer vector, without its padding.
    ///
    /// # Errors
    /// As for all: see above.
    pub fn vector(&self, generation: u32, layer: u32, row: u32) -> Result<&[u8]> {
        match self {
            Part::Memory(chunk) => chunk.vector(generation, layer, row),
            Part::Segment(segment) => segment.vector(generation, layer, row),
        }
    }

    pub(crate) fn id_bytes(&self, row: u32) -> Result<&[u8]> {
        match self {
            Part::Memory(chunk) => chunk.id_bytes(row),
            Part::Segment(segment) => segment.id_bytes(row),
        }
    }

    /// The hash and the row at a place of the table of ids, which is sorted.
    pub(crate) fn hash_at(&self, place: u32) -> Result<(u64, u32)> {
        match self {
            Part::Memory(chunk) => chunk.hash_at(place),
            Part::Segment(segment) => segment.hash_at(place),
        }
    }
}

impl PlaneBytes<'_> {
    /// One row with its padding; `None` past the end.
    pub fn row(&self, row: u32) -> Option<&[u8]> {
        let start = row as usize * self.stride;
        self.bytes.get(start..start + self.stride)
    }
}
