//! What an index says of a filter: rows that pass for certain, and rows that may.

use stratal_storage::Part;

use super::super::literal::Scalar;
use super::super::number::Number;
use super::super::path::FieldPath;
use super::super::rows::Rows;
use super::super::tree::{Comparison, Node, Test};
use super::read::{Entry, Found, Index};
use super::{Dictionary, Set, name_of};
use crate::Id;

/// Between these the truth lies; both are of one part.
pub(in super::super) struct Bounds {
    /// Rows that pass.
    pub passing: Rows,
    /// Rows that may pass, those included; `None` where they are the same.
    pub possible: Option<Rows>,
}

/// What can be said of the rows of a part without reading them; without an index little beside their ids.
pub(in super::super) fn answer(node: &Node, index: Option<&Index>, part: &Part) -> Found<Bounds> {
    let rows = part.rows();
    match node {
        Node::And(nodes) => joined(nodes, index, part, Rows::intersect),
        Node::Or(nodes) => joined(nodes, index, part, Rows::unite),
        Node::Not(node) => {
            let Bounds { passing, possible } = answer(node, index, part)?;
            Ok(match possible {
                None => certain(passing.complement()),
                Some(possible) => Bounds {
                    passing: possible.complement(),
                    possible: Some(passing.complement()),
                },
            })
        }
        Node::Test(FieldPath::Metadata(keys), test) => match index {
            Some(index) => of_field(index, &name_of(keys), test, rows),
            None => Ok(unknown(rows)),
        },
        Node::Test(FieldPath::Id, test) => of_id(test, part),
        Node::Test(FieldPath::Title, _) => Ok(unknown(rows)),
    }
}

fn certain(passing: Rows) -> Bounds {
    Bounds {
        passing,
        possible: None,
    }
}

fn unknown(rows: u32) -> Bounds {
    Bounds {
        passing: Rows::none(rows),
        possible: Some(Rows::all(rows)),
    }
}

fn joined(nodes: &[Node], index: Option<&Index>, part: &Part, join: fn(&mut Rows, &Rows)) -> Found<Bounds> {
    let mut bounds: Option<Bounds> = None;
    for node in nodes {
        let next = answer(node, index, part)?;
        let Some(Bounds { passing, possible }) = &mut bounds else {
            bounds = Some(next);
            continue;
        };
        if possible.is_some() || next.possible.is_some() {
            let wider = possible.get_or_insert_with(|| passing.clone());
            join(wider, next.possible.as_ref().unwrap_or(&next.passing));
        }
        join(passing, &next.passing);
    }
    Ok(bounds.unwrap_or_else(|| unknown(part.rows())))
}

/// Ids have a table of their own, for equality.
fn of_id(test: &Test, part: &Part) -> Found<Bounds> {
    let scalars = match test {
        Test::Equal(scalar) => std::slice::from_ref(scalar),
        Test::In(scalars) => scalars.as_slice(),
        _ => return Ok(unknown(part.rows())),
    };
    let mut rows = Rows::none(part.rows());
    for scalar in scalars {
        let id = match scalar {
            Scalar::Text(text) => Id::Text(text.clone()),
            Scalar::Number(Number::Whole(value)) => match u64::try_from(*value) {
                Ok(number) => Id::Number(number),
                Err(_) => continue,
            },
            // A text may be that instant in any of its spellings.
            Scalar::Time(_) => return Ok(unknown(part.rows())),
            _ => continue,
        };
        let found = part.find_all(&id).map_err(|error| error.to_string())?;
        found.into_iter().for_each(|row| rows.insert(row));
    }
    Ok(certain(rows))
}

fn of_field(index: &Index, name: &[u8], test: &Test, rows: u32) -> Found<Bounds> {
    let (passing, unsure) = match index.find(name)? {
        None => (Rows::none(rows), index.others()?),
        // Who has a field, and who has nothing in it, is written down for every field that is listed.
        Some(entry) => match test {
            Test::Exists => return Ok(certain(entry.set(Set::Present)?)),
            Test::Empty => return Ok(certain(entry.set(Set::Empty)?)),
            test => (of_values(&entry, test, rows)?, entry.set(Set::Unsure)?),
        },
    };
    Ok(match unsure.is_empty() {
        true => certain(passing),
        false => {
            let mut possible = passing.clone();
            possible.unite(&unsure);
            Bounds {
                passing,
                possible: Some(possible),
            }
        }
    })
}

fn of_values(entry: &Entry<'_>, test: &Test, bound: u32) -> Found<Rows> {
    let mut rows = Rows::none(bound);
    match test {
        Test::Equal(scalar) => equal(entry, scalar, &mut rows)?,
        Test::In(scalars) => scalars
            .iter()
            .try_for_each(|scalar| equal(entry, scalar, &mut rows))?,
        Test::Compare(comparison, scalar) => {
            if let Some((kind, key)) = key_of(scalar) {
                let key = key.as_slice();
                match comparison {
                    Comparison::Less => entry.range(kind, &mut rows, |_| false, |value| value >= key)?,
                    Comparison::LessOrEqual => {
                        entry.range(kind, &mut rows, |_| false, |value| value > key)?
                    }
                    Comparison::Greater => entry.range(kind, &mut rows, |value| value <= key, |_| false)?,
                    Comparison::GreaterOrEqual => {
                        entry.range(kind, &mut rows, |value| value < key, |_| false)?
                    }
                }
            }
        }
        Test::Between(low, high) => {
            // Both are of one kind.
            if let (Some((kind, low)), Some((_, high))) = (key_of(low), key_of(high)) {
                entry.range(
                    kind,
                    &mut rows,
                    |value| value < low.as_slice(),
                    |value| value > high.as_slice(),
                )?;
            }
        }
        Test::StartsWith(prefix) => {
            let prefix = prefix.as_bytes();
            let after = |value: &[u8]| value > prefix && !value.starts_with(prefix);
            entry.range(Dictionary::Texts, &mut rows, |value| value < prefix, after)?;
        }
        Test::Exists | Test::Empty => {}
    }
    Ok(rows)
}

fn equal(entry: &Entry<'_>, scalar: &Scalar, rows: &mut Rows) -> Found<()> {
    let set = match scalar {
        Scalar::Null => Set::Null,
        Scalar::Bool(false) => Set::False,
        Scalar::Bool(true) => Set::True,
        other => {
            let Some((kind, key)) = key_of(other) else {
                return Ok(());
            };
            let key = key.as_slice();
            return entry.range(kind, rows, |value| value < key, |value| value > key);
        }
    };
    rows.unite(&entry.set(set)?);
    Ok(())
}

/// The dictionary that a value would be in, and its bytes there.
fn key_of(scalar: &Scalar) -> Option<(Dictionary, Vec<u8>)> {
    match scalar {
        Scalar::Null | Scalar::Bool(_) => None,
        Scalar::Number(number) => Some((Dictionary::Numbers, number.key().to_vec())),
        Scalar::Text(text) => Some((Dictionary::Texts, text.as_bytes().to_vec())),
        Scalar::Time(instant) => Some((Dictionary::Times, instant.key().to_vec())),
    }
}
