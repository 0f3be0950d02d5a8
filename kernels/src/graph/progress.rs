//! Telling how far a build has come, and stopping it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::Error;

/// Documents between two reports.
const STRIDE: usize = 256;

/// Counts steps and asks now and then whether to go on.
pub(super) struct Progress<'a> {
    done: AtomicUsize,
    total: usize,
    stopped: AtomicBool,
    report: Option<&'a (dyn Fn(f32) -> bool + Sync)>,
}

impl<'a> Progress<'a> {
    pub fn new(total: usize, report: Option<&'a (dyn Fn(f32) -> bool + Sync)>) -> Self {
        Progress {
            done: AtomicUsize::new(0),
            total,
            stopped: AtomicBool::new(false),
            report,
        }
    }

    /// Counts steps, and asks now and then.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn step(&self, steps: usize) -> Result<(), Error> {
        let before = self.done.fetch_add(steps, Relaxed);
        if before / STRIDE != (before + steps) / STRIDE {
            return self.check();
        }
        self.stopped()
    }

    /// Asks at once: for the borders of longer pieces of work.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<(), Error> {
        let done = (self.done.load(Relaxed) as f32 / self.total.max(1) as f32).min(1.0);
        if self.report.is_some_and(|report| !report(done)) {
            self.stopped.store(true, Relaxed);
        }
        self.stopped()
    }

    fn stopped(&self) -> Result<(), Error> {
        match self.stopped.load(Relaxed) {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}
