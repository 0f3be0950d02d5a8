//! Segments: immutable, memory-mapped files of many documents.
//!
//! A segment is one documents file (`.doc`) and one vectors file (`.vec`) for each generation, with the same
//! rows in the same order, so that re-embedding writes no text again. Companions beside them follow from them. Opening reads the headers, directories
//! and page checksums; every other page is checked when it is first touched.

mod companion;
mod documents;
mod file_writer;
mod frame;
mod mapped;
mod name;
mod payload;
mod vectors;
mod verify;
mod versions;
mod write;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::layout::Layout;
use crate::part::{PlaneBytes, check_layer, check_row, unknown_generation};
use crate::vfs::Vfs;

use companion::Beside;
use documents::Documents;
use vectors::Vectors;

pub use companion::{Companion, CompanionKind, CompanionWriter};
pub(crate) use frame::{ROWS_MAX, u32_at, u64_at};
pub use name::{SegmentFile, UNFINISHED};
pub use payload::{PAYLOAD_BYTES_MAX, PayloadCursor};
pub use vectors::VectorsWriter;
pub(crate) use versions::check_versions;
pub use write::{SegmentPlan, write_segment};

/// An open segment. Its files may be unlinked while it is held: the mappings stay.
pub struct Segment {
    number: u64,
    collection: u64,
    documents: Arc<Documents>,
    vectors: Vec<Arc<Vectors>>,
    layouts: Vec<Layout>,
    /// They come and go while the segment is open.
    companions: ArcSwap<Vec<Arc<Companion>>>,
}

impl Segment {
    /// Maps a segment's documents and the vectors of the given generations, checking all but their pages.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for files that are damaged or not this segment's, [`Error::Version`] for those of a
    /// newer build, the file system's errors for missing ones.
    pub fn open(
        vfs: &dyn Vfs,
        folder: &Path,
        number: u64,
        collection: u64,
        generations: &[Layout],
    ) -> Result<Segment> {
        let path = folder.join(SegmentFile::Documents { number }.to_string());
        let documents = Arc::new(Documents::open(vfs, &path, collection, number)?);
        let mut segment = Segment {
            number,
            collection,
            documents,
            vectors: Vec::new(),
            layouts: Vec::new(),
            companions: ArcSwap::default(),
        };
        for &layout in generations {
            segment = segment.with_vectors(vfs, folder, layout)?;
        }
        segment.look_for_companions(vfs, folder)?;
        Ok(segment)
    }

    /// The same segment with one generation more, whose vectors file has been written since.
    ///
    /// # Errors
    /// As [`Segment::open`]; [`Error::Invalid`] if it has the generation already.
    pub fn with_vectors(&self, vfs: &dyn Vfs, folder: &Path, layout: Layout) -> Result<Segment> {
        layout.check()?;
        if self
            .layouts
            .iter()
            .any(|other| other.generation == layout.generation)
        {
            return Err(Error::Invalid {
                what: format!(
                    "segment {} has generation {} already",
                    self.number, layout.generation
                ),
            });
        }
        let rows = (self.rows(), self.documents_checksum());
        let opened = Vectors::open(vfs, folder, (self.collection, self.number), layout, rows)?;
        let mut segment = self.without_vectors(layout.generation);
        segment.vectors.push(Arc::new(opened));
        segment.layouts.push(layout);
        Ok(segment)
    }

    /// The same segment without a generation. The file is the caller's to unlink.
    pub fn without_vectors(&self, generation: u32) -> Segment {
        let kept = self
            .vectors
            .iter()
            .filter(|vectors| vectors.layout.generation != generation);
        let vectors: Vec<_> = kept.cloned().collect();
        let companions = self.companions.load();
        let companions = companions
            .iter()
            .filter(|companion| companion.kind().generation() != Some(generation));
        Segment {
            number: self.number,
            collection: self.collection,
            documents: self.documents.clone(),
            layouts: vectors.iter().map(|vectors| vectors.layout).collect(),
            vectors,
            companions: ArcSwap::from_pointee(companions.cloned().collect()),
        }
    }

    /// The companion of a kind, if there is one that can be used.
    pub fn companion(&self, kind: CompanionKind) -> Option<Arc<Companion>> {
        let companions = self.companions.load();
        companions
            .iter()
            .find(|companion| companion.kind() == kind && !companion.is_damaged())
            .cloned()
    }

