//! The words of a collection, counted for an encoder.

use crate::encoder::{Encoder, Lexical, LexicalOptions, Passage};
use crate::{Collection, Result};

impl Collection {
    /// Counts the words of all documents, as `encoder` reads them: for
    /// [`Encoder::save_with_lexical`](crate::Encoder::save_with_lexical).
    ///
    /// # Errors
    /// Those of reading documents, and of [`Lexical::count`].
    pub fn count_words(&self, encoder: &Encoder, options: &LexicalOptions) -> Result<Lexical> {
        let snapshot = self.snapshot()?;
        let mut texts = Vec::new();
        for document in snapshot.iter() {
            let document = document?;
            let own = |text: Option<&str>| text.map(str::to_owned);
            texts.push((own(document.title()), own(document.text())));
        }
        let passages: Vec<Passage<'_>> = texts
            .iter()
            .map(|(title, text)| Passage {
                title: title.as_deref(),
                text: text.as_deref().unwrap_or_default(),
            })
            .collect();
        Ok(Lexical::count(encoder, &passages, options)?)
    }
}
