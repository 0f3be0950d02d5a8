//! Looking things up in an index. Nothing in it is trusted: what does not fit is told as damage.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use stratal_storage::Companion;

use super::super::rows::Rows;
use super::{
    Builder, DICTIONARIES_OFFSET, DIRECTORY, Dictionary, ENTRIES_OFFSET, ENTRY_BYTES, KEYS, ROWS, SET_BYTES,
    SETS_OFFSET, Set, VALUES_OFFSET, VERSION, dense_bytes, is_dense,
};

/// What is looked up, or why it cannot be.
pub(in super::super) type Found<T> = Result<T, String>;

/// The index of one part.
pub(in super::super) struct Index {
    source: Source,
    rows: u32,
}

enum Source {
    File(Arc<Companion>),
    /// The sections by their numbers from 1.
    Memory([Vec<u8>; 3]),
}

#[cfg(test)]
impl Index {
    /// The same with other bytes at a place of a section.
    pub(super) fn damaged(&self, section: usize, at: usize, with: &[u8]) -> Index {
        let Source::Memory(mut sections) = (match &self.source {
            Source::Memory(sections) => Source::Memory(sections.clone()),
            Source::File(_) => unreachable!("only those in memory are damaged so"),
        }) else {
            unreachable!("it was cloned as one in memory")
        };
        let bytes = &mut sections[section];
        if !bytes.is_empty() {
            let at = at % bytes.len();
            let end = (at + with.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        Index {
            source: Source::Memory(sections),
            rows: self.rows,
        }
    }
}

/// A field of the directory.
pub(in super::super) struct Entry<'a> {
    index: &'a Index,
    bytes: &'a [u8],
}

/// A dictionary, in its pieces.
struct Values<'a> {
    index: &'a Index,
    kind: Dictionary,
    count: usize,
    starts: &'a [u8],
    dense: &'a [u8],
    keys: &'a [u8],
    rows_offset: u64,
    bits_offset: u64,
}

impl Index {
    /// `None` for one of another make, and for one known to be damaged.
    pub fn of_companion(companion: Arc<Companion>, rows: u32) -> Option<Index> {
        let is_good = companion.version() == VERSION && !companion.is_damaged();
        is_good.then_some(Index {
            source: Source::File(companion),
            rows,
        })
    }

    pub fn in_memory(builder: Builder, rows: u32) -> Index {
        let mut sections = [Vec::new(), Vec::new(), Vec::new()];
        let finished = builder.finish(&mut |section, bytes| {
            sections[section as usize - 1].extend_from_slice(bytes);
            Ok::<(), std::convert::Infallible>(())
        });
        match finished {
            Ok(()) => Index {
                source: Source::Memory(sections),
                rows,
            },
            Err(never) => match never {},
        }
    }

    pub fn memory_bytes(&self) -> usize {
        match &self.source {
            Source::File(_) => 0,
            Source::Memory(sections) => sections.iter().map(Vec::len).sum(),
        }
    }

    /// Where it was read from, for messages.
    pub fn place(&self) -> String {
        match &self.source {
            Source::File(companion) => companion.path().display().to_string(),
            Source::Memory(_) => "memory".to_owned(),
        }
    }

    fn section(&self, section: u32) -> Found<&[u8]> {
        match &self.source {
            Source::File(companion) => companion.section(section, 0).map_err(|error| error.to_string()),
            Source::Memory(sections) => Ok(&sections[section as usize - 1]),
        }
    }

    fn bytes(&self, section: u32, offset: u64, length: u64) -> Found<&[u8]> {
        let end = offset
            .checked_add(length)
            .ok_or_else(|| misfit("a place in a section"))?;
        match &self.source {
            Source::File(companion) => companion
                .read(section, 0, offset..end)
                .map_err(|error| error.to_string()),
            Source::Memory(sections) => sections[section as usize - 1]
                .get(offset as usize..end as usize)
                .ok_or_else(|| misfit("a place in a section")),
        }
    }

