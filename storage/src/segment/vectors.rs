//! A vectors file of a segment: one generation's vectors, plane by plane.
//!
//! The frame is described in `frame.rs`; the header says dimension `D`, layers `m`, element and the checksum
//! of the documents file whose rows these are. Sections, `n` rows:
//!
//! ```text
//! kind 16  plane, one a layer   n rows of a stride: D elements, then zeros to a multiple of 64 bytes
//! ```
//!
//! The entry's encoding is the element's code. Planes of other encodings (scan codes, a copy in another
//! element) can stand beside these under the same layer; a reader that does not know them ignores them.

use std::ops::Range;
use std::path::Path;

use super::file_writer::{FileWriter, NewSection, STEP_BUFFER_BYTES, SectionWriter};
use super::frame::{FileKind, Header, ROWS_MAX};
use super::mapped::{MappedFile, Section};
use super::name::SegmentFile;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::part::PlaneBytes;
use crate::vfs::Vfs;

const KIND_PLANE: u32 = 16;
/// All buffers of a writer together stay at about this size, which is enough for seven layers to be written in steps.
const BUFFERS_BYTES: usize = 16 * 1024 * 1024;

/// A vectors file, open. Layers and rows given to it are below the layout's and the file's.
pub(super) struct Vectors {
    pub(super) file: MappedFile,
    pub(super) layout: Layout,
    planes: Vec<Section>,
}

impl Vectors {
    pub(super) fn open(
        vfs: &dyn Vfs,
        folder: &Path,
        (collection, number): (u64, u64),
        layout: Layout,
        (rows, documents_checksum): (u32, u64),
    ) -> Result<Vectors> {
        let generation = layout.generation;
        let path = folder.join(SegmentFile::Vectors { number, generation }.to_string());
        let file = MappedFile::open(vfs, &path, FileKind::Vectors, collection, number)?;
        let header = *file.header();
        let found = (header.generation, header.dimension, header.layers, header.element);
        let wanted = (generation, layout.dimension, layout.layers, layout.element.code());
        if found != wanted {
            let what = format!("it holds (generation, dimension, layers, element) {found:?}, not {wanted:?}");
            return Err(Error::corrupt(&path, 0, what));
        }
        if (header.rows, header.documents_checksum) != (rows.into(), documents_checksum) {
            return Err(Error::corrupt(&path, 0, "it belongs to another documents file"));
        }
        let len = u64::from(rows) * layout.stride() as u64;
        let planes = (0..layout.layers)
            .map(|layer| file.section(KIND_PLANE, layer, layout.element.code(), Some(len)))
            .collect::<Result<_>>()?;
        Ok(Vectors { file, layout, planes })
    }

    pub(super) fn plane(&self, layer: u32, rows: Range<u32>) -> Result<PlaneBytes<'_>> {
        let stride = self.layout.stride() as u64;
        let bytes = u64::from(rows.start) * stride..u64::from(rows.end) * stride;
        Ok(PlaneBytes {
            bytes: self.file.read(&self.planes[layer as usize], bytes)?,
            stride: self.layout.stride(),
            rows: rows.end - rows.start,
        })
    }

    pub(super) fn unchecked_plane(&self, layer: u32) -> PlaneBytes<'_> {
        PlaneBytes {
            bytes: self.file.unchecked(&self.planes[layer as usize]),
            stride: self.layout.stride(),
            rows: self.file.header().rows as u32,
        }
    }

    pub(super) fn vector(&self, layer: u32, row: u32) -> Result<&[u8]> {
        let start = u64::from(row) * self.layout.stride() as u64;
        self.file.read(
            &self.planes[layer as usize],
            start..start + self.layout.vector_bytes() as u64,
        )
    }

    /// Damage of a vector's contents.
    pub(super) fn damaged_vector(&self, layer: u32, row: u32, what: &str) -> Error {
        let offset = u64::from(row) * self.layout.stride() as u64;
        self.file.damage(
            &self.planes[layer as usize],
            offset,
            format!("the vector of row {row}, layer {layer} {what}"),
        )
    }
}

