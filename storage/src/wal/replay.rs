//! Reading the whole log when a database is opened.

use std::path::{Path, PathBuf};

use super::frame::{FrameHeader, Records};
use super::header::{FILE_HEADER_BYTES, FileHeader};
use super::log_file::{LogFile, Tail};
use super::{file_path, list};
use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// A frame that was begun and never finished, at the end of a file: it was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The log file.
    pub path: PathBuf,
    /// Where the frame starts.
    pub offset: u64,
    /// How much of it is there.
    pub bytes: u64,
}

/// Where the last frame of the log is: the one that may be readable and yet not durable.
#[derive(Clone, Copy, Debug)]
pub struct LastFrame {
    pub(super) file_number: u64,
    pub(super) offset: u64,
    pub(super) header: FrameHeader,
}

/// What a replay found.
#[derive(Debug)]
pub struct Replayed {
    /// The last sequence number, of the log or what the caller had already.
    pub last_seq: u64,
    /// Number and length in bytes of each log file, ascending.
    pub files: Vec<(u64, u64)>,
    /// The newest torn frame, if one was left out.
    pub torn_tail: Option<TornTail>,
    /// A number higher than any log file's.
    pub next_file_number: u64,
    /// The last frame, if it holds commits that the caller did not have already.
    pub last_frame: Option<LastFrame>,
    /// What stopped the replay; only when salvaging, otherwise it is the error.
    pub damaged: Option<Error>,
}

/// Gives `apply` every commit in the log with a sequence number above `after_seq`, in order, without gaps.
///
/// All file headers are looked at before the first commit is given. With `salvage` the replay ends at
/// the damage, tells it in [`Replayed::damaged`] and keeps what came before; commits after a gap are
/// never given. Nothing is written or removed.
///
/// # Errors
/// [`Error::Corrupt`] if acknowledged commits are missing or damaged, [`Error::Version`] for a file of a
/// newer major version, errors of the file system, and what `apply` returns.
pub fn replay(
    vfs: &dyn Vfs,
    folder: &Path,
    after_seq: u64,
    salvage: bool,
    apply: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<Replayed> {
    let mut found = Vec::new();
    for number in list(vfs, folder)? {
        let log = LogFile::open(vfs, folder, number)?;
        found.push(Found {
            number,
            len: log.len,
            header: log.header,
        });
    }
    let mut replay = Replay {
        vfs,
        folder,
        reached: after_seq,
        end_of_previous: None,
        torn_tail: None,
        last_frame: None,
        damaged: None,
        apply,
    };
    for n in 0..found.len() {
        match replay.file(&found[n], &found[n + 1..], after_seq, salvage) {
            Ok(None) => {}
            Ok(Some(damage)) if salvage => {
                replay.damaged.get_or_insert(damage);
                break;
            }
            Ok(Some(error)) | Err(error) => return Err(error),
        }
    }
    Ok(Replayed {
        last_seq: replay.reached,
        next_file_number: found.last().map_or(1, |file| file.number.saturating_add(1)),
        files: found.iter().map(|file| (file.number, file.len)).collect(),
        torn_tail: replay.torn_tail,
        last_frame: replay
            .last_frame
            .filter(|last| last.header.last_seq() > after_seq),
        damaged: replay.damaged,
    })
}

struct Found {
    number: u64,
    len: u64,
    header: Option<FileHeader>,
}

struct Replay<'a> {
    vfs: &'a dyn Vfs,
    folder: &'a Path,
    reached: u64,
    /// The file before the present one, and where its good frames end.
    end_of_previous: Option<(PathBuf, u64)>,
    torn_tail: Option<TornTail>,
    last_frame: Option<LastFrame>,
    /// What a salvage met first.
    damaged: Option<Error>,
    apply: &'a mut dyn FnMut(u64, &[u8]) -> Result<()>,
}

fn headless(path: &Path) -> Error {
    let what = "the file's header is unreadable, but commits follow it";
    Error::corrupt(path, 0, what)
}

