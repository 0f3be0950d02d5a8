//! Companions: files beside a segment that follow from it and make searching it quicker.
//!
//! A companion may be missing, thrown away or damaged without anything being lost: no MANIFEST names it, and
//! whoever reads it falls back to the segment. It has the frame of a segment file (`frame.rs`) and names the
//! file it follows from by that file's header checksum; one that names another is ignored and removed.

use std::path::{Path, PathBuf};

use super::file_writer::{FileWriter, NewSection, STEP_BUFFER_BYTES, SectionWriter};
use super::frame::{FileKind, Header};
use super::mapped::MappedFile;
use super::name::SegmentFile;
use crate::checksum::PAGE_BYTES;
use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// What a companion holds, and what it follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompanionKind {
    /// Short codes of one generation's vectors, for scanning.
    Codes {
        /// The generation.
        generation: u32,
    },
    /// An index over one generation's vectors, for approximate search.
    Graph {
        /// The generation.
        generation: u32,
    },
    /// Which rows have which metadata: follows from the documents.
    Filter,
}

impl CompanionKind {
    /// The generation whose vectors it follows from, if it follows from vectors.
    pub fn generation(self) -> Option<u32> {
        match self {
            CompanionKind::Codes { generation } | CompanionKind::Graph { generation } => Some(generation),
            CompanionKind::Filter => None,
        }
    }

    fn file_kind(self) -> FileKind {
        match self {
            CompanionKind::Codes { .. } => FileKind::Codes,
            CompanionKind::Graph { .. } => FileKind::Graph,
            CompanionKind::Filter => FileKind::Filter,
        }
    }
}

/// The segment that a companion stands beside.
#[derive(Clone, Copy)]
pub(crate) struct Beside {
    pub(crate) collection: u64,
    pub(crate) number: u64,
    pub(crate) rows: u32,
    /// The header checksum of the file that the companion follows from.
    pub(crate) follows_from: u64,
}

/// An open companion. Sections go by a kind and a layer, both its maker's choice.
pub struct Companion {
    kind: CompanionKind,
    file: MappedFile,
}

impl Companion {
    /// Maps the companion; `None` if there is none, or one that cannot be used, which the log then tells.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        folder: &Path,
        kind: CompanionKind,
        beside: &Beside,
    ) -> Result<Option<Companion>> {
        let path = companion_path(folder, kind, beside.number);
        if !vfs.exists(&path).map_err(|e| Error::io("look for", &path, e))? {
            return Ok(None);
        }
        let opened = MappedFile::open(vfs, &path, kind.file_kind(), beside.collection, beside.number);
        match opened {
            Ok(file)
                if file.header().documents_checksum == beside.follows_from
                    && file.header().rows == u64::from(beside.rows) =>
            {
                Ok(Some(Companion { kind, file }))
            }
            Ok(_) => {
                tracing::warn!(path = %path.display(), "left out a file that follows from other vectors");
                Ok(None)
            }
            // A writer may have taken it away since.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error @ (Error::Corrupt { .. } | Error::Version { .. })) => {
                tracing::warn!(%error, "left out a file that can be made again");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What it holds.
    pub fn kind(&self) -> CompanionKind {
        self.kind
    }

    /// The version of its contents, as its maker gave it.
    pub fn version(&self) -> u32 {
        self.file.header().element
    }

    /// The length of a section in bytes; `None` if there is none.
    pub fn section_bytes(&self, kind: u32, layer: u32) -> Option<u64> {
        self.file
            .section(kind, layer, 0, None)
            .ok()
            .map(|section| section.len())
    }

    /// A whole section, at a multiple of 4,096 in memory, each page checked when it is first touched.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a section that is missing and for a damaged page.
    pub fn section(&self, kind: u32, layer: u32) -> Result<&[u8]> {
        let section = self.file.section(kind, layer, 0, None)?;
        self.file.read(&section, 0..section.len())
    }

    /// Bytes of a section, for those who touch few of its pages.
    ///
    /// # Errors
    /// As [`Companion::section`]; [`Error::Invalid`] for a range past its end.
    pub fn read(&self, kind: u32, layer: u32, range: std::ops::Range<u64>) -> Result<&[u8]> {
        let section = self.file.section(kind, layer, 0, None)?;
        if range.start > range.end || range.end > section.len() {
            let what = format!("bytes {range:?} of a section of {} bytes", section.len());
            return Err(Error::Invalid { what });
        }
        self.file.read(&section, range)
    }

    /// Whether damage was found since it was opened.
    pub fn is_damaged(&self) -> bool {
        self.file.is_damaged()
    }

    /// Reads all pages again. Returns their number.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for the first damage found.
    pub fn check_all(&self) -> Result<u64> {
        self.file.check_all()
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Bytes of its file.
    pub fn disk_bytes(&self) -> u64 {
        self.file.bytes()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.file.memory_bytes()
    }
}

impl std::fmt::Debug for Companion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Companion")
            .field("kind", &self.kind)
            .field("bytes", &self.disk_bytes())
            .finish_non_exhaustive()
    }
}

