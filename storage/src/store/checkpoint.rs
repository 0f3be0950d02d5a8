//! Checkpoints: memory chunks become segments, the MANIFEST names them, the log is cut.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::folder;
use super::manifest::{CollectionEntry, Manifest, SegmentEntry};
use super::state::{DatabaseState, LivePart, Replacement};
use super::{Shared, Store, locked};
use crate::deletions::{DeletionsOf, write_deletions};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::part::Part;
use crate::segment::{SegmentFile, SegmentPlan, UNFINISHED, write_segment};
use crate::wal;

/// What the maintainer carries from one checkpoint to the next.
#[derive(Default)]
pub(crate) struct Progress {
    pub next_segment: u64,
    /// The deletions file that the MANIFEST names for a segment, with its number of deleted rows.
    pub deletions: BTreeMap<u64, (u64, u64)>,
    /// The sequence that the MANIFEST stands at.
    pub manifest_seq: u64,
    /// Whether the segments differ from what the MANIFEST names.
    pub changed: bool,
    /// The files in `segments/` that the MANIFEST stands on.
    pub named: Vec<String>,
}

impl Store {
    /// Writes everything committed so far to segments and cuts the log. Commits go on meanwhile.
    ///
    /// # Errors
    /// [`Error::NoSpace`] and other failures; the log still holds everything, so a later try is safe.
    pub fn checkpoint(&self) -> Result<()> {
        self.shared.check_writable()?;
        self.shared.checkpoint()
    }
}

impl Shared {
    pub(super) fn checkpoint(&self) -> Result<()> {
        let mut progress = locked(&self.maintaining);
        self.checkpoint_holding(&mut progress)
    }

    pub(super) fn checkpoint_holding(&self, progress: &mut Progress) -> Result<()> {
        self.check_writable()?;
        let (base, first_log) = self.rotate()?;
        if base.seq == progress.manifest_seq && !progress.changed && !base.has_memory_rows() {
            return Ok(());
        }
        let mut replacements = Vec::new();
        let written = self
            .write_chunks(progress, &base, &mut replacements)
            .and_then(|()| {
                let mut flushed = DatabaseState::clone(&base);
                for replacement in &replacements {
                    flushed.replace(replacement);
                }
                self.write_manifest(progress, &flushed, first_log)
            });
        if let Err(error) = written {
            // Poisoned, it is not known which MANIFEST is in place, and what it names must stay.
            if self.poisoned.get().is_none() {
                self.sweep_after_failure(progress);
            }
            return Err(error);
        }
        self.swap(&replacements);
        progress.changed = false;
        wal::remove_before(self.vfs(), &self.folder.wal(), first_log)?;
        sweep(self, &progress.named).map(drop)
    }

    /// Writes the memory chunks of each collection to a segment; what was written before a failure is in
    /// `replacements` all the same.
    fn write_chunks(
        &self,
        progress: &mut Progress,
        base: &DatabaseState,
        replacements: &mut Vec<Replacement>,
    ) -> Result<()> {
        for collection in base.collections.values() {
            let chunks = collection
                .parts
                .iter()
                .filter(|live| matches!(live.part(), Part::Memory(_)));
            for sources in alike(chunks.cloned()) {
                replacements.push(self.write_replacement(progress, collection.number, &sources)?);
            }
        }
        Ok(())
    }

    /// Takes away what a failed checkpoint wrote, so that trying again does not fill the disk: all that neither
    /// the MANIFEST nor the current state stands on.
    fn sweep_after_failure(&self, progress: &Progress) {
        let mut named = named_files(progress, &self.current.load());
        named.extend_from_slice(&progress.named);
        if let Err(error) = sweep(self, &named) {
            tracing::debug!(%error, "files that nobody names stay until the next opening");
        }
    }

