//! What befalls databases in the field, on the real store and a real folder. The rows are those of CASES.md.

mod companions;
mod database;
mod descriptors;
mod failed_writes;
mod full_disk;
mod leftovers;
mod locks;
mod log_replay;
mod parallel;
mod processes;
mod read_only;
mod space;
mod versions;
