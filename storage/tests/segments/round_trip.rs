//! What is written is read, by every way, against a plain list of rows.

use std::sync::Arc;

use proptest::prelude::*;
use roaring::RoaringBitmap;
use stratal_storage::{
    Chunk, Element, Error, Id, Layout, Part, ROW_DROPPED, Segment, SegmentFile, VectorsWriter, write_segment,
};

use crate::memory_vfs::MemoryVfs;
use crate::sample::*;

fn layouts() -> impl Strategy<Value = Vec<Layout>> {
    let one = (1u32..40, 1u32..4, any::<bool>());
    proptest::collection::vec(one, 0..3).prop_map(|shapes| {
        let element = |half| if half { Element::F16 } else { Element::F32 };
        let numbered = shapes.into_iter().enumerate();
        numbered
            .map(|(i, (dimension, layers, half))| layout(i as u32 * 2, dimension, layers, element(half)))
            .collect()
    })
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![
        (0u64..12).prop_map(Id::from),
        any::<u64>().prop_map(Id::from),
        "[0-9a-c]{0,2}".prop_map(Id::from),
        ".{0,20}".prop_map(Id::from)
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let noise = |n| proptest::collection::vec(any::<u8>(), n);
    prop_oneof![
        4 => noise(0..200),
        1 => (0usize..100_000).prop_map(|n| (0..n).map(|i| (i / 9) as u8).collect()),
        1 => noise(32_760..32_780),
    ]
}

/// Rows in three lists; which are dead; an order.
type Lists = (Vec<Layout>, Vec<Vec<Row>>, Vec<bool>, u64);

fn lists() -> impl Strategy<Value = Lists> {
    (
        layouts(),
        proptest::collection::vec(proptest::collection::vec((id(), payload()), 0..12), 3),
        proptest::collection::vec(any::<bool>(), 36),
        any::<u64>(),
    )
        .prop_map(|(layouts, lists, dead, order)| {
            let mut docid = 0;
            let mut row_of = |(id, payload)| {
                docid += 1;
                row(&layouts, docid, id, payload)
            };
            let lists = lists
                .into_iter()
                .map(|list| list.into_iter().map(&mut row_of).collect())
                .collect();
            (layouts, lists, dead, order)
        })
}

fn alive(rows: &[Row], dead: &RoaringBitmap) -> Vec<Row> {
    rows.iter()
        .zip(0..)
        .filter(|&(_, number)| !dead.contains(number))
        .map(|(row, _)| row.clone())
        .collect()
}

fn dead_rows(rows: &[Row], dead: &[bool]) -> RoaringBitmap {
    (0..rows.len() as u32)
        .filter(|&row| dead[rows[row as usize].docid as usize - 1])
        .collect()
}

fn check(part: &Part, expected: &[Row]) {
    assert_eq!(read_all(part).unwrap(), expected);
    for row in expected {
        let same = |&number: &u32| expected[number as usize].id == row.id;
        let all: Vec<u32> = (0..expected.len() as u32).filter(same).collect();
        assert_eq!(part.find_all(&row.id).unwrap(), all);
    }
    assert_eq!(
        part.find_all(&Id::from("no such id anywhere, surely")).unwrap(),
        Vec::<u32>::new()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Chunks, chunks joined, a segment of chunks, and a segment of a segment and a chunk in any order.
    #[test]
    fn every_part_gives_back_the_rows_it_was_made_of((layouts, lists, dead, order) in lists()) {
        let vfs = MemoryVfs::default();
        let chunks: Vec<Chunk> = lists.iter().map(|rows| chunk(&layouts, rows).unwrap()).collect();
        let graves: Vec<RoaringBitmap> = lists.iter().map(|rows| dead_rows(rows, &dead)).collect();
        let both: Vec<_> = chunks.iter().zip(&graves).collect();
        let (merged, maps) = Chunk::merge(&both).unwrap();
        let expected: Vec<Row> = lists.iter().zip(&graves).flat_map(|(rows, dead)| alive(rows, dead)).collect();
        let merged = Part::Memory(Arc::new(merged));
        check(&merged, &expected);
        for ((rows, map), dead) in lists.iter().zip(&maps).zip(&graves) {
            for (row, &new) in map.iter().enumerate() {
                prop_assert_eq!(new == ROW_DROPPED, dead.contains(row as u32));
                if new != ROW_DROPPED {
                    prop_assert_eq!(&expected[new as usize], &rows[row]);
                }
            }
        }

        let mut parts: Vec<Part> = chunks.into_iter().map(|chunk| Part::Memory(Arc::new(chunk))).collect();
        for (part, rows) in parts.iter().zip(&lists) {
            check(part, rows);
        }
        let last = parts.pop().unwrap();
        let sources: Vec<_> = parts.into_iter().map(|part| { let all = (0..part.rows()).collect(); (part, all) }).collect();
        let first = write_segment(&vfs, folder(), &plan(1, &layouts, &sources)).unwrap();
        let first_rows = lists[..2].concat();
        let first = Part::Segment(Arc::new(first));
        check(&first, &first_rows);

        let mut orders: Vec<Vec<u32>> = vec![(0..first.rows()).collect(), (0..last.rows()).collect()];
        let mut state = order;
        for rows in &mut orders {
            rows.sort_by_cached_key(|_| { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state >> 30 });
            rows.truncate(rows.len() - (state >> 60) as usize % (rows.len() + 1));
        }
        let kept = layouts.get(..layouts.len().min(1)).unwrap();
        let expected: Vec<Row> = orders[0].iter().map(|&row| &first_rows[row as usize])
            .chain(orders[1].iter().map(|&row| &lists[2][row as usize]))
            .map(|row| Row { vectors: row.vectors[..kept.len()].to_vec(), ..row.clone() })
            .collect();
        let sources: Vec<_> = [first, last].into_iter().zip(orders).collect();
        let second = write_segment(&vfs, folder(), &plan(2, kept, &sources)).unwrap();
        second.verify_all().unwrap();
        prop_assert!(!second.is_quarantined());
        check(&Part::Segment(Arc::new(second)), &expected);
        let reopened = Segment::open(&vfs, folder(), 2, COLLECTION, kept).unwrap();
        prop_assert_eq!(reopened.disk_bytes(), reopened.files().iter().map(|path| vfs.bytes(path).len() as u64).sum::<u64>());
        check(&Part::Segment(Arc::new(reopened)), &expected);
    }
}

#[test]
fn long_payloads_beside_short_ones_survive_and_are_packed() {
    let vfs = MemoryVfs::default();
    let noise: Vec<u8> = vector(&layout(0, 10_000_000, 1, Element::F16), 3)[..10_000_000].to_vec();
    let text = b"the same words again ".repeat(500_000);
    let payloads = [
        vec![],
        noise,
        b"short".to_vec(),
        text,
        b"another".to_vec(),
        vec![],
    ];
    let rows: Vec<Row> = payloads
        .into_iter()
        .zip(1u64..)
        .map(|(payload, docid)| row(&[], docid, Id::from(docid), payload))
        .collect();
    let segment = segment(&vfs, 1, &[], &rows).unwrap();
    segment.verify_all().unwrap();
    assert!(
        segment.disk_bytes() < 10_300_000,
        "{} bytes",
        segment.disk_bytes()
    );
    assert_eq!(read_all(&Part::Segment(Arc::new(segment))).unwrap(), rows);
}

#[test]
fn a_generation_written_later_stands_beside_the_first_and_can_go() {
    let vfs = MemoryVfs::default();
    let (old, new) = (layout(0, 5, 2, Element::F32), layout(1, 96, 3, Element::F16));
    let rows = rows(&[old, new], 70);
    let narrow: Vec<Row> = rows
        .iter()
        .map(|row| Row {
            vectors: row.vectors[..1].to_vec(),
            ..row.clone()
        })
        .collect();
    let first = segment(&vfs, 1, &[old], &narrow).unwrap();
    let mut writer =
        VectorsWriter::create(&vfs, folder(), COLLECTION, 1, new, 70, first.documents_checksum()).unwrap();
    for row in &rows {
        writer
            .push(row.vectors[1].iter().map(|vector| &vector[..]))
            .unwrap();
    }
    let too_many = writer.push(rows[0].vectors[1].iter().map(|vector| &vector[..]));
    assert!(matches!(too_many, Err(Error::Invalid { .. })));
    let mut writer =
        VectorsWriter::create(&vfs, folder(), COLLECTION, 1, new, 70, first.documents_checksum()).unwrap();
    for row in &rows {
        writer
            .push(row.vectors[1].iter().map(|vector| &vector[..]))
            .unwrap();
    }
    writer.finish().unwrap();

    let both = first.with_vectors(&vfs, folder(), new).unwrap();
    assert_eq!(read_all(&Part::Segment(Arc::new(both))).unwrap(), rows);
    let both = Segment::open(&vfs, folder(), 1, COLLECTION, &[old, new]).unwrap();
    both.verify_all().unwrap();
    assert_eq!(both.files().len(), 3);
    assert_ne!(both.vectors_checksum(0), both.vectors_checksum(1));
    assert!(
        both.with_vectors(&vfs, folder(), new).is_err(),
        "no generation twice"
    );
    let without = both.without_vectors(1);
    assert_eq!(read_all(&Part::Segment(Arc::new(without))).unwrap(), narrow);
    assert_eq!(read_all(&Part::Segment(Arc::new(first))).unwrap(), narrow);
}

#[test]
fn rows_layers_and_generations_that_are_not_there_are_refused() {
    let vfs = MemoryVfs::default();
    let layouts = [layout(4, 3, 2, Element::F32)];
    let rows = rows(&layouts, 5);
    let memory = Part::Memory(Arc::new(chunk(&layouts, &rows).unwrap()));
    let disk = Part::Segment(Arc::new(segment(&vfs, 1, &layouts, &rows).unwrap()));
    for part in [memory, disk] {
        for row in [5, 6, u32::MAX] {
            assert!(matches!(part.docid(row), Err(Error::Invalid { .. })));
            assert!(matches!(part.version(row), Err(Error::Invalid { .. })));
            assert!(matches!(part.id(row), Err(Error::Invalid { .. })));
            assert!(matches!(part.payload(row), Err(Error::Invalid { .. })));
            assert!(matches!(part.vector(4, 0, row), Err(Error::Invalid { .. })));
            assert!(matches!(
                part.plane_rows(4, 0, 0..row.saturating_add(1)),
                Err(Error::Invalid { .. })
            ));
        }
        assert!(matches!(part.plane(4, 2), Err(Error::Invalid { .. })));
        assert!(matches!(part.plane(4, u32::MAX), Err(Error::Invalid { .. })));
        assert!(matches!(part.plane(0, 0), Err(Error::Invalid { .. })));
        assert!(matches!(part.vector(5, 0, 0), Err(Error::Invalid { .. })));
        #[allow(clippy::reversed_empty_ranges)]
        for empty in [0..0, 5..5, 9..9, 7..2, u32::MAX..0] {
            assert_eq!(part.plane_rows(4, 1, empty).unwrap().bytes, b"");
        }
    }
}

#[test]
fn plans_that_make_no_sense_are_refused_before_a_file_is_made() {
    let vfs = MemoryVfs::default();
    let layouts = [layout(0, 3, 1, Element::F32)];
    let part = Part::Memory(Arc::new(chunk(&layouts, &rows(&layouts, 3)).unwrap()));
    let other = [layout(0, 4, 1, Element::F32)];
    for (layouts, rows) in [(layouts, vec![0, 3]), (layouts, vec![1, 1]), (other, vec![0])] {
        let sources = [(part.clone(), rows)];
        let refused = write_segment(&vfs, folder(), &plan(1, &layouts, &sources));
        assert!(matches!(refused, Err(Error::Invalid { .. })));
    }
    assert_eq!(vfs.names(), Vec::<String>::new());
    let mut wrong = rows(&layouts, 1);
    wrong[0].vectors[0][0].pop();
    assert!(matches!(chunk(&layouts, &wrong), Err(Error::Invalid { .. })));
    wrong[0].vectors.clear();
    assert!(matches!(chunk(&layouts, &wrong), Err(Error::Invalid { .. })));
    let long = [row(
        &layouts,
        1,
        Id::from("x".repeat(stratal_storage::ID_BYTES_MAX + 1)),
        vec![],
    )];
    assert!(matches!(chunk(&layouts, &long), Err(Error::Invalid { .. })));
}

#[test]
fn a_number_is_used_only_once() {
    let vfs = MemoryVfs::default();
    let layouts = [layout(0, 3, 1, Element::F32)];
    segment(&vfs, 1, &layouts, &rows(&layouts, 3)).unwrap();
    let before: Vec<_> = vfs.names();
    let path = folder().join(SegmentFile::Documents { number: 1 }.to_string());
    let bytes = vfs.bytes(&path);
    assert!(matches!(
        segment(&vfs, 1, &layouts, &rows(&layouts, 9)),
        Err(Error::Invalid { .. })
    ));
    assert_eq!(vfs.names(), before);
    assert_eq!(vfs.bytes(&path), bytes);
}

#[test]
fn an_empty_segment_and_one_of_one_row_are_segments_too() {
    let vfs = MemoryVfs::default();
    let layouts = [layout(0, 1, 256, Element::F16)];
    for (number, count) in [(1, 0), (2, 1)] {
        let rows = rows(&layouts, count);
        let segment = segment(&vfs, number, &layouts, &rows).unwrap();
        segment.verify_all().unwrap();
        check(&Part::Segment(Arc::new(segment)), &rows);
    }
}
