//! Making filters in a program.

use super::literal::{Literal, Scalar};
use super::path::FieldPath;
use super::tree::{Comparison, Node, Test};
use super::{Filter, FilterError};

/// A field that a filter tests; made by [`field`] and [`field_at`].
#[derive(Clone, Debug)]
#[must_use = "a field is no filter before it is tested"]
pub struct FilterField(Result<FieldPath, FilterError>);

/// A field by its name: a key of the metadata, or keys inside each other with dots between (`geo.lat`); or what a
/// document has beside its metadata, `@id` or `@title`.
///
/// A key that holds a dot or a backtick, or begins with `@`, stands in backticks, where a backslash escapes:
/// ``field("`a.b`.c")``. With [`field_at`] nothing needs escaping. A name that cannot be read makes a filter that is
/// refused when it is used ([`FilterError::Path`]).
pub fn field(name: impl AsRef<str>) -> FilterField {
    FilterField(FieldPath::parse(name.as_ref()))
}

/// A field of the metadata by its keys from the outside in, taken as they are: `field_at(["geo", "lat"])`.
pub fn field_at(keys: impl IntoIterator<Item = impl Into<String>>) -> FilterField {
    let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
    FilterField(match keys.is_empty() {
        true => Err(FilterError::Path {
            path: String::new(),
            what: "it takes one key at least".to_owned(),
        }),
        false => Ok(FieldPath::Metadata(keys)),
    })
}

impl FilterField {
    fn test(self, test: Result<Test, FilterError>) -> Filter {
        Filter::of(self.0.and_then(|path| Ok(Node::Test(path, test?))))
    }

    fn compare(self, comparison: Comparison, value: Literal) -> Filter {
        let value = value.0.and_then(Scalar::ordered);
        self.test(value.map(|value| Test::Compare(comparison, value)))
    }

    /// A value of the field is this one.
    pub fn eq(self, value: impl Into<Literal>) -> Filter {
        self.test(value.into().0.map(Test::Equal))
    }

    /// No value of the field is this one; so documents without the field pass too.
    pub fn ne(self, value: impl Into<Literal>) -> Filter {
        !self.eq(value)
    }

    /// A value of the field is less than this one, and of its kind.
    pub fn lt(self, value: impl Into<Literal>) -> Filter {
        self.compare(Comparison::Less, value.into())
    }

    /// A value of the field is at most this one, and of its kind.
    pub fn le(self, value: impl Into<Literal>) -> Filter {
        self.compare(Comparison::LessOrEqual, value.into())
    }

    /// A value of the field is greater than this one, and of its kind.
    pub fn gt(self, value: impl Into<Literal>) -> Filter {
        self.compare(Comparison::Greater, value.into())
    }

    /// A value of the field is at least this one, and of its kind.
    pub fn ge(self, value: impl Into<Literal>) -> Filter {
        self.compare(Comparison::GreaterOrEqual, value.into())
    }

    /// One value of the field lies between these two, both of which count as between.
    pub fn between(self, low: impl Into<Literal>, high: impl Into<Literal>) -> Filter {
        self.test(between(low.into().0, high.into().0))
    }

    /// A value of the field is one of these; of none, none is.
    pub fn is_in(self, values: impl IntoIterator<Item = impl Into<Literal>>) -> Filter {
        let values: Result<Vec<Scalar>, FilterError> =
            values.into_iter().map(|value| value.into().0).collect();
        self.test(values.map(one_of))
    }

    /// A value of the field is a text that begins so, letter by letter.
    pub fn starts_with(self, prefix: impl Into<String>) -> Filter {
        self.test(Ok(Test::StartsWith(prefix.into())))
    }

    /// The field is there, whatever it holds: null and an empty list count.
    pub fn exists(self) -> Filter {
        self.test(Ok(Test::Exists))
    }

    /// The field is null, or a list with null in it. One that is missing is not null.
    pub fn is_null(self) -> Filter {
        self.test(Ok(Test::Equal(Scalar::Null)))
    }

    /// The field is there and holds no value: an empty list.
    pub fn is_empty(self) -> Filter {
        self.test(Ok(Test::Empty))
    }
}

pub(super) fn between(
    low: Result<Scalar, FilterError>,
    high: Result<Scalar, FilterError>,
) -> Result<Test, FilterError> {
    let (low, high) = (low?.ordered()?, high?.ordered()?);
    if low.kind() != high.kind() {
        return Err(FilterError::Range {
            low: low.kind(),
            high: high.kind(),
        });
    }
    Ok(Test::Between(low, high))
}

pub(super) fn one_of(mut values: Vec<Scalar>) -> Test {
    values.sort_unstable();
    values.dedup();
    Test::In(values)
}
