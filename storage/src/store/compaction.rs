//! Compaction: segments with many deleted rows, and many small segments, become one.

use std::path::Path;

use super::checkpoint::alike;
use super::state::LivePart;
use super::{Shared, Store, locked};
use crate::error::{Error, Result};
use crate::part::Part;

/// A segment is rewritten when more than one in this many of its rows is deleted.
const DEAD_FRACTION: u64 = 3;
/// So many segments of about one size are merged.
const TIER_SEGMENTS: usize = 6;
/// No segment grows past so many rows.
const SEGMENT_ROWS_MAX: u64 = 8 << 20;

impl Store {
    /// Rewrites the segments of one collection, or of all, without their deleted rows, and merges them; what was
    /// deleted before the call is in no file afterwards. Readers and writers go on meanwhile.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`]; [`Error::NoSpace`] before anything is written if the disk has not the room.
    pub fn compact(&self, collection: Option<&str>) -> Result<()> {
        self.shared.check_writable()?;
        let snapshot = self.snapshot();
        let numbers: Vec<u32> = match collection {
            Some(name) => vec![snapshot.collection(name)?.number()],
            None => snapshot
                .collections()
                .map(|collection| collection.number())
                .collect(),
        };
        drop(snapshot);
        self.shared.compact(&numbers, |segments| segments).map(drop)
    }
}

impl Shared {
    /// What the maintenance thread does after a flush. Returns whether segments were rewritten: rows that were
    /// flushed meanwhile may make another rewrite worth while.
    pub(super) fn compact_where_it_pays(&self) -> Result<bool> {
        let numbers: Vec<u32> = self.current.load().collections.keys().copied().collect();
        self.compact(&numbers, worth_merging)
    }

    fn compact(&self, collections: &[u32], choose: impl Fn(Vec<LivePart>) -> Vec<LivePart>) -> Result<bool> {
        let mut progress = locked(&self.maintaining);
        let mut rewritten = false;
        let mut flushed = false;
        for number in collections {
            if !flushed && self.current.load().has_memory_rows() {
                // Deleted rows of memory chunks are in the log too, which only a checkpoint cuts.
                self.checkpoint_holding(&mut progress)?;
                flushed = true;
            }
            let current = self.current.load_full();
            let Some(collection) = current.collections.get(number) else {
                continue;
            };
            let filling = locked(&self.filling).clone();
            let segments = collection.parts.iter().filter(|live| match live.part() {
                Part::Segment(segment) => !filling.contains(&segment.number()),
                Part::Memory(_) => false,
            });
            for group in alike(segments.cloned())
                .into_iter()
                .flat_map(|segments| groups(choose(segments)))
            {
                self.check_space(&group)?;
                let replacement = self.write_replacement(&mut progress, *number, &group)?;
                self.swap(&[replacement]);
                progress.changed = true;
                rewritten = true;
            }
            if progress.changed {
                // One collection at a time, so that its space is back before the next one needs some.
                drop(current);
                self.checkpoint_holding(&mut progress)?;
            }
        }
        self.checkpoint_holding(&mut progress)?;
        Ok(rewritten)
    }

    /// Refuses a rewrite that the disk has no room for, before it fills the disk.
    fn check_space(&self, group: &[LivePart]) -> Result<()> {
        let needed: u64 = group
            .iter()
            .map(|live| {
                let rows = u64::from(live.part().rows()).max(1);
                live.part().bytes().disk / rows * live.live_rows() + (1 << 16)
            })
            .sum();
        let path: &Path = &self.folder.root;
        let Some(free) = self
            .vfs()
            .free_bytes(path)
            .map_err(|error| Error::io("measure", path, error))?
        else {
            return Ok(());
        };
        if free > needed {
            return Ok(());
        }
        let source =
            std::io::Error::other(format!("compaction needs {needed} bytes beside {free} free ones"));
        Err(Error::NoSpace {
            action: "compact",
            path: path.to_owned(),
            source,
        })
    }
}

/// Splits what is to be merged so that no segment grows without bound.
fn groups(segments: Vec<LivePart>) -> Vec<Vec<LivePart>> {
    let mut groups: Vec<Vec<LivePart>> = Vec::new();
    let mut rows = 0;
    for live in segments {
        if groups.is_empty() || rows + live.live_rows() > SEGMENT_ROWS_MAX {
            groups.push(Vec::new());
            rows = 0;
        }
        rows += live.live_rows();
        if let Some(group) = groups.last_mut() {
            group.push(live);
        }
    }
    groups.retain(|group| group.len() > 1 || group.iter().any(|live| !live.dead().is_empty()));
    groups
}

/// Segments mostly dead, and tiers of segments of about one size.
fn worth_merging(mut segments: Vec<LivePart>) -> Vec<LivePart> {
    let total: u64 = segments.iter().map(|live| u64::from(live.part().rows())).sum();
    let dead: u64 = segments.iter().map(|live| live.dead().len()).sum();
    if dead * DEAD_FRACTION > total {
        return segments;
    }
    segments.sort_by_key(LivePart::live_rows);
    let mut start = 0;
    while start < segments.len() {
        let smallest = segments[start].live_rows().max(256);
        let end = start
            + segments[start..]
                .iter()
                .take_while(|live| live.live_rows() <= smallest * 4)
                .count();
        if end - start >= TIER_SEGMENTS {
            return segments.drain(start..end).collect();
        }
        start = end.max(start + 1);
    }
    Vec::new()
}
