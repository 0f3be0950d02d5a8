//! `mine`: hard negatives for questions, once for many trainings.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::add::listen_for_interrupts;
use super::arguments::{Mine, SearchName};
use super::output::Output;
use super::replacement::Replacement;
use super::searched::Searched;
use super::train::{check_writable, encoder_of, pairs};
use super::{Failure, Outcome};
use crate::evaluation::Bm25;

pub fn mine(arguments: &Mine, output: &mut Output) -> Outcome {
    if arguments.negatives == 0 {
        return Err(Failure::Usage("--negatives must be at least 1".to_owned()));
    }
    if !matches!(arguments.search, SearchName::Dense | SearchName::Bm25) {
        let named = arguments.search.name();
        return Err(Failure::Usage(format!(
            "negatives are mined by dense or bm25, not by {named}"
        )));
    }
    check_writable(&arguments.output)?;
    let mut pairs = pairs(&arguments.pairs)?;
    let cancel = Arc::new(AtomicBool::new(false));
    listen_for_interrupts(&cancel)?;
    let mut set = std::mem::take(&mut pairs.set);
    let searched = match arguments.search {
        SearchName::Bm25 => Searched::Words(Bm25::of(&set)),
        _ => {
            let encoder = encoder_of(&arguments.encoder, &pairs, arguments.device)?;
            Searched::vectors(&encoder, &pairs, &set, &cancel)?
        }
    };
    let mined = searched.mine(&mut set, arguments.negatives)?;
    let mut file = Replacement::create(&arguments.output)?;
    for line in set.question_lines() {
        file.line(&line)?;
    }
    file.finish()?;
    if arguments.json {
        return output.json(&json!({
            "questions": set.questions().len(),
            "negatives": mined.negatives,
            "shortage": mined.shortage,
            "with_answer": mined.with_answer,
        }));
    }
    Ok(())
}