    /// Begins a new log file and freezes the memory chunks: the state returned is durable, and the files before
    /// the one returned hold nothing later.
    fn rotate(&self) -> Result<(Arc<DatabaseState>, u64)> {
        let mut log = locked(&self.log);
        loop {
            self.write_queued(&mut log)?;
            let mut writer = locked(&self.writer);
            if writer.count > 0 {
                continue;
            }
            // The next file is created by the next commit.
            log.writer = None;
            log.replayed = None;
            self.log_bytes.store(0, Ordering::Release);
            Arc::make_mut(&mut writer.state).freeze();
            self.current.store(Arc::clone(&writer.state));
            return Ok((Arc::clone(&writer.state), log.next_file));
        }
    }

    /// Writes the live rows of some parts, which have vectors of the same generations, to a new segment.
    pub(super) fn write_replacement(
        &self,
        progress: &mut Progress,
        collection: u32,
        sources: &[LivePart],
    ) -> Result<Replacement> {
        let current = self.current.load();
        let layouts = current.collections.get(&collection).map(|collection| {
            let layouts = sources.first().map_or(&[][..], |live| live.part().layouts());
            let known = layouts
                .iter()
                .filter(|layout| collection.layout(layout.generation).is_some());
            let layouts: Vec<Layout> = known.copied().collect();
            (layouts, Arc::clone(&collection.attributes))
        });
        let sources: Vec<(LivePart, Vec<u32>)> = sources
            .iter()
            .map(|live| {
                let rows = (0..live.part().rows())
                    .filter(|row| !live.dead().contains(*row))
                    .collect();
                (live.clone(), rows)
            })
            .collect();
        // A collection dropped meanwhile has no need of a segment; its parts go with it.
        let with = match layouts {
            Some((layouts, attributes)) if sources.iter().any(|(_, rows)| !rows.is_empty()) => {
                let number = progress.next_segment;
                progress.next_segment += 1;
                let sources: Vec<(Part, Vec<u32>)> = sources
                    .iter()
                    .map(|(live, rows)| (live.part().clone(), rows.clone()))
                    .collect();
                let plan = SegmentPlan {
                    number,
                    collection: collection.into(),
                    layouts: &layouts,
                    sources: &sources,
                };
                let segment = Arc::new(write_segment(self.vfs(), &self.folder.segments(), &plan)?);
                self.derive(&segment, &attributes);
                Some(Part::Segment(segment))
            }
            _ => None,
        };
        Ok(Replacement {
            collection,
            sources,
            with,
        })
    }

    /// Puts the new parts in the place of the old ones, for readers and for the next commit.
    pub(super) fn swap(&self, replacements: &[Replacement]) {
        let _log = locked(&self.log);
        let mut writer = locked(&self.writer);
        let mut current = DatabaseState::clone(&self.current.load());
        let pending = Arc::make_mut(&mut writer.state);
        for replacement in replacements {
            pending.replace(replacement);
            current.replace(replacement);
        }
        self.memory_bytes.store(current.memory_bytes(), Ordering::Release);
        self.current.store(Arc::new(current));
        self.flushed.1.notify_all();
    }

