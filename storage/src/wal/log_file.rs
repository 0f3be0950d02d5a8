//! One log file, read from front to back through a window.

use std::path::{Path, PathBuf};

use super::file_path;
use super::frame::{FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader};
use super::header::{FILE_HEADER_BYTES, FileHeader, USED};
use crate::error::{Error, Result};
use crate::vfs::{File, Vfs};

const WINDOW: u64 = 256 * 1024;
static ZEROS: [u8; 4096] = [0; 4096];

/// What comes after the last good frame.
pub(super) enum Tail {
    /// Nothing: the end of the file, or zeros up to it.
    Clean,
    /// The start of a frame that was never finished, so many bytes.
    Torn(u64),
    /// Something bad, and then a good frame at this offset.
    Damaged(u64),
}

/// A log file open for reading.
pub(super) struct LogFile {
    file: Box<dyn File>,
    pub(super) path: PathBuf,
    pub(super) number: u64,
    pub(super) len: u64,
    /// `None` where it is unreadable.
    pub(super) header: Option<FileHeader>,
    window: Vec<u8>,
    window_at: u64,
}

impl LogFile {
    pub(super) fn open(vfs: &dyn Vfs, folder: &Path, number: u64) -> Result<LogFile> {
        let path = file_path(folder, number);
        let file = vfs.open(&path).map_err(|error| Error::io("open", &path, error))?;
        let mut log = LogFile {
            file,
            path,
            number,
            len: 0,
            header: None,
            window: Vec::new(),
            window_at: 0,
        };
        log.refresh()?;
        Ok(log)
    }

    /// Looks at the file anew: it may have grown.
    pub(super) fn refresh(&mut self) -> Result<()> {
        self.window.clear();
        self.len = self
            .file
            .len()
            .map_err(|error| Error::io("read", &self.path, error))?;
        if self.header.is_none() {
            let (number, path) = (self.number, self.path.clone());
            self.header = match self.bytes(0, USED as u64)? {
                Some(bytes) => FileHeader::decode(bytes, number, &path)?,
                None => None,
            };
        }
        Ok(())
    }

    /// `length` bytes at `offset`; `None` if the file ends before.
    fn bytes(&mut self, offset: u64, length: u64) -> Result<Option<&[u8]>> {
        let Some(end) = offset.checked_add(length).filter(|&end| end <= self.len) else {
            return Ok(None);
        };
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || end > window_end {
            let wanted = length.max(WINDOW).min(self.len - offset);
            self.window.resize(wanted as usize, 0);
            let read = self
                .file
                .read_at(&mut self.window, offset)
                .map_err(|error| Error::io("read", &self.path, error))?;
            self.window.truncate(read);
            self.window_at = offset;
            if (read as u64) < length {
                return Ok(None);
            }
        }
        let start = (offset - self.window_at) as usize;
        Ok(self.window.get(start..start + length as usize))
    }

    /// The header of a frame at `offset` whose payload is whole.
    pub(super) fn frame(&mut self, offset: u64) -> Result<Option<FrameHeader>> {
        let number = self.number;
        let Some(header) = self
            .bytes(offset, FRAME_HEADER_BYTES as u64)?
            .and_then(|bytes| FrameHeader::decode(bytes, number))
        else {
            return Ok(None);
        };
        let whole = self
            .payload(offset, &header)?
            .is_some_and(|payload| header.matches(payload));
        Ok(whole.then_some(header))
    }

    /// The payload of the frame at `offset`; bounded by the file before anything is allocated.
    pub(super) fn payload(&mut self, offset: u64, header: &FrameHeader) -> Result<Option<&[u8]>> {
        self.bytes(
            offset + FRAME_HEADER_BYTES as u64,
            u64::from(header.payload_bytes),
        )
    }

    /// What is at and after `offset`, where no good frame starts. `reached` is the last sequence number
    /// before it: a good frame after a lost one has a number at least 2 higher. `None` takes every frame.
    pub(super) fn tail(&mut self, offset: u64, reached: Option<u64>) -> Result<Tail> {
        let mut end_of_data = offset;
        // Checksums over candidates that turn out bad; past it the file is no accident, and damaged.
        let mut budget = 16 * self.len + 64 * 1024 * 1024;
        let mut at = offset.next_multiple_of(8);
        while at < self.len {
            let length = WINDOW.min(self.len - at);
            let Some(bytes) = self.bytes(at, length)? else {
                break;
            };
            let candidates = candidates(bytes, at, &mut end_of_data);
            for candidate in candidates {
                let number = self.number;
                let header = self
                    .bytes(candidate, FRAME_HEADER_BYTES as u64)?
                    .and_then(|bytes| FrameHeader::decode(bytes, number));
                let Some(header) = header else { continue };
                if reached.is_some_and(|reached| header.first_seq <= reached.saturating_add(1)) {
                    continue;
                }
                if self.frame(candidate)?.is_some() {
                    return Ok(Tail::Damaged(candidate));
                }
                let spent = u64::from(header.payload_bytes).min(self.len);
                let Some(left) = budget.checked_sub(spent) else {
                    return Ok(Tail::Damaged(candidate));
                };
                budget = left;
            }
            at += length;
        }
        Ok(match end_of_data - offset {
            0 => Tail::Clean,
            bytes => Tail::Torn(bytes),
        })
    }

    /// Whether no frame has been begun at `offset`.
    pub(super) fn is_blank(&mut self, offset: u64) -> Result<bool> {
        let bytes = self.bytes(offset, FRAME_HEADER_BYTES as u64)?;
        Ok(bytes.is_none_or(|bytes| bytes.iter().all(|&byte| byte == 0)))
    }

    /// Whether the first frame is there and follows the header.
    pub(super) fn starts_whole(&mut self) -> Result<bool> {
        let Some(header) = self.header else {
            return Ok(false);
        };
        let first = self.frame(FILE_HEADER_BYTES)?;
        Ok(first.is_some_and(|first| first.first_seq == header.last_seq + 1))
    }
}

/// Offsets in `bytes` (which lie at `at`) where a frame may start; moves the end of what is not zero.
fn candidates(bytes: &[u8], at: u64, end_of_data: &mut u64) -> Vec<u64> {
    let mut found = Vec::new();
    for (n, page) in bytes.chunks(ZEROS.len()).enumerate() {
        if *page == ZEROS[..page.len()] {
            continue;
        }
        let page_at = at + 4096 * n as u64;
        for (n, word) in page.chunks(8).enumerate() {
            let word_at = page_at + 8 * n as u64;
            if word.iter().any(|&byte| byte != 0) {
                *end_of_data = word_at + word.len() as u64;
            }
            if word.starts_with(&FRAME_MAGIC) {
                found.push(word_at);
            }
        }
    }
    found
}
