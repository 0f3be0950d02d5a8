//! Numbers that depend on a seed and a place alone, so that any part of a run can be made again.

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A key for a place: a seed and any number of coordinates.
pub(crate) fn key(seed: u64, place: &[u64]) -> u64 {
    place.iter().fold(mix(seed), |key, &at| mix(key ^ mix(at)))
}

/// A number below `n`, which is not 0.
pub(crate) fn below(key: u64, n: usize) -> usize {
    ((u128::from(mix(key)) * n as u128) >> 64) as usize
}

/// The numbers `0..n` in an order that `seed` decides (Fisher and Yates).
pub(crate) fn permutation(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, below(seed ^ mix(last as u64), last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_holds_every_number_once_and_follows_its_seed() {
        for n in [0, 1, 2, 100] {
            let mut order = permutation(n, 7);
            assert_eq!(order, permutation(n, 7));
            assert!(n < 100 || order != permutation(n, 8));
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn numbers_below_a_bound_fall_everywhere_alike() {
        let mut counts = [0; 10];
        (0..10_000).for_each(|i| counts[below(i, 10)] += 1);
        assert!(
            counts.iter().all(|&count| (850..1150).contains(&count)),
            "{counts:?}"
        );
    }
}
