//! Writing stopped at every operation: a name that a MANIFEST could give never holds half a file.

use stratal_storage::{Element, Error, Segment, SegmentFile, UNFINISHED};

use crate::memory_vfs::MemoryVfs;
use crate::sample::*;

#[test]
fn a_write_that_stops_anywhere_leaves_whole_files_or_unfinished_ones() {
    let layouts = [layout(0, 7, 2, Element::F32), layout(1, 3, 1, Element::F16)];
    let rows = rows(&layouts, 12);
    let vfs = MemoryVfs::default();
    segment(&vfs, 1, &layouts, &rows).unwrap();
    let changes = vfs.changes();
    assert!(changes > 20);
    let whole: Vec<_> = vfs
        .names()
        .iter()
        .map(|name| vfs.bytes(&folder().join(name)))
        .collect();

    for stop in 1..=changes {
        let vfs = MemoryVfs::default();
        vfs.fail_from(stop);
        assert!(
            matches!(segment(&vfs, 1, &layouts, &rows), Err(Error::Io { .. })),
            "stopped at {stop}"
        );
        let finished: Vec<_> = vfs
            .names()
            .into_iter()
            .filter(|name| !name.ends_with(UNFINISHED))
            .collect();
        for name in &finished {
            assert!(SegmentFile::parse(name).is_some(), "{name}");
            assert!(
                whole.contains(&vfs.bytes(&folder().join(name))),
                "{name} is whole after a stop at {stop}"
            );
        }
        // The next try takes another number, whatever the first left; and the same one if it left nothing.
        vfs.fail_from(0);
        segment(&vfs, 2, &layouts, &rows).unwrap().verify_all().unwrap();
        if finished.is_empty() {
            segment(&vfs, 1, &layouts, &rows).unwrap().verify_all().unwrap();
        }
    }
}

#[test]
fn a_write_that_fails_once_takes_its_files_away_again() {
    // The failing operation is the last: the folder's sync. Removal works again after it.
    let layouts = [layout(0, 7, 2, Element::F32)];
    let vfs = MemoryVfs::default();
    let rows = rows(&layouts, 12);
    segment(&vfs, 1, &layouts, &rows).unwrap();
    let names = vfs.names();
    for number in 2..5 {
        let path = folder().join(
            SegmentFile::Vectors {
                number,
                generation: 0,
            }
            .to_string(),
        );
        vfs.set(&path, b"in the way");
        assert!(segment(&vfs, number, &layouts, &rows).is_err());
        assert_eq!(vfs.bytes(&path), b"in the way", "a foreign file is not touched");
    }
    assert!(!vfs.names().iter().any(|name| name.ends_with(UNFINISHED)));
    assert!(names.iter().all(|name| vfs.names().contains(name)));
}

#[test]
fn a_missing_file_is_told_by_name() {
    let layouts = [layout(0, 7, 2, Element::F32)];
    let vfs = MemoryVfs::default();
    segment(&vfs, 1, &layouts, &rows(&layouts, 3)).unwrap();
    let error = Segment::open(
        &vfs,
        folder(),
        1,
        COLLECTION,
        &[layouts[0], layout(1, 3, 1, Element::F16)],
    )
    .unwrap_err();
    assert!(error.to_string().contains("0000000000000001-g1.vec"), "{error}");
    let error = Segment::open(&vfs, folder(), 9, COLLECTION, &layouts).unwrap_err();
    assert!(error.to_string().contains("0000000000000009.doc"), "{error}");
}
