//! What a search did: for people who wonder at its speed, and for tests.

use std::fmt;
use std::time::Duration;

/// How the vectors of a part were searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchPath {
    /// Through scan codes; full vectors were read only where these could not exclude a document.
    ScanCodes,
    /// Every full vector was read: the part is in memory, or small, or has no codes that can be used.
    FullVectors,
    /// By the graph beside the segment, for all queries of an approximate search. What a walk reads is not counted.
    Graph,
    /// On a GPU, by full vectors; work there is not counted.
    Device,
}

impl fmt::Display for SearchPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SearchPath::ScanCodes => "scan codes",
            SearchPath::FullVectors => "full vectors",
            SearchPath::Graph => "graph",
            SearchPath::Device => "GPU",
        })
    }
}

/// One part of the collection: a segment, or rows that are still in memory. A *pair* is a query and one of a
/// document's layer vectors.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartExplanation {
    /// The segment's number; `None` for rows in memory.
    pub segment: Option<u64>,
    /// Documents that were alive in it.
    pub documents: u64,
    /// How it was searched.
    pub path: SearchPath,
    /// Pairs looked at through the high halves of scan codes; blocks of documents whose norms are too small for
    /// any query are not among them. Where a graph was walked, pairs of a query and a vector compared by the graph's codes.
    pub scanned: u64,
    /// Pairs that these left, of whose codes more was read.
    pub left_by_high: u64,
    /// Pairs multiplied in f32.
    pub multiplied: u64,
    /// Pairs of a query and a document that no bound excluded, so that the score was computed in f64.
    pub scored: u64,
    /// Bytes of codes and vectors read, each once for all queries that shared the reading.
    pub bytes_read: u64,
    /// The time it took.
    pub time: Duration,
}

/// What a search did, stage by stage.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// Queries asked.
    pub queries: usize,
    /// Layers compared with.
    pub layers: usize,
    /// The processor instructions that were used.
    pub instructions: String,
    /// Worker threads at hand.
    pub threads: usize,
    /// The parts in the order in which they were searched: the largest first.
    pub parts: Vec<PartExplanation>,
    /// Time for the questions to become vectors; zero where vectors were given.
    pub encoding: Duration,
    /// Time for comparing with all parts.
    pub comparing: Duration,
    /// Time for reading what the hits bring along.
    pub reading: Duration,
}

impl Explanation {
    /// Bytes of codes and vectors read over all parts.
    pub fn bytes_read(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes_read).sum()
    }

    /// Pairs of a query and a document whose score was computed in f64, over all parts.
    pub fn scored(&self) -> u64 {
        self.parts.iter().map(|part| part.scored).sum()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "search: queries {}, layers {}, parts {}, {}, threads {}",
            self.queries,
            self.layers,
            self.parts.len(),
            self.instructions,
            self.threads
        )?;
        for part in &self.parts {
            match part.segment {
                Some(number) => write!(f, "  segment {number}")?,
                None => write!(f, "  memory")?,
            }
            write!(f, ", {} documents, {}: ", part.documents, part.path)?;
            if part.path == SearchPath::ScanCodes {
                write!(
                    f,
                    "{} scanned, {} left by the high halves, ",
                    part.scanned, part.left_by_high
                )?;
            }
            if part.path == SearchPath::Graph {
                write!(
                    f,
                    "{} compared by codes, {} by whole ones, ",
                    part.scanned, part.left_by_high
                )?;
            }
            if part.multiplied > 0 {
                write!(f, "{} multiplied in f32, ", part.multiplied)?;
            }
            writeln!(
                f,
                "{} scored in f64; {} read, {:.3?}",
                part.scored,
                Bytes(part.bytes_read),
                part.time
            )?;
        }
        write!(
            f,
            "  encoding {:.3?}, comparing {:.3?}, reading documents {:.3?}",
            self.encoding, self.comparing, self.reading
        )
    }
}

/// Bytes for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut size, mut unit) = (self.0 as f64, "B");
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            if size < 1024.0 {
                break;
            }
            size /= 1024.0;
            unit = larger;
        }
        if unit == "B" {
            write!(f, "{} B", self.0)
        } else {
            write!(f, "{size:.1} {unit}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "16777216.0 TiB");
    }
}
