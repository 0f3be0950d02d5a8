//! Writing what follows from segments, beside readers, writers and maintenance.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::state::has_generation;
use super::{Shared, Store, locked};
use crate::error::{Error, Result};
use crate::part::Part;
use crate::segment::{Companion, CompanionKind, CompanionWriter, Segment, SegmentFile};

/// Makes the companions of every new segment that a search should have from the start.
pub trait Derive: Send + Sync {
    /// Called with a segment that a flush or a compaction wrote, before anyone sees it; `attributes` are its
    /// collection's. Documents wait for it in memory, so it should be quick.
    ///
    /// # Errors
    /// Told in the log: the segment is taken into use all the same, without what failed.
    fn derive(
        &self,
        companions: &SegmentCompanions<'_>,
        attributes: &Value,
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// A segment of a store that is open for writing, to write companions for.
pub struct SegmentCompanions<'a> {
    shared: &'a Shared,
    segment: &'a Arc<Segment>,
}

impl Store {
    /// For writing companions of a segment of this store.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::Poisoned`].
    pub fn companions_of<'a>(&'a self, segment: &'a Arc<Segment>) -> Result<SegmentCompanions<'a>> {
        self.shared.check_writable()?;
        let shared = &self.shared;
        Ok(SegmentCompanions { shared, segment })
    }
}

impl SegmentCompanions<'_> {
    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        self.segment
    }

    /// Writes a companion, in the place of one that is there, and takes it into use when it is whole. `version`
    /// is for its readers to tell contents of another make. A segment that was rewritten or dropped meanwhile
    /// leaves no file.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown generation or while the same companion is being written elsewhere; what
    /// `fill` and the file system give.
    pub fn write<E: From<Error>>(
        &self,
        kind: CompanionKind,
        version: u32,
        fill: impl FnOnce(&mut CompanionWriter<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<Arc<Companion>, E> {
        let number = self.segment.number();
        let _underway = Underway::enter(self.shared, SegmentFile::Companion { number, kind })?;
        let (vfs, folder) = (self.shared.vfs(), self.shared.folder.segments());
        let mut writer = self.segment.write_companion(vfs, &folder, kind, version)?;
        fill(&mut writer)?;
        writer.finish()?;
        Ok(self.segment.take_up_companion(vfs, &folder, kind)?)
    }

    /// Lets a companion go and unlinks its file.
    ///
    /// # Errors
    /// What the file system gives.
    pub fn remove(&self, kind: CompanionKind) -> Result<()> {
        let number = self.segment.number();
        let file = SegmentFile::Companion { number, kind };
        let _underway = Underway::enter(self.shared, file)?;
        self.segment.detach(kind);
        let path = self.shared.folder.segments().join(file.to_string());
        let exists = self.shared.vfs().exists(&path);
        if exists.map_err(|error| Error::io("look for", &path, error))? {
            let removed = self.shared.vfs().remove(&path);
            removed.map_err(|error| Error::io("remove", &path, error))?;
        }
        Ok(())
    }
}

/// The name of a file that is being written beside maintenance: a sweep leaves it alone.
pub(super) struct Underway<'a> {
    shared: &'a Shared,
    name: String,
}

impl Underway<'_> {
    pub fn enter(shared: &Shared, file: SegmentFile) -> Result<Underway<'_>> {
        let name = file.to_string();
        if !locked(&shared.underway).insert(name.clone()) {
            let what = format!("{name} is being written already: wait for it");
            return Err(Error::Invalid { what });
        }
        Ok(Underway { shared, name })
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        locked(&self.shared.underway).remove(&self.name);
    }
}

impl Shared {
    /// Has the companions of a new segment made.
    pub(super) fn derive(&self, segment: &Arc<Segment>, attributes: &Value) {
        let Some(derive) = &self.options.derive else {
            return;
        };
        let companions = SegmentCompanions {
            shared: self,
            segment,
        };
        if let Err(error) = derive.derive(&companions, attributes) {
            tracing::warn!(%error, segment = segment.number(), "a segment goes without some of what follows from it");
        }
    }

    /// Files that are being written, or were taken into use after somebody listed what must stay.
    pub(super) fn files_in_use(&self) -> HashSet<String> {
        // In this order: what leaves the first has reached the second.
        let mut names = locked(&self.underway).clone();
        let current = self.current.load();
        let parts = current
            .collections
            .values()
            .flat_map(|collection| &collection.parts);
        for live in parts {
            if let Part::Segment(segment) = live.part() {
                let files = segment.files();
                names.extend(
                    files
                        .iter()
                        .filter_map(|path| path.file_name()?.to_str().map(str::to_owned)),
                );
            }
        }
        names
    }

    /// Whether a spool is of a segment that still lacks the generation.
    pub(super) fn is_wanted_spool(&self, name: &str) -> bool {
        let Some(SegmentFile::Spool {
            number, generation, ..
        }) = SegmentFile::parse(name)
        else {
            return false;
        };
        let current = self.current.load();
        current.collections.values().any(|collection| {
            collection.layout(generation).is_some()
                && collection.parts.iter().any(|live| match live.part() {
                    Part::Segment(segment) => {
                        segment.number() == number && !has_generation(live.part(), generation)
                    }
                    Part::Memory(_) => false,
                })
        })
    }
}
