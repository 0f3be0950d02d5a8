//! Writing a segment file: sections stream to a temporary name, which becomes the real one when all is durable.

use std::path::{Path, PathBuf};

use super::frame::{self, Entry, HEADER_BYTES, Header};
use super::name::UNFINISHED;
use crate::checksum::{PAGE_BYTES, checksum};
use crate::error::{Error, Result};
use crate::vfs::{File, Vfs};

/// A segment file on its way to the disk. Dropped before [`FileWriter::finish`], it leaves nothing behind.
pub(crate) struct FileWriter<'a> {
    vfs: &'a dyn Vfs,
    path: PathBuf,
    unfinished: PathBuf,
    file: Option<Box<dyn File>>,
    end: u64,
    entries: Vec<Entry>,
    checksums: Vec<Vec<u64>>,
}

/// One section while its bytes come in.
pub(crate) struct SectionWriter {
    index: usize,
    offset: u64,
    flushed: u64,
    buffer: Vec<u8>,
    buffer_bytes: usize,
    checksums: Vec<u64>,
}

/// What a section is, and its length where that is known before it is written.
pub(crate) struct NewSection {
    pub(crate) kind: u32,
    pub(crate) layer: u32,
    pub(crate) encoding: u32,
    pub(crate) len: Option<u64>,
}

impl<'a> FileWriter<'a> {
    /// Starts the file `name`, which must not exist, in a folder that does.
    pub(crate) fn create(vfs: &'a dyn Vfs, folder: &Path, name: &str) -> Result<FileWriter<'a>> {
        let path = folder.join(name);
        let unfinished = folder.join(format!("{name}{UNFINISHED}"));
        if vfs.exists(&path).map_err(|e| Error::io("look for", &path, e))? {
            return Err(Error::Invalid {
                what: format!("{} exists: a segment's number is used only once", path.display()),
            });
        }
        if vfs
            .exists(&unfinished)
            .map_err(|e| Error::io("look for", &unfinished, e))?
        {
            vfs.remove(&unfinished)
                .map_err(|e| Error::io("remove", &unfinished, e))?;
        }
        let file = vfs
            .create(&unfinished)
            .map_err(|e| Error::io("create", &unfinished, e))?;
        Ok(FileWriter {
            vfs,
            path,
            unfinished,
            file: Some(file),
            end: HEADER_BYTES,
            entries: Vec::new(),
            checksums: Vec::new(),
        })
    }

    /// Starts a section. One without a known length must be closed before the next is started.
    pub(crate) fn section(&mut self, section: NewSection, buffer_bytes: usize) -> SectionWriter {
        let offset = self.end;
        self.end = (offset + section.len.unwrap_or(0)).next_multiple_of(HEADER_BYTES);
        self.entries.push(Entry {
            kind: section.kind,
            layer: section.layer,
            encoding: section.encoding,
            offset,
            len: 0,
        });
        self.checksums.push(Vec::new());
        SectionWriter {
            index: self.entries.len() - 1,
            offset,
            flushed: 0,
            buffer: Vec::new(),
            buffer_bytes: buffer_bytes.next_multiple_of(PAGE_BYTES),
            checksums: Vec::new(),
        }
    }

    /// Adds bytes to a section.
    pub(crate) fn push(&self, section: &mut SectionWriter, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = section.buffer_bytes - section.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            section.buffer.extend_from_slice(now);
            bytes = later;
            if section.buffer.len() == section.buffer_bytes {
                self.flush(section)?;
            }
        }
        Ok(())
    }

    fn flush(&self, section: &mut SectionWriter) -> Result<()> {
        section
            .checksums
            .extend(section.buffer.chunks(PAGE_BYTES).map(checksum));
        self.write(&section.buffer, section.offset + section.flushed)?;
        section.flushed += section.buffer.len() as u64;
        section.buffer.clear();
        Ok(())
    }

    /// Ends a section.
    pub(crate) fn close(&mut self, mut section: SectionWriter) -> Result<()> {
        self.flush(&mut section)?;
        self.entries[section.index].len = section.flushed;
        self.checksums[section.index] = section.checksums;
        self.end = self
            .end
            .max((section.offset + section.flushed).next_multiple_of(HEADER_BYTES));
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        match &self.file {
            Some(file) if !bytes.is_empty() => file
                .write_at(bytes, offset)
                .map_err(|e| Error::io("write", &self.unfinished, e)),
            _ => Ok(()),
        }
    }

    /// Writes directory, checksums, footer and, last, the header; makes all durable; gives the file its name.
    /// The folder is the caller's to sync. Returns the header's checksum.
    pub(crate) fn finish(mut self, mut header: Header) -> Result<u64> {
        let directory: Vec<u8> = self.entries.iter().flat_map(|entry| entry.to_bytes()).collect();
        header.directory_offset = self.end;
        header.directory_count = self.entries.len() as u64;
        header.directory_checksum = checksum(&directory);
        self.write(&directory, header.directory_offset)?;

        let sums: Vec<u8> = self
            .checksums
            .iter()
            .flatten()
            .flat_map(|sum| sum.to_le_bytes())
            .collect();
        header.checksums_offset =
            (header.directory_offset + directory.len() as u64).next_multiple_of(HEADER_BYTES);
        header.pages = sums.len() as u64 / 8;
        header.checksums_checksum = checksum(&sums);
        self.write(&sums, header.checksums_offset)?;

        let footer_offset = (header.checksums_offset + sums.len() as u64).next_multiple_of(8);
        header.file_bytes = footer_offset + frame::FOOTER_BYTES;
        let (bytes, sum) = header.to_bytes();
        self.write(&frame::footer(header.file_bytes, sum), footer_offset)?;
        self.write(&bytes, 0)?;
        if let Some(file) = &self.file {
            file.sync_data()
                .map_err(|e| Error::io("sync", &self.unfinished, e))?;
        }
        self.vfs
            .rename(&self.unfinished, &self.path)
            .map_err(|e| Error::io("rename", &self.unfinished, e))?;
        self.file = None;
        Ok(sum)
    }
}

impl Drop for FileWriter<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() && self.vfs.remove(&self.unfinished).is_err() {
            tracing::debug!(path = %self.unfinished.display(), "an unfinished file stays until the next opening");
        }
    }
}
