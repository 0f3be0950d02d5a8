//! Two processes on one database, one writing and one reading:
//! `cargo run --example two_processes --no-default-features`

use std::process::Command;
use std::time::Duration;

use stratal::{Database, Document, Element, Error, StorageError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        None => write(),
        Some(path) => read(&path),
    }
}

fn write() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("stratal-two-processes-{}", std::process::id()));
    let db = Database::create(&path)?;
    let ticks = db.collection("ticks").vectors(2, ["v"], Element::F32).create()?;
    let mut reader = Command::new(std::env::current_exe()?).arg(&path).spawn()?;
    for n in 1..=5u64 {
        ticks.insert(Document::new(n).vector([n as f32, 1.0]))?;
        println!("writer {}: committed tick {n}", std::process::id());
        std::thread::sleep(Duration::from_millis(100));
    }
    let reader = reader.wait()?;
    db.close()?;
    std::fs::remove_dir_all(&path)?;
    if reader.success() {
        Ok(())
    } else {
        Err("the reader failed".into())
    }
}

fn read(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    // A second writer is told at once who has the database.
    match Database::open(path) {
        Err(Error::Storage(StorageError::Locked { pid, .. })) => {
            println!("reader: process {pid:?} is writing")
        }
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("two writers at once".into()),
    }
    let db = Database::open_read_only(path)?;
    let ticks = db.collection("ticks").open()?;
    while ticks.count()? < 5 {
        // Every commit that was acknowledged before this call is seen after it.
        if db.refresh()? {
            let newest = ticks.search_vector([1.0, 0.0]).k(1).run()?;
            println!("reader: {} ticks, the newest is {}", ticks.count()?, newest[0].id);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
