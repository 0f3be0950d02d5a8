//! The README's program, run as it stands in a folder where its model is at hand.

use std::path::PathBuf;

mod program {
    // BEGIN README
    use serde_json::json;
    use stratal::{Database, Document, Encoder, field};

    pub fn main() -> Result<(), stratal::Error> {
        let db = Database::open_or_create("notes.stratal")?; // one directory, one writer
        let encoder = Encoder::from_folder("all-MiniLM-L6-v2")?; // as the Hugging Face hub serves it
        let notes = db.collection("notes").encoder(encoder).open_or_create()?;

        let mut tx = db.begin();
        let text = "A B-tree keeps all its leaves at one depth.";
        tx.upsert(
            &notes,
            Document::new("btree")
                .text(text)
                .metadata(json!({ "year": 1972 })),
        )?;
        tx.upsert(
            &notes,
            Document::new("bread").text("Let the dough rise overnight."),
        )?;
        tx.commit()?; // encoded first, durable when it returns

        for hit in notes.search("balanced search tree").k(1).run()? {
            println!("{:.3} {} {}", hit.score, hit.id, hit.text.unwrap_or_default());
        }

        let old = notes
            .search("balanced search tree")
            .filter(field("year").lt(1980))
            .run()?; // or .filter("year < 1980")
        assert_eq!(old.len() as u64, notes.count_where("year < 1980")?);

        let view = db.snapshot(); // unchanging, for as long as you hold it
        notes.delete("btree")?;
        assert_eq!(view.collection("notes")?.count(), 2);
        db.close()
    }
    // END README
}

/// All that is not white space: how a formatter breaks lines is not the point.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn the_readme_shows_this_program() {
    let readme = include_str!("../README.md");
    let shown = readme
        .split("```rust\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let here = include_str!("readme.rs")
        .split("// BEGIN README\n")
        .nth(1)
        .unwrap();
    let here = here.split("// END README").next().unwrap();
    assert_eq!(
        squeezed(shown),
        squeezed(&here.replace("pub fn", "fn")).replace(",)?;", ")?;")
    );
}

#[test]
fn the_readmes_program_runs() {
    let cached = std::env::var_os("HOME")
        .map(|home| PathBuf::from(home).join(".cache/stratal/models/all-MiniLM-L6-v2"));
    let model = std::env::var_os("STRATAL_MODEL")
        .map(PathBuf::from)
        .or(cached)
        .filter(|model| model.is_dir());
    let Some(model) = model else {
        println!("skipped: no encoder in STRATAL_MODEL or the user's cache; `make demo` puts one there");
        return;
    };
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(
        model.canonicalize().unwrap(),
        home.path().join("all-MiniLM-L6-v2"),
    )
    .unwrap();
    // This is the only test of its process that looks at the current folder.
    std::env::set_current_dir(home.path()).unwrap();
    program::main().unwrap();
}
