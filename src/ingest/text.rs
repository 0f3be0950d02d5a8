//! Plain text, cut at paragraphs.

use super::passages::{Passage, PassageLength, paragraph_starts, split};

/// Cuts plain text into passages, at blank lines where it can.
///
/// Every character that is not white space is in exactly one passage, in order; no passage is blank or longer than
/// the limit.
pub fn text_passages(text: &str, limit: PassageLength) -> Vec<Passage> {
    let passages = split(text, 0..text.len(), &paragraph_starts(text), limit);
    passages
        .into_iter()
        .map(|range| Passage { title: None, range })
        .collect()
}