/// Writes one generation's vectors of a segment, row by row, all layers at once, in bounded memory.
///
/// Dropped before [`VectorsWriter::finish`], it leaves no file behind.
pub struct VectorsWriter<'a> {
    file: FileWriter<'a>,
    header: Header,
    layout: Layout,
    planes: Vec<SectionWriter>,
    rows_written: u64,
    padding: Vec<u8>,
}

impl<'a> VectorsWriter<'a> {
    /// Starts the vectors file of a segment's generation: `rows` rows, in the order of the documents file
    /// that has the checksum `documents_checksum` ([`crate::Segment::documents_checksum`]).
    ///
    /// # Errors
    /// [`Error::Invalid`] for a layout out of bounds or a file that exists; the file system's errors.
    pub fn create(
        vfs: &'a dyn Vfs,
        folder: &Path,
        collection: u64,
        number: u64,
        layout: Layout,
        rows: u32,
        documents_checksum: u64,
    ) -> Result<VectorsWriter<'a>> {
        layout.check()?;
        if u64::from(rows) > ROWS_MAX {
            return Err(Error::Invalid {
                what: format!("a segment holds at most {ROWS_MAX} rows, not {rows}"),
            });
        }
        let generation = layout.generation;
        let name = SegmentFile::Vectors { number, generation }.to_string();
        let mut file = FileWriter::create(vfs, folder, &name)?;
        let buffer = (BUFFERS_BYTES / layout.layers as usize).min(STEP_BUFFER_BYTES);
        let planes = (0..layout.layers)
            .map(|layer| {
                let section = NewSection {
                    kind: KIND_PLANE,
                    layer,
                    encoding: layout.element.code(),
                    len: Some(u64::from(rows) * layout.stride() as u64),
                };
                file.section(section, buffer)
            })
            .collect();
        let header = Header {
            collection,
            number,
            rows: rows.into(),
            generation,
            dimension: layout.dimension,
            layers: layout.layers,
            element: layout.element.code(),
            documents_checksum,
            ..Header::new(FileKind::Vectors)
        };
        Ok(VectorsWriter {
            file,
            header,
            layout,
            planes,
            rows_written: 0,
            padding: vec![0; layout.stride() - layout.vector_bytes()],
        })
    }

    /// Adds the next row: its `m` layer vectors, layer 0 first, each of `vector_bytes` bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for vectors of another shape or a row too many; the file system's errors.
    pub fn push<'v>(&mut self, vectors: impl IntoIterator<Item = &'v [u8]>) -> Result<()> {
        let mut layers = 0;
        for vector in vectors {
            let Some(plane) = self.planes.get_mut(layers) else {
                return Err(self.wrong_shape());
            };
            if vector.len() != self.layout.vector_bytes() {
                return Err(self.wrong_shape());
            }
            self.file.push(plane, vector)?;
            self.file.push(plane, &self.padding)?;
            layers += 1;
        }
        if layers != self.planes.len() || self.rows_written == self.header.rows {
            return Err(self.wrong_shape());
        }
        self.rows_written += 1;
        Ok(())
    }

    fn wrong_shape(&self) -> Error {
        Error::Invalid {
            what: format!(
                "row {} of the vectors is not one of {} rows of {} vectors of {} bytes",
                self.rows_written,
                self.header.rows,
                self.layout.layers,
                self.layout.vector_bytes()
            ),
        }
    }

    /// Makes the file durable and gives it its name. The folder is the caller's to sync.
    ///
    /// # Errors
    /// [`Error::Invalid`] if rows are missing; the file system's errors.
    pub fn finish(mut self) -> Result<()> {
        if self.rows_written != self.header.rows {
            return Err(self.wrong_shape());
        }
        for plane in std::mem::take(&mut self.planes) {
            self.file.close(plane)?;
        }
        self.file.finish(self.header).map(drop)
    }
}
