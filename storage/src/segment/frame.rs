//! The frame that all files of a segment but its deletions share: header, directory of sections, page checksums, footer.
//!
//! All numbers are little-endian; every section starts at a multiple of 4,096.
//!
//! ```text
//! file    0 .. 4,096                header
//!         4,096 ..                  sections, in any order, gaps zero and not checksummed
//!         directory_offset          directory: one entry of 32 bytes a section
//!         checksums_offset          page checksums: one u64 a page, sections in directory order
//!         file_bytes - 64           footer
//!
//! header    0   8  magic "STRATSEG"
//!           8   4  kind: 1 documents (.doc), 2 vectors (.vec); companions: 3 codes, 4 graph, 5 filter
//!          12   2  format version, major: a greater one is refused
//!          14   2  format version, minor: a greater one is read
//!          16   8  collection
//!          24   8  segment number
//!          32   8  rows, n
//!          40   8  file_bytes: length of the whole file
//!          48   4  generation      (vectors, codes and graph, else 0)
//!          52   4  dimension, D    (vectors only, else 0)
//!          56   4  layers, m       (vectors only, else 0)
//!          60   4  vectors: element, 1 f32, 2 f16; companions: version of the contents; else 0
//!          64   8  header checksum of the file that this one follows from: for vectors and filter the
//!                  documents, for codes and graph the vectors; documents: 0
//!          72   8  directory_offset
//!          80   8  directory entries
//!          88   8  xxh3-64 of the directory
//!          96   8  checksums_offset
//!         104   8  pages, over all sections
//!         112   8  xxh3-64 of the page checksums
//!         120 ..   zero, room for later minor versions
//!       4,088   8  xxh3-64 of bytes 0 .. 4,088: through the two checksums above it vouches for the whole file
//!
//! entry     0   4  kind of section (an unknown one is ignored)
//!           4   4  layer (planes only, else 0)
//!           8   4  encoding (planes: 1 f32, 2 f16; else 0)
//!          12   4  zero
//!          16   8  offset in the file
//!          24   8  length in bytes
//!
//! footer    0   8  magic "STRATEND"
//!           8   8  file_bytes
//!          16   8  the header's checksum
//!          24  32  zero
//!          56   8  xxh3-64 of bytes 0 .. 56 of the footer
//! ```
//!
//! A page is 64 KiB of one section, counted from the section's start; the last may be short.

use std::path::Path;

use crate::checksum::checksum;
use crate::error::{Error, Result};

/// The newest format version of segment files that this build reads, and the one it writes.
pub(crate) const VERSION: (u16, u16) = (1, 0);
/// Length of the header, and what sections are aligned to.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// Length of the footer.
pub(crate) const FOOTER_BYTES: u64 = 64;
/// Length of a directory entry.
pub(crate) const ENTRY_BYTES: u64 = 32;
/// No file has more sections: 256 layers in 16 encodings.
pub(crate) const ENTRIES_MAX: u64 = 4096;
/// Rows are counted in u32, and the last number is kept for "none".
pub(crate) const ROWS_MAX: u64 = u32::MAX as u64 - 1;

const MAGIC: &[u8; 8] = b"STRATSEG";
const MAGIC_END: &[u8; 8] = b"STRATEND";

const KIND_OFFSET: usize = MAGIC.len();
const MAJOR_OFFSET: usize = KIND_OFFSET + 4;
const MINOR_OFFSET: usize = MAJOR_OFFSET + 2;
const COLLECTION_OFFSET: usize = MINOR_OFFSET + 2;
const NUMBER_OFFSET: usize = COLLECTION_OFFSET + 8;
const ROWS_OFFSET: usize = NUMBER_OFFSET + 8;
const FILE_BYTES_OFFSET: usize = ROWS_OFFSET + 8;
const GENERATION_OFFSET: usize = FILE_BYTES_OFFSET + 8;
const DIMENSION_OFFSET: usize = GENERATION_OFFSET + 4;
const LAYERS_OFFSET: usize = DIMENSION_OFFSET + 4;
const ELEMENT_OFFSET: usize = LAYERS_OFFSET + 4;
const DOCUMENTS_CHECKSUM_OFFSET: usize = ELEMENT_OFFSET + 4;
const DIRECTORY_OFFSET: usize = DOCUMENTS_CHECKSUM_OFFSET + 8;
const DIRECTORY_COUNT_OFFSET: usize = DIRECTORY_OFFSET + 8;
const DIRECTORY_CHECKSUM_OFFSET: usize = DIRECTORY_COUNT_OFFSET + 8;
const CHECKSUMS_OFFSET: usize = DIRECTORY_CHECKSUM_OFFSET + 8;
const PAGES_OFFSET: usize = CHECKSUMS_OFFSET + 8;
const CHECKSUMS_CHECKSUM_OFFSET: usize = PAGES_OFFSET + 8;
const HEADER_CHECKSUM_OFFSET: usize = HEADER_BYTES as usize - 8;

