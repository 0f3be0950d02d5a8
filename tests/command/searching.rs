//! Filters, and the approximate index.

use crate::place::Place;

// B50, B51, B95
#[test]
fn documents_are_counted_listed_and_deleted_by_filter() {
    let place = Place::new();
    place.run(&["create", "db", "c", "--dimension", "2"]).ok();
    let lines: String = [
        (r#"it's"#, 2019, "en"),
        ("x' OR '1'='1", 2020, "en"),
        ("a\"b", 2021, "en"),
        (r"a\b", 2022, "de"),
    ]
    .iter()
    .map(|(id, year, lang)| {
        let metadata = serde_json::json!({ "year": year, "lang": lang });
        serde_json::json!({ "id": id, "vectors": [[1.0, 0.0]], "metadata": metadata }).to_string() + "\n"
    })
    .collect();
    place.write("docs.jsonl", lines);
    place.run(&["import", "db", "docs.jsonl"]).ok();
    let count = |filter: &str| place.run(&["count", "db", "--filter", filter]).ok();
    assert_eq!(place.run(&["count", "db"]).ok().out, "4\n");
    assert_eq!(count(r#"year >= 2020 and lang = "en""#).out, "2\n");
    assert_eq!(count("@id = \"it's\"").out, "1\n");
    assert_eq!(count(r#"@id in ["a\"b", 'a\\b', "x' OR '1'='1"]"#).out, "3\n");
    let listed = place
        .run(&["list", "db", "--filter", "lang != 'en'", "--json"])
        .ok();
    assert_eq!(
        listed.json(),
        [serde_json::json!({ "id": "a\\b", "metadata": { "year": 2022, "lang": "de" } })]
    );
    assert_eq!(
        place
            .run(&["list", "db", "--limit", "3"])
            .ok()
            .out
            .lines()
            .count(),
        3
    );

    for command in ["count", "list", "delete"] {
        let refused = place.run(&[command, "db", "--filter", "year >= and lang = 'en'"]);
        refused.fails(2, "column 9: expected a value, found `and`; a text stands in quotes: \"and\"\n  year >= and lang = 'en'\n          ^");
        place
            .run(&[command, "db", "--filter", " "])
            .fails(2, "the filter is empty");
    }
    let slip = count("yaer != 2020");
    assert_eq!(
        (
            slip.out.as_str(),
            slip.err.contains("did you mean year, which 4 documents have?")
        ),
        ("4\n", true)
    );
    place
        .run(&["delete", "db", "--filter", "yaer != 2020"])
        .fails(1, "did you mean year");
    place
        .run(&["delete", "db", "x", "--filter", "year = 1"])
        .fails(2, "cannot be used with");
    place.run(&["delete", "db"]).fails(2, "required");
    assert_eq!(place.run(&["count", "db"]).ok().out, "4\n");
    let deleted = place
        .run(&["delete", "db", "--filter", "@id = \"x' OR '1'='1\""])
        .ok();
    assert_eq!(deleted.out, "1 document deleted\n");
    assert_eq!(
        place.run(&["delete", "db", "--filter", "year < 2022"]).ok().out,
        "2 documents deleted\n"
    );
    assert_eq!(place.run(&["list", "db"]).ok().out, "a\\b\n");
}

#[test]
fn an_index_is_built_searched_and_measured() {
    let place = Place::new();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (5000, 16), }";
    let header = format!("{header:117}\n");
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.bytes());
    for at in 0..5000u32 * 16 {
        let value = (at.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        npy.extend(value.to_le_bytes());
    }
    place.write("v.npy", npy);
    place.run(&["create", "db", "c", "--dimension", "16"]).ok();
    place.run(&["import", "db", "v.npy"]).ok();
    let built = place.run(&["index", "db", "--json"]).ok().json();
    assert_eq!(built[0]["documents"], 5000);
    let again = place.run(&["index", "db"]).ok();
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    let vector = format!("[{}]", vec!["0.25"; 16].join(","));
    let search = |more: &[&str]| {
        let arguments = [&["search", "db", "--json", "--vector", &vector], more].concat();
        place.run(&arguments).ok().json()
    };
    let exact = search(&[]);
    assert_eq!(search(&["--recall-target", "1"]), exact);
    let found = search(&["--effort", "200"]);
    assert_eq!(found.len(), 10);
    assert_eq!(found[0], exact[0]);
    search(&["--approximate", "-k", "3"]);
    place
        .run(&["search", "db", "--vector", &vector, "--recall-target", "2"])
        .fails(1, "recall target");
    let told = place
        .run(&["recall", "db", "--sample", "20", "--plot", "r.svg"])
        .ok();
    assert!(told.out.contains("recall@10"), "{}", told.out);
    let picture = std::fs::read_to_string(place.folder.path().join("r.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
}
