//! Promises of the `stratal` command, tried as a user would: as a process, by its output and exit code.
#![cfg(feature = "cli")]

mod adding;
mod documents;
mod encoders;
mod evaluating;
mod exports;
#[cfg(unix)]
mod interrupts;
mod learning;
mod place;
mod searching;
