//! Exact search: every live document of every part, by the kernels.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use stratal_kernels::{Candidate, Counters, Device, Instructions, Options, Plane, TopK, max_inner_product};
use stratal_storage::{CompanionKind, LivePart, Part, Row};

use super::approximate::{self, Ask, Effort};
use super::explain::{Explanation, PartExplanation, SearchPath};
use super::{Field, Hit, THIN};
use crate::device::{Chosen, DevicePart};
use crate::filter::{alive, passing};
use crate::{CollectionSnapshot, Error, Filter, Id, Result, codes};

/// Products of components for which a search stays on its caller's thread.
const LITTLE: u64 = 1 << 20;

/// Queries whose documents are named together.
const TOGETHER: usize = 16;

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

/// The best `k` documents for each query over the chosen layers; what was done goes to `explanation`.
pub(super) fn search(
    collection: &CollectionSnapshot,
    asked: &Asked<'_>,
    fields: &BTreeSet<Field>,
    explanation: &mut Explanation,
) -> Result<Vec<Vec<Hit>>> {
    let begun = Instant::now();
    let found = best(collection, asked, explanation)?;
    explanation.comparing = begun.elapsed();
    let begun = Instant::now();
    let parts = collection.inner.parts();
    let mut rows: HashMap<(usize, u32), Hit> = HashMap::new();
    let mut answers = Vec::with_capacity(asked.count);
    for best in found {
        let mut hits = Vec::with_capacity(best.len());
        for (score, at) in best {
            let part = parts[at.part].part();
            if fields.is_empty() {
                hits.push(bare(score, at.id, at.version));
                continue;
            }
            // Queries of a batch often find the same documents: each is read once.
            if let Some(hit) = rows.get(&(at.part, at.row)) {
                hits.push(Hit { score, ..hit.clone() });
                continue;
            }
            let row = Row {
                part: part.clone(),
                row: at.row,
            };
            let hit = read(collection, score, row, fields)?;
            if asked.count > 1 {
                rows.insert((at.part, at.row), hit.clone());
            }
            hits.push(hit);
        }
        answers.push(hits);
    }
    explanation.reading = begun.elapsed();
    Ok(answers)
}

/// A row of the collection with the id that decides between equal scores.
struct Place {
    part: usize,
    row: u32,
    id: Id,
    version: u64,
}

fn best(
    collection: &CollectionSnapshot,
    asked: &Asked<'_>,
    explanation: &mut Explanation,
) -> Result<Vec<Vec<(f64, Place)>>> {
    let floor = asked.floor.unwrap_or(f64::NEG_INFINITY);
    let by_id = |a: &Place, b: &Place| a.id.cmp(&b.id);
    let mut best: Vec<_> = (0..asked.count)
        .map(|_| TopK::with_floor(asked.k, floor, by_id))
        .collect();
    let pool = collection.engine.pool()?;
    let rows = collection.inner.parts().iter().map(LivePart::live_rows);
    let is_only = rows.clone().filter(|&rows| rows > 0).count() == 1;
    let live: u64 = rows.sum();
    let chosen = collection.engine.devices.choose(
        asked.device,
        live * asked.layers.len() as u64 * asked.queries.len() as u64,
    )?;
    explanation.threads = pool.current_num_threads();
    explanation.instructions = format!("{:?}", Instructions::best());
    // Large parts first: they raise the floor that lets the small ones be skipped.
    let mut order: Vec<usize> = (0..collection.inner.parts().len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(collection.inner.parts()[index].live_rows()));
    for index in order {
        let live = &collection.inner.parts()[index];
        if live.live_rows() == 0 {
            continue;
        }
        let begun = Instant::now();
        let mask = mask(collection, live, asked.filter)?;
        if mask.as_ref().is_some_and(|mask| ones(mask) == 0) {
            continue;
        }
        let floors: Vec<f64> = best.iter().map(TopK::floor).collect();
        let searched = Searched {
            collection,
            asked,
            live,
            mask: mask.as_deref(),
            floors: &floors,
            chosen: &chosen,
            pool: &pool,
        };
        let (found, mut explained) = searched.run()?;
        let found = places(live, index, &found)?;
        explained.time = begun.elapsed();
        explanation.parts.push(explained);
        if is_only {
            // Its order is that of the answer.
            return Ok(found);
        }
        for (best, places) in best.iter_mut().zip(found) {
            for (score, place) in places {
                best.push(score, place);
            }
        }
    }
    Ok(best.into_iter().map(TopK::into_sorted).collect())
}

