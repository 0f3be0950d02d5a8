//! Pairs: questions with the documents that answer them, committed like documents, for an encoder to learn from.
//!
//! The pairs of a collection are the documents of a collection beside it, which has no vectors, is named by the
//! first's number and is not listed. A setting of the database tells its number.

use stratal_storage::Snapshot;

use crate::document::Payload;
use crate::{CollectionSnapshot, Database, Document, Error, Id, Result};

/// Names that begin so are the engine's own.
pub(crate) const RESERVED: &str = "stratal:";
/// The key of the metadata in which a number as an id is kept, and that for a text.
const NUMBER: &str = "number";
const TEXT: &str = "text";
/// The longest question in bytes.
const QUESTION_BYTES_MAX: usize = 64 << 10;

/// A question and a document that answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The question.
    pub question: String,
    /// The document.
    pub document: Id,
}

fn setting(collection: u32) -> String {
    format!("pairs/{collection}")
}

/// The number of the collection that holds the pairs of another.
pub(crate) fn number_of(snapshot: &Snapshot, collection: u32) -> Option<u32> {
    let number = snapshot.setting(&setting(collection))?.as_u64()?;
    u32::try_from(number).ok()
}

/// The number and name of the collection that holds the pairs of another, made if there is none.
pub(crate) fn collection_of(database: &Database, collection: u32) -> Result<(u32, std::sync::Arc<str>)> {
    let name = format!("{RESERVED}pairs:{collection}");
    if let Some(number) = number_of(&database.store.snapshot(), collection) {
        return Ok((number, name.into()));
    }
    let created = database
        .store
        .create_collection(&name, serde_json::Value::Null, Vec::new());
    let number = match created {
        Ok(number) => number,
        // Another thread, or a run that was cut short before the setting was there.
        Err(stratal_storage::Error::CollectionExists { .. }) => {
            database.store.snapshot().collection(&name)?.number()
        }
        Err(error) => return Err(error.into()),
    };
    let mut batch = stratal_storage::Batch::new();
    batch.set(setting(collection), serde_json::Value::from(number));
    database.store.commit(batch)?;
    Ok((number, name.into()))
}

/// What goes with a collection that is dropped.
pub(crate) fn drop_with(snapshot: &Snapshot, collection: u32, batch: &mut stratal_storage::Batch) {
    if let Some(pairs) = number_of(snapshot, collection).and_then(|number| snapshot.collection_number(number))
    {
        batch.drop_collection((pairs.number(), pairs.name()));
        batch.unset(setting(collection));
    }
}

impl Pair {
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::Invalid { what });
        if self.question.trim().is_empty() {
            return refuse(format!(
                "the question for {} is blank: an encoder learns from words",
                self.document
            ));
        }
        if self.question.len() > QUESTION_BYTES_MAX {
            return refuse(format!(
                "the question for {} has {} bytes, and at most {QUESTION_BYTES_MAX} are kept",
                self.document,
                self.question.len()
            ));
        }
        Ok(())
    }

    /// The id under which it is kept: the same pair twice is one.
    pub(crate) fn key(&self) -> Id {
        let id = self.document.to_bytes();
        let mut bytes = Vec::with_capacity(8 + id.len() + self.question.len());
        bytes.extend_from_slice(&(id.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(self.question.as_bytes());
        Id::Text(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes)))
    }

    pub(crate) fn to_payload(&self) -> Vec<u8> {
        let id = match &self.document {
            Id::Number(number) => serde_json::json!({ NUMBER: number }),
            Id::Text(text) => serde_json::json!({ TEXT: text }),
        };
        Document::new(0u64).text(&self.question).metadata(id).to_payload()
    }

    fn from_payload(bytes: &[u8]) -> std::result::Result<Pair, &'static str> {
        let payload = Payload::read(bytes)?;
        let metadata = payload.metadata();
        let number = metadata
            .get(NUMBER)
            .and_then(serde_json::Value::as_u64)
            .map(Id::Number);
        let text = metadata.get(TEXT).and_then(serde_json::Value::as_str);
        let document = number.or_else(|| text.map(|text| Id::Text(text.to_owned())));
        Ok(Pair {
            question: payload.text.unwrap_or_default().to_owned(),
            document: document.ok_or("a pair names no document")?,
        })
    }
}

impl CollectionSnapshot {
    /// The pairs of the collection, oldest first. Their documents may have been deleted since.
    ///
    /// # Errors
    /// [`Error::Storage`] for damage.
    pub fn pairs(&self) -> Result<Vec<Pair>> {
        let (pairs, damage) = self.readable_pairs();
        match damage.into_iter().next() {
            None => Ok(pairs),
            Some(error) => Err(error),
        }
    }

    /// The pairs that can be read, oldest first, and an error for each of the others: to save what is left of a
    /// database opened with [`crate::DatabaseOptions::salvage`].
    pub fn readable_pairs(&self) -> (Vec<Pair>, Vec<Error>) {
        let (mut pairs, mut damage) = (Vec::new(), Vec::new());
        for row in self.pairs.iter().flat_map(|kept| kept.rows()) {
            match read(&row) {
                Ok(pair) => pairs.push(pair),
                Err(error) => damage.push(error),
            }
        }
        pairs.sort_by_key(|(docid, _)| *docid);
        (pairs.into_iter().map(|(_, pair)| pair).collect(), damage)
    }

    /// The number of pairs.
    pub fn pair_count(&self) -> u64 {
        self.pairs
            .as_ref()
            .map_or(0, stratal_storage::CollectionSnapshot::count)
    }
}

/// A pair, and the docid that tells when it came.
fn read(row: &stratal_storage::Row) -> Result<(u64, Pair)> {
    let id = row.part.id(row.row)?;
    let docid = row.part.docid(row.row)?;
    let bytes = row.part.payload(row.row)?;
    let pair = Pair::from_payload(&bytes).map_err(|what| Error::Payload { id, what })?;
    Ok((docid, pair))
}