    /// Rows with fields that the directory does not list.
    pub fn others(&self) -> Found<Rows> {
        let directory = self.section(DIRECTORY)?;
        let reference = directory
            .get(8..8 + SET_BYTES)
            .ok_or_else(|| misfit("the directory"))?;
        self.set(reference)
    }

    fn count(&self) -> Found<usize> {
        let directory = self.section(DIRECTORY)?;
        let count = u32_at(directory, 0)? as usize;
        match directory.len() >= ENTRIES_OFFSET && count <= (directory.len() - ENTRIES_OFFSET) / ENTRY_BYTES {
            true => Ok(count),
            false => Err(misfit("the number of fields")),
        }
    }

    fn entry(&self, place: usize) -> Found<Entry<'_>> {
        let start = ENTRIES_OFFSET + place * ENTRY_BYTES;
        let bytes = self.section(DIRECTORY)?.get(start..start + ENTRY_BYTES);
        Ok(Entry {
            index: self,
            bytes: bytes.ok_or_else(|| misfit("the directory"))?,
        })
    }

    /// The entry of a field, by its name as the directory holds it.
    pub fn find(&self, name: &[u8]) -> Found<Option<Entry<'_>>> {
        let (mut low, mut high) = (0, self.count()?);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            match entry.name()?.cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Some(entry)),
            }
        }
        Ok(None)
    }

    /// All fields: their keys and the rows that have them.
    pub fn fields(&self) -> Found<Vec<(Vec<String>, Rows)>> {
        (0..self.count()?)
            .map(|place| {
                let entry = self.entry(place)?;
                Ok((entry.keys()?, entry.set(Set::Present)?))
            })
            .collect()
    }

    fn set(&self, reference: &[u8]) -> Found<Rows> {
        let (offset, count) = (u64_at(reference, 0)?, u32_at(reference, 8)? as usize);
        let mut rows = Rows::none(self.rows);
        if count == 0 {
            return Ok(rows);
        }
        match is_dense(count, self.rows) {
            true => rows.unite_bits(self.bytes(ROWS, offset, dense_bytes(self.rows) as u64)?),
            false => insert_listed(&mut rows, self.bytes(ROWS, offset, count as u64 * 4)?),
        }
        Ok(rows)
    }
}

impl<'a> Entry<'a> {
    fn name(&self) -> Found<&'a [u8]> {
        let (offset, length) = (u32_at(self.bytes, 0)?, u32_at(self.bytes, 4)?);
        self.index.bytes(DIRECTORY, offset.into(), length.into())
    }

    fn keys(&self) -> Found<Vec<String>> {
        let mut name = self.name()?;
        let mut keys = Vec::new();
        while !name.is_empty() {
            let length = u32_at(name, 0)? as usize;
            let (key, rest) = name[4..]
                .split_at_checked(length)
                .ok_or_else(|| misfit("a name"))?;
            keys.push(String::from_utf8(key.to_vec()).map_err(|_| misfit("a name"))?);
            name = rest;
        }
        Ok(keys)
    }

    pub(super) fn set(&self, set: Set) -> Found<Rows> {
        let start = SETS_OFFSET + set as usize * SET_BYTES;
        self.index.set(&self.bytes[start..start + SET_BYTES])
    }

    fn values(&self, kind: Dictionary) -> Found<Option<Values<'a>>> {
        let start = DICTIONARIES_OFFSET + kind as usize * 16;
        let (offset, length) = (u64_at(self.bytes, start)?, u64_at(self.bytes, start + 8)?);
        if length == 0 {
            return Ok(None);
        }
        let bytes = self.index.bytes(KEYS, offset, length)?;
        let (count, dense) = (u32_at(bytes, 0)? as usize, u32_at(bytes, 4)? as usize);
        let piece = |start: usize, length: usize| {
            bytes
                .get(start..start.saturating_add(length))
                .ok_or_else(|| misfit("a dictionary"))
        };
        let dense_offset = VALUES_OFFSET + (count + 1) * 4;
        let keys_offset = dense_offset + dense * 4;
        Ok(Some(Values {
            index: self.index,
            kind,
            count,
            rows_offset: u64_at(bytes, 8)?,
            bits_offset: u64_at(bytes, 16)?,
            starts: piece(VALUES_OFFSET, (count + 1) * 4)?,
            dense: piece(dense_offset, dense * 4)?,
            keys: piece(keys_offset, bytes.len().saturating_sub(keys_offset))?,
        }))
    }

    /// Takes in the rows of every value of a dictionary from the first that is not `before` to the last that is
    /// not `after`; both are asked of a value's bytes.
    pub(super) fn range(
        &self,
        kind: Dictionary,
        rows: &mut Rows,
        before: impl Fn(&[u8]) -> bool,
        after: impl Fn(&[u8]) -> bool,
    ) -> Found<()> {
        let Some(values) = self.values(kind)? else {
            return Ok(());
        };
        let first = values.partition(0, before)?;
        let end = values.partition(first, |value| !after(value))?;
        values.take_in(first..end, rows)
    }
}