const FOOTER_FILE_BYTES_OFFSET: usize = MAGIC_END.len();
const FOOTER_HEADER_CHECKSUM_OFFSET: usize = FOOTER_FILE_BYTES_OFFSET + 8;
const FOOTER_CHECKSUM_OFFSET: usize = FOOTER_BYTES as usize - 8;

const ENTRY_LAYER_OFFSET: usize = 4;
const ENTRY_ENCODING_OFFSET: usize = 8;
const ENTRY_START_OFFSET: usize = 16;
const ENTRY_LENGTH_OFFSET: usize = 24;

/// Which of a segment's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Documents,
    Vectors,
    Codes,
    Graph,
    Filter,
}

impl FileKind {
    const fn code(self) -> u32 {
        match self {
            FileKind::Documents => 1,
            FileKind::Vectors => 2,
            FileKind::Codes => 3,
            FileKind::Graph => 4,
            FileKind::Filter => 5,
        }
    }
}

/// The header, as far as it is not derived from the place it is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u32,
    pub(crate) collection: u64,
    pub(crate) number: u64,
    pub(crate) rows: u64,
    pub(crate) file_bytes: u64,
    pub(crate) generation: u32,
    pub(crate) dimension: u32,
    pub(crate) layers: u32,
    pub(crate) element: u32,
    pub(crate) documents_checksum: u64,
    pub(crate) directory_offset: u64,
    pub(crate) directory_count: u64,
    pub(crate) directory_checksum: u64,
    pub(crate) checksums_offset: u64,
    pub(crate) pages: u64,
    pub(crate) checksums_checksum: u64,
}

/// One entry of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: u32,
    pub(crate) layer: u32,
    pub(crate) encoding: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Four bytes at an offset; bytes past the end count as zero, so that no caller can make it fail.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

/// Eight bytes at an offset; bytes past the end count as zero, so that no caller can make it fail.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// Refuses a segment file of another major version; a file that is none of ours, or too short to say, passes.
pub(crate) fn check_version(path: &Path, head: &[u8]) -> Result<()> {
    let halves = u32_at(head, MAJOR_OFFSET);
    let found = ((halves & 0xffff) as u16, (halves >> 16) as u16);
    if !head.starts_with(MAGIC) || head.len() < MINOR_OFFSET + 2 || found.0 == VERSION.0 {
        return Ok(());
    }
    Err(Error::Version {
        path: path.to_owned(),
        kind: "segment",
        found,
        supported: VERSION,
    })
}

impl Header {
    pub(crate) fn new(kind: FileKind) -> Header {
        Header {
            kind: kind.code(),
            ..Header::default()
        }
    }

    /// The header's bytes and its checksum.
    pub(crate) fn to_bytes(self) -> (Vec<u8>, u64) {
        let mut bytes = vec![0u8; HEADER_BYTES as usize];
        let mut put =
            |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
        put(0, MAGIC);
        put(KIND_OFFSET, &self.kind.to_le_bytes());
        put(MAJOR_OFFSET, &VERSION.0.to_le_bytes());
        put(MINOR_OFFSET, &VERSION.1.to_le_bytes());
        put(COLLECTION_OFFSET, &self.collection.to_le_bytes());
        put(NUMBER_OFFSET, &self.number.to_le_bytes());
        put(ROWS_OFFSET, &self.rows.to_le_bytes());
        put(FILE_BYTES_OFFSET, &self.file_bytes.to_le_bytes());
        put(GENERATION_OFFSET, &self.generation.to_le_bytes());
        put(DIMENSION_OFFSET, &self.dimension.to_le_bytes());
        put(LAYERS_OFFSET, &self.layers.to_le_bytes());
        put(ELEMENT_OFFSET, &self.element.to_le_bytes());
        put(DOCUMENTS_CHECKSUM_OFFSET, &self.documents_checksum.to_le_bytes());
        put(DIRECTORY_OFFSET, &self.directory_offset.to_le_bytes());
        put(DIRECTORY_COUNT_OFFSET, &self.directory_count.to_le_bytes());
        put(DIRECTORY_CHECKSUM_OFFSET, &self.directory_checksum.to_le_bytes());
        put(CHECKSUMS_OFFSET, &self.checksums_offset.to_le_bytes());
        put(PAGES_OFFSET, &self.pages.to_le_bytes());
        put(CHECKSUMS_CHECKSUM_OFFSET, &self.checksums_checksum.to_le_bytes());
        let sum = checksum(&bytes[..HEADER_CHECKSUM_OFFSET]);
        bytes[HEADER_CHECKSUM_OFFSET..].copy_from_slice(&sum.to_le_bytes());
        (bytes, sum)
    }

