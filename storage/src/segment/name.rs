//! The names of the files in `segments/`.

use std::fmt;

use super::CompanionKind;

/// What a file in `segments/` is, by its name. Numbers are in lower-case hexadecimal with 16 digits,
/// generations in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentFile {
    /// `0000000000000007.doc`: ids and payloads.
    Documents {
        /// The segment.
        number: u64,
    },
    /// `0000000000000007-g2.vec`: one generation's vectors.
    Vectors {
        /// The segment.
        number: u64,
        /// The generation.
        generation: u32,
    },
    /// `0000000000000007-00000000000001a4.del`: the deletions in a segment as of a commit.
    Deletions {
        /// The segment.
        number: u64,
        /// The last commit whose deletions it holds.
        sequence: u64,
    },
    /// `0000000000000007-g2-00000400.spool`: vectors of a generation that is being filled, from a row on.
    Spool {
        /// The segment.
        number: u64,
        /// The generation.
        generation: u32,
        /// The first row.
        first: u32,
    },
    /// `0000000000000007-g2.codes`, `0000000000000007-g2.graph`, `0000000000000007.filter`: what follows from
    /// the files above.
    Companion {
        /// The segment.
        number: u64,
        /// What it holds.
        kind: CompanionKind,
    },
}

/// The ending of files that are being written: one found at opening is left from a crash.
pub const UNFINISHED: &str = ".tmp";

fn hexadecimal(text: &str) -> Option<u64> {
    let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == 16 && text.as_bytes().iter().all(lower))
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

impl SegmentFile {
    /// Reads a name; `None` if it is none of ours. Only what [`fmt::Display`] writes is recognised.
    pub fn parse(name: &str) -> Option<SegmentFile> {
        let (stem, ending) = name.split_once('.')?;
        match (stem.split_once('-'), ending) {
            (None, "doc") => Some(SegmentFile::Documents {
                number: hexadecimal(stem)?,
            }),
            (None, "filter") => Some(SegmentFile::Companion {
                number: hexadecimal(stem)?,
                kind: CompanionKind::Filter,
            }),
            (Some((number, generation)), "vec" | "codes" | "graph") => {
                let number = hexadecimal(number)?;
                let generation = generation.strip_prefix('g')?.parse().ok()?;
                let file = match ending {
                    "vec" => SegmentFile::Vectors { number, generation },
                    "codes" => SegmentFile::Companion {
                        number,
                        kind: CompanionKind::Codes { generation },
                    },
                    _ => SegmentFile::Companion {
                        number,
                        kind: CompanionKind::Graph { generation },
                    },
                };
                (file.to_string() == name).then_some(file)
            }
            (Some((number, rest)), "spool") => {
                let (generation, first) = rest.strip_prefix('g')?.split_once('-')?;
                let file = SegmentFile::Spool {
                    number: hexadecimal(number)?,
                    generation: generation.parse().ok()?,
                    first: u32::from_str_radix(first, 16).ok()?,
                };
                (file.to_string() == name).then_some(file)
            }
            (Some((number, sequence)), "del") => Some(SegmentFile::Deletions {
                number: hexadecimal(number)?,
                sequence: hexadecimal(sequence)?,
            }),
            _ => None,
        }
    }

    /// The segment that the file belongs to.
    pub fn number(&self) -> u64 {
        match *self {
            SegmentFile::Documents { number }
            | SegmentFile::Vectors { number, .. }
            | SegmentFile::Deletions { number, .. }
            | SegmentFile::Spool { number, .. }
            | SegmentFile::Companion { number, .. } => number,
        }
    }
}

impl fmt::Display for SegmentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentFile::Documents { number } => write!(f, "{number:016x}.doc"),
            SegmentFile::Vectors { number, generation } => write!(f, "{number:016x}-g{generation}.vec"),
            SegmentFile::Deletions { number, sequence } => write!(f, "{number:016x}-{sequence:016x}.del"),
            SegmentFile::Spool {
                number,
                generation,
                first,
            } => write!(f, "{number:016x}-g{generation}-{first:08x}.spool"),
            SegmentFile::Companion { number, kind } => match kind {
                CompanionKind::Codes { generation } => write!(f, "{number:016x}-g{generation}.codes"),
                CompanionKind::Graph { generation } => write!(f, "{number:016x}-g{generation}.graph"),
                CompanionKind::Filter => write!(f, "{number:016x}.filter"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_nothing_else_is() {
        for file in [
            SegmentFile::Documents { number: 0x1f },
            SegmentFile::Vectors {
                number: u64::MAX,
                generation: 12,
            },
            SegmentFile::Deletions {
                number: 3,
                sequence: 420,
            },
            SegmentFile::Companion {
                number: 4,
                kind: CompanionKind::Codes { generation: 1 },
            },
            SegmentFile::Companion {
                number: 4,
                kind: CompanionKind::Graph { generation: 31 },
            },
            SegmentFile::Companion {
                number: 5,
                kind: CompanionKind::Filter,
            },
            SegmentFile::Spool {
                number: 6,
                generation: 3,
                first: 0x400,
            },
        ] {
            assert_eq!(SegmentFile::parse(&file.to_string()), Some(file));
        }
        for name in [
            "",
            ".",
            "9.doc",
            "000000000000001F.doc",
            "000000000000001f.doc.tmp",
            "000000000000001f-g01.vec",
            "000000000000001f-g+1.vec",
            "000000000000001f-1.vec",
            "000000000000001f-g1.del",
            "000000000000001f.graph",
            "000000000000001f-g1.filter",
            "notes.txt",
        ] {
            assert_eq!(SegmentFile::parse(name), None, "{name}");
        }
    }
}
