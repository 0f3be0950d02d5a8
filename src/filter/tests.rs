//! What filters say, in both forms, over single documents.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn passes(filter: &Filter, metadata: &Value) -> bool {
    let metadata = metadata.as_object().expect("an object");
    filter
        .matches(&Id::from("it's"), Some("The title"), metadata)
        .unwrap()
}

fn holds(text: &str, metadata: Value) -> bool {
    passes(
        &Filter::parse(text).unwrap_or_else(|error| panic!("{error}")),
        &metadata,
    )
}

/// Which of the documents pass.
fn which(text: &str, documents: &[Value]) -> Vec<usize> {
    (0..documents.len())
        .filter(|&at| holds(text, documents[at].clone()))
        .collect()
}

// B47
#[test]
fn kinds_never_meet() {
    let documents = [
        json!({"x": 3}),
        json!({"x": 3.0}),
        json!({"x": "3"}),
        json!({"x": true}),
        json!({"x": "007"}),
        json!({"x": "2024_07"}),
    ];
    assert_eq!(which("x in [3]", &documents), [0, 1]);
    assert_eq!(which("x = 3.0", &documents), [0, 1]);
    assert_eq!(which(r#"x = "3""#, &documents), [2]);
    assert_eq!(which("x = true", &documents), [3]);
    assert_eq!(which(r#"x = "007""#, &documents), [4]);
    assert_eq!(which("x = 7", &documents), [0usize; 0]);
    assert_eq!(which("x > 1", &documents), [0, 1]);
    assert_eq!(which(r#"x starts with "2024_""#, &documents), [5]);
    assert_eq!(which(r#"x in [3, "3", true]"#, &documents), [0, 1, 2, 3]);
}

// B45
#[test]
fn null_missing_and_empty_are_told_apart() {
    let documents = [
        json!({"x": null}),
        json!({"x": [null, 1]}),
        json!({"x": []}),
        json!({}),
        json!({"x": {}}),
        json!({"x": [[]]}),
    ];
    assert_eq!(which("x is null", &documents), [0, 1]);
    assert_eq!(which("x = null", &documents), [0, 1]);
    assert_eq!(which("x in [null]", &documents), [0, 1]);
    assert_eq!(which("x is not null", &documents), [2, 3, 4, 5]);
    assert_eq!(which("exists(x)", &documents), [0, 1, 2, 4, 5]);
    assert_eq!(which("not exists(x)", &documents), [3]);
    assert_eq!(which("x is empty", &documents), [2, 5]);
    assert_eq!(which("x != 1", &documents), [0, 2, 3, 4, 5]);
    assert_eq!(which("x in []", &documents), [0usize; 0]);
}

// B43
#[test]
fn spellings_of_one_predicate_agree() {
    let documents = ["a", "b", "c", "d"].map(|c| json!({ "c": c }));
    assert_eq!(
        which(r#"not (c = "a")"#, &documents),
        which(r#"c != "a""#, &documents)
    );
    assert_eq!(
        which(r#"not (c = "a" or c = "b")"#, &documents),
        which(r#"c <> "a" and not c == "b""#, &documents)
    );
    assert_eq!(which(r#"c not in ["a", 'b']"#, &documents), [2, 3]);
}

// B48
#[test]
fn times_are_instants_and_other_dates_texts() {
    let documents = [
        "2024-01-01T00:30+01:00",
        "2023-12-31T23:30Z",
        "2024-01-01T00:00",
        "2024-13-01",
        "2024-01-01T00:00:00Z",
    ]
    .map(|at| json!({ "at": at }));
    assert_eq!(which(r#"at = time("2023-12-31T23:30:00Z")"#, &documents), [0, 1]);
    assert_eq!(
        which(
            r#"at between time("2023-12-31T23:00Z") and time("2024-01-01T00:00Z")"#,
            &documents
        ),
        [0, 1, 4]
    );
    assert_eq!(which(r#"at >= "2024""#, &documents), [0, 2, 3, 4]);
    assert_eq!(
        which(
            r#"at in [time("2024-01-01T01:00+01:00"), "2024-13-01"]"#,
            &documents
        ),
        [3, 4]
    );
    for bad in ["2024-13-01", "2024-01-01T00:00", "yesterday", "2024-13-01T00:00Z"] {
        let error = Filter::parse(&format!("at > time('{bad}')")).unwrap_err();
        assert!(
            matches!(&error, FilterError::Syntax { column: 11, .. }),
            "{error}"
        );
        assert!(matches!(
            field("at").gt(time(bad)).check(),
            Err(FilterError::Time { .. })
        ));
    }
}

// B53
#[test]
fn lists_and_objects_are_looked_into() {
    let document = json!({"tags": ["x", "y"], "geo": {"lat": 1.5}, "e": [], "n": null, "a.b": {"`c": 1},
        "people": [{"name": "Ada", "age": 36}, {"name": "Alan", "age": [41, 42]}]});
    for yes in [
        r#"tags = "x""#,
        "geo.lat = 1.5",
        "exists(geo)",
        "not exists(geo.lon)",
        r#"people.name = "Alan" and people.age > 41"#,
        "people.age between 36 and 36",
        r"`a.b`.`\`c` = 1",
        "geo != 1",
        "not exists(geo.lat.x)",
        r#"@id = "it's" and @title starts with "The""#,
        "@id != 3 and exists(@title)",
    ] {
        assert!(holds(yes, document.clone()), "{yes}");
    }
    let built = field_at(["a.b", "`c"]).eq(1) & field("`a.b`.`\\`c`").le(1u64) & field("@title").ne("");
    assert!(passes(&built, &document));
    let list = json!({"x": [0, 5]});
    assert!(holds("x < 1 and x > 4", list.clone()));
    assert!(!holds("x between 1 and 4", list));
}

#[test]
fn numbers_are_told_apart_to_the_last_digit() {
    let document = json!({"x": 9_007_199_254_740_993u64, "y": u64::MAX, "z": i64::MIN});
    assert!(holds(
        "x = 9007199254740993 and x != 9007199254740992 and x > 9007199254740992.0",
        document.clone()
    ));
    assert!(holds(
        "y = 18446744073709551615 and y < 18446744073709551616",
        document.clone()
    ));
    assert!(holds(
        "z = -9223372036854775808 and z < -9223372036854775807",
        document.clone()
    ));
    assert!(
        passes(&field("y").eq(u64::MAX), &document) && !passes(&field("y").eq(u64::MAX as f64), &document)
    );
    assert!(matches!(
        field("x").lt(f64::NAN).check(),
        Err(FilterError::NotFinite { .. })
    ));
    assert!(matches!(
        field("x").is_in([f64::INFINITY]).check(),
        Err(FilterError::NotFinite { .. })
    ));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |filter: Filter| filter.check().unwrap_err();
    assert!(matches!(
        refused(field("x").lt(true)),
        FilterError::Unordered { value: "true" }
    ));
    assert!(matches!(
        refused(field("x").ge(Literal::null())),
        FilterError::Unordered { .. }
    ));
    assert!(matches!(
        refused(field("x").between(1, "z")),
        FilterError::Range { .. }
    ));
    for bad in ["", "a..b", ".", "a.", "`a", "`a`b", "a`b`", "@when", "@id.x"] {
        assert!(
            matches!(refused(field(bad).exists()), FilterError::Path { .. }),
            "{bad}"
        );
    }
    assert!(matches!(
        refused(field_at(Vec::<String>::new()).exists()),
        FilterError::Path { .. }
    ));
    let poisoned = !(field("x").eq(1) & field("y").eq(time("never"))) | field("z").eq(1);
    assert!(matches!(refused(poisoned.clone()), FilterError::Time { .. }));
    assert!(
        poisoned
            .matches(&Id::from(1u64), None, &serde_json::Map::new())
            .is_err()
    );
}

// B50
#[test]
fn a_text_that_does_not_parse_is_refused_at_its_place() {
    for empty in ["", "  ", "\n\t"] {
        assert_eq!(Filter::parse(empty), Err(FilterError::Empty));
    }
    for (text, at) in [
        ("year", 4),
        ("year >", 6),
        ("year >= and lang = \"en\"", 8),
        ("year >= 2020 lang = \"en\"", 13),
        ("lang = en", 7),
        ("lang = \"en", 7),
        ("lang = \"e\\n\\x\"", 11),
        ("(a = 1", 6),
        ("a = 1)", 5),
        ("a => 1", 3),
        ("a in 1", 5),
        ("a in [1 2]", 8),
        ("a in [1,", 8),
        ("a between 1 or 2", 12),
        ("a between 1 and \"b\"", 10),
        ("a is 3", 5),
        ("a like \"b\"", 2),
        ("a not = 3", 6),
        ("a = 1 and", 9),
        ("and = 1", 0),
        ("\"a\" = 1", 0),
        ("a. = 1", 3),
        ("a = 12x", 4),
        ("a = 1.2.3", 4),
        ("a = 1e999", 4),
        ("a < null", 4),
        ("a starts with 3", 14),
        ("exists a", 7),
        ("exists(a", 8),
        ("@when = 1", 0),
        ("@id.x = 1", 3),
        ("a = ; 1", 4),
        ("a = [1]", 4),
        ("a = time(3)", 9),
        ("größe = ß", 10),
        ("a = 1 -- drop", 6),
        ("not", 3),
    ] {
        match Filter::parse(text) {
            Err(FilterError::Syntax { at: found, .. }) => assert_eq!(found, at, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let error = Filter::parse("year >= 2020 and\n  größe = klein")
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 2, column 11"), "{error}");
    assert!(error.ends_with("    größe = klein\n            ^"), "{error}");
    let long = format!("x in [{}] and y ~ 3", "1,".repeat(500) + "1");
    let error = Filter::parse(&long).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        lines[1].chars().nth(lines[2].chars().count() - 1),
        Some('~'),
        "{error}"
    );
    assert!(lines[1].chars().count() < 130);
}

#[test]
fn depth_is_bounded_and_never_reaches_the_stack() {
    let nested = |times: usize| format!("{}a = 1{}", "(".repeat(times), ")".repeat(times));
    assert!(Filter::parse(&nested(DEPTH_MAX)).is_ok());
    for times in [DEPTH_MAX + 1, 100_000] {
        assert_eq!(Filter::parse(&nested(times)), Err(FilterError::Depth));
    }
    assert_eq!(Filter::parse(&"(".repeat(1 << 20)), Err(FilterError::Depth));
    assert_eq!(
        Filter::parse(&format!("{}a = 1", "not ".repeat(100_000))),
        Ok(field("a").eq(1))
    );
    assert!(matches!(
        Filter::parse(&"not ".repeat(100_001)),
        Err(FilterError::Syntax { .. })
    ));
    let wide = (0..100_000).fold(field("x").eq(0), |filter, x| filter | field("x").eq(x));
    assert_eq!(wide.check(), Ok(()));
    assert!(Filter::parse(&wide.to_string()).unwrap() == wide);
    let deep = (0..100_000).fold(field("x").eq(0), |filter, x| {
        (filter | field("x").eq(x)) & field("y").eq(x)
    });
    assert_eq!(deep.check(), Err(FilterError::Depth));
}

#[test]
fn keywords_are_read_in_any_case_and_only_in_their_place() {
    assert!(holds(
        "NOT (Time = 1 OR starts IN [2]) And EXISTS(with)",
        json!({"with": 1})
    ));
    assert!(holds(
        "empty is empty and prefix prefix 'a' and a.in = 1 and a.`not` = 2",
        json!({"empty": [], "prefix": "ab", "a": {"in": 1, "not": 2}})
    ));
    assert!(holds("a=1&&!(b=2||c≥3)", json!({"a": 1})));
    assert!(holds(
        r#"größe = "ß" and `` = 1 and content-type = "\u00e9\u{1F600}\ud83d\ude00""#,
        json!({"größe": "ß", "": 1, "content-type": "é😀😀"})
    ));
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "c", "a.b", "not", "`", "", "@id", "x y", "\\", "in"])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        prop::sample::select(vec![0.5, 1.0, -2.0, 9_007_199_254_740_992.0]).prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "a",
            "ab",
            "3",
            "2024-01-01T00:00Z",
            "2024-01-01T01:00+01:00",
            "2024-01-01"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key(), inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(key(), value(), 0..5)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        (-3i64..4).prop_map(Literal::from),
        any::<u64>().prop_map(Literal::from),
        prop::num::f64::NORMAL.prop_map(Literal::from),
        prop::sample::select(vec![0.5, 1.0, 9_007_199_254_740_993.0]).prop_map(Literal::from),
        prop::sample::select(vec!["", "a", "ab", "3", "2024-01-01T00:00Z"]).prop_map(Literal::from),
        any::<String>().prop_map(Literal::from),
        prop::sample::select(vec!["2024-01-01T00:00Z", "2023-12-31T00:00:00.125+01:00"]).prop_map(time),
    ]
}

fn any_literal() -> impl Strategy<Value = Literal> {
    prop_oneof![6 => literal(), 1 => any::<bool>().prop_map(Literal::from), 1 => Just(Literal::null())]
}

fn filter() -> impl Strategy<Value = Filter> {
    let path = prop::collection::vec(key(), 1..3);
    let test = (path, any_literal(), literal(), any::<String>(), 0..11u8).prop_map(
        |(keys, any, value, text, which)| {
            let field = field_at(keys);
            match which {
                0 => field.eq(any),
                1 => field.ne(any),
                2 => field.lt(value),
                3 => field.le(value),
                4 => field.gt(value),
                5 => field.ge(value),
                6 => field.between(value.clone(), value),
                7 => field.is_in([any, value, Literal::from(text)]),
                8 => field.starts_with(text.chars().take(1).collect::<String>()),
                9 => field.exists(),
                _ => field.is_empty(),
            }
        },
    );
    test.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a & b),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a | b),
            inner.prop_map(|a| !a),
        ]
    })
}

proptest! {
    #[test]
    fn the_text_form_is_read_back_as_it_is_written(filter in filter()) {
        let text = filter.to_string();
        prop_assert_eq!(Filter::parse(&text), Ok(filter), "{}", text);
    }

    // B43
    #[test]
    fn not_is_the_complement_and_de_morgan_holds(a in filter(), b in filter(), document in document()) {
        let (x, y) = (passes(&a, &document), passes(&b, &document));
        prop_assert_eq!(passes(&!a.clone(), &document), !x);
        prop_assert_eq!(passes(&(a.clone() & b.clone()), &document), x && y);
        prop_assert_eq!(passes(&(a.clone() | b.clone()), &document), x || y);
        prop_assert_eq!(passes(&!(a.clone() & b.clone()), &document), passes(&(!a.clone() | !b.clone()), &document));
        prop_assert_eq!(passes(&!(a.clone() | b.clone()), &document), passes(&(!a & !b), &document));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z()\\[\\]\"'`\\\\@.,=<>! \n0-9eé-]{0,40}|.{0,30}") {
        if let Ok(filter) = Filter::parse(&text) {
            prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
        }
    }
}
