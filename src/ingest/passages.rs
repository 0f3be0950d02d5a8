//! Passages: slices of a text that are short enough for an encoder.

use std::ops::Range;

use super::error::IngestError;

/// The least passage length that is allowed.
pub const PASSAGE_WORDS_LEAST: usize = 8;

/// How long a passage may be.
///
/// The length of a text is counted in words as an encoder's vocabulary cuts them, roughly: a run of letters and
/// digits is one word for every eight characters it has begun, a punctuation mark or symbol is one, and a character
/// of a script that writes without spaces (from U+0E00 on: Thai, Chinese, Japanese, emoji) is one. So a limit holds
/// for code and for languages without spaces too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassageLength {
    words: usize,
}

impl PassageLength {
    /// At most so many words, at least [`PASSAGE_WORDS_LEAST`].
    ///
    /// # Errors
    /// [`IngestError::PassageLength`] for less.
    pub fn words(words: usize) -> Result<PassageLength, IngestError> {
        if words < PASSAGE_WORDS_LEAST {
            return Err(IngestError::PassageLength {
                got: words,
                least: PASSAGE_WORDS_LEAST,
            });
        }
        Ok(PassageLength { words })
    }

    /// The limit in words.
    pub fn get(self) -> usize {
        self.words
    }
}

/// 200 words: English prose of that length fits the 256 word pieces of small sentence encoders.
impl Default for PassageLength {
    fn default() -> PassageLength {
        PassageLength { words: 200 }
    }
}

/// A passage of a text: a slice of it, between characters, neither empty nor blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// What it stands under: a Markdown file's headings from the outermost to the innermost, joined by ` › `.
    pub title: Option<String>,
    /// Its place in the text, in bytes.
    pub range: Range<usize>,
}

/// The length of a text in words, as [`PassageLength`] counts.
pub fn length_in_words(text: &str) -> usize {
    let mut counter = Counter::default();
    text.chars().for_each(|c| counter.take(c));
    counter.words
}

#[derive(Default)]
struct Counter {
    words: usize,
    run: usize,
}

impl Counter {
    const RUN: usize = 8;

    fn take(&mut self, c: char) {
        if c.is_whitespace() {
            self.run = 0;
        } else if c >= '\u{e00}' || !c.is_alphanumeric() {
            self.run = 0;
            self.words += 1;
        } else {
            if self.run.is_multiple_of(Self::RUN) {
                self.words += 1;
            }
            self.run += 1;
        }
    }
}

/// Where a text that is too long is cut, the better places first.
#[derive(Clone, Copy)]
enum Cut {
    Paragraph,
    Sentence,
    Line,
    Word,
    Character,
}

impl Cut {
    fn next(self) -> Cut {
        match self {
            Cut::Paragraph => Cut::Sentence,
            Cut::Sentence => Cut::Line,
            Cut::Line => Cut::Word,
            Cut::Word | Cut::Character => Cut::Character,
        }
    }
}

/// Cuts a part of a text into passages of at most `limit` words, none of them blank.
///
/// `blocks` are places inside the part, in order, at which it is cut best; between them it is cut between
/// paragraphs, then sentences, lines, words and, if a word is longer than a passage, characters. Blocks are joined
/// as long as they fit, and a part that does not fit is cut into passages of like length.
pub(super) fn split(
    text: &str,
    part: Range<usize>,
    blocks: &[usize],
    limit: PassageLength,
) -> Vec<Range<usize>> {
    let mut passages = Vec::new();
    let pieces = between(part, blocks.iter().copied());
    pack(text, pieces, Cut::Paragraph, limit.words, &mut passages);
    passages
}

/// Blank lines end paragraphs; gives the start of each.
pub(super) fn paragraph_starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let (mut at, mut after_blank) = (0, false);
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        if after_blank && !blank {
            starts.push(at);
        }
        after_blank = blank;
        at += line.len();
    }
    starts
}

fn between(part: Range<usize>, cuts: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = part.start;
    for cut in cuts.filter(|&cut| cut < part.end) {
        if cut > start {
            pieces.push(start..cut);
            start = cut;
        }
    }
    if start < part.end {
        pieces.push(start..part.end);
    }
    pieces
}

fn pack(text: &str, pieces: Vec<Range<usize>>, cut: Cut, limit: usize, out: &mut Vec<Range<usize>>) {
    let lengths: Vec<usize> = pieces
        .iter()
        .map(|piece| length_in_words(&text[piece.clone()]))
        .collect();
    let total: usize = lengths.iter().sum();
    let like = total.div_ceil(total.div_ceil(limit).max(1));
    let mut open: Option<(Range<usize>, usize)> = None;
    for (piece, length) in pieces.into_iter().zip(lengths) {
        if let Some((range, so_far)) = open.take() {
            if so_far + length <= limit && so_far < like {
                open = Some((range.start..piece.end, so_far + length));
                continue;
            }
            keep(text, range, out);
        }
        if length <= limit {
            open = Some((piece, length));
        } else if let Cut::Character = cut {
            cut_characters(text, piece, limit, out);
        } else {
            let finer = cuts(text, piece, cut);
            pack(text, finer, cut.next(), limit, out);
        }
    }
    if let Some((range, _)) = open {
        keep(text, range, out);
    }
}

fn keep(text: &str, range: Range<usize>, out: &mut Vec<Range<usize>>) {
    let slice = &text[range.clone()];
    let start = range.start + (slice.len() - slice.trim_start().len());
    let length = slice.trim().len();
    if length > 0 {
        out.push(start..start + length);
    }
}

fn cuts(text: &str, piece: Range<usize>, cut: Cut) -> Vec<Range<usize>> {
    let slice = &text[piece.clone()];
    let starts: Vec<usize> = match cut {
        Cut::Paragraph => paragraph_starts(slice),
        Cut::Sentence => sentence_starts(slice),
        Cut::Line => slice.match_indices('\n').map(|(at, _)| at + 1).collect(),
        Cut::Word | Cut::Character => word_starts(slice),
    };
    let start = piece.start;
    between(piece, starts.into_iter().map(|at| start + at))
}

/// A sentence ends at `.`, `!` or `?`, closing quotes and brackets included, before white space; in Chinese and
/// Japanese also without.
fn sentence_starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let (mut ended, mut blank) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            '。' | '！' | '？' => (ended, blank) = (true, true),
            '.' | '!' | '?' => (ended, blank) = (true, false),
            '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '」' | '』' if ended => {}
            _ if c.is_whitespace() => blank = ended,
            _ => {
                if ended && blank {
                    starts.push(at);
                }
                (ended, blank) = (false, false);
            }
        }
    }
    starts
}

fn word_starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut after_blank = false;
    for (at, c) in text.char_indices() {
        if after_blank && !c.is_whitespace() {
            starts.push(at);
        }
        after_blank = c.is_whitespace();
    }
    starts
}

fn cut_characters(text: &str, piece: Range<usize>, limit: usize, out: &mut Vec<Range<usize>>) {
    let mut start = piece.start;
    let mut counter = Counter::default();
    for (offset, c) in text[piece.clone()].char_indices() {
        let at = piece.start + offset;
        counter.take(c);
        if counter.words > limit {
            keep(text, start..at, out);
            start = at;
            counter = Counter::default();
            counter.take(c);
        }
    }
    keep(text, start..piece.end, out);
}
