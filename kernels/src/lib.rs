//! Maximum inner products over stored layer vectors: exact, on plain slices, without a database.
//!
//! `score[q, n] = max over planes of <query[q], plane[n]>`, and the best k rows for each query.
//! A [`Plane`] borrows vectors of one layer (f32, f16, bf16 or int8) from memory or from a mapped
//! file; [`max_inner_product`] searches any number of them for any number of queries:
//!
//! ```
//! use stratal_kernels::{Options, Plane, max_inner_product};
//! // Three documents, two layers of dimension 2.
//! let first = [1.0, 0.0, 0.0, 1.0, 0.6, 0.8];
//! let second = [0.0, 1.0, 0.0, 0.5, 0.0, 0.0];
//! let planes = [Plane::from_f32(&first, 2)?, Plane::from_f32(&second, 2)?];
//! let found = max_inner_product(&[0.0, 1.0], 2, &planes, &Options::new(2))?;
//! let rows: Vec<u32> = found[0].iter().map(|c| c.row).collect();
//! assert_eq!(rows, [0, 1]); // both score 1.0
//! # Ok::<(), stratal_kernels::Error>(())
//! ```
//!
//! **Exact** means: the scores are the inner products of the stored values in f64, summed in the one
//! order that [`inner_product`] states, and the answer is the one that a full sort by score, then by
//! the caller's order, would give. Vectors are read and multiplied in f32 first, and a rigorous bound
//! on the rounding error (the module `bound` holds the proof) tells which rows need the f64 score;
//! so the instruction set ([`Instructions`]), the number of threads and the size of a batch never
//! change an answer.
//!
//! **Scan codes** make a search read an eighth of the bytes or less, and change nothing else. They are built
//! once for a plane, kept in memory or in a file beside it ([`Section`] gives the layout), and handed
//! to the same call; the module `codes` tells how they work, and its `query` holds the proof:
//!
//! ```
//! use stratal_kernels::{Codes, Counters, Options, Plane, ScanCodes, Section, max_inner_product};
//! let vectors: Vec<f32> = (0..3000 * 8).map(|i| ((i * i) % 101) as f32 - 50.0).collect();
//! let plane = Plane::from_f32(&vectors, 8)?;
//! let built = ScanCodes::build(&plane);
//! let sections = Section::ALL.map(|section| built.section(section)); // write these to a file ...
//! let codes = [Codes::new(3000, 8, sections)?]; // ... and borrow them from its mapping
//!
//! let query = &vectors[..8];
//! let counters = Counters::default();
//! let options = Options::new(10).codes(&codes).counters(&counters);
//! let found = max_inner_product(query, 8, &[plane], &options)?;
//! assert_eq!(found, max_inner_product(query, 8, &[plane], &Options::new(10))?);
//! assert!(counters.scored() < 1000); // full vectors were read for these rows only
//! # Ok::<(), stratal_kernels::Error>(())
//! ```
//!
//! Nothing here reads files, prints, or starts threads: inside a rayon pool a search uses that pool,
//! outside of one it runs on the calling thread.

#[cfg(target_endian = "big")]
compile_error!("stored vectors are little-endian and are read in place");

mod arithmetic;
mod bound;
mod codes;
#[cfg(feature = "cube")]
pub mod cube;
mod device;
mod directions;
mod dispatch;
mod element;
mod error;
mod graph;
mod numbers;
mod plane;
mod search;
mod tiles;
mod topk;

pub use codes::{Codes, Frame, ScanCodes, Section, Survey};
pub use device::Device;
pub use dispatch::Instructions;
pub use element::Element;
pub use error::Error;
pub use graph::{
    BuiltGraph, Graph, GraphAnswer, GraphOptions, GraphSearch, GraphSection, GraphSections, Walk,
};
pub use plane::Plane;
pub use search::{Candidate, Counters, Options, max_inner_product};
pub use tiles::{TileNumbers, TileRegisters};
pub use topk::TopK;

/// The largest dimension that is supported; the error bounds hold up to here.
pub const MAX_DIMENSION: usize = 1 << 20;

/// The score of one stored vector: `Σ query[i] · row[i]` in f64, the reference for everything here.
///
/// `row` is the vector's bytes, `[D]` of `element`, at any alignment. Every product is exact in f64
/// (24 + 24 bits of significand fit in 53, and no product of two f32 leaves its range), so fused and
/// separate multiply-adds agree. The order of the sum: sixteen partial sums, number `i mod 16` taking
/// component `i`, in ascending order from +0.0; then the upper half is added to the lower, sums 8..16
/// to 0..8, 4..8 to 0..4, 2..4 to 0..2, and 1 to 0.
///
/// # Errors
/// [`Error::RowLength`] when `row` is not `query.len()` elements long.
pub fn inner_product(query: &[f32], row: &[u8], element: Element) -> Result<f64, Error> {
    let expected = query.len().saturating_mul(element.size());
    if row.len() != expected {
        return Err(Error::RowLength {
            expected,
            got: row.len(),
        });
    }
    Ok(dispatch::Kernels::best().exact(element, row, query))
}
