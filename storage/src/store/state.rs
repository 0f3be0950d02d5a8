//! The whole database at one commit, as an immutable value: a commit makes the next one from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::Value;

use super::record::{Change, GenerationSpec, Vectors};
use crate::chunk::{Chunk, ChunkRow};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::layout::Layout;
use crate::part::Part;

/// Memory chunks are merged up to this many rows, so that a commit never copies more than that.
const CHUNK_ROWS_MAX: u32 = 4096;
/// How many memory chunks of about a size become one.
const CHUNKS_OF_A_SIZE: u32 = 4;

/// A part of a collection and which of its rows are deleted as of this state.
#[derive(Clone, Debug)]
pub struct LivePart {
    part: Part,
    dead: Arc<RoaringBitmap>,
    /// A frozen chunk is being written to a segment: it is never merged, so that it can be found again.
    frozen: bool,
}

impl LivePart {
    pub(crate) fn new(part: Part, dead: RoaringBitmap) -> LivePart {
        LivePart {
            part,
            dead: Arc::new(dead),
            frozen: false,
        }
    }

    /// The rows.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// The deleted rows.
    pub fn dead(&self) -> &RoaringBitmap {
        &self.dead
    }

    /// How many rows are not deleted.
    pub fn live_rows(&self) -> u64 {
        u64::from(self.part.rows()) - self.dead.len()
    }

    pub(crate) fn is_same_part(&self, other: &LivePart) -> bool {
        self.part.is_same(&other.part)
    }

    fn chunk(&self) -> Option<&Arc<Chunk>> {
        match &self.part {
            Part::Memory(chunk) if !self.frozen => Some(chunk),
            _ => None,
        }
    }
}

/// One collection of a state.
#[derive(Clone, Debug)]
pub(crate) struct CollectionState {
    pub number: u32,
    pub name: Arc<str>,
    pub attributes: Arc<Value>,
    pub generations: Arc<Vec<GenerationSpec>>,
    /// The generation that answers: every live row has its vectors. The others are being filled, or kept.
    pub current: u32,
    /// The number of the next generation: none is given twice, as files are named by it.
    pub next_generation: u32,
    /// Segments first, then memory chunks, each in the order they came to be.
    pub parts: Vec<LivePart>,
}

/// Where a document is in a state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveRow {
    pub collection: u32,
    /// The index of the part in the collection.
    pub part: usize,
    pub row: u32,
}

/// A row on its way into a chunk.
struct NewRow {
    docid: u64,
    version: u64,
    id: Id,
    payload: Arc<[u8]>,
    vectors: Vec<Vectors>,
}

/// The database at one commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct DatabaseState {
    pub seq: u64,
    pub next_docid: u64,
    pub next_collection: u32,
    pub collections: BTreeMap<u32, Arc<CollectionState>>,
    pub settings: Arc<BTreeMap<String, Value>>,
}

impl CollectionState {
    pub fn new(
        number: u32,
        name: &str,
        attributes: Value,
        generations: Vec<GenerationSpec>,
    ) -> CollectionState {
        CollectionState {
            number,
            name: Arc::from(name),
            attributes: Arc::new(attributes),
            current: generations.first().map_or(0, |first| first.layout.generation),
            next_generation: next_after(&generations),
            generations: Arc::new(generations),
            parts: Vec::new(),
        }
    }

    /// The layout of a generation.
    pub fn layout(&self, generation: u32) -> Option<&Layout> {
        let mut layouts = self.generations.iter().map(|spec| &spec.layout);
        layouts.find(|layout| layout.generation == generation)
    }

