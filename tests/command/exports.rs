//! `export`: whole or not at all, what can be saved of damage, and pairs.

use std::path::PathBuf;

use crate::place::Place;

/// The file of the segments with that ending.
fn segment_file(place: &Place, ending: &str) -> PathBuf {
    let files = std::fs::read_dir(place.folder.path().join("db/segments")).unwrap();
    files
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|found| found == ending))
        .unwrap()
}

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// One segment of so many documents of 16 components.
fn points(count: usize) -> Place {
    let place = Place::new();
    place.run(&["create", "db", "points", "--dimension", "16"]).ok();
    let lines: String = (0..count)
        .map(|n| {
            let vector = vec![n as f32; 16];
            // Digits that hardly pack, so that the texts take several pages.
            let digit = |place: usize| (n * 7_919 + place * place * 104_729) % 9_973;
            let text: String = (0..60).map(|place| digit(place).to_string()).collect();
            serde_json::json!({ "id": n, "text": text, "vector": vector }).to_string() + "\n"
        })
        .collect();
    place.write("in.jsonl", lines);
    place.run(&["import", "db", "in.jsonl"]).ok();
    place.run(&["compact", "db"]).ok();
    place
}

#[test]
fn salvage_saves_what_is_not_damaged_and_tells_the_rest() {
    let place = points(3_000);
    flip(&segment_file(&place, "vec"), 100_000);
    place
        .run(&["export", "db", "-o", "all.jsonl"])
        .fails(1, "is damaged at byte");
    let saved = place
        .run(&["export", "db", "-o", "all.jsonl", "--salvage"])
        .fails(3, "is damaged at byte");
    // A page of 64 KiB holds the vectors of 1,024.
    assert!(saved.err.contains("left out: 1,024 documents ("), "{}", saved.err);
    assert!(saved.err.contains("1,976 documents written"), "{}", saved.err);
    assert!(saved.err.lines().count() < 10, "{}", saved.err);
    let lines = std::fs::read_to_string(place.folder.path().join("all.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 1_976);
    let stdout = place.run(&["export", "db", "--salvage"]).fails(3, "left out");
    assert_eq!(stdout.json().len(), 1_976);
    let array = place
        .run(&["export", "db", "-o", "all.npy", "--salvage"])
        .fails(3, "left out");
    assert!(array.err.contains("1,976 rows"), "{}", array.err);
    place.run(&["create", "copy", "points", "--dimension", "16"]).ok();
    let back = place
        .run(&["import", "copy", "all.npy", "--ids", "all.ids.jsonl"])
        .ok();
    assert!(back.out.starts_with("1,976 documents"), "{}", back.out);
    // Nothing is damaged that is asked for here.
    place.run(&["export", "db", "--salvage", "--no-vectors"]).ok();
}

#[test]
fn salvage_goes_on_behind_damaged_documents_and_lost_segments() {
    let place = points(3_000);
    let documents = segment_file(&place, "doc");
    let whole = std::fs::read(&documents).unwrap();
    let mut partly = 0;
    // Through headers, ids, places and texts; a gap or a table that is not read does no harm.
    for at in (4_096..whole.len()).step_by(whole.len() / 6) {
        flip(&documents, at);
        let saved = place.run(&["export", "db", "--salvage"]);
        let count = saved.out.lines().count();
        match saved.code {
            Some(0) => assert_eq!(count, 3_000),
            Some(3) => assert!(saved.err.contains("left out"), "{}", saved.err),
            other => panic!("{other:?}: {}", saved.err),
        }
        partly += usize::from((1..3_000).contains(&count));
        std::fs::write(&documents, &whole).unwrap();
    }
    assert!(partly > 0, "damage of one page always took all");
    std::fs::remove_file(&documents).unwrap();
    place.run(&["export", "db", "--salvage"]).fails(3, "left out");
}

#[test]
fn an_export_that_fails_leaves_the_one_before() {
    let place = points(3_000);
    place.run(&["export", "db", "-o", "all.jsonl"]).ok();
    place.run(&["export", "db", "-o", "all.npy"]).ok();
    let names = ["all.jsonl", "all.npy", "all.ids.jsonl"];
    let read = || names.map(|name| std::fs::read(place.folder.path().join(name)).unwrap());
    let before = read();
    flip(&segment_file(&place, "vec"), 100_000);
    place
        .run(&["export", "db", "-o", "all.jsonl"])
        .fails(1, "damaged");
    place.run(&["export", "db", "-o", "all.npy"]).fails(1, "damaged");
    place.run(&["export", "db", "-o", "new.npy"]).fails(1, "damaged");
    assert!(read() == before, "a backup was lost");
    let left: Vec<_> = std::fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("new") || name.contains("tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nothing_is_exported_into_the_database_or_twice_to_one_place() {
    let place = points(3);
    let manifest = place.folder.path().join("db/MANIFEST");
    let before = std::fs::read(&manifest).unwrap();
    for output in [
        "db/MANIFEST",
        "db/new.jsonl",
        "db/../db/wal/x.npy",
        "./db/segments/x",
    ] {
        place
            .run(&["export", "db", "-o", output])
            .fails(1, "inside the database");
    }
    place
        .run(&["export", "db", "-o", "x.jsonl", "--pairs", "db/pairs.jsonl"])
        .fails(1, "inside the database");
    place
        .run(&["export", "db", "-o", "x.jsonl", "--pairs", "./x.jsonl"])
        .fails(2, "two things");
    #[cfg(unix)]
    {
        let folder = place.folder.path();
        std::os::unix::fs::symlink("db/MANIFEST", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("db", folder.join("folder")).unwrap();
        for output in ["link", "folder/x"] {
            place
                .run(&["export", "db", "-o", output])
                .fails(1, "inside the database");
        }
        place.run(&["export", "db", "-o", "/dev/null"]).ok();
        // A link to a file of one's own stays a link.
        place.write("real.jsonl", "before");
        std::os::unix::fs::symlink("real.jsonl", folder.join("mine")).unwrap();
        place.run(&["export", "db", "-o", "mine"]).ok();
        assert!(folder.join("mine").is_symlink());
        let written = std::fs::read_to_string(folder.join("real.jsonl")).unwrap();
        assert_eq!(written.lines().count(), 3);
    }
    assert_eq!(std::fs::read(&manifest).unwrap(), before);
}

#[test]
fn pairs_go_out_and_come_back() {
    let place = Place::with_documents(3);
    // As the help shows them; a document may answer several questions.
    place.write(
        "pairs.jsonl",
        "{\"question\":\"what is first?\",\"passage_id\":\"d0\"}\n\
         {\"passage_id\":\"d0\",\"question\":\"what is zero?\",\"id\":7}\n\
         {\"question\":\"what is second?\",\"passage_id\":\"d1\"}\n",
    );
    let added = place
        .run(&["add", "db", "docs.jsonl", "--pairs", "pairs.jsonl"])
        .ok();
    assert!(added.out.contains("3 pairs"), "{}", added.out);
    place
        .run(&["export", "db", "-o", "all.jsonl", "--pairs", "out.jsonl"])
        .ok();
    let written = std::fs::read_to_string(place.folder.path().join("out.jsonl")).unwrap();
    let expected = "{\"passage_id\":\"d0\",\"question\":\"what is first?\"}";
    assert_eq!(written.lines().count(), 3);
    assert!(written.starts_with(expected), "{written}");
    place
        .run(&["add", "copy", "docs.jsonl", "--pairs", "out.jsonl"])
        .ok();
    place.run(&["export", "copy", "--pairs", "again.jsonl"]).ok();
    let again = std::fs::read_to_string(place.folder.path().join("again.jsonl")).unwrap();
    assert_eq!(again, written);
    place.write("bad.jsonl", "{\"question\":\"what?\"}\n");
    place
        .run(&["add", "db", "docs.jsonl", "--pairs", "bad.jsonl"])
        .fails(1, "bad.jsonl:1: the field \"passage_id\" is not there");
    place.write(
        "one.jsonl",
        "{\"question\":\"what is last?\",\"passage_id\":\"d2\"}",
    );
    let one = place
        .run(&["add", "db", "docs.jsonl", "--pairs", "one.jsonl"])
        .ok();
    assert!(
        one.out.contains("1 pair ") || one.out.trim_end().ends_with("1 pair"),
        "{}",
        one.out
    );
}