pub(crate) fn companion_path(folder: &Path, kind: CompanionKind, number: u64) -> PathBuf {
    folder.join(SegmentFile::Companion { number, kind }.to_string())
}

/// Writes a companion, one section after the other, in bounded memory. Dropped unfinished, it leaves no file.
pub struct CompanionWriter<'a> {
    file: FileWriter<'a>,
    header: Header,
    section: Option<SectionWriter>,
    sized: Vec<(SectionWriter, u64)>,
}

impl<'a> CompanionWriter<'a> {
    pub(crate) fn create(
        vfs: &'a dyn Vfs,
        folder: &Path,
        kind: CompanionKind,
        version: u32,
        beside: &Beside,
    ) -> Result<CompanionWriter<'a>> {
        let path = companion_path(folder, kind, beside.number);
        // One that could not be used, or is to be replaced; readers keep what they have mapped.
        if vfs.exists(&path).map_err(|e| Error::io("look for", &path, e))? {
            vfs.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        let name = SegmentFile::Companion {
            number: beside.number,
            kind,
        };
        Ok(CompanionWriter {
            file: FileWriter::create(vfs, folder, &name.to_string())?,
            header: Header {
                collection: beside.collection,
                number: beside.number,
                rows: beside.rows.into(),
                generation: kind.generation().unwrap_or(0),
                element: version,
                documents_checksum: beside.follows_from,
                ..Header::new(kind.file_kind())
            },
            section: None,
            sized: Vec::new(),
        })
    }

    /// Starts a section and ends the one before. A pair of kind and layer is used once.
    ///
    /// # Errors
    /// What the file system gives.
    pub fn start(&mut self, kind: u32, layer: u32) -> Result<()> {
        self.end()?;
        let section = NewSection {
            kind,
            layer,
            encoding: 0,
            len: None,
        };
        self.section = Some(self.file.section(section, STEP_BUFFER_BYTES));
        Ok(())
    }

    /// Adds bytes to the section that was started last.
    ///
    /// # Errors
    /// [`Error::Invalid`] before the first [`CompanionWriter::start`]; what the file system gives.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.section {
            Some(section) => self.file.push(section, bytes),
            None => Err(Error::Invalid {
                what: "bytes of a companion come after the start of a section".to_owned(),
            }),
        }
    }

    /// A whole section at once.
    ///
    /// # Errors
    /// As [`CompanionWriter::start`].
    pub fn add(&mut self, kind: u32, layer: u32, bytes: &[u8]) -> Result<()> {
        self.start(kind, layer)?;
        self.push(bytes)
    }

    /// Starts a section of a known length, which can be filled side by side with others of that kind; returns
    /// its number among them. All stay open until the companion is whole.
    ///
    /// # Errors
    /// What the file system gives.
    pub fn start_sized(&mut self, kind: u32, layer: u32, bytes: u64) -> Result<usize> {
        self.end()?;
        let section = NewSection {
            kind,
            layer,
            encoding: 0,
            len: Some(bytes),
        };
        // Many may be open, so the buffers are small.
        self.sized.push((self.file.section(section, PAGE_BYTES), bytes));
        Ok(self.sized.len() - 1)
    }

    /// Adds bytes to a section that [`CompanionWriter::start_sized`] gave that number.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number that was not given and for bytes past its length; what the file system gives.
    pub fn push_sized(&mut self, number: usize, bytes: &[u8]) -> Result<()> {
        let Some((section, left)) = self.sized.get_mut(number) else {
            let what = format!("section {number} of a companion was not started");
            return Err(Error::Invalid { what });
        };
        match left.checked_sub(bytes.len() as u64) {
            Some(rest) => *left = rest,
            None => {
                let what = format!("{} bytes where {left} are left of a section", bytes.len());
                return Err(Error::Invalid { what });
            }
        }
        self.file.push(section, bytes)
    }

    fn end(&mut self) -> Result<()> {
        match self.section.take() {
            Some(section) => self.file.close(section),
            None => Ok(()),
        }
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.end()?;
        for (section, left) in std::mem::take(&mut self.sized) {
            if left > 0 {
                let what = format!("a section of a companion lacks {left} bytes");
                return Err(Error::Invalid { what });
            }
            self.file.close(section)?;
        }
        self.file.finish(self.header).map(drop)
    }
}
