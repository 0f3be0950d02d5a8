//! Documents: what a caller puts in and gets back.

use serde_json::{Map, Value};

use crate::{Error, Id, Result};

/// The deepest nesting of metadata.
pub const METADATA_DEPTH_MAX: usize = 64;
/// The largest metadata of one document, as JSON, in bytes.
pub const METADATA_BYTES_MAX: usize = 16 << 20;
/// The largest text of one document in bytes.
pub const TEXT_BYTES_MAX: usize = 128 << 20;

/// Where an ingested passage came from, so that a second run knows what it need not read again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Source {
    /// The name of the source: a file's absolute path.
    pub name: String,
    /// The hash of what the source says of this document: title, text, metadata, vectors.
    pub hash: String,
    /// Which passage or line of the source this is, from 0.
    pub part: u32,
}

/// A document on its way into a collection: an id, and its text for the encoder or its layer vectors.
///
/// ```
/// use serde_json::json;
/// let document = stratal::Document::new("btree").title("B-trees").text("…").metadata(json!({ "year": 1972 }));
/// let vectors = stratal::Document::new(7u64).vector([0.6, 0.8]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub(crate) id: Id,
    pub(crate) title: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) metadata: Value,
    pub(crate) vectors: Option<Vec<Vec<f32>>>,
    pub(crate) made_by: Option<String>,
    pub(crate) source: Option<Source>,
}

impl Document {
    /// A document of that id: a text or a number, two kinds that never meet.
    pub fn new(id: impl Into<Id>) -> Document {
        Document {
            id: id.into(),
            title: None,
            text: None,
            metadata: Value::Null,
            vectors: None,
            made_by: None,
            source: None,
        }
    }

    /// Its title.
    pub fn title(mut self, title: impl Into<String>) -> Document {
        self.title = Some(title.into());
        self
    }

    /// Its text: what the encoder reads, and what comes back with a hit.
    pub fn text(mut self, text: impl Into<String>) -> Document {
        self.text = Some(text.into());
        self
    }

    /// Its metadata: a JSON object.
    pub fn metadata(mut self, metadata: Value) -> Document {
        self.metadata = metadata;
        self
    }

    /// Its only vector, of `D` components.
    pub fn vector(self, vector: impl Into<Vec<f32>>) -> Document {
        self.layer_vectors([vector.into()])
    }

    /// Its layer vectors `[m, D]`, in the order of the collection's layers.
    pub fn layer_vectors(mut self, vectors: impl IntoIterator<Item = Vec<f32>>) -> Document {
        self.vectors = Some(vectors.into_iter().collect());
        self
    }

    /// Says which encoder state made the vectors (its identity's hash), so that a collection with an encoder can
    /// tell its own from a stranger's. Exports carry it.
    pub fn made_by(mut self, generation: impl Into<String>) -> Document {
        self.made_by = Some(generation.into());
        self
    }

    /// Where the text came from.
    pub fn source(mut self, source: Source) -> Document {
        self.source = Some(source);
        self
    }

