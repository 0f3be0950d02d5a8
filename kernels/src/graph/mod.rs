//! A graph over documents, for approximate search: walked on compact codes, answered from the vectors.
//!
//! A node is one layer vector of a document, with at most 32 edges; a walk counts documents, each by the
//! best of its vectors that was met, so no answer needs to be rid of doubles. Vectors are coded
//! in a basis that puts directions of large variance first. A walk reads a head of one cache line (64 directions of four
//! bits and the next 128 of two) or of two lines; where those tell too little they say whether the code of four bits
//! for all directions needs to be read, which two bits more make finer at the end.
//! Where a walk begins is chosen among many entries, by the first components of their heads.
//! What a walk finds is scored in f64 from the stored vectors, as everywhere.
//!
//! Inner products of vectors that are not equally long: documents of about one norm form a *shell* with a
//! graph of its own, and shells are walked from the longest on, until no vector of the next can reach
//! the k-th score. Inside a shell each vector has one more coordinate while edges are chosen, which
//! makes all equally long. Rows with equal vectors are one document.
//!
//! The bytes come as [`GraphSection`]s, in the form in which a file can hold and map them:
//! [`BuiltGraph`] makes them, [`Graph`] reads them.

mod answer;
mod ask;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod basis;
mod build;
mod entries;
mod found;
mod keys;
mod lanes;
mod leaves;
mod limits;
mod link;
mod links;
mod points;
mod progress;
mod query;
mod search;
mod sections;
mod twins;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub use answer::Walk;
pub use ask::{GraphAnswer, GraphSearch};
pub use sections::{BuiltGraph, Graph, GraphOptions, GraphSection, GraphSections};
