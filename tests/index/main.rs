//! The approximate index, as its user meets it.

mod cases;
mod kills;
mod numbers;
mod searching;
