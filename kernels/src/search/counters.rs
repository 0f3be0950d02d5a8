//! How much work a search was.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a search did, summed over its threads, and over searches if one is used for several; for
/// explaining and measuring. A *pair* is a query and a stored vector.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) swept: AtomicU64,
    pub(super) ahead: AtomicU64,
    pub(super) left: AtomicU64,
    pub(super) multiplied: AtomicU64,
    pub(super) scored: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Counters {
    /// Pairs that were looked at through the high halves of scan codes, or on a walk through the heads of a graph's.
    pub fn swept(&self) -> u64 {
        self.swept.load(Relaxed)
    }

    /// Those of them that these could not exclude, so that more of the codes was read.
    pub fn left(&self) -> u64 {
        self.left.load(Relaxed)
    }

    /// Pairs that were looked at through the high halves once more, before the others, for a floor to begin with.
    pub fn looked_ahead(&self) -> u64 {
        self.ahead.load(Relaxed)
    }

    /// Pairs that were multiplied in f32.
    pub fn multiplied(&self) -> u64 {
        self.multiplied.load(Relaxed)
    }

    /// Queries and rows whose score was computed in f64, over all planes.
    pub fn scored(&self) -> u64 {
        self.scored.load(Relaxed)
    }

    /// Bytes of codes and vectors that were read, each once for all queries that shared the reading.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn add(&self, tally: Tally) {
        self.swept.fetch_add(tally.swept, Relaxed);
        self.ahead.fetch_add(tally.ahead, Relaxed);
        self.left.fetch_add(tally.left, Relaxed);
        self.multiplied.fetch_add(tally.multiplied, Relaxed);
        self.scored.fetch_add(tally.scored, Relaxed);
        self.bytes.fetch_add(tally.bytes, Relaxed);
    }
}

/// The share of one thread.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub swept: u64,
    pub ahead: u64,
    pub left: u64,
    pub multiplied: u64,
    pub scored: u64,
    pub bytes: u64,
}
