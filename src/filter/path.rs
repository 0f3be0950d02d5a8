//! Names of fields: keys of the metadata, one inside the other, or what a document has beside its metadata.

use std::fmt;

use super::FilterError;
use super::error::short;

/// Which value of a document a test looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FieldPath {
    /// The document's id: a number or a text.
    Id,
    /// Its title.
    Title,
    /// Keys of its metadata from the outside in; one at least.
    Metadata(Vec<String>),
}

/// Words that begin something else than the name of a field.
const RESERVED: [&str; 10] = [
    "and", "or", "not", "in", "is", "between", "exists", "true", "false", "null",
];

pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED
        .iter()
        .any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// Whether a key can begin so without backticks.
pub(super) fn begins_a_word(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '$' | '@')
}

pub(super) fn goes_on_in_a_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '-')
}

impl FieldPath {
    /// Reads a name as a caller writes it in a program: keys between dots, `@id`, `@title`. A key that holds a dot
    /// or a backtick, or begins with `@`, stands in backticks, where `\` escapes.
    pub fn parse(name: &str) -> Result<FieldPath, FilterError> {
        let refuse = |what: &str| {
            Err(FilterError::Path {
                path: name.to_owned(),
                what: what.to_owned(),
            })
        };
        let mut keys = Vec::new();
        let mut rest = name;
        loop {
            let key = match rest.strip_prefix('`') {
                Some(quoted) => match unquoted(quoted, '`') {
                    Ok((key, length)) => {
                        rest = &quoted[length..];
                        key
                    }
                    Err((_, what)) => return refuse(&what),
                },
                None => {
                    let end = rest.find(['.', '`']).unwrap_or(rest.len());
                    let key = rest[..end].to_owned();
                    rest = &rest[end..];
                    if key.is_empty() {
                        return refuse("a key is missing; one of no letters at all is written ``");
                    }
                    if keys.is_empty() && key.starts_with('@') {
                        return match rest.is_empty() {
                            true => FieldPath::special(&key),
                            false => refuse(NOTHING_INSIDE),
                        };
                    }
                    key
                }
            };
            keys.push(key);
            match rest.strip_prefix('.') {
                Some(tail) => rest = tail,
                None if rest.is_empty() => return Ok(FieldPath::Metadata(keys)),
                None => return refuse("a dot is missing before or after a key in backticks"),
            }
        }
    }

    /// What begins with `@`.
    pub fn special(name: &str) -> Result<FieldPath, FilterError> {
        match name {
            "@id" => Ok(FieldPath::Id),
            "@title" => Ok(FieldPath::Title),
            _ => Err(FilterError::Path {
                path: name.to_owned(),
                what: format!(
                    "beside its metadata a document has @id and @title; a key that begins with @ is written `{}`, backticks included",
                    short(name)
                ),
            }),
        }
    }
}

/// What is wrong with `@id.x`.
pub(super) const NOTHING_INSIDE: &str = "there is nothing inside @id and @title";

/// In a form that both [`FieldPath::parse`] and the text form read as the same path.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match self {
            FieldPath::Id => return f.write_str("@id"),
            FieldPath::Title => return f.write_str("@title"),
            FieldPath::Metadata(keys) => keys,
        };
        for (place, key) in keys.iter().enumerate() {
            if place > 0 {
                f.write_str(".")?;
            }
            let mut letters = key.chars();
            let is_plain = letters.next().is_some_and(|c| c != '@' && begins_a_word(c))
                && letters.all(goes_on_in_a_word)
                && !(place == 0 && is_reserved(key));
            match is_plain {
                true => f.write_str(key)?,
                false => write_quoted(f, key, '`')?,
            }
        }
        Ok(())
    }
}

/// Writes a text between quotes so that [`unquoted`] reads it back.
pub(super) fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    use fmt::Write;

    f.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            c if c == quote => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char(quote)
}

/// The text up to a closing quote, and the bytes up to behind that; or where and what is wrong.
pub(super) fn unquoted(source: &str, quote: char) -> Result<(String, usize), (usize, String)> {
    let mut text = String::new();
    let mut letters = source.char_indices();
    while let Some((at, c)) = letters.next() {
        if c == quote {
            return Ok((text, at + c.len_utf8()));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        match letters.next().map(|(_, c)| c) {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some(c @ ('\\' | '"' | '\'' | '`' | '/')) => text.push(c),
            Some('u') => {
                let (c, length) = escaped_letter(letters.as_str()).ok_or_else(|| {
                    (
                        at,
                        "`\\u` takes four hexadecimal digits, or up to six in braces".to_owned(),
                    )
                })?;
                text.push(c);
                letters.nth(length - 1);
            }
            Some(other) => {
                return Err((
                    at,
                    format!("`\\{other}` stands for nothing; a backslash itself is written `\\\\`"),
                ));
            }
            None => break,
        }
    }
    Err((0, format!("the closing {quote} is missing")))
}

/// The character behind `\u`, and the characters it takes: `00e9` or `{1f600}`, or a pair of surrogates as JSON has.
fn escaped_letter(source: &str) -> Option<(char, usize)> {
    let hexadecimal = |digits: &str| {
        let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        all.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    };
    if let Some(braced) = source.strip_prefix('{') {
        let end = braced.find('}').filter(|&end| end <= 6)?;
        return Some((char::from_u32(hexadecimal(&braced[..end])?)?, end + 2));
    }
    let first = hexadecimal(source.get(..4)?)?;
    if let Some(c) = char::from_u32(first) {
        return Some((c, 4));
    }
    let second = hexadecimal(source.get(4..10)?.strip_prefix("\\u")?)?;
    char::decode_utf16([first as u16, second as u16])
        .next()?
        .ok()
        .map(|c| (c, 10))
}