    /// Its id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.id.check()?;
        let refuse = |what: String| {
            Err(Error::Metadata {
                id: self.id.clone(),
                what,
            })
        };
        match &self.metadata {
            Value::Null => {}
            Value::Object(_) => {
                let extent = extent(&self.metadata);
                if extent.depth > METADATA_DEPTH_MAX {
                    return refuse(format!(
                        "nests deeper than {METADATA_DEPTH_MAX} levels: flatten it"
                    ));
                }
                // Written out only where the bound does not settle it: most metadata is small.
                if extent.bytes_at_most > METADATA_BYTES_MAX {
                    let bytes = self.metadata.to_string().len();
                    if bytes > METADATA_BYTES_MAX {
                        return refuse(format!(
                            "has {bytes} bytes as JSON, and at most {METADATA_BYTES_MAX} fit"
                        ));
                    }
                }
            }
            other => return refuse(format!("must be a JSON object, not {}", kind(other))),
        }
        let bytes = [&self.title, &self.text]
            .into_iter()
            .flatten()
            .map(String::len)
            .sum::<usize>();
        if bytes > TEXT_BYTES_MAX {
            let what = format!(
                "the document {} has {bytes} bytes of text, at most {TEXT_BYTES_MAX} fit",
                self.id
            );
            return Err(Error::Invalid { what });
        }
        Ok(())
    }

    /// The bytes kept beside the vectors, of a document that has been checked.
    ///
    /// Byte map: version 1 (u8), then four fields, each a length (u32, little-endian; `u32::MAX` for none) and
    /// its bytes: title, text, metadata as JSON, source as JSON.
    pub(crate) fn to_payload(&self) -> Vec<u8> {
        let metadata = match &self.metadata {
            Value::Null => None,
            object => Some(object.to_string()),
        };
        let source = self
            .source
            .as_ref()
            .and_then(|source| serde_json::to_string(source).ok());
        let fields = [&self.title, &self.text, &metadata, &source];
        let bytes: usize = fields
            .iter()
            .map(|field| 4 + field.as_ref().map_or(0, String::len))
            .sum();
        let mut payload = Vec::with_capacity(1 + bytes);
        payload.push(PAYLOAD_VERSION);
        for field in fields {
            match field {
                None => payload.extend_from_slice(&NONE.to_le_bytes()),
                Some(text) => {
                    payload.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    payload.extend_from_slice(text.as_bytes());
                }
            }
        }
        payload
    }
}

const PAYLOAD_VERSION: u8 = 1;
const NONE: u32 = u32::MAX;

/// The fields of a payload, borrowed.
#[derive(Default)]
pub(crate) struct Payload<'a> {
    pub title: Option<&'a str>,
    pub text: Option<&'a str>,
    metadata: Option<&'a str>,
    source: Option<&'a str>,
}

impl<'a> Payload<'a> {
    /// Reads what [`Document::to_payload`] wrote; says what is wrong otherwise.
    pub fn read(bytes: &'a [u8]) -> std::result::Result<Payload<'a>, &'static str> {
        let (&version, mut rest) = bytes.split_first().ok_or("it is empty")?;
        if version != PAYLOAD_VERSION {
            return Err("it is of a newer version");
        }
        let mut field = || -> std::result::Result<Option<&'a str>, &'static str> {
            let (length, tail) = rest.split_at_checked(4).ok_or("it is cut short")?;
            let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
            rest = tail;
            if length == NONE {
                return Ok(None);
            }
            let (text, tail) = rest.split_at_checked(length as usize).ok_or("it is cut short")?;
            rest = tail;
            std::str::from_utf8(text).map(Some).map_err(|_| "it is not UTF-8")
        };
        Ok(Payload {
            title: field()?,
            text: field()?,
            metadata: field()?,
            source: field()?,
        })
    }

    pub fn metadata(&self) -> Map<String, Value> {
        self.metadata
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    }

    pub fn source(&self) -> Option<Source> {
        self.source.and_then(|json| serde_json::from_str(json).ok())
    }
}

/// How far a value reaches.
struct Extent {
    depth: usize,
    /// No less than the bytes of its JSON.
    bytes_at_most: usize,
}

fn extent(value: &Value) -> Extent {
    // The longest number, the longest escape of one byte, and what stands around a value.
    const NUMBER: usize = 32;
    const ESCAPE: usize = 6;
    const AROUND: usize = 4;
    // Walks with a list of its own: a deep value must not exhaust the stack.
    let (mut depth, mut bytes_at_most) = (0, 0);
    let mut open = vec![(value, 1)];
    while let Some((value, level)) = open.pop() {
        depth = depth.max(level);
        bytes_at_most += AROUND;
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(fields) => {
                let names: usize = fields.keys().map(|name| AROUND + ESCAPE * name.len()).sum();
                bytes_at_most += names;
                open.extend(fields.values().map(|item| (item, level + 1)));
            }
            Value::String(text) => bytes_at_most += ESCAPE * text.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) => bytes_at_most += NUMBER,
        }
    }
    Extent { depth, bytes_at_most }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
