//! Where a search runs never changes what it finds. With the feature `cube-cpu` the GPU's kernels run too, on
//! CubeCL's CPU runtime (`make test-gpu`).

use stratal::{Collection, Database, Device, Document, Element, Error, Hit};

const DIMENSION: usize = 24;

/// A collection with segments and rows in memory, deletions, ties and two layers.
fn collection(folder: &std::path::Path) -> (Database, Collection) {
    let db = Database::open_or_create(folder).unwrap();
    let notes = db
        .collection("notes")
        .vectors(DIMENSION, ["first", "second"], Element::F16)
        .open_or_create()
        .unwrap();
    for part in 0..3u64 {
        let mut transaction = db.begin();
        for at in 0..300u64 {
            let number = part * 300 + at;
            let layers = [vector(number % 250), vector(number + 1)];
            let document = Document::new(number).layer_vectors(layers);
            transaction.upsert(&notes, document).unwrap();
        }
        transaction.commit().unwrap();
        if part < 2 {
            db.flush().unwrap();
        }
    }
    for number in (0..900u64).step_by(7) {
        notes.delete(number).unwrap();
    }
    (db, notes)
}

fn vector(seed: u64) -> Vec<f32> {
    (0..DIMENSION as u64)
        .map(|i| ((seed * 31 + i * 17 + seed * i) % 13) as f32 / 13.0 - 0.4)
        .collect()
}

fn found(notes: &Collection, device: Device, layers: &[&str]) -> Result<Vec<Vec<(stratal::Id, u64)>>, Error> {
    let queries: Vec<Vec<f32>> = (0..12).map(|seed| vector(seed + 1000)).collect();
    let search = notes
        .search_vectors(queries)
        .k(15)
        .layers(layers.iter().copied())
        .device(device);
    let of_hit = |hit: Hit| (hit.id, hit.score.to_bits());
    Ok(search
        .run()?
        .into_iter()
        .map(|hits| hits.into_iter().map(of_hit).collect())
        .collect())
}

#[test]
fn a_device_that_is_not_there_is_an_error_only_where_it_was_named() {
    let home = tempfile::tempdir().unwrap();
    let (_db, notes) = collection(home.path());
    let layers = ["first", "second"];
    let expected = found(&notes, Device::Cpu, &layers).unwrap();
    assert_eq!(expected[0].len(), 15);
    assert_eq!(found(&notes, Device::Auto, &layers).unwrap(), expected);
    let missing = found(&notes, Device::Cuda(1000), &layers);
    assert!(
        matches!(
            missing,
            Err(Error::Kernel(stratal_kernels::Error::NoDevice {
                index: 1000,
                ..
            }))
        ),
        "{missing:?}"
    );
}

#[cfg(feature = "cube-cpu")]
#[test]
fn a_device_finds_what_the_cpu_finds() {
    use std::sync::Arc;
    use stratal_kernels::cube::Searcher;

    let home = tempfile::tempdir().unwrap();
    let (db, notes) = collection(home.path());
    let searcher = Arc::new(Searcher::on_cpu_runtime(1 << 30));
    db.use_searcher(0, Arc::clone(&searcher));
    for layers in [&["first", "second"][..], &["second"]] {
        let expected = found(&notes, Device::Cpu, layers).unwrap();
        assert_eq!(found(&notes, Device::Cuda(0), layers).unwrap(), expected);
    }
    assert!(
        searcher.resident_bytes() > 0,
        "the segments were searched on the device"
    );
}

#[cfg(feature = "encoder")]
#[test]
fn an_encoders_module_goes_where_there_is_a_device() {
    assert!(stratal::burn_device(Device::Cpu).is_ok());
    assert!(stratal::burn_device(Device::Auto).is_ok());
    assert!(stratal::burn_device(Device::Cuda(1000)).is_err());
}
