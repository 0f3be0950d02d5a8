//! Commits: decided one after the other, made durable together.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::batch::{Batch, Committed, Decision, resolve};
use super::record::{self, Change, GenerationSpec};
use super::state::DatabaseState;
use super::{Shared, Store, locked};
use crate::error::{Error, Result};
use crate::wal::{Replayed, WalWriter};

/// The most bytes of one commit, and of the commits that share one sync.
const FRAME_BYTES_MAX: usize = 1 << 30;
/// A buffer of this size is kept from frame to frame: the system would otherwise hand out its pages anew each time.
const SPARE_BYTES_MAX: usize = 32 << 20;
/// The longest name of a collection in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Commits that wait to be durable.
#[derive(Default)]
pub(crate) struct Queue {
    /// One of them is writing for all.
    led: bool,
    /// How many sleep meanwhile: waking nobody would cost a system call all the same.
    waiting: usize,
}

/// Commits that have been decided and are not durable yet.
pub(crate) struct Writer {
    pub state: Arc<DatabaseState>,
    /// Their records, framed: length (u32), bytes.
    pub buffer: Vec<u8>,
    pub count: u32,
    pub first_seq: u64,
}

/// The log's end. The writer of a file comes to be with the first commit, so that opening writes nothing.
pub(crate) struct Log {
    pub writer: Option<WalWriter>,
    /// What opening found, for the first file to go on from.
    pub replayed: Option<Replayed>,
    pub next_file: u64,
    pub previous_file: Option<u64>,
    /// A buffer of the last frame, kept to be filled again.
    pub spare: Vec<u8>,
}

impl Store {
    /// Commits a transaction: atomic, durable when it returns, visible to every snapshot taken afterwards.
    ///
    /// # Errors
    /// Rules that do not hold ([`Error::DocumentExists`], [`Error::VersionConflict`], [`Error::Invalid`],
    /// [`Error::UnknownCollection`]) leave everything as it was. [`Error::NoSpace`] and other failures of the
    /// log make the store read-only ([`Error::Poisoned`] from then on) until it is opened again.
    pub fn commit(&self, batch: Batch) -> Result<Committed> {
        self.shared.wait_for_memory()?;
        let committed = self.commit_holding(batch)?;
        self.shared.after_commit()?;
        Ok(committed)
    }

    /// [`Store::commit`] for a caller who keeps maintenance out, on which it therefore does not wait.
    pub(super) fn commit_holding(&self, batch: Batch) -> Result<Committed> {
        let committed = self.shared.decide(|state, seq| resolve(batch, state, seq))?;
        self.shared.wait_durable(committed.seq)?;
        Ok(committed)
    }

    /// Creates a collection.
    ///
    /// # Errors
    /// [`Error::CollectionExists`], [`Error::Invalid`] for a name or layout out of bounds, and those of
    /// [`Store::commit`].
    pub fn create_collection(
        &self,
        name: &str,
        attributes: Value,
        generations: Vec<GenerationSpec>,
    ) -> Result<u32> {
        check_name(name)?;
        for generation in &generations {
            generation.layout.check()?;
        }
        let mut created = 0;
        let committed = self.shared.decide(|state, seq| {
            if state.collection(name).is_ok() {
                return Err(Error::CollectionExists {
                    name: name.to_owned(),
                });
            }
            created = state.next_collection;
            let change = Change::CreateCollection {
                number: created,
                name: name.to_owned(),
                attributes,
                generations,
            };
            Ok(Decision {
                changes: vec![change],
                replaced: Vec::new(),
                committed: Committed {
                    seq,
                    ..Committed::default()
                },
            })
        })?;
        self.shared.wait_durable(committed.seq)?;
        Ok(created)
    }
}

fn check_name(name: &str) -> Result<()> {
    let allowed = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    if allowed {
        return Ok(());
    }
    Err(Error::Invalid {
        what: format!(
            "a collection's name has 1 to {NAME_BYTES_MAX} bytes and no control characters, unlike {name:?}"
        ),
    })
}

