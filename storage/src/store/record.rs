//! The body of a commit in the log: what changed, after every rule has been applied.
//!
//! A record is *physical*: it names docids and holds vectors, so that replaying it decides nothing anew.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::{Decoder, Encoder};
use crate::id::Id;
use crate::layout::{Element, Layout};

const CREATE_COLLECTION: u8 = 1;
const DROP_COLLECTION: u8 = 2;
const PUT: u8 = 3;
const DELETE: u8 = 4;
const SET: u8 = 5;
const UNSET: u8 = 6;
const ADD_GENERATION: u8 = 7;
const SET_CURRENT: u8 = 8;
const DROP_GENERATION: u8 = 9;
const ADD_VECTORS: u8 = 10;

/// One generation as its collection declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationSpec {
    /// The shape of its vectors.
    pub layout: Layout,
    /// What the layers above keep with it (similarity, encoder, label): opaque here.
    pub attributes: Value,
}

/// One vector set of a document: the bytes of its `layers` vectors, layer-major, unpadded.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    /// Which generation they belong to.
    pub generation: u32,
    /// `layers × dimension` components, little-endian.
    pub bytes: Arc<[u8]>,
}

/// One change of the state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    CreateCollection {
        number: u32,
        name: String,
        attributes: Value,
        generations: Vec<GenerationSpec>,
    },
    DropCollection {
        number: u32,
    },
    Put {
        collection: u32,
        docid: u64,
        id: Id,
        payload: Arc<[u8]>,
        vectors: Vec<Vectors>,
    },
    Delete {
        collection: u32,
        id: Id,
    },
    Set {
        key: String,
        value: Value,
    },
    Unset {
        key: String,
    },
    /// A collection gets a generation more, which no row has vectors of yet.
    AddGeneration {
        collection: u32,
        spec: GenerationSpec,
    },
    /// Another generation answers from now on: every live row has its vectors.
    SetCurrent {
        collection: u32,
        generation: u32,
    },
    DropGeneration {
        collection: u32,
        generation: u32,
    },
    /// A document gets the vectors of more generations and stays what it is.
    AddVectors {
        collection: u32,
        id: Id,
        vectors: Vec<Vectors>,
    },
}

/// Appends the changes of one commit to `out`.
pub(crate) fn encode(changes: &[Change], out: &mut Vec<u8>) {
    // A large transaction would otherwise be moved again and again while the buffer grows.
    let of_vectors =
        |vectors: &[Vectors]| -> usize { vectors.iter().map(|vectors| 8 + vectors.bytes.len()).sum() };
    let documents = changes.iter().map(|change| match change {
        Change::Put {
            id, payload, vectors, ..
        } => 32 + id.byte_len() + payload.len() + of_vectors(vectors),
        Change::AddVectors { id, vectors, .. } => 32 + id.byte_len() + of_vectors(vectors),
        _ => 64,
    });
    out.reserve(documents.sum());
    let mut encoder = Encoder(out);
    for change in changes {
        match change {
            Change::CreateCollection {
                number,
                name,
                attributes,
                generations,
            } => {
                encoder.u8(CREATE_COLLECTION);
                encoder.u32(*number);
                encoder.bytes(name.as_bytes());
                encoder.bytes(attributes.to_string().as_bytes());
                encoder.u32(generations.len() as u32);
                generations.iter().for_each(|spec| put_spec(&mut encoder, spec));
            }
            Change::DropCollection { number } => {
                encoder.u8(DROP_COLLECTION);
                encoder.u32(*number);
            }
            Change::Put {
                collection,
                docid,
                id,
                payload,
                vectors,
            } => {
                encoder.u8(PUT);
                encoder.u32(*collection);
                encoder.u64(*docid);
                encoder.id(id);
                encoder.bytes(payload);
                put_vectors(&mut encoder, vectors);
            }
            Change::Delete { collection, id } => {
                encoder.u8(DELETE);
                encoder.u32(*collection);
                encoder.id(id);
            }
            Change::Set { key, value } => {
                encoder.u8(SET);
                encoder.bytes(key.as_bytes());
                encoder.bytes(value.to_string().as_bytes());
            }
            Change::Unset { key } => {
                encoder.u8(UNSET);
                encoder.bytes(key.as_bytes());
            }
            Change::AddGeneration { collection, spec } => {
                encoder.u8(ADD_GENERATION);
                encoder.u32(*collection);
                put_spec(&mut encoder, spec);
            }
            Change::SetCurrent {
                collection,
                generation,
            } => {
                encoder.u8(SET_CURRENT);
                encoder.u32(*collection);
                encoder.u32(*generation);
            }
            Change::DropGeneration {
                collection,
                generation,
            } => {
                encoder.u8(DROP_GENERATION);
                encoder.u32(*collection);
                encoder.u32(*generation);
            }
            Change::AddVectors {
                collection,
                id,
                vectors,
            } => {
                encoder.u8(ADD_VECTORS);
                encoder.u32(*collection);
                encoder.id(id);
                put_vectors(&mut encoder, vectors);
            }
        }
    }
}

fn put_spec(encoder: &mut Encoder<'_>, spec: &GenerationSpec) {
    encoder.u32(spec.layout.generation);
    encoder.u32(spec.layout.dimension);
    encoder.u32(spec.layout.layers);
    encoder.u32(spec.layout.element.code());
    encoder.bytes(spec.attributes.to_string().as_bytes());
}

fn put_vectors(encoder: &mut Encoder<'_>, vectors: &[Vectors]) {
    encoder.u32(vectors.len() as u32);
    for Vectors { generation, bytes } in vectors {
        encoder.u32(*generation);
        encoder.bytes(bytes);
    }
}

