//! Writing a segment file: sections stream to a temporary name, which becomes the real one when all is durable.

use std::path::{Path, PathBuf};

use super::frame::{self, Entry, HEADER_BYTES, Header};
use super::name::UNFINISHED;
use crate::checksum::{PAGE_BYTES, checksum};
use crate::error::{Error, Result};
use crate::vfs::{File, Vfs};

/// Writes of so many bytes, at multiples of it, come into the page cache in one piece, which Linux can map by one entry
/// of a page table: who reads anywhere then waits for fewer of those.
const STEP_BYTES: u64 = 2 * 1024 * 1024;

/// The buffer of a section that is written in such steps: what is short of a page's checksum stays behind each.
pub(crate) const STEP_BUFFER_BYTES: usize = STEP_BYTES as usize + PAGE_BYTES;

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
    /// Bytes of the section that are written, and those that checksums are of.
    flushed: u64,
    summed: u64,
    /// What comes behind those that are written.
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
            summed: 0,
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

    /// Writes what whole pages are there of, up to the last step among it.
    fn flush(&self, section: &mut SectionWriter) -> Result<()> {
        let unsummed = &section.buffer[(section.summed - section.flushed) as usize..];
        let (pages, _) = unsummed.as_chunks::<PAGE_BYTES>();
        section.checksums.extend(pages.iter().map(|page| checksum(page)));
        section.summed += (pages.len() * PAGE_BYTES) as u64;
        let from = section.offset + section.flushed;
        let to = section.offset + section.summed;
        let step = to / STEP_BYTES * STEP_BYTES;
        let to = if step > from { step } else { to };
        self.write_front(section, (to - from) as usize)
    }

    /// Writes the first bytes of a section's buffer.
    fn write_front(&self, section: &mut SectionWriter, count: usize) -> Result<()> {
        self.write(&section.buffer[..count], section.offset + section.flushed)?;
        section.flushed += count as u64;
        section.buffer.drain(..count);
        Ok(())
    }

    /// Ends a section.
    pub(crate) fn close(&mut self, mut section: SectionWriter) -> Result<()> {
        let rest = &section.buffer[(section.summed - section.flushed) as usize..];
        section.checksums.extend(rest.chunks(PAGE_BYTES).map(checksum));
        let count = section.buffer.len();
        self.write_front(&mut section, count)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::frame::FileKind;
    use crate::segment::mapped::MappedFile;
    use crate::vfs::RealVfs;

    /// Sections of lengths about the steps', filled side by side in pieces of all sizes, through buffers of all sizes.
    #[test]
    fn sections_are_read_as_they_were_written_whatever_the_buffers() {
        let step = STEP_BYTES as usize;
        let lengths = [
            0,
            1,
            PAGE_BYTES,
            step - 4096,
            step,
            step + 1,
            2 * step + 70_000,
            3 * step,
        ];
        let buffers = [
            PAGE_BYTES,
            3 * PAGE_BYTES,
            STEP_BUFFER_BYTES,
            2 * STEP_BUFFER_BYTES + 1,
        ];
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize
        };
        for buffer in buffers {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = FileWriter::create(&RealVfs, folder.path(), "a").unwrap();
            let contents = lengths.map(|length| (0..length).map(|_| random() as u8).collect::<Vec<u8>>());
            let mut sections: Vec<_> = contents
                .iter()
                .enumerate()
                .map(|(layer, bytes)| {
                    let (kind, layer, len) = (1, layer as u32, Some(bytes.len() as u64));
                    let section = NewSection {
                        kind,
                        layer,
                        encoding: 0,
                        len,
                    };
                    (writer.section(section, buffer), &bytes[..])
                })
                .collect();
            while sections.iter().any(|(_, rest)| !rest.is_empty()) {
                for (section, rest) in &mut sections {
                    let (now, later) = rest.split_at(rest.len().min(1 + random() % 300_000));
                    writer.push(section, now).unwrap();
                    *rest = later;
                }
            }
            for (section, _) in sections {
                writer.close(section).unwrap();
            }
            writer.finish(Header::new(FileKind::Documents)).unwrap();
            let file =
                MappedFile::open(&RealVfs, &folder.path().join("a"), FileKind::Documents, 0, 0).unwrap();
            file.check_all().unwrap();
            for (layer, bytes) in contents.iter().enumerate() {
                let section = file
                    .section(1, layer as u32, 0, Some(bytes.len() as u64))
                    .unwrap();
                assert!(file.read(&section, 0..bytes.len() as u64).unwrap() == &bytes[..]);
            }
        }
    }
}
