//! A store against a simple model, on a file system that fails and loses its power.

mod faults;
mod histories;
mod kill;
mod lying_log;
mod model;
mod threads;
