//! Damage: told by file and place or harmless, never a panic, never a huge allocation.

use std::sync::Arc;

use stratal_storage::{Element, Error, Id, Layout, Part, Result, Segment, SegmentFile};
use xxhash_rust::xxh3::xxh3_64;

use crate::memory_vfs::MemoryVfs;
use crate::sample::*;
use crate::seal::*;

struct Sample {
    vfs: MemoryVfs,
    layouts: Vec<Layout>,
    rows: Vec<Row>,
}

impl Sample {
    fn new(count: u64) -> Sample {
        let vfs = MemoryVfs::default();
        let layouts = vec![layout(0, 5, 2, Element::F32), layout(1, 33, 1, Element::F16)];
        let rows = rows(&layouts, count);
        segment(&vfs, 1, &layouts, &rows).unwrap();
        Sample { vfs, layouts, rows }
    }

    fn paths(&self) -> Vec<std::path::PathBuf> {
        self.vfs.names().iter().map(|name| folder().join(name)).collect()
    }

    fn open(&self) -> Result<Segment> {
        Segment::open(&self.vfs, folder(), 1, COLLECTION, &self.layouts)
    }

    /// Opens, reads and verifies everything; `Ok` if all was as written.
    fn read(&self) -> Result<()> {
        let segment = Arc::new(self.open()?);
        let read = read_all(&Part::Segment(segment.clone()));
        let verified = segment.verify_all();
        assert_eq!(segment.is_quarantined(), read.is_err() || verified.is_err());
        assert_eq!(read?, self.rows);
        verified.map(drop)
    }
}

fn is_typed(read: &Result<()>) -> bool {
    matches!(read, Ok(()) | Err(Error::Corrupt { .. } | Error::Version { .. }))
}

#[test]
fn every_flipped_byte_is_told_or_harmless() {
    let sample = Sample::new(9);
    for path in sample.paths() {
        let whole = sample.vfs.bytes(&path);
        let mut told = 0;
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            sample.vfs.set(&path, &flipped);
            let read = sample.read();
            assert!(is_typed(&read), "byte {at} of {}: {read:?}", path.display());
            told += usize::from(read.is_err());
        }
        assert!(
            told > 4096 + 64,
            "only {told} flips of {} were told",
            path.display()
        );
        sample.vfs.set(&path, &whole);
    }
    sample.read().unwrap();
}

#[test]
fn every_cut_and_every_longer_file_is_told() {
    let sample = Sample::new(4);
    for path in sample.paths() {
        let whole = sample.vfs.bytes(&path);
        for len in 0..whole.len() {
            sample.vfs.set(&path, &whole[..len]);
            assert!(
                matches!(sample.open(), Err(Error::Corrupt { .. })),
                "cut at {len}"
            );
        }
        let mut longer = whole.clone();
        longer.extend_from_slice(&whole[whole.len() - 64..]);
        sample.vfs.set(&path, &longer);
        assert!(matches!(sample.open(), Err(Error::Corrupt { .. })));
        sample.vfs.set(&path, &whole);
    }
}

/// B17: sizes in headers are bounded before they are used, also under right checksums.
#[test]
fn headers_that_lie_under_right_checksums_are_told() {
    let sample = Sample::new(9);
    let big = [
        0,
        1,
        8,
        10,
        63,
        4095,
        4096,
        1 << 16,
        1 << 32,
        1 << 40,
        u64::MAX / 8 + 1,
        u64::MAX - 4095,
        u64::MAX,
    ];
    for path in sample.paths() {
        let whole = sample.vfs.bytes(&path);
        for at in [
            ROWS_AT,
            40,
            DIRECTORY_AT,
            DIRECTORY_COUNT_AT,
            SUMS_AT,
            PAGES_AT,
            48,
            DIMENSION_AT,
            56,
            64,
        ] {
            for value in big {
                let mut lying = whole.clone();
                put(&mut lying, at, value);
                if lying == whole {
                    continue;
                }
                seal(&mut lying);
                sample.vfs.set(&path, &lying);
                let read = sample.read();
                assert!(
                    matches!(read, Err(Error::Corrupt { .. }))
                        || (read.is_ok() && path.extension().unwrap() == "doc"),
                    "{value} at {at} of {}: {read:?}",
                    path.display()
                );
            }
        }
        for entry in entries(&whole) {
            for at in [entry, entry + 8, entry + 16, entry + 24] {
                for value in big {
                    let mut lying = whole.clone();
                    put(&mut lying, at, value);
                    let directory = u64_at(&lying, DIRECTORY_AT) as usize;
                    let count = u64_at(&lying, DIRECTORY_COUNT_AT) as usize;
                    let sum = xxh3_64(&lying[directory..directory + count * 32]);
                    put(&mut lying, DIRECTORY_SUM_AT, sum);
                    seal(&mut lying);
                    sample.vfs.set(&path, &lying);
                    let read = sample.read();
                    assert!(is_typed(&read), "{value} at {at}: {read:?}");
                }
            }
        }
        sample.vfs.set(&path, &whole);
    }
}

