//! JSON lines: one document a line, plain or compressed.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use super::error::{IngestError, LineProblem};
use super::lines::{Compression, LINE_BYTES_MAX, Line, Lines};
use super::record::{FieldNames, Record};

/// Documents of a JSON-lines file, in order.
///
/// Lines are counted as an editor counts them; blank ones are counted and passed over; a byte-order mark at the
/// beginning, `\r\n` and a last line without an end are all well. `.gz` (all members) and `.zst` (all frames) are
/// unpacked on the way. A bad line comes out as [`IngestError::Line`] and the reader goes on behind it; any other
/// error is the last item. Memory: one line, and 24 bytes for each id seen (ids are unique in a file).
pub struct JsonLines {
    lines: Lines,
    fields: FieldNames,
    /// Lines by the ids they have; `None` where an id may come again.
    seen: Option<HashMap<u128, u64>>,
    ended: bool,
}

impl JsonLines {
    /// Opens a file; the ending of its name tells how it is compressed, and errors carry `name`.
    ///
    /// # Errors
    /// [`IngestError::Io`] if it cannot be opened.
    pub fn open(path: &Path, name: &str, fields: FieldNames) -> Result<JsonLines, IngestError> {
        let file = File::open(path).map_err(|error| IngestError::io("open", path, error))?;
        Ok(JsonLines::from_reader(name, file, Compression::of(path), fields))
    }

    /// Reads any stream, such as standard input; errors carry `name`.
    pub fn from_reader(
        name: &str,
        reader: impl Read + Send + 'static,
        compression: Compression,
        fields: FieldNames,
    ) -> JsonLines {
        JsonLines::with_line_limit(name, reader, compression, fields, LINE_BYTES_MAX)
    }

    /// As [`JsonLines::from_reader`], with lines of at most `limit` bytes.
    pub fn with_line_limit(
        name: &str,
        reader: impl Read + Send + 'static,
        compression: Compression,
        fields: FieldNames,
        limit: usize,
    ) -> JsonLines {
        let lines = Lines::new(name.to_owned(), Box::new(reader), compression, limit);
        JsonLines {
            lines,
            fields,
            seen: Some(HashMap::new()),
            ended: false,
        }
    }

    /// Lets an id come again: of lines that are no documents.
    #[cfg(feature = "encoder")]
    pub(super) fn with_repeated_ids(mut self) -> JsonLines {
        self.seen = None;
        self
    }

    /// The number of the line read last, from 1; 0 before the first.
    pub fn line(&self) -> u64 {
        self.lines.number
    }

    fn parse(&mut self) -> Result<Record, LineProblem> {
        let text = std::str::from_utf8(&self.lines.buffer).map_err(|error| LineProblem::NotUtf8 {
            offset: error.valid_up_to(),
        })?;
        let record = Record::parse(text, self.lines.number, &self.fields)?;
        let Some(seen) = &mut self.seen else {
            return Ok(record);
        };
        match seen.entry(xxh3_128(&record.id.to_bytes())) {
            std::collections::hash_map::Entry::Occupied(first) => Err(LineProblem::DuplicateId {
                id: record.id,
                first: *first.get(),
            }),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(self.lines.number);
                Ok(record)
            }
        }
    }
}

impl Iterator for JsonLines {
    type Item = Result<Record, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        loop {
            let read = match self.lines.read() {
                Ok(Line::End) => {
                    self.ended = true;
                    return None;
                }
                Ok(Line::TooLong) => Err(LineProblem::TooLong {
                    limit: self.lines.limit,
                }),
                Ok(Line::Whole) if self.lines.buffer.iter().all(u8::is_ascii_whitespace) => continue,
                Ok(Line::Whole) => self.parse(),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            };
            return Some(read.map_err(|problem| IngestError::Line {
                file: self.lines.file().to_owned(),
                line: self.lines.number,
                problem,
            }));
        }
    }
}
