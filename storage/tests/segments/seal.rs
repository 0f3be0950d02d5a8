//! Lying well: changed files whose checksums are made right again, so that what lies behind them is reached.

use xxhash_rust::xxh3::xxh3_64;

// The byte map, written down a second time: a change of the format must break this file.
pub const VERSION_AT: usize = 12;
pub const ROWS_AT: usize = 32;
pub const DIMENSION_AT: usize = 52;
pub const DIRECTORY_AT: usize = 72;
pub const DIRECTORY_COUNT_AT: usize = 80;
pub const DIRECTORY_SUM_AT: usize = 88;
pub const SUMS_AT: usize = 96;
pub const PAGES_AT: usize = 104;
pub const SUMS_SUM_AT: usize = 112;
pub const HEADER_SUM_AT: usize = 4088;
pub const PAGE: usize = 65_536;

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Makes the header's and the footer's checksums right again.
pub fn seal(file: &mut [u8]) {
    let sum = xxh3_64(&file[..HEADER_SUM_AT]);
    put(file, HEADER_SUM_AT, sum);
    let footer = file.len() - 64;
    let len = file.len() as u64;
    put(file, footer + 8, len);
    put(file, footer + 16, sum);
    let sum = xxh3_64(&file[footer..footer + 56]);
    put(file, footer + 56, sum);
}

/// Makes the checksums of pages and directory right again, as far as the header's offsets still make sense.
pub fn seal_sections(file: &mut [u8]) {
    let sums = u64_at(file, SUMS_AT) as usize;
    let mut at = sums;
    for entry in entries(file) {
        let (offset, len) = (
            u64_at(file, entry + 16) as usize,
            u64_at(file, entry + 24) as usize,
        );
        let section = file.get(offset..offset.saturating_add(len)).unwrap_or(&[]);
        let pages: Vec<u64> = section.chunks(PAGE).map(xxh3_64).collect();
        for sum in pages {
            if file.len().saturating_sub(8) > at {
                put(file, at, sum);
            }
            at = at.saturating_add(8);
        }
    }
    let directory = u64_at(file, DIRECTORY_AT) as usize;
    let len = (u64_at(file, DIRECTORY_COUNT_AT) as usize).saturating_mul(32);
    let sum = file
        .get(directory..directory.saturating_add(len))
        .map_or(0, xxh3_64);
    put(file, DIRECTORY_SUM_AT, sum);
    let sum = file.get(sums..at).map_or(0, xxh3_64);
    put(file, SUMS_SUM_AT, sum);
    seal(file);
}

/// Where the directory's entries are, those that lie inside the file.
pub fn entries(file: &[u8]) -> Vec<usize> {
    let directory = u64_at(file, DIRECTORY_AT) as usize;
    let count = u64_at(file, DIRECTORY_COUNT_AT).min(4096) as usize;
    let places = (0..count).map(|entry| directory.saturating_add(entry * 32));
    places
        .take_while(|&place| place.saturating_add(32) <= file.len())
        .collect()
}
