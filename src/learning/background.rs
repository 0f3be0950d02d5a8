//! Learning by itself: a thread of the database's own, started when enough has come in, stopped when the database is
//! closed or its last handle goes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::When;
use super::history::Kept;
use super::run::Outcome;
use crate::{Collection, Database, Result};

/// Which collections learn now, and the thread on which they do so by themselves.
#[derive(Default)]
pub(crate) struct Learner {
    running: Mutex<HashSet<u32>>,
    thread: Mutex<Thread>,
    stop: Arc<AtomicBool>,
    /// Whether any policy may say that it is time; looked at after every commit.
    watching: AtomicBool,
}

#[derive(Default)]
struct Thread {
    handle: Option<JoinHandle<()>>,
    /// It looks for work, or is at it.
    awake: bool,
    /// Something was committed since it last looked.
    noticed: bool,
}

/// A collection's run, alone as long as this is held.
pub(super) struct Alone<'a>(&'a Learner, u32);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.1);
    }
}

impl Learner {
    pub(super) fn begin(&self, collection: u32) -> Option<Alone<'_>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(collection).then_some(Alone(self, collection))
    }

    /// Looks for policies that learn by themselves; called when the database is opened and when a policy changes.
    pub fn watch(&self, database: &Database) {
        let snapshot = database.store.snapshot();
        let watching = snapshot
            .settings("learning/")
            .any(|(key, value)| key.ends_with("/policy") && value.pointer("/when/after").is_some());
        self.watching.store(watching, Ordering::Relaxed);
    }

    /// After a commit: starts the thread if a collection is due and none is at work.
    pub fn notice(&self, database: &Database) {
        if !self.watching.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut thread = self.thread();
        thread.noticed = true;
        if thread.awake || due(database).unwrap_or_default().is_none() {
            return;
        }
        let own = database.detached();
        let spawned = std::thread::Builder::new()
            .name("stratal-learn".to_owned())
            .spawn(move || own.engine.learner.work(&own));
        match spawned {
            Ok(spawned) => {
                thread.handle = Some(spawned);
                thread.awake = true;
            }
            Err(error) => tracing::warn!(%error, "could not start the thread that learns"),
        }
    }

    /// The thread: one due collection after the other, until none is and nothing was committed meanwhile.
    fn work(&self, database: &Database) {
        loop {
            self.thread().noticed = false;
            while let Some(due) = due(database).unwrap_or_default()
                && !self.stop.load(Ordering::Relaxed)
            {
                learn(&due, &self.stop);
            }
            let mut thread = self.thread();
            if !thread.noticed || self.stop.load(Ordering::Relaxed) {
                thread.awake = false;
                return;
            }
        }
    }

    fn thread(&self) -> MutexGuard<'_, Thread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the thread and waits for it; what it was at is gone on with at the next commit after opening.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread().handle.take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// The first collection whose policy says that it is time, by a handle that keeps no database open.
fn due(database: &Database) -> Result<Option<Collection>> {
    for name in database.collections() {
        let collection = database.detached().collection(name).open()?;
        let kept = Kept(&collection);
        // A policy that cannot be read says nothing, and keeps no other collection from learning.
        let Ok(Some(When::After { pairs, documents })) =
            kept.policy().map(|policy| policy.map(|policy| policy.when))
        else {
            continue;
        };
        let (snapshot, mark) = (collection.snapshot()?, kept.mark()?);
        let enough = |now: u64, before: u64, wanted: u64| wanted > 0 && now.saturating_sub(before) >= wanted;
        if kept.is_underway()
            || enough(snapshot.pair_count(), mark.pairs, pairs)
            || enough(snapshot.count(), mark.documents, documents)
        {
            return Ok(Some(collection));
        }
    }
    Ok(None)
}

fn learn(collection: &Collection, stop: &AtomicBool) {
    match collection.learn().cancel(stop).run() {
        Ok(Outcome::Concluded(candidate)) => {
            tracing::info!(collection = collection.name(), verdict = ?candidate.verdict, "learned in the background");
        }
        Ok(Outcome::Stopped(_)) => {}
        Err(error) => {
            tracing::warn!(%error, collection = collection.name(), "learning in the background failed");
            // Not at every commit: only when as much again has come in.
            let failed = Kept(collection).rest();
            if let Err(error) = failed {
                tracing::debug!(%error, "the failure could not be noted");
            }
        }
    }
}