impl Values<'_> {
    fn value(&self, place: usize) -> Found<&[u8]> {
        let found = match self.kind.width() {
            Some(width) => self.keys.get(place * width..(place + 1) * width),
            None => {
                let text_at = |place: usize| Ok::<usize, String>(u32_at(self.keys, place * 4)? as usize);
                let texts = self.keys.get((self.count + 1) * 4..).unwrap_or_default();
                texts.get(text_at(place)?..text_at(place + 1)?)
            }
        };
        found.ok_or_else(|| misfit("a value"))
    }

    /// The first value from `low` on of which `holds` is not true; of none after it it may be.
    fn partition(&self, mut low: usize, holds: impl Fn(&[u8]) -> bool) -> Found<usize> {
        let mut high = self.count;
        while low < high {
            let middle = low + (high - low) / 2;
            match holds(self.value(middle)?) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    fn take_in(&self, places: Range<usize>, rows: &mut Rows) -> Found<()> {
        if places.is_empty() {
            return Ok(());
        }
        let (start, end) = (
            u32_at(self.starts, places.start * 4)?,
            u32_at(self.starts, places.end * 4)?,
        );
        let length = end
            .checked_sub(start)
            .ok_or_else(|| misfit("the rows of a value"))?;
        let offset = self.rows_offset.checked_add(u64::from(start) * 4);
        let offset = offset.ok_or_else(|| misfit("the rows of a value"))?;
        insert_listed(rows, self.index.bytes(ROWS, offset, u64::from(length) * 4)?);
        let bytes = dense_bytes(self.index.rows) as u64;
        for (at, place) in self.dense.chunks_exact(4).enumerate() {
            if places.contains(&(u32_at(place, 0)? as usize)) {
                let offset = self.bits_offset.checked_add(at as u64 * bytes);
                let offset = offset.ok_or_else(|| misfit("the bits of a value"))?;
                rows.unite_bits(self.index.bytes(ROWS, offset, bytes)?);
            }
        }
        Ok(())
    }
}

fn insert_listed(rows: &mut Rows, bytes: &[u8]) {
    for row in bytes.as_chunks().0 {
        rows.insert(u32::from_le_bytes(*row));
    }
}

fn misfit(what: &str) -> String {
    format!("{what} does not fit into the index of metadata")
}

fn u32_at(bytes: &[u8], at: usize) -> Found<u32> {
    let four = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    four.map(u32::from_le_bytes).ok_or_else(|| misfit("a number"))
}

fn u64_at(bytes: &[u8], at: usize) -> Found<u64> {
    let eight = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    eight.map(u64::from_le_bytes).ok_or_else(|| misfit("a number"))
}
