//! One JSON object as a document, every field accounted for.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use stratal_storage::Id;

use super::error::LineProblem;

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

/// Any JSON, in which no object has a field twice.
struct ValueSeed<'a> {
    path: &'a str,
    problem: Problem<'a>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(ValueSeed {
            path: self.path,
            problem: self.problem,
        })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let path = format!("{}.{name}", self.path);
            let value = map.next_value_seed(ValueSeed {
                path: &path,
                problem: self.problem,
            })?;
            if fields.insert(name, value).is_some() {
                return Err(stop(self.problem, LineProblem::DuplicateField { field: path }));
            }
        }
        Ok(Value::Object(fields))
    }
}

/// `[D]` or `[m][D]` numbers, or null.
struct LayersSeed<'a> {
    field: &'a str,
    single: bool,
    problem: Problem<'a>,
}

impl<'de> DeserializeSeed<'de> for LayersSeed<'_> {
    type Value = Option<Vec<Vec<f32>>>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Self::Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl LayersSeed<'_> {
    fn refuse<E: serde::de::Error>(self, found: &Value) -> E {
        let expected = if self.single {
            "a list of numbers"
        } else {
            "a list of lists of numbers, one a layer"
        };
        stop(self.problem, wrong(self.field, expected, found))
    }
}

impl<'de> Visitor<'de> for LayersSeed<'_> {
    type Value = Option<Vec<Vec<f32>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("layer vectors")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Err(self.refuse(&value.into()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Err(self.refuse(&value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Err(self.refuse(&value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        Err(self.refuse(&value.into()))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        Err(self.refuse(&value.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Err(self.refuse(&Value::Object(Map::new())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let LayersSeed {
            field,
            single,
            problem,
        } = self;
        let shape = |layer, expected: String, got| {
            stop(
                problem,
                LineProblem::Shape {
                    field: field.to_owned(),
                    layer,
                    expected,
                    got,
                },
            )
        };
        let mut layers: Vec<Vec<f32>> = Vec::new();
        if single {
            layers.push(read_components(field, 0, problem, &mut list)?);
        } else {
            while let Some(layer) = list.next_element_seed(LayerSeed {
                field,
                layer: layers.len(),
                problem,
            })? {
                layers.push(layer);
            }
        }
        let dimension = layers.first().map_or(0, Vec::len);
        if dimension == 0 {
            return Err(shape(0, "some".to_owned(), 0));
        }
        match layers.iter().position(|layer| layer.len() != dimension) {
            Some(layer) => Err(shape(layer, dimension.to_string(), layers[layer].len())),
            None => Ok(Some(layers)),
        }
    }
}

struct LayerSeed<'a> {
    field: &'a str,
    layer: usize,
    problem: Problem<'a>,
}

impl<'de> DeserializeSeed<'de> for LayerSeed<'_> {
    type Value = Vec<f32>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Vec<f32>, D::Error> {
        let LayerSeed {
            field,
            layer,
            problem,
        } = self;
        let field_and_layer = format!("{field}[{layer}]");
        parser.deserialize_seq(self).inspect_err(|error| {
            // The parser's own words for a value that is no list name no place.
            let error_of_shape = LineProblem::WrongType {
                field: field_and_layer,
                expected: "a list of numbers",
                found: "something else".to_owned(),
            };
            match problem.take() {
                Some(first) => problem.set(Some(first)),
                None if error.to_string().starts_with("invalid type") => problem.set(Some(error_of_shape)),
                None => {}
            }
        })
    }
}

impl<'de> Visitor<'de> for LayerSeed<'_> {
    type Value = Vec<f32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<f32>, A::Error> {
        read_components(self.field, self.layer, self.problem, &mut list)
    }
}

fn read_components<'de, A: SeqAccess<'de>>(
    field: &str,
    layer: usize,
    problem: Problem<'_>,
    list: &mut A,
) -> Result<Vec<f32>, A::Error> {
    let mut components = Vec::new();
    loop {
        let component = components.len();
        let found = match list.next_element::<f64>() {
            Ok(None) => return Ok(components),
            // A number past the range of f32 is an infinity once stored.
            Ok(Some(value)) if (value as f32).is_finite() => {
                components.push(value as f32);
                continue;
            }
            Ok(Some(value)) => value.to_string(),
            Err(error) => error.to_string(),
        };
        let found = found
            .rsplit_once(" at line ")
            .map(|(what, _)| what.to_owned())
            .unwrap_or(found);
        return Err(stop(
            problem,
            LineProblem::Component {
                field: field.to_owned(),
                layer,
                component,
                found,
            },
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Record, LineProblem> {
        Record::parse(text, 1, &FieldNames::default())
    }

    fn refused(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn fields_without_a_name_join_the_metadata() {
        let record =
            parse(r#"{"id":"a","title":"T","text":"x","year":1972,"metadata":{"tags":["x",null]}}"#).unwrap();
        assert_eq!(record.id, Id::from("a"));
        assert_eq!(
            (record.title.as_deref(), record.text.as_deref()),
            (Some("T"), Some("x"))
        );
        assert_eq!(
            Value::Object(record.metadata),
            serde_json::json!({ "tags": ["x", null], "year": 1972 })
        );
        assert_eq!(record.vectors, None);
    }

    #[test]
    fn numbers_and_texts_are_two_kinds_of_id() {
        assert_eq!(parse(r#"{"id":7}"#).unwrap().id, Id::Number(7));
        assert_eq!(parse(r#"{"id":"7"}"#).unwrap().id, Id::from("7"));
        assert_eq!(
            parse(r#"{"id":18446744073709551615}"#).unwrap().id,
            Id::Number(u64::MAX)
        );
        for bad in [r#"{"id":-1}"#, r#"{"id":7.0}"#, r#"{"id":null}"#, r#"{"id":[7]}"#] {
            assert!(matches!(parse(bad), Err(LineProblem::WrongType { .. })), "{bad}");
        }
        assert!(matches!(
            parse(r#"{"text":"x"}"#),
            Err(LineProblem::MissingId { .. })
        ));
    }

    #[test]
    fn a_field_given_twice_is_refused_by_name() {
        assert!(refused(r#"{"id":1,"text":"x","id":2}"#).contains("\"id\" twice"));
        assert!(refused(r#"{"id":1,"text":"x","text":null}"#).contains("\"text\" twice"));
        assert!(refused(r#"{"id":1,"a":{"b":{"c":1,"c":2}}}"#).contains("\"a.b.c\" twice"));
        assert!(refused(r#"{"id":1,"year":1,"metadata":{"year":2}}"#).contains("\"year\" twice"));
        assert!(refused(r#"{"id":1,"metadata":{"year":2},"year":1}"#).contains("\"year\" twice"));
        assert!(refused(r#"{"id":1,"vector":[1],"vectors":[[1]]}"#).contains("\"vectors\" twice"));
    }

    // B24
    #[test]
    fn a_component_that_is_no_finite_number_is_named() {
        for (line, place) in [
            (r#"{"id":1,"vectors":[[1,2],[3,NaN]]}"#, (1, 1)),
            (r#"{"id":1,"vectors":[[1e999,2],[3,4]]}"#, (0, 0)),
            (r#"{"id":1,"vectors":[[1,-1e39],[3,4]]}"#, (0, 1)),
            (r#"{"id":1,"vector":[1,2,null]}"#, (0, 2)),
            (r#"{"id":1,"vector":[1,"2"]}"#, (0, 1)),
            (r#"{"id":1,"vector":[1,[2]]}"#, (0, 1)),
        ] {
            match parse(line) {
                Err(LineProblem::Component { layer, component, .. }) => {
                    assert_eq!((layer, component), place, "{line}")
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(
            refused(r#"{"id":1,"vectors":[[1,2],[3,NaN]]}"#)
                .starts_with("component 1 of layer 1 in \"vectors\"")
        );
    }

    #[test]
    fn layer_vectors_have_one_length_and_at_least_one_component() {
        assert_eq!(
            parse(r#"{"id":1,"vector":[1,2.5]}"#).unwrap().vectors,
            Some(vec![vec![1.0, 2.5]])
        );
        assert_eq!(
            parse(r#"{"id":1,"vectors":[[1],[2]]}"#).unwrap().vectors,
            Some(vec![vec![1.0], vec![2.0]])
        );
        assert_eq!(parse(r#"{"id":1,"vectors":null}"#).unwrap().vectors, None);
        for bad in ["[]", "[[]]", "[[1],[]]", "[[1],[2,3]]"] {
            let line = format!(r#"{{"id":1,"vectors":{bad}}}"#);
            assert!(
                matches!(parse(&line), Err(LineProblem::Shape { .. })),
                "{line}: {:?}",
                parse(&line)
            );
        }
        for bad in ["7", "\"x\"", "{}", "[1,2]", "true"] {
            let line = format!(r#"{{"id":1,"vectors":{bad}}}"#);
            assert!(
                matches!(parse(&line), Err(LineProblem::WrongType { .. })),
                "{line}: {:?}",
                parse(&line)
            );
        }
    }

    #[test]
    fn what_is_no_object_is_told_as_what_it_is() {
        for (line, found) in [
            ("[1]", "a list"),
            ("7", "a number"),
            ("-7.5", "a number"),
            ("\"x\"", "a string"),
            ("null", "null"),
            ("true", "a boolean"),
        ] {
            assert_eq!(parse(line), Err(LineProblem::NotAnObject { found }), "{line}");
        }
        for bad in [
            "{",
            "{\"id\":1}x",
            "{\"id\":1,}",
            "[1",
            "nul",
            "{\"id\":\"\\ud800\"}",
            "{'id':1}",
        ] {
            assert!(
                matches!(parse(bad), Err(LineProblem::NotJson { .. })),
                "{bad}: {:?}",
                parse(bad)
            );
        }
    }

    #[test]
    fn nesting_without_end_is_an_error_and_no_crash() {
        let deep = format!(r#"{{"id":1,"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(parse(&deep), Err(LineProblem::NotJson { .. })));
    }

    #[test]
    fn other_names_of_fields_are_followed() {
        let fields = FieldNames {
            id: "key".to_owned(),
            text: "body".to_owned(),
            ..FieldNames::default()
        };
        let record = Record::parse(r#"{"key":"k","body":"b","id":9,"text":"t"}"#, 4, &fields).unwrap();
        assert_eq!(
            (record.line, record.id, record.text.as_deref()),
            (4, Id::from("k"), Some("b"))
        );
        assert_eq!(
            Value::Object(record.metadata),
            serde_json::json!({ "id": 9, "text": "t" })
        );
    }
}
