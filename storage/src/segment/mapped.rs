//! A segment file in memory: checked when opened, each page once more when it is first touched.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::frame::{Entry, FileKind, Header, u64_at};
use crate::checksum::{CheckedPages, PAGE_BYTES, checksum, page_count};
use crate::error::{Error, Result};
use crate::vfs::{Mapping, Vfs};

/// A mapped segment file.
pub(crate) struct MappedFile {
    path: PathBuf,
    mapping: Box<dyn Mapping>,
    header: Header,
    header_checksum: u64,
    sections: Vec<Section>,
    checked: CheckedPages,
    damaged: AtomicBool,
}

/// A section whose place in the file is known to be sound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    entry: Entry,
    first_page: u64,
}

impl Section {
    pub(crate) fn len(&self) -> u64 {
        self.entry.len
    }

    /// The place in the file of a byte of the section, for error messages.
    pub(crate) fn position(&self, offset: u64) -> u64 {
        self.entry.offset.saturating_add(offset)
    }
}

impl MappedFile {
    /// Maps a file and checks all but its pages.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        path: &Path,
        kind: FileKind,
        collection: u64,
        number: u64,
    ) -> Result<MappedFile> {
        let mapping = vfs.map(path).map_err(|e| Error::io("map", path, e))?;
        let file = mapping.bytes();
        let (header, header_checksum) = Header::read(path, file, kind, collection, number)?;
        header.read_checksums(path, file)?;
        let mut pages = 0;
        let mut sections = Vec::new();
        for entry in header.read_directory(path, file)? {
            sections.push(Section {
                entry,
                first_page: pages,
            });
            pages += page_count(entry.len);
        }
        if pages != header.pages {
            let what = format!("{} page checksums for {pages} pages", header.pages);
            return Err(Error::corrupt(path, header.checksums_offset, what));
        }
        Ok(MappedFile {
            path: path.to_owned(),
            header,
            header_checksum,
            sections,
            checked: CheckedPages::new(pages),
            damaged: AtomicBool::new(false),
            mapping,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn header_checksum(&self) -> u64 {
        self.header_checksum
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.checked.memory_bytes() + self.sections.len() * size_of::<Section>()
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.header.file_bytes
    }

    /// A section that must be there, of the given length if one is given.
    pub(crate) fn section(&self, kind: u32, layer: u32, encoding: u32, len: Option<u64>) -> Result<Section> {
        let wanted = |section: &&Section| {
            (section.entry.kind, section.entry.layer, section.entry.encoding) == (kind, layer, encoding)
        };
        let corrupt = |what| Err(Error::corrupt(&self.path, self.header.directory_offset, what));
        match self.sections.iter().find(wanted) {
            None => corrupt(format!(
                "section {kind} (layer {layer}, encoding {encoding}) is missing"
            )),
            Some(section) if len.is_some_and(|len| len != section.len()) => corrupt(format!(
                "section {kind} (layer {layer}) has {} bytes and should have {}",
                section.len(),
                len.unwrap_or_default()
            )),
            Some(section) => Ok(*section),
        }
    }

    /// Bytes of a section, their pages checked. A range past its end is damage: callers bound rows before.
    pub(crate) fn read(&self, section: &Section, range: Range<u64>) -> Result<&[u8]> {
        if range.start > range.end || range.end > section.len() {
            self.damaged.store(true, Ordering::Relaxed);
            let what = format!(
                "bytes {} to {} of a section of {} bytes are asked for",
                range.start,
                range.end,
                section.len()
            );
            return Err(Error::corrupt(&self.path, section.position(range.start), what));
        }
        let page = PAGE_BYTES as u64;
        if range.start < range.end {
            let pages =
                section.first_page + range.start / page..section.first_page + (range.end - 1) / page + 1;
            let mut next = pages.start;
            while let Some(unchecked) = self.checked.first_unchecked(next..pages.end) {
                self.check_page(section, unchecked)?;
                next = unchecked + 1;
            }
        }
        let start = section.entry.offset as usize;
        Ok(&self.mapping.bytes()[start + range.start as usize..start + range.end as usize])
    }

    /// Brings the cache lines of bytes of a section near, wherever these exist. Nothing is made of what they say, so their
    /// pages need no check.
    pub(crate) fn touch(&self, section: &Section, offsets: impl Iterator<Item = u64>) {
        let bytes = self.unchecked(section);
        let told = offsets.filter_map(|offset| bytes.get(offset as usize));
        std::hint::black_box(told.fold(0u8, |all, byte| all ^ byte));
    }

    /// A whole section, its pages unchecked: for those who check what they touch with [`MappedFile::read`].
    pub(crate) fn unchecked(&self, section: &Section) -> &[u8] {
        let start = section.entry.offset as usize;
        &self.mapping.bytes()[start..start + section.len() as usize]
    }

    /// Eight bytes of a column.
    pub(crate) fn read_u64(&self, section: &Section, index: u64) -> Result<u64> {
        Ok(u64_at(self.read(section, index * 8..index * 8 + 8)?, 0))
    }

    /// Damage that was found in what a page says rather than in its checksum.
    pub(crate) fn damage(&self, section: &Section, offset: u64, what: impl Into<String>) -> Error {
        self.damaged.store(true, Ordering::Relaxed);
        Error::corrupt(&self.path, section.position(offset), what)
    }

    fn check_page(&self, section: &Section, page: u64) -> Result<()> {
        let file = self.mapping.bytes();
        let start = (page - section.first_page) * PAGE_BYTES as u64;
        let end = section.len().min(start + PAGE_BYTES as u64);
        let bytes = &file[section.position(start) as usize..section.position(end) as usize];
        if checksum(bytes) != u64_at(file, (self.header.checksums_offset + page * 8) as usize) {
            let what = format!(
                "the checksum of page {page} ({} bytes) does not match",
                bytes.len()
            );
            return Err(self.damage(section, start, what));
        }
        self.checked.insert(page);
        Ok(())
    }

    /// Checks every page again, also those that were found sound before. Returns their number.
    pub(crate) fn check_all(&self) -> Result<u64> {
        self.header.read_checksums(&self.path, self.mapping.bytes())?;
        for section in &self.sections {
            for page in 0..page_count(section.len()) {
                self.check_page(section, section.first_page + page)?;
            }
        }
        Ok(self.header.pages)
    }
}
