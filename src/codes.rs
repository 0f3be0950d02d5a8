//! Scan codes beside a segment: companions of kind `Codes`, made of the kernels' sections.
//!
//! For every layer of a generation six sections, numbered from 1 in the order of
//! [`Section::ALL`](stratal_kernels::Section::ALL), each with the bytes that the kernels lay down for all rows
//! of the segment. A companion of another version is left out.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use stratal_kernels::{Codes, Mean, Plane, ScanCodes, Section};
use stratal_storage::{Companion, CompanionKind, Layout, Segment, SegmentCompanions};

use crate::database::Workers;
use crate::{Error, Result};

/// The version of the codes' arithmetic and layout.
const VERSION: u32 = 1;

/// Smaller segments are scanned as they are.
const ROWS_MIN: u32 = 1024;

/// About the memory that coding takes, whatever the size of the segment.
const PIECE_BYTES: usize = 48 << 20;

/// Codes of all layers of one generation.
type LayerCodes<'a> = Vec<Codes<'a>>;

/// Whether a segment should have codes of a generation and has none that this build reads.
fn are_missing_of(segment: &Segment, layout: &Layout) -> bool {
    let kind = CompanionKind::Codes {
        generation: layout.generation,
    };
    segment.rows() >= ROWS_MIN
        && segment
            .companion(kind)
            .is_none_or(|companion| companion.version() != VERSION || companion.is_damaged())
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

    let mut mean = Mean::new(dimension);
    for rows in pieces() {
        mean.add(&plane(rows)?);
    }
    let mean = mean.finish();
    let mut numbers = [0; Section::ALL.len()];
    for (number, section) in numbers.iter_mut().zip(Section::ALL) {
        let bytes = section.bytes(rows, dimension).unwrap_or(usize::MAX) as u64;
        *number = writer.start_sized(kind_of(section), layer, bytes)?;
    }
    for (at, rows) in pieces().enumerate() {
        let plane = plane(rows)?;
        let codes = pool.install(|| ScanCodes::build_about(&plane, &mean))?;
        for (number, section) in numbers.into_iter().zip(Section::ALL) {
            // One mean for all pieces.
            if section != Section::Mean || at == 0 {
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
    if companion.version() != VERSION {
        tell_once(companion, "they are of another version");
        return None;
    }
    let of_layer = |&layer: &u32| -> Result<Codes<'a>> {
        let mut sections: [&[u8]; Section::ALL.len()] = [&[]; Section::ALL.len()];
        for (bytes, section) in sections.iter_mut().zip(Section::ALL) {
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
