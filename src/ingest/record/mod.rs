//! One JSON object as a document, every field accounted for.

#[cfg(test)]
mod tests;
mod values;
mod vectors;

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use stratal_storage::Id;

use self::values::ValueSeed;
use self::vectors::LayersSeed;
use super::error::{IngestError, LineProblem};

/// Which fields of a JSON object are what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldNames {
    /// A string, or an integer from 0 to 2^64 − 1. Default `id`.
    pub id: String,
    /// A string or null. Default `title`.
    pub title: String,
    /// A string or null. Default `text`.
    pub text: String,
    /// An object or null. Default `metadata`. Fields that have no name here join its members.
    pub metadata: String,
    /// One vector `[D]`, for documents of one layer. Default `vector`.
    pub vector: String,
    /// Layer vectors `[m][D]`. Default `vectors`.
    pub vectors: String,
    /// The generation that made the vectors, as exports name it. Default `made_by`.
    pub made_by: String,
}

impl FieldNames {
    /// Whether each field has a name of its own.
    ///
    /// # Errors
    /// [`IngestError::FieldTwice`].
    pub fn check(&self) -> Result<(), IngestError> {
        let names = [
            &self.id,
            &self.title,
            &self.text,
            &self.metadata,
            &self.vector,
            &self.vectors,
            &self.made_by,
        ];
        for (place, name) in names.iter().enumerate() {
            if names[..place].contains(name) {
                return Err(IngestError::FieldTwice {
                    name: name.to_string(),
                });
            }
        }
        Ok(())
    }
}

impl Default for FieldNames {
    fn default() -> FieldNames {
        FieldNames {
            id: "id".to_owned(),
            title: "title".to_owned(),
            text: "text".to_owned(),
            metadata: "metadata".to_owned(),
            vector: "vector".to_owned(),
            vectors: "vectors".to_owned(),
            made_by: "made_by".to_owned(),
        }
    }
}

/// A document as a line of JSON gives it.
///
/// Nothing is ignored: a field without a name in [`FieldNames`] is metadata, as if it stood in the metadata object.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its line, from 1.
    pub line: u64,
    /// Its id.
    pub id: Id,
    /// Its title.
    pub title: Option<String>,
    /// Its text.
    pub text: Option<String>,
    /// Its metadata.
    pub metadata: Map<String, Value>,
    /// Its layer vectors `[m][D]`, all finite and of one length.
    pub vectors: Option<Vec<Vec<f32>>>,
    /// The generation that made the vectors.
    pub made_by: Option<String>,
}

impl Record {
    /// Reads one line.
    ///
    /// # Errors
    /// The first [`LineProblem`].
    pub fn parse(text: &str, line: u64, fields: &FieldNames) -> Result<Record, LineProblem> {
        let problem = Cell::new(None);
        let mut parser = serde_json::Deserializer::from_str(text);
        let read = RecordSeed {
            line,
            fields,
            problem: &problem,
        }
        .deserialize(&mut parser);
        match read.and_then(|record| parser.end().map(|()| record)) {
            Ok(record) => Ok(record),
            Err(error) => Err(problem.take().unwrap_or_else(|| not_json(&error))),
        }
    }
}

fn not_json(error: &serde_json::Error) -> LineProblem {
    let what = error.to_string();
    // The parser counts lines within the text it was given, which is one line.
    let what = what
        .rsplit_once(" at line ")
        .map(|(what, _)| what.to_owned())
        .unwrap_or(what);
    LineProblem::NotJson {
        what,
        column: error.column(),
    }
}

/// Where a problem is kept that has more to say than the parser's errors can carry.
type Problem<'a> = &'a Cell<Option<LineProblem>>;

fn stop<E: serde::de::Error>(problem: Problem<'_>, what: LineProblem) -> E {
    let error = E::custom(&what);
    // The first problem is the one to tell; what follows may be its consequence.
    let first = problem.take().unwrap_or(what);
    problem.set(Some(first));
    error
}

struct RecordSeed<'a> {
    line: u64,
    fields: &'a FieldNames,
    problem: Problem<'a>,
}