/// What was found in a part for each query, with the ids.
fn places(live: &LivePart, part: usize, found: &[Vec<Candidate>]) -> Result<Vec<Vec<(f64, Place)>>> {
    let mut places = Vec::with_capacity(found.len());
    let mut rows = Vec::new();
    for some in found.chunks(TOGETHER) {
        rows.clear();
        rows.extend(some.iter().flatten().map(|candidate| candidate.row));
        let mut named = live.part().ids_and_versions(&rows)?.into_iter();
        for candidates in some {
            let pairs = candidates.iter().zip(named.by_ref());
            let place = |(candidate, (id, version)): (&Candidate, (Id, u64))| {
                let row = candidate.row;
                (
                    candidate.score,
                    Place {
                        part,
                        row,
                        id,
                        version,
                    },
                )
            };
            places.push(pairs.map(place).collect());
        }
    }
    Ok(places)
}

/// One part that is searched.
struct Searched<'a> {
    collection: &'a CollectionSnapshot,
    asked: &'a Asked<'a>,
    live: &'a LivePart,
    /// A bit for each row that counts; `None` if all do.
    mask: Option<&'a [u64]>,
    /// One for each query.
    floors: &'a [f64],
    chosen: &'a Chosen,
    pool: &'a ThreadPool,
}

