//! The `stratal` command.

fn main() {}
