//! Payloads: compressed blocks of about 32 KiB, a directory of blocks, and a place for each row.
//!
//! ```text
//! payload rows     12 bytes a row:   0  4  block    4  4  offset in the block, raw    8  4  length
//! payload blocks   24 bytes a block: 0  8  offset in the payload data    8  4  stored length
//!                                   12  4  raw length    16  4  encoding: 0 as it is, 1 LZ4 block    20  4  zero
//! payload data     the blocks, one after the other
//! ```
//!
//! A payload of 32 KiB or more has a block of its own. An empty one is in no block: all three numbers are zero.

use super::file_writer::{FileWriter, SectionWriter};
use super::frame::{u32_at, u64_at};
use super::mapped::{MappedFile, Section};
use crate::error::{Error, Result};

/// The longest payload of a document.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A block is closed when it has this many bytes.
const BLOCK_BYTES: usize = 32 * 1024;
pub(super) const ROW_BYTES: u64 = 12;
const BLOCK_ENTRY_BYTES: u64 = 24;
const ENCODING_RAW: u32 = 0;
const ENCODING_LZ4: u32 = 1;
/// LZ4 can stretch a block by no more than this: one byte more of a match length adds 255.
const STRETCH_MAX: u64 = 255;

/// The last block that a reader unpacked, so that rows read in order unpack each block once.
///
/// It may be carried from one part to the next.
#[derive(Debug, Default)]
pub struct PayloadCursor {
    /// The file's checksum and the block.
    block: Option<(u64, u32)>,
    bytes: Vec<u8>,
}

/// The three sections that payloads are read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payloads {
    pub(super) rows: Section,
    pub(super) blocks: Section,
    pub(super) data: Section,
}

impl Payloads {
    /// The payload of a row below the file's number of rows.
    pub(super) fn read<'a>(
        &self,
        file: &'a MappedFile,
        row: u32,
        cursor: &'a mut PayloadCursor,
    ) -> Result<&'a [u8]> {
        let at = u64::from(row) * ROW_BYTES;
        let place = file.read(&self.rows, at..at + ROW_BYTES)?;
        let (block, offset, len) = (
            u32_at(place, 0),
            u32_at(place, 4) as usize,
            u32_at(place, 8) as usize,
        );
        if len == 0 {
            return Ok(&[]);
        }
        let key = (file.header_checksum(), block);
        if cursor.block != Some(key) {
            cursor.block = None;
            self.unpack(file, block, &mut cursor.bytes)?;
            cursor.block = Some(key);
        }
        match offset
            .checked_add(len)
            .and_then(|end| cursor.bytes.get(offset..end))
        {
            Some(payload) => Ok(payload),
            None => Err(file.damage(
                &self.rows,
                at,
                format!("the payload of row {row} is not inside its block"),
            )),
        }
    }

    fn unpack(&self, file: &MappedFile, block: u32, bytes: &mut Vec<u8>) -> Result<()> {
        let at = u64::from(block) * BLOCK_ENTRY_BYTES;
        let entry = file.read(&self.blocks, at..at + BLOCK_ENTRY_BYTES)?;
        let (offset, stored_len) = (u64_at(entry, 0), u64::from(u32_at(entry, 8)));
        let (raw_len, encoding) = (u32_at(entry, 12), u32_at(entry, 16));
        let damage = |what: String| Err(file.damage(&self.blocks, at, what));
        let Some(end) = offset.checked_add(stored_len) else {
            return damage(format!("payload block {block} ends past the end of all numbers"));
        };
        let stored = file.read(&self.data, offset..end)?;
        if u64::from(raw_len) > (stored_len + 1) * STRETCH_MAX || raw_len as usize > PAYLOAD_BYTES_MAX {
            return damage(format!(
                "payload block {block} cannot unpack from {stored_len} to {raw_len} bytes"
            ));
        }
        bytes.clear();
        match encoding {
            ENCODING_RAW if u64::from(raw_len) == stored_len => bytes.extend_from_slice(stored),
            ENCODING_LZ4 => {
                bytes.resize(raw_len as usize, 0);
                match lz4_flex::block::decompress_into(stored, bytes) {
                    Ok(len) if len == raw_len as usize => {}
                    Ok(len) => {
                        return damage(format!(
                            "payload block {block} unpacks to {len} bytes, not {raw_len}"
                        ));
                    }
                    Err(e) => return damage(format!("payload block {block} does not unpack: {e}")),
                }
            }
            _ => {
                return damage(format!(
                    "payload block {block} has the unknown encoding {encoding}"
                ));
            }
        }
        Ok(())
    }
}

/// Writes payloads in the order of rows.
pub(super) struct PayloadWriter {
    rows: SectionWriter,
    data: SectionWriter,
    data_bytes: u64,
    block: Vec<u8>,
    blocks: Vec<u8>,
}

impl PayloadWriter {
    pub(super) fn new(rows: SectionWriter, data: SectionWriter) -> PayloadWriter {
        PayloadWriter {
            rows,
            data,
            data_bytes: 0,
            block: Vec::new(),
            blocks: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, file: &FileWriter<'_>, payload: &[u8]) -> Result<()> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Error::Invalid {
                what: format!(
                    "a payload of {} bytes is over the limit of {PAYLOAD_BYTES_MAX}",
                    payload.len()
                ),
            });
        }
        if payload.len() >= BLOCK_BYTES {
            self.close_block(file)?;
        }
        let (block, offset) = match payload.len() {
            0 => (0, 0),
            _ => (self.blocks.len() as u64 / BLOCK_ENTRY_BYTES, self.block.len()),
        };
        let Ok(block) = u32::try_from(block) else {
            return Err(Error::Invalid {
                what: "a segment holds at most 2^32 payload blocks".to_owned(),
            });
        };
        let mut place = [0u8; ROW_BYTES as usize];
        place[..4].copy_from_slice(&block.to_le_bytes());
        place[4..8].copy_from_slice(&(offset as u32).to_le_bytes());
        place[8..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file.push(&mut self.rows, &place)?;
        self.block.extend_from_slice(payload);
        if self.block.len() >= BLOCK_BYTES {
            self.close_block(file)?;
        }
        Ok(())
    }

    fn close_block(&mut self, file: &FileWriter<'_>) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let packed = lz4_flex::block::compress(&self.block);
        let (stored, encoding) = match packed.len() < self.block.len() {
            true => (&packed, ENCODING_LZ4),
            false => (&self.block, ENCODING_RAW),
        };
        self.blocks.extend_from_slice(&self.data_bytes.to_le_bytes());
        for field in [stored.len() as u32, self.block.len() as u32, encoding, 0] {
            self.blocks.extend_from_slice(&field.to_le_bytes());
        }
        file.push(&mut self.data, stored)?;
        self.data_bytes += stored.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// Ends both sections; the caller writes the returned directory of blocks as a third.
    pub(super) fn finish(mut self, file: &mut FileWriter<'_>) -> Result<Vec<u8>> {
        self.close_block(file)?;
        file.close(self.rows)?;
        file.close(self.data)?;
        Ok(self.blocks)
    }
}