    /// Opens companions that have been written since, by whomever.
    pub(crate) fn look_for_companions(&self, vfs: &dyn Vfs, folder: &Path) -> Result<()> {
        let generations = self.layouts.iter().map(|layout| layout.generation);
        let kinds = generations
            .flat_map(|generation| {
                [
                    CompanionKind::Codes { generation },
                    CompanionKind::Graph { generation },
                ]
            })
            .chain([CompanionKind::Filter]);
        for kind in kinds {
            if self.companion(kind).is_none()
                && let Some(beside) = self.beside(kind)
                && let Some(companion) = Companion::open(vfs, folder, kind, &beside)?
            {
                self.attach(Arc::new(companion));
            }
        }
        Ok(())
    }

    /// Starts a companion's file.
    pub(crate) fn write_companion<'a>(
        &self,
        vfs: &'a dyn Vfs,
        folder: &Path,
        kind: CompanionKind,
        version: u32,
    ) -> Result<CompanionWriter<'a>> {
        match self.beside(kind) {
            Some(beside) => CompanionWriter::create(vfs, folder, kind, version, &beside),
            None => Err(unknown_generation(kind.generation().unwrap_or_default())),
        }
    }

    /// Takes up a companion that has just been written.
    pub(crate) fn take_up_companion(
        &self,
        vfs: &dyn Vfs,
        folder: &Path,
        kind: CompanionKind,
    ) -> Result<Arc<Companion>> {
        let written = self
            .beside(kind)
            .map(|beside| Companion::open(vfs, folder, kind, &beside))
            .transpose()?
            .flatten();
        let Some(companion) = written.map(Arc::new) else {
            let path = companion::companion_path(folder, kind, self.number);
            return Err(Error::corrupt(
                &path,
                0,
                "it was written just now and cannot be read",
            ));
        };
        self.attach(Arc::clone(&companion));
        Ok(companion)
    }

    /// Lets a companion go; its file is the caller's to unlink. Whoever holds it keeps it.
    pub(crate) fn detach(&self, kind: CompanionKind) {
        self.companions.rcu(|companions| {
            let kept = companions.iter().filter(|companion| companion.kind() != kind);
            kept.cloned().collect::<Vec<_>>()
        });
    }

    fn attach(&self, companion: Arc<Companion>) {
        self.companions.rcu(|companions| {
            let others = companions.iter().filter(|other| other.kind() != companion.kind());
            others
                .cloned()
                .chain([Arc::clone(&companion)])
                .collect::<Vec<_>>()
        });
    }

    fn beside(&self, kind: CompanionKind) -> Option<Beside> {
        let follows_from = match kind.generation() {
            None => self.documents_checksum(),
            Some(generation) => self.vectors_checksum(generation)?,
        };
        Some(Beside {
            collection: self.collection,
            number: self.number,
            rows: self.rows(),
            follows_from,
        })
    }

    /// The segment's number, never used twice in a database.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The collection it belongs to.
    pub fn collection(&self) -> u64 {
        self.collection
    }

    /// The number of rows, dead ones included.
    pub fn rows(&self) -> u32 {
        self.documents.rows()
    }

    /// The generations that are open.
    pub fn layouts(&self) -> &[Layout] {
        &self.layouts
    }

    /// What vectors files and indexes name this segment's rows by.
    pub fn documents_checksum(&self) -> u64 {
        self.documents.file.header_checksum()
    }

    /// What an index names one generation's vectors by; `None` for a generation that is not open.
    pub fn vectors_checksum(&self, generation: u32) -> Option<u64> {
        let vectors = self
            .vectors
            .iter()
            .find(|vectors| vectors.layout.generation == generation);
        vectors.map(|vectors| vectors.file.header_checksum())
    }

    /// Bytes of its open files.
    pub fn disk_bytes(&self) -> u64 {
        let vectors: u64 = self.vectors.iter().map(|vectors| vectors.file.bytes()).sum();
        let companions = self.companions.load();
        let companions: u64 = companions.iter().map(|companion| companion.disk_bytes()).sum();
        self.documents.file.bytes() + vectors + companions
    }

    /// Bytes of memory beside the mappings.
    pub fn memory_bytes(&self) -> usize {
        let vectors: usize = self
            .vectors
            .iter()
            .map(|vectors| vectors.file.memory_bytes())
            .sum();
        let companions = self.companions.load();
        let companions: usize = companions.iter().map(|companion| companion.memory_bytes()).sum();
        self.documents.file.memory_bytes() + vectors + companions + size_of::<Segment>()
    }

    /// The paths of its open files.
    pub fn files(&self) -> Vec<PathBuf> {
        let vectors = self.vectors.iter().map(|vectors| vectors.file.path().to_owned());
        let companions = self.companions.load();
        let companions = companions.iter().map(|companion| companion.path().to_owned());
        std::iter::once(self.documents.file.path().to_owned())
            .chain(vectors)
            .chain(companions)
            .collect()
    }

    /// Whether damage was found since it was opened; not in its companions, which nobody depends on.
    pub fn is_quarantined(&self) -> bool {
        self.documents.file.is_damaged() || self.vectors.iter().any(|vectors| vectors.file.is_damaged())
    }

    /// The docid of a row.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a row past the end, [`Error::Corrupt`] for a damaged page; so for all below.
    pub fn docid(&self, row: u32) -> Result<u64> {
        check_row(row, self.rows())?;
        self.documents.docid(row)
    }

    /// The commit that wrote a row.
    ///
    /// # Errors
    /// As [`Segment::docid`].
    pub fn version(&self, row: u32) -> Result<u64> {
        check_row(row, self.rows())?;
        self.documents.version(row)
    }

    /// The external id of a row.
    ///
    /// # Errors
    /// As [`Segment::docid`].
    pub fn id(&self, row: u32) -> Result<Id> {
        check_row(row, self.rows())?;
        self.documents.id(row)
    }

    /// The external ids of several rows and the commits that wrote them, in their order; quicker than one after the
    /// other.
    ///
    /// # Errors
    /// As [`Segment::docid`].
    pub fn ids_and_versions(&self, rows: &[u32]) -> Result<Vec<(Id, u64)>> {
        for &row in rows {
            check_row(row, self.rows())?;
        }
        self.documents.ids_and_versions(rows)
    }

    /// All rows with an id, in ascending order; `hash` is the id's [`Id::hash64`].
    ///
    /// # Errors
    /// As [`Segment::docid`].
    pub fn find_hashed(&self, hash: u64, id: &Id) -> Result<Vec<u32>> {
        self.documents.find_all(hash, &id.to_bytes())
    }

    /// The payload of a row.
    ///
    /// # Errors
    /// As [`Segment::docid`].
    pub fn payload<'a>(&'a self, row: u32, cursor: &'a mut PayloadCursor) -> Result<&'a [u8]> {
        check_row(row, self.rows())?;
        self.documents.payload(row, cursor)
    }

    /// A range of rows of a plane.
    ///
    /// # Errors
    /// As [`Segment::docid`]; [`Error::Invalid`] for an unknown generation or layer too.
    pub fn plane(&self, generation: u32, layer: u32, rows: Range<u32>) -> Result<PlaneBytes<'_>> {
        let rows = match rows.start < rows.end {
            true => rows,
            false => 0..0,
        };
        if rows.end > 0 {
            check_row(rows.end - 1, self.rows())?;
        }
        self.vectors_of(generation, layer)?.plane(layer, rows)
    }

    /// A whole plane, its pages unchecked: [`Segment::plane`] of the rows that are then read checks those.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown generation or layer.
    pub fn unchecked_plane(&self, generation: u32, layer: u32) -> Result<PlaneBytes<'_>> {
        Ok(self.vectors_of(generation, layer)?.unchecked_plane(layer))
    }

    /// One layer vector, without its padding.
    ///
    /// # Errors
    /// As [`Segment::plane`].
    pub fn vector(&self, generation: u32, layer: u32, row: u32) -> Result<&[u8]> {
        check_row(row, self.rows())?;
        self.vectors_of(generation, layer)?.vector(layer, row)
    }

    pub(crate) fn id_bytes(&self, row: u32) -> Result<&[u8]> {
        check_row(row, self.rows())?;
        self.documents.id_bytes(row)
    }

    pub(crate) fn hash_at(&self, place: u32) -> Result<(u64, u32)> {
        check_row(place, self.rows())?;
        self.documents.hash_at(place)
    }

    fn vectors_of(&self, generation: u32, layer: u32) -> Result<&Vectors> {
        match self
            .vectors
            .iter()
            .find(|vectors| vectors.layout.generation == generation)
        {
            Some(vectors) => check_layer(layer, &vectors.layout).map(|()| &**vectors),
            None => Err(unknown_generation(generation)),
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("number", &self.number)
            .field("collection", &self.collection)
            .field("rows", &self.rows())
            .field("layouts", &self.layouts)
            .finish_non_exhaustive()
    }
}
