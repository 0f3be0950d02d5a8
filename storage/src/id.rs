//! External ids: what a caller names a document by.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

/// The longest text id in bytes.
pub const ID_BYTES_MAX: usize = 16 * 1024;

/// The name a caller gives a document: a number or a text, two kinds that never meet.
///
/// `Id::from(7u64)` and `Id::from("7")` are two different documents. The order is numbers before
/// texts, numbers by value, texts by bytes; it breaks ties between equal scores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    /// A number.
    Number(u64),
    /// A text, compared byte by byte.
    Text(String),
}

impl Id {
    /// Checks that a document may be called so.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty text and for one of more than [`ID_BYTES_MAX`] bytes.
    pub fn check(&self) -> Result<()> {
        let what = match self {
            Id::Text(text) if text.is_empty() => "an id must not be the empty text".to_owned(),
            Id::Text(text) if text.len() > ID_BYTES_MAX => {
                format!(
                    "an id has at most {ID_BYTES_MAX} bytes, and this one has {}",
                    text.len()
                )
            }
            _ => return Ok(()),
        };
        Err(Error::Invalid { what })
    }

    /// The bytes an id is hashed and stored by: one tag byte, then the value (numbers little-endian).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.byte_len());
        self.append_to(&mut bytes);
        bytes
    }

    /// The length of [`Id::to_bytes`].
    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Id::Number(_) => 9,
            Id::Text(text) => 1 + text.len(),
        }
    }

    /// Appends [`Id::to_bytes`] without a buffer of its own: every commit does so for every document.
    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Id::Number(n) => {
                bytes.push(0);
                bytes.extend_from_slice(&n.to_le_bytes());
            }
            Id::Text(text) => {
                bytes.push(1);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Reads what [`Id::to_bytes`] wrote; `None` if the bytes are no id.
    pub fn from_bytes(bytes: &[u8]) -> Option<Id> {
        match bytes.split_first()? {
            (0, rest) => Some(Id::Number(u64::from_le_bytes(rest.try_into().ok()?))),
            (1, rest) => Some(Id::Text(std::str::from_utf8(rest).ok()?.to_owned())),
            _ => None,
        }
    }

    /// The 64-bit hash that the id tables of segments and memory chunks are sorted by.
    pub fn hash64(&self) -> u64 {
        let mut short = [0u8; 64];
        match self {
            Id::Number(n) => {
                short[1..9].copy_from_slice(&n.to_le_bytes());
                xxh3_64(&short[..9])
            }
            Id::Text(text) if text.len() < short.len() => {
                short[0] = 1;
                short[1..=text.len()].copy_from_slice(text.as_bytes());
                xxh3_64(&short[..=text.len()])
            }
            Id::Text(_) => xxh3_64(&self.to_bytes()),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(n) => write!(f, "{n}"),
            Id::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl From<u64> for Id {
    fn from(n: u64) -> Self {
        Id::Number(n)
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Id::Text(text.to_owned())
    }
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        Id::Text(text)
    }
}

impl From<&Id> for Id {
    fn from(id: &Id) -> Self {
        id.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_bytes_and_they_read_back() {
        let texts = (0..200).map(|length| Id::Text("é".repeat(length)));
        for id in [0, 1, u64::MAX].map(Id::Number).into_iter().chain(texts) {
            let bytes = id.to_bytes();
            assert_eq!(id.hash64(), xxh3_64(&bytes), "{id}");
            assert_eq!((bytes.len(), Id::from_bytes(&bytes)), (id.byte_len(), Some(id)));
        }
    }
}
