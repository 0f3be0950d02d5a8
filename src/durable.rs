//! Files beside the storage's own that must survive a power cut: encoders, checkpoints, exports.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes a file and makes its contents durable; its name is by [`sync_folder`].
pub(crate) fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut out = File::create(file)?;
    out.write_all(bytes)?;
    out.sync_all()
}

/// Makes the names in a folder durable. Elsewhere than on Unix folders cannot be opened for it.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

/// The same of a folder and of those below it that hold the files.
pub(crate) fn sync_folders(folder: &Path, files: &[PathBuf]) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = files
        .iter()
        .filter_map(|file| folder.join(file).parent().map(Path::to_path_buf))
        .collect();
    folders.push(folder.to_path_buf());
    folders.sort();
    folders.dedup();
    folders.iter().try_for_each(|folder| sync_folder(folder))
}
