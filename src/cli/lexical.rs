//! `lexical`: an encoder whose vectors weigh words too.

use std::time::Instant;

use serde_json::json;

use super::add::encoder;
use super::arguments::Lexical;
use super::output::{Output, counted, seconds};
use super::train::check_output;
use super::{Outcome, collection};
use crate::Database;
use crate::encoder::{self, LexicalOptions};
use crate::training::PairSet;

pub fn lexical(arguments: &Lexical, output: &mut Output) -> Outcome {
    let begun = Instant::now();
    check_output(&arguments.output)?;
    let database = Database::open_read_only(&arguments.database)?;
    let target = collection(&database, arguments.collection.as_deref())?;
    let encoder = match target.has_encoder() && !arguments.encoder.is_given() {
        true => target.encoder()?,
        false => encoder(&arguments.encoder)?,
    };
    let set = PairSet::from_collection(&target.snapshot()?)?;
    let passages: Vec<_> = set.passages().iter().map(|passage| passage.as_input()).collect();
    let options = LexicalOptions {
        dimension: arguments.dimension,
        weight: arguments.weight,
    };
    let counted_words = encoder::Lexical::count(&encoder, &passages, &options)?;
    let saved = encoder.save_with_lexical(&counted_words, &arguments.output)?;
    if arguments.json {
        return output.json(&json!({
            "encoder": saved.identity(),
            "folder": arguments.output,
            "passages": passages.len(),
            "dimension": saved.dimension(),
            "seconds": begun.elapsed().as_secs_f64(),
        }));
    }
    output.line(&format!(
        "counted the words of {} in {}: vectors of {} elements · {}",
        counted(passages.len() as u64, "passage", "passages"),
        seconds(begun.elapsed().as_secs_f64()),
        saved.dimension(),
        arguments.output.display()
    ))
}
