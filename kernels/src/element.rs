//! How one component of a stored vector lies in memory.

/// The element type of a plane. All are little-endian, and each converts to f32 without rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Element {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// A signed byte; its value is the integer itself.
    I8,
}

impl Element {
    /// Every element type.
    pub const ALL: [Element; 4] = [Element::F32, Element::F16, Element::Bf16, Element::I8];

    /// The bytes of one component.
    pub const fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
            Element::I8 => 1,
        }
    }
}
