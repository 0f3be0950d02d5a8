//! A borrowed matrix of stored vectors: one layer of many documents.

use crate::{Element, Error, MAX_DIMENSION};

/// One layer's vectors, shape `[rows, dimension]`, borrowed from memory or from a mapped file.
///
/// Row `i` starts at byte `i × stride`. Neither the buffer nor the stride need be aligned; rows
/// that start on a cache line are read a little quicker. Bytes between rows are never looked at.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    bytes: &'a [u8],
    rows: usize,
    dimension: usize,
    stride: usize,
    element: Element,
}

impl<'a> Plane<'a> {
    /// A plane of `rows` vectors over `bytes`, `stride` bytes apart.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::Stride`], [`Error::TooManyRows`] and [`Error::PlaneLength`]
    /// when the shape is not one that `bytes` can hold. The last row needs no padding behind it.
    pub fn new(
        bytes: &'a [u8],
        rows: usize,
        dimension: usize,
        stride: usize,
        element: Element,
    ) -> Result<Self, Error> {
        if dimension == 0 || dimension > MAX_DIMENSION {
            return Err(Error::Dimension {
                dimension,
                limit: MAX_DIMENSION,
            });
        }
        let row_bytes = dimension * element.size();
        if stride < row_bytes {
            return Err(Error::Stride {
                stride,
                needed: row_bytes,
            });
        }
        if rows > u32::MAX as usize {
            return Err(Error::TooManyRows { rows });
        }
        let needed = match rows.checked_sub(1) {
            None => 0,
            Some(before) => before
                .checked_mul(stride)
                .and_then(|start| start.checked_add(row_bytes))
                .unwrap_or(usize::MAX),
        };
        if needed > bytes.len() {
            return Err(Error::PlaneLength {
                rows,
                needed,
                got: bytes.len(),
            });
        }
        Ok(Plane {
            bytes,
            rows,
            dimension,
            stride,
            element,
        })
    }

    /// A plane over `values`, shape `[rows, dimension]`, row after row without gaps.
    ///
    /// # Errors
    /// As [`Plane::new`]; [`Error::RowLength`] when `values` is no whole number of rows.
    pub fn from_f32(values: &'a [f32], dimension: usize) -> Result<Self, Error> {
        if dimension == 0 || dimension > MAX_DIMENSION {
            return Err(Error::Dimension {
                dimension,
                limit: MAX_DIMENSION,
            });
        }
        if !values.len().is_multiple_of(dimension) {
            return Err(Error::RowLength {
                expected: dimension * 4,
                got: values.len() % dimension * 4,
            });
        }
        let rows = values.len() / dimension;
        Plane::new(
            bytemuck::cast_slice(values),
            rows,
            dimension,
            dimension * 4,
            Element::F32,
        )
    }

    /// The number of vectors.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The components of each vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The distance between two rows, in bytes.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// How a component is stored.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The bytes of one row, without padding; `None` past the end.
    pub fn row(&self, row: usize) -> Option<&'a [u8]> {
        (row < self.rows).then(|| self.row_bytes(row))
    }

    /// As [`Plane::row`], for a row known to exist.
    #[inline]
    pub(crate) fn row_bytes(&self, row: usize) -> &'a [u8] {
        let start = row * self.stride;
        &self.bytes[start..start + self.dimension * self.element.size()]
    }
}
