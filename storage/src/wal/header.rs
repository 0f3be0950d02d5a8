//! The first page of a log file.

use std::path::Path;

use crate::error::{Error, Result};

/// Bytes before a file's first frame: a page of its own, so that losing it loses no frame.
pub const FILE_HEADER_BYTES: u64 = 4096;
/// Major and minor format version of log files.
pub const VERSION: (u16, u16) = (1, 0);

const MAGIC: [u8; 8] = *b"STRATWAL";
const MAJOR_AT: usize = MAGIC.len();
const MINOR_AT: usize = MAJOR_AT + 2;
const NUMBER_AT: usize = MINOR_AT + 2 + 4;
const LAST_SEQ_AT: usize = NUMBER_AT + 8;
const PREVIOUS_AT: usize = LAST_SEQ_AT + 8;
const CRC_AT: usize = PREVIOUS_AT + 8 + 20;
/// Bytes of the header that are looked at.
pub(super) const USED: usize = CRC_AT + 4;

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |chunk| u16::from_le_bytes(*chunk))
}

/// What a log file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) number: u64,
    /// The last sequence number before the first frame.
    pub(super) last_seq: u64,
    pub(super) previous: Option<u64>,
}

impl FileHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; FILE_HEADER_BYTES as usize];
        page[..MAJOR_AT].copy_from_slice(&MAGIC);
        page[MAJOR_AT..MINOR_AT].copy_from_slice(&VERSION.0.to_le_bytes());
        page[MINOR_AT..MINOR_AT + 2].copy_from_slice(&VERSION.1.to_le_bytes());
        page[NUMBER_AT..LAST_SEQ_AT].copy_from_slice(&self.number.to_le_bytes());
        page[LAST_SEQ_AT..PREVIOUS_AT].copy_from_slice(&self.last_seq.to_le_bytes());
        let previous = self.previous.unwrap_or(0);
        page[PREVIOUS_AT..PREVIOUS_AT + 8].copy_from_slice(&previous.to_le_bytes());
        let crc = crc32fast::hash(&page[..CRC_AT]);
        page[CRC_AT..USED].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Reads the header of file `number`; `None` where it is unreadable.
    ///
    /// Another major version is an error; a newer one even where the checksum disagrees: its format may have another.
    pub(super) fn decode(bytes: &[u8], number: u64, path: &Path) -> Result<Option<FileHeader>> {
        if bytes.len() < USED || !bytes.starts_with(&MAGIC) {
            return Ok(None);
        }
        let found = (u16_at(bytes, MAJOR_AT), u16_at(bytes, MINOR_AT));
        let intact = u32_at(bytes, CRC_AT) == crc32fast::hash(&bytes[..CRC_AT]);
        // A newer format may keep its checksum elsewhere, but not its number. Without either, this is a head that
        // a power cut tore, whose first bytes survived and whose version is garbage.
        let ours = u64_at(bytes, NUMBER_AT) == number;
        if (found.0 > VERSION.0 && (intact || ours)) || (found.0 < VERSION.0 && intact) {
            return Err(Error::Version {
                path: path.to_owned(),
                kind: "log",
                found,
                supported: VERSION,
            });
        }
        let header = FileHeader {
            number: u64_at(bytes, NUMBER_AT),
            last_seq: u64_at(bytes, LAST_SEQ_AT),
            previous: Some(u64_at(bytes, PREVIOUS_AT)).filter(|&previous| previous > 0),
        };
        let sound = found.0 == VERSION.0 && intact && header.number == number;
        Ok(sound.then_some(header))
    }
}

#[cfg(test)]
mod torn_tests {
    use super::*;

    #[test]
    fn a_torn_head_is_no_newer_version_and_a_newer_version_is_told() {
        let mut head = vec![0u8; USED];
        head[..MAGIC.len()].copy_from_slice(&MAGIC);
        head[MAJOR_AT..MAJOR_AT + 2].copy_from_slice(&39_054u16.to_le_bytes());
        head[NUMBER_AT..NUMBER_AT + 8].copy_from_slice(&0x9a5e_u64.to_le_bytes());
        let path = Path::new("wal");
        assert!(matches!(FileHeader::decode(&head, 7, path), Ok(None)));
        assert!(matches!(
            FileHeader::decode(&head, 0x9a5e, path),
            Err(Error::Version {
                found: (39_054, _),
                ..
            })
        ));
    }
}
