//! Which rows of a collection pass.

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use stratal_storage::{LivePart, PayloadCursor};

use super::Filter;
use super::evaluate::Subject;
use super::index::answer;
use super::path::FieldPath;
use super::rows::Rows;
use super::tree::Node;
use crate::document::Payload;
use crate::{CollectionSnapshot, Error, Id, Result};

/// Rows that one thread evaluates at a time: some payload blocks, so that few are unpacked twice.
const PIECE_ROWS: usize = 2048;

/// The rows of a part that are alive.
pub(crate) fn alive(live: &LivePart) -> Rows {
    let mut rows = Rows::all(live.part().rows());
    live.dead().iter().for_each(|row| rows.remove(row));
    rows
}

/// The rows of a part that are alive and pass a filter: what its index is certain of, and what reading tells of the
/// rest.
pub(crate) fn passing(collection: &CollectionSnapshot, live: &LivePart, filter: &Filter) -> Result<Rows> {
    let node = filter.node()?;
    let alive = alive(live);
    if alive.is_empty() {
        return Ok(alive);
    }
    let index = collection.engine.filters.of(live.part());
    let bounds = match answer(node, index.as_deref(), live.part()) {
        Ok(bounds) => bounds,
        Err(why) => {
            let index = index.map(|index| index.place()).unwrap_or_default();
            tracing::warn!(
                index,
                why,
                "documents are read instead of their index; compaction writes it again"
            );
            return plainly(collection, live, node, alive);
        }
    };
    let mut passing = bounds.passing;
    passing.intersect(&alive);
    if let Some(mut unsure) = bounds.possible {
        unsure.intersect(&alive);
        unsure.subtract(&passing);
        passing.unite(&plainly(collection, live, node, unsure)?);
    }
    Ok(passing)
}

/// Those of the candidates that pass, by reading each.
fn plainly(collection: &CollectionSnapshot, live: &LivePart, node: &Node, candidates: Rows) -> Result<Rows> {
    let mut names_id = false;
    node.fields(&mut |path| names_id |= matches!(path, FieldPath::Id));
    let nobody = Id::Number(0);
    let evaluate = |rows: &[u32]| -> Result<Vec<u32>> {
        let mut cursor = PayloadCursor::default();
        let mut passing = Vec::new();
        for &row in rows {
            let id = if names_id {
                live.part().id(row)?
            } else {
                nobody.clone()
            };
            let bytes = live.part().payload_with(row, &mut cursor)?;
            let payload = match Payload::read(bytes) {
                Ok(payload) => payload,
                Err(what) => {
                    let id = live.part().id(row)?;
                    return Err(Error::Payload { id, what });
                }
            };
            let subject = Subject {
                id: &id,
                title: payload.title,
                metadata: &payload.metadata(),
            };
            if node.matches(&subject) {
                passing.push(row);
            }
        }
        Ok(passing)
    };
    let rows: Vec<u32> = candidates.iter().collect();
    let pieces: Vec<&[u32]> = rows.chunks(PIECE_ROWS).collect();
    let passing: Result<Vec<Vec<u32>>> = match pieces.as_slice() {
        [] => Ok(Vec::new()),
        [only] => evaluate(only).map(|rows| vec![rows]),
        _ => collection
            .engine
            .pool()?
            .install(|| pieces.into_par_iter().map(evaluate).collect()),
    };
    let mut rows = Rows::none(live.part().rows());
    passing?.into_iter().flatten().for_each(|row| rows.insert(row));
    Ok(rows)
}
