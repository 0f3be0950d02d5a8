//! What the threads of one search tell each other: a score below which no row can matter.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// For each query the highest floor that any thread has reached. A floor of one thread, the k-th best
/// of the rows it has seen, holds for the whole search.
pub(super) struct Floors(Vec<AtomicU64>);

impl Floors {
    pub fn new(floors: &[f64]) -> Floors {
        Floors(
            floors
                .iter()
                .map(|&floor| AtomicU64::new(sortable(floor)))
                .collect(),
        )
    }

    pub fn get(&self, query: usize) -> f64 {
        unsortable(self.0[query].load(Relaxed))
    }

    pub fn raise(&self, query: usize, floor: f64) {
        self.0[query].fetch_max(sortable(floor), Relaxed);
    }
}

const SIGN: u64 = 1 << 63;

/// The bits of a number that is not NaN, changed so that they compare as it does.
fn sortable(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn unsortable(bits: u64) -> f64 {
    f64::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_only_rise() {
        let ascending = [
            f64::NEG_INFINITY,
            -1e300,
            -1.0,
            -1e-310,
            0.0,
            1e-310,
            2.0,
            f64::INFINITY,
        ];
        let floors = Floors::new(&[f64::NEG_INFINITY]);
        for floor in ascending {
            floors.raise(0, floor);
            floors.raise(0, -1e300);
            assert_eq!(floors.get(0), floor.max(-1e300));
        }
    }
}
