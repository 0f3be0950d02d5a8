//! `learn` and `learning`.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use indicatif::ProgressBar;

use super::add::listen_for_interrupts;
use super::arguments::{Learn, LearnArguments, LearningArguments, MetricName, WhenName};
use super::output::{Output, bar, counted, grouped, note, signed};
use super::{Failure, Outcome, collection};
use crate::learning::{
    Candidate, Learning, LearningProgress, LearningStatus, Metric, Outcome as Learned, Phase, Verdict, When,
};
use crate::{Collection, Database, Error};

pub fn learn(arguments: &Learn, output: &mut Output) -> Outcome {
    let db = Database::open(&arguments.database)?;
    let target = collection(&db, arguments.collection.as_deref())?;
    let policy = arguments.learning.over(target.learning()?.policy);
    let cancel = Arc::new(AtomicBool::new(false));
    listen_for_interrupts(&cancel)?;
    let progress_bar = bar("{bar:30} {percent:>3}% {msg}", 100);
    let progress = |now: &LearningProgress| show(now, &progress_bar);
    let mut run = target.learn_by(policy).cancel(&cancel);
    if io::stderr().is_terminal() {
        run = run.progress(&progress);
    }
    let outcome = run.run();
    progress_bar.finish_and_clear();
    let outcome = outcome?;
    db.close()?;
    if arguments.json {
        output.json(&outcome)?;
    } else if let Learned::Concluded(candidate) = &outcome {
        output.line(&described(candidate))?;
    }
    finished(&outcome)
}

/// Whether a run came to its end.
pub fn finished(outcome: &Learned) -> Outcome {
    match outcome {
        Learned::Concluded(_) => Ok(()),
        Learned::Stopped(_) => {
            note("stopped: run the same command again to go on");
            Err(Failure::Partly)
        }
    }
}

pub fn learning(arguments: &LearningArguments, output: &mut Output) -> Outcome {
    let sets = arguments.says_when() || arguments.learning.is_given();
    let db = match sets || arguments.abandon {
        true => Database::open(&arguments.database)?,
        false => Database::open_read_only(&arguments.database)?,
    };
    let target = collection(&db, arguments.collection.as_deref())?;
    if arguments.abandon {
        note(match target.abandon_learning()? {
            true => "the run that had begun is dropped",
            false => "no run has begun",
        });
    }
    if sets {
        let mut policy = arguments.learning.over(stored(&target)?);
        policy.when = arguments.when_over(policy.when)?;
        target.set_learning(&policy)?;
    }
    let status = target.learning()?;
    if sets || arguments.abandon {
        db.close()?;
    }
    if arguments.json {
        return output.json(&status);
    }
    tell(&status, output)
}

/// The policy that changes are made to: one that cannot be read must not keep a new one from taking its place.
fn stored(target: &Collection) -> Result<Learning, Failure> {
    match target.learning() {
        Ok(status) => Ok(status.policy),
        Err(error @ Error::LearningPolicy { .. }) => {
            note(&format!("{error}: what is not said now is as by default"));
            Ok(Learning::default())
        }
        Err(error) => Err(error.into()),
    }
}

fn tell(status: &LearningStatus, output: &mut Output) -> Outcome {
    let when = match status.policy.when {
        When::Off => "never".to_owned(),
        When::OnRequest => "on request".to_owned(),
        When::After { pairs, documents } => {
            let parts = [
                (pairs, "new pair", "new pairs"),
                (documents, "new document", "new documents"),
            ];
            let parts = parts.into_iter().filter(|(number, ..)| *number > 0);
            let parts: Vec<String> = parts
                .map(|(number, one, many)| counted(number, one, many))
                .collect();
            format!("by itself, after {}", parts.join(" or "))
        }
    };
    output.line(&format!(
        "learns {when} · {}",
        counted(status.pairs, "pair", "pairs")
    ))?;
    if let Some(phase) = status.phase {
        output.line(&format!("a run has begun and not ended: {}", doing(phase)))?;
    }
    for candidate in &status.history {
        output.line(&described(candidate))?;
    }
    Ok(())
}

