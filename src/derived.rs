//! What every new segment is given before anyone sees it.

use std::error::Error;
use std::sync::Arc;

use serde_json::Value;
use stratal_storage::{Derive, Part, SegmentCompanions, Store};

use crate::database::Workers;
use crate::{Result, codes, filter};

/// Makes companions as segments are flushed, compacted and given vectors of another generation.
pub(crate) struct Derived {
    pub workers: Arc<Workers>,
}

impl Derive for Derived {
    fn derive(
        &self,
        companions: &SegmentCompanions<'_>,
        _attributes: &Value,
    ) -> std::result::Result<(), Box<dyn Error + Send + Sync>> {
        filter::write(companions)?;
        codes::write(companions, &self.workers)?;
        Ok(())
    }
}

/// Writes what segments lack, because an older build wrote them or a companion was damaged.
pub(crate) fn complete(store: &Store, collection: Option<&str>, workers: &Workers) -> Result<()> {
    for snapshot in store.snapshot().collections() {
        if collection.is_some_and(|name| **snapshot.name() != *name) {
            continue;
        }
        for live in snapshot.parts() {
            let Part::Segment(segment) = live.part() else {
                continue;
            };
            if filter::is_missing(segment) {
                filter::write(&store.companions_of(segment)?)?;
            }
            if codes::are_missing(segment) {
                codes::write(&store.companions_of(segment)?, workers)?;
            }
        }
    }
    Ok(())
}