impl Shared {
    /// Decides changes against the newest state and queues them for the log.
    fn decide(&self, changes: impl FnOnce(&DatabaseState, u64) -> Result<Decision>) -> Result<Committed> {
        let mut writer = locked(&self.writer);
        self.check_writable()?;
        let seq = writer.state.seq + 1;
        let Decision {
            changes,
            replaced,
            mut committed,
        } = changes(&writer.state, seq)?;
        if changes.is_empty() {
            committed.seq = writer.state.seq;
            return Ok(committed);
        }
        let start = writer.buffer.len();
        writer.buffer.extend_from_slice(&[0; 4]);
        record::encode(&changes, &mut writer.buffer);
        let length = writer.buffer.len() - start - 4;
        let next = if length > FRAME_BYTES_MAX {
            Err(Error::Invalid {
                what: format!(
                    "a transaction of {length} bytes is too large (at most {FRAME_BYTES_MAX}): split it"
                ),
            })
        } else {
            writer.state.apply_replacing(changes, Some(&replaced), seq)
        };
        let next = match next {
            Ok(next) => next,
            Err(error) => {
                writer.buffer.truncate(start);
                return Err(error);
            }
        };
        writer.buffer[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
        if writer.count == 0 {
            writer.first_seq = seq;
        }
        writer.count += 1;
        writer.state = Arc::new(next);
        Ok(committed)
    }

    /// Returns when the commit is durable: the first to come writes for all that are queued.
    ///
    /// The others sleep on a condition, not on the log's lock: that lock would go to one of them at a time,
    /// mostly to the leader's next commit, and every commit would pay for a sync of its own.
    fn wait_durable(&self, seq: u64) -> Result<()> {
        let mut queue = locked(&self.queue.0);
        while self.durable_seq.load(Ordering::Acquire) < seq {
            if let Some(reason) = self.poisoned.get() {
                return Err(Error::Poisoned {
                    reason: reason.clone(),
                });
            }
            if queue.led {
                queue.waiting += 1;
                queue = self.queue.1.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.waiting -= 1;
                continue;
            }
            queue.led = true;
            drop(queue);
            let written = self.write_queued(&mut locked(&self.log));
            queue = locked(&self.queue.0);
            queue.led = false;
            if queue.waiting > 0 {
                self.queue.1.notify_all();
            }
            written?;
        }
        Ok(())
    }

    /// Writes and syncs one frame of everything queued, then shows it to readers.
    pub(super) fn write_queued(&self, log: &mut Log) -> Result<()> {
        let (records, count, first_seq, state) = {
            let mut writer = locked(&self.writer);
            if writer.count == 0 {
                return Ok(());
            }
            let spare = std::mem::take(&mut log.spare);
            let records = std::mem::replace(&mut writer.buffer, spare);
            let count = std::mem::take(&mut writer.count);
            (records, count, writer.first_seq, Arc::clone(&writer.state))
        };
        let written = self.append(log, first_seq, &records, count);
        log.spare = records;
        log.spare.clear();
        log.spare.shrink_to(SPARE_BYTES_MAX);
        if let Err(error) = written {
            self.poison(&error);
            return Err(error);
        }
        self.memory_bytes.store(state.memory_bytes(), Ordering::Release);
        self.durable_seq.store(state.seq, Ordering::Release);
        self.commits.fetch_add(u64::from(count), Ordering::Relaxed);
        self.current.store(state);
        Ok(())
    }

    fn append(&self, log: &mut Log, first_seq: u64, records: &[u8], count: u32) -> Result<()> {
        if log.writer.is_none() {
            self.start_log_file(log, first_seq - 1)?;
        }
        let writer = log.writer.as_mut().ok_or(Error::Closed)?;
        let before = (writer.bytes(), writer.syncs());
        writer.write_frame(first_seq, records, count)?;
        self.log_bytes
            .fetch_add(writer.bytes().saturating_sub(before.0), Ordering::AcqRel);
        self.syncs.fetch_add(writer.syncs() - before.1, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn start_log_file(&self, log: &mut Log, last_seq: u64) -> Result<()> {
        let vfs = Arc::clone(&self.options.vfs);
        let folder = self.folder.wal();
        let writer = match log.replayed.take() {
            Some(replayed) => WalWriter::continue_after(vfs, &folder, &replayed)?,
            None => WalWriter::create(vfs, &folder, log.next_file, last_seq, log.previous_file)?,
        };
        self.syncs.fetch_add(writer.syncs(), Ordering::Relaxed);
        log.previous_file = Some(log.next_file);
        log.next_file += 1;
        log.writer = Some(writer);
        Ok(())
    }

    /// Past the memory budget writers wait for a flush, so that the process stays within it.
    fn wait_for_memory(&self) -> Result<()> {
        let failures = self.flush_failures.load(Ordering::Acquire);
        loop {
            self.check_writable()?;
            if !self.options.background
                || self.memory_bytes.load(Ordering::Acquire) < self.options.memory_budget
            {
                return Ok(());
            }
            if self.flush_failures.load(Ordering::Acquire) != failures {
                // Waiting on would be for ever if the disk stays as it is: tried here, the caller hears why.
                self.checkpoint()?;
                continue;
            }
            let _ = self.wake.try_send(());
            let guard = locked(&self.flushed.0);
            // The time limit covers a wake-up that came between the look at the figures and the wait.
            let _ = self.flushed.1.wait_timeout(guard, Duration::from_millis(100));
        }
    }

    fn after_commit(&self) -> Result<()> {
        let full = self.memory_bytes.load(Ordering::Acquire) > self.options.memory_budget / 2
            || self.log_bytes.load(Ordering::Acquire) > self.options.log_budget;
        if full {
            if self.options.background {
                let _ = self.wake.try_send(());
            } else if let Err(error) = self.checkpoint() {
                // The commit is durable: a flush that fails now is tried again and must not look like its failure.
                tracing::warn!(%error, "a flush failed and will be tried again");
            }
        }
        Ok(())
    }
}
