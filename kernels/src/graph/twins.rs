//! Documents of equal vectors: one of them is a node, the others are found with it.

use crate::Plane;

/// Splits off the rows whose vectors are equal, byte by byte, to those of an earlier row: the rows that
/// are left, ascending, and pairs of such a row and its twin.
pub(super) fn set_apart(planes: &[Plane], rows: Vec<u32>) -> (Vec<u32>, Vec<[u32; 2]>) {
    let mut hashed: Vec<(u64, u32)> = rows.iter().map(|&row| (hash(planes, row), row)).collect();
    hashed.sort_unstable();
    let mut twins = Vec::new();
    for run in hashed.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        let mut firsts: Vec<u32> = Vec::new();
        for &(_, row) in run {
            match firsts.iter().find(|&&first| equal(planes, first, row)) {
                Some(&first) => twins.push([first, row]),
                // Rows that share a hash and nothing else are not looked for without end.
                None if firsts.len() < 8 => firsts.push(row),
                None => {}
            }
        }
    }
    if twins.is_empty() {
        return (rows, twins);
    }
    let mut second: Vec<u32> = twins.iter().map(|&[_, row]| row).collect();
    second.sort_unstable();
    let left = rows
        .into_iter()
        .filter(|row| second.binary_search(row).is_err())
        .collect();
    (left, twins)
}

fn hash(planes: &[Plane], row: u32) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for plane in planes {
        let (words, rest) = plane.row_bytes(row as usize).as_chunks::<8>();
        for word in words {
            state = (state ^ u64::from_le_bytes(*word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            state ^= state >> 32;
        }
        for &byte in rest {
            state = (state ^ u64::from(byte)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        }
    }
    state ^ state >> 29
}

fn equal(planes: &[Plane], a: u32, b: u32) -> bool {
    planes
        .iter()
        .all(|plane| plane.row_bytes(a as usize) == plane.row_bytes(b as usize))
}