    /// Checks what a put brings: the vectors of the current generation, and of others as it likes.
    pub fn check_vectors(&self, id: &Id, vectors: &[Vectors]) -> Result<()> {
        let refuse = |what: String| Err(Error::Invalid { what });
        let ascending = vectors
            .windows(2)
            .all(|pair| pair[0].generation < pair[1].generation);
        let has_current = vectors.iter().any(|given| given.generation == self.current);
        if !self.generations.is_empty() && !has_current {
            return Err(Error::StaleGeneration {
                collection: self.name.to_string(),
                id: id.clone(),
                current: self.current,
            });
        }
        for given in vectors {
            match self.layout(given.generation) {
                Some(layout) if layout.document_bytes() == given.bytes.len() && ascending => {}
                Some(layout) if ascending => {
                    return refuse(format!(
                        "the vectors of {id} have {} bytes for generation {}, which takes {}",
                        given.bytes.len(),
                        given.generation,
                        layout.document_bytes()
                    ));
                }
                _ => {
                    return refuse(format!(
                        "the document {id} brings vectors of generation {}, which {:?} has not, or has twice",
                        given.generation, self.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// Live rows that lack the vectors of a generation.
    pub fn lacking(&self, generation: u32) -> u64 {
        let lacks = |live: &&LivePart| !has_generation(&live.part, generation);
        self.parts.iter().filter(lacks).map(LivePart::live_rows).sum()
    }

    pub fn live_rows(&self) -> u64 {
        self.parts.iter().map(LivePart::live_rows).sum()
    }

    pub fn memory_bytes(&self) -> u64 {
        self.parts
            .iter()
            .map(|live| match live.part() {
                Part::Memory(chunk) => chunk.memory_bytes() as u64,
                Part::Segment(_) => 0,
            })
            .sum()
    }

    /// Where the live row of an id is: the index of its part and the row; newest parts first.
    pub fn find(&self, id: &Id) -> Result<Option<(usize, u32)>> {
        let hash = id.hash64();
        for (index, live) in self.parts.iter().enumerate().rev() {
            for row in live.part.find_hashed(hash, id)? {
                if !live.dead.contains(row) {
                    return Ok(Some((index, row)));
                }
            }
        }
        Ok(None)
    }

    fn kill(&mut self, id: &Id) -> Result<bool> {
        let Some((index, row)) = self.find(id)? else {
            return Ok(false);
        };
        Arc::make_mut(&mut self.parts[index].dead).insert(row);
        Ok(true)
    }

    fn add(&mut self, rows: &[NewRow]) -> Result<()> {
        let generations = |row: &NewRow| -> Vec<u32> { row.vectors.iter().map(|v| v.generation).collect() };
        let mut by_generations: BTreeMap<Vec<u32>, Vec<ChunkRow<'_>>> = BTreeMap::new();
        for row in rows {
            by_generations
                .entry(generations(row))
                .or_default()
                .push(ChunkRow {
                    docid: row.docid,
                    version: row.version,
                    id: &row.id,
                    payload: Arc::clone(&row.payload),
                    vectors: row.vectors.iter().map(|vectors| &vectors.bytes[..]).collect(),
                });
        }
        for (generations, rows) in by_generations {
            let layouts = generations
                .iter()
                .filter_map(|&generation| self.layout(generation).copied());
            let chunk = Chunk::from_rows(&layouts.collect(), &rows)?;
            self.parts
                .push(LivePart::new(Part::Memory(Arc::new(chunk)), RoaringBitmap::new()));
            self.merge_chunks()?;
        }
        Ok(())
    }

    /// Takes the live row of an id out, to be put back with more vectors: the same document at the same version.
    fn take_row(&mut self, id: &Id, added: Vec<Vectors>) -> Result<Option<NewRow>> {
        let Some((index, row)) = self.find(id)? else {
            return Ok(None);
        };
        let part = &self.parts[index].part;
        let mut vectors = added;
        for layout in part.layouts() {
            let generation = layout.generation;
            let known = self.layout(generation).is_some();
            if !known || vectors.iter().any(|given| given.generation == generation) {
                continue;
            }
            let mut bytes = Vec::with_capacity(layout.document_bytes());
            for layer in 0..layout.layers {
                bytes.extend_from_slice(part.vector(generation, layer, row)?);
            }
            let bytes = Arc::from(bytes);
            vectors.push(Vectors { generation, bytes });
        }
        vectors.sort_by_key(|given| given.generation);
        self.check_vectors(id, &vectors)?;
        let taken = NewRow {
            docid: part.docid(row)?,
            version: part.version(row)?,
            id: id.clone(),
            payload: Arc::from(&*part.payload(row)?),
            vectors,
        };
        Arc::make_mut(&mut self.parts[index].dead).insert(row);
        Ok(Some(taken))
    }

    /// Forgets a generation. Nobody may be writing segments of these parts meanwhile.
    fn drop_generation(&mut self, generation: u32) {
        Arc::make_mut(&mut self.generations).retain(|spec| spec.layout.generation != generation);
        for live in &mut self.parts {
            if let Part::Segment(segment) = &live.part
                && has_generation(&live.part, generation)
            {
                live.part = Part::Segment(Arc::new(segment.without_vectors(generation)));
            }
        }
    }

    /// Keeps the number of chunks logarithmic: when [`CHUNKS_OF_A_SIZE`] are of a size, they become one.
    fn merge_chunks(&mut self) -> Result<()> {
        while let Some(last) = self.parts.last().and_then(LivePart::chunk) {
            let limit = last.rows().saturating_mul(CHUNKS_OF_A_SIZE);
            let of_a_size = self
                .parts
                .iter()
                .rev()
                .map_while(|live| live.chunk().filter(|chunk| chunk.layouts() == last.layouts()))
                .map(|chunk| chunk.rows())
                .take_while(|&rows| rows < limit);
            let (mut count, mut fitting, mut rows) = (0, 0, 0u32);
            for chunk_rows in of_a_size {
                count += 1;
                rows = rows.saturating_add(chunk_rows);
                if rows <= CHUNK_ROWS_MAX {
                    fitting = count;
                }
            }
            if count < CHUNKS_OF_A_SIZE as usize || fitting < 2 {
                return Ok(());
            }
            let first = self.parts.len() - fitting;
            let chunks: Vec<_> = self.parts[first..]
                .iter()
                .filter_map(|live| live.chunk().map(|chunk| (&**chunk, &*live.dead)))
                .collect();
            let (merged, _) = Chunk::merge(&chunks)?;
            self.parts.truncate(first);
            if merged.rows() > 0 {
                self.parts.push(LivePart::new(
                    Part::Memory(Arc::new(merged)),
                    RoaringBitmap::new(),
                ));
            }
        }
        Ok(())
    }
}

impl DatabaseState {
    pub fn collection(&self, name: &str) -> Result<&Arc<CollectionState>> {
        self.collections
            .values()
            .find(|collection| &*collection.name == name)
            .ok_or_else(|| Error::UnknownCollection {
                name: name.to_owned(),
                similar: self.similar_name(name),
            })
    }

    fn similar_name(&self, name: &str) -> Option<String> {
        self.collections
            .values()
            .map(|collection| (edit_distance(&collection.name, name), collection.name.to_string()))
            .filter(|(distance, _)| *distance <= name.chars().count().max(3) / 3)
            .min()
            .map(|(_, name)| name)
    }

    pub fn memory_bytes(&self) -> u64 {
        self.collections
            .values()
            .map(|collection| collection.memory_bytes())
            .sum()
    }

    pub fn has_memory_rows(&self) -> bool {
        self.collections.values().any(|collection| {
            collection
                .parts
                .iter()
                .any(|live| matches!(live.part, Part::Memory(_)))
        })
    }

    /// The state after a commit's changes. Replaying changes that a state already holds leaves the same rows
    /// live, so the log may overlap what the MANIFEST names.
    ///
    /// # Errors
    /// Whatever reading a segment's id table gives; and `what` went wrong in words if a change fits no state.
    pub fn apply(&self, changes: Vec<Change>, seq: u64) -> Result<DatabaseState> {
        self.apply_replacing(changes, None, seq)
    }

    /// [`DatabaseState::apply`] for changes decided against this very state, which rows they replace being known.
    pub fn apply_replacing(
        &self,
        changes: Vec<Change>,
        replaced: Option<&[LiveRow]>,
        seq: u64,
    ) -> Result<DatabaseState> {
        let mut next = self.clone();
        next.seq = seq;
        for &LiveRow {
            collection,
            part,
            row,
        } in replaced.unwrap_or_default()
        {
            let target = next.collection_mut(collection)?;
            Arc::make_mut(&mut target.parts[part].dead).insert(row);
        }
        let search = replaced.is_none();
        let mut new_rows: BTreeMap<u32, Vec<NewRow>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::CreateCollection {
                    number,
                    name,
                    attributes,
                    generations,
                } => {
                    next.next_collection = next.next_collection.max(number + 1);
                    let created = CollectionState::new(number, &name, attributes, generations);
                    next.collections.insert(number, Arc::new(created));
                }
                Change::DropCollection { number } => {
                    next.collections.remove(&number);
                    new_rows.remove(&number);
                }
                Change::Put {
                    collection,
                    docid,
                    id,
                    payload,
                    vectors,
                } => {
                    next.next_docid = next.next_docid.max(docid + 1);
                    let target = next.collection_mut(collection)?;
                    target.check_vectors(&id, &vectors)?;
                    if search {
                        target.kill(&id)?;
                    }
                    new_rows.entry(collection).or_default().push(NewRow {
                        docid,
                        version: seq,
                        id,
                        payload,
                        vectors,
                    });
                }
                Change::Delete { collection, id } => {
                    let target = next.collection_mut(collection)?;
                    if search {
                        target.kill(&id)?;
                    }
                }
                Change::AddGeneration { collection, spec } => {
                    let target = next.collection_mut(collection)?;
                    target.next_generation = target.next_generation.max(spec.layout.generation + 1);
                    if target.layout(spec.layout.generation).is_none() {
                        Arc::make_mut(&mut target.generations).push(spec);
                    }
                }
                Change::SetCurrent {
                    collection,
                    generation,
                } => {
                    let target = next.collection_mut(collection)?;
                    // A reader may be ahead of the MANIFEST that names the vectors.
                    let missing = target.lacking(generation);
                    if missing > 0 {
                        return Err(Error::Incomplete {
                            collection: target.name.to_string(),
                            generation,
                            missing,
                        });
                    }
                    target.current = generation;
                }
                Change::DropGeneration {
                    collection,
                    generation,
                } => {
                    next.collection_mut(collection)?.drop_generation(generation);
                }
                Change::AddVectors {
                    collection,
                    id,
                    vectors,
                } => {
                    if let Some(row) = next.collection_mut(collection)?.take_row(&id, vectors)? {
                        new_rows.entry(collection).or_default().push(row);
                    }
                }
                Change::Set { key, value } => {
                    Arc::make_mut(&mut next.settings).insert(key, value);
                }
                Change::Unset { key } => {
                    Arc::make_mut(&mut next.settings).remove(&key);
                }
            }
        }
        for (number, rows) in new_rows {
            next.collection_mut(number)?.add(&rows)?;
        }
        Ok(next)
    }

    fn collection_mut(&mut self, number: u32) -> Result<&mut CollectionState> {
        self.collections
            .get_mut(&number)
            .map(Arc::make_mut)
            .ok_or_else(|| Error::Invalid {
                what: format!("collection number {number} does not exist"),
            })
    }

    /// Marks every memory chunk as about to be written to a segment.
    pub fn freeze(&mut self) {
        for collection in self.collections.values_mut() {
            if collection.parts.iter().any(|live| live.chunk().is_some()) {
                for live in &mut Arc::make_mut(collection).parts {
                    live.frozen = matches!(live.part, Part::Memory(_));
                }
            }
        }
    }

    /// Puts a new part in the place of old ones, deleting in it what was deleted in them since it was planned.
    pub fn replace(&mut self, replacement: &Replacement) {
        let Some(collection) = self.collections.get_mut(&replacement.collection) else {
            return;
        };
        let mut dead = RoaringBitmap::new();
        let mut target_row = 0u32;
        for (old, rows) in &replacement.sources {
            let now = collection.parts.iter().find(|live| live.is_same_part(old));
            for &row in rows {
                // A part that has gone altogether holds nothing live.
                if now.is_none_or(|live| live.dead.contains(row)) {
                    dead.insert(target_row);
                }
                target_row += 1;
            }
        }
        let collection = Arc::make_mut(collection);
        collection
            .parts
            .retain(|live| !replacement.sources.iter().any(|(old, _)| live.is_same_part(old)));
        if let Some(part) = &replacement.with {
            let segments = collection
                .parts
                .iter()
                .filter(|live| matches!(live.part, Part::Segment(_)))
                .count();
            collection
                .parts
                .insert(segments, LivePart::new(part.clone(), dead));
        }
    }
}

pub(crate) fn has_generation(part: &Part, generation: u32) -> bool {
    part.layouts()
        .iter()
        .any(|layout| layout.generation == generation)
}

pub(crate) fn next_after(generations: &[GenerationSpec]) -> u32 {
    let numbers = generations.iter().map(|spec| spec.layout.generation);
    numbers.max().map_or(1, |last| last.saturating_add(1))
}

/// Old parts and the rows of them that a new part holds, in its row order.
pub(crate) struct Replacement {
    pub collection: u32,
    pub sources: Vec<(LivePart, Vec<u32>)>,
    /// `None` if no row was left.
    pub with: Option<Part>,
}

/// Levenshtein distance over characters, for "did you mean".
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
