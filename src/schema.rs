//! What a collection is: its layers, similarity and the state that made its vectors.

use std::borrow::Cow;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use stratal_storage::{CollectionSnapshot, GenerationSpec, Layout};

use crate::{Element, Error, Result};

/// How a query and a document are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
    /// The inner product of the vectors as they are.
    #[default]
    InnerProduct,
    /// The cosine of the angle: vectors are normalised when they are stored, queries when they are asked.
    Cosine,
}

impl std::fmt::Display for Similarity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Similarity::InnerProduct => "inner product",
            Similarity::Cosine => "cosine",
        })
    }
}

/// What made the vectors of a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MadeBy {
    /// The caller, who calls it so.
    Label(String),
    /// An encoder of this identity; its files are in `models/<hash>/`.
    Encoder {
        hash: String,
        name: String,
        #[cfg(feature = "encoder")]
        settings: Box<crate::EncoderSettings>,
        /// Kept unread where there is no encoder to read it.
        #[cfg(not(feature = "encoder"))]
        settings: serde_json::Value,
    },
}

impl MadeBy {
    /// An encoder as it is now.
    #[cfg(feature = "encoder")]
    pub fn encoder(encoder: &crate::Encoder) -> MadeBy {
        let identity = encoder.identity();
        MadeBy::Encoder {
            hash: identity.hash,
            name: identity.name,
            settings: Box::new(encoder.settings().clone()),
        }
    }

    /// Refuses vectors of another state. A plain slice says nothing of the model that made it, so a collection
    /// with an encoder wants to be told.
    pub fn accept(&self, collection: &str, given: Option<&str>) -> Result<()> {
        let own = match (self, given) {
            (MadeBy::Label(_), None) => true,
            (MadeBy::Label(own), Some(given)) | (MadeBy::Encoder { hash: own, .. }, Some(given)) => {
                own == given
            }
            (MadeBy::Encoder { .. }, None) => false,
        };
        if own {
            return Ok(());
        }
        Err(Error::ForeignModel {
            collection: collection.to_owned(),
            stored: self.describe(),
            given: given.map_or_else(
                || "no named encoder (say which with `made_by`)".to_owned(),
                |given| format!("{given:?}"),
            ),
        })
    }

    /// The encoder's hash or the caller's label.
    pub fn identity(&self) -> &str {
        match self {
            MadeBy::Label(label) => label,
            MadeBy::Encoder { hash, .. } => hash,
        }
    }

    /// For messages: the name, and the hash where there is one.
    pub fn describe(&self) -> String {
        match self {
            MadeBy::Label(label) => format!("{label:?}"),
            MadeBy::Encoder { hash, name, .. } => describe_encoder(name, hash),
        }
    }
}

/// An encoder for messages: its name and the first digits of its identity.
pub(crate) fn describe_encoder(name: &str, hash: &str) -> String {
    format!("{name} ({})", hash.get(..12).unwrap_or(hash))
}

/// The schema of a generation: its layout, and what is kept beside it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schema {
    pub layout: Layout,
    pub similarity: Similarity,
    pub layers: Vec<String>,
    pub made_by: MadeBy,
    /// The encoders that this one was trained from in this collection, the first first: a program that opens the
    /// collection with one of them means this one.
    pub lineage: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Attributes {
    similarity: Similarity,
    layers: Vec<String>,
    made_by: MadeBy,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lineage: Vec<String>,
}

impl Schema {
    pub fn to_generation(&self) -> Result<GenerationSpec> {
        let attributes = Attributes {
            similarity: self.similarity,
            layers: self.layers.clone(),
            made_by: self.made_by.clone(),
            lineage: self.lineage.clone(),
        };
        let attributes = serde_json::to_value(attributes).map_err(|error| Error::Invalid {
            what: format!("the schema cannot be written: {error}"),
        })?;
        Ok(GenerationSpec {
            layout: self.layout,
            attributes,
        })
    }

    /// The schema of the generation that answers.
    pub fn of(collection: &CollectionSnapshot) -> Result<Schema> {
        match collection.current() {
            Some(generation) => Schema::of_generation(collection.name(), generation),
            None => Err(Error::Invalid {
                what: format!("the collection {:?} has no generation", collection.name()),
            }),
        }
    }

    /// The schema of any generation.
    pub fn of_generation(collection: &str, generation: &GenerationSpec) -> Result<Schema> {
        let unreadable = |why: String| Error::Invalid {
            what: format!("the schema of the collection {collection:?} cannot be read: {why}"),
        };
        let attributes: Attributes = serde_json::from_value(generation.attributes.clone())
            .map_err(|error| unreadable(error.to_string()))?;
        if attributes.layers.len() != generation.layout.layers as usize {
            return Err(unreadable("its layers do not match its layout".to_owned()));
        }
        Ok(Schema {
            layout: generation.layout,
            similarity: attributes.similarity,
            layers: attributes.layers,
            made_by: attributes.made_by,
            lineage: attributes.lineage,
        })
    }

