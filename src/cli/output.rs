//! Standard output for people and programs; progress on standard error if somebody looks at it.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{Failure, Outcome};

/// Columns where the terminal does not say.
const COLUMNS_DEFAULT: usize = 100;

pub struct Output {
    writer: BufWriter<Stdout>,
}

impl Output {
    pub fn new() -> Output {
        Output {
            writer: BufWriter::new(io::stdout()),
        }
    }

    pub fn line(&mut self, text: &str) -> Outcome {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Outcome {
        self.writer.write_all(bytes).map_err(closed)
    }

    /// One JSON value on a line of its own.
    pub fn json(&mut self, value: &impl Serialize) -> Outcome {
        let json = serde_json::to_string(value)
            .map_err(|error| Failure::invalid(format!("cannot be written as JSON: {error}")))?;
        self.line(&json)
    }

    pub fn flush(&mut self) -> Outcome {
        self.writer.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> Failure {
    Failure::io("write", Path::new("standard output"), error)
}

/// A word to the person at the terminal, beside the output.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A progress bar on standard error, or nothing where that is no terminal.
pub fn bar(template: &str, length: u64) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}

/// Text for a terminal: control characters made visible, white space squeezed, so that a document cannot write over
/// what it is shown beside.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !plain.is_empty() {
            plain.push(' ');
        }
        for c in word.chars() {
            match c {
                c if c.is_control() => plain.extend(c.escape_unicode()),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => plain.extend(c.escape_unicode()),
                c => plain.push(c),
            }
        }
    }
    plain
}

/// The first lines of a text, wrapped and indented.
pub fn excerpt(text: &str, lines: usize, indent: &str) -> String {
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .unwrap_or(COLUMNS_DEFAULT);
    let width = columns.clamp(40, 200) - indent.chars().count();
    let text = plain(text);
    let mut wrapped: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let word = shortened(word, width);
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            wrapped.push(std::mem::take(&mut line));
            if wrapped.len() == lines {
                break;
            }
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if wrapped.len() < lines {
        wrapped.push(line);
    } else if let Some(last) = wrapped.last_mut() {
        last.push('…');
    }
    wrapped
        .iter()
        .map(|line| format!("{indent}{line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn shortened(word: &str, width: usize) -> Cow<'_, str> {
    match word.char_indices().nth(width.saturating_sub(1)) {
        Some((end, _)) => Cow::Owned(format!("{}…", &word[..end])),
        None => Cow::Borrowed(word),
    }
}

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in the largest unit that leaves a figure before the point.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A number with so many decimals. Zero has no sign, be it what rounding leaves of a small number below it.
pub fn decimals(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.bytes().all(|byte| matches!(byte, b'0' | b'.')) => zero.to_owned(),
        _ => text,
    }
}

/// The same with a plus where there is no minus.
pub fn signed(value: f64, places: usize) -> String {
    let text = decimals(value, places);
    match text.starts_with('-') {
        true => text,
        false => format!("+{text}"),
    }
}

/// A figure with so many decimals, or a dash where it is not known.
pub fn figure(value: Option<f64>, places: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| decimals(value, places))
}

/// Seconds as a person would say them.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `1 file`, `2 files`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_a_person_writes_them() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([5, 2048, 3 << 30].map(bytes), ["5 B", "2.0 KiB", "3.0 GiB"]);
        assert_eq!(
            [0.25, 42.0, 79.4, 7300.0].map(seconds),
            ["0.2 s", "42 s", "1 min 19 s", "2 h 1 min"]
        );
        assert_eq!(
            [-0.0, -0.004, -0.006, 1.0].map(|value| decimals(value, 2)),
            ["0.00", "0.00", "-0.01", "1.00"]
        );
        assert_eq!(
            [-0.0004, 0.0, 0.5, -0.5].map(|value| signed(value, 3)),
            ["+0.000", "+0.000", "+0.500", "-0.500"]
        );
        assert_eq!([None, Some(-0.0)].map(|value| figure(value, 1)), ["–", "0.0"]);
    }

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        assert_eq!(
            plain("a\u{1b}[2J\r\nb\u{202e}c\0"),
            "a\\u{1b}[2J b\\u{202e}c\\u{0}"
        );
        let excerpt = excerpt(&"wörd ".repeat(500), 2, "  ");
        assert_eq!(excerpt.lines().count(), 2);
        assert!(excerpt.ends_with('…') && excerpt.lines().all(|line| line.chars().count() <= 201));
    }
}
