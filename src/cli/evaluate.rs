//! `evaluate`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde_json::json;

use super::add::listen_for_interrupts;
use super::arguments::{Evaluate, SearchName};
use super::output::{Output, figure, note, signed};
use super::searched::{Searched, Way, check_weights, needed, rankings};
use super::train::{Pairs, check_askable, check_writable, encoder_of, more, pairs, write};
use super::{Failure, Outcome};
use crate::evaluation::{
    DEPTHS, Difference, Figures, Ranking, Scores, figures, paired_bootstrap, scores, trec_ids, trec_run,
};
use crate::training::PairSet;
use crate::{Encoder, EncoderSettings};

/// Resamples of a comparison.
const ROUNDS: usize = 10_000;

/// A search's figures over one file of questions.
#[derive(Serialize)]
struct Found {
    search: String,
    figures: Figures,
    #[serde(skip)]
    scores: Vec<Scores>,
}

pub fn evaluate(arguments: &Evaluate, output: &mut Output) -> Outcome {
    for (option, number) in [("-k", arguments.k), ("--rerank", arguments.rerank)] {
        if number == 0 {
            return Err(Failure::invalid(format!(
                "{option} is 0: ask for one hit at least"
            )));
        }
    }
    let pairs = pairs(&arguments.pairs)?;
    let also = (arguments.also.iter().map(|file| more(&pairs.set, file))).collect::<Result<Vec<_>, _>>()?;
    if let Some(file) = &arguments.run {
        trec_ids(&pairs.set)?;
        check_writable(file)?;
    }
    let sets: Vec<&PairSet> = std::iter::once(&pairs.set).chain(&also).collect();
    let cancel = Arc::new(AtomicBool::new(false));
    listen_for_interrupts(&cancel)?;
    let ways = Way::of(arguments);
    let needed = needed(&ways, arguments);
    let by_encoder = needed.contains(&SearchName::Dense) || needed.contains(&SearchName::Tokens);
    let encoder = match by_encoder {
        true => Some(encoder_of(&arguments.encoder, &pairs, arguments.device)?),
        false => None,
    };
    if let Some(encoder) = &encoder {
        check_weights(encoder, &pairs, &arguments.lexical_weight)?;
        let files =
            std::iter::once(arguments.pairs.name()).chain(arguments.also.iter().map(PathBuf::as_path));
        for (set, file) in sets.iter().zip(files) {
            check_askable(encoder, set, file)?;
        }
    }
    let other = match &arguments.against {
        Some(folder) => Some(against(folder, arguments, &pairs, &cancel)?),
        None => None,
    };
    let name = match &encoder {
        Some(encoder) => encoder.identity().to_string(),
        None => "bm25".to_owned(),
    };
    let k = arguments.k;
    let deep = rankings(&needed, &sets, encoder.as_ref(), &pairs, arguments, &cancel)?;
    let mut all = Vec::new();
    for (at, (set, deep)) in sets.iter().zip(&deep).enumerate() {
        let rankings: Vec<Ranking> =
            (ways.iter().map(|way| way.ranking(deep, k))).collect::<Result<_, _>>()?;
        if let (Some(file), 0) = (&arguments.run, at) {
            let tag: String = name.chars().filter(|c| !c.is_whitespace()).collect();
            write(file, trec_run(set, &rankings[0], &tag)?.as_bytes())?;
        }
        let found: Vec<Found> = (ways.iter().zip(&rankings))
            .map(|(way, ranking)| {
                let scores = scores(set, ranking);
                Found {
                    search: way.name.clone(),
                    figures: figures(&scores, way.depth(arguments)),
                    scores,
                }
            })
            .collect();
        let compared = match &other {
            Some((encoder, vectors)) => {
                let known = ways[0].depth(arguments);
                Some(compare(encoder, vectors, set, &found[0].scores, k, known)?)
            }
            None => None,
        };
        all.push((set.questions().len(), found, compared));
    }
    if arguments.json {
        let of = |(_, found, compared): &(usize, Vec<Found>, Option<Compared>)| json!({ "figures": found[0].figures, "searches": found, "against": compared });
        let mut whole = of(&all[0]);
        let also = arguments.also.iter().zip(&all[1..]).map(|(file, one)| {
            let mut object = of(one);
            object["questions"] = json!(file);
            object
        });
        whole["also"] = also.collect();
        whole["encoder"] = json!(name);
        whole["passages"] = json!(pairs.set.passages().len());
        return output.json(&whole);
    }
    let passages = pairs.set.passages().len();
    let files = std::iter::once(None).chain(arguments.also.iter().map(Some));
    for (file, (questions, found, compared)) in files.zip(&all) {
        if let Some(file) = file {
            output.line(&format!("\n{}: {questions} questions", file.display()))?;
        }
        for one in found {
            let title = match one.search.as_str() {
                "dense" => &name,
                search => search,
            };
            table(title, &one.figures, output)?;
        }
        if let Some(compared) = compared {
            table(&compared.encoder, &compared.figures, output)?;
            let gains = [("top-5", compared.top_5_gain), ("MRR@10", compared.mrr_10_gain)];
            for (what, gain) in gains {
                let Some(gain) = gain else { continue };
                let points = |share: f64| signed(100.0 * share, 2);
                output.line(&format!(
                    "{what}: {} points, 95% of resamples by article within {} and {}, not better in {:.1}%",
                    points(gain.mean),
                    points(gain.low),
                    points(gain.high),
                    100.0 * gain.p
                ))?;
            }
        }
    }
    output.flush()?;
    note(&format!("{} questions over {passages} passages", all[0].0));
    Ok(())
}

