//! Reading the log beside its writer, from another process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::Records;
use super::header::FILE_HEADER_BYTES;
use super::list;
use super::log_file::{LogFile, Tail};
use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// What a look at the log gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Every commit up to this one has been given.
    UpTo(u64),
    /// A checkpoint removed files that were not read yet: load the manifest, then start a new reader
    /// after its sequence number. If that one says so too and the manifest has not changed, files are
    /// missing.
    Gone,
}

/// Follows the log that another process writes. Each [`WalReader::poll`] gives what has been committed
/// since the one before.
pub struct WalReader {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    reached: u64,
    current: Option<Place>,
}

struct Place {
    log: LogFile,
    at: u64,
    /// The last sequence number before `at` in this file.
    chain: u64,
    /// Whether all the rest of the file has been looked at once: later looks need not search zeros.
    searched: bool,
}

impl WalReader {
    /// A reader that gives the commits after `after_seq`; it opens nothing yet.
    pub fn new(vfs: Arc<dyn Vfs>, folder: &Path, after_seq: u64) -> WalReader {
        WalReader {
            vfs,
            folder: folder.to_owned(),
            reached: after_seq,
            current: None,
        }
    }

    /// The last sequence number given.
    pub fn last_seq(&self) -> u64 {
        self.reached
    }

    /// Gives `apply` every commit acknowledged before this call, in order; perhaps later ones too. A
    /// frame that is being written at this moment is left for the next call.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the log is damaged, [`Error::Version`], errors of the file system, and
    /// what `apply` returns (the next call gives that commit again).
    pub fn poll(&mut self, apply: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<Polled> {
        loop {
            if let Some(place) = &mut self.current {
                place.log.refresh()?;
                place.frames(&mut self.reached, apply)?;
            }
            match self.advance(apply) {
                Ok(Step::Moved) => {}
                Ok(Step::End) => return Ok(Polled::UpTo(self.reached)),
                Ok(Step::Gone) => return Ok(Polled::Gone),
                // Listed, and removed before it was opened: look again.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    if !self.folder_is_there()? {
                        return Ok(Polled::Gone);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn folder_is_there(&self) -> Result<bool> {
        self.vfs
            .exists(&self.folder)
            .map_err(|error| Error::io("read", &self.folder, error))
    }

    /// Goes on to the next file, if there is one that follows what was read.
    fn advance(&mut self, apply: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<Step> {
        let numbers = list(&*self.vfs, &self.folder)?;
        let present = self.current.as_ref().map(|place| place.log.number);
        let later = numbers.iter().filter(|&&number| Some(number) > present);
        for &number in later {
            let mut log = LogFile::open(&*self.vfs, &self.folder, number)?;
            let Some(header) = log.header else {
                if let Tail::Damaged(_) = log.tail(FILE_HEADER_BYTES.min(log.len), None)?
                    && log.header_still_unreadable()?
                {
                    let what = "the file's header is unreadable, but commits follow it";
                    return Err(Error::corrupt(&log.path, 0, what));
                }
                // Being created, or its creation was cut short: a later file may follow on.
                continue;
            };
            if header.last_seq <= self.reached {
                self.current = Some(Place {
                    log,
                    at: FILE_HEADER_BYTES,
                    chain: header.last_seq,
                    searched: false,
                });
                return Ok(Step::Moved);
            }
            return self.lagging(&numbers, apply);
        }
        match &mut self.current {
            Some(place) if !numbers.contains(&place.log.number) => {
                // A checkpoint took it, and nothing has been committed since. Its writer was done with it
                // before, so a last look through the handle, which outlives the name, ends it.
                place.log.refresh()?;
                place.frames(&mut self.reached, apply)?;
                self.current = None;
                Ok(Step::End)
            }
            _ => Ok(Step::End),
        }
    }

    /// The next file begins after what was read: the writer went on, or a checkpoint did away with it.
    fn lagging(&mut self, numbers: &[u64], apply: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<Step> {
        let Some(place) = &mut self.current else {
            return Ok(Step::Gone);
        };
        let before = self.reached;
        place.log.refresh()?;
        place.frames(&mut self.reached, apply)?;
        if self.reached > before {
            return Ok(Step::Moved);
        }
        if numbers.contains(&place.log.number) {
            let what = format!("the commits after {} are missing", self.reached);
            return Err(Error::corrupt(&place.log.path, place.at, what));
        }
        Ok(Step::Gone)
    }
}

enum Step {
    Moved,
    End,
    Gone,
}

impl LogFile {
    fn header_still_unreadable(&mut self) -> Result<bool> {
        self.refresh()?;
        Ok(self.header.is_none())
    }
}

impl Place {
    /// Gives the whole frames from here on.
    fn frames(&mut self, reached: &mut u64, apply: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        loop {
            while let Some(frame) = self.log.frame(self.at)? {
                if frame.first_seq != self.chain + 1 {
                    let what = format!("commit {} follows commit {}", frame.first_seq, self.chain);
                    return Err(Error::corrupt(&self.log.path, self.at, what));
                }
                let path = self.log.path.clone();
                let payload = self.log.payload(self.at, &frame)?.unwrap_or_default();
                let records = Records::new(payload, frame.count);
                if !records.is_whole() {
                    let what = "the lengths of the commits in a frame do not add up";
                    return Err(Error::corrupt(&path, self.at, what));
                }
                for (seq, record) in (frame.first_seq..).zip(records) {
                    if seq > *reached {
                        apply(seq, record)?;
                        *reached = seq;
                    }
                }
                self.chain = frame.last_seq();
                self.at += frame.frame_bytes();
            }
            if self.searched && self.log.is_blank(self.at)? {
                return Ok(());
            }
            self.searched = true;
            let Tail::Damaged(next) = self.log.tail(self.at, Some(self.chain))? else {
                return Ok(());
            };
            // The frame may have been finished, and the next one written, while we looked.
            self.log.refresh()?;
            if self.log.frame(self.at)?.is_none() {
                let what = format!("the frame here is bad, and a good one follows at byte {next}");
                return Err(Error::corrupt(&self.log.path, self.at, what));
            }
        }
    }
}
