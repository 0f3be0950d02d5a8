//! Files that take another's place only when they are whole: a run that fails leaves what was there.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Failure, Outcome};
use crate::durable::sync_folder;

/// A file on its way to a name.
pub struct Replacement {
    file: BufWriter<File>,
    path: PathBuf,
    /// Where it is written; `None` where it is no file that is replaced, such as `/dev/null` or a pipe.
    beside: Option<Beside>,
}

/// Removed again unless it gets its name.
struct Beside {
    unfinished: PathBuf,
    target: PathBuf,
    placed: bool,
}

impl Replacement {
    pub fn create(path: &Path) -> Result<Replacement, Failure> {
        let failed = |error| Failure::io("write", path, error);
        let before = path.metadata().ok();
        let (file, beside) = match &before {
            Some(about) if !about.is_file() => (File::create(path).map_err(failed)?, None),
            _ => {
                let target = real(path).map_err(failed)?;
                let (file, unfinished) = unfinished(&target).map_err(failed)?;
                let beside = Beside {
                    unfinished,
                    target,
                    placed: false,
                };
                (file, Some(beside))
            }
        };
        if let (Some(about), Some(_)) = (before, &beside) {
            // Who may read the file of before may read this one, and nobody else.
            file.set_permissions(about.permissions()).map_err(failed)?;
        }
        Ok(Replacement {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.to_owned(),
            beside,
        })
    }

    pub fn line(&mut self, line: &impl std::fmt::Display) -> Outcome {
        writeln!(self.file, "{line}").map_err(|error| Failure::io("write", &self.path, error))
    }

    /// Makes the file durable and gives it its name.
    pub fn finish(mut self) -> Outcome {
        let Replacement { file, beside, .. } = &mut self;
        let mut finish = || -> io::Result<()> {
            file.flush()?;
            let Some(beside) = beside else {
                return Ok(());
            };
            file.get_ref().sync_all()?;
            std::fs::rename(&beside.unfinished, &beside.target)?;
            beside.placed = true;
            beside.target.parent().map_or(Ok(()), sync_folder)
        };
        finish().map_err(|error| Failure::io("write", &self.path, error))
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Replacement {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.placed {
            let _ = std::fs::remove_file(&self.unfinished);
        }
    }
}

/// A new file beside the target. Its name has the process's number, so that two runs never write into one file.
fn unfinished(target: &Path) -> io::Result<(File, PathBuf)> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let path = target.with_file_name(name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok((File::create_new(&path)?, path))
}

/// Where a file is, or would be, links followed.
pub fn real(path: &Path) -> io::Result<PathBuf> {
    if path.exists() {
        return path.canonicalize();
    }
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(folder.unwrap_or(Path::new(".")).canonicalize()?.join(name))
}
