//! Generations: segments get the vectors of another one beside readers and writers, block by block, so that
//! what was encoded before a kill is not encoded again.
//!
//! # Byte map of a spool, `segments/<number>-g<generation>-<first row>.spool`
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | magic `STRATSPL` |
//! | 8 | 8 | the header checksum of the segment's documents file |
//! | 16 | 4 + 4 | first row, number of rows |
//! | 24 | 8 | length of the vectors in bytes |
//! | 32 | 8 | xxh3-64 of the vectors |
//! | 40 | 8 | xxh3-64 of bytes 0 to 39 |
//! | 48 | length | for each row its `m` layer vectors, layer 0 first, unpadded |

use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::companions::Underway;
use super::state::{LivePart, Replacement, has_generation};
use super::{Batch, Committed, Shared, Store, locked};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::part::Part;
use crate::segment::{Segment, SegmentFile, UNFINISHED, VectorsWriter, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"STRATSPL";
const VECTORS_AT: usize = 48;

/// A segment on its way to have the vectors of one generation more. Its rows stay as they are meanwhile; dropped
/// unfinished, it leaves what it has been given for the next try.
pub struct Filling {
    shared: Arc<Shared>,
    collection: u32,
    layout: Layout,
    segment: Arc<Segment>,
    done: u32,
    spools: Vec<(u32, PathBuf)>,
}

impl Store {
    /// The first segment of a collection that lacks the vectors of a generation, to be given them. Rows that are
    /// in memory must be flushed first ([`Store::checkpoint`]), or given theirs by [`Batch::add_vectors`].
    /// `None` if no segment lacks any.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a generation that is not there, or while the segment is being filled elsewhere;
    /// [`Error::ReadOnly`] and its like; what the file system gives.
    pub fn fill(&self, collection: u32, generation: u32) -> Result<Option<Filling>> {
        self.shared.check_writable()?;
        // A rewrite that has begun ends first.
        let _maintaining = locked(&self.shared.maintaining);
        let current = self.shared.current.load_full();
        let state = current.collections.get(&collection);
        let Some((state, layout)) = state.and_then(|state| Some((state, *state.layout(generation)?))) else {
            return Err(Error::Invalid {
                what: format!("collection number {collection} has no generation {generation}"),
            });
        };
        let lacking = state.parts.iter().find_map(|live| match live.part() {
            Part::Segment(segment) if !has_generation(live.part(), generation) => Some(Arc::clone(segment)),
            _ => None,
        });
        let Some(segment) = lacking else {
            return Ok(None);
        };
        if !locked(&self.shared.filling).insert(segment.number()) {
            return Err(Error::Invalid {
                what: format!(
                    "segment {} is being filled already: wait for it",
                    segment.number()
                ),
            });
        }
        let mut filling = Filling {
            shared: Arc::clone(&self.shared),
            collection,
            layout,
            segment,
            done: 0,
            spools: Vec::new(),
        };
        filling.resume()?;
        Ok(Some(filling))
    }

    /// Drops a generation that does not answer, with its files.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the generation that answers and for one that is not there; those of
    /// [`Store::commit`].
    pub fn drop_generation(&self, collection: (u32, &Arc<str>), generation: u32) -> Result<Committed> {
        // Segments change with it: nobody may be rewriting them.
        let mut progress = locked(&self.shared.maintaining);
        let mut batch = Batch::new();
        batch.drop_generation(collection, generation);
        let committed = self.commit_holding(batch)?;
        progress.changed = true;
        self.shared.checkpoint_holding(&mut progress)?;
        Ok(committed)
    }
}

impl Filling {
    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Rows that have their vectors already, the first of the segment.
    pub fn done(&self) -> u32 {
        self.done
    }

    /// The segment with the rows deleted by now, whose vectors may be zeros; `None` if it went with its collection.
    pub fn live(&self) -> Option<LivePart> {
        let current = self.shared.current.load();
        let collection = current.collections.get(&self.collection)?;
        let parts = collection.parts.iter();
        let own = |live: &&LivePart| matches!(live.part(), Part::Segment(other) if Arc::ptr_eq(other, &self.segment));
        parts.clone().find(own).cloned()
    }

    /// Gives the next rows their vectors: for each `m` layer vectors, layer 0 first, unpadded. Durable when it
    /// returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another number of bytes than whole rows, or rows past the end; what the file system
    /// gives.
    pub fn push(&mut self, vectors: &[u8]) -> Result<()> {
        let each = self.layout.document_bytes();
        let rows = vectors.len() / each;
        if rows == 0
            || rows * each != vectors.len()
            || rows as u64 + u64::from(self.done) > self.segment.rows().into()
        {
            return Err(Error::Invalid {
                what: format!(
                    "{} bytes are no rows of {each} bytes among the {} that are missing",
                    vectors.len(),
                    self.segment.rows() - self.done
                ),
            });
        }
        let mut bytes = Vec::with_capacity(VECTORS_AT + vectors.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.segment.documents_checksum().to_le_bytes());
        bytes.extend_from_slice(&self.done.to_le_bytes());
        bytes.extend_from_slice(&(rows as u32).to_le_bytes());
        bytes.extend_from_slice(&(vectors.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(vectors).to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes.extend_from_slice(vectors);
        let path = self.path(self.done);
        let unfinished = path.with_extension(format!("spool{UNFINISHED}"));
        let vfs = self.shared.vfs();
        for old in [&path, &unfinished] {
            if vfs
                .exists(old)
                .map_err(|error| Error::io("look for", old, error))?
            {
                vfs.remove(old).map_err(|error| Error::io("remove", old, error))?;
            }
        }
        let file = vfs
            .create(&unfinished)
            .map_err(|error| Error::io("create", &unfinished, error))?;
        file.write_at(&bytes, 0)
            .map_err(|error| Error::io("write", &unfinished, error))?;
        file.sync_data()
            .map_err(|error| Error::io("sync", &unfinished, error))?;
        drop(file);
        vfs.rename(&unfinished, &path)
            .map_err(|error| Error::io("rename", &unfinished, error))?;
        let folder = self.shared.folder.segments();
        vfs.sync_folder(&folder)
            .map_err(|error| Error::io("sync", &folder, error))?;
        self.spools.push((self.done, path));
        self.done += rows as u32;
        Ok(())
    }

    /// Writes the vectors file and takes it into use. A segment that went meanwhile, with its collection or its
    /// generation, leaves nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] if rows are missing; [`Error::Corrupt`] for a spool that was changed; what the file system
    /// gives.
    pub fn finish(mut self) -> Result<()> {
        let folder = self.shared.folder.segments();
        let (number, generation) = (self.segment.number(), self.layout.generation);
        let shared = Arc::clone(&self.shared);
        let name = SegmentFile::Vectors { number, generation };
        let underway = Underway::enter(&shared, name)?;
        let mut writer = VectorsWriter::create(
            shared.vfs(),
            &folder,
            self.collection.into(),
            number,
            self.layout,
            self.segment.rows(),
            self.segment.documents_checksum(),
        )?;
        for (first, path) in &self.spools {
            let bytes = shared
                .vfs()
                .read(path)
                .map_err(|error| Error::io("read", path, error))?;
            let rows = self.rows_of(*first, &bytes);
            rows.ok_or_else(|| Error::corrupt(path, 0, "it has changed since it was written"))?;
            for row in bytes[VECTORS_AT..].chunks_exact(self.layout.document_bytes()) {
                writer.push(row.chunks_exact(self.layout.vector_bytes()))?;
            }
        }
        writer.finish()?;
        shared
            .vfs()
            .sync_folder(&folder)
            .map_err(|error| Error::io("sync", &folder, error))?;
        let filled = self.segment.with_vectors(shared.vfs(), &folder, self.layout)?;
        filled.look_for_companions(shared.vfs(), &folder)?;
        let filled = Arc::new(filled);
        let current = shared.current.load_full();
        let state = current.collections.get(&self.collection);
        if let Some(state) = state {
            shared.derive(&filled, &state.attributes);
        }
        let mut progress = locked(&shared.maintaining);
        let current = shared.current.load_full();
        let state = current.collections.get(&self.collection);
        if state.is_some_and(|state| state.layout(generation).is_some())
            && let Some(live) = self.live()
        {
            shared.swap(&[Replacement {
                collection: self.collection,
                sources: vec![(live, (0..filled.rows()).collect())],
                with: Some(Part::Segment(filled)),
            }]);
            progress.changed = true;
        } else {
            let path = folder.join(name.to_string());
            let removed = shared.vfs().remove(&path);
            removed.map_err(|error| Error::io("remove", &path, error))?;
        }
        drop(underway);
        // Once it is named, the sweep of this checkpoint takes the spools away.
        self.spools.clear();
        shared.checkpoint_holding(&mut progress)
    }

    fn path(&self, first: u32) -> PathBuf {
        let (number, generation) = (self.segment.number(), self.layout.generation);
        let name = SegmentFile::Spool {
            number,
            generation,
            first,
        };
        self.shared.folder.segments().join(name.to_string())
    }

    /// The number of rows in a spool that is whole and begins at that row.
    fn rows_of(&self, first: u32, bytes: &[u8]) -> Option<u32> {
        let vectors = bytes.get(VECTORS_AT..)?;
        let rows = u32_at(bytes, 20);
        let sound = bytes.starts_with(MAGIC)
            && u64_at(bytes, 8) == self.segment.documents_checksum()
            && u32_at(bytes, 16) == first
            && rows > 0
            && u64::from(first) + u64::from(rows) <= u64::from(self.segment.rows())
            && u64_at(bytes, 24) == vectors.len() as u64
            && vectors.len() == rows as usize * self.layout.document_bytes()
            && u64_at(bytes, 40) == xxh3_64(&bytes[..40])
            && u64_at(bytes, 32) == xxh3_64(vectors);
        sound.then_some(rows)
    }

    /// Takes up what an earlier try left, up to the first block that is missing or damaged.
    fn resume(&mut self) -> Result<()> {
        loop {
            let path = self.path(self.done);
            let vfs = self.shared.vfs();
            if !vfs
                .exists(&path)
                .map_err(|error| Error::io("look for", &path, error))?
            {
                return Ok(());
            }
            let bytes = vfs.read(&path).map_err(|error| Error::io("read", &path, error))?;
            let Some(rows) = self.rows_of(self.done, &bytes) else {
                tracing::warn!(path = %path.display(), "vectors that were damaged are made again");
                return Ok(());
            };
            self.spools.push((self.done, path));
            self.done += rows;
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        locked(&self.shared.filling).remove(&self.segment.number());
    }
}