/// One line: what a candidate was trained on, how it did and what became of it.
pub fn described(candidate: &Candidate) -> String {
    let hash = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
    let mut parts = vec![match &candidate.hash {
        Some(own) => format!("{} from {}", hash(own), hash(&candidate.from)),
        None => format!("from {}", hash(&candidate.from)),
    }];
    let pairs = counted(candidate.pairs, "pair", "pairs");
    parts.push(match candidate.made_pairs {
        true => format!("{pairs} made from the documents"),
        false => pairs,
    });
    parts.push(counted(candidate.steps, "step", "steps"));
    if let Some(judgement) = &candidate.judgement {
        parts.push(format!(
            "Top-5 {:.1} → {:.1}, MRR {:.3} → {:.3} on {}; gain {} ({} to {})",
            judgement.before.top[1] * 100.0,
            judgement.after.top[1] * 100.0,
            judgement.before.mrr_10,
            judgement.after.mrr_10,
            counted(judgement.questions, "held-out question", "held-out questions"),
            signed(judgement.gain, 3),
            signed(judgement.low, 3),
            signed(judgement.high, 3),
        ));
    }
    parts.push(match &candidate.verdict {
        Verdict::Accepted { generation } => format!("accepted: generation {generation} answers"),
        Verdict::NotBetter => "dropped: not better by more than its error".to_owned(),
        Verdict::Untrained { why } => format!("dropped: {why}"),
        Verdict::TooLittle { what } => format!("nothing done: {what}"),
    });
    parts.join(" · ")
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Training => "training",
        Phase::Judging => "judging",
        Phase::Reembedding => "re-embedding",
    }
}

pub fn show(now: &LearningProgress, bar: &ProgressBar) {
    bar.set_position(now.done * 100 / now.total.max(1));
    let loss = now
        .loss
        .map_or_else(String::new, |loss| format!(" · loss {loss:.3}"));
    bar.set_message(format!(
        "{} {} of {}{loss}",
        doing(now.phase),
        grouped(now.done),
        grouped(now.total)
    ));
}

impl LearningArguments {
    fn says_when(&self) -> bool {
        self.when.is_some() || self.after_pairs.is_some() || self.after_documents.is_some()
    }

    /// When to learn: what was said, in the place of what was so far.
    fn when_over(&self, stored: When) -> Result<When, Failure> {
        let after = |pairs: u64, documents: u64| When::After {
            pairs: self.after_pairs.unwrap_or(pairs),
            documents: self.after_documents.unwrap_or(documents),
        };
        let when = match (self.when, stored) {
            (Some(WhenName::After), _) => return Ok(after(0, 0)),
            (None, When::After { pairs, documents }) => return Ok(after(pairs, documents)),
            (Some(WhenName::Off), _) => When::Off,
            (Some(WhenName::OnRequest), _) => When::OnRequest,
            (None, stored) => stored,
        };
        if self.after_pairs.is_some() || self.after_documents.is_some() {
            return Err(Failure::Usage(
                "--after-pairs and --after-documents go with --when after".to_owned(),
            ));
        }
        Ok(when)
    }
}

impl LearnArguments {
    pub fn is_given(&self) -> bool {
        self.minutes.is_some()
            || self.epochs.is_some()
            || self.steps.is_some()
            || self.metric.is_some()
            || self.held_out.is_some()
            || self.cpu_share.is_some()
            || self.seed.is_some()
            || self.lexical.lexical.is_some()
    }

    /// A policy with what was said in the place of what it had.
    pub fn over(&self, mut policy: Learning) -> Learning {
        if let Some(minutes) = self.minutes {
            policy.time = Some(minutes);
        }
        if let Some(metric) = self.metric {
            policy.metric = match metric {
                MetricName::Top5 => Metric::Top5,
                MetricName::Mrr10 => Metric::Mrr10,
                MetricName::Ndcg10 => Metric::Ndcg10,
            };
        }
        policy.held_out = self.held_out.unwrap_or(policy.held_out);
        policy.cpu_share = self.cpu_share.unwrap_or(policy.cpu_share);
        policy.training.epochs = self.epochs.unwrap_or(policy.training.epochs);
        policy.training.steps = self.steps.unwrap_or(policy.training.steps);
        policy.training.seed = self.seed.unwrap_or(policy.training.seed);
        policy.training.lexical = self.lexical.over(policy.training.lexical);
        policy
    }
}