/// What another encoder finds, and by how much the first search is better.
#[derive(Serialize)]
struct Compared {
    encoder: String,
    figures: Figures,
    top_5_gain: Option<Difference>,
    mrr_10_gain: Option<Difference>,
}

/// Another encoder under the settings of the first, with its vectors of the passages.
fn against<'a>(
    folder: &Path,
    arguments: &Evaluate,
    pairs: &'a Pairs,
    cancel: &AtomicBool,
) -> Result<(Encoder, Searched<'a>), Failure> {
    let other = Encoder::from_folder(folder)?;
    let settings = EncoderSettings {
        name: other.settings().name.clone(),
        layers: other.settings().layers.clone(),
        ..encoder_of(&arguments.encoder, pairs, stratal_kernels::Device::Cpu)?
            .settings()
            .clone()
    };
    let other = other.with_settings(settings).device(arguments.device)?;
    let vectors = Searched::vectors(&other, pairs, &pairs.set, cancel)?;
    Ok((other, vectors))
}

fn compare(
    other: &Encoder,
    vectors: &Searched<'_>,
    set: &PairSet,
    own: &[Scores],
    k: usize,
    known: usize,
) -> Result<Compared, Failure> {
    let theirs = scores(set, &vectors.ranking(set, k)?);
    // Of ranks deeper than either ranking nothing is known.
    let gain = |deep: usize, f: &dyn Fn(&Scores) -> f64| {
        let values = |scores: &[Scores]| scores.iter().map(f).collect::<Vec<f64>>();
        (deep <= known).then(|| paired_bootstrap(set, &values(&theirs), &values(own), ROUNDS, 0))
    };
    Ok(Compared {
        encoder: other.identity().to_string(),
        figures: figures(&theirs, k),
        top_5_gain: gain(5, &|score| {
            f64::from(u8::from((1..=5).contains(&score.gold_rank)))
        }),
        mrr_10_gain: gain(10, &|score| score.mrr_10),
    })
}

fn table(name: &str, figures: &Figures, output: &mut Output) -> Outcome {
    let row = |what: &str, values: &[Option<f64>; 4]| {
        let cells: String = values
            .iter()
            .map(|value| format!("{:>8}", figure(value.map(|share| 100.0 * share), 2)))
            .collect();
        format!("{what:<24}{cells}")
    };
    let head: String = DEPTHS.map(|k| format!("{:>8}", format!("top-{k}"))).concat();
    output.line(&format!("{name:<24}{head}"))?;
    output.line(&row("by gold passage", &figures.top))?;
    if let Some(top) = &figures.top_by_answer {
        output.line(&row("by answer string", top))?;
    }
    output.line(&format!(
        "MRR@10 {} · nDCG@10 {} · recall@100 {} · average rank {:.2}",
        figure(figures.mrr_10, 4),
        figure(figures.ndcg_10, 4),
        figure(figures.recall_100, 4),
        figures.average_rank
    ))
}
