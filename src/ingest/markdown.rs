//! Markdown, cut at its headings.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::passages::{Passage, PassageLength, split};

/// Between the headings of a passage's title.
const STEP: &str = " › ";

/// Cuts Markdown into passages, each titled with the headings above it: `Guide › Install`.
///
/// Headings are those of CommonMark, `#` and underlined alike, at the outer level: a `#` in a code block, a list or
/// a quotation is text. A section is one passage if it fits, else it is cut between its blocks (a list or a code
/// block is kept whole where it can be). Every character that is not white space is in exactly one passage or in a
/// heading, in order; a heading's words are in the titles of the passages below it, and a heading with nothing below
/// it is a passage itself. No passage is blank or longer than the limit.
pub fn markdown_passages(text: &str, limit: PassageLength) -> Vec<Passage> {
    let sections = sections(text);
    let mut passages = Vec::new();
    let mut open: Vec<(usize, &str)> = Vec::new();
    for (number, section) in sections.iter().enumerate() {
        let Some(heading) = &section.heading else {
            add(
                &mut passages,
                None,
                split(text, section.body.clone(), &section.blocks, limit),
            );
            continue;
        };
        open.retain(|(level, _)| *level < heading.level);
        let above = path(&open);
        open.push((heading.level, &heading.title));
        let body = split(text, section.body.clone(), &section.blocks, limit);
        let next = sections.get(number + 1).and_then(|next| next.heading.as_ref());
        let has_sections = next.is_some_and(|next| next.level > heading.level);
        if !body.is_empty() && !heading.title.is_empty() {
            add(&mut passages, path(&open), body);
        } else if has_sections && !heading.title.is_empty() {
            // Its words come with the passages of its sections.
        } else {
            // Nothing below carries its words (or it has none but its marks), so it stands for itself.
            let whole = heading.range.start..section.body.end;
            let body_start = [section.body.start];
            add(&mut passages, above, split(text, whole, &body_start, limit));
        }
    }
    passages
}

fn add(passages: &mut Vec<Passage>, title: Option<String>, ranges: Vec<Range<usize>>) {
    passages.extend(ranges.into_iter().map(|range| Passage {
        title: title.clone(),
        range,
    }));
}

fn path(open: &[(usize, &str)]) -> Option<String> {
    let titles: Vec<&str> = open
        .iter()
        .map(|(_, title)| *title)
        .filter(|title| !title.is_empty())
        .collect();
    (!titles.is_empty()).then(|| titles.join(STEP))
}

/// A heading and what stands between it and the next.
struct Section {
    heading: Option<Heading>,
    body: Range<usize>,
    /// Where the blocks of the body begin.
    blocks: Vec<usize>,
}

struct Heading {
    level: usize,
    title: String,
    range: Range<usize>,
}

fn sections(text: &str) -> Vec<Section> {
    // Front matter would else be read as a rule and an underlined heading.
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let mut sections = vec![Section {
        heading: None,
        body: 0..text.len(),
        blocks: Vec::new(),
    }];
    let mut depth = 0usize;
    let mut title: Option<String> = None;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        let outer = depth == 0;
        match &event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        match event {
            Event::Start(Tag::Heading { level, .. }) if outer => {
                title = Some(String::new());
                let range = to_characters(text, range);
                if let Some(last) = sections.last_mut() {
                    last.body.end = range.start;
                }
                let heading = Heading {
                    level: number(level),
                    title: String::new(),
                    range: range.clone(),
                };
                sections.push(Section {
                    heading: Some(heading),
                    body: range.end..text.len(),
                    blocks: Vec::new(),
                });
            }
            Event::End(TagEnd::Heading(_)) if depth == 0 => {
                let words = title.take().unwrap_or_default();
                let heading = sections.last_mut().and_then(|last| last.heading.as_mut());
                if let Some(heading) = heading {
                    heading.title = words.split_whitespace().collect::<Vec<_>>().join(" ");
                }
            }
            Event::Text(words) | Event::Code(words) | Event::InlineHtml(words) => {
                if let Some(title) = &mut title {
                    title.push_str(&words);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(title) = &mut title {
                    title.push(' ');
                }
            }
            Event::Start(_) | Event::Rule | Event::Html(_) if outer => {
                if let Some(last) = sections.last_mut() {
                    last.blocks.push(to_characters(text, range).start);
                }
            }
            _ => {}
        }
    }
    sections
}

/// The parser gives places between characters; a place that is not one would be a panic in the slice.
fn to_characters(text: &str, range: Range<usize>) -> Range<usize> {
    let end = text.floor_char_boundary(range.end);
    text.floor_char_boundary(range.start).min(end)..end
}

fn number(level: HeadingLevel) -> usize {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}
