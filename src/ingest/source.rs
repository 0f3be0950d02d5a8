//! Files as sources of documents: what kind each is, its text, and the hash of its content.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{Skip, SkipReason};

/// The largest file that is read as one text, in bytes. JSON lines have no such limit: they are read line by line.
pub const TEXT_FILE_BYTES_MAX: u64 = 64 << 20;

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// Plain text, cut at paragraphs: `.txt`, `.text`, `.rst`.
    Text,
    /// Markdown, cut at headings: `.md`, `.markdown`.
    Markdown,
    /// One document a line: `.jsonl`, `.ndjson`, also with `.gz` or `.zst` behind.
    JsonLines,
}

impl SourceKind {
    /// The kind that a file's name tells, by its ending in any case; `None` for all other files.
    pub fn of(path: &Path) -> Option<SourceKind> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst"));
        let ending = |name: &str| {
            name.rsplit_once('.')
                .map(|(_, ending)| ending.to_owned())
                .unwrap_or_default()
        };
        match (ending(plain.unwrap_or(&name)).as_str(), plain.is_some()) {
            ("jsonl" | "ndjson", _) => Some(SourceKind::JsonLines),
            ("md" | "markdown", false) => Some(SourceKind::Markdown),
            ("txt" | "text" | "rst", false) => Some(SourceKind::Text),
            _ => None,
        }
    }
}

/// A text file, whole, and the hash of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// Its text, without a byte-order mark.
    pub text: String,
    /// [`content_hash`] of its bytes.
    pub hash: String,
}

impl TextFile {
    /// Reads a file as UTF-8 text, or says why it is none.
    pub fn read(path: &Path) -> Result<TextFile, Skip> {
        let skip = |reason| Skip {
            path: path.to_owned(),
            reason,
        };
        let refused = |error: std::io::Error| {
            skip(SkipReason::Unreadable {
                why: error.to_string(),
            })
        };
        let file = File::open(path).map_err(refused)?;
        let bytes = file.metadata().map_err(refused)?.len();
        let too_large = |bytes| {
            skip(SkipReason::TooLarge {
                bytes,
                limit: TEXT_FILE_BYTES_MAX,
            })
        };
        if bytes > TEXT_FILE_BYTES_MAX {
            return Err(too_large(bytes));
        }
        let mut content = Vec::with_capacity(bytes as usize);
        // The file may grow while it is read, and some files do not tell their size.
        file.take(TEXT_FILE_BYTES_MAX + 1)
            .read_to_end(&mut content)
            .map_err(refused)?;
        if content.len() as u64 > TEXT_FILE_BYTES_MAX {
            return Err(too_large(content.len() as u64));
        }
        TextFile::from_bytes(content).map_err(skip)
    }

    /// Takes bytes as UTF-8 text, or says why they are none.
    pub fn from_bytes(content: Vec<u8>) -> Result<TextFile, SkipReason> {
        let hash = content_hash(&content);
        // A zero byte is in every image, archive and program, and in UTF-16, and in no text.
        if content.contains(&0) {
            return Err(SkipReason::Binary);
        }
        let mut text = String::from_utf8(content).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            if is_known_binary(error.as_bytes()) {
                SkipReason::Binary
            } else {
                SkipReason::NotUtf8 { offset }
            }
        })?;
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        Ok(TextFile { text, hash })
    }
}

fn is_known_binary(content: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 7] = [
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"\x1f\x8b",
        b"PK\x03\x04",
        b"\x7fELF",
        b"%PDF-",
        b"\x28\xb5\x2f\xfd",
    ];
    BEGINNINGS.iter().any(|beginning| content.starts_with(beginning))
}

/// The hash that tells whether a source has changed: the first 128 bits of BLAKE3, as 32 hexadecimal digits.
pub fn content_hash(content: &[u8]) -> String {
    blake3::hash(content).to_hex()[..32].to_owned()
}

/// The id of a passage: the file's path below the folder that was given, `#`, and the passage's number from 0.
///
/// The same file under the same folder gives the same ids in every run; a passage's number moves when passages
/// before it come or go.
pub fn passage_id(file: &str, part: usize) -> String {
    format!("{file}#{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_name_tells_the_kind_in_any_case() {
        let kind = |name: &str| SourceKind::of(Path::new(name));
        assert_eq!(kind("a/README.md"), Some(SourceKind::Markdown));
        assert_eq!(kind("a/NOTES.MARKDOWN"), Some(SourceKind::Markdown));
        assert_eq!(kind("x.txt"), Some(SourceKind::Text));
        assert_eq!(kind("x.rst"), Some(SourceKind::Text));
        assert_eq!(kind("x.jsonl"), Some(SourceKind::JsonLines));
        assert_eq!(kind("x.y.NDJSON.gz"), Some(SourceKind::JsonLines));
        assert_eq!(kind("x.jsonl.zst"), Some(SourceKind::JsonLines));
        assert_eq!(kind("x.md.gz"), None);
        assert_eq!(kind("md"), None);
        assert_eq!(kind("x.rs"), None);
        assert_eq!(kind("/"), None);
    }

    #[test]
    fn text_is_told_from_what_only_looks_like_it() {
        let read = |bytes: &[u8]| TextFile::from_bytes(bytes.to_vec()).map(|file| file.text);
        assert_eq!(read(b"\xef\xbb\xbfhello"), Ok("hello".to_owned()));
        assert_eq!(read(b""), Ok(String::new()));
        assert_eq!(read(b"caf\xe9 au lait"), Err(SkipReason::NotUtf8 { offset: 3 }));
        assert_eq!(read(b"\x89PNG\r\n\x1a\n\xff\xfe"), Err(SkipReason::Binary));
        assert_eq!(read(b"h\0e\0l\0"), Err(SkipReason::Binary));
    }

    #[test]
    fn the_hash_covers_every_byte_and_stays_the_same() {
        assert_eq!(content_hash(b"abc"), "6437b3ac38465133ffb63b75273a8db5");
        assert_ne!(content_hash(b"abc"), content_hash(b"abc\n"));
    }
}
