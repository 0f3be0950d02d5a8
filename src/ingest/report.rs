//! What an ingestion tells while it runs and when it ends.

use std::time::Duration;

use super::error::Skip;

/// Messages and skips kept in a report; past it they are only counted.
const KEPT_MAX: usize = 10_000;

/// How far an ingestion is. All figures only rise while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestProgress {
    /// Bytes of the sources; 0 if they cannot be known, as of standard input.
    pub bytes_total: u64,
    /// Bytes of the sources whose documents are committed, or were found unchanged.
    pub bytes_done: u64,
    /// Documents encoded.
    pub encoded: u64,
    /// Documents read.
    pub documents: u64,
}

/// What an ingestion did.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct IngestReport {
    /// Files read, standard input among them.
    pub files: u64,
    /// Documents in them: passages of text, and lines.
    pub documents: u64,
    /// Documents whose text was encoded.
    pub encoded: u64,
    /// Documents committed with vectors that they brought.
    pub brought_vectors: u64,
    /// Documents committed: encoded, moved, or with vectors of their own. The others that were read are unchanged
    /// or refused, or the run ended before their turn.
    pub stored: u64,
    /// Documents that were there already, the same in all.
    pub unchanged: u64,
    /// Documents that were written again, with the vectors they had: their text stood elsewhere before.
    pub moved: u64,
    /// Documents removed, since their source no longer has them.
    pub removed: u64,
    /// Documents of files that are gone, left where they are (see [`super::Ingestion::sync`]).
    pub left_of_gone_files: u64,
    /// Files that are gone and whose documents were left.
    pub gone_files: u64,
    /// Texts longer than the encoder reads, so that their end was not encoded.
    pub truncated: u64,
    /// Lines and passages that were refused, in all.
    pub refused: u64,
    /// Why, for the first of them.
    pub problems: Vec<String>,
    /// Files and folders that were passed over, in all.
    pub skipped: u64,
    /// Those of them with which something is wrong.
    pub skipped_in_trouble: u64,
    /// Which, and why, for the first of them.
    pub skips: Vec<Skip>,
    /// Whether it ended at [`super::Ingestion::limit`], with sources unread.
    pub limited: bool,
    /// Whether it was stopped; what was committed stays, and the next run goes on from there.
    pub stopped: bool,
    /// Pairs read and stored.
    pub pairs: u64,
    /// Wall-clock time.
    pub elapsed: Duration,
    pub(super) commits: u64,
}

impl IngestReport {
    /// Whether everything there is to read was read and taken.
    pub fn is_complete(&self) -> bool {
        self.refused == 0 && self.skipped_in_trouble == 0 && !self.stopped
    }

    pub(super) fn skip(&mut self, skip: Skip) {
        self.skipped += 1;
        self.skipped_in_trouble += u64::from(skip.reason.is_trouble());
        if self.skips.len() < KEPT_MAX {
            self.skips.push(skip);
        }
    }

    pub(super) fn refuse(&mut self, problem: String) {
        self.refused += 1;
        if self.problems.len() < KEPT_MAX {
            self.problems.push(problem);
        }
    }

    /// Adds what another stage of the pipeline counted.
    pub(super) fn add(&mut self, other: IngestReport) {
        self.files += other.files;
        self.documents += other.documents;
        self.encoded += other.encoded;
        self.brought_vectors += other.brought_vectors;
        self.stored += other.stored;
        self.unchanged += other.unchanged;
        self.moved += other.moved;
        self.removed += other.removed;
        self.left_of_gone_files += other.left_of_gone_files;
        self.gone_files += other.gone_files;
        self.truncated += other.truncated;
        self.refused += other.refused;
        self.problems.extend(other.problems);
        self.problems.truncate(KEPT_MAX);
        self.skipped += other.skipped;
        self.skipped_in_trouble += other.skipped_in_trouble;
        self.skips.extend(other.skips);
        self.skips.truncate(KEPT_MAX);
        self.commits += other.commits;
        self.pairs += other.pairs;
        self.limited |= other.limited;
        self.stopped |= other.stopped;
    }
}
