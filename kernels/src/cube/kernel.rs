//! Which kernel scores a batch on a device, and in which order.

use super::bound::Sums;
use super::shape::{RowShape, Shape};

/// The most queries that the row kernel takes.
pub(crate) const FEW: usize = 8;

/// What a device offers, and what tests turn down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ability {
    /// Units that execute together.
    pub plane: usize,
    /// Cubes that the device runs at once.
    pub cubes: usize,
    /// Units of a cube that selects.
    pub units: usize,
    /// Bytes of shared memory that a cube can have.
    pub shared: usize,
    /// m16n8k16 products of f16 and bf16, and `ldmatrix`.
    pub tensor: bool,
    /// The least room for candidates, a query.
    pub candidates: usize,
    /// Never the row kernel.
    pub tiles_only: bool,
    /// Parts are there in int8 too, and are searched through these.
    pub codes: bool,
}

/// Which kernel scores.
#[derive(Clone, Copy)]
pub(crate) enum Kernel {
    Tiles(Shape),
    Rows(RowShape),
}

impl Kernel {
    /// For `count` queries and rows of `width` vectors, of halves or of codes.
    pub fn choose(count: usize, width: usize, masked: bool, coded: bool, ability: &Ability) -> Kernel {
        if count <= FEW && !coded && !ability.tiles_only {
            return Kernel::Rows(RowShape::new(ability.plane, count.next_power_of_two(), masked));
        }
        Kernel::Tiles(if ability.tensor {
            Shape::tensor(count, width, masked, coded, ability.shared)
        } else {
            Shape::plain(ability.plane, masked, coded)
        })
    }

    pub fn documents(self) -> usize {
        match self {
            Kernel::Tiles(shape) => shape.documents(),
            Kernel::Rows(shape) => shape.documents,
        }
    }

    /// How often a document can be among a query's candidates, of a search of so many layers.
    pub fn entries(self, layers: usize) -> usize {
        match self {
            Kernel::Tiles(_) => layers,
            Kernel::Rows(_) => 1,
        }
    }

    /// Queries with those that only fill a block.
    pub fn padded(self, count: usize) -> usize {
        match self {
            Kernel::Tiles(shape) => count.next_multiple_of(shape.queries()),
            Kernel::Rows(shape) => shape.queries,
        }
    }

    pub fn sums(self) -> Sums {
        match self {
            Kernel::Tiles(shape) if shape.tensor => Sums::Tensor,
            _ => Sums::Plain,
        }
    }
}

/// A step that visits all of `tiles` before it comes back, near the golden section of them.
pub(crate) fn step(tiles: usize) -> usize {
    let divides = |a: usize, b: usize| {
        let (mut a, mut b) = (a, b);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut step = (tiles * 619 / 1000).max(1);
    while divides(step, tiles) != 1 {
        step += 1;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn steps_visit_every_tile() {
        for tiles in [1, 2, 3, 4, 6, 12, 97, 100, 1000, 1024, 7813] {
            let step = step(tiles);
            let mut seen = vec![false; tiles];
            for i in 0..tiles {
                seen[i * step % tiles] = true;
            }
            assert!(seen.iter().all(|&seen| seen), "{tiles}");
        }
    }
}
