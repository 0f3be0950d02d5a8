//! Opens and reads a segment that lies: the input is a list of changes to a sound one, each five bytes (two
//! for the place, three for what is put there), whose checksums are then made right again; or, if it begins as
//! a segment file does, the file itself.
#![no_main]

#[path = "../../storage/tests/segments/memory_vfs.rs"]
#[allow(dead_code)]
mod memory_vfs;
#[path = "../../storage/tests/segments/sample.rs"]
#[allow(dead_code)]
mod sample;
#[path = "../../storage/tests/segments/seal.rs"]
#[allow(dead_code)]
mod seal;

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use memory_vfs::MemoryVfs;
use stratal_storage::{Element, Layout, Part, PayloadCursor, Segment};

static LAYOUTS: LazyLock<[Layout; 1]> = LazyLock::new(|| [sample::layout(0, 5, 2, Element::F16)]);

/// The sound segment's files.
static SOUND: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let vfs = MemoryVfs::default();
    let segment = sample::segment(&vfs, 1, &*LAYOUTS, &sample::rows(&*LAYOUTS, 9)).expect("it is sound");
    segment
        .files()
        .into_iter()
        .map(|path| (path.clone(), vfs.bytes(&path)))
        .collect()
});

fn read_all(vfs: &MemoryVfs, layouts: &[Layout]) {
    let Ok(segment) = Segment::open(vfs, sample::folder(), 1, sample::COLLECTION, layouts) else {
        return;
    };
    let part = Part::Segment(segment.into());
    let mut cursor = PayloadCursor::default();
    for row in 0..part.rows().min(100) {
        let _ = (
            part.docid(row),
            part.version(row),
            part.payload_with(row, &mut cursor).map(<[u8]>::len),
        );
        if let Ok(id) = part.id(row) {
            let _ = part.find_all(&id);
        }
        for layer in 0..2 {
            let _ = part.vector(0, layer, row);
        }
    }
    let _ = part.plane(0, 1).map(|plane| plane.bytes.len());
    if let Part::Segment(segment) = part {
        let _ = segment.verify_all();
    }
}

fuzz_target!(|input: &[u8]| {
    let vfs = MemoryVfs::default();
    for (path, bytes) in &*SOUND {
        vfs.set(path, bytes);
    }
    if input.starts_with(b"STRATSEG") {
        for (path, _) in &*SOUND {
            vfs.set(path, input);
            read_all(&vfs, &*LAYOUTS);
        }
        return;
    }
    let (which, changes) = input.split_first().unwrap_or((&0, &[]));
    let (path, sound) = &SOUND[usize::from(which & 1)];
    let mut lying = sound.clone();
    for change in changes.chunks_exact(5) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % (lying.len() - 3);
        lying[place..place + 3].copy_from_slice(&change[2..]);
    }
    match which & 2 {
        0 => seal::seal_sections(&mut lying),
        _ => seal::seal(&mut lying),
    }
    vfs.set(path, &lying);
    // Changed documents no longer have the checksum that the vectors name.
    let layouts = &LAYOUTS[..usize::from(which & 1)];
    read_all(&vfs, layouts);
});
