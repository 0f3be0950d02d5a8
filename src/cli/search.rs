//! `search`.

use std::time::Instant;

use serde_json::{Value, json};

use super::arguments::Search;
use super::documents::id_value;
use super::output::{Output, decimals, excerpt, note, plain, seconds};
use super::select::{parsed, tell_unknown_fields};
use super::{Failure, Outcome, collection};
use crate::{Database, Hit, Id};

/// Lines of a hit's text that are shown.
const EXCERPT_LINES: usize = 2;

pub fn search(arguments: Search, output: &mut Output) -> Outcome {
    let db = Database::open_read_only(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?;
    let begun = Instant::now();
    let mut search = match (&arguments.vector, arguments.question) {
        (Some(json), _) => target.search_vector(vector(json)?).made_by(target.generation()),
        (None, Some(question)) => target.search(question),
        (None, None) => return Err(Failure::Usage("ask a question".to_owned())),
    };
    search = search.k(arguments.k).device(arguments.device);
    if let Some(floor) = arguments.floor {
        search = search.floor(floor);
    }
    if let Some(layers) = arguments.layers {
        search = search.layers(layers);
    }
    let filter = arguments.filter.as_deref().map(parsed).transpose()?;
    if let Some(filter) = &filter {
        tell_unknown_fields(&target.snapshot()?, filter)?;
        search = search.filter(filter.clone());
    }
    if arguments.approximate {
        search = search.approximate();
    }
    if let Some(share) = arguments.recall_target {
        search = search.recall_target(share);
    }
    if let Some(documents) = arguments.effort {
        search = search.effort(documents);
    }
    let approximate =
        arguments.approximate || arguments.recall_target.is_some() || arguments.effort.is_some();
    let (hits, explanation) = search.explain()?;
    if arguments.explain {
        note(&explanation.to_string());
    }
    if arguments.json {
        return hits.iter().try_for_each(|hit| output.json(&hit_value(hit)));
    }
    if hits.is_empty() {
        let why = if target.count()? == 0 {
            "the collection is empty"
        } else if let Some(filter) = &filter
            && target.count_where(filter.clone())? == 0
        {
            "no document passes the filter"
        } else {
            "no document reaches the floor"
        };
        note(why);
        return Ok(());
    }
    for (place, hit) in hits.iter().enumerate() {
        let name = match &hit.id {
            Id::Number(number) => number.to_string(),
            Id::Text(text) => plain(text),
        };
        let title = hit.title.as_deref().map(plain).filter(|title| !title.is_empty());
        let title = title.map(|title| format!("  {title}")).unwrap_or_default();
        let score = decimals(hit.score, 4);
        output.line(&format!("{:>3}  {score}  {name}{title}", place + 1))?;
        if let Some(text) = hit.text.as_deref().filter(|text| !text.trim().is_empty()) {
            output.line(&excerpt(text, EXCERPT_LINES, "             "))?;
        }
    }
    output.flush()?;
    let compared = match filter {
        Some(filter) => target.count_where(filter)?,
        None => target.count()?,
    };
    note(&format!(
        "{compared} documents {} in {}",
        if approximate {
            "searched approximately"
        } else {
            "compared"
        },
        seconds(begun.elapsed().as_secs_f64())
    ));
    Ok(())
}

fn vector(json: &str) -> Result<Vec<f32>, Failure> {
    serde_json::from_str(json)
        .map_err(|error| Failure::Usage(format!("--vector takes a JSON list of numbers: {error}")))
}

fn hit_value(hit: &Hit) -> Value {
    json!({
        "id": id_value(&hit.id),
        // A score of -0 is told as 0.
        "score": hit.score + 0.0,
        "version": hit.version,
        "title": hit.title,
        "text": hit.text,
        "metadata": hit.metadata,
    })
}