impl<'de> DeserializeSeed<'de> for RecordSeed<'_> {
    type Value = Record;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Record, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_> {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let RecordSeed {
            line,
            fields,
            problem,
        } = self;
        let twice = |field: &str| {
            stop(
                problem,
                LineProblem::DuplicateField {
                    field: field.to_owned(),
                },
            )
        };
        let (mut id, mut title, mut text, mut made_by) = (None, None, None, None);
        let mut vectors: Option<(bool, Vec<Vec<f32>>)> = None;
        let (mut metadata, mut has_metadata) = (Map::new(), false);
        while let Some(name) = map.next_key::<String>()? {
            let name: &str = &name;
            let is_vector = name == fields.vector;
            if is_vector || name == fields.vectors {
                let seed = LayersSeed {
                    field: name,
                    single: is_vector,
                    problem,
                };
                let layers = map.next_value_seed(seed)?;
                match &vectors {
                    Some(_) => return Err(twice(name)),
                    None => vectors = layers.map(|layers| (is_vector, layers)),
                }
                continue;
            }
            let value = map.next_value_seed(ValueSeed { path: name, problem })?;
            if name == fields.id {
                if id
                    .replace(read_id(name, value).map_err(|what| stop(problem, what))?)
                    .is_some()
                {
                    return Err(twice(name));
                }
            } else if name == fields.title || name == fields.text || name == fields.made_by {
                let text_of = match value {
                    Value::Null => None,
                    Value::String(text) => Some(text),
                    other => return Err(stop(problem, wrong(name, "a string", &other))),
                };
                let place = match name {
                    _ if name == fields.title => &mut title,
                    _ if name == fields.text => &mut text,
                    _ => &mut made_by,
                };
                if place.replace(text_of).is_some() {
                    return Err(twice(name));
                }
            } else if name == fields.metadata {
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(twice(name));
                }
                let members = match value {
                    Value::Null => Map::new(),
                    Value::Object(members) => members,
                    other => return Err(stop(problem, wrong(name, "an object", &other))),
                };
                for (member, value) in members {
                    if metadata.contains_key(&member) {
                        return Err(twice(&member));
                    }
                    metadata.insert(member, value);
                }
            } else if metadata.insert(name.to_owned(), value).is_some() {
                return Err(twice(name));
            }
        }
        let id = id.ok_or_else(|| {
            stop(
                problem,
                LineProblem::MissingId {
                    field: fields.id.clone(),
                },
            )
        })?;
        let vectors = vectors.map(|(_, layers)| layers);
        let (title, text, made_by) = (title.flatten(), text.flatten(), made_by.flatten());
        Ok(Record {
            line,
            id,
            title,
            text,
            metadata,
            vectors,
            made_by,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Record, A::Error> {
        // A list that is no JSON either is first of all no JSON.
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Err(stop(self.problem, LineProblem::NotAnObject { found: "a list" }))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Record, E> {
        Err(stop(
            self.problem,
            LineProblem::NotAnObject { found: "a boolean" },
        ))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Record, E> {
        Err(stop(self.problem, LineProblem::NotAnObject { found: "a number" }))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Record, E> {
        Err(stop(self.problem, LineProblem::NotAnObject { found: "a number" }))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Record, E> {
        Err(stop(self.problem, LineProblem::NotAnObject { found: "a number" }))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Record, E> {
        Err(stop(self.problem, LineProblem::NotAnObject { found: "a string" }))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Record, E> {
        Err(stop(self.problem, LineProblem::NotAnObject { found: "null" }))
    }
}

fn wrong(field: &str, expected: &'static str, found: &Value) -> LineProblem {
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    LineProblem::WrongType {
        field: field.to_owned(),
        expected,
        found,
    }
}

fn read_id(field: &str, value: Value) -> Result<Id, LineProblem> {
    const EXPECTED: &str = "a string or an integer from 0 to 18446744073709551615";
    match value {
        Value::String(text) => Ok(Id::Text(text)),
        Value::Number(number) => number
            .as_u64()
            .map(Id::Number)
            .ok_or_else(|| wrong(field, EXPECTED, &Value::Number(number))),
        other => Err(wrong(field, EXPECTED, &other)),
    }
}
