//! Graphs that are open for searching, and what is wanted of the thread that builds.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use stratal_kernels::{Graph, GraphSection, GraphSections, Walk};
use stratal_storage::{Companion, Layout, Segment};

use super::curve::Curve;
use super::{CURVE, VERSION, companion_of};

/// Graphs whose small parts are kept in memory.
const KEPT: usize = 64;

/// The memory of searches that are over, for the next ones.
const IDLE: usize = 64;

/// A graph that can be walked.
pub(crate) struct Indexed {
    companion: Arc<Companion>,
    pub graph: Graph,
    pub(super) curve: Curve,
}

/// The opened graphs of a database.
#[derive(Default)]
pub(crate) struct Graphs {
    kept: Mutex<Vec<Arc<Indexed>>>,
    idle: Mutex<Vec<Walk>>,
    wanted: Mutex<Wanted>,
    changed: Condvar,
    /// Held while a graph is being built: one at a time.
    pub(super) building: Mutex<()>,
}

/// What the building thread shall do next.
#[derive(Default)]
struct Wanted {
    collections: BTreeSet<u32>,
    stopped: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Indexed {
    /// Opens a graph; why not, if it is damaged or of another make.
    fn open(companion: Arc<Companion>, segment: &Segment, layout: &Layout) -> Result<Indexed, String> {
        if companion.version() != VERSION {
            return Err(format!("it is of make {}", companion.version()));
        }
        let told = |error: stratal_storage::Error| error.to_string();
        let sections = sections(&companion).map_err(told)?;
        let graph = Graph::open(&sections).map_err(|error| error.to_string())?;
        if graph.layers() != layout.layers as usize
            || graph.dimension() != layout.dimension as usize
            || graph.documents() > segment.rows() as usize
        {
            return Err("it is of other vectors".to_owned());
        }
        let curve = Curve::read(companion.section(CURVE, 0).map_err(told)?)
            .ok_or("what it says of its recall cannot be")?;
        Ok(Indexed {
            companion,
            graph,
            curve,
        })
    }

    /// The graph's bytes, in the order in which the kernels take them.
    pub fn sections(&self) -> stratal_storage::Result<GraphSections<'_>> {
        sections(&self.companion)
    }

    /// The width that reaches a recall for `k` hits, if one does.
    pub fn width(&self, target: f32, k: usize) -> Option<usize> {
        self.curve.width(target, k)
    }
}

fn sections(companion: &Companion) -> stratal_storage::Result<GraphSections<'_>> {
    let mut sections = GraphSections::default();
    for (number, section) in sections.iter_mut().enumerate() {
        *section = companion.section(number as u32 + 1, 0)?;
    }
    Ok(sections)
}

const _: () = assert!(GraphSection::ALL.len() as u32 + 1 == CURVE);

impl Graphs {
    /// The graph of a segment, if there is one that can be used.
    pub fn of(&self, segment: &Segment, layout: &Layout) -> Option<Arc<Indexed>> {
        let companion = segment.companion(companion_of(layout))?;
        let mut kept = locked(&self.kept);
        if let Some(at) = kept
            .iter()
            .position(|indexed| Arc::ptr_eq(&indexed.companion, &companion))
        {
            return Some(Arc::clone(&kept[at]));
        }
        // Others wait: it is read once.
        match Indexed::open(Arc::clone(&companion), segment, layout) {
            Ok(indexed) => {
                let indexed = Arc::new(indexed);
                // Files that nobody else holds any more have been replaced.
                kept.retain(|other| Arc::strong_count(&other.companion) > 1 && !other.companion.is_damaged());
                if kept.len() >= KEPT {
                    kept.remove(0);
                }
                kept.push(Arc::clone(&indexed));
                Some(indexed)
            }
            Err(why) => {
                let path = companion.path().display().to_string();
                tracing::warn!(
                    path,
                    why,
                    "an index cannot be used: its segment is scanned instead"
                );
                None
            }
        }
    }

    /// The memory for a walk; to be given back.
    pub fn walk(&self) -> Walk {
        locked(&self.idle).pop().unwrap_or_default()
    }

    /// Takes a walk's memory back.
    pub fn keep(&self, walk: Walk) {
        let mut idle = locked(&self.idle);
        if idle.len() < IDLE {
            idle.push(walk);
        }
    }

    /// Asks for the graphs that a collection lacks.
    pub fn want(&self, collection: u32) {
        if locked(&self.wanted).collections.insert(collection) {
            self.changed.notify_all();
        }
    }

    /// Waits for something to do; `None` when there is nothing any more.
    pub(super) fn next(&self) -> Option<u32> {
        let mut wanted = locked(&self.wanted);
        loop {
            if wanted.stopped {
                return None;
            }
            if let Some(collection) = wanted.collections.pop_first() {
                return Some(collection);
            }
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn stop(&self) {
        locked(&self.wanted).stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        locked(&self.wanted).stopped
    }
}
