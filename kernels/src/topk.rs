//! The best k of a stream of scored keys, exactly, with ties decided by the caller.

use std::cmp::Ordering;

/// Keeps the `k` best of what is pushed: highest score first, equal scores in the order that
/// `order` gives to their keys.
///
/// The same collector merges the answers of several parts: push every part's results with the
/// external id as key, and hand [`TopK::floor`] to the next part as its score floor, so that it
/// skips what cannot get in any more. Memory grows with what is kept, not with `k`.
///
/// ```
/// use stratal_kernels::TopK;
/// let mut best = TopK::new(2, |a: &&str, b: &&str| a.cmp(b));
/// for (score, id) in [(0.5, "pear"), (0.9, "plum"), (0.5, "fig")] {
///     best.push(score, id);
/// }
/// assert_eq!(best.floor(), 0.5);
/// assert_eq!(best.into_sorted(), [(0.9, "plum"), (0.5, "fig")]);
/// ```
#[derive(Debug, Clone)]
pub struct TopK<K, F> {
    /// A binary heap with the worst entry at the root.
    entries: Vec<(f64, K)>,
    k: usize,
    floor: f64,
    order: F,
}

impl<K, F: Fn(&K, &K) -> Ordering> TopK<K, F> {
    /// A collector of at most `k` entries. `order` decides among equal scores: the lesser key wins.
    /// It must be a total order.
    pub fn new(k: usize, order: F) -> Self {
        TopK {
            entries: Vec::new(),
            k,
            floor: f64::NEG_INFINITY,
            order,
        }
    }

    /// The same, which also refuses every score below `floor`.
    pub fn with_floor(k: usize, floor: f64, order: F) -> Self {
        let mut top = TopK::new(k, order);
        top.raise_floor(floor);
        top
    }

    /// The score below which nothing can enter. It only ever rises. A score equal to it may still
    /// enter, if its key comes before that of the last entry.
    pub fn floor(&self) -> f64 {
        match self.entries.first() {
            Some(worst) if self.entries.len() == self.k => self.floor.max(worst.0),
            _ => self.floor,
        }
    }

    /// Refuses scores below `floor` from now on, for one learnt elsewhere (from another part, or
    /// another thread). What is kept already stays. NaN is ignored.
    pub fn raise_floor(&mut self, floor: f64) {
        self.floor = self.floor.max(floor);
    }

    /// Offers an entry; true if it was taken. A NaN score never is; −0.0 counts as 0.0.
    pub fn push(&mut self, score: f64, key: K) -> bool {
        if score.is_nan() || score < self.floor || self.k == 0 {
            return false;
        }
        let entry = (score + 0.0, key);
        if self.entries.len() < self.k {
            self.entries.push(entry);
            self.sift_up(self.entries.len() - 1);
            return true;
        }
        if !self.worse(&self.entries[0], &entry) {
            return false;
        }
        self.entries[0] = entry;
        self.sift_down(0);
        true
    }

    /// The number of entries kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is kept, best first. Entries below a floor that was raised later are left out.
    pub fn into_sorted(self) -> Vec<(f64, K)> {
        let TopK {
            mut entries,
            floor,
            order,
            ..
        } = self;
        entries.retain(|entry| entry.0 >= floor);
        entries.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| order(&a.1, &b.1)));
        entries
    }

    fn worse(&self, a: &(f64, K), b: &(f64, K)) -> bool {
        match a.0.total_cmp(&b.0) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => (self.order)(&a.1, &b.1) == Ordering::Greater,
        }
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.worse(&self.entries[at], &self.entries[parent]) {
                return;
            }
            self.entries.swap(at, parent);
            at = parent;
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            if left >= self.entries.len() {
                return;
            }
            let right = left + 1;
            let child = if right < self.entries.len() && self.worse(&self.entries[right], &self.entries[left])
            {
                right
            } else {
                left
            };
            if !self.worse(&self.entries[child], &self.entries[at]) {
                return;
            }
            self.entries.swap(at, child);
            at = child;
        }
    }
}
