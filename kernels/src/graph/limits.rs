//! When a walk ends, and what it keeps.

/// How wide a walk is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Documents that are kept at most.
    pub width: usize,
    /// Documents that are asked for: the last of them is what others must come near to.
    pub rank: usize,
    /// How near: nodes further from the query than so many times that one are neither kept nor left.
    pub reach: f32,
}

impl Limits {
    /// The best `width` documents, however far apart they are.
    pub fn width(width: usize) -> Limits {
        Limits {
            width,
            rank: width,
            reach: f32::INFINITY,
        }
    }

    /// For a walk in one of several layers, that finds where to go on from.
    pub fn narrow(&self, layers: usize) -> Limits {
        let width = (self.width.saturating_mul(3) / (2 * layers)).max(ALONE);
        Limits {
            width,
            rank: self.rank.min(width),
            reach: self.reach,
        }
    }
}

/// Documents that a walk in one layer keeps at least.
const ALONE: usize = 8;
