//! Exact search: every live document of every part, by the kernels.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use stratal_kernels::{Candidate, Device, Options, Plane, TopK, max_inner_product};
use stratal_storage::{LivePart, Part, Row};

use super::approximate::{self, Ask, Effort};
use super::{Field, Hit};
use crate::device::{Chosen, DevicePart};
use crate::filter::{alive, passing};
use crate::{CollectionSnapshot, Error, Filter, Id, Result};

/// Products of components for which a search stays on its caller's thread.
const LITTLE: u64 = 1 << 20;

/// What is searched for, the same for every part.
pub(super) struct Asked<'a> {
    /// `[count, D]`.
    pub queries: &'a [f32],
    pub count: usize,
    pub k: usize,
    pub floor: Option<f64>,
    pub layers: &'a [u32],
    pub filter: Option<&'a Filter>,
    pub device: Device,
    /// `None` to compare with every document.
    pub effort: Option<Effort>,
}

/// The best `k` documents for each query over the chosen layers.
pub(super) fn search(
    collection: &CollectionSnapshot,
    asked: &Asked<'_>,
    fields: &BTreeSet<Field>,
) -> Result<Vec<Vec<Hit>>> {
    let found = best(collection, asked)?;
    let mut rows: HashMap<(usize, u32), Hit> = HashMap::new();
    let mut answers = Vec::with_capacity(asked.count);
    for best in found {
        let mut hits = Vec::with_capacity(best.len());
        for (score, at) in best {
            // Queries of a batch often find the same documents: each is read once.
            let hit = match rows.get(&(at.part, at.row)) {
                Some(hit) => Hit { score, ..hit.clone() },
                None => {
                    let hit = read(collection, score, at.part, at.row, fields)?;
                    if asked.count > 1 {
                        rows.insert((at.part, at.row), hit.clone());
                    }
                    hit
                }
            };
            hits.push(hit);
        }
        answers.push(hits);
    }
    Ok(answers)
}

/// A row of the collection with the id that decides between equal scores.
struct Place {
    part: usize,
    row: u32,
    id: Id,
}

fn best(collection: &CollectionSnapshot, asked: &Asked<'_>) -> Result<Vec<Vec<(f64, Place)>>> {
    let floor = asked.floor.unwrap_or(f64::NEG_INFINITY);
    let by_id = |a: &Place, b: &Place| a.id.cmp(&b.id);
    let mut best: Vec<_> = (0..asked.count)
        .map(|_| TopK::with_floor(asked.k, floor, by_id))
        .collect();
    let pool = collection.engine.pool()?;
    let live: u64 = collection.inner.parts().iter().map(LivePart::live_rows).sum();
    let chosen = collection.engine.devices.choose(
        asked.device,
        live * asked.layers.len() as u64 * asked.queries.len() as u64,
    )?;
    // Large parts first: they raise the floor that lets the small ones be skipped.
    let mut order: Vec<usize> = (0..collection.inner.parts().len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(collection.inner.parts()[index].live_rows()));
    for index in order {
        let live = &collection.inner.parts()[index];
        if live.live_rows() == 0 {
            continue;
        }
        let mask = mask(collection, live, asked.filter)?;
        if mask.as_ref().is_some_and(|mask| ones(mask) == 0) {
            continue;
        }
        let planes = planes(collection, live, asked.layers)?;
        let floors: Vec<f64> = best.iter().map(TopK::floor).collect();
        // A damaged page met while ids are compared cannot leave the comparison; it fails the search after it.
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let id = |row: u32| match live.part().id(row) {
            Ok(id) => Some(id),
            Err(error) => {
                failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error.into());
                None
            }
        };
        let ties = |a: u32, b: u32| -> Ordering { id(a).cmp(&id(b)).then(a.cmp(&b)) };
        let scan = |queries: &[f32], floors: &[f64]| {
            let mut options = Options::new(asked.k).floors(floors).order(&ties);
            if let Some(mask) = &mask {
                options = options.live(mask);
            }
            // Waking another thread takes longer than a little work.
            let rows = mask.as_ref().map_or(live.live_rows(), |mask| ones(mask));
            let is_little = rows * (queries.len() * planes.len()) as u64 <= LITTLE;
            if is_little {
                options = options.single_threaded();
            }
            let search = || match on_device(collection, live, &chosen, asked, queries, &options)? {
                Some(found) => Ok(found),
                None => max_inner_product(queries, collection.schema.dimension(), &planes, &options)
                    .map_err(Error::from),
            };
            if is_little { search() } else { pool.install(search) }
        };
        let found = match asked.effort {
            None => scan(asked.queries, &floors)?,
            Some(effort) => {
                let ask = Ask {
                    collection,
                    planes: &planes,
                    layers: asked.layers,
                    queries: asked.queries,
                    k: asked.k,
                    floors: &floors,
                    ties: &ties,
                    mask: mask.as_deref(),
                };
                approximate::part(&ask, live, effort, &scan)?
            }
        };
        for (best, candidates) in best.iter_mut().zip(found) {
            for candidate in candidates {
                if let Some(id) = id(candidate.row) {
                    best.push(
                        candidate.score,
                        Place {
                            part: index,
                            row: candidate.row,
                            id,
                        },
                    );
                }
            }
        }
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
    }
    Ok(best.into_iter().map(TopK::into_sorted).collect())
}

