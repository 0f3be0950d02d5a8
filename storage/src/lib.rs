//! The bytes of a Stratal database on disk: log, segments, snapshots.

mod error;
mod id;
mod layout;
pub mod vfs;

pub use error::{Error, Result};
pub use id::{ID_BYTES_MAX, Id};
pub use layout::{DIMENSION_MAX, Element, LAYERS_MAX, Layout, ROW_ALIGNMENT};
