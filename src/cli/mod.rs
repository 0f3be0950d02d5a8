//! The command: thin over the library, with progress for people and JSON for programs.

mod add;
mod arguments;
mod documents;
mod evaluate;
mod export;
mod import;
mod index;
mod layers;
mod learn;
mod lexical;
mod mine;
mod model;
mod output;
mod plot;
mod reembed;
mod replacement;
mod search;
mod searched;
mod select;
mod train;
mod upkeep;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::training::TrainingError;
use crate::{Collection, Database, Error, Id, ModelError};
use arguments::{Arguments, Command};
use output::{Output, note};

/// How a run ended, if not well.
enum Failure {
    /// The library, or a file, refused.
    Error(Error),
    /// The arguments make no sense together.
    Usage(String),
    /// Whoever read our output went away: no failure.
    ClosedPipe,
    /// Some of the input was refused, or it was stopped; what was taken is safe.
    Partly,
    /// `verify` found damage.
    Damage,
    /// No such document.
    NotFound,
}

type Outcome = Result<(), Failure>;

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        match error.into() {
            // Ctrl-C is the only one who cancels here.
            Error::Model(ModelError::Cancelled { done, total })
            | Error::Training(TrainingError::Model(ModelError::Cancelled { done, total })) => {
                note(&format!("stopped after {done} of {total} texts"));
                Failure::Partly
            }
            error => Failure::Error(error),
        }
    }
}

impl Failure {
    fn invalid(what: impl Into<String>) -> Failure {
        Failure::Error(Error::Invalid { what: what.into() })
    }

    fn io(action: &'static str, path: &Path, source: io::Error) -> Failure {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Failure::ClosedPipe;
        }
        let path = path.display().to_string();
        Failure::Error(Error::Io { action, path, source })
    }

    fn exit_code(&self) -> u8 {
        match self {
            Failure::ClosedPipe => 0,
            Failure::Error(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Partly => 3,
            Failure::Damage => 4,
            Failure::NotFound => 5,
        }
    }
}

/// Runs the command with the process's arguments.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help asked for is an answer; a reader that goes away while it is printed is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let mut output = Output::new();
    let outcome = dispatch(arguments.command, &mut output).and_then(|()| output.flush());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = output.flush();
            // With stderr shut there is nobody to tell.
            match &failure {
                Failure::Error(error) => drop(writeln!(io::stderr(), "stratal: {error}")),
                Failure::Usage(what) => {
                    drop(writeln!(io::stderr(), "stratal: {what}\nTry `stratal --help`."))
                }
                _ => {}
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(command: Command, output: &mut Output) -> Outcome {
    match command {
        Command::Create(arguments) => add::create(&arguments, output),
        Command::Add(arguments) => add::add(&arguments, output),
        Command::Search(arguments) => search::search(arguments, output),
        Command::Get(arguments) => documents::get(&arguments, output),
        Command::Count(arguments) => select::count(&arguments, output),
        Command::List(arguments) => select::list(&arguments, output),
        Command::Delete(arguments) => documents::delete(&arguments, output),
        Command::Stat(arguments) => upkeep::stat(&arguments, output),
        Command::Verify(arguments) => upkeep::verify(&arguments, output),
        Command::Compact(arguments) => upkeep::compact(&arguments, output),
        Command::Index(arguments) => index::index(&arguments, output),
        Command::Recall(arguments) => index::recall(&arguments, output),
        Command::Reembed(arguments) => reembed::reembed(&arguments, output),
        Command::Generations(arguments) => reembed::generations(&arguments, output),
        Command::Export(arguments) => export::export(&arguments, output),
        Command::Import(arguments) => import::import(&arguments, output),
        Command::Learn(arguments) => learn::learn(&arguments, output),
        Command::Learning(arguments) => learn::learning(&arguments, output),
        Command::Train(arguments) => train::train(&arguments, output),
        Command::Mine(arguments) => mine::mine(&arguments, output),
        Command::Lexical(arguments) => lexical::lexical(&arguments, output),
        Command::Evaluate(arguments) => evaluate::evaluate(&arguments, output),
        Command::Layers(arguments) => layers::layers(&arguments, output),
        Command::Model(arguments::Model::Fetch { name, again }) => model::fetch(&name, again, output),
        Command::Model(arguments::Model::Show { model, json }) => model::show(model.as_deref(), json, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "stratal", &mut script);
            output.bytes(&script)
        }
    }
}

/// The collection asked for, or the only one.
fn collection(database: &Database, name: Option<&str>) -> Result<Collection, Failure> {
    if let Some(name) = name {
        return Ok(database.collection(name).open()?);
    }
    match database.collections().as_slice() {
        [only] => Ok(database.collection(only).open()?),
        [] => Err(Failure::invalid(
            "the database has no collection yet: `add` or `create` makes one",
        )),
        several => Err(Failure::Usage(format!(
            "say which --collection: {}",
            several.join(", ")
        ))),
    }
}

/// An id as it was typed: a text, unless it is said to be a number.
fn id(typed: &str, number: bool) -> Result<Id, Failure> {
    if !number {
        return Ok(Id::from(typed));
    }
    typed
        .parse::<u64>()
        .map(Id::from)
        .map_err(|_| Failure::Usage(format!("{typed:?} is no number")))
}