impl Searched<'_> {
    /// The best rows for each query, and what was done for them.
    fn run(&self) -> Result<(Vec<Vec<Candidate>>, PartExplanation)> {
        let (asked, live) = (self.asked, self.live);
        let generation = self.collection.schema.layout.generation;
        // A damaged page met while rows are read or compared cannot leave the kernels; it fails the search after.
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let failed = |error: stratal_storage::Error| {
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error.into());
        };
        let id = |row: u32| live.part().id(row).map_err(&failed).ok();
        let ties = |a: u32, b: u32| -> Ordering { id(a).cmp(&id(b)).then(a.cmp(&b)) };
        let check = |rows: Range<u32>| {
            asked.layers.iter().all(|&layer| {
                let read = live.part().plane_rows(generation, layer, rows.clone());
                read.map_err(&failed).is_ok()
            })
        };
        let counters = Counters::default();
        let mut options = Options::new(asked.k)
            .order(&ties)
            .check(&check)
            .counters(&counters);
        if let Some(mask) = self.mask {
            options = options.live(mask);
        }
        let path = Cell::new(SearchPath::Graph);
        let scan = |queries: &[f32], floors: &[f64]| {
            let (found, way) = self.scan(queries, options.floors(floors))?;
            path.set(way);
            Ok(found)
        };
        let found = match asked.effort {
            None => scan(asked.queries, self.floors)?,
            Some(effort) => {
                // A walk reads anywhere, so all pages are checked before it.
                self.check_pages(asked.layers)?;
                let ask = Ask {
                    collection: self.collection,
                    planes: &planes(self.collection, live, asked.layers)?,
                    layers: asked.layers.len(),
                    queries: asked.queries,
                    k: asked.k,
                    floors: self.floors,
                    ties: &ties,
                    mask: self.mask,
                    counters: &counters,
                };
                approximate::part(&ask, live, effort, &scan)?
            }
        };
        if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let explained = PartExplanation {
            segment: match live.part() {
                Part::Segment(segment) => Some(segment.number()),
                Part::Memory(_) => None,
            },
            documents: live.live_rows(),
            path: path.get(),
            scanned: counters.swept(),
            left_by_high: counters.left(),
            multiplied: counters.multiplied(),
            scored: counters.scored(),
            bytes_read: counters.bytes(),
            time: Duration::ZERO,
        };
        Ok((found, explained))
    }

    /// Compares queries `[q, D]` with every row that counts.
    fn scan(&self, queries: &[f32], mut options: Options) -> Result<(Vec<Vec<Candidate>>, SearchPath)> {
        let (live, layers) = (self.live, self.asked.layers);
        let layout = self.collection.schema.layout;
        let (rows, dimension) = (live.part().rows() as usize, layout.dimension as usize);
        let passing = self.mask.map_or(live.live_rows(), ones);
        // Waking another thread takes longer than a little work.
        let is_little = passing * (queries.len() * layers.len()) as u64 <= LITTLE;
        if is_little {
            options = options.single_threaded();
        }
        let on_device = || self.on_device(queries, &options);
        let found = if self.chosen.is_device() && !is_little {
            self.pool.install(on_device)
        } else {
            on_device()
        };
        if let Some(found) = found? {
            return Ok((found, SearchPath::Device));
        }
        let companion = match live.part() {
            Part::Segment(segment) if passing * THIN >= rows as u64 => {
                segment.companion(CompanionKind::Codes {
                    generation: layout.generation,
                })
            }
            _ => None,
        };
        let codes = companion
            .as_ref()
            .and_then(|companion| codes::read(companion, rows, dimension, layers));
        let planes = planes(self.collection, live, layers)?;
        let mut options = options;
        let mut path = SearchPath::FullVectors;
        if let Some(codes) = &codes {
            options = options.codes(codes);
            path = SearchPath::ScanCodes;
        }
        let search = || max_inner_product(queries, dimension, &planes, &options);
        let found = if is_little {
            search()
        } else {
            self.pool.install(search)
        };
        Ok((found?, path))
    }

    /// Checks the pages of whole planes that nothing has checked yet.
    fn check_pages(&self, layers: &[u32]) -> Result<()> {
        let generation = self.collection.schema.layout.generation;
        layers.iter().try_for_each(|&layer| {
            self.live.part().plane(generation, layer)?;
            Ok(())
        })
    }

    /// What a device finds in a segment. `None` where the CPU searches: without a device, and in parts that are in
    /// memory, which are small and soon gone.
    fn on_device(&self, queries: &[f32], options: &Options) -> Result<Option<Vec<Vec<Candidate>>>> {
        let layout = self.collection.schema.layout;
        let Part::Segment(segment) = self.live.part() else {
            return Ok(None);
        };
        let Some(key) = segment.vectors_checksum(layout.generation) else {
            return Ok(None);
        };
        if !self.chosen.is_device() {
            return Ok(None);
        }
        let all: Vec<u32> = (0..layout.layers).collect();
        // A device takes whole planes.
        self.check_pages(&all)?;
        let part = DevicePart {
            key,
            planes: &planes(self.collection, self.live, &all)?,
            layers: self.asked.layers,
        };
        self.chosen.search(
            &self.collection.engine.devices,
            &part,
            queries,
            layout.dimension as usize,
            options,
        )
    }
}

/// The planes of some layers, as they are mapped: what is read of them is checked before.
fn planes<'a>(collection: &CollectionSnapshot, live: &'a LivePart, layers: &[u32]) -> Result<Vec<Plane<'a>>> {
    let layout = collection.schema.layout;
    let element = crate::index::element(layout.element)?;
    layers
        .iter()
        .map(|&layer| {
            let plane = live.part().unchecked_plane(layout.generation, layer)?;
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

fn read(collection: &CollectionSnapshot, score: f64, row: Row, fields: &BTreeSet<Field>) -> Result<Hit> {
    let document = collection.read(row)?;
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

/// A hit of which nothing else is wanted.
fn bare(score: f64, id: Id, version: u64) -> Hit {
    Hit {
        id,
        score,
        version,
        title: None,
        text: None,
        metadata: serde_json::Map::new(),
        vectors: Vec::new(),
    }
}
