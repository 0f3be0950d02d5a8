//! What a filter is refused for.

use std::borrow::Cow;

use super::DEPTH_MAX;

/// Why a filter cannot be used. Told before anything is searched or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// There is no filter in the text: an empty one would let everything through.
    #[error("the filter is empty: write a test, for example `year >= 2020`")]
    Empty,
    /// The text does not parse.
    #[error("the filter does not parse, line {line}, column {column}: {what}\n{shown}")]
    Syntax {
        /// What was found, and what would be right.
        what: String,
        /// Where: bytes from the start of the text.
        at: usize,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// The line, and a caret below the place.
        shown: String,
    },
    /// Tests are nested too deeply.
    #[error(
        "the filter nests deeper than {DEPTH_MAX} levels of `and`, `or`, `not` and parentheses: flatten it"
    )]
    Depth,
    /// The name of a field cannot be read.
    #[error("{:?} is no name of a field: {what}", short(path))]
    Path {
        /// The name given.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A number that JSON does not have: documents hold finite ones only.
    #[error("a filter cannot compare with {value}: give a finite number")]
    NotFinite {
        /// The number, as text.
        value: String,
    },
    /// A time that cannot be read.
    #[error(
        "{:?} is no point in time: write it as RFC 3339 does, with an offset, for example 2024-01-31T23:59:00Z or 2024-01-31T23:59:00+01:00",
        short(text)
    )]
    Time {
        /// The time given.
        text: String,
    },
    /// A value without an order is compared by one.
    #[error("{value} is neither more nor less than anything: use `=` or `!=`")]
    Unordered {
        /// The value.
        value: &'static str,
    },
    /// The two ends of a range are of different kinds.
    #[error("nothing is between {low} and {high}: both ends must be numbers, or texts, or times")]
    Range {
        /// The kind of the lower end.
        low: &'static str,
        /// The kind of the upper end.
        high: &'static str,
    },
}

/// Characters of a line that are shown before and after a place, and of a word that is quoted.
const SHOWN: usize = 60;

/// The beginning of a word that a message quotes, which may be as long as a caller's text.
pub(super) fn short(word: &str) -> Cow<'_, str> {
    match word.char_indices().nth(SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}…", &word[..end])),
        None => Cow::Borrowed(word),
    }
}

impl FilterError {
    /// A syntax error at a byte of the text.
    pub(super) fn at(text: &str, at: usize, what: impl Into<String>) -> FilterError {
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let (before, after) = text.split_at(at);
        let line = before.matches('\n').count() + 1;
        let before = before.rsplit('\n').next().unwrap_or_default();
        let after = after.split('\n').next().unwrap_or_default();
        let column = before.chars().count() + 1;
        // A control character would move the caret away from its place.
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let (skipped, mut shown) = match column - 1 > SHOWN {
            true => (column - 1 - SHOWN, "…".to_owned()),
            false => (0, String::new()),
        };
        let caret = column - 1 - skipped + shown.chars().count();
        shown.extend(before.chars().skip(skipped).map(visible));
        shown.extend(after.chars().take(SHOWN).map(visible));
        if after.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        FilterError::Syntax {
            what: what.into(),
            at,
            line,
            column,
            shown: format!("  {}\n  {}^", shown.trim_end(), " ".repeat(caret)),
        }
    }
}
