//! Segments, chunks and deletions from outside: what is written is read, and damage is told.

mod crash;
mod damage;
mod deletions;
mod memory_vfs;
mod round_trip;
mod sample;
mod seal;
