//! Scan codes beside a segment: companions of kind `Codes`, made of the kernels' sections.
//!
//! For every layer of a generation a section each, numbered from 1 in the order of
//! [`Section::ALL`](stratal_kernels::Section::ALL), with the bytes that the kernels lay down for all rows
//! of the segment. A companion of version 1, before vectors were turned, has the first six. One of another version is left
//! out.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use stratal_kernels::{Codes, Plane, ScanCodes, Section, Survey};
use stratal_storage::{Companion, CompanionKind, Layout, Segment, SegmentCompanions};

use crate::database::Workers;
use crate::{Error, Result};

/// The version of the codes' arithmetic and layout.
const VERSION: u32 = 2;

/// The version that has no [`Section::Turn`] and no [`Section::Tails`].
const UNTURNED: u32 = 1;

/// Smaller segments are scanned as they are.
const ROWS_MIN: u32 = 1024;

/// About the memory that coding takes, whatever the size of the segment.
const PIECE_BYTES: usize = 48 << 20;

/// Codes of all layers of one generation.
type LayerCodes<'a> = Vec<Codes<'a>>;

fn is_read(version: u32) -> bool {
    (UNTURNED..=VERSION).contains(&version)
}

/// Whether a segment should have codes of a generation and has none that this build reads.
fn are_missing_of(segment: &Segment, layout: &Layout) -> bool {
    let kind = CompanionKind::Codes {
        generation: layout.generation,
    };
    segment.rows() >= ROWS_MIN
        && segment
            .companion(kind)
            .is_none_or(|companion| !is_read(companion.version()) || companion.is_damaged())
}

/// Whether a segment lacks codes of any of its generations.
pub(crate) fn are_missing(segment: &Segment) -> bool {
    let layouts = segment.layouts();
    layouts.iter().any(|layout| are_missing_of(segment, layout))
}

/// Writes the codes of every generation of a segment that lacks them.
pub(crate) fn write(companions: &SegmentCompanions<'_>, workers: &Workers) -> Result<()> {
    let segment = companions.segment();
    if !are_missing(segment) {
        return Ok(());
    }
    let pool = &*workers.pool()?;
    for layout in segment.layouts() {
        if !are_missing_of(segment, layout) {
            continue;
        }
        let kind = CompanionKind::Codes {
            generation: layout.generation,
        };
        companions.write(kind, VERSION, |writer| {
            for layer in 0..layout.layers {
                write_layer(writer, segment, layout, layer, pool)?;
            }
            Ok::<(), Error>(())
        })?;
    }
    Ok(())
}

fn write_layer(
    writer: &mut stratal_storage::CompanionWriter<'_>,
    segment: &Segment,
    layout: &Layout,
    layer: u32,
    pool: &ThreadPool,
) -> Result<()> {
    let (rows, dimension) = (segment.rows() as usize, layout.dimension as usize);
    let element = crate::index::element(layout.element)?;
    // Whole groups of the kernels, so that pieces join without a seam.
    let piece = (PIECE_BYTES / (dimension + 20) / 1024 * 1024).max(1024);
    let pieces = || {
        (0..rows)
            .step_by(piece)
            .map(|first| first..(first + piece).min(rows))
    };
    let plane = |rows: std::ops::Range<usize>| -> Result<Plane<'_>> {
        let read = segment.plane(layout.generation, layer, rows.start as u32..rows.end as u32)?;
        let plane = Plane::new(read.bytes, rows.len(), dimension, read.stride, element)?;
        Ok(plane)
    };

    let mut survey = Survey::new(rows, dimension);
    for rows in pieces() {
        survey.add(&plane(rows)?);
    }
    let frame = pool.install(|| survey.finish());
    let mut numbers = [0; Section::ALL.len()];
    for (number, section) in numbers.iter_mut().zip(Section::ALL) {
        let bytes = section.bytes(rows, dimension, frame.head()).unwrap_or(usize::MAX) as u64;
        *number = writer.start_sized(kind_of(section), layer, bytes)?;
    }
    for (at, rows) in pieces().enumerate() {
        let plane = plane(rows)?;
        let codes = pool.install(|| ScanCodes::build_about(&plane, &frame))?;
        for (number, section) in numbers.into_iter().zip(Section::ALL) {
            // One frame for all pieces.
            if at == 0 || !matches!(section, Section::Mean | Section::Turn) {
                writer.push_sized(number, codes.section(section))?;
            }
        }
    }
    Ok(())
}

fn kind_of(section: Section) -> u32 {
    section as u32 + 1
}