/// What a device finds in a segment. `None` where the CPU searches: without a device, and in parts that are in
/// memory, which are small and soon gone.
fn on_device(
    collection: &CollectionSnapshot,
    live: &LivePart,
    chosen: &Chosen,
    asked: &Asked<'_>,
    queries: &[f32],
    options: &Options,
) -> Result<Option<Vec<Vec<Candidate>>>> {
    let layout = collection.schema.layout;
    let Part::Segment(segment) = live.part() else {
        return Ok(None);
    };
    let Some(key) = segment.vectors_checksum(layout.generation) else {
        return Ok(None);
    };
    if !chosen.is_device() {
        return Ok(None);
    }
    let all: Vec<u32> = (0..layout.layers).collect();
    let part = DevicePart {
        key,
        planes: &planes(collection, live, &all)?,
        layers: asked.layers,
    };
    chosen.search(
        &collection.engine.devices,
        &part,
        queries,
        layout.dimension as usize,
        options,
    )
}

fn planes<'a>(collection: &CollectionSnapshot, live: &'a LivePart, layers: &[u32]) -> Result<Vec<Plane<'a>>> {
    let layout = collection.schema.layout;
    let element = crate::index::element(layout.element)?;
    layers
        .iter()
        .map(|&layer| {
            let plane = live.part().plane(layout.generation, layer)?;
            let (rows, dimension) = (plane.rows as usize, layout.dimension as usize);
            Ok(Plane::new(plane.bytes, rows, dimension, plane.stride, element)?)
        })
        .collect()
}

fn ones(mask: &[u64]) -> u64 {
    mask.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// One bit a row, set if it is alive and passes the filter; `None` if all do.
fn mask(
    collection: &CollectionSnapshot,
    live: &LivePart,
    filter: Option<&Filter>,
) -> Result<Option<Vec<u64>>> {
    Ok(match filter {
        Some(filter) => Some(passing(collection, live, filter)?.into_words()),
        None if live.dead().is_empty() => None,
        None => Some(alive(live).into_words()),
    })
}

fn read(
    collection: &CollectionSnapshot,
    score: f64,
    part: usize,
    row: u32,
    fields: &BTreeSet<Field>,
) -> Result<Hit> {
    let part = collection.inner.parts()[part].part().clone();
    if fields.is_empty() {
        let (id, version) = (part.id(row)?, part.version(row)?);
        return Ok(Hit {
            id,
            score,
            version,
            title: None,
            text: None,
            metadata: serde_json::Map::new(),
            vectors: Vec::new(),
        });
    }
    let document = collection.read(Row { part, row })?;
    let wants = |field| fields.contains(&field);
    Ok(Hit {
        id: document.id().clone(),
        score,
        version: document.version(),
        title: document
            .title()
            .filter(|_| wants(Field::Title))
            .map(str::to_owned),
        text: document.text().filter(|_| wants(Field::Text)).map(str::to_owned),
        metadata: if wants(Field::Metadata) {
            document.metadata().clone()
        } else {
            serde_json::Map::new()
        },
        vectors: if wants(Field::Vectors) {
            document.layer_vectors()?
        } else {
            Vec::new()
        },
    })
}
