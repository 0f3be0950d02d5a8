//! Checking a whole segment: every page, and that its columns agree with each other.

use super::Segment;
use super::payload::PayloadCursor;
use crate::error::Result;
use crate::id::Id;
use crate::layout::Element;

impl Segment {
    /// Reads everything: all pages against their checksums, ids against their table, docids for doubles,
    /// payloads unpacked, vectors for values that are not finite. Returns the number of pages.
    ///
    /// Takes 16 bytes of memory a row.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] for the first damage found.
    pub fn verify_all(&self) -> Result<u64> {
        let mut pages = self.documents.file.check_all()?;
        for vectors in &self.vectors {
            pages += vectors.file.check_all()?;
        }
        for companion in self.companions.load().iter() {
            pages += companion.check_all()?;
        }
        self.verify_documents()?;
        for vectors in &self.vectors {
            for layer in 0..vectors.layout.layers {
                for row in 0..self.rows() {
                    if !all_finite(vectors.vector(layer, row)?, vectors.layout.element) {
                        return Err(vectors.damaged_vector(layer, row, "holds a value that is not finite"));
                    }
                }
            }
        }
        Ok(pages)
    }

    fn verify_documents(&self) -> Result<()> {
        let documents = &*self.documents;
        let mut before = None;
        for place in 0..self.rows() {
            let (hash, row) = documents.hash_at(place)?;
            let bytes = documents.id_bytes(row)?;
            if Id::from_bytes(bytes).is_none() {
                return Err(documents.damaged_id(row, "is not an id"));
            }
            // Strictly ascending pairs: sorted, and every row named once.
            if before.is_some_and(|before| before >= (hash, row)) {
                return Err(documents.damaged_id(row, "is out of order in the table of ids"));
            }
            if xxhash_rust::xxh3::xxh3_64(bytes) != hash {
                return Err(
                    documents.damaged_id(row, "does not have the hash that the table of ids gives it")
                );
            }
            before = Some((hash, row));
        }
        let mut cursor = PayloadCursor::default();
        let mut docids = Vec::with_capacity(self.rows() as usize);
        for row in 0..self.rows() {
            documents.payload(row, &mut cursor)?;
            docids.push((documents.docid(row)?, row));
        }
        docids.sort_unstable();
        match docids.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(documents.damaged_id(pair[1].1, "has a docid that another row has too")),
            None => Ok(()),
        }
    }
}

fn all_finite(vector: &[u8], element: Element) -> bool {
    match element {
        Element::F32 => vector
            .as_chunks()
            .0
            .iter()
            .all(|&bytes| f32::from_le_bytes(bytes).is_finite()),
        Element::F16 => vector
            .as_chunks()
            .0
            .iter()
            .all(|&bytes| u16::from_le_bytes(bytes) & 0x7c00 != 0x7c00),
        Element::Bf16 => vector
            .as_chunks()
            .0
            .iter()
            .all(|&bytes| u16::from_le_bytes(bytes) & 0x7f80 != 0x7f80),
        Element::I8 => true,
    }
}
