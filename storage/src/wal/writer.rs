//! Writing the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_path;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, PAYLOAD_BYTES_MAX, encode_frame};
use super::header::{FILE_HEADER_BYTES, FileHeader};
use super::replay::{LastFrame, Replayed};
use crate::error::{Error, Result};
use crate::vfs::{File, Vfs};

/// Zeros are written ahead of the frames by at least so many bytes, by more the longer the file is: the sync
/// after each window makes new blocks durable, which costs as much as several commits.
const WINDOW: u64 = 512 * 1024;
/// The most zeros written at once.
const WINDOW_MAX: u64 = 4 * 1024 * 1024;
/// The most bytes of one write. For larger ones the kernel looks for large pages, and a virtual machine has
/// to ask its host for them: half as quick as small pages that it has at hand, and measured by turns.
const PIECE: usize = 128 * 1024;
/// Payloads from here on are written as they are, not copied into a frame first.
const COPIED_MAX: usize = 1024 * 1024;

/// The one writer of a log file. Every opening of a database for writing, and every checkpoint, starts a
/// new file.
pub struct WalWriter {
    file: Box<dyn File>,
    path: PathBuf,
    number: u64,
    last_seq: u64,
    end: u64,
    /// Zeros are written up to here.
    zeroed_to: u64,
    frame: Vec<u8>,
    syncs: u64,
    failed: Option<String>,
}

impl WalWriter {
    /// Creates the log file `file_number`, whose first frame will follow `last_seq`; the file and its
    /// name are durable when this returns. `previous` is the number of the log file before it.
    ///
    /// To go on after a replay use [`WalWriter::continue_after`].
    ///
    /// # Errors
    /// If the file exists or cannot be written; what was written of it is removed again.
    pub fn create(
        vfs: Arc<dyn Vfs>,
        folder: &Path,
        file_number: u64,
        last_seq: u64,
        previous: Option<u64>,
    ) -> Result<WalWriter> {
        let header = FileHeader {
            number: file_number,
            last_seq,
            previous,
        };
        WalWriter::start(&*vfs, folder, header, None)
    }

    /// Creates the next log file after a replay, and carries the last frame over into it: that frame is
    /// the only one that may be readable without being durable.
    ///
    /// # Errors
    /// As [`WalWriter::create`]; [`Error::Corrupt`] if the last frame is not what it was during the replay.
    pub fn continue_after(vfs: Arc<dyn Vfs>, folder: &Path, replayed: &Replayed) -> Result<WalWriter> {
        let carried = match &replayed.last_frame {
            Some(last) => Some((last.header, last.read(&*vfs, folder)?)),
            None => None,
        };
        let header = FileHeader {
            number: replayed.next_file_number,
            last_seq: carried
                .as_ref()
                .map_or(replayed.last_seq, |(frame, _)| frame.first_seq - 1),
            previous: replayed.files.last().map(|&(number, _)| number),
        };
        WalWriter::start(&*vfs, folder, header, carried)
    }

    fn start(
        vfs: &dyn Vfs,
        folder: &Path,
        header: FileHeader,
        carried: Option<(FrameHeader, Vec<u8>)>,
    ) -> Result<WalWriter> {
        let path = file_path(folder, header.number);
        let file = vfs
            .create(&path)
            .map_err(|error| Error::io("create", &path, error))?;
        let mut writer = WalWriter {
            file,
            path,
            number: header.number,
            last_seq: header.last_seq,
            end: FILE_HEADER_BYTES,
            zeroed_to: FILE_HEADER_BYTES,
            frame: Vec::new(),
            syncs: 0,
            failed: None,
        };
        let started = writer.begin(&header, carried).and_then(|()| {
            vfs.sync_folder(folder)
                .map_err(|error| Error::io("sync", folder, error))
        });
        if let Err(error) = started {
            // Best effort: a log file without frames does no harm, it only takes room.
            let _ = vfs.remove(&writer.path);
            return Err(error);
        }
        Ok(writer)
    }

    fn begin(&mut self, header: &FileHeader, carried: Option<(FrameHeader, Vec<u8>)>) -> Result<()> {
        self.file
            .write_at(&header.encode(), 0)
            .map_err(|error| Error::io("write", &self.path, error))?;
        // Synced by itself: a frame below a header that a power cut took looks like damage.
        self.fill_ahead(0)?;
        self.sync()?;
        match carried {
            Some((frame, payload)) => self.append(&frame, &payload),
            None => Ok(()),
        }
    }

