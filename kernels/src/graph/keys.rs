//! The keys of a beam: numbers whose order is that of the estimates, the best first.

use super::lanes::Lanes;

/// Set once the node was left.
pub(super) const LEFT: u64 = 1;

/// Places of a beam that are looked at together.
const STRETCH: usize = 32;

/// Of a node with an estimate, not left.
pub(super) fn key(score: f32, node: u32) -> u64 {
    let bits = score.to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(!node & 0x7fff_ffff) << 1
}

pub(super) fn node_of(key: u64) -> u32 {
    !(key as u32 >> 1) & 0x7fff_ffff
}

pub(super) fn score_of(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    })
}

/// Puts a key into the place that its order gives it; the last one, a smaller one, falls out. Returns the place.
///
/// # Safety
/// The processor must have the instructions of `L`; there must be a key.
#[inline(always)]
pub(super) unsafe fn insert_key<L: Lanes>(keys: &mut [u64], key: u64) -> usize {
    let mut from = (keys.len() - 1) / STRETCH * STRETCH;
    while from > 0 && keys[from - 1] < key {
        from -= STRETCH;
    }
    // SAFETY: the caller promises the instructions.
    from + unsafe { L::insert(&mut keys[from..], key) }
}