fn take_spec(decoder: &mut Decoder<'_>) -> Option<GenerationSpec> {
    let layout = Layout {
        generation: decoder.u32()?,
        dimension: decoder.u32()?,
        layers: decoder.u32()?,
        element: Element::from_code(decoder.u32()?)?,
    };
    layout.check().ok()?;
    let attributes = json(decoder)?;
    Some(GenerationSpec { layout, attributes })
}

fn take_vectors(decoder: &mut Decoder<'_>) -> Option<Vec<Vectors>> {
    let count = decoder.u32()?;
    let mut vectors = Vec::new();
    for _ in 0..count {
        vectors.push(Vectors {
            generation: decoder.u32()?,
            bytes: Arc::from(decoder.bytes()?),
        });
    }
    Some(vectors)
}

/// Reads what [`encode`] wrote; `None` if the bytes are no record.
pub(crate) fn decode(record: &[u8]) -> Option<Vec<Change>> {
    let mut decoder = Decoder(record);
    let mut changes = Vec::new();
    while !decoder.is_empty() {
        changes.push(decode_change(&mut decoder)?);
    }
    Some(changes)
}

fn decode_change(decoder: &mut Decoder<'_>) -> Option<Change> {
    Some(match decoder.u8()? {
        CREATE_COLLECTION => {
            let number = decoder.u32()?;
            let name = text(decoder)?;
            let attributes = json(decoder)?;
            let count = decoder.u32()?;
            let mut generations = Vec::new();
            for _ in 0..count {
                generations.push(take_spec(decoder)?);
            }
            Change::CreateCollection {
                number,
                name,
                attributes,
                generations,
            }
        }
        DROP_COLLECTION => Change::DropCollection {
            number: decoder.u32()?,
        },
        PUT => {
            let collection = decoder.u32()?;
            let docid = decoder.u64()?;
            let id = Id::from_bytes(decoder.bytes()?)?;
            let payload = Arc::from(decoder.bytes()?);
            Change::Put {
                collection,
                docid,
                id,
                payload,
                vectors: take_vectors(decoder)?,
            }
        }
        DELETE => Change::Delete {
            collection: decoder.u32()?,
            id: Id::from_bytes(decoder.bytes()?)?,
        },
        SET => Change::Set {
            key: text(decoder)?,
            value: json(decoder)?,
        },
        UNSET => Change::Unset { key: text(decoder)? },
        ADD_GENERATION => Change::AddGeneration {
            collection: decoder.u32()?,
            spec: take_spec(decoder)?,
        },
        SET_CURRENT => Change::SetCurrent {
            collection: decoder.u32()?,
            generation: decoder.u32()?,
        },
        DROP_GENERATION => Change::DropGeneration {
            collection: decoder.u32()?,
            generation: decoder.u32()?,
        },
        ADD_VECTORS => Change::AddVectors {
            collection: decoder.u32()?,
            id: Id::from_bytes(decoder.bytes()?)?,
            vectors: take_vectors(decoder)?,
        },
        _ => return None,
    })
}

fn text(decoder: &mut Decoder<'_>) -> Option<String> {
    String::from_utf8(decoder.bytes()?.to_vec()).ok()
}

fn json(decoder: &mut Decoder<'_>) -> Option<Value> {
    serde_json::from_slice(decoder.bytes()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Vec<Change> {
        let layout = Layout {
            generation: 3,
            dimension: 2,
            layers: 1,
            element: Element::F16,
        };
        vec![
            Change::CreateCollection {
                number: 7,
                name: "notes".into(),
                attributes: json!({"a": [1, null]}),
                generations: vec![GenerationSpec {
                    layout,
                    attributes: json!("x"),
                }],
            },
            Change::Put {
                collection: 7,
                docid: 9,
                id: Id::from("é"),
                payload: Arc::from(&b"payload"[..]),
                vectors: vec![Vectors {
                    generation: 3,
                    bytes: Arc::from(&[1u8, 2, 3, 4][..]),
                }],
            },
            Change::Delete {
                collection: 7,
                id: Id::from(5),
            },
            Change::Set {
                key: "k".into(),
                value: json!(1.5),
            },
            Change::Unset { key: "k".into() },
            Change::AddGeneration {
                collection: 7,
                spec: GenerationSpec {
                    layout: Layout {
                        generation: 4,
                        ..layout
                    },
                    attributes: json!({"made_by": "another"}),
                },
            },
            Change::AddVectors {
                collection: 7,
                id: Id::from(6),
                vectors: vec![Vectors {
                    generation: 4,
                    bytes: Arc::from(&[4u8, 3, 2, 1][..]),
                }],
            },
            Change::SetCurrent {
                collection: 7,
                generation: 4,
            },
            Change::DropGeneration {
                collection: 7,
                generation: 3,
            },
            Change::DropCollection { number: 7 },
        ]
    }

    #[test]
    fn every_change_comes_back_as_it_went_in() {
        let mut bytes = Vec::new();
        encode(&sample(), &mut bytes);
        assert_eq!(decode(&bytes).unwrap(), sample());
    }

    #[test]
    fn a_mangled_record_is_refused_or_read_but_never_panics() {
        let mut bytes = Vec::new();
        encode(&sample(), &mut bytes);
        let ends: Vec<usize> = (0..=sample().len())
            .map(|n| {
                let mut prefix = Vec::new();
                encode(&sample()[..n], &mut prefix);
                prefix.len()
            })
            .collect();
        for cut in 0..bytes.len() {
            assert_eq!(
                decode(&bytes[..cut]).is_some(),
                ends.contains(&cut),
                "cut at {cut}"
            );
        }
        for at in 0..bytes.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut mangled = bytes.clone();
                mangled[at] ^= flip;
                let _ = decode(&mangled);
            }
        }
    }
}
