//! Replays, salvages and follows a log that lies; see the module for the shape of the input.
#![no_main]

#[path = "../../storage/tests/crash/lying_log.rs"]
mod lying_log;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| lying_log::check(input));
