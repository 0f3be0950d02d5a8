//! Pictures as SVG: a heat map of layers, curves of a run.

use std::fmt::Write;

use super::layers::LayerReport;
use crate::training::Report;

const FONT: &str = "font-family=\"sans-serif\" font-size=\"12\"";

fn frame(width: f64, height: f64, title: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" {FONT}>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"12\" y=\"20\">{title}</text>\n{body}</svg>\n"
    )
}

/// The similarity of layers as a heat map: a cell for each pair, its mean cosine in it.
pub fn layer_heat_map(report: &LayerReport) -> String {
    const CELL: f64 = 56.0;
    const EDGE: f64 = 48.0;
    let m = report.layers.len();
    let mut body = String::new();
    for (a, row) in report.similarity.iter().enumerate() {
        let (x, y) = (EDGE + a as f64 * CELL, EDGE + a as f64 * CELL);
        let layer = report.layers[a];
        let middle = CELL / 2.0;
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{layer}</text>",
            x + middle,
            EDGE - 8.0
        );
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{layer}</text>",
            EDGE - 8.0,
            y + middle + 4.0
        );
        for (b, &cosine) in row.iter().enumerate() {
            let x = EDGE + b as f64 * CELL;
            // White at 0 and below, dark blue at 1.
            let strength = cosine.clamp(0.0, 1.0);
            let fade = |to: f64| (255.0 + (to - 255.0) * strength).round();
            let ink = if strength > 0.6 { "white" } else { "black" };
            let _ = writeln!(
                body,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"rgb({},{},{})\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{ink}\">{cosine:.3}</text>",
                fade(20.0),
                fade(60.0),
                fade(120.0),
                x + middle,
                y + middle + 4.0
            );
        }
    }
    let size = EDGE + m as f64 * CELL + 12.0;
    frame(size.max(220.0), size, "mean cosine between layers", &body)
}

/// The curves of a run: the contrastive loss of each step, and what validations measured, over the steps.
pub fn loss_curve(report: &Report) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 320.0;
    const EDGE: f64 = 44.0;
    let losses: Vec<(f64, f64)> = (report.history.iter())
        .map(|step| (step.step as f64, step.contrastive))
        .filter(|point| point.1.is_finite())
        .collect();
    let validations: Vec<(f64, f64)> = (report.validations.iter())
        .map(|validation| (validation.step as f64, validation.nll))
        .filter(|point| point.1.is_finite())
        .collect();
    let all = || losses.iter().chain(&validations);
    let top = all().map(|point| point.1).fold(0.0f64, f64::max).max(1e-9);
    let last = all().map(|point| point.0).fold(1.0f64, f64::max);
    let place = |(step, loss): &(f64, f64)| {
        let x = EDGE + step / last * (WIDTH - EDGE - 12.0);
        let y = HEIGHT - EDGE + 12.0 - loss / top * (HEIGHT - 2.0 * EDGE + 12.0);
        format!("{x:.1},{y:.1}")
    };
    let line = |points: &[(f64, f64)], colour: &str| {
        let points: Vec<String> = points.iter().map(place).collect();
        format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\n",
            points.join(" ")
        )
    };
    let mut body = line(&losses, "#3465a4") + &line(&validations, "#cc0000");
    for point in &validations {
        if let Some((x, y)) = place(point).split_once(',') {
            let _ = writeln!(body, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"#cc0000\"/>");
        }
    }
    let (left, bottom) = (EDGE, HEIGHT - EDGE + 12.0);
    let _ = writeln!(
        body,
        "<path d=\"M{left} 32 V{bottom} H{}\" fill=\"none\" stroke=\"black\"/>",
        WIDTH - 12.0
    );
    let _ = writeln!(
        body,
        "<text x=\"{}\" y=\"40\" text-anchor=\"end\">{top:.2}</text>",
        left - 6.0
    );
    let _ = writeln!(
        body,
        "<text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>",
        left - 6.0
    );
    let _ = writeln!(
        body,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{last} steps</text>",
        WIDTH - 12.0,
        bottom + 18.0
    );
    frame(
        WIDTH,
        HEIGHT,
        "contrastive loss (blue), validation's negative log-likelihood (red)",
        &body,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Figures;
    use crate::training::StepReport;

    /// Tags open and close, and nothing in them is no number.
    fn is_well_formed(svg: &str) {
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn pictures_are_well_formed_whatever_they_show() {
        let report = LayerReport {
            layers: vec![6, 5],
            alone: vec![Figures::default(); 2],
            together: Figures::default(),
            wins: vec![0.5, 0.5],
            similarity: vec![vec![1.0, 0.25], vec![0.25, 1.0]],
        };
        let map = layer_heat_map(&report);
        is_well_formed(&map);
        assert_eq!(map.matches("0.250").count(), 2);
        is_well_formed(&loss_curve(&Report::default()));
        let step = |step, contrastive| StepReport {
            step,
            total: 2,
            loss: contrastive,
            contrastive,
            regulariser: 0.0,
            first: 0.0,
            gradient: 0.0,
            rate: 0.0,
        };
        let report = Report {
            history: vec![step(1, 2.0), step(2, f64::NAN)],
            ..Report::default()
        };
        is_well_formed(&loss_curve(&report));
    }
}
