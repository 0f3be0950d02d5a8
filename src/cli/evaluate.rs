//! `evaluate`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::add::listen_for_interrupts;
use super::arguments::{Evaluate, SearchName};
use super::output::{Output, note};
use super::train::{Pairs, dense, encoder_of, pairs, write};
use super::{Failure, Outcome};
use crate::evaluation::{
    DEPTHS, Difference, Figures, Ranking, Scores, figures, paired_bootstrap, scores, trec_run,
};
use crate::{Encoder, EncoderSettings};

/// Resamples of a comparison.
const ROUNDS: usize = 10_000;

pub fn evaluate(arguments: &Evaluate, output: &mut Output) -> Outcome {
    let pairs = pairs(&arguments.pairs)?;
    let cancel = Arc::new(AtomicBool::new(false));
    listen_for_interrupts(&cancel)?;
    let k = arguments.k.max(1);
    let words = || Ranking::bm25(&pairs.set, k);
    let mut name = "bm25".to_owned();
    let ranking = match arguments.search {
        SearchName::Bm25 => words(),
        search => {
            let encoder = encoder_of(&arguments.encoder, &pairs)?;
            name = encoder.identity().to_string();
            let found = dense(&encoder, &pairs, &pairs.set, k, &cancel)?;
            match search {
                SearchName::Fused => found.fused(&words(), k)?,
                _ => found,
            }
        }
    };
    let own = scores(&pairs.set, &ranking);
    let found = figures(&own, k);
    if let Some(file) = &arguments.run {
        let tag: String = name.chars().filter(|c| !c.is_whitespace()).collect();
        write(file, trec_run(&pairs.set, &ranking, &tag).as_bytes())?;
    }
    let compared = match &arguments.against {
        Some(folder) => Some(against(folder, arguments, &pairs, &own, &cancel)?),
        None => None,
    };
    if arguments.json {
        let against = compared.as_ref().map(|(name, figures, top_5, mrr)| {
            json!({ "encoder": name, "figures": figures, "top_5_gain": top_5, "mrr_10_gain": mrr })
        });
        return output.json(&json!({
            "encoder": name,
            "passages": pairs.set.passages().len(),
            "figures": found,
            "against": against,
        }));
    }
    table(&name, &found, output)?;
    if let Some((name, figures, top_5, mrr)) = &compared {
        table(name, figures, output)?;
        for (what, gain) in [("top-5", top_5), ("MRR@10", mrr)] {
            output.line(&format!(
                "{what}: {:+.2} points, 95% of resamples by article within {:+.2} and {:+.2}, not better in {:.1}%",
                100.0 * gain.mean,
                100.0 * gain.low,
                100.0 * gain.high,
                100.0 * gain.p
            ))?;
        }
    }
    output.flush()?;
    note(&format!(
        "{} questions over {} passages",
        found.questions,
        pairs.set.passages().len()
    ));
    Ok(())
}

type Compared = (String, Figures, Difference, Difference);

/// What another encoder finds under the same settings, and by how much the first is better.
fn against(
    folder: &std::path::Path,
    arguments: &Evaluate,
    pairs: &Pairs,
    own: &[Scores],
    cancel: &AtomicBool,
) -> Result<Compared, Failure> {
    let other = Encoder::from_folder(folder)?;
    let settings = EncoderSettings {
        name: other.settings().name.clone(),
        layers: other.settings().layers.clone(),
        ..encoder_of(&arguments.encoder, pairs)?.settings().clone()
    };
    let other = other.with_settings(settings);
    let ranking = dense(&other, pairs, &pairs.set, arguments.k, cancel)?;
    let theirs = scores(&pairs.set, &ranking);
    let gain = |f: &dyn Fn(&Scores) -> f64| {
        let values = |scores: &[Scores]| scores.iter().map(f).collect::<Vec<f64>>();
        paired_bootstrap(&pairs.set, &values(&theirs), &values(own), ROUNDS, 0)
    };
    let top_5 = gain(&|score| f64::from(u8::from((1..=5).contains(&score.gold_rank))));
    let mrr = gain(&|score| score.mrr_10);
    Ok((
        other.identity().to_string(),
        figures(&theirs, arguments.k),
        top_5,
        mrr,
    ))
}

fn table(name: &str, figures: &Figures, output: &mut Output) -> Outcome {
    let row = |what: &str, values: &[f64; 4]| {
        let cells: String = values
            .iter()
            .map(|value| format!("{:>8.2}", 100.0 * value))
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
        "MRR@10 {:.4} · nDCG@10 {:.4} · recall@100 {:.4} · average rank {:.2}",
        figures.mrr_10, figures.ndcg_10, figures.recall_100, figures.average_rank
    ))
}
