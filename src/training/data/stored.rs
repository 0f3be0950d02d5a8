//! The documents of a collection as a corpus.

use super::{PairSet, Passage};
use crate::{CollectionSnapshot, Error, Id, Result};

impl PairSet {
    /// The documents of a snapshot as passages, in its order, still without questions. A document without title and text
    /// is left out; an id that is a number becomes its digits.
    ///
    /// # Errors
    /// Those of reading.
    pub fn from_collection(collection: &CollectionSnapshot) -> Result<PairSet> {
        let mut set = PairSet::default();
        for document in collection.iter() {
            let document = document?;
            let text = |text: Option<&str>| text.filter(|text| !text.trim().is_empty()).map(str::to_owned);
            let (title, body) = (text(document.title()), text(document.text()));
            if title.is_none() && body.is_none() {
                continue;
            }
            let passage = Passage {
                id: match document.id() {
                    Id::Number(number) => number.to_string(),
                    Id::Text(text) => text.clone(),
                },
                title,
                text: body.unwrap_or_default(),
            };
            set.add_passage(passage).map_err(|what| Error::Invalid { what })?;
        }
        Ok(set)
    }
}
