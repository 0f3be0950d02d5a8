//! The approximate index: a graph beside each large segment, made in the background from what the segment holds.
//!
//! An index is a companion of its segment (`segments/<number>-g<generation>.graph`): nothing depends on it. A
//! segment without one, a small one and rows in memory are scanned exactly, so a committed document can always be
//! found. All rows of a segment are in its graph; which are alive, and pass a filter, is a mask at the search.

mod build;
mod curve;
mod keeper;
mod opened;
mod recall;

pub use build::{IndexBuild, IndexProgress, IndexReport};
pub use recall::{Recall, RecallAt, RecallSample};

pub(crate) use keeper::Keeper;
pub(crate) use opened::Graphs;

use stratal_kernels::Plane;
use stratal_storage::{CompanionKind, Layout, Segment};

use crate::{Element, Error, Result};

/// Segments with fewer rows go without an index: scanning them takes about as long as walking it.
const ROWS_MIN: u32 = 4096;

/// Shorter vectors go without an index: there is little to save, and codes of few components tell them apart badly.
const DIMENSION_MIN: u32 = 16;

/// Whether a segment gains from an index.
pub(crate) fn is_worth_while(segment: &Segment, layout: &Layout) -> bool {
    segment.rows() >= ROWS_MIN && layout.dimension >= DIMENSION_MIN
}

/// The make of what is written; others are left out and made again.
const VERSION: u32 = 6;

/// The section with the curve; the graph's own come before, in the order of `GraphSection::ALL`, from 1.
const CURVE: u32 = 10;

fn companion_of(layout: &Layout) -> CompanionKind {
    CompanionKind::Graph {
        generation: layout.generation,
    }
}

/// All layers of a segment.
fn planes<'a>(segment: &'a Segment, layout: &Layout) -> Result<Vec<Plane<'a>>> {
    let element = element(layout.element)?;
    (0..layout.layers)
        .map(|layer| {
            let plane = segment.plane(layout.generation, layer, 0..segment.rows())?;
            let (rows, dimension) = (plane.rows as usize, layout.dimension as usize);
            Ok(Plane::new(plane.bytes, rows, dimension, plane.stride, element)?)
        })
        .collect()
}

/// How the kernels call a type of components.
pub(crate) fn element(element: Element) -> Result<stratal_kernels::Element> {
    match element {
        Element::F32 => Ok(stratal_kernels::Element::F32),
        Element::F16 => Ok(stratal_kernels::Element::F16),
        Element::Bf16 => Ok(stratal_kernels::Element::Bf16),
        Element::I8 => Ok(stratal_kernels::Element::I8),
        other => Err(Error::Invalid {
            what: format!("this build cannot search elements of {other:?}"),
        }),
    }
}