/// Borrows the codes of some layers; `None`, told once, where they are damaged or of another make.
pub(crate) fn read<'a>(
    companion: &'a Companion,
    rows: usize,
    dimension: usize,
    layers: &[u32],
) -> Option<LayerCodes<'a>> {
    if !is_read(companion.version()) {
        tell_once(companion, "they are of another version");
        return None;
    }
    let of_layer = |&layer: &u32| -> Result<Codes<'a>> {
        let mut sections: [&[u8]; Section::ALL.len()] = [&[]; Section::ALL.len()];
        for (bytes, section) in sections.iter_mut().zip(Section::ALL) {
            if companion.version() == UNTURNED && matches!(section, Section::Turn | Section::Tails) {
                continue;
            }
            *bytes = companion.section(kind_of(section), layer)?;
        }
        Ok(Codes::new(rows, dimension, sections)?)
    };
    match layers.iter().map(of_layer).collect() {
        Ok(codes) => Some(codes),
        Err(error) => {
            tell_once(companion, &error.to_string());
            None
        }
    }
}

/// Exact search does without codes that it cannot use; somebody should hear of it, but not at every search.
fn tell_once(companion: &Companion, why: &str) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            path = %companion.path().display(),
            why,
            "scan codes are left out, and searches read full vectors; compaction writes them again"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stratal_kernels::Frame;
    use stratal_storage::Part;

    use super::*;
    use crate::{Collection, Database, Document, Element, Hit, SearchPath, Similarity};

    const DIMENSION: usize = 64;
    const ROWS: u64 = 8192;

    /// Vectors of which a few directions hold most, none of them an axis.
    fn vector(seed: u64) -> Vec<f32> {
        let along = |i: u64| ((seed * (2 * i + 7) + i * i) % 101) as f32 - 50.0;
        let shares: Vec<f32> = (0..8).map(|i| along(i) / (1 + i) as f32).collect();
        let noise = |at: u64| ((seed * 31 + at * 17) % 13) as f32 / 4.0;
        (0..DIMENSION as u64)
            .map(|at| {
                let parts = shares.iter().zip(1u64..);
                let sum: f32 = parts
                    .map(|(share, i)| share * ((at * i * 37 % 97) as f32 / 48.0 - 1.0))
                    .sum();
                sum + noise(at)
            })
            .collect()
    }

    fn ask(collection: &Collection) -> (Vec<Vec<Hit>>, SearchPath) {
        let queries = (0..20).map(|seed| vector(10_000 + 3 * seed));
        let search = collection.search_vectors(queries).k(7);
        let (hits, explanation) = search.explain().unwrap();
        (hits, explanation.parts[0].path)
    }

    fn segment(database: &Database) -> Arc<Segment> {
        let snapshot = database.store.snapshot();
        let collection = snapshot.collections().next().unwrap();
        match collection.parts()[0].part() {
            Part::Segment(segment) => segment.clone(),
            _ => panic!("the rows are in memory"),
        }
    }

    #[test]
    fn codes_of_the_version_before_are_read_and_those_of_a_later_one_left_out() {
        let home = tempfile::tempdir().unwrap();
        let database = Database::create(home.path().join("db")).unwrap();
        let collection = database
            .collection("c")
            .vectors(DIMENSION, ["v"], Element::F32)
            .similarity(Similarity::InnerProduct)
            .create()
            .unwrap();
        let mut transaction = database.begin();
        for id in 0..ROWS {
            let document = Document::new(id).vector(vector(id));
            transaction.insert(&collection, document).unwrap();
        }
        transaction.commit().unwrap();
        let (expected, _) = ask(&collection);
        database.flush().unwrap();
        assert_eq!(ask(&collection), (expected.clone(), SearchPath::ScanCodes));

        let segment = segment(&database);
        let layout = &segment.layouts()[0];
        let kind = CompanionKind::Codes {
            generation: layout.generation,
        };
        let turned = segment.companion(kind).unwrap();
        let codes = read(&turned, ROWS as usize, DIMENSION, &[0]).unwrap();
        assert!(codes[0].head() < DIMENSION, "{}", codes[0].head());

        let plane = segment.plane(layout.generation, 0, 0..segment.rows()).unwrap();
        let element = crate::index::element(layout.element).unwrap();
        let plane = Plane::new(plane.bytes, ROWS as usize, DIMENSION, plane.stride, element).unwrap();
        let frame = Frame::about(codes[0].mean());
        let plain = ScanCodes::build_about(&plane, &frame).unwrap();
        let companions = database.store.companions_of(&segment).unwrap();
        for (version, is_read) in [(UNTURNED, true), (VERSION + 1, false)] {
            let written = companions.write(kind, version, |writer| {
                for section in &Section::ALL[..6] {
                    let bytes = plain.section(*section);
                    let number = writer.start_sized(kind_of(*section), 0, bytes.len() as u64)?;
                    writer.push_sized(number, bytes)?;
                }
                Ok::<(), Error>(())
            });
            let companion = written.unwrap();
            let found = read(&companion, ROWS as usize, DIMENSION, &[0]);
            assert_eq!(found.map(|codes| codes[0].head()), is_read.then_some(DIMENSION));
            let path = match is_read {
                true => SearchPath::ScanCodes,
                false => SearchPath::FullVectors,
            };
            assert_eq!(ask(&collection), (expected.clone(), path));
            assert_eq!(are_missing(&segment), !is_read);
        }
    }
}