/// Every byte of every section, with all checksums made right: what the columns say is bounded too.
#[test]
fn sections_that_lie_under_right_checksums_never_panic() {
    let sample = Sample::new(9);
    let documents = folder().join(SegmentFile::Documents { number: 1 }.to_string());
    let whole = sample.vfs.bytes(&documents);
    let mut told = 0;
    for entry in entries(&whole) {
        let (offset, len) = (
            u64_at(&whole, entry + 16) as usize,
            u64_at(&whole, entry + 24) as usize,
        );
        for at in offset..offset + len {
            for value in [0x00, 0x01, 0x7f, 0xff] {
                let mut lying = whole.clone();
                lying[at] = value;
                seal_sections(&mut lying);
                sample.vfs.set(&documents, &lying);
                // The vectors file now belongs to another documents file: it is left out.
                let segment = Arc::new(Segment::open(&sample.vfs, folder(), 1, COLLECTION, &[]).unwrap());
                let part = Part::Segment(segment.clone());
                for row in 0..part.rows() {
                    let answers = [
                        part.docid(row).map(drop),
                        part.version(row).map(drop),
                        part.id(row).map(drop),
                        part.payload(row).map(drop),
                        part.find_all(&sample.rows[row as usize].id).map(drop),
                    ];
                    assert!(answers.iter().all(is_typed), "byte {at}: {answers:?}");
                }
                told += usize::from(segment.verify_all().is_err());
            }
        }
    }
    assert!(told > 1000, "verification told only {told} lies");
    sample.vfs.set(&documents, &whole);
    let foreign = Sample::new(8);
    let other = foreign.vfs.bytes(&documents);
    sample.vfs.set(&documents, &other);
    assert!(
        matches!(sample.open(), Err(Error::Corrupt { .. })),
        "vectors of other documents"
    );
}

#[test]
fn values_that_are_not_finite_are_found_by_verification() {
    let sample = Sample::new(9);
    for (generation, poison) in [
        (0, f32::NAN.to_le_bytes().to_vec()),
        (1, 0x7c00u16.to_le_bytes().to_vec()),
    ] {
        let path = folder().join(
            SegmentFile::Vectors {
                number: 1,
                generation,
            }
            .to_string(),
        );
        let whole = sample.vfs.bytes(&path);
        let mut poisoned = whole.clone();
        let plane = u64_at(&whole, entries(&whole)[0] + 16) as usize;
        poisoned[plane..plane + poison.len()].copy_from_slice(&poison);
        seal_sections(&mut poisoned);
        sample.vfs.set(&path, &poisoned);
        let error = sample.open().unwrap().verify_all().unwrap_err();
        assert!(error.to_string().contains("finite"), "{error}");
        sample.vfs.set(&path, &whole);
    }
}

#[test]
fn a_damaged_page_is_told_each_time_and_the_rest_goes_on() {
    let vfs = MemoryVfs::default();
    let layouts = [layout(0, 64, 1, Element::F32)];
    let rows = rows(&layouts, 1000);
    segment(&vfs, 1, &layouts, &rows).unwrap();
    let path = folder().join(
        SegmentFile::Vectors {
            number: 1,
            generation: 0,
        }
        .to_string(),
    );
    let mut bytes = vfs.bytes(&path);
    let plane = u64_at(&bytes, entries(&bytes)[0] + 16) as usize;
    bytes[plane + 2 * PAGE + 77] ^= 4;
    vfs.set(&path, &bytes);

    // Opening does not read the pages; 256 rows of 256 bytes make one.
    let segment = Segment::open(&vfs, folder(), 1, COLLECTION, &layouts).unwrap();
    for _ in 0..2 {
        for row in (0..512).chain(768..1000) {
            assert_eq!(
                segment.vector(0, 0, row).unwrap(),
                rows[row as usize].vectors[0][0]
            );
        }
        segment.plane(0, 0, 0..512).unwrap();
    }
    assert!(!segment.is_quarantined());
    for row in [512, 600, 767, 512] {
        match segment.vector(0, 0, row) {
            Err(Error::Corrupt {
                path: told, offset, ..
            }) => {
                assert_eq!((told, offset), (path.clone(), (plane + 2 * PAGE) as u64));
            }
            other => panic!("{other:?}"),
        }
        assert!(segment.is_quarantined());
        assert!(segment.plane(0, 0, 0..1000).is_err());
    }
    assert_eq!(segment.id(600).unwrap(), rows[600].id);
    assert_eq!(segment.vector(0, 0, 100).unwrap(), rows[100].vectors[0][0]);
    assert!(segment.verify_all().is_err());
}

