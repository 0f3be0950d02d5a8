//! Rows to write and to compare with what is read.

use std::path::Path;
use std::sync::Arc;

use stratal_storage::{
    Chunk, ChunkRow, Element, Id, Layout, Part, PayloadCursor, Result, Segment, SegmentPlan, write_segment,
};

use crate::memory_vfs::MemoryVfs;

pub const FOLDER: &str = "segments";
pub const COLLECTION: u64 = 3;

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub docid: u64,
    pub version: u64,
    pub id: Id,
    pub payload: Vec<u8>,
    /// For each layout its layer vectors.
    pub vectors: Vec<Vec<Vec<u8>>>,
}

pub fn folder() -> &'static Path {
    Path::new(FOLDER)
}

pub fn layout(generation: u32, dimension: u32, layers: u32, element: Element) -> Layout {
    Layout {
        generation,
        dimension,
        layers,
        element,
    }
}

/// Bytes of a finite vector that depend on all of `seed`'s bits.
pub fn vector(layout: &Layout, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    };
    match layout.element {
        Element::F16 => (0..layout.dimension)
            .flat_map(|_| ((next() & 0xbbff) as u16).to_le_bytes())
            .collect(),
        _ => (0..layout.dimension)
            .flat_map(|_| (next() as f32 - 8e6).to_le_bytes())
            .collect(),
    }
}

pub fn row(layouts: &[Layout], docid: u64, id: Id, payload: Vec<u8>) -> Row {
    let planes = |layout: &Layout| {
        let seed = |layer| docid * 1000 + u64::from(layout.generation) * 100 + u64::from(layer);
        (0..layout.layers)
            .map(|layer| vector(layout, seed(layer)))
            .collect()
    };
    Row {
        docid,
        version: docid * 7 + 1,
        id,
        payload,
        vectors: layouts.iter().map(planes).collect(),
    }
}

/// A few rows of all sorts of ids.
pub fn rows(layouts: &[Layout], count: u64) -> Vec<Row> {
    let row_of = |docid: u64| {
        let id = match docid % 3 {
            0 => Id::from(docid),
            1 => Id::from(docid.to_string()),
            _ => Id::from(format!("../{docid}\n\u{202e}ü")),
        };
        row(layouts, docid, id, vec![docid as u8; docid as usize % 50])
    };
    (1..=count).map(row_of).collect()
}

pub fn chunk(layouts: &[Layout], rows: &[Row]) -> Result<Chunk> {
    let joined: Vec<Vec<Vec<u8>>> = rows
        .iter()
        .map(|row| row.vectors.iter().map(|layers| layers.concat()).collect())
        .collect();
    let chunk_rows: Vec<_> = rows
        .iter()
        .zip(&joined)
        .map(|(row, joined)| ChunkRow {
            docid: row.docid,
            version: row.version,
            id: &row.id,
            payload: Arc::from(&row.payload[..]),
            vectors: joined.iter().map(|bytes| &bytes[..]).collect(),
        })
        .collect();
    Chunk::from_rows(&Arc::from(layouts), &chunk_rows)
}

/// Writes all rows as one segment.
pub fn segment(vfs: &MemoryVfs, number: u64, layouts: &[Layout], rows: &[Row]) -> Result<Segment> {
    let part = Part::Memory(Arc::new(chunk(layouts, rows)?));
    let sources = [(part, (0..rows.len() as u32).collect())];
    write_segment(vfs, folder(), &plan(number, layouts, &sources))
}

pub fn plan<'a>(number: u64, layouts: &'a [Layout], sources: &'a [(Part, Vec<u32>)]) -> SegmentPlan<'a> {
    SegmentPlan {
        number,
        collection: COLLECTION,
        layouts,
        sources,
    }
}

/// Reads a row by every way there is.
pub fn read(part: &Part, row: u32) -> Result<Row> {
    let mut vectors = Vec::new();
    for layout in part.layouts() {
        let mut layers = Vec::new();
        for layer in 0..layout.layers {
            let vector = part.vector(layout.generation, layer, row)?;
            let plane = part.plane(layout.generation, layer)?;
            let padded = plane.row(row).unwrap();
            assert_eq!(plane.bytes.as_ptr().addr() % 8, 0);
            assert_eq!((plane.stride, plane.rows), (layout.stride(), part.rows()));
            assert_eq!(&padded[..vector.len()], vector);
            assert!(padded[vector.len()..].iter().all(|&byte| byte == 0));
            assert_eq!(
                part.plane_rows(layout.generation, layer, row..row + 1)?.bytes,
                padded
            );
            layers.push(vector.to_vec());
        }
        vectors.push(layers);
    }
    let mut cursor = PayloadCursor::default();
    let payload = part.payload(row)?.to_vec();
    assert_eq!(part.payload_with(row, &mut cursor)?, payload);
    Ok(Row {
        docid: part.docid(row)?,
        version: part.version(row)?,
        id: part.id(row)?,
        payload,
        vectors,
    })
}

/// Reads all rows, and finds each by its id.
pub fn read_all(part: &Part) -> Result<Vec<Row>> {
    (0..part.rows())
        .map(|number| {
            let row = read(part, number)?;
            assert!(
                part.find_all(&row.id)?.contains(&number),
                "{:?} finds itself",
                row.id
            );
            Ok(row)
        })
        .collect()
}
