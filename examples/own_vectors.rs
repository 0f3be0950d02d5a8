//! One's own vectors: `cargo run --example own_vectors --no-default-features`

use serde_json::json;
use stratal::{Database, Document, Element};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("stratal-own-vectors-{}", std::process::id()));
    let db = Database::open_or_create(&path)?;
    // Two layers of two dimensions: a document scores by the better of its two vectors.
    let colours = db
        .collection("colours")
        .vectors(2, ["last", "before"], Element::F32)
        .open_or_create()?;

    let mut tx = db.begin();
    for (id, last, before, year) in [
        ("red", [1.0, 0.0], [0.9, 0.1], 1704),
        ("violet", [0.7, 0.7], [0.1, 1.0], 1856),
        ("blue", [0.0, 1.0], [0.2, 0.8], 1828),
    ] {
        let document = Document::new(id).metadata(json!({ "year": year }));
        tx.insert(&colours, document.layer_vectors([last.to_vec(), before.to_vec()]))?;
    }
    let committed = tx.commit()?;
    println!(
        "committed {} documents as commit {}, durably",
        committed.inserted, committed.seq
    );

    for hit in colours.search_vector([0.1, 0.9]).k(2).run()? {
        println!("{:.3}  {}  {}", hit.score, hit.id, json!(hit.metadata));
    }

    // An optimistic update: it fails if somebody was quicker.
    let red = colours.get("red")?.ok_or("red is there")?;
    let mut tx = db.begin();
    tx.replace(
        &colours,
        Document::new("red").layer_vectors([vec![0.0, 2.0], vec![0.0, 0.0]]),
        red.version(),
    )?;
    tx.commit()?;
    println!(
        "now the best is {}",
        colours.search_vector([0.1, 0.9]).k(1).run()?[0].id
    );

    db.close()?;
    std::fs::remove_dir_all(&path)?;
    Ok(())
}
