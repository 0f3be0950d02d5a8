//! Deletions on disk.

use proptest::prelude::*;
use roaring::RoaringBitmap;
use stratal_storage::{DeletionsOf, Error, SegmentFile, read_deletions, write_deletions};

use crate::memory_vfs::MemoryVfs;
use crate::sample::folder;

const OF: DeletionsOf = DeletionsOf {
    collection: 3,
    segment: 7,
    rows: 100_000,
    sequence: 55,
};

fn path() -> std::path::PathBuf {
    folder().join(
        SegmentFile::Deletions {
            number: 7,
            sequence: 55,
        }
        .to_string(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn deletions_are_read_as_written(rows in proptest::collection::btree_set(0u32..100_000, 0..300), run in 0u32..90_000) {
        let vfs = MemoryVfs::default();
        let mut dead: RoaringBitmap = rows.into_iter().collect();
        dead.insert_range(run..run + 9_000);
        write_deletions(&vfs, folder(), &OF, &dead).unwrap();
        prop_assert_eq!(read_deletions(&vfs, folder(), &OF).unwrap(), dead);
        prop_assert_eq!(vfs.names().len(), 1);
    }
}

#[test]
fn rows_past_the_end_are_refused_when_written_and_when_read() {
    let vfs = MemoryVfs::default();
    let dead: RoaringBitmap = [5, 99_999].into_iter().collect();
    assert!(matches!(
        write_deletions(&vfs, folder(), &DeletionsOf { rows: 99_999, ..OF }, &dead),
        Err(Error::Invalid { .. })
    ));
    write_deletions(&vfs, folder(), &OF, &dead).unwrap();
    for other in [
        DeletionsOf { rows: 99_999, ..OF },
        DeletionsOf { collection: 4, ..OF },
    ] {
        assert!(matches!(
            read_deletions(&vfs, folder(), &other),
            Err(Error::Corrupt { .. })
        ));
    }
    assert!(matches!(
        read_deletions(&vfs, folder(), &DeletionsOf { sequence: 56, ..OF }),
        Err(Error::Io { .. })
    ));
}

#[test]
fn every_flipped_byte_and_every_cut_of_a_deletions_file_is_told() {
    let vfs = MemoryVfs::default();
    let dead: RoaringBitmap = (0..100).map(|i| i * 999).chain(5_000..9_000).collect();
    write_deletions(&vfs, folder(), &OF, &dead).unwrap();
    let whole = vfs.bytes(&path());
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x11;
        vfs.set(&path(), &flipped);
        let read = read_deletions(&vfs, folder(), &OF);
        assert!(
            matches!(read, Err(Error::Corrupt { .. } | Error::Version { .. })),
            "byte {at}"
        );
        vfs.set(&path(), &whole[..at]);
        assert!(
            matches!(read_deletions(&vfs, folder(), &OF), Err(Error::Corrupt { .. })),
            "cut at {at}"
        );
    }
}

#[test]
fn a_bitmap_that_lies_under_right_checksums_is_refused() {
    // Past the checksums: the bitmap's own header flipped, byte by byte, with every value.
    let vfs = MemoryVfs::default();
    let dead: RoaringBitmap = (0..40).map(|i| i * 2_000).collect();
    write_deletions(&vfs, folder(), &OF, &dead).unwrap();
    let whole = vfs.bytes(&path());
    for at in 72..whole.len() {
        for value in 0..=255 {
            let mut lying = whole.clone();
            lying[at] = value;
            let sum = xxhash_rust::xxh3::xxh3_64(&lying[72..]);
            lying[56..64].copy_from_slice(&sum.to_le_bytes());
            let sum = xxhash_rust::xxh3::xxh3_64(&lying[..64]);
            lying[64..72].copy_from_slice(&sum.to_le_bytes());
            vfs.set(&path(), &lying);
            match read_deletions(&vfs, folder(), &OF) {
                Ok(read) => assert!(read.max().is_none_or(|row| row < OF.rows)),
                Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
            }
        }
    }
}
