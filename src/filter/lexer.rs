//! The words and signs of a filter's text.

use super::FilterError;
use super::number::Number;
use super::path::{begins_a_word, goes_on_in_a_word, unquoted};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A keyword or the name of a field.
    Word(String),
    /// A key in backticks.
    Key(String),
    Text(String),
    Number(Number),
    /// An operator, bracket, comma or dot.
    Sign(&'static str),
    End,
}

/// A token and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub token: Token,
    pub at: usize,
}

/// Longer signs before those they begin with.
static SIGNS: [(&str, &str); 20] = [
    ("<=", "<="),
    ("<>", "!="),
    ("<", "<"),
    (">=", ">="),
    (">", ">"),
    ("==", "="),
    ("=", "="),
    ("!=", "!="),
    ("≠", "!="),
    ("≤", "<="),
    ("≥", ">="),
    ("!", "!"),
    ("&&", "and"),
    ("||", "or"),
    ("(", "("),
    (")", ")"),
    ("[", "["),
    ("]", "]"),
    (",", ","),
    (".", "."),
];

/// Takes a text apart, one token at a time.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    pub fn next(&mut self) -> Result<Placed, FilterError> {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        let at = self.at;
        let (token, length) = self.read(rest)?;
        self.at += length;
        Ok(Placed { token, at })
    }

    fn refuse<T>(&self, offset: usize, what: impl Into<String>) -> Result<T, FilterError> {
        Err(FilterError::at(self.text, self.at + offset, what))
    }

    fn read(&self, rest: &str) -> Result<(Token, usize), FilterError> {
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, 0));
        };
        if let quote @ ('"' | '\'' | '`') = first {
            return match unquoted(&rest[1..], quote) {
                Ok((text, length)) if quote == '`' => Ok((Token::Key(text), 1 + length)),
                Ok((text, length)) => Ok((Token::Text(text), 1 + length)),
                // An escape is told where it stands, a missing quote where it was opened.
                Err((0, what)) => self.refuse(0, what),
                Err((offset, what)) => self.refuse(1 + offset, what),
            };
        }
        if begins_a_word(first) {
            let length = rest
                .find(|c| !goes_on_in_a_word(c) && c != '@')
                .unwrap_or(rest.len());
            return Ok((Token::Word(rest[..length].to_owned()), length));
        }
        let signed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        if signed.starts_with(|c: char| c.is_ascii_digit()) {
            return self.number(rest);
        }
        match SIGNS.iter().find(|(written, _)| rest.starts_with(written)) {
            Some((written, sign)) => Ok((Token::Sign(sign), written.len())),
            None => self.refuse(0, format!("{first:?} means nothing here; texts stand in quotes")),
        }
    }

    fn number(&self, rest: &str) -> Result<(Token, usize), FilterError> {
        let bytes = rest.as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let whole = digits(usize::from(!is_digit(0)));
        let mut end = whole;
        if bytes.get(end) == Some(&b'.') && is_digit(end + 1) {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if is_digit(end + 1 + signed) {
                end = digits(end + 1 + signed);
            }
        }
        if rest[end..].starts_with(|c: char| goes_on_in_a_word(c) || c == '.') {
            let what = "a number ends with a digit; texts stand in quotes, and a key that begins with a digit in backticks";
            return self.refuse(0, what);
        }
        let written = rest[..end].trim_start_matches('+');
        let number = match (end == whole).then(|| written.parse::<i128>()) {
            Some(Ok(value)) if (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value) => {
                Some(Number::Whole(value))
            }
            // As documents are read: what 64 bits do not hold is the nearest f64.
            _ => written.parse::<f64>().ok().and_then(Number::from_f64),
        };
        match number {
            Some(number) => Ok((Token::Number(number), end)),
            None => self.refuse(0, "the number is too large: documents hold at most 1.797e308"),
        }
    }
}
