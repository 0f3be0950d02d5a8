//! `add`, `import`, `create` and `delete`: what is taken, what is refused, and what is told of it.

use std::time::{Duration, SystemTime};

use crate::place::Place;

/// Lets a file look as if it had not been touched for a while, so that a run may remember it.
fn settle(place: &Place, name: &str) {
    let file = std::fs::File::options()
        .write(true)
        .open(place.folder.path().join(name))
        .unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60))
        .unwrap();
}

#[test]
fn metadata_past_the_limit_is_one_bad_line() {
    let place = Place::new();
    let large = "x".repeat(17 << 20);
    let lines = format!(
        "{{\"id\":1,\"vector\":[1]}}\n{{\"id\":2,\"vector\":[2],\"large\":\"{large}\"}}\n{{\"id\":3,\"vector\":[3]}}\n"
    );
    place.write("mix.jsonl", lines);
    for command in ["import", "add"] {
        place.run(&["create", command, "points", "--dimension", "1"]).ok();
        let ran = place
            .run(&[command, command, "mix.jsonl", "--skip-bad-lines"])
            .fails(3, "refused: mix.jsonl:2: the metadata of 2 has 178");
        assert!(ran.out.contains("1 refused"), "{}", ran.out);
        assert_eq!(place.run(&["count", command]).ok().out, "2\n");
    }
}

#[test]
fn a_line_refused_by_the_collection_is_not_counted_as_stored() {
    let place = Place::new();
    place.run(&["create", "db", "points", "--dimension", "2"]).ok();
    place.write(
        "a.jsonl",
        "{\"id\":1,\"vector\":[1,1]}\n{\"id\":2,\"vector\":[2]}\n{\"id\":3,\"vector\":[3,3]}\n",
    );
    let ran = place
        .run(&["add", "db", "a.jsonl", "--skip-bad-lines"])
        .fails(3, "a.jsonl:2: ");
    assert!(ran.out.contains("2 with their own vectors"), "{}", ran.out);
    assert!(ran.out.contains("1 refused"), "{}", ran.out);
}

#[test]
fn a_text_of_which_nothing_can_be_read_is_told_again_and_stops_nothing() {
    let place = Place::new();
    place.write("ws/a.md", "good text");
    place.write("ws/blank.txt", " \n\u{200b} \n");
    place.write("ws/c.md", "more text");
    for name in ["ws/a.md", "ws/blank.txt", "ws/c.md"] {
        settle(&place, name);
    }
    for _ in 0..2 {
        let ran = place.run(&["add", "db", "ws"]).fails(3, "ws/blank.txt:1: ");
        assert!(ran.out.contains("1 refused"), "{}", ran.out);
        assert!(!ran.out.contains("all was there"), "{}", ran.out);
        assert_eq!(place.run(&["count", "db"]).ok().out, "2\n");
    }
    // A line of that kind is fatal as asked, but not for what was before it.
    place.write(
        "ws/lines.jsonl",
        "{\"id\":1,\"text\":\"one\"}\n{\"id\":2,\"text\":\"\\u200b\"}\n{\"id\":3,\"text\":\"three\"}\n",
    );
    place
        .run(&["add", "other", "ws/lines.jsonl"])
        .fails(1, "ws/lines.jsonl:2: ");
    assert_eq!(place.run(&["count", "other"]).ok().out, "1\n");
}

#[test]
fn a_damaged_file_in_a_folder_is_named_and_the_others_are_read() {
    let place = Place::new();
    place.write("docs/a.md", "first");
    // The head of a gzip file, and nothing behind it.
    place.write(
        "docs/sub/b.jsonl.gz",
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff],
    );
    place.write("docs/z.md", "last");
    for skip_bad_lines in [false, true] {
        let mut arguments = vec!["add", "db", "docs"];
        arguments.extend(skip_bad_lines.then_some("--skip-bad-lines"));
        let ran = place
            .run(&arguments)
            .fails(3, "skipped: docs/sub/b.jsonl.gz: damaged after line 0");
        assert!(ran.out.contains("1 skipped"), "{}", ran.out);
        assert_eq!(place.run(&["count", "db"]).ok().out, "2\n");
    }
    // Given by itself there is nothing to go on with.
    place
        .run(&["add", "db", "docs/sub/b.jsonl.gz"])
        .fails(1, "docs/sub/b.jsonl.gz is damaged");
    place.write("docs/sub/c.jsonl", "no line\n");
    place.run(&["add", "db", "docs"]).fails(1, "docs/sub/c.jsonl:1: ");
}