    /// Reads and checks the header and the footer of a whole file, and that the file is the one wanted.
    ///
    /// Nothing read here is used as a size before it is known to lie inside the file.
    pub(crate) fn read(
        path: &Path,
        file: &[u8],
        wanted: FileKind,
        collection: u64,
        number: u64,
    ) -> Result<(Header, u64)> {
        let corrupt = |offset: usize, what: String| Err(Error::corrupt(path, offset as u64, what));
        if !file.starts_with(MAGIC) {
            return corrupt(0, "it does not begin as a segment file does".to_owned());
        }
        let length = file.len() as u64;
        if length < HEADER_BYTES + FOOTER_BYTES {
            return corrupt(
                0,
                format!("its {length} bytes are fewer than a header and a footer"),
            );
        }
        check_version(path, file)?;
        let sum = u64_at(file, HEADER_CHECKSUM_OFFSET);
        if checksum(&file[..HEADER_CHECKSUM_OFFSET]) != sum {
            return corrupt(0, "the header's checksum does not match".to_owned());
        }
        let header = Header {
            kind: u32_at(file, KIND_OFFSET),
            collection: u64_at(file, COLLECTION_OFFSET),
            number: u64_at(file, NUMBER_OFFSET),
            rows: u64_at(file, ROWS_OFFSET),
            file_bytes: u64_at(file, FILE_BYTES_OFFSET),
            generation: u32_at(file, GENERATION_OFFSET),
            dimension: u32_at(file, DIMENSION_OFFSET),
            layers: u32_at(file, LAYERS_OFFSET),
            element: u32_at(file, ELEMENT_OFFSET),
            documents_checksum: u64_at(file, DOCUMENTS_CHECKSUM_OFFSET),
            directory_offset: u64_at(file, DIRECTORY_OFFSET),
            directory_count: u64_at(file, DIRECTORY_COUNT_OFFSET),
            directory_checksum: u64_at(file, DIRECTORY_CHECKSUM_OFFSET),
            checksums_offset: u64_at(file, CHECKSUMS_OFFSET),
            pages: u64_at(file, PAGES_OFFSET),
            checksums_checksum: u64_at(file, CHECKSUMS_CHECKSUM_OFFSET),
        };
        if header.kind != wanted.code() {
            return corrupt(
                KIND_OFFSET,
                format!("it is of kind {}, not {}", header.kind, wanted.code()),
            );
        }
        if (header.collection, header.number) != (collection, number) {
            return corrupt(
                COLLECTION_OFFSET,
                format!(
                    "it belongs to segment {} of collection {}, not to segment {number} of collection {collection}",
                    header.number, header.collection
                ),
            );
        }
        if header.file_bytes != length {
            return corrupt(
                FILE_BYTES_OFFSET,
                format!(
                    "the file has {length} bytes and should have {}",
                    header.file_bytes
                ),
            );
        }
        if header.rows > ROWS_MAX {
            return corrupt(
                ROWS_OFFSET,
                format!("{} rows are more than a segment can hold", header.rows),
            );
        }
        let footer_offset = file.len() - FOOTER_BYTES as usize;
        let footer = &file[footer_offset..];
        if !footer.starts_with(MAGIC_END)
            || checksum(&footer[..FOOTER_CHECKSUM_OFFSET]) != u64_at(footer, FOOTER_CHECKSUM_OFFSET)
            || u64_at(footer, FOOTER_FILE_BYTES_OFFSET) != length
            || u64_at(footer, FOOTER_HEADER_CHECKSUM_OFFSET) != sum
        {
            return corrupt(footer_offset, "the footer does not match the header".to_owned());
        }
        Ok((header, sum))
    }

