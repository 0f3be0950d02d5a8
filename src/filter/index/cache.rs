//! Indexes that no companion holds: of memory chunks, and of segments without one.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use stratal_storage::{Chunk, CompanionKind, Part, Segment};

use super::{Index, ROWS_MIN, build};

/// Bytes of indexes that are kept; the one used last is kept whatever its size.
const MEMORY_MAX: usize = 64 << 20;

/// Indexes of parts, made when a filter first asks and kept while their parts live and there is room.
#[derive(Default)]
pub(crate) struct Indexes {
    /// The one used last comes last.
    kept: Mutex<Vec<(Key, Arc<Index>)>>,
}

/// A part that it keeps nobody from dropping.
enum Key {
    Memory(Weak<Chunk>),
    Segment(Weak<Segment>),
}

impl Key {
    fn of(part: &Part) -> Key {
        match part {
            Part::Memory(chunk) => Key::Memory(Arc::downgrade(chunk)),
            Part::Segment(segment) => Key::Segment(Arc::downgrade(segment)),
        }
    }

    fn is(&self, part: &Part) -> bool {
        match (self, part) {
            (Key::Memory(key), Part::Memory(chunk)) => std::ptr::eq(key.as_ptr(), Arc::as_ptr(chunk)),
            (Key::Segment(key), Part::Segment(segment)) => std::ptr::eq(key.as_ptr(), Arc::as_ptr(segment)),
            _ => false,
        }
    }

    fn is_gone(&self) -> bool {
        match self {
            Key::Memory(key) => key.strong_count() == 0,
            Key::Segment(key) => key.strong_count() == 0,
        }
    }
}

impl Indexes {
    /// The index of a part: its companion, or one made now. `None` for a part that is quicker read, or has rows
    /// that cannot be.
    pub(in super::super) fn of(&self, part: &Part) -> Option<Arc<Index>> {
        if part.rows() < ROWS_MIN {
            return None;
        }
        if let Part::Segment(segment) = part
            && let Some(companion) = segment.companion(CompanionKind::Filter)
            && let Some(index) = Index::of_companion(companion, part.rows())
        {
            return Some(Arc::new(index));
        }
        if let Some(index) = self.find(part) {
            return Some(index);
        }
        let index = Arc::new(Index::in_memory(build(part).ok()?, part.rows()));
        self.keep(part, &index);
        Some(index)
    }

    fn find(&self, part: &Part) -> Option<Arc<Index>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(key, _)| !key.is_gone());
        let at = kept.iter().position(|(key, _)| key.is(part))?;
        let found = kept.remove(at);
        let index = Arc::clone(&found.1);
        kept.push(found);
        Some(index)
    }

    fn keep(&self, part: &Part, index: &Arc<Index>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(key, _)| !key.is(part));
        kept.push((Key::of(part), Arc::clone(index)));
        let mut bytes: usize = kept.iter().map(|(_, index)| index.memory_bytes()).sum();
        while bytes > MEMORY_MAX && kept.len() > 1 {
            bytes -= kept.remove(0).1.memory_bytes();
        }
    }
}