impl Replay<'_> {
    /// Replays one file; `Ok(Some(error))` is damage, `Err` a failure that has nothing to do with it.
    fn file(
        &mut self,
        found: &Found,
        later: &[Found],
        after_seq: u64,
        salvage: bool,
    ) -> Result<Option<Error>> {
        if self.is_covered(later, after_seq)? {
            return Ok(None);
        }
        let mut log = LogFile::open(self.vfs, self.folder, found.number)?;
        let chain = match log.header {
            Some(header) if header.last_seq > self.reached => {
                return Ok(Some(self.missing_before(&log.path, &header)));
            }
            Some(header) => header.last_seq,
            None => match log.tail(FILE_HEADER_BYTES.min(log.len), None)? {
                Tail::Damaged(_) => match (salvage, log.frame(FILE_HEADER_BYTES)?) {
                    // The frames say themselves where they belong.
                    (true, Some(first)) if first.first_seq <= self.reached.saturating_add(1) => {
                        self.damaged.get_or_insert(headless(&log.path));
                        first.first_seq - 1
                    }
                    _ => return Ok(Some(headless(&log.path))),
                },
                Tail::Clean | Tail::Torn(_) => {
                    self.end_of_previous.get_or_insert((log.path, 0));
                    return Ok(None);
                }
            },
        };
        self.frames(&mut log, chain)
    }

    /// Whether all that this file can hold is in the manifest already: the next file follows on from
    /// before `after_seq` and has its first frame, so that it does not lean on this one.
    fn is_covered(&self, later: &[Found], after_seq: u64) -> Result<bool> {
        let Some(next) = later.first() else {
            return Ok(false);
        };
        match next.header {
            Some(header) if header.last_seq <= after_seq => {
                LogFile::open(self.vfs, self.folder, next.number)?.starts_whole()
            }
            _ => Ok(false),
        }
    }

    fn missing_before(&self, path: &Path, header: &FileHeader) -> Error {
        let what = format!(
            "the commits {} to {} are missing, and {} follows them",
            self.reached.saturating_add(1),
            header.last_seq,
            path.display()
        );
        let expected = header.previous.map(|number| file_path(self.folder, number));
        match (&self.end_of_previous, expected) {
            (Some((previous, offset)), None) => Error::corrupt(previous, *offset, what),
            (Some((previous, offset)), Some(expected)) if *previous == expected => {
                Error::corrupt(previous, *offset, what)
            }
            (_, Some(expected)) => Error::corrupt(&expected, 0, what),
            (None, None) => Error::corrupt(path, 0, what),
        }
    }

    fn frames(&mut self, log: &mut LogFile, mut chain: u64) -> Result<Option<Error>> {
        let mut at = FILE_HEADER_BYTES;
        while let Some(frame) = log.frame(at)? {
            if frame.first_seq != chain + 1 {
                let what = format!("commit {} follows commit {chain}", frame.first_seq);
                return Ok(Some(Error::corrupt(&log.path, at, what)));
            }
            chain = frame.last_seq();
            if chain > self.reached {
                let path = log.path.clone();
                let payload = log.payload(at, &frame)?.unwrap_or_default();
                let records = Records::new(payload, frame.count);
                if !records.is_whole() {
                    let what = "the lengths of the commits in a frame do not add up";
                    return Ok(Some(Error::corrupt(&path, at, what)));
                }
                for (seq, record) in (frame.first_seq..).zip(records) {
                    if seq > self.reached {
                        (self.apply)(seq, record)?;
                        self.reached = seq;
                    }
                }
            }
            self.last_frame = Some(LastFrame {
                file_number: log.number,
                offset: at,
                header: frame,
            });
            at += frame.frame_bytes();
        }
        self.end_of_previous = Some((log.path.clone(), at));
        match log.tail(at, Some(chain))? {
            Tail::Clean => {}
            Tail::Torn(bytes) => {
                self.torn_tail = Some(TornTail {
                    path: log.path.clone(),
                    offset: at,
                    bytes,
                });
            }
            Tail::Damaged(next) => {
                let what = format!("the frame here is bad, and a good one follows at byte {next}");
                return Ok(Some(Error::corrupt(&log.path, at, what)));
            }
        }
        Ok(None)
    }
}