    /// The directory's entries, each known to lie inside the file.
    pub(crate) fn read_directory(&self, path: &Path, file: &[u8]) -> Result<Vec<Entry>> {
        if self.directory_count > ENTRIES_MAX {
            let what = format!(
                "{} sections are more than a segment file can hold",
                self.directory_count
            );
            return Err(Error::corrupt(path, DIRECTORY_COUNT_OFFSET as u64, what));
        }
        let bytes = self.inside(
            path,
            file,
            self.directory_offset,
            self.directory_count * ENTRY_BYTES,
        )?;
        if checksum(bytes) != self.directory_checksum {
            return Err(Error::corrupt(
                path,
                self.directory_offset,
                "the directory's checksum does not match",
            ));
        }
        let mut entries = Vec::with_capacity(self.directory_count as usize);
        for (index, bytes) in bytes.chunks_exact(ENTRY_BYTES as usize).enumerate() {
            let entry = Entry {
                kind: u32_at(bytes, 0),
                layer: u32_at(bytes, ENTRY_LAYER_OFFSET),
                encoding: u32_at(bytes, ENTRY_ENCODING_OFFSET),
                offset: u64_at(bytes, ENTRY_START_OFFSET),
                len: u64_at(bytes, ENTRY_LENGTH_OFFSET),
            };
            self.inside(path, file, entry.offset, entry.len)?;
            if entries.iter().any(|other: &Entry| {
                (other.kind, other.layer, other.encoding) == (entry.kind, entry.layer, entry.encoding)
            }) {
                let offset = self.directory_offset + index as u64 * ENTRY_BYTES;
                return Err(Error::corrupt(
                    path,
                    offset,
                    "the directory names a section twice",
                ));
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The page checksums, as bytes.
    pub(crate) fn read_checksums<'a>(&self, path: &Path, file: &'a [u8]) -> Result<&'a [u8]> {
        let len = self.pages.saturating_mul(8);
        let bytes = self.inside(path, file, self.checksums_offset, len)?;
        if checksum(bytes) != self.checksums_checksum {
            return Err(Error::corrupt(
                path,
                self.checksums_offset,
                "the page checksums do not match their own",
            ));
        }
        Ok(bytes)
    }

    /// A slice of the file between header and footer, at a multiple of 4,096.
    fn inside<'a>(&self, path: &Path, file: &'a [u8], offset: u64, len: u64) -> Result<&'a [u8]> {
        let end = offset.checked_add(len);
        let last = file.len() as u64 - FOOTER_BYTES;
        match end {
            Some(end) if offset >= HEADER_BYTES && end <= last && offset.is_multiple_of(HEADER_BYTES) => {
                Ok(&file[offset as usize..end as usize])
            }
            _ => Err(Error::corrupt(
                path,
                DIRECTORY_OFFSET as u64,
                format!(
                    "a section of {len} bytes at {offset} does not lie inside the file, or not at a multiple of {HEADER_BYTES}"
                ),
            )),
        }
    }
}

impl Entry {
    pub(crate) fn to_bytes(self) -> [u8; ENTRY_BYTES as usize] {
        let mut bytes = [0u8; ENTRY_BYTES as usize];
        bytes[..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[ENTRY_LAYER_OFFSET..][..4].copy_from_slice(&self.layer.to_le_bytes());
        bytes[ENTRY_ENCODING_OFFSET..][..4].copy_from_slice(&self.encoding.to_le_bytes());
        bytes[ENTRY_START_OFFSET..][..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[ENTRY_LENGTH_OFFSET..][..8].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }
}

/// The footer of a file whose header has the given checksum.
pub(crate) fn footer(file_bytes: u64, header_checksum: u64) -> [u8; FOOTER_BYTES as usize] {
    let mut bytes = [0u8; FOOTER_BYTES as usize];
    bytes[..MAGIC_END.len()].copy_from_slice(MAGIC_END);
    bytes[FOOTER_FILE_BYTES_OFFSET..][..8].copy_from_slice(&file_bytes.to_le_bytes());
    bytes[FOOTER_HEADER_CHECKSUM_OFFSET..][..8].copy_from_slice(&header_checksum.to_le_bytes());
    let sum = checksum(&bytes[..FOOTER_CHECKSUM_OFFSET]);
    bytes[FOOTER_CHECKSUM_OFFSET..].copy_from_slice(&sum.to_le_bytes());
    bytes
}
