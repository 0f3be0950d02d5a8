//! The shape of the vectors of one generation.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The largest dimension of a layer vector.
pub const DIMENSION_MAX: u32 = 65_536;
/// The largest number of layer vectors of one document in one generation.
pub const LAYERS_MAX: u32 = 256;
/// Rows of a plane start at multiples of this many bytes.
pub const ROW_ALIGNMENT: usize = 64;

/// The type of one component of a stored vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Element {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32: its range, eight bits of precision.
    Bf16,
    /// Whole numbers from -128 to 127.
    I8,
}

impl Element {
    /// Bytes of one component.
    pub const fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
            Element::I8 => 1,
        }
    }

    /// The code in file headers.
    pub const fn code(self) -> u32 {
        match self {
            Element::F32 => 1,
            Element::F16 => 2,
            Element::Bf16 => 3,
            Element::I8 => 4,
        }
    }

    /// The element of a code in a file header.
    pub const fn from_code(code: u32) -> Option<Element> {
        match code {
            1 => Some(Element::F32),
            2 => Some(Element::F16),
            3 => Some(Element::Bf16),
            4 => Some(Element::I8),
            _ => None,
        }
    }
}

/// What storage knows of a generation: `layers` vectors of `dimension` components a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The generation's number within its collection.
    pub generation: u32,
    /// Components of a layer vector, `D`.
    pub dimension: u32,
    /// Layer vectors of a document, `m`.
    pub layers: u32,
    /// The type of a component.
    pub element: Element,
}

impl Layout {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the dimension or the number of layers is zero or past its limit.
    pub fn check(&self) -> Result<()> {
        if self.dimension == 0 || self.dimension > DIMENSION_MAX {
            return Err(Error::Invalid {
                what: format!(
                    "the dimension must be 1 to {DIMENSION_MAX}, not {}",
                    self.dimension
                ),
            });
        }
        if self.layers == 0 || self.layers > LAYERS_MAX {
            return Err(Error::Invalid {
                what: format!(
                    "a document has 1 to {LAYERS_MAX} layer vectors, not {}",
                    self.layers
                ),
            });
        }
        Ok(())
    }

    /// Bytes of one layer vector, without padding.
    pub fn vector_bytes(&self) -> usize {
        self.dimension as usize * self.element.bytes()
    }

    /// Bytes of one document's vectors in a log record or memory chunk: `layers` vectors, layer-major, unpadded.
    pub fn document_bytes(&self) -> usize {
        self.vector_bytes() * self.layers as usize
    }

    /// Bytes from one row of a plane to the next: a vector, padded to [`ROW_ALIGNMENT`].
    pub fn stride(&self) -> usize {
        self.vector_bytes().next_multiple_of(ROW_ALIGNMENT)
    }
}
