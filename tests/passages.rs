//! Passage promises: everything is in one, in order, none is blank or too long, and titles are real headings.
#![cfg(feature = "ingest")]

use proptest::prelude::*;
use stratal::ingest::{Passage, PassageLength, length_in_words, markdown_passages, text_passages};

fn limit(words: usize) -> PassageLength {
    PassageLength::words(words).unwrap()
}

fn shown<'a>(text: &'a str, passages: &'a [Passage]) -> Vec<(Option<&'a str>, &'a str)> {
    passages
        .iter()
        .map(|passage| (passage.title.as_deref(), &text[passage.range.clone()]))
        .collect()
}

fn check_slices(text: &str, passages: &[Passage], limit: usize) {
    let mut end = 0;
    for passage in passages {
        assert!(passage.range.start >= end, "passages overlap or go back");
        end = passage.range.end;
        // Slicing panics if a place is inside a character (B75).
        let slice = &text[passage.range.clone()];
        assert!(!slice.trim().is_empty(), "a blank passage");
        assert_eq!(slice, slice.trim());
        assert!(
            length_in_words(slice) <= limit,
            "{} words in {slice:?}",
            length_in_words(slice)
        );
    }
}

fn visible(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn sections_carry_the_headings_above_them() {
    let text = "before\n\n# Guide\n\nwelcome\n\nInstall\n-------\n\nrun it\n\n### Linux\nuse `make`\n\n# Other *words* `x`\n\nend";
    assert_eq!(
        shown(text, &markdown_passages(text, limit(200))),
        [
            (None, "before"),
            (Some("Guide"), "welcome"),
            (Some("Guide › Install"), "run it"),
            (Some("Guide › Install › Linux"), "use `make`"),
            (Some("Other words x"), "end"),
        ]
    );
}

// B62
#[test]
fn a_hash_inside_code_lists_or_quotations_is_no_heading() {
    for fenced in [
        "```sh\n# not a heading\nmake\n```",
        "~~~\n# not a heading\n~~~",
        "````\n```\n# not a heading\n```\n`````",
        "   ```\n   # not a heading\n   ```",
        "- item\n\n  ```\n  # not a heading\n  ```",
        "    # not a heading, indented",
        "> # not a heading of the page",
        "- # not a heading of the page",
        "<!--\n# not a heading\n-->",
        "#not-a-heading",
        "```\n# never closed\n\ntext",
    ] {
        let text = format!("# Real\n\nintro\n\n{fenced}\n");
        let passages = markdown_passages(&text, limit(200));
        assert_eq!(passages.len(), 1, "{text}: {passages:?}");
        assert_eq!(passages[0].title.as_deref(), Some("Real"));
        assert!(
            text[passages[0].range.clone()].ends_with(fenced.trim_end()),
            "{text}"
        );
    }
    let text = "---\ntitle: front matter\n---\n\nTwo\nlines\n===\n\ntext";
    assert_eq!(
        shown(text, &markdown_passages(text, limit(200))),
        [
            (None, "---\ntitle: front matter\n---"),
            (Some("Two lines"), "text"),
        ]
    );
}

// B63
#[test]
fn a_heading_without_text_stands_for_itself_and_makes_no_empty_passage() {
    let text = "# A\n## B\n## C\ntext\n# D\n#\n\nafter an empty heading\n# E";
    assert_eq!(
        shown(text, &markdown_passages(text, limit(200))),
        [
            (Some("A"), "## B"),
            (Some("A › C"), "text"),
            (None, "# D"),
            (None, "#\n\nafter an empty heading"),
            (None, "# E"),
        ]
    );
    assert_eq!(markdown_passages("", limit(200)), []);
    assert_eq!(markdown_passages(" \n\n\t\n", limit(200)), []);
    assert_eq!(text_passages("\n \n", limit(200)), []);
}

#[test]
fn long_text_is_cut_where_it_reads_best() {
    let sentence = "One two three four five six seven eight nine. ";
    let text = format!("{}\n\n{}", sentence.repeat(4), "Short end.");
    let passages = text_passages(&text, limit(25));
    check_slices(&text, &passages, 25);
    for passage in &passages {
        assert!(
            text[passage.range.clone()].ends_with('.'),
            "{:?}",
            &text[passage.range.clone()]
        );
    }
    // A list item or a code block is not torn while it fits.
    let code = "```\nlet a = 1;\n\nlet b = 2;\n```";
    let text = format!("# T\n\n{}\n\n{code}\n", sentence.repeat(2));
    let passages = markdown_passages(&text, limit(24));
    assert_eq!(&text[passages.last().unwrap().range.clone()], code);
    let text = "日本語の文章です。".repeat(10);
    let passages = text_passages(&text, limit(20));
    assert!(
        passages
            .iter()
            .all(|passage| text[passage.range.clone()].ends_with('。')),
        "{passages:?}"
    );
}

// B75
#[test]
fn text_of_every_script_is_cut_between_characters() {
    for text in [
        "i ⭢ j",
        "👩‍👩‍👧‍👦👨‍💻",
        "e\u{301}a\u{308}o\u{302}",
        "สวัสดีชาวโลกทั้งหลาย",
        "שלום עולם",
        "a\u{2028}b",
        "\u{feff}x",
    ] {
        let long = text.repeat(50);
        for words in [8, 9, 13] {
            let passages = text_passages(&long, limit(words));
            check_slices(&long, &passages, words);
            let joined: String = passages
                .iter()
                .map(|passage| visible(&long[passage.range.clone()]))
                .collect();
            assert_eq!(joined, visible(&long));
            check_slices(&long, &markdown_passages(&long, limit(words)), words);
        }
    }
}

#[test]
fn ten_megabytes_without_a_space_are_cut_in_time() {
    let text = "x".repeat(10 << 20);
    let passages = text_passages(&text, limit(200));
    check_slices(&text, &passages, 200);
    assert_eq!(passages.len(), (10usize << 20).div_ceil(1_600));
    let quoted = ">".repeat(100_000);
    assert!(!markdown_passages(&quoted, limit(200)).is_empty());
}

#[test]
fn a_passage_too_short_for_a_thought_is_refused() {
    assert!(PassageLength::words(0).is_err());
    assert!(PassageLength::words(7).is_err());
    assert_eq!(PassageLength::default().get(), 200);
}

fn markdown() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "(#{1,7} )?[a-zé ]{0,12}",
        "[a-z0-9.!? é日👩\u{301}]{0,80}",
        Just("```".to_owned()),
        Just("~~~~ rust".to_owned()),
        Just("    # code".to_owned()),
        Just("===".to_owned()),
        Just("---".to_owned()),
        Just("- # item".to_owned()),
        Just("> quote".to_owned()),
        Just("| a | b |\n|---|---|\n| 1 | 2 |".to_owned()),
        Just("<div>\n# html\n</div>".to_owned()),
        Just("[link]: http://example.org 'x'".to_owned()),
        Just(String::new()),
        Just("\r".to_owned()),
        Just("\t\u{a0}".to_owned()),
        "\\PC{0,30}",
    ];
    proptest::collection::vec(line, 0..30).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    // B63
    #[test]
    fn every_visible_character_of_a_text_is_in_one_passage_in_order(text in "(\\PC|\n|\n\n|[.!?] |[a-z]{1,30} ){0,200}", words in 8usize..60) {
        let passages = text_passages(&text, limit(words));
        check_slices(&text, &passages, words);
        let joined: String = passages.iter().map(|passage| visible(&text[passage.range.clone()])).collect();
        prop_assert_eq!(joined, visible(&text));
    }

    // B63
    #[test]
    fn every_visible_character_of_markdown_is_in_a_passage_or_a_heading_above_one(text in markdown(), words in 8usize..60) {
        let passages = markdown_passages(&text, limit(words));
        check_slices(&text, &passages, words);
        // What lies between passages is headings: all its letters are in the title of the passage that follows.
        let mut end = 0;
        for passage in &passages {
            let between = &text[end..passage.range.start];
            let title = passage.title.clone().unwrap_or_default();
            for word in between.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
                prop_assert!(title.contains(word), "{word:?} of {between:?} is not in {title:?}");
            }
            end = passage.range.end;
        }
        prop_assert_eq!(visible(&text[end..]), "");
    }
}
