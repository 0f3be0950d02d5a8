//! `layers`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::add::{encoder, listen_for_interrupts};
use super::arguments::Layers;
use super::output::{Output, bar, decimals, figure, note};
use super::train::{check_askable, check_writable, pairs, write};
use super::{Failure, Outcome};
use crate::encoder::EncodeOptions;
use crate::evaluation::{Figures, compare_layers, layer_heat_map};
use crate::training::{PairSet, Passage, Question};

/// The depth of rankings.
const DEPTH: usize = 100;

pub fn layers(arguments: &Layers, output: &mut Output) -> Outcome {
    if let Some(file) = &arguments.picture {
        check_writable(file)?;
    }
    let pairs = pairs(&arguments.pairs)?;
    let cancel = Arc::new(AtomicBool::new(false));
    listen_for_interrupts(&cancel)?;
    let set = sample(&pairs.set, arguments.sample)?;
    let mut encoder = encoder(&arguments.encoder)?;
    if arguments.encoder.encoder_layers.is_none() {
        // Without a word, all of them.
        let last = encoder.architecture().layers();
        encoder = encoder.layers((1..=last).rev());
    }
    check_askable(&encoder, &set, arguments.pairs.name())?;
    let progress = bar(
        "encoding {bar:30} {pos}/{len} passages",
        set.passages().len() as u64,
    );
    let tell = |done: usize, _| progress.set_position(done as u64);
    let options = EncodeOptions {
        progress: Some(&tell),
        cancel: Some(&cancel),
    };
    let report = compare_layers(&encoder, &set, DEPTH, &options);
    progress.finish_and_clear();
    let report = report?;
    if let Some(file) = &arguments.picture {
        write(file, layer_heat_map(&report).as_bytes())?;
    }
    if arguments.json {
        return output.json(&report);
    }
    output.line("layer     top-1   top-5  top-20  MRR@10    wins  cosine to the others")?;
    for (l, layer) in report.layers.iter().enumerate() {
        let figures = &report.alone[l];
        let cosines: Vec<String> = report.similarity[l]
            .iter()
            .map(|cosine| decimals(*cosine, 3))
            .collect();
        output.line(&format!(
            "{layer:>5}  {}{:>7}%  {}",
            cells(figures),
            decimals(100.0 * report.wins[l], 1),
            cosines.join(" ")
        ))?;
    }
    let all = &report.together;
    output.line(&format!("  all  {}", cells(all)))?;
    output.flush()?;
    note(&format!(
        "{} questions over {} passages; the question's vector is that of layer {}",
        all.questions,
        set.passages().len(),
        report.layers[0]
    ));
    Ok(())
}

fn cells(figures: &Figures) -> String {
    let top = figures.top[..3].iter();
    let top: String = top
        .map(|share| format!("{:>8}", figure(share.map(|share| 100.0 * share), 2)))
        .collect();
    format!("{top}{:>8}", figure(figures.mrr_10, 4))
}

/// Every so many-th question, its passages, and every so many-th passage: figures on a sample are higher than on all.
fn sample(set: &PairSet, most: usize) -> Result<PairSet, Failure> {
    let most = most.max(1);
    let step = |n: usize| n.div_ceil(most).max(1);
    let questions: Vec<&Question> = set
        .questions()
        .iter()
        .step_by(step(set.questions().len()))
        .collect();
    let mut kept: Vec<usize> = (0..set.passages().len())
        .step_by(step(set.passages().len()))
        .collect();
    kept.extend(questions.iter().flat_map(|question| &question.positives));
    kept.sort_unstable();
    kept.dedup();
    let passages: Vec<Passage> = kept.iter().map(|&place| set.passages()[place].clone()).collect();
    let moved = questions.into_iter().map(|question| Question {
        positives: question
            .positives
            .iter()
            .filter_map(|place| kept.binary_search(place).ok())
            .collect(),
        negatives: Vec::new(),
        ..question.clone()
    });
    Ok(PairSet::new(passages, moved.collect())?)
}
