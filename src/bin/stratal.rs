//! The `stratal` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    stratal::cli::main()
}
