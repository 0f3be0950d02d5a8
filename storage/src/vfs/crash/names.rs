//! The names of the simulated file system, and the changes to them that no sync has followed yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File(u64),
}

pub(super) type Names = BTreeMap<PathBuf, Node>;

/// One change of names.
#[derive(Clone)]
pub(super) enum Change {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    /// From, to, and what is renamed: the new name leads to it whatever became of the old one.
    Rename(PathBuf, PathBuf, Node),
}

/// The folder that a name is an entry of.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The names below a folder, at any depth.
pub(super) fn below(names: &Names, folder: &Path) -> Vec<PathBuf> {
    names
        .range(folder.to_owned()..)
        .map(|(path, _)| path)
        .take_while(|path| path.starts_with(folder))
        .filter(|path| path.as_path() != folder)
        .cloned()
        .collect()
}

impl Change {
    /// Whether a sync of the folder makes this change durable.
    pub(super) fn is_in(&self, folder: &Path) -> bool {
        match self {
            Change::Link(path, _) | Change::Unlink(path) => parent(path) == folder,
            Change::Rename(from, to, _) => parent(from) == folder || parent(to) == folder,
        }
    }

    /// Carries the change out, as far as the names it speaks of are there.
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Change::Link(path, node) => {
                names.insert(path.clone(), *node);
            }
            Change::Unlink(path) => {
                for path in below(names, path) {
                    names.remove(&path);
                }
                names.remove(path);
            }
            Change::Rename(from, to, node) => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                for old in below(names, from) {
                    if let (Some(node), Ok(rest)) = (names.remove(&old), old.strip_prefix(from)) {
                        names.insert(to.join(rest), node);
                    }
                }
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// Drops names whose folder is not there: a folder that a power cut took has taken its entries too.
pub(super) fn drop_orphans(names: &mut Names) {
    let mut kept = Names::new();
    // Parents sort before their entries.
    for (path, node) in std::mem::take(names) {
        let folder = parent(&path);
        let in_root = folder.as_os_str().is_empty() || folder == Path::new("/");
        if in_root || kept.get(folder) == Some(&Node::Folder) {
            kept.insert(path, node);
        }
    }
    *names = kept;
}
