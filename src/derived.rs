//! What every new segment is given before anyone sees it.

use std::error::Error;

use serde_json::Value;
use stratal_storage::{Derive, Part, SegmentCompanions, Store};

use crate::{Result, filter};

/// Makes companions as segments are flushed and compacted.
pub(crate) struct Derived;

impl Derive for Derived {
    fn derive(
        &self,
        companions: &SegmentCompanions<'_>,
        _attributes: &Value,
    ) -> std::result::Result<(), Box<dyn Error + Send + Sync>> {
        Ok(filter::write(companions)?)
    }
}

/// Writes what segments lack, because an older build wrote them or a companion was damaged.
pub(crate) fn complete(store: &Store, collection: Option<&str>) -> Result<()> {
    for snapshot in store.snapshot().collections() {
        if collection.is_some_and(|name| **snapshot.name() != *name) {
            continue;
        }
        for live in snapshot.parts() {
            if let Part::Segment(segment) = live.part()
                && filter::is_missing(segment)
            {
                filter::write(&store.companions_of(segment)?)?;
            }
        }
    }
    Ok(())
}
