//! The thread that builds what approximate searches missed.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use stratal_storage::Store;

use super::build::Build;
use crate::database::Engine;
use crate::{Error, Result};

/// A thread of a database that is open for writing; joined when the last handle goes.
pub(crate) struct Keeper {
    engine: Arc<Engine>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Starts the thread. It waits until a search misses an index.
    pub fn start(store: &Store, engine: &Arc<Engine>) -> Result<Keeper> {
        let (thread_store, thread_engine) = (store.clone(), Arc::clone(engine));
        let thread = std::thread::Builder::new()
            .name("stratal-index".to_owned())
            .spawn(move || serve(&thread_store, &thread_engine))
            .map_err(|source| Error::Io {
                action: "start a thread for the database in",
                path: store.path().display().to_string(),
                source,
            })?;
        Ok(Keeper {
            engine: Arc::clone(engine),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread, and what it is at.
    pub fn stop(&self) {
        self.engine.graphs.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that builds indexes came to an untimely end");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(store: &Store, engine: &Arc<Engine>) {
    while let Some(number) = engine.graphs.next() {
        let go_on = |_: &super::IndexProgress| !engine.graphs.is_stopped();
        let build = Build {
            store,
            engine,
            number,
            progress: &go_on,
            again: false,
        };
        match build.run() {
            Ok(report) if report.segments > 0 => {
                tracing::info!(
                    number,
                    report.segments,
                    report.documents,
                    report.seconds,
                    "built indexes"
                );
            }
            Ok(_) | Err(Error::Cancelled) => {}
            Err(error) => {
                tracing::warn!(%error, number, "an index could not be built: its segment is scanned instead");
            }
        }
    }
}