#[test]
fn files_of_one_name_and_files_named_twice_are_told_apart() {
    let place = Place::new();
    place.write("A/readme.md", "first");
    place.write("B/readme.md", "second");
    let clash = place
        .run(&["add", "db", "A", "B"])
        .fails(3, "skipped: B/readme.md: ");
    assert!(clash.err.contains("A/readme.md"), "{}", clash.err);
    assert!(!clash.err.contains("not read from a file"), "{}", clash.err);
    for twice in [
        &["add", "twice", "A", "A/readme.md"][..],
        &["add", "same", "A/readme.md", "./A/readme.md", "A/../A/readme.md"],
        &["add", "folders", "A", "./A"],
    ] {
        let ran = place.run(twice).ok();
        assert!(ran.out.starts_with("1 passage from 1 file"), "{}", ran.out);
        assert_eq!(place.run(&["count", twice[1]]).ok().out, "1\n");
    }
}

#[test]
fn what_a_name_says_nothing_of_is_told_and_fields_have_names_of_their_own() {
    let place = Place::new();
    place.write("data.json", "{\"a\": 1}");
    place
        .run(&["add", "db", "data.json"])
        .ok()
        .fails(0, "data.json: read as plain text");
    place.write("a.jsonl", "{\"id\":1,\"title\":\"words\"}\n");
    place
        .run(&[
            "add",
            "new",
            "a.jsonl",
            "--text-field",
            "title",
            "--title-field",
            "title",
        ])
        .fails(2, "\"title\" is to be two fields");
    assert!(!place.folder.path().join("new").exists());
    place
        .run(&[
            "add",
            "new",
            "a.jsonl",
            "--text-field",
            "title",
            "--title-field",
            "name",
        ])
        .ok();
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let place = Place::new();
    for option in [
        ["--encoder-layers", "6,5"],
        ["--pooling", "cls"],
        ["--max-tokens", "3"],
        ["--normalize", "true"],
        ["--template", "text"],
        ["--query-prompt", "x"],
        ["--passage-prompt", "x"],
    ] {
        let mut arguments = vec!["create", "db", "points", "--dimension", "3"];
        arguments.extend(option);
        place.run(&arguments).fails(2, option[0]);
    }
    place
        .run(&["create", "db", "points", "--dimension", "99999999999"])
        .fails(1, "not 99999999999");
}

#[test]
fn documents_that_are_not_there_to_be_deleted_are_named() {
    let place = Place::with_documents(3);
    let ran = place
        .run(&["delete", "db", "d1", "d99"])
        .fails(5, "no document \"d99\"");
    assert_eq!(ran.out, "1 document deleted\n");
    assert!(!ran.err.contains("d1\""), "{}", ran.err);
    place.run(&["delete", "db", "d2", "d2"]).ok();
}

#[test]
fn a_long_filter_is_shown_around_the_place_alone() {
    let place = Place::with_documents(1);
    let long = "y".repeat(100_000);
    for filter in [
        format!("year = {long}"),
        format!("year = \"{long}\" und"),
        format!("seen > time(\"{long}\")"),
        format!("@{long} = 1"),
        format!("{long} = 1"),
    ] {
        let ran = place.run(&["count", "db", "--filter", &filter]);
        assert!(
            !ran.err.is_empty() && ran.err.len() < 1_500,
            "{} bytes",
            ran.err.len()
        );
    }
}
