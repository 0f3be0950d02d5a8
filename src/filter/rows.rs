//! Sets of rows of one part, a bit for each.

/// A set of rows below a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Row `r` is bit `r % 64` of word `r / 64`; bits past the bound are zero.
    words: Vec<u64>,
    bound: u32,
}

impl Rows {
    pub fn none(bound: u32) -> Rows {
        Rows {
            words: vec![0; (bound as usize).div_ceil(64)],
            bound,
        }
    }

    pub fn all(bound: u32) -> Rows {
        let mut rows = Rows {
            words: vec![u64::MAX; (bound as usize).div_ceil(64)],
            bound,
        };
        rows.cut();
        rows
    }

    /// Clears what is past the bound.
    fn cut(&mut self) {
        if let (Some(last), tail @ 1..) = (self.words.last_mut(), self.bound % 64) {
            *last &= (1 << tail) - 1;
        }
    }

    /// Takes a row in; one past the bound is left out.
    pub fn insert(&mut self, row: u32) {
        if row < self.bound {
            self.words[row as usize / 64] |= 1 << (row % 64);
        }
    }

    pub fn remove(&mut self, row: u32) {
        if row < self.bound {
            self.words[row as usize / 64] &= !(1 << (row % 64));
        }
    }

    #[cfg(test)]
    pub fn contains(&self, row: u32) -> bool {
        row < self.bound && self.words[row as usize / 64] >> (row % 64) & 1 == 1
    }

    pub fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The words, as the kernels take them.
    pub fn into_words(self) -> Vec<u64> {
        self.words
    }

    /// The rows in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let of_word = |(at, &word): (usize, &u64)| {
            std::iter::successors(Some(word), |word| Some(word & word.wrapping_sub(1)))
                .take_while(|&word| word != 0)
                .map(move |word| at as u32 * 64 + word.trailing_zeros())
        };
        self.words.iter().enumerate().flat_map(of_word)
    }

    pub fn intersect(&mut self, other: &Rows) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    pub fn unite(&mut self, other: &Rows) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }

    /// Takes in rows from words as they are written: little-endian, a bit a row.
    pub fn unite_bits(&mut self, bytes: &[u8]) {
        for (word, bytes) in self.words.iter_mut().zip(bytes.as_chunks().0) {
            *word |= u64::from_le_bytes(*bytes);
        }
        self.cut();
    }

    pub fn subtract(&mut self, other: &Rows) {
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(a, b)| *a &= !b);
    }

    /// All others below the bound.
    pub fn complement(mut self) -> Rows {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.cut();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_keep_to_their_bound() {
        for bound in [0, 1, 63, 64, 65, 200] {
            let all = Rows::all(bound);
            assert_eq!(all.len(), u64::from(bound));
            assert!(all.iter().eq(0..bound));
            assert_eq!(all.clone().complement(), Rows::none(bound));
            let mut even = Rows::none(bound);
            (0..bound + 70).step_by(2).for_each(|row| even.insert(row));
            let odd = even.clone().complement();
            assert!(odd.iter().eq((0..bound).filter(|row| row % 2 == 1)));
            assert!(!even.contains(bound) && even.contains(0) == (bound > 0));
            let mut both = even.clone();
            both.unite(&odd);
            assert_eq!(both, all);
            both.subtract(&odd);
            assert_eq!(both, even);
            both.intersect(&odd);
            assert!(both.is_empty());
        }
    }
}
