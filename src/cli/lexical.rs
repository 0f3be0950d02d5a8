//! `lexical`: an encoder whose vectors weigh words too.

use std::time::Instant;

use serde_json::json;

use super::arguments::Lexical;
use super::output::{Output, counted, seconds};
use super::train::{asked_or_own, check_output};
use super::{Outcome, collection};
use crate::Database;
use crate::encoder::LexicalOptions;

pub fn lexical(arguments: &Lexical, output: &mut Output) -> Outcome {
    let begun = Instant::now();
    check_output(&arguments.output)?;
    let options = LexicalOptions {
        dimension: arguments.dimension,
        weight: arguments.weight,
    };
    options.check()?;
    let database = Database::open_read_only(&arguments.database)?;
    let target = collection(&database, arguments.collection.as_deref())?;
    let encoder = asked_or_own(&arguments.encoder, Some(&target))?;
    let passages = target.count()?;
    let words = target.count_words(&encoder, &options)?;
    let saved = encoder.save_with_lexical(&words, &arguments.output)?;
    if arguments.json {
        return output.json(&json!({
            "encoder": saved.identity(),
            "folder": arguments.output,
            "passages": passages,
            "dimension": saved.dimension(),
            "seconds": begun.elapsed().as_secs_f64(),
        }));
    }
    output.line(&format!(
        "counted the words of {} in {}: vectors of {} elements · {}",
        counted(passages, "passage", "passages"),
        seconds(begun.elapsed().as_secs_f64()),
        saved.dimension(),
        arguments.output.display()
    ))
}
