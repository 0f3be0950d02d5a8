//! A picture of recall against queries per second.

use std::fmt::Write;

use crate::Recall;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 420.0;
const MARGIN: f64 = 64.0;

/// Draws a measurement as SVG: recall to the right, queries per second upwards in powers of ten.
pub fn recall(measured: &Recall, title: &str) -> String {
    let rates = measured.curve.iter().map(|at| at.queries_per_second);
    let rates = rates
        .chain([measured.exact_queries_per_second])
        .filter(|rate| *rate > 0.0);
    let (least, most) = rates.fold((f64::INFINITY, 0f64), |(least, most), rate| {
        (least.min(rate), most.max(rate))
    });
    let (low, high) = (least.max(1e-3).log10().floor(), most.max(1e-2).log10().ceil());
    let lowest = measured.curve.iter().map(|at| at.recall).fold(0.95, f64::min);
    let left = (lowest * 20.0).floor() / 20.0;
    let x = |recall: f64| MARGIN + (recall - left) / (1.0 - left) * (WIDTH - 2.0 * MARGIN);
    let y = |rate: f64| {
        HEIGHT - MARGIN - (rate.max(1e-3).log10() - low) / (high - low).max(1.0) * (HEIGHT - 2.0 * MARGIN)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"32\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    let mut add = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    let steps = ((1.0 - left) * 20.0).round() as usize;
    for step in 0..=steps {
        let recall = left + step as f64 / 20.0;
        let at = x(recall);
        add(format!(
            "<path d=\"M{at:.1} {MARGIN}V{:.1}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{recall:.2}</text>",
            HEIGHT - MARGIN,
            HEIGHT - MARGIN + 18.0
        ));
    }
    for power in low as i32..=high as i32 {
        let at = y(10f64.powi(power));
        add(format!(
            "<path d=\"M{MARGIN} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            WIDTH - MARGIN,
            MARGIN - 6.0,
            at + 4.0,
            10f64.powi(power)
        ));
    }
    let mut path = String::new();
    for (number, at) in measured.curve.iter().enumerate() {
        let letter = if number == 0 { 'M' } else { 'L' };
        // Writing to a text cannot fail.
        let _ = write!(
            path,
            "{letter}{:.1} {:.1}",
            x(at.recall),
            y(at.queries_per_second)
        );
    }
    add(format!(
        "<path d=\"{path}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>"
    ));
    let mut dot = |recall: f64, rate: f64, colour: &str, name: &str| {
        add(format!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{name}: recall {recall:.4}, {rate:.0} \
             queries per second</title></circle>",
            x(recall),
            y(rate)
        ));
    };
    for at in &measured.curve {
        let name = format!("effort {}", at.effort.unwrap_or_default());
        dot(at.recall, at.queries_per_second, "#06c", &name);
    }
    dot(
        measured.default.recall,
        measured.default.queries_per_second,
        "#c60",
        "the default",
    );
    dot(1.0, measured.exact_queries_per_second, "#444", "exact search");
    add(format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">recall@10</text>\n<text x=\"{MARGIN}\" y=\"52\">queries per \
         second (orange: the default; grey: exact)</text>\n</svg>",
        WIDTH / 2.0,
        HEIGHT - 18.0
    ));
    svg
}

fn escaped(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .map(|character| match character {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}
