//! Frames as bytes: encoding and decoding, without any file.

use super::header::{u32_at, u64_at};

/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 32;
/// The largest payload of a frame.
pub const PAYLOAD_BYTES_MAX: usize = u32::MAX as usize - 63;

/// No text in UTF-8 holds these bytes, so documents that are stored do not look like frames.
pub(super) const FRAME_MAGIC: [u8; 4] = [0xF5, b'S', 0xF6, 0xFF];

const PAYLOAD_BYTES_AT: usize = FRAME_MAGIC.len();
const COUNT_AT: usize = PAYLOAD_BYTES_AT + 4;
const PAYLOAD_CRC_AT: usize = COUNT_AT + 4;
const FIRST_SEQ_AT: usize = PAYLOAD_CRC_AT + 4;
const ZERO_AT: usize = FIRST_SEQ_AT + 8;
const HEADER_CRC_AT: usize = ZERO_AT + 4;
const _: () = assert!(HEADER_CRC_AT + 4 == FRAME_HEADER_BYTES);

/// A frame's header that its own checksum agrees with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// Commits in the payload, at least 1.
    pub count: u32,
    /// The sequence number of the first commit.
    pub first_seq: u64,
    /// CRC-32 of the payload.
    pub payload_crc: u32,
}

impl FrameHeader {
    /// The header of a frame around `records`.
    pub(super) fn of(first_seq: u64, count: u32, records: &[u8]) -> FrameHeader {
        FrameHeader {
            payload_bytes: records.len() as u32,
            count,
            first_seq,
            payload_crc: crc32fast::hash(records),
        }
    }

    pub(super) fn encode(&self, file_number: u64) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..PAYLOAD_BYTES_AT].copy_from_slice(&FRAME_MAGIC);
        bytes[PAYLOAD_BYTES_AT..COUNT_AT].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[COUNT_AT..PAYLOAD_CRC_AT].copy_from_slice(&self.count.to_le_bytes());
        bytes[PAYLOAD_CRC_AT..FIRST_SEQ_AT].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[FIRST_SEQ_AT..ZERO_AT].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = header_crc(file_number, &bytes);
        bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a frame's header at the start of `bytes`; `None` if there is none of that file.
    pub fn decode(bytes: &[u8], file_number: u64) -> Option<FrameHeader> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES)?;
        if !bytes.starts_with(&FRAME_MAGIC) || u32_at(bytes, HEADER_CRC_AT) != header_crc(file_number, bytes)
        {
            return None;
        }
        let header = FrameHeader {
            payload_bytes: u32_at(bytes, PAYLOAD_BYTES_AT),
            count: u32_at(bytes, COUNT_AT),
            first_seq: u64_at(bytes, FIRST_SEQ_AT),
            payload_crc: u32_at(bytes, PAYLOAD_CRC_AT),
        };
        let last = header.first_seq.checked_add(u64::from(header.count))?;
        (header.count > 0 && header.first_seq > 0 && last < u64::MAX).then_some(header)
    }

    /// The sequence number of the last commit.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count) - 1
    }

    /// Bytes from the frame's start to the next frame's.
    pub fn frame_bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES as u64 + u64::from(self.payload_bytes)).next_multiple_of(8)
    }

    /// Whether the payload is what was written.
    pub fn matches(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_bytes as usize && crc32fast::hash(payload) == self.payload_crc
    }
}

fn header_crc(file_number: u64, header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&file_number.to_le_bytes());
    crc.update(&header[..HEADER_CRC_AT]);
    crc.finalize()
}

/// Appends a frame to `out`, filled up with zeros to a multiple of 8 bytes.
///
/// `records` is the payload: for each of the `count` commits its length (u32, little-endian) and its bytes,
/// together at most [`PAYLOAD_BYTES_MAX`].
pub fn encode_frame(file_number: u64, first_seq: u64, count: u32, records: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&FrameHeader::of(first_seq, count, records).encode(file_number));
    out.extend_from_slice(records);
    let padded = (out.len() - start).next_multiple_of(8);
    out.resize(start + padded, 0);
}

/// Reads a whole frame at the start of `bytes`: its header and payload, both checked.
pub fn decode_frame(bytes: &[u8], file_number: u64) -> Option<(FrameHeader, &[u8])> {
    let header = FrameHeader::decode(bytes, file_number)?;
    let payload = bytes[FRAME_HEADER_BYTES..].get(..header.payload_bytes as usize)?;
    header.matches(payload).then_some((header, payload))
}

/// The commit records of a payload, in order. Ends early, with [`Records::is_whole`] false, where lengths do not fit.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Records<'a> {
    /// The `count` records of a payload.
    pub fn new(payload: &'a [u8], count: u32) -> Records<'a> {
        Records {
            rest: payload,
            left: count,
        }
    }

    /// Whether the payload is exactly so many records.
    pub fn is_whole(&self) -> bool {
        let mut records = self.clone();
        records.by_ref().for_each(drop);
        records.left == 0 && records.rest.is_empty()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let record = rest.get(..length)?;
        self.rest = &rest[length..];
        self.left -= 1;
        Some(record)
    }
}
