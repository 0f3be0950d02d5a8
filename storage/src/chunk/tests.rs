use super::*;

fn chunk_of(ids: &[Id]) -> Chunk {
    let rows: Vec<_> = (1..)
        .zip(ids)
        .map(|(docid, id)| ChunkRow {
            docid,
            version: 1,
            id,
            payload: Arc::from([]),
            vectors: Vec::new(),
        })
        .collect();
    Chunk::from_rows(&Arc::from([]), &rows).unwrap()
}

#[test]
fn ids_whose_hashes_collide_are_told_apart() {
    let ids: Vec<Id> = (0..40u64)
        .map(Id::from)
        .chain((0..40).map(|n| Id::from(n.to_string())))
        .collect();
    let mut chunk = chunk_of(&ids);
    // Three hashes for all, the least and the greatest among them.
    let hash = |row: u32| [0, 7, u64::MAX][row as usize % 3];
    chunk.hashes = (0..chunk.rows()).map(|row| (hash(row), row)).collect();
    chunk.hashes.sort_unstable();
    let dead = RoaringBitmap::from_iter([3, 4, 79]);
    let (merged, maps) = Chunk::merge(&[(&chunk, &dead), (&chunk, &RoaringBitmap::new())]).unwrap();
    for (row, id) in (0..).zip(&ids) {
        assert_eq!(chunk.find_hashed(hash(row), id), [row]);
        assert_eq!(chunk.find_hashed(hash(row + 1), id), [] as [u32; 0]);
        let expected: Vec<u32> = maps
            .iter()
            .map(|map| map[row as usize])
            .filter(|&row| row != ROW_DROPPED)
            .collect();
        assert_eq!(merged.find_hashed(hash(row), id), expected);
    }

    let folder = tempfile::tempdir().unwrap();
    let vfs = crate::vfs::RealVfs;
    let sources = [(crate::Part::Memory(Arc::new(merged)), (0..157).rev().collect())];
    let plan = crate::SegmentPlan {
        number: 1,
        collection: 1,
        layouts: &[],
        sources: &sources,
    };
    let segment = crate::write_segment(&vfs, folder.path(), &plan).unwrap();
    for (row, id) in (0..).zip(&ids) {
        let mut expected: Vec<u32> = maps
            .iter()
            .map(|map| map[row as usize])
            .filter(|&row| row != ROW_DROPPED)
            .map(|row| 156 - row)
            .collect();
        expected.sort_unstable();
        assert_eq!(segment.find_hashed(hash(row), id).unwrap(), expected);
    }
}

#[test]
fn chunks_of_different_generations_are_not_joined() {
    let layout = Layout {
        generation: 0,
        dimension: 2,
        layers: 1,
        element: crate::Element::F32,
    };
    let id = Id::from(1);
    let row = ChunkRow {
        docid: 1,
        version: 1,
        id: &id,
        payload: Arc::from([]),
        vectors: vec![&[0; 8]],
    };
    let one = Chunk::from_rows(&Arc::from([layout]), &[row]).unwrap();
    let none = chunk_of(&[Id::from(2)]);
    let dead = RoaringBitmap::new();
    assert!(matches!(
        Chunk::merge(&[(&one, &dead), (&none, &dead)]),
        Err(Error::Invalid { .. })
    ));
    assert_eq!(Chunk::merge(&[]).unwrap().0.rows(), 0);
}

#[test]
fn a_guessed_place_is_the_one_that_searching_from_the_start_finds() {
    for rows in [0usize, 1, 2, 7, 100, 3000] {
        for spread in [u64::MAX, 1 << 40, 3] {
            let layouts: Arc<[Layout]> = Arc::from([]);
            let mut chunk = Chunk::with_capacity(&layouts, 0);
            let mut state = 7u64;
            for row in 0..rows {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                chunk.hashes.push((state % spread, row as u32));
            }
            chunk.hashes.sort_unstable();
            let near = chunk
                .hashes
                .iter()
                .flat_map(|&(hash, _)| [hash.saturating_sub(1), hash, hash.saturating_add(1)]);
            for hash in near.chain([0, 1, u64::MAX / 2, u64::MAX]) {
                let expected = chunk.hashes.partition_point(|&(other, _)| other < hash);
                assert_eq!(chunk.first_not_below(hash), expected, "{hash} of {rows}");
            }
        }
    }
}
