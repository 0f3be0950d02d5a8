//! The bytes of a Stratal database on disk.
