//! What a power cut leaves of unsynced writes and names.

use super::image::{Image, Write};
use super::names::{Change, Names, drop_orphans};

/// Sectors reach the disk whole.
const SECTOR: u64 = 512;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and equal for equal seeds everywhere.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// How much of what was not synced survives this cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Nothing,
    Everything,
    Some,
}

pub(super) fn mood(chance: &mut Chance) -> Mood {
    match chance.below(8) {
        0 => Mood::Nothing,
        1 => Mood::Everything,
        _ => Mood::Some,
    }
}

/// The names after the cut: of the pending changes a prefix survives, or each by itself.
pub(super) fn surviving_names(durable: &Names, pending: &[Change], mood: Mood, chance: &mut Chance) -> Names {
    let mut names = durable.clone();
    let kept = match mood {
        Mood::Nothing => 0,
        Mood::Everything => pending.len(),
        Mood::Some => chance.below(pending.len() as u64 + 1) as usize,
    };
    let each_by_itself = mood == Mood::Some && chance.one_in(2);
    for (n, change) in pending.iter().enumerate() {
        let survives = if each_by_itself {
            chance.one_in(2)
        } else {
            n < kept
        };
        if survives {
            change.apply(&mut names);
        }
    }
    drop_orphans(&mut names);
    names
}

/// A file after the cut: any of the unsynced writes survive, whole or torn, in any order of arrival.
pub(super) fn surviving_image(
    durable: &Image,
    live_len: u64,
    unsynced: &[Write],
    mood: Mood,
    chance: &mut Chance,
) -> Image {
    let mut image = durable.clone();
    if unsynced.is_empty() || mood == Mood::Nothing {
        return image;
    }
    let durable_len = durable.len();
    if mood == Mood::Some && live_len > durable_len && chance.one_in(3) {
        // The length reached the disk before the contents did: the new blocks hold what they held.
        image.set_len(live_len);
        if chance.one_in(2) {
            for block in sectors(durable_len, live_len.min(durable_len + 16 * SECTOR)) {
                let garbage: Vec<u8> = (block.0..block.1).map(|_| chance.next() as u8).collect();
                image.write(&garbage, block.0);
            }
        }
    }
    for write in unsynced {
        match (mood, chance.below(4)) {
            (Mood::Everything, _) | (_, 0) => write.apply(&mut image),
            (_, 1) => {}
            (_, 2) => torn_by_sectors(write, &mut image, chance),
            _ => write.apply_part(&mut image, 0, chance.below(write.len() + 1)),
        }
    }
    if mood == Mood::Some && image.len() > durable_len && chance.one_in(4) {
        // Contents reached the disk, the new length only in part.
        let shorter = durable_len + chance.below(image.len() - durable_len + 1);
        image.set_len(shorter);
    }
    image
}

fn sectors(start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = start;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let block = (at, ((at / SECTOR + 1) * SECTOR).min(end));
            at = block.1;
            block
        })
    })
}

fn torn_by_sectors(write: &Write, image: &mut Image, chance: &mut Chance) {
    for (start, end) in sectors(write.offset, write.offset + write.len()) {
        if chance.one_in(2) {
            write.apply_part(image, start - write.offset, end - write.offset);
        }
    }
}
