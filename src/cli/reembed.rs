//! `reembed` and `generations`.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::add::{encoder, listen_for_interrupts};
use super::arguments::{Generations, Reembed};
use super::output::{Output, bar, counted, grouped, note, seconds};
use super::{Failure, Outcome, collection};
use crate::{Collection, Database, ReembedProgress, ReembedReport, Reembedding};

pub fn reembed(arguments: &Reembed, output: &mut Output) -> Outcome {
    let encoder = encoder(&arguments.encoder)?;
    if arguments.dry_run {
        let db = Database::open_read_only(&arguments.database)?;
        let target = collection(&db, arguments.collection.as_deref())?;
        return foresee(&target, &encoder.identity().hash, arguments.json, output);
    }
    let db = Database::open(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?;
    let before = target.made_by();
    let report = run(target.reembed(encoder))?;
    let after = target.made_by();
    db.close()?;
    tell(&report, &before, &after, arguments.json, output)
}

pub fn generations(arguments: &Generations, output: &mut Output) -> Outcome {
    let changes = arguments.roll_back.is_some() || arguments.drop.is_some();
    let db = match changes {
        true => Database::open(&arguments.database)?,
        false => Database::open_read_only(&arguments.database)?,
    };
    let target = collection(&db, arguments.collection.as_deref())?;
    if let Some(generation) = arguments.roll_back {
        let before = target.made_by();
        let report = run(target.roll_back(generation))?;
        let after = target.made_by();
        db.close()?;
        return tell(&report, &before, &after, arguments.json, output);
    }
    if let Some(generation) = arguments.drop {
        target.drop_generation(generation)?;
    }
    let generations = target.generations()?;
    if changes {
        db.close()?;
    }
    if arguments.json {
        return output.json(&generations);
    }
    for generation in &generations {
        let state = match (generation.answers, generation.missing) {
            (true, _) => "answers".to_owned(),
            (false, 0) => "complete".to_owned(),
            (false, missing) => format!(
                "{} without its vectors",
                counted(missing, "document", "documents")
            ),
        };
        output.line(&format!(
            "{:>3}  {}  {} × {}  {state}",
            generation.number,
            generation.made_by,
            counted(generation.layers.len() as u64, "layer", "layers"),
            generation.dimension,
        ))?;
    }
    Ok(())
}

/// What a re-embedding would have to do.
fn foresee(target: &Collection, hash: &str, as_json: bool, output: &mut Output) -> Outcome {
    let total = target.count()?;
    let filled = target
        .generations()?
        .into_iter()
        .find(|generation| generation.identity == hash);
    let to_encode = filled.as_ref().map_or(total, |generation| generation.missing);
    let mut without_text = 0u64;
    for document in target.snapshot()?.iter() {
        without_text += u64::from(document?.text().is_none_or(|text| text.trim().is_empty()));
    }
    let answers = target.generation() == hash;
    if as_json {
        return output.json(&json!({
            "documents": total,
            "to_encode": to_encode,
            "without_text": without_text,
            "answers_already": answers,
        }));
    }
    if answers {
        output.line("this encoder answers already: nothing to do")?;
        return Ok(());
    }
    output.line(&format!(
        "{} to encode of {}",
        grouped(to_encode),
        counted(total, "document", "documents")
    ))?;
    if without_text > 0 {
        output.line(&format!(
            "{} without text, which no encoder can read: give them one or delete them first",
            counted(without_text, "document", "documents")
        ))?;
    }
    Ok(())
}

fn run(reembedding: Reembedding<'_>) -> Result<ReembedReport, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    listen_for_interrupts(&cancel)?;
    let progress_bar = bar("{bar:30} {percent:>3}% {msg}", 100);
    let progress = |now: &ReembedProgress| {
        progress_bar.set_position(now.done * 100 / now.total.max(1));
        let left = (now.total - now.done) as f64 / now.rate().max(1e-9);
        let left = match now.encoded {
            0 => String::new(),
            _ => format!(" · {} left", seconds(left)),
        };
        progress_bar.set_message(format!(
            "{} encoded · {:.0}/s{left}",
            grouped(now.encoded),
            now.rate()
        ));
    };
    let mut reembedding = reembedding.cancel(&cancel);
    if io::stderr().is_terminal() {
        reembedding = reembedding.progress(&progress);
    }
    let report = reembedding.run();
    progress_bar.finish_and_clear();
    Ok(report?)
}

fn tell(report: &ReembedReport, before: &str, after: &str, as_json: bool, output: &mut Output) -> Outcome {
    if as_json {
        output.json(report)?;
    } else if report.cut_over {
        output.line(&format!(
            "{after} answers, {before} before it · {} encoded · {} · commits waited {:.0} ms",
            grouped(report.encoded),
            seconds(report.seconds),
            report.cutover_seconds * 1000.0
        ))?;
    }
    if report.cut_over {
        return Ok(());
    }
    note("stopped: run the same command again to go on");
    Err(Failure::Partly)
}
