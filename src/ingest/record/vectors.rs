//! Layer vectors in JSON: every component a finite number, every layer of one length.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Problem, stop, wrong};
use crate::ingest::error::LineProblem;

/// `[D]` or `[m][D]` numbers, or null.
pub(super) struct LayersSeed<'a> {
    pub field: &'a str,
    pub single: bool,
    pub problem: Problem<'a>,
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
