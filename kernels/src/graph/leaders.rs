//! The documents of which a walk found the best vectors, where documents have several.

use super::lanes::Lanes;
use super::search::{insert_key, key, node_of, score_of};

/// The best vector of each of the best documents.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    /// Best first, as in a walk's beam.
    keys: Vec<u64>,
    /// A bit for each document that was ever among them, and these documents.
    known: Vec<u32>,
    met: Vec<u32>,
    most: usize,
}

impl Leaders {
    /// None of so many documents, and room for `most`.
    pub fn clear(&mut self, documents: usize, most: usize) {
        self.keys.clear();
        self.most = most;
        for document in self.met.drain(..) {
            self.known[document as usize / 32] = 0;
        }
        self.known.resize(documents.div_ceil(32), 0);
    }

    /// What a vector must score more than to be among them.
    #[inline(always)]
    pub fn worst(&self) -> f32 {
        match self.keys.last() {
            Some(&last) if self.keys.len() >= self.most => score_of(last),
            _ => f32::NEG_INFINITY,
        }
    }

    /// The score of the document in a place, from 0.
    #[inline(always)]
    pub fn score(&self, place: usize) -> Option<f32> {
        self.keys.get(place).map(|&key| score_of(key))
    }

    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Takes a vector in, if it is better than the last, and than its document's so far.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`, and the node be of one of the documents, of `layers` each.
    #[inline(always)]
    pub unsafe fn offer<L: Lanes>(&mut self, score: f32, node: u32, layers: u32) {
        let key = key(score, node);
        if self.keys.len() >= self.most && self.keys.last().is_some_and(|&last| key <= last) {
            return;
        }
        let document = node / layers;
        let known = &mut self.known[document as usize / 32];
        if *known >> (document % 32) & 1 == 0 {
            *known |= 1 << (document % 32);
            self.met.push(document);
        } else if let Some(place) = self
            .keys
            .iter()
            .position(|&other| node_of(other) / layers == document)
        {
            if self.keys[place] >= key {
                return;
            }
            self.keys.remove(place);
        }
        if self.keys.len() < self.most {
            self.keys.push(0);
        }
        // SAFETY: the caller promises the instructions.
        unsafe { insert_key::<L>(&mut self.keys, key) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::lanes::Portable;
    use crate::numbers::Numbers;

    #[test]
    fn each_document_is_there_once_by_its_best_vector() {
        let mut leaders = Leaders::default();
        let mut numbers = Numbers(5);
        for most in [1, 2, 7, 40] {
            leaders.clear(30, most);
            let mut best = [f32::NEG_INFINITY; 30];
            for _ in 0..400 {
                let (score, node) = (numbers.below(1000) as f32, numbers.below(90) as u32);
                // SAFETY: plain Rust runs everywhere; the nodes are of thirty documents of three.
                unsafe { leaders.offer::<Portable>(score, node, 3) };
                let own = &mut best[node as usize / 3];
                *own = own.max(score);
                let mut expected: Vec<f32> = best.iter().copied().filter(|score| score.is_finite()).collect();
                expected.sort_by(|a, b| b.total_cmp(a));
                expected.truncate(most);
                let scores: Vec<f32> = leaders.keys().iter().map(|&key| score_of(key)).collect();
                assert_eq!(scores, expected);
                let mut documents: Vec<u32> = leaders.keys().iter().map(|&key| node_of(key) / 3).collect();
                documents.sort_unstable();
                documents.dedup();
                assert_eq!(documents.len(), expected.len());
            }
        }
    }
}
