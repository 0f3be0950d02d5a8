//! Building the indexes that a collection lacks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use stratal_kernels::{BuiltGraph, Graph, GraphOptions, GraphSection, GraphSections};
use stratal_storage::{Part, Segment, Store};

use super::curve::{Curve, stopped};
use super::{CURVE, VERSION, companion_of, is_worth_while, planes};
use crate::database::Engine;
use crate::schema::Schema;
use crate::{Collection, Error, Result};

/// How often segments that came meanwhile are looked for.
const ROUNDS: usize = 8;

/// How long to wait before looking again whether another build is over.
const PATIENCE: Duration = Duration::from_millis(20);

/// How far a build has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct IndexProgress {
    /// The segment at work, from 1.
    pub segment: usize,
    /// Segments to do.
    pub segments: usize,
    /// Documents of this segment.
    pub documents: u64,
    /// The share of this segment that is done, from 0 to 1.
    pub done: f32,
}

/// What a build did.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct IndexReport {
    /// Segments that got an index.
    pub segments: usize,
    /// Their documents.
    pub documents: u64,
    /// Bytes of the indexes.
    pub bytes: u64,
    /// In all, in seconds.
    pub seconds: f64,
}

/// A run that gives every large segment of a collection its index; made by [`Collection::build_index`].
///
/// Readers and writers go on meanwhile, and an index is used as soon as its segment has it. It works on threads of
/// its own, so that no search waits behind it.
#[must_use = "a build does nothing before `run`"]
pub struct IndexBuild<'a> {
    collection: Collection,
    cancel: Option<&'a AtomicBool>,
    progress: Option<&'a (dyn Fn(&IndexProgress) + Sync)>,
    again: bool,
}

impl Collection {
    /// Builds what approximate search walks: a graph beside every segment that is large enough to gain from one.
    /// Rows that are still in memory are written to a segment first.
    ///
    /// Searches that miss an index ask for it by themselves; this is for having it before the first.
    pub fn build_index<'a>(&self) -> IndexBuild<'a> {
        IndexBuild {
            collection: self.clone(),
            cancel: None,
            progress: None,
            again: false,
        }
    }
}

impl<'a> IndexBuild<'a> {
    /// Stops soon after the flag is raised; segments that are done keep their index.
    pub fn cancel(mut self, cancel: &'a AtomicBool) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Told now and then, from any thread.
    pub fn progress(mut self, progress: &'a (dyn Fn(&IndexProgress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Builds also where there is an index already.
    pub fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// Builds.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::Storage`] for a database that is open for reading only, a dropped
    /// collection, damage, or what the file system gives.
    pub fn run(self) -> Result<IndexReport> {
        let database = &self.collection.database;
        database.flush()?;
        let go_on = |progress: &IndexProgress| {
            if let Some(told) = self.progress {
                told(progress);
            }
            !self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
        };
        Build {
            store: &database.store,
            engine: &database.engine,
            number: self.collection.number,
            progress: &go_on,
            again: self.again,
        }
        .run()
    }
}

/// A build of whomever.
pub(super) struct Build<'a> {
    pub store: &'a Store,
    pub engine: &'a Arc<Engine>,
    pub number: u32,
    /// Told how far it is; `false` stops it.
    pub progress: &'a (dyn Fn(&IndexProgress) -> bool + Sync),
    pub again: bool,
}

impl Build<'_> {
    pub fn run(&self) -> Result<IndexReport> {
        let started = Instant::now();
        let mut report = IndexReport::default();
        let _alone = self.alone()?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.engine.threads())
            .thread_name(|index| format!("stratal-index-{index}"))
            .build()?;
        let mut done: Vec<u64> = Vec::new();
        // A compaction may replace a segment while its graph is being built.
        for _ in 0..ROUNDS {
            let (schema, segments) = self.lacking(&done)?;
            if segments.is_empty() {
                break;
            }
            for (at, segment) in segments.iter().enumerate() {
                let progress = IndexProgress {
                    segment: at + 1,
                    segments: segments.len(),
                    documents: segment.rows().into(),
                    done: 0.0,
                };
                report.bytes += pool.install(|| self.segment(segment, &schema, progress))?;
                report.segments += 1;
                report.documents += u64::from(segment.rows());
                done.push(segment.number());
            }
        }
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Waits until nobody else builds.
    fn alone(&self) -> Result<MutexGuard<'_, ()>> {
        let building: &Mutex<()> = &self.engine.graphs.building;
        loop {
            match building.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(PoisonError::into_inner(poisoned)),
                Err(TryLockError::WouldBlock) if !(self.progress)(&IndexProgress::default()) => {
                    return Err(Error::Cancelled);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PATIENCE),
            }
        }
    }

    /// The segments to build for, large ones first.
    fn lacking(&self, done: &[u64]) -> Result<(Arc<Schema>, Vec<Arc<Segment>>)> {
        let snapshot = self.store.snapshot();
        let unknown = || stratal_storage::Error::UnknownCollection {
            name: format!("number {}", self.number),
            similar: None,
        };
        let collection = snapshot.collection_number(self.number).ok_or_else(unknown)?;
        let schema = self.engine.schema(&collection)?;
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        for live in collection.parts() {
            if let Part::Segment(segment) = live.part()
                && is_worth_while(segment, &schema.layout)
                && !done.contains(&segment.number())
                && (self.again || self.engine.graphs.of(segment, &schema.layout).is_none())
            {
                segments.push(Arc::clone(segment));
            }
        }
        segments.sort_by_key(|segment| std::cmp::Reverse(segment.rows()));
        Ok((schema, segments))
    }

    /// Builds and writes the graph of one segment; returns the bytes of its file.
    fn segment(&self, segment: &Arc<Segment>, schema: &Schema, progress: IndexProgress) -> Result<u64> {
        let companions = self.store.companions_of(segment)?;
        let planes = planes(segment, &schema.layout)?;
        let report = |done: f32| {
            // A tenth is left for measuring and writing.
            let done = done * 0.9;
            (self.progress)(&IndexProgress { done, ..progress })
        };
        let built = BuiltGraph::build(&planes, &GraphOptions::new().progress(&report)).map_err(stopped)?;
        let small: Vec<Vec<u8>> = GraphSection::ALL
            .into_iter()
            .map(|section| match built.large(section) {
                Some(_) => Vec::new(),
                None => built.section(section),
            })
            .collect();
        let mut sections = GraphSections::default();
        for ((to, small), section) in sections.iter_mut().zip(&small).zip(GraphSection::ALL) {
            *to = built.large(section).unwrap_or(small);
        }
        let graph = Graph::open(&sections)?;
        let curve = Curve::measure(&graph, &sections, &planes, schema)?;
        if !report(1.0) {
            return Err(Error::Cancelled);
        }
        let written = companions.write(companion_of(&schema.layout), VERSION, |writer| {
            for (number, section) in sections.iter().enumerate() {
                writer.add(number as u32 + 1, 0, section)?;
            }
            writer.add(CURVE, 0, &curve.to_bytes())?;
            Ok::<(), Error>(())
        })?;
        (self.progress)(&IndexProgress {
            done: 1.0,
            ..progress
        });
        Ok(written.disk_bytes())
    }
}
