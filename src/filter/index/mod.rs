//! Which rows of a part have which values: read from a companion of a segment, or made in memory.
//!
//! For every field the rows that have it, those where it is null, true, false or an empty list, and sorted
//! dictionaries of its numbers, texts and times with the rows of each. What is too much to write down (a very long
//! text, too many fields, too much memory) is noted as *unsure*: such rows are read and evaluated. So an index says
//! of each row that it passes, that it does not, or that it must be looked at, and never decides an answer alone.
//!
//! Three sections (layer 0 of the companion); integers are little-endian, `n` is the number of rows.
//!
//! ```text
//! DIRECTORY   0  4  fields, F    4  4  zero    8  16  set: rows with fields that are not listed
//!             24  F entries of 152 bytes, ascending by name:
//!                 0  4  offset of the name, from the section's start    4  4  its length
//!                 8  6 sets of 16 bytes: has the field, unsure, empty, null, false, true
//!                 104  3 dictionaries: numbers, texts, times; offset in KEYS (u64), length (u64, 0 for none)
//!             the names: each key of the path as its length (u32) and its bytes
//! set         0  8  offset in ROWS    8  4  rows in it, c    12  4  zero
//!             c > n / 32: a bit a row in ⌈n / 64⌉ words of u64; else c ascending rows of u32
//! KEYS        dictionary of v values, d of them with more than n / 32 rows:
//!             0  4  v    4  4  d    8  8  offset of the rows in ROWS    16  8  offset of the bits in ROWS
//!             24  v + 1 starts (u32): where the rows of a value start, in rows; those of the d have none here
//!             d values by their place (u32), ascending: the bits of each follow one another
//!             the values, ascending: numbers 10 bytes each, times 12; texts v + 1 offsets (u32), then bytes
//! ROWS        sets, rows of u32 and bits
//! ```

mod answer;
mod build;
mod cache;
mod read;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(super) use answer::answer;
pub(super) use build::Builder;
pub(crate) use cache::Indexes;
pub(super) use read::Index;
use stratal_storage::{CompanionKind, Part, PayloadCursor, Segment, SegmentCompanions};

use super::instant;
use super::number;
use crate::document::Payload;
use crate::{Error, Result};

/// The version of the layout above.
const VERSION: u32 = 1;

/// Smaller parts are evaluated as they are.
const ROWS_MIN: u32 = 256;

const DIRECTORY: u32 = 1;
const KEYS: u32 = 2;
const ROWS: u32 = 3;

const ENTRIES_OFFSET: usize = 24;
const ENTRY_BYTES: usize = 152;
const SET_BYTES: usize = 16;
const SETS_OFFSET: usize = 8;
const DICTIONARIES_OFFSET: usize = 104;
const VALUES_OFFSET: usize = 24;

/// The sets of an entry, by their place.
#[derive(Clone, Copy)]
enum Set {
    Present,
    Unsure,
    Empty,
    Null,
    False,
    True,
}

/// The dictionaries of an entry, by their place.
#[derive(Clone, Copy)]
enum Dictionary {
    Numbers,
    Texts,
    Times,
}

impl Dictionary {
    /// Bytes of a value; texts differ.
    fn width(self) -> Option<usize> {
        match self {
            Dictionary::Numbers => Some(number::KEY_BYTES),
            Dictionary::Texts => None,
            Dictionary::Times => Some(instant::KEY_BYTES),
        }
    }
}

/// Whether so many of `n` rows are kept as bits: where that takes no more bytes than listing them.
fn is_dense(count: usize, rows: u32) -> bool {
    count > rows as usize / 32
}

fn dense_bytes(rows: u32) -> usize {
    (rows as usize).div_ceil(64) * 8
}

/// The keys of a path as the directory holds them.
fn name_of(keys: &[String]) -> Vec<u8> {
    let mut name = Vec::new();
    keys.iter().for_each(|key| append_key(&mut name, key));
    name
}

fn append_key(name: &mut Vec<u8>, key: &str) {
    name.extend_from_slice(&(key.len() as u32).to_le_bytes());
    name.extend_from_slice(key.as_bytes());
}

/// Reads every document of a part.
fn build(part: &Part) -> Result<Builder> {
    let mut builder = Builder::new(part.rows());
    let mut cursor = PayloadCursor::default();
    for row in 0..part.rows() {
        match Payload::read(part.payload_with(row, &mut cursor)?) {
            Ok(payload) => builder.add(row, &payload.metadata()),
            Err(what) => {
                let id = part.id(row)?;
                return Err(Error::Payload { id, what });
            }
        }
    }
    Ok(builder)
}

/// Whether a segment should have an index and has none that this build reads.
pub(crate) fn is_missing(segment: &Segment) -> bool {
    segment.rows() >= ROWS_MIN
        && segment
            .companion(CompanionKind::Filter)
            .is_none_or(|companion| companion.version() != VERSION || companion.is_damaged())
}

/// Writes the index of a segment that lacks it.
pub(crate) fn write(companions: &SegmentCompanions<'_>) -> Result<()> {
    let segment = companions.segment();
    if !is_missing(segment) {
        return Ok(());
    }
    let builder = build(&Part::Segment(Arc::clone(segment)))?;
    companions.write(CompanionKind::Filter, VERSION, |writer| {
        let mut current = 0;
        builder.finish(&mut |section, bytes| {
            if section != current {
                writer.start(section, 0)?;
                current = section;
            }
            Ok::<(), Error>(writer.push(bytes)?)
        })
    })?;
    Ok(())
}