#[test]
fn a_newer_major_is_refused_by_name_and_a_newer_minor_is_read() {
    let sample = Sample::new(9);
    for path in sample.paths() {
        let whole = sample.vfs.bytes(&path);
        for (version, ours) in [
            ([2u8, 0, 0, 0], false),
            ([0, 0, 0, 0], false),
            ([1, 0, 9, 0], true),
        ] {
            let mut other = whole.clone();
            other[VERSION_AT..VERSION_AT + 4].copy_from_slice(&version);
            seal(&mut other);
            sample.vfs.set(&path, &other);
            match Segment::open(&sample.vfs, folder(), 1, COLLECTION, &[]) {
                _ if path.extension().unwrap() == "vec" => {
                    assert_eq!(matches!(sample.open(), Err(Error::Version { .. })), !ours);
                }
                Err(Error::Version {
                    path: told,
                    kind: "segment",
                    found,
                    ..
                }) => {
                    assert_eq!((told, found.0), (path.clone(), u16::from(version[0])));
                }
                opened => assert!(ours && opened.is_ok()),
            }
        }
        sample.vfs.set(&path, &whole);
    }
}

#[test]
fn sections_of_later_versions_are_ignored_and_doubled_ones_told() {
    let sample = Sample::new(9);
    for path in sample
        .paths()
        .into_iter()
        .filter(|path| path.extension().unwrap() == "vec")
    {
        let whole = sample.vfs.bytes(&path);
        for (kind, fine) in [(77u64, true), (16 | 1 << 32, false)] {
            // The same file with one section more, which shares the first one's bytes.
            let first = entries(&whole)[0];
            let mut entry = whole[first..first + 32].to_vec();
            put(&mut entry, 0, kind);
            if !fine {
                entry[..16].copy_from_slice(&whole[first..first + 16]);
            }
            let end = entries(&whole).last().unwrap() + 32;
            let mut longer = whole[..end].to_vec();
            longer.extend_from_slice(&entry);
            longer.resize(longer.len().next_multiple_of(4096), 0);
            let sums = longer.len();
            let pages = u64_at(&whole, PAGES_AT) + 1;
            longer.resize(sums + pages as usize * 8, 0);
            longer.extend_from_slice(&whole[whole.len() - 64..]);
            put(&mut longer, DIRECTORY_COUNT_AT, entries(&whole).len() as u64 + 1);
            put(&mut longer, SUMS_AT, sums as u64);
            put(&mut longer, PAGES_AT, pages);
            let len = longer.len() as u64;
            put(&mut longer, 40, len);
            seal_sections(&mut longer);
            sample.vfs.set(&path, &longer);
            let read = sample.read();
            assert_eq!(read.is_ok(), fine, "{read:?}");
        }
        sample.vfs.set(&path, &whole);
    }
}

#[test]
fn a_segment_of_another_collection_or_number_or_shape_is_told() {
    let sample = Sample::new(9);
    let wrong = |number, collection, layouts: &[Layout]| {
        matches!(
            Segment::open(&sample.vfs, folder(), number, collection, layouts),
            Err(Error::Corrupt { .. })
        )
    };
    assert!(wrong(1, COLLECTION + 1, &[]));
    for shape in [
        layout(0, 6, 2, Element::F32),
        layout(0, 5, 1, Element::F32),
        layout(0, 5, 2, Element::F16),
    ] {
        assert!(wrong(1, COLLECTION, &[shape]));
    }
    for name in sample.vfs.names() {
        let bytes = sample.vfs.bytes(&folder().join(&name));
        sample
            .vfs
            .set(&folder().join(name.replace("0001", "0002")), &bytes);
    }
    assert!(wrong(2, COLLECTION, &[]));
    assert!(
        sample
            .open()
            .unwrap()
            .find_hashed(0, &Id::from(3))
            .unwrap()
            .is_empty()
    );
}
