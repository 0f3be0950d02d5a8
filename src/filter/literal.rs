//! Values in a filter.

use std::fmt;
use std::time::SystemTime;

use super::FilterError;
use super::instant::Instant;
use super::number::Number;
use super::path::write_quoted;

/// A value that a test compares with: a number, a text, a boolean, [null](Literal::null), or a [`time`].
///
/// It is made by `into` from Rust's integers and floats, texts, booleans and [`SystemTime`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal(pub(super) Result<Scalar, FilterError>);

/// What a [`Literal`] stands for. The order puts kinds apart and is the values' own within a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Time(Instant),
}

impl Literal {
    /// JSON's null: what [`FilterField::is_null`](super::FilterField::is_null) asks for.
    pub fn null() -> Literal {
        Literal(Ok(Scalar::Null))
    }
}

/// A point in time, written as RFC 3339 does and with an offset: `2024-01-31T23:59:00Z`,
/// `2024-01-31T23:59+01:00`. Compared with texts of the documents that are points in time themselves.
///
/// A bad time makes a filter that is refused when it is used ([`FilterError::Time`]).
pub fn time(text: impl AsRef<str>) -> Literal {
    let text = text.as_ref();
    let instant = Instant::parse(text).map(Scalar::Time);
    Literal(instant.ok_or_else(|| FilterError::Time {
        text: text.to_owned(),
    }))
}

impl Scalar {
    /// What kind of value it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Scalar::Null => "null",
            Scalar::Bool(_) => "a boolean",
            Scalar::Number(_) => "a number",
            Scalar::Text(_) => "a text",
            Scalar::Time(_) => "a time",
        }
    }

    /// Refuses what is neither more nor less than anything.
    pub fn ordered(self) -> Result<Scalar, FilterError> {
        let value = match self {
            Scalar::Null => "null",
            Scalar::Bool(true) => "true",
            Scalar::Bool(false) => "false",
            ordered => return Ok(ordered),
        };
        Err(FilterError::Unordered { value })
    }
}

impl From<bool> for Literal {
    fn from(value: bool) -> Literal {
        Literal(Ok(Scalar::Bool(value)))
    }
}

impl From<&str> for Literal {
    fn from(value: &str) -> Literal {
        Literal(Ok(Scalar::Text(value.to_owned())))
    }
}

impl From<String> for Literal {
    fn from(value: String) -> Literal {
        Literal(Ok(Scalar::Text(value)))
    }
}

impl From<&String> for Literal {
    fn from(value: &String) -> Literal {
        Literal::from(value.as_str())
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {
        $(impl From<$integer> for Literal {
            fn from(value: $integer) -> Literal {
                Literal(Ok(Scalar::Number(Number::Whole(value as i128))))
            }
        })*
    };
}

from_integers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

/// NaN and infinities make a filter that is refused when it is used.
impl From<f64> for Literal {
    fn from(value: f64) -> Literal {
        let number = Number::from_f64(value).map(Scalar::Number);
        Literal(number.ok_or_else(|| FilterError::NotFinite {
            value: value.to_string(),
        }))
    }
}

/// As the f64 of the same value: 0.1f32 is another number than 0.1.
impl From<f32> for Literal {
    fn from(value: f32) -> Literal {
        Literal::from(f64::from(value))
    }
}

/// A time out of the years 0 to 9999 makes a filter that is refused when it is used.
impl From<SystemTime> for Literal {
    fn from(value: SystemTime) -> Literal {
        let instant = Instant::from_system(value).map(Scalar::Time);
        Literal(instant.ok_or_else(|| FilterError::Time {
            text: format!("{value:?}"),
        }))
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Null => f.write_str("null"),
            Scalar::Bool(value) => write!(f, "{value}"),
            Scalar::Number(value) => write!(f, "{value}"),
            Scalar::Text(value) => write_quoted(f, value, '"'),
            Scalar::Time(value) => write!(f, "time(\"{value}\")"),
        }
    }
}
