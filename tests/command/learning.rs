//! `learn` and `learning`: what is refused, and that nothing refused is stored.

use crate::place::Place;

/// Every number that would be stored or trained by must make sense first.
#[test]
fn numbers_that_make_no_sense_are_refused_and_leave_nothing_behind() {
    let place = Place::with_documents(3);
    let before = place.run(&["learning", "db", "--json"]).ok().out;
    for (command, minutes) in [
        ("learn", "nan"),
        ("learn", "-5"),
        ("learn", "0"),
        ("learn", "inf"),
        ("learning", "nan"),
        ("learning", "-5"),
        ("learning", "1e300"),
    ] {
        place
            .run(&[command, "db", &format!("--minutes={minutes}")])
            .fails(2, "a number of minutes above 0");
    }
    place
        .run(&["add", "db", "docs.jsonl", "--learn", "--minutes", "nan"])
        .fails(2, "a number of minutes above 0");
    place.write("more.jsonl", "{\"id\":\"more\",\"text\":\"text\"}");
    place
        .run(&["add", "db", "more.jsonl", "--learn", "--epochs", "nan"])
        .fails(1, "the training setting epochs is NaN");
    place.run(&["get", "db", "more"]).fails(5, "no document");
    for command in ["learn", "learning"] {
        for epochs in ["nan", "inf", "-1", "0"] {
            place
                .run(&[command, "db", &format!("--epochs={epochs}")])
                .fails(1, "the training setting epochs is");
        }
    }
    assert_eq!(place.run(&["learning", "db", "--json"]).ok().out, before);
    place.run(&["learning", "db", "--minutes", "0.5"]).ok();
    let policy = &place.run(&["learning", "db", "--json"]).ok().json()[0]["policy"];
    assert_eq!(policy["time"]["secs"], 30);
}

#[test]
fn how_much_must_come_in_is_said_only_where_it_counts() {
    let place = Place::with_documents(3);
    for arguments in [
        &["--after-pairs", "9"][..],
        &["--after-documents", "9"],
        &["--when", "off", "--after-pairs", "9"],
        &["--when", "on-request", "--after-documents", "9"],
    ] {
        place
            .run(&[&["learning", "db"][..], arguments].concat())
            .fails(2, "go with --when after");
    }
    let when = |arguments: &[&str]| {
        let ran = place.run(&[&["learning", "db", "--json"][..], arguments].concat());
        ran.ok().json()[0]["policy"]["when"].clone()
    };
    assert_eq!(when(&[]), "on_request");
    let after = |pairs: u64, documents: u64| serde_json::json!({ "after": { "pairs": pairs, "documents": documents } });
    assert_eq!(when(&["--when", "after", "--after-pairs", "50"]), after(50, 0));
    // It learns so already: the rest of it stays.
    assert_eq!(when(&["--after-documents", "9"]), after(50, 9));
    assert_eq!(when(&["--after-pairs", "70"]), after(70, 9));
    assert_eq!(when(&["--when", "off"]), "off");
}

#[test]
fn a_run_that_has_begun_can_be_abandoned() {
    let place = Place::with_documents(3);
    let ran = place.run(&["learning", "db", "--abandon"]).ok();
    assert!(ran.err.contains("no run has begun"), "{}", ran.err);
    place.run(&["create", "own", "vectors", "--dimension", "2"]).ok();
    for command in ["learn", "learning"] {
        place
            .run(&[command, "own", "--epochs", "1"])
            .fails(1, "no encoder, so there is none to train");
    }
}