    pub fn dimension(&self) -> usize {
        self.layout.dimension as usize
    }

    /// The bytes of one document's vectors as they are stored.
    pub fn to_stored(
        &self,
        collection: &str,
        what: &dyn Fn() -> String,
        vectors: &[impl AsRef<[f32]>],
    ) -> Result<Vec<u8>> {
        if vectors.len() != self.layers.len() {
            return Err(Error::Layers {
                collection: collection.to_owned(),
                what: what(),
                expected: self.layers.len(),
                got: vectors.len(),
                layers: self.layers.join(", "),
            });
        }
        let mut bytes = Vec::with_capacity(self.layout.document_bytes());
        for (vector, layer) in vectors.iter().zip(&self.layers) {
            let what = || {
                if self.layers.len() == 1 {
                    what()
                } else {
                    format!("layer {layer} of {}", what())
                }
            };
            let vector = self.prepared(collection, vector.as_ref(), &what)?;
            match self.layout.element {
                Element::F32 if cfg!(target_endian = "little") => {
                    bytes.extend_from_slice(bytemuck::cast_slice(&vector));
                }
                Element::F32 => bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes())),
                element => {
                    for (component, &value) in vector.iter().enumerate() {
                        narrow(element, value, &mut bytes).map_err(|why| Error::NotFinite {
                            what: what(),
                            component,
                            value,
                            why,
                        })?;
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// A query or document vector, checked, and normalised where the collection compares by cosine.
    pub fn prepared<'v>(
        &self,
        collection: &str,
        vector: &'v [f32],
        what: &dyn Fn() -> String,
    ) -> Result<Cow<'v, [f32]>> {
        if vector.len() != self.dimension() {
            return Err(Error::Dimension {
                collection: collection.to_owned(),
                what: what(),
                expected: self.dimension(),
                got: vector.len(),
            });
        }
        // All first, for which one it is need hardly ever be known.
        if !vector.iter().fold(true, |all, value| all & value.is_finite())
            && let Some((component, &value)) = vector.iter().enumerate().find(|(_, value)| !value.is_finite())
        {
            return Err(Error::NotFinite {
                what: what(),
                component,
                value,
                why: "only finite numbers are stored",
            });
        }
        match self.similarity {
            Similarity::InnerProduct => Ok(Cow::Borrowed(vector)),
            Similarity::Cosine => normalised(vector)
                .map(Cow::Owned)
                .ok_or_else(|| Error::ZeroVector { what: what() }),
        }
    }

    /// The components of a stored layer vector.
    pub fn components(&self, bytes: &[u8]) -> Vec<f32> {
        match self.layout.element {
            Element::F32 => bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Element::Bf16 => bytes
                .chunks_exact(2)
                .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            Element::I8 => bytes.iter().map(|&b| f32::from(b as i8)).collect(),
            _ => bytes
                .chunks_exact(2)
                .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
        }
    }
}

/// Appends a finite component as a smaller element; why not where it does not fit.
fn narrow(element: Element, value: f32, bytes: &mut Vec<u8>) -> std::result::Result<(), &'static str> {
    match element {
        Element::F16 => {
            let half = f16::from_f32(value);
            if !half.is_finite() {
                return Err("a 16-bit element holds at most 65504 in size");
            }
            bytes.extend_from_slice(&half.to_le_bytes());
        }
        Element::Bf16 => {
            let half = bf16::from_f32(value);
            if !half.is_finite() {
                return Err("a bf16 element holds at most 3.39e38 in size");
            }
            bytes.extend_from_slice(&half.to_le_bytes());
        }
        Element::I8 => {
            // Rounding would change scores without a word; who quantises knows by which scale.
            if value.fract() != 0.0 || !(-128.0..=127.0).contains(&value) {
                return Err(
                    "an 8-bit element holds whole numbers from -128 to 127: scale and round vectors first",
                );
            }
            bytes.push(value as i8 as u8);
        }
        _ => return Err("this build cannot write such elements"),
    }
    Ok(())
}

/// A vector of length one; `None` for zero. The norm is taken in f64, so that no f32 overflows or vanishes in it.
pub(crate) fn normalised(vector: &[f32]) -> Option<Vec<f32>> {
    let norm = vector
        .iter()
        .map(|&x| f64::from(x) * f64::from(x))
        .sum::<f64>()
        .sqrt();
    (norm > 0.0).then(|| vector.iter().map(|&x| (f64::from(x) / norm) as f32).collect())
}
