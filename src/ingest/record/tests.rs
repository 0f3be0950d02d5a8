use serde_json::Value;
use stratal_storage::Id;

use super::{FieldNames, Record};
use crate::ingest::LineProblem;

fn parse(text: &str) -> Result<Record, LineProblem> {
    Record::parse(text, 1, &FieldNames::default())
}

fn refused(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn fields_without_a_name_join_the_metadata() {
    let record =
        parse(r#"{"id":"a","title":"T","text":"x","year":1972,"metadata":{"tags":["x",null]}}"#).unwrap();
    assert_eq!(record.id, Id::from("a"));
    assert_eq!(
        (record.title.as_deref(), record.text.as_deref()),
        (Some("T"), Some("x"))
    );
    assert_eq!(
        Value::Object(record.metadata),
        serde_json::json!({ "tags": ["x", null], "year": 1972 })
    );
    assert_eq!(record.vectors, None);
}

#[test]
fn numbers_and_texts_are_two_kinds_of_id() {
    assert_eq!(parse(r#"{"id":7}"#).unwrap().id, Id::Number(7));
    assert_eq!(parse(r#"{"id":"7"}"#).unwrap().id, Id::from("7"));
    assert_eq!(
        parse(r#"{"id":18446744073709551615}"#).unwrap().id,
        Id::Number(u64::MAX)
    );
    for bad in [r#"{"id":-1}"#, r#"{"id":7.0}"#, r#"{"id":null}"#, r#"{"id":[7]}"#] {
        assert!(matches!(parse(bad), Err(LineProblem::WrongType { .. })), "{bad}");
    }
    assert!(matches!(
        parse(r#"{"text":"x"}"#),
        Err(LineProblem::MissingId { .. })
    ));
}

#[test]
fn a_field_given_twice_is_refused_by_name() {
    assert!(refused(r#"{"id":1,"text":"x","id":2}"#).contains("\"id\" twice"));
    assert!(refused(r#"{"id":1,"text":"x","text":null}"#).contains("\"text\" twice"));
    assert!(refused(r#"{"id":1,"a":{"b":{"c":1,"c":2}}}"#).contains("\"a.b.c\" twice"));
    assert!(refused(r#"{"id":1,"year":1,"metadata":{"year":2}}"#).contains("\"year\" twice"));
    assert!(refused(r#"{"id":1,"metadata":{"year":2},"year":1}"#).contains("\"year\" twice"));
    assert!(refused(r#"{"id":1,"vector":[1],"vectors":[[1]]}"#).contains("\"vectors\" twice"));
}

// B24
#[test]
fn a_component_that_is_no_finite_number_is_named() {
    for (line, place) in [
        (r#"{"id":1,"vectors":[[1,2],[3,NaN]]}"#, (1, 1)),
        (r#"{"id":1,"vectors":[[1e999,2],[3,4]]}"#, (0, 0)),
        (r#"{"id":1,"vectors":[[1,-1e39],[3,4]]}"#, (0, 1)),
        (r#"{"id":1,"vector":[1,2,null]}"#, (0, 2)),
        (r#"{"id":1,"vector":[1,"2"]}"#, (0, 1)),
        (r#"{"id":1,"vector":[1,[2]]}"#, (0, 1)),
    ] {
        match parse(line) {
            Err(LineProblem::Component { layer, component, .. }) => {
                assert_eq!((layer, component), place, "{line}")
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    assert!(
        refused(r#"{"id":1,"vectors":[[1,2],[3,NaN]]}"#).starts_with("component 1 of layer 1 in \"vectors\"")
    );
}

#[test]
fn layer_vectors_have_one_length_and_at_least_one_component() {
    assert_eq!(
        parse(r#"{"id":1,"vector":[1,2.5]}"#).unwrap().vectors,
        Some(vec![vec![1.0, 2.5]])
    );
    assert_eq!(
        parse(r#"{"id":1,"vectors":[[1],[2]]}"#).unwrap().vectors,
        Some(vec![vec![1.0], vec![2.0]])
    );
    assert_eq!(parse(r#"{"id":1,"vectors":null}"#).unwrap().vectors, None);
    for bad in ["[]", "[[]]", "[[1],[]]", "[[1],[2,3]]"] {
        let line = format!(r#"{{"id":1,"vectors":{bad}}}"#);
        assert!(
            matches!(parse(&line), Err(LineProblem::Shape { .. })),
            "{line}: {:?}",
            parse(&line)
        );
    }
    for bad in ["7", "\"x\"", "{}", "[1,2]", "true"] {
        let line = format!(r#"{{"id":1,"vectors":{bad}}}"#);
        assert!(
            matches!(parse(&line), Err(LineProblem::WrongType { .. })),
            "{line}: {:?}",
            parse(&line)
        );
    }
}

#[test]
fn what_is_no_object_is_told_as_what_it_is() {
    for (line, found) in [
        ("[1]", "a list"),
        ("7", "a number"),
        ("-7.5", "a number"),
        ("\"x\"", "a string"),
        ("null", "null"),
        ("true", "a boolean"),
    ] {
        assert_eq!(parse(line), Err(LineProblem::NotAnObject { found }), "{line}");
    }
    for bad in [
        "{",
        "{\"id\":1}x",
        "{\"id\":1,}",
        "[1",
        "nul",
        "{\"id\":\"\\ud800\"}",
        "{'id':1}",
    ] {
        assert!(
            matches!(parse(bad), Err(LineProblem::NotJson { .. })),
            "{bad}: {:?}",
            parse(bad)
        );
    }
}

#[test]
fn nesting_without_end_is_an_error_and_no_crash() {
    let deep = format!(r#"{{"id":1,"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(parse(&deep), Err(LineProblem::NotJson { .. })));
}

#[test]
fn other_names_of_fields_are_followed() {
    let fields = FieldNames {
        id: "key".to_owned(),
        text: "body".to_owned(),
        ..FieldNames::default()
    };
    let record = Record::parse(r#"{"key":"k","body":"b","id":9,"text":"t"}"#, 4, &fields).unwrap();
    assert_eq!(
        (record.line, record.id, record.text.as_deref()),
        (4, Id::from("k"), Some("b"))
    );
    assert_eq!(
        Value::Object(record.metadata),
        serde_json::json!({ "id": 9, "text": "t" })
    );
}
