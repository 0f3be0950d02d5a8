//! What a call to these kernels refuses, and why.

use crate::{GraphSection, Instructions, Section};

/// Why a call was refused. Nothing has been computed when one of these comes back.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The dimension is zero or larger than [`crate::MAX_DIMENSION`].
    #[error("dimension {dimension} is not between 1 and {limit}: check the length of the vectors")]
    Dimension {
        /// The dimension asked for.
        dimension: usize,
        /// The largest one that is supported.
        limit: usize,
    },
    /// The rows of a plane would overlap.
    #[error(
        "a stride of {stride} bytes cannot hold a row of {needed} bytes: pass the distance between rows in bytes"
    )]
    Stride {
        /// The stride asked for, in bytes.
        stride: usize,
        /// The bytes of one row.
        needed: usize,
    },
    /// A buffer is shorter than its rows.
    #[error(
        "a plane of {rows} rows needs {needed} bytes, got {got}: the buffer is cut short or the shape is wrong"
    )]
    PlaneLength {
        /// The number of rows asked for.
        rows: usize,
        /// The bytes that they take; `usize::MAX` where the product does not fit.
        needed: usize,
        /// The bytes that there are.
        got: usize,
    },
    /// More rows than a row number can name.
    #[error("a plane of {rows} rows is too large: split it into parts of at most {limit} rows", limit = u32::MAX)]
    TooManyRows {
        /// The number of rows asked for.
        rows: usize,
    },
    /// No plane to search.
    #[error("no planes to search: pass at least one layer")]
    NoPlanes,
    /// The planes of one search do not describe the same rows.
    #[error(
        "plane {plane} has {got} rows, the first one {expected}: all layers must cover the same documents"
    )]
    PlaneRows {
        /// The index of the plane that differs.
        plane: usize,
        /// The rows of the first plane.
        expected: usize,
        /// The rows of this one.
        got: usize,
    },
    /// A plane holds vectors of another dimension than the queries.
    #[error(
        "plane {plane} holds vectors of dimension {expected}, the queries have {got}: encode them with one model"
    )]
    PlaneDimension {
        /// The index of the plane.
        plane: usize,
        /// Its dimension.
        expected: usize,
        /// The dimension of the queries.
        got: usize,
    },
    /// A query of the wrong length.
    #[error("query {row} has {got} components, expected {expected}")]
    QueryLength {
        /// The index of the query.
        row: usize,
        /// The dimension of the collection.
        expected: usize,
        /// The components that there are.
        got: usize,
    },
    /// A query with a component that is not a number, or is infinite.
    #[error("component {component} of query {row} is {value}: all components must be finite")]
    QueryNotFinite {
        /// The index of the query.
        row: usize,
        /// The index of the component.
        component: usize,
        /// What stands there, as text.
        value: String,
    },
    /// A stored vector of the wrong length.
    #[error("the row has {got} bytes, the query needs {expected}")]
    RowLength {
        /// The bytes that a row of the query's dimension takes.
        expected: usize,
        /// The bytes that there are.
        got: usize,
    },
    /// As many score floors as queries are needed.
    #[error("{got} score floors for {expected} queries: pass one for each")]
    FloorCount {
        /// The number of queries.
        expected: usize,
        /// The number of floors.
        got: usize,
    },
    /// A score floor that is not a number.
    #[error("the score floor of query {row} is not a number")]
    FloorNotANumber {
        /// The index of the query.
        row: usize,
    },
    /// The mask of live rows is too short.
    #[error("the mask of live rows has {got} words of 64 bits, {expected} are needed")]
    LiveMask {
        /// The words needed.
        expected: usize,
        /// The words that there are.
        got: usize,
    },
    /// Codes for every plane of a search are needed, or none.
    #[error("codes of {got} planes for {expected} planes: pass those of every plane, in the same order")]
    CodesCount {
        /// The number of planes.
        expected: usize,
        /// The number of codes.
        got: usize,
    },
    /// A section of codes of the wrong length.
    #[error("the codes' section {section:?} has {got} bytes, expected {expected}: build the codes again")]
    CodesLength {
        /// The section.
        section: Section,
        /// The bytes that it takes; `usize::MAX` where that does not fit.
        expected: usize,
        /// The bytes that there are.
        got: usize,
    },
    /// Codes of turned vectors that tell of a head which is not a multiple of eight below the dimension.
    #[error("the codes scan {head} components of {dimension}, which cannot be: build the codes again")]
    CodesHead {
        /// The components of a vector.
        dimension: usize,
        /// Those that are scanned, as the codes tell.
        head: u32,
    },
    /// Codes of a plane of another shape.
    #[error(
        "the codes of plane {plane} are of shape {got:?}, the plane of {expected:?}: build the codes again"
    )]
    CodesShape {
        /// The index of the plane.
        plane: usize,
        /// Rows and dimension of the plane.
        expected: [usize; 2],
        /// Rows and dimension of the codes.
        got: [usize; 2],
    },
    /// Codes that do not belong to their plane, or are damaged.
    #[error("the codes' section {section:?} is not that of this plane: build the codes again")]
    CodesDiffer {
        /// The first section that differs.
        section: Section,
    },
    /// A section of a graph that cannot be.
    #[error("the graph's section {section:?} {what}: build the graph again")]
    GraphSection {
        /// The section.
        section: GraphSection,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A build was stopped by its caller.
    #[error("building the graph was stopped; nothing was changed")]
    Cancelled,
    /// `k` is zero.
    #[error("k is 0: ask for at least one result")]
    ZeroK,
    /// This processor lacks the instructions that were asked for by name.
    #[error("this processor does not offer {instructions:?}: leave the choice to the library")]
    Unsupported {
        /// What was asked for.
        instructions: Instructions,
    },
    /// A layer that the part does not have.
    #[error("layer {layer} of {layers}: layers are counted from 0")]
    Layer {
        /// What was asked for.
        layer: u32,
        /// The layers that there are.
        layers: usize,
    },
    /// A device's name that means nothing.
    #[error("{got:?} names no device: write `auto`, `cpu`, `cuda` or `cuda:1`")]
    UnknownDevice {
        /// What was written.
        got: String,
    },
    /// A device that is not there, or whose driver is not.
    #[error("no CUDA device {index}: {reason}; search on the CPU instead, or let the library choose")]
    NoDevice {
        /// The device asked for.
        index: usize,
        /// What is missing.
        reason: String,
    },
    /// A device failed. The search can be made on the CPU.
    #[error("the device ({device}) failed: {reason}; search on the CPU instead")]
    Device {
        /// The kind of device.
        device: String,
        /// What it reported.
        reason: String,
    },
}
