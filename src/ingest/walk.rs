//! The files below a folder, in one order on every machine.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::{IngestError, Skip, SkipReason};
use super::source::SourceKind;

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name below the folder that was given, parts joined by `/`; of a file given by itself, its file name.
    pub name: String,
    /// How it is read.
    pub kind: SourceKind,
}

/// The files at or below a path: see [`walk`].
pub struct Walk {
    open: Vec<Pending>,
    links: VecDeque<Pending>,
    /// What is read already or will be: the folder itself, and where links have led.
    roots: Vec<PathBuf>,
}

struct Pending {
    path: PathBuf,
    /// `None` where it is not UTF-8: told when its turn in the order comes.
    name: Option<String>,
    way: Way,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Given,
    Found,
    Linked,
}

/// Walks a file or a folder.
///
/// The order is by name, byte by byte, files and folders alike, folders at the place of their name; what links lead
/// to comes last. Files and folders whose names begin with a dot are passed over, and so are files whose ending
/// tells of no text; a file given by itself is read whatever its name (as plain text, if the name says nothing).
/// Links are followed, once: a link into what is read anyway, or back to a folder above it, is passed over. Nothing
/// below the given path is fatal: everything that is passed over comes out as a [`Skip`] with its reason.
///
/// # Errors
/// [`IngestError::Io`] if the given path itself cannot be read.
pub fn walk(root: &Path) -> Result<Walk, IngestError> {
    let real = root
        .canonicalize()
        .map_err(|error| IngestError::io("open", root, error))?;
    let about = real
        .metadata()
        .map_err(|error| IngestError::io("open", root, error))?;
    let mut walk = Walk {
        open: Vec::new(),
        links: VecDeque::new(),
        roots: vec![real],
    };
    if about.is_dir() {
        let entries = std::fs::read_dir(root).map_err(|error| IngestError::io("read", root, error))?;
        walk.enter(root, "", entries);
    } else if about.is_file() {
        let Some(name) = root.file_name().and_then(|name| name.to_str()) else {
            return Err(IngestError::Source(Skip {
                path: root.to_owned(),
                reason: SkipReason::Name,
            }));
        };
        walk.open.push(Pending {
            path: root.to_owned(),
            name: Some(name.to_owned()),
            way: Way::Given,
        });
    } else {
        return Err(IngestError::Source(Skip {
            path: root.to_owned(),
            reason: SkipReason::Special,
        }));
    }
    Ok(walk)
}

impl Iterator for Walk {
    type Item = Result<SourceFile, Skip>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pending) = self.open.pop() {
                match self.visit(pending) {
                    Ok(None) => continue,
                    Ok(Some(file)) => return Some(Ok(file)),
                    Err(skip) => return Some(Err(skip)),
                }
            }
            let link = self.links.pop_front()?;
            match self.follow(link) {
                Ok(()) => continue,
                Err(skip) => return Some(Err(skip)),
            }
        }
    }
}

impl Walk {
    fn enter(&mut self, folder: &Path, name: &str, entries: std::fs::ReadDir) {
        // An entry that cannot even be listed has no name to report; the folder's own error comes from `visit`.
        let mut names: Vec<OsString> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name()))
            .collect();
        names.sort_by(|a, b| b.as_encoded_bytes().cmp(a.as_encoded_bytes()));
        self.open.extend(names.into_iter().map(|entry| Pending {
            path: folder.join(&entry),
            name: entry.to_str().map(|entry| {
                if name.is_empty() {
                    entry.to_owned()
                } else {
                    format!("{name}/{entry}")
                }
            }),
            way: Way::Found,
        }));
    }

    fn visit(&mut self, pending: Pending) -> Result<Option<SourceFile>, Skip> {
        let Pending { path, name, way } = pending;
        let skip = |reason| {
            Err(Skip {
                path: path.clone(),
                reason,
            })
        };
        let Some(name) = name else {
            return skip(SkipReason::Name);
        };
        if way != Way::Given && name.rsplit('/').next().is_some_and(|last| last.starts_with('.')) {
            return skip(SkipReason::Hidden);
        }
        let about = if way == Way::Found {
            path.symlink_metadata()
        } else {
            path.metadata()
        };
        let about = match about {
            Ok(about) => about,
            Err(error) => {
                return skip(SkipReason::Unreadable {
                    why: error.to_string(),
                });
            }
        };
        if about.is_symlink() {
            self.links.push_back(Pending {
                path,
                name: Some(name),
                way: Way::Linked,
            });
            Ok(None)
        } else if about.is_dir() {
            match std::fs::read_dir(&path) {
                Ok(entries) => {
                    self.enter(&path, &name, entries);
                    Ok(None)
                }
                Err(error) => skip(SkipReason::Unreadable {
                    why: error.to_string(),
                }),
            }
        } else if about.is_file() {
            match (SourceKind::of(&path), way) {
                (Some(kind), _) => Ok(Some(SourceFile { path, name, kind })),
                (None, Way::Given) => Ok(Some(SourceFile {
                    path,
                    name,
                    kind: SourceKind::Text,
                })),
                (None, _) => skip(SkipReason::OtherKind),
            }
        } else {
            skip(SkipReason::Special)
        }
    }

    fn follow(&mut self, link: Pending) -> Result<(), Skip> {
        let path = &link.path;
        let skip = |reason| {
            Err(Skip {
                path: path.clone(),
                reason,
            })
        };
        let target = match path.canonicalize() {
            Ok(target) => target,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return skip(SkipReason::DanglingLink);
            }
            Err(_) if is_loop(path) => return skip(SkipReason::LoopingLink),
            Err(error) => {
                return skip(SkipReason::Unreadable {
                    why: error.to_string(),
                });
            }
        };
        if self
            .roots
            .iter()
            .any(|root| root.starts_with(&target) && *root != target)
        {
            return skip(SkipReason::LoopingLink);
        }
        if self.roots.iter().any(|root| is_read_below(root, &target)) {
            // Above the link itself it is a circle, beside it merely a second name.
            let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
            return match folder {
                Some(folder) if folder.starts_with(&target) => skip(SkipReason::LoopingLink),
                _ => skip(SkipReason::ReadElsewhere { target }),
            };
        }
        self.roots.push(target);
        self.open.push(link);
        Ok(())
    }
}

/// Whether a path is at or below a folder that is walked, and no folder with a dot before its name hides it.
fn is_read_below(root: &Path, target: &Path) -> bool {
    target.strip_prefix(root).is_ok_and(|below| {
        !below
            .components()
            .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
    })
}

/// Whether following the link meets it again. (The system's own error for this has no stable kind in the standard
/// library.)
fn is_loop(link: &Path) -> bool {
    const LINKS_MAX: usize = 64;
    let mut at = link.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = std::fs::read_link(&at) else {
            return false;
        };
        at = match at.parent() {
            Some(folder) => folder.join(next),
            None => next,
        };
    }
    true
}
