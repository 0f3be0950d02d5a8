//! Filters: which documents a search, a count or a deletion is about.
//!
//! A filter is made in a program with [`field`], or read from its text form with [`Filter::parse`]; the two say the
//! same things. It is used by `filter(…)` of a search, by [`crate::CollectionSnapshot::count_where`] and
//! [`crate::CollectionSnapshot::iter_where`], and by [`crate::Transaction::delete_where`].
//!
//! ```
//! use stratal::{Filter, field, time};
//!
//! let built = field("year").ge(2020) & field("lang").is_in(["en", "de"]) & !field("draft").eq(true);
//! let parsed = Filter::parse(r#"year >= 2020 and lang in ["en", "de"] and draft != true"#)?;
//! assert_eq!(built, parsed);
//! let recent = field("seen").gt(time("2024-01-31T23:59:00+01:00")) | field("seen").is_null();
//! assert_eq!(recent.to_string(), r#"seen > time("2024-01-31T22:59:00Z") or seen is null"#);
//! # Ok::<(), stratal::FilterError>(())
//! ```
//!
//! # The text form
//!
//! | test | holds if |
//! | --- | --- |
//! | `year = 2020` (or `==`) | a value of `year` is 2020 |
//! | `year != 2020` (or `<>`) | not `year = 2020` |
//! | `year < 2020`, `<=`, `>`, `>=` | a value of `year` is less than 2020, … |
//! | `year between 1990 and 1999` | one value of `year` is ≥ 1990 and ≤ 1999 |
//! | `lang in ["en", "de"]` | a value of `lang` is one of them |
//! | `title starts with "The "` | a value of `title` is a text that begins so |
//! | `exists(year)` | there is a field `year`, whatever it holds |
//! | `year is null` | a value of `year` is null |
//! | `tags is empty` | `tags` is there and holds no value: `[]` |
//! | `a and b`, `a or b`, `not a` | as they say; `not` binds before `and`, `and` before `or`, parentheses before all |
//!
//! `not in`, `not between`, `not starts with`, `is not null` and `is not empty` negate the test. Keywords are read in
//! any case. Texts stand in `"…"` or `'…'` with JSON's escapes; numbers as in JSON; `true`, `false`, `null`;
//! a point in time is written `time("2024-01-31T23:59:00Z")`. Names of fields stand bare when they are words (letters,
//! digits, `_`, `$`, `-`) and none of `and or not in is between exists true false null`; others in backticks, where
//! `\` escapes. A dot goes into an object: `geo.lat`, `` `a.b`.c ``. An empty text is no filter and is refused.
//!
//! # What is compared, and how
//!
//! - **Fields.** A field is a key of the metadata, or keys inside each other. Two more stand beside the metadata:
//!   `@id`, the document's id, and `@title`. A metadata key that begins with `@` is written in backticks.
//! - **Lists** are opened: the values of a field are the members of its list, and of lists in it. `tags = "x"` holds
//!   for `"x"`, `["x", "y"]` and `[["x"]]`. Where a list stands on the way along a path, the path goes on into each
//!   member: `authors.name = "Ada"` looks at all authors. A test holds if it holds for *one* value; so for
//!   `{"x": [0, 5]}` both `x < 1 and x > 4` and `x != 5 or x = 0` hold, and `x between 1 and 4` does not.
//! - **Objects** are there (`exists`), and equal nothing; test the fields in them.
//! - **Kinds never meet.** A number is compared with numbers alone, a text with texts, a boolean with booleans: `3`,
//!   `"3"` and `true` are neither equal nor more nor less. Booleans and null have no order.
//! - **Numbers** are compared by value and to the last digit: `3` is `3.0`, and 2^53 + 1 is not 2^53. As JSON is read,
//!   whole numbers from -2^63 to 2^64 - 1 are exact and all others are the nearest f64, in filters and in documents.
//! - **Texts** are compared by their Unicode code points, with case and without any normalisation.
//! - **Times.** `time("…")` is compared with texts that are points in time themselves: RFC 3339 with an offset,
//!   seconds optional, to the nanosecond. They are compared as instants, whatever their offsets. Texts without an
//!   offset, and those that are no dates, never match a time. Without `time(…)` a date is a text like any other;
//!   `date >= "2024-01-01"` compares letters.
//! - **Null, missing, empty.** For documents `{"x": null}`, `{"x": [null, 1]}`, `{"x": []}` and `{}`: `exists(x)`
//!   holds for the first three, `x is null` (and `x = null`) for the first two, `x is empty` for the third, and none
//!   for the last.
//! - **Not** is the exact complement, `!=` too: a document without the field passes `year != 2020`, and so does one
//!   whose year is a text. De Morgan's laws hold. Say `exists(year) and year != 2020` to leave those without out.
//!
//! Answers never depend on indexes: they are those of this evaluation, over all documents, whether these are in
//! memory or in segments, and whether a segment's index is there, incomplete or damaged.

