//! What a collection holds of the sources already.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::record::Record;
use crate::{CollectionSnapshot, Id, Result};

/// Documents of a collection by id, by source and by content: about 150 bytes for each.
pub(super) struct Known {
    snapshot: CollectionSnapshot,
    documents: Vec<Stored>,
    by_id: HashMap<u128, u32>,
    by_content: HashMap<u128, u32>,
    by_source: HashMap<Arc<str>, Vec<u32>>,
    /// The source that documents were met from last.
    meeting: Option<Arc<str>>,
}

struct Stored {
    id: Id,
    source: Option<Arc<str>>,
    content: u128,
    /// Where this run has met it.
    met: Option<Arc<str>>,
}

/// How a document of a source compares with what is stored.
pub(super) enum Standing {
    /// It is there, the same in all.
    Unchanged,
    /// Its content is there, under another id or source: these are its vectors `[m][D]`.
    Moved(Vec<Vec<f32>>),
    /// It has to be encoded.
    New,
    /// This run has had a document of that id already.
    Again,
}

impl Known {
    /// Reads what the collection holds.
    pub fn read(snapshot: CollectionSnapshot) -> Result<Known> {
        let mut known = Known {
            documents: Vec::new(),
            by_id: HashMap::new(),
            by_content: HashMap::new(),
            by_source: HashMap::new(),
            meeting: None,
            snapshot: snapshot.clone(),
        };
        for document in snapshot.iter() {
            let document = document?;
            let place = known.documents.len() as u32;
            known.by_id.insert(key(document.id()), place);
            let (mut source, mut content) = (None, 0);
            if let Some(from) = document.source() {
                let name: Arc<str> = match known.by_source.get_key_value(from.name.as_str()) {
                    Some((name, _)) => Arc::clone(name),
                    None => Arc::from(from.name.as_str()),
                };
                known.by_source.entry(Arc::clone(&name)).or_default().push(place);
                content = number(&from.hash);
                known.by_content.insert(content, place);
                source = Some(name);
            }
            known.documents.push(Stored {
                id: document.id().clone(),
                source,
                content,
                met: None,
            });
        }
        Ok(known)
    }

    /// Who has an id that a passage of `source` would take, if that is a file that is still there, or no file.
    pub fn taken_by(&self, id: &Id, source: &str) -> Option<String> {
        let stored = &self.documents[*self.by_id.get(&key(id))? as usize];
        match (&stored.met, &stored.source) {
            (Some(by), _) => Some(by.to_string()),
            (None, Some(other)) if **other == *source || !Path::new(&**other).exists() => None,
            (None, Some(other)) => Some(other.to_string()),
            (None, None) => Some("a document that was not read from a file".to_owned()),
        }
    }

    /// Compares a document with what is stored, and notes that this run has it.
    pub fn meet(&mut self, id: &Id, source: &str, content: &str) -> Result<Standing> {
        let content = number(content);
        // One text for all documents of a source.
        let from = match self.meeting.take().filter(|last| **last == *source) {
            Some(last) => last,
            None => Arc::from(source),
        };
        self.meeting = Some(Arc::clone(&from));
        if let Some(&place) = self.by_id.get(&key(id)) {
            let stored = &mut self.documents[place as usize];
            if stored.met.replace(from).is_some() {
                return Ok(Standing::Again);
            }
            if stored.source.as_deref() == Some(source) && stored.content == content {
                return Ok(Standing::Unchanged);
            }
        } else {
            let place = self.documents.len() as u32;
            self.by_id.insert(key(id), place);
            // Without source and content: it is not stored yet, and must be neither removed nor copied from.
            self.documents.push(Stored {
                id: id.clone(),
                source: None,
                content: 0,
                met: Some(from),
            });
        }
        let Some(&place) = self.by_content.get(&content) else {
            return Ok(Standing::New);
        };
        match self.snapshot.get(self.documents[place as usize].id.clone())? {
            Some(document) => Ok(Standing::Moved(document.layer_vectors()?)),
            None => Ok(Standing::New),
        }
    }

    /// The documents of a source that this run has not met, the last first.
    pub fn vanished(&mut self, source: &str) -> Vec<Id> {
        let mut places = self.by_source.remove(source).unwrap_or_default();
        places.retain(|&place| self.documents[place as usize].met.is_none());
        places.sort_by_key(|&place| std::cmp::Reverse(place));
        places
            .into_iter()
            .map(|place| self.documents[place as usize].id.clone())
            .collect()
    }

    /// Sources below a folder that are no longer there.
    pub fn gone_below(&self, folder: &Path) -> Vec<String> {
        gone(folder, self.by_source.keys().map(|source| &**source))
    }
}

/// Those of the sources that were below a folder and are no longer there, sorted.
pub(super) fn gone<'s>(folder: &Path, sources: impl Iterator<Item = &'s str>) -> Vec<String> {
    let mut gone: Vec<String> = sources
        .filter(|source| {
            let source = Path::new(source);
            let missing = || {
                let error = source.symlink_metadata().err();
                error.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
            };
            source.strip_prefix(folder).is_ok() && missing()
        })
        .map(str::to_owned)
        .collect();
    gone.sort();
    gone
}

fn key(id: &Id) -> u128 {
    xxh3_128(&id.to_bytes())
}

/// A content hash as a number; 0 for a text that is none, which no document has.
fn number(hash: &str) -> u128 {
    u128::from_str_radix(hash, 16).unwrap_or(0)
}

/// The hash of what a document says: title, text, metadata and vectors.
pub(super) fn content_of(record: &Record) -> String {
    let mut bytes = Vec::new();
    for part in [
        record.title.as_deref(),
        record.text.as_deref(),
        record.made_by.as_deref(),
    ] {
        // The length first, and one for none, so that no two documents make the same bytes.
        bytes.extend_from_slice(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.unwrap_or_default().as_bytes());
    }
    for layer in record.vectors.iter().flatten() {
        bytes.extend_from_slice(&(layer.len() as u64).to_le_bytes());
        layer
            .iter()
            .for_each(|component| bytes.extend_from_slice(&component.to_le_bytes()));
    }
    if !record.metadata.is_empty() {
        bytes.extend_from_slice(
            serde_json::Value::Object(record.metadata.clone())
                .to_string()
                .as_bytes(),
        );
    }
    super::source::content_hash(&bytes)
}
