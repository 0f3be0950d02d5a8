//! Text through the encoder: `cargo run --release --example text_search [MODEL FOLDER]`
//!
//! The folder is one as the Hugging Face hub serves it; without one, what `stratal model fetch` (or `make demo`)
//! has put into the user's cache is taken.

use std::path::PathBuf;

use stratal::{Database, Document, Encoder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        home.join(".cache/stratal/models/all-MiniLM-L6-v2")
    });
    let path = std::env::temp_dir().join(format!("stratal-text-search-{}", std::process::id()));
    let db = Database::open_or_create(&path)?;
    let notes = db
        .collection("notes")
        .encoder(Encoder::from_folder(&model)?)
        .open_or_create()?;

    let mut tx = db.begin();
    for (id, text) in [
        (
            "btree",
            "A B-tree keeps its keys sorted and all its leaves at one depth, so that a lookup reads few pages.",
        ),
        (
            "wal",
            "Before a page is changed, the change is written to a log and synced: after a power cut it is replayed.",
        ),
        (
            "bread",
            "Knead the dough until it is smooth, let it rise overnight, and bake it in a very hot oven.",
        ),
        (
            "moon",
            "The tides follow the Moon, whose pull is stronger on the near side of the Earth than on the far one.",
        ),
    ] {
        tx.upsert(&notes, Document::new(id).text(text))?;
    }
    tx.commit()?; // encoded first, then committed in one piece

    for question in [
        "what happens after a power cut?",
        "why does the sea rise and fall?",
    ] {
        println!("{question}");
        for hit in notes.search(question).k(2).run()? {
            println!(
                "  {:.3}  {:8}  {}",
                hit.score,
                hit.id.to_string(),
                hit.text.unwrap_or_default()
            );
        }
    }
    db.close()?;
    std::fs::remove_dir_all(&path)?;
    Ok(())
}
