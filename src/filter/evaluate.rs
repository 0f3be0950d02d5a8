//! Plain evaluation over one document: what every other way to answer a filter must agree with.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::instant::Instant;
use super::literal::Scalar;
use super::number::Number;
use super::path::FieldPath;
use super::tree::{Node, Test};
use crate::Id;

/// What a filter can see of a document.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub id: &'a Id,
    pub title: Option<&'a str>,
    pub metadata: &'a Map<String, Value>,
}

/// One value of a field; lists have been opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(&'a str),
    /// An object: it is there, and equals nothing.
    Object,
}

/// What is met on the way along a path.
pub(super) enum Met<'a> {
    /// The field itself.
    Field,
    /// One of its values.
    Value(Seen<'a>),
}

impl Node {
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Node::And(nodes) => nodes.iter().all(|node| node.matches(subject)),
            Node::Or(nodes) => nodes.iter().any(|node| node.matches(subject)),
            Node::Not(node) => !node.matches(subject),
            Node::Test(path, test) => test.holds(path, subject),
        }
    }
}

impl Test {
    fn holds(&self, path: &FieldPath, subject: &Subject<'_>) -> bool {
        match self {
            Test::Exists => path.any(subject, &mut |met| matches!(met, Met::Field)),
            Test::Empty => {
                let mut is_there = false;
                let has_value = path.any(subject, &mut |met| {
                    is_there |= matches!(met, Met::Field);
                    matches!(met, Met::Value(_))
                });
                is_there && !has_value
            }
            _ => path.any(subject, &mut |met| match met {
                Met::Field => false,
                Met::Value(value) => self.holds_for(value),
            }),
        }
    }

    /// Whether it holds for one value.
    pub(super) fn holds_for(&self, value: Seen<'_>) -> bool {
        match self {
            Test::Equal(scalar) => value.compare(scalar) == Some(Ordering::Equal),
            Test::Compare(comparison, scalar) => {
                value.compare(scalar).is_some_and(|order| comparison.holds(order))
            }
            Test::Between(low, high) => {
                value.compare(low).is_some_and(Ordering::is_ge)
                    && value.compare(high).is_some_and(Ordering::is_le)
            }
            Test::In(scalars) => value.is_in(scalars),
            Test::StartsWith(prefix) => matches!(value, Seen::Text(text) if text.starts_with(prefix)),
            Test::Exists | Test::Empty => false,
        }
    }
}

impl<'a> Seen<'a> {
    fn of(value: &'a Value) -> Seen<'a> {
        match value {
            Value::Null => Seen::Null,
            Value::Bool(value) => Seen::Bool(*value),
            Value::String(text) => Seen::Text(text),
            // A number that is none cannot be stored; were one read, it would equal nothing.
            Value::Number(number) => Number::from_json(number).map_or(Seen::Object, Seen::Number),
            Value::Array(_) | Value::Object(_) => Seen::Object,
        }
    }

    /// How it compares with a value of a filter; `None` for one of another kind.
    fn compare(&self, scalar: &Scalar) -> Option<Ordering> {
        match (self, scalar) {
            (Seen::Null, Scalar::Null) => Some(Ordering::Equal),
            (Seen::Bool(a), Scalar::Bool(b)) => Some(a.cmp(b)),
            (Seen::Number(a), Scalar::Number(b)) => Some(a.cmp(b)),
            (Seen::Text(a), Scalar::Text(b)) => Some((*a).cmp(b.as_str())),
            (Seen::Text(a), Scalar::Time(b)) => Some(Instant::parse(a)?.cmp(b)),
            _ => None,
        }
    }

    fn is_in(&self, scalars: &[Scalar]) -> bool {
        let found = |scalar: &Scalar| scalars.binary_search(scalar).is_ok();
        match *self {
            Seen::Null => found(&Scalar::Null),
            Seen::Bool(value) => found(&Scalar::Bool(value)),
            Seen::Number(value) => found(&Scalar::Number(value)),
            Seen::Object => false,
            Seen::Text(text) => {
                let is_text = scalars.binary_search_by(|scalar| match scalar {
                    Scalar::Text(one) => one.as_str().cmp(text),
                    Scalar::Time(_) => Ordering::Greater,
                    _ => Ordering::Less,
                });
                // Times are the last kind.
                is_text.is_ok()
                    || matches!(scalars.last(), Some(Scalar::Time(_)))
                        && Instant::parse(text).is_some_and(|instant| found(&Scalar::Time(instant)))
            }
        }
    }
}

impl FieldPath {
    /// Whether anything met at the field stops the walk.
    pub(super) fn any<'a>(&self, subject: &Subject<'a>, stop: &mut impl FnMut(Met<'a>) -> bool) -> bool {
        match self {
            FieldPath::Id => {
                let id = match subject.id {
                    Id::Number(number) => Seen::Number(Number::Whole((*number).into())),
                    Id::Text(text) => Seen::Text(text),
                };
                stop(Met::Field) || stop(Met::Value(id))
            }
            FieldPath::Title => subject
                .title
                .is_some_and(|title| stop(Met::Field) || stop(Met::Value(Seen::Text(title)))),
            FieldPath::Metadata(keys) => match keys.split_first() {
                Some((first, rest)) => subject
                    .metadata
                    .get(first)
                    .is_some_and(|value| walk(value, rest, stop)),
                None => false,
            },
        }
    }
}

/// Goes along the keys; where a list stands in the way, into each of its members.
fn walk<'a>(value: &'a Value, keys: &[String], stop: &mut impl FnMut(Met<'a>) -> bool) -> bool {
    match (value, keys.split_first()) {
        (_, None) => stop(Met::Field) || members(value, stop),
        (Value::Array(items), Some(_)) => items.iter().any(|item| walk(item, keys, stop)),
        (Value::Object(fields), Some((key, rest))) => {
            fields.get(key).is_some_and(|value| walk(value, rest, stop))
        }
        (_, Some(_)) => false,
    }
}

pub(super) fn members<'a>(value: &'a Value, stop: &mut impl FnMut(Met<'a>) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| members(item, stop)),
        other => stop(Met::Value(Seen::of(other))),
    }
}