    fn write_manifest(&self, progress: &mut Progress, state: &DatabaseState, first_log: u64) -> Result<()> {
        let folder = self.folder.segments();
        let mut written = false;
        let mut named = BTreeMap::new();
        let mut collections = Vec::with_capacity(state.collections.len());
        for collection in state.collections.values() {
            let mut segments = Vec::with_capacity(collection.parts.len());
            for live in &collection.parts {
                let Part::Segment(segment) = live.part() else {
                    continue;
                };
                let (number, dead) = (segment.number(), live.dead().len());
                let deletions = match progress.deletions.get(&number) {
                    _ if dead == 0 => None,
                    Some(&(seq, count)) if count == dead => Some(seq),
                    _ => {
                        let of = DeletionsOf {
                            collection: collection.number.into(),
                            segment: number,
                            rows: segment.rows(),
                            sequence: state.seq,
                        };
                        write_deletions(self.vfs(), &folder, &of, live.dead())?;
                        written = true;
                        Some(state.seq)
                    }
                };
                if let Some(seq) = deletions {
                    named.insert(number, (seq, dead));
                }
                segments.push(SegmentEntry {
                    number,
                    rows: segment.rows(),
                    dead,
                    deletions,
                    generations: Some(segment.layouts().iter().map(|layout| layout.generation).collect()),
                });
            }
            collections.push(CollectionEntry {
                number: collection.number,
                name: collection.name.to_string(),
                attributes: (*collection.attributes).clone(),
                generations: (*collection.generations).clone(),
                current: Some(collection.current),
                next_generation: Some(collection.next_generation),
                segments,
            });
        }
        if written {
            self.vfs()
                .sync_folder(&folder)
                .map_err(|error| Error::io("sync", &folder, error))?;
        }
        let manifest = Manifest {
            database: self.database,
            seq: state.seq,
            next_docid: state.next_docid,
            next_collection: state.next_collection,
            next_segment: progress.next_segment,
            first_log,
            collections,
            settings: (*state.settings).clone(),
            written_by: concat!("stratal ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        if let Err(error) = manifest.write(self.vfs(), &self.folder) {
            // Whether the old or the new one is in place after a power cut, both name whole files; but a failed
            // sync may have dropped what later writes would stand on.
            if !matches!(
                error,
                Error::NoSpace {
                    action: "create" | "write",
                    ..
                }
            ) {
                self.poison(&error);
            }
            return Err(error);
        }
        progress.deletions = named;
        progress.manifest_seq = state.seq;
        progress.named = named_files(progress, state);
        Ok(())
    }
}

/// Parts by the generations whose vectors they have: only such can become one.
pub(super) fn alike(parts: impl Iterator<Item = LivePart>) -> Vec<Vec<LivePart>> {
    let mut groups: Vec<Vec<LivePart>> = Vec::new();
    for live in parts {
        let group = groups
            .iter_mut()
            .find(|group| group[0].part().layouts() == live.part().layouts());
        match group {
            Some(group) => group.push(live),
            None => groups.push(vec![live]),
        }
    }
    groups
}

/// The names of the files in `segments/` that a state stands on.
pub(super) fn named_files(progress: &Progress, state: &DatabaseState) -> Vec<String> {
    let mut names = Vec::new();
    for live in state
        .collections
        .values()
        .flat_map(|collection| &collection.parts)
    {
        if let Part::Segment(segment) = live.part() {
            names.extend(
                segment
                    .files()
                    .iter()
                    .filter_map(|path| path.file_name()?.to_str().map(str::to_owned)),
            );
            let number = segment.number();
            if let Some(&(sequence, _)) = progress.deletions.get(&number) {
                names.push(SegmentFile::Deletions { number, sequence }.to_string());
            }
        }
    }
    names
}

/// Unlinks our own files in `segments/` that are not `named`, and tells which. Readers that have them mapped
/// keep them.
pub(super) fn sweep(shared: &Shared, named: &[String]) -> Result<Vec<PathBuf>> {
    let segments = shared.folder.segments();
    let named: std::collections::HashSet<&str> = named.iter().map(String::as_str).collect();
    let entries = shared
        .vfs()
        .list(&segments)
        .map_err(|error| Error::io("list", &segments, error))?;
    // Only now: it must hold all companions that were there when the folder was listed.
    let in_use = shared.files_in_use();
    let mut removed = Vec::new();
    for entry in entries {
        let finished = entry.name.strip_suffix(UNFINISHED).unwrap_or(&entry.name);
        if !entry.is_folder
            && folder::is_ours_in_segments(&entry.name)
            && !named.contains(entry.name.as_str())
            && !in_use.contains(finished)
            && !shared.is_wanted_spool(&entry.name)
        {
            let path = segments.join(&entry.name);
            shared
                .vfs()
                .remove(&path)
                .map_err(|error| Error::io("remove", &path, error))?;
            removed.push(path);
        }
    }
    Ok(removed)
}
