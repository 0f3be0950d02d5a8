//! Checksums of pages, and the memory of which pages have been checked.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A section is checksummed in pages of this many bytes, counted from its own start; its last page may be short.
pub(crate) const PAGE_BYTES: usize = 64 * 1024;

/// The checksum of every file that this crate maps: xxh3 with 64 bits and no seed.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// Pages of a section of `bytes` bytes.
pub(crate) const fn page_count(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES as u64)
}

/// Which pages of a file have been read and found sound since it was opened.
///
/// Relaxed ordering is enough: a set bit says only that unchanging bytes once matched their checksum, and a
/// reader that misses a bit set elsewhere checks the page once more.
pub(crate) struct CheckedPages {
    words: Box<[AtomicU64]>,
}

impl CheckedPages {
    pub(crate) fn new(pages: u64) -> CheckedPages {
        CheckedPages {
            words: (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn word(&self, page: u64) -> Option<&AtomicU64> {
        self.words.get(usize::try_from(page / 64).ok()?)
    }

    pub(crate) fn insert(&self, page: u64) {
        if let Some(word) = self.word(page) {
            word.fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
    }

    /// The first page of the range that has not been checked: 64 pages (4 MiB) a step, so that a scan of a
    /// plane that was scanned before pays next to nothing.
    pub(crate) fn first_unchecked(&self, pages: Range<u64>) -> Option<u64> {
        let mut page = pages.start;
        while page < pages.end {
            let word = self.word(page).map_or(0, |word| word.load(Ordering::Relaxed));
            let unchecked = !word >> (page % 64);
            if unchecked != 0 {
                let first = page + u64::from(unchecked.trailing_zeros());
                if first / 64 == page / 64 {
                    return (first < pages.end).then_some(first);
                }
            }
            page = (page / 64 + 1) * 64;
        }
        None
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.words.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_unchecked_agrees_with_looking_at_each_page() {
        let pages = CheckedPages::new(200);
        let mut inserted = [false; 200];
        let mut state = 7u64;
        for _ in 0..400 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let page = (state >> 33) % 200;
            pages.insert(page);
            inserted[page as usize] = true;
            for range in [0..200, 5..64, 63..65, 64..128, 127..199, 150..150] {
                let expected = range.clone().find(|&page| !inserted[page as usize]);
                assert_eq!(pages.first_unchecked(range), expected);
            }
        }
    }
}
