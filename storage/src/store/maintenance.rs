//! The one thread of a store: it flushes when memory or the log is full, and compacts when it pays.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, ThreadId};

use crossbeam_channel::{Receiver, Sender};

use super::{Shared, locked};

/// Joins the thread when it is dropped.
pub(crate) struct Maintenance {
    thread: Mutex<Option<(JoinHandle<()>, ThreadId)>>,
    stop: Sender<()>,
}

impl Maintenance {
    /// A store without a thread.
    pub fn none() -> Maintenance {
        Maintenance {
            thread: Mutex::new(None),
            stop: crossbeam_channel::bounded(1).0,
        }
    }

    pub fn start(shared: Arc<Shared>, wake: Receiver<()>) -> std::io::Result<Maintenance> {
        let (stop, stopped) = crossbeam_channel::bounded::<()>(1);
        let thread = std::thread::Builder::new()
            .name("stratal-maintenance".to_owned())
            .spawn(move || run(&shared, &wake, &stopped))?;
        let id = thread.thread().id();
        Ok(Maintenance {
            thread: Mutex::new(Some((thread, id))),
            stop,
        })
    }

    pub fn stop(&self) {
        let _ = self.stop.try_send(());
        if let Some((thread, id)) = locked(&self.thread).take()
            && id != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, wake: &Receiver<()>, stopped: &Receiver<()>) {
    loop {
        crossbeam_channel::select! {
            recv(stopped) -> _ => return,
            recv(wake) -> woken => if woken.is_err() { return },
        }
        loop {
            match shared.checkpoint().and_then(|()| shared.compact_where_it_pays()) {
                Ok(true) if stopped.try_recv().is_ok() => return,
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "a flush or compaction failed and will be tried again");
                    shared.flush_failures.fetch_add(1, Ordering::AcqRel);
                    shared.flushed.1.notify_all();
                    // A full disk stays full for a while: do not spin on it.
                    match stopped.recv_timeout(std::time::Duration::from_millis(200)) {
                        Ok(()) => return,
                        Err(_) => break,
                    }
                }
            }
        }
    }
}
