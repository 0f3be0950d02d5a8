//! Which fields documents have, and what was meant by one that none has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use stratal_storage::{LivePart, Row};

use super::Filter;
use super::error::short;
use super::path::FieldPath;
use super::rows::Rows;
use super::select::{alive, passing};
use super::tree::{Node, Test};
use crate::{CollectionSnapshot, Result};

/// A field that a filter names and no document has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// The field, as the text form writes it.
    pub field: String,
    /// The field of the most similar name and how many documents have it, if one is similar.
    pub similar: Option<(String, u64)>,
}

impl std::fmt::Display for UnknownField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no document has a field {}", short(&self.field))?;
        match &self.similar {
            Some((name, 1)) => write!(f, "; did you mean {name}, which one document has?"),
            Some((name, documents)) => write!(f, "; did you mean {name}, which {documents} documents have?"),
            None => Ok(()),
        }
    }
}

impl CollectionSnapshot {
    /// Fields that a filter names and no document has: slips, most likely. They are no error of a search, which
    /// tells missing fields by their own rules; a careful caller asks before deleting.
    ///
    /// # Errors
    /// [`crate::Error::Filter`], [`crate::Error::Storage`] for damage.
    pub fn unknown_fields(&self, filter: &Filter) -> Result<Vec<UnknownField>> {
        let mut named = BTreeSet::new();
        filter.node()?.fields(&mut |path| {
            if matches!(path, FieldPath::Metadata(_)) {
                named.insert(path);
            }
        });
        let mut unknown = Vec::new();
        for path in named {
            let exists = Filter::of(Ok(Node::Test(path.clone(), Test::Exists)));
            if self.count() > 0 && self.count_where(exists)? == 0 {
                unknown.push(path.to_string());
            }
        }
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.fields()?;
        let similar = |field: &str| {
            let limit = field.chars().count().max(3) / 3;
            known
                .iter()
                .map(|(name, documents)| (edit_distance(name, field), std::cmp::Reverse(*documents), name))
                .filter(|(distance, ..)| *distance <= limit)
                .min()
                .map(|(_, documents, name)| (name.clone(), documents.0))
        };
        Ok(unknown
            .into_iter()
            .map(|field| UnknownField {
                similar: similar(&field),
                field,
            })
            .collect())
    }

    /// Every field of the metadata, as the text form of filters writes it, and how many documents have it.
    ///
    /// # Errors
    /// [`crate::Error::Storage`] for damage.
    pub fn fields(&self) -> Result<BTreeMap<String, u64>> {
        let mut fields: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        for live in self.inner.parts() {
            for (path, documents) in self
                .indexed_fields(live)
                .map_or_else(|| self.read_fields(live), Ok)?
            {
                *fields.entry(path).or_insert(0) += documents;
            }
        }
        fields.retain(|_, documents| *documents > 0);
        Ok(fields
            .into_iter()
            .map(|(path, documents)| (FieldPath::Metadata(path).to_string(), documents))
            .collect())
    }

    /// The fields of a part and in how many of its live documents they are, if an index lists them all.
    fn indexed_fields(&self, live: &LivePart) -> Option<Vec<(Vec<String>, u64)>> {
        let index = self.engine.filters.of(live.part())?;
        if !index.others().ok()?.is_empty() {
            return None;
        }
        let alive = alive(live);
        let of_field = |(path, mut rows): (Vec<String>, Rows)| {
            rows.intersect(&alive);
            (path, rows.len())
        };
        Some(index.fields().ok()?.into_iter().map(of_field).collect())
    }

    fn read_fields(&self, live: &LivePart) -> Result<Vec<(Vec<String>, u64)>> {
        let mut fields = BTreeMap::new();
        for row in alive(live).iter() {
            let document = self.read(Row {
                part: live.part().clone(),
                row,
            })?;
            let mut own = BTreeSet::new();
            paths_of(document.metadata(), &mut Vec::new(), &mut own);
            for path in own {
                *fields.entry(path).or_insert(0) += 1;
            }
        }
        Ok(fields.into_iter().collect())
    }

    /// How many documents pass a filter.
    ///
    /// # Errors
    /// [`crate::Error::Filter`], [`crate::Error::Storage`] for damage.
    pub fn count_where(&self, filter: impl Into<Filter>) -> Result<u64> {
        let filter = filter.into();
        self.inner
            .parts()
            .iter()
            .map(|live| Ok(passing(self, live, &filter)?.len()))
            .sum()
    }
}

fn paths_of(fields: &Map<String, Value>, at: &mut Vec<String>, paths: &mut BTreeSet<Vec<String>>) {
    for (key, value) in fields {
        at.push(key.clone());
        paths.insert(at.clone());
        inside(value, at, paths);
        at.pop();
    }
}

fn inside(value: &Value, at: &mut Vec<String>, paths: &mut BTreeSet<Vec<String>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| inside(item, at, paths)),
        Value::Object(fields) => paths_of(fields, at, paths),
        _ => {}
    }
}

/// Letters to add, leave out, or change, or neighbours to swap, to get from one name to the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(last[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::edit_distance;

    #[test]
    fn slips_are_near_and_other_names_far() {
        let pairs = [
            ("year", "yaer", 1),
            ("year", "years", 1),
            ("lang", "long", 1),
            ("", "abc", 3),
            ("a", "b", 1),
        ];
        for (a, b, distance) in pairs {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }
}