    /// Writes one frame: `count` commits, the first with the sequence number `first_seq`, durable when
    /// this returns. `records` holds for each commit its length (u32, little-endian) and its bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the payload is larger than [`PAYLOAD_BYTES_MAX`] or the numbers do not
    /// follow on; then nothing was written. After a failed write or sync the state on disk is unknown,
    /// and every later call gives [`Error::Poisoned`].
    pub fn write_frame(&mut self, first_seq: u64, records: &[u8], count: u32) -> Result<()> {
        if let Some(reason) = &self.failed {
            return Err(Error::Poisoned {
                reason: reason.clone(),
            });
        }
        if records.len() > PAYLOAD_BYTES_MAX {
            return Err(Error::Invalid {
                what: format!(
                    "a commit of {} bytes is larger than the log's limit of {PAYLOAD_BYTES_MAX}: split it",
                    records.len()
                ),
            });
        }
        if count == 0 || first_seq != self.last_seq + 1 {
            return Err(Error::Invalid {
                what: format!(
                    "{count} commits from {first_seq} do not follow commit {}",
                    self.last_seq
                ),
            });
        }
        let header = FrameHeader::of(first_seq, count, records);
        let written = self.append(&header, records);
        if let Err(error) = &written {
            self.failed = Some(format!("the log could not be written ({error})"));
        }
        written
    }

    fn append(&mut self, header: &FrameHeader, records: &[u8]) -> Result<()> {
        let at = self.end;
        self.frame.clear();
        if records.len() <= COPIED_MAX {
            encode_frame(
                self.number,
                header.first_seq,
                header.count,
                records,
                &mut self.frame,
            );
        } else {
            self.frame.extend_from_slice(&header.encode(self.number));
            self.write(records, at + FRAME_HEADER_BYTES as u64)?;
        }
        self.write(&self.frame, at)?;
        self.end = at + header.frame_bytes();
        self.fill_ahead(header.frame_bytes())?;
        self.sync()?;
        self.last_seq = header.last_seq();
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut at = offset;
        for piece in bytes.chunks(PIECE) {
            self.file
                .write_at(piece, at)
                .map_err(|error| Error::io("write", &self.path, error))?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.syncs += 1;
        self.file
            .sync_data()
            .map_err(|error| Error::io("sync", &self.path, error))
    }

    /// Writes zeros where the next frames will come, so that the sync of a frame finds its blocks there.
    fn fill_ahead(&mut self, frame_bytes: u64) -> Result<()> {
        if self.zeroed_to >= self.end + FRAME_HEADER_BYTES as u64 {
            return Ok(());
        }
        self.zeroed_to = self.zeroed_to.max(self.end);
        if frame_bytes >= WINDOW {
            // Large frames, one after another, would each pay for a window that the next overwrites.
            return Ok(());
        }
        let window = self.end.clamp(WINDOW, WINDOW_MAX);
        let to = (self.end + window).next_multiple_of(WINDOW);
        let zeros = vec![0; (to - self.zeroed_to) as usize];
        match self.write(&zeros, self.zeroed_to) {
            Ok(()) => self.zeroed_to = to,
            // The frame itself has its room; zeros are a convenience.
            Err(Error::NoSpace { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Bytes of the file that are in use: the header and the frames.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// The file's number.
    pub fn file_number(&self) -> u64 {
        self.number
    }

    /// The sequence number of the last commit written, or that the first one will follow.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Syncs of the file so far, the one at its creation included.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }
}

impl LastFrame {
    fn read(&self, vfs: &dyn Vfs, folder: &Path) -> Result<Vec<u8>> {
        let mut log = super::log_file::LogFile::open(vfs, folder, self.file_number)?;
        let changed = || {
            Error::corrupt(
                &file_path(folder, self.file_number),
                self.offset,
                "the last frame changed while the database was being opened",
            )
        };
        if log.frame(self.offset)? != Some(self.header) {
            return Err(changed());
        }
        let payload = log.payload(self.offset, &self.header)?;
        payload.map(<[u8]>::to_vec).ok_or_else(changed)
    }
}