mod build;
mod error;
mod evaluate;
mod fields;
mod index;
mod instant;
mod lexer;
mod literal;
mod number;
mod parse;
mod path;
mod rows;
mod select;
mod tree;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub use build::{FilterField, field, field_at};
pub use error::FilterError;
use evaluate::Subject;
pub use fields::UnknownField;
pub(crate) use index::{Indexes, is_missing, write};
pub use literal::{Literal, time};
pub(crate) use select::{alive, passing};
use tree::Node;

use crate::Id;

/// How deep `and`, `or`, `not` and parentheses may nest.
pub const DEPTH_MAX: usize = 64;

/// A condition on documents. See the [module](self) for what it can say.
///
/// Filters are joined by `&`, `|` and `!`. Where a part cannot be used (a bad name or time, a number that is none),
/// the whole cannot, and whatever takes it refuses it with that part's error; [`Filter::check`] asks beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a filter does nothing by itself"]
pub struct Filter {
    root: Result<Node, FilterError>,
    /// The nodes on the longest way down.
    depth: usize,
}

impl Filter {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`FilterError::Empty`], [`FilterError::Syntax`] with the place, [`FilterError::Depth`].
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        parse::parse(text)
    }

    /// Whether it can be used.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), FilterError> {
        self.root.as_ref().map(|_| ()).map_err(FilterError::clone)
    }

    /// Whether a document of this id, title and metadata passes.
    ///
    /// # Errors
    /// As [`Filter::check`].
    pub fn matches(
        &self,
        id: &Id,
        title: Option<&str>,
        metadata: &Map<String, Value>,
    ) -> Result<bool, FilterError> {
        Ok(self.node()?.matches(&Subject { id, title, metadata }))
    }

    /// The fields it names, each once, as the text form writes them.
    pub fn fields(&self) -> Vec<String> {
        let mut fields = std::collections::BTreeSet::new();
        if let Ok(node) = &self.root {
            node.fields(&mut |path| {
                fields.insert(path);
            });
        }
        fields.into_iter().map(ToString::to_string).collect()
    }

    pub(crate) fn node(&self) -> Result<&Node, FilterError> {
        self.root.as_ref().map_err(FilterError::clone)
    }

    fn of(root: Result<Node, FilterError>) -> Filter {
        Filter { root, depth: 1 }
    }

    fn checked(self) -> Result<Filter, FilterError> {
        self.check().map(|()| self)
    }

    /// A node over others, if it is not too deep: whatever walks a tree does so on the stack.
    fn over(root: Node, depth: usize) -> Filter {
        let root = if depth > DEPTH_MAX {
            Err(FilterError::Depth)
        } else {
            Ok(root)
        };
        Filter { root, depth }
    }

    /// Joins two filters, taking in what is joined by the same word.
    fn joined(
        self,
        other: Filter,
        take: fn(Node) -> Result<Vec<Node>, Node>,
        join: fn(Vec<Node>) -> Node,
    ) -> Filter {
        let (a, b) = match (self.root, other.root) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(error), _) | (_, Err(error)) => return Filter::of(Err(error)),
        };
        let mut depth = 0;
        let mut opened = |node, own: usize| match take(node) {
            Ok(nodes) => {
                depth = depth.max(own);
                nodes
            }
            Err(node) => {
                depth = depth.max(own + 1);
                vec![node]
            }
        };
        let mut nodes = opened(a, self.depth);
        nodes.extend(opened(b, other.depth));
        Filter::over(join(nodes), depth)
    }
}

impl std::ops::BitAnd for Filter {
    type Output = Filter;

    /// Both hold.
    fn bitand(self, other: Filter) -> Filter {
        let take = |node| match node {
            Node::And(nodes) => Ok(nodes),
            other => Err(other),
        };
        self.joined(other, take, Node::And)
    }
}

impl std::ops::BitOr for Filter {
    type Output = Filter;

    /// One of them holds, or both.
    fn bitor(self, other: Filter) -> Filter {
        let take = |node| match node {
            Node::Or(nodes) => Ok(nodes),
            other => Err(other),
        };
        self.joined(other, take, Node::Or)
    }
}

impl std::ops::Not for Filter {
    type Output = Filter;

    /// It does not hold.
    fn not(self) -> Filter {
        match self.root {
            Ok(Node::Not(node)) => Filter {
                root: Ok(*node),
                depth: self.depth - 1,
            },
            Ok(node) => Filter::over(Node::Not(Box::new(node)), self.depth + 1),
            Err(error) => Filter::of(Err(error)),
        }
    }
}

impl Filter {
    /// Both hold; the same as `&`.
    pub fn and(self, other: impl Into<Filter>) -> Filter {
        self & other.into()
    }

    /// One of them holds, or both; the same as `|`.
    pub fn or(self, other: impl Into<Filter>) -> Filter {
        self | other.into()
    }
}

/// Reads the text form; what is wrong with it is told when the filter is used.
impl From<&str> for Filter {
    fn from(text: &str) -> Filter {
        Filter::parse(text).unwrap_or_else(|error| Filter::of(Err(error)))
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Filter, FilterError> {
        Filter::parse(text)
    }
}

/// In the text form, which [`Filter::parse`] reads as the same filter; one that cannot be used says why.
impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.root {
            Ok(node) => write!(f, "{node}"),
            Err(error) => write!(f, "<{error}>"),
        }
    }
}
