//! Texts to token ids: template, prompts, and the length limit.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use tokenizers::{Encoding, PostProcessor, Tokenizer};

use super::ModelError;
use super::architecture::Architecture;
use super::settings::Template;

/// Bytes of one text that are read at most. Far beyond any length limit; it bounds time and memory on hostile input.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes given to the tokenizer per token that is wanted, at first; real text has 4 to 6.
const BYTES_PER_TOKEN: usize = 12;
/// Word pieces that one cut word can at most turn into (the model's limit on a word is 100 characters).
const CUT_WORD_TOKENS: usize = 128;
/// Special tokens around a pair at most: the smallest length limit leaves room for one token beside them.
const SPECIAL_TOKENS_MAX: usize = 4;

/// The tokens of one text, special tokens included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub ids: Vec<u32>,
    /// Token type ids; empty means all 0.
    pub types: Vec<u32>,
    /// Whether something of the text was left out.
    pub truncated: bool,
}

/// The tokenizer of a model folder, its own padding and truncation off.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    specials_single: usize,
    specials_pair: usize,
    lower_case: bool,
    vocab_size: usize,
    token_types: usize,
    /// For messages.
    file: PathBuf,
}

impl TextTokenizer {
    pub(crate) fn parse(
        file: &Path,
        bytes: &[u8],
        architecture: &Architecture,
        lower_case: bool,
    ) -> Result<Self, ModelError> {
        let refuse = |reason: String| ModelError::Tokenizer {
            file: file.to_path_buf(),
            reason,
        };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| {
            let reason = if bytes.is_empty() {
                "the file is empty; fetch it again".to_string()
            } else if bytes.starts_with(b"version https://git-lfs") {
                "it is a Git LFS pointer; run `git lfs pull`".to_string()
            } else if bytes.trim_ascii_start().starts_with(b"<") {
                "it is a web page, not the file itself".to_string()
            } else {
                format!("{error} ({} bytes found)", bytes.len())
            };
            refuse(reason)
        })?;
        // A length written into tokenizer.json belongs to whoever saved it, not to the model.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| refuse(error.to_string()))?;
        let largest = tokenizer.get_vocab(true).into_values().max();
        match largest {
            None => return Err(refuse("it has no vocabulary".into())),
            Some(id) if id as usize >= architecture.vocab_size() => {
                return Err(refuse(format!(
                    "it knows the token id {id}, but the model has only {} words: they belong to different models",
                    architecture.vocab_size()
                )));
            }
            Some(_) => {}
        }
        let specials = |pair| {
            tokenizer
                .get_post_processor()
                .map_or(0, |processor| processor.added_tokens(pair))
        };
        let (specials_single, specials_pair) = (specials(false), specials(true));
        let (usual_single, usual_pair) = architecture.special_tokens();
        if specials_single == 0 || specials_pair > SPECIAL_TOKENS_MAX || specials_single > SPECIAL_TOKENS_MAX
        {
            return Err(refuse(format!(
                "it puts {specials_single} special tokens around a text and {specials_pair} around a pair, where {} has \
                 {usual_single} and {usual_pair}",
                architecture.name()
            )));
        }
        Ok(Self {
            file: file.to_path_buf(),
            specials_single,
            specials_pair,
            tokenizer,
            lower_case,
            vocab_size: architecture.vocab_size(),
            token_types: architecture.token_types(),
        })
    }

    /// The tokens of a text, or of a title and a text; `None` if no token is left of them.
    ///
    /// Of a pair that is too long, the longer half is cut first, as the reference tokenizers do.
    pub(crate) fn tokens(
        &self,
        prompt: &str,
        title: Option<&str>,
        text: &str,
        template: Template,
        max_tokens: usize,
    ) -> Result<Option<Tokens>, ModelError> {
        let title = title.filter(|title| template != Template::Text && !title.trim().is_empty());
        let (first, second) = match title {
            Some(title) if text.trim().is_empty() => (title, None),
            Some(title) => (title, Some(text)),
            None => (text, None),
        };
        let room = max_tokens
            - if second.is_some() {
                self.specials_pair
            } else {
                self.specials_single
            };
        let head = self.pieces(prompt, first, room)?;
        if head.ids.is_empty() || (second.is_none() && head.only_prompt) {
            if let Some(text) = second {
                return self.tokens(prompt, None, text, Template::Text, max_tokens);
            }
            return Ok(None);
        }
        let tail = match second {
            Some(text) => self.pieces("", text, room)?,
            None => Pieces::default(),
        };
        let (keep_head, keep_tail) = share(head.ids.len(), tail.ids.len(), room);
        let truncated = head.cut || tail.cut || keep_head < head.ids.len() || keep_tail < tail.ids.len();
        let pair = (keep_tail > 0).then(|| plain_encoding(&tail.ids[..keep_tail], 1));
        let encoding = self
            .tokenizer
            .post_process(plain_encoding(&head.ids[..keep_head], 0), pair, true)
            .map_err(|error| self.refuse(error.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        let types = match template {
            Template::TitleAndTextSegments => encoding.get_type_ids().to_vec(),
            Template::Text | Template::TitleAndText => Vec::new(),
        };
        // The special tokens' numbers stand in tokenizer.json beside the vocabulary, and may be anything.
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            return Err(self.refuse(format!(
                "it made the token id {id}, but the model has {} words",
                self.vocab_size
            )));
        }
        if let Some(kind) = types.iter().find(|&&kind| kind as usize >= self.token_types) {
            return Err(self.refuse(format!(
                "it made the token type {kind}, but the model has {} types",
                self.token_types
            )));
        }
        if ids.len() > max_tokens {
            return Err(self.refuse(format!(
                "it made {} tokens where {max_tokens} are allowed",
                ids.len()
            )));
        }
        Ok(Some(Tokens {
            ids,
            types,
            truncated,
        }))
    }

    fn refuse(&self, reason: String) -> ModelError {
        ModelError::Tokenizer {
            file: self.file.clone(),
            reason,
        }
    }

    /// Word pieces of `prompt + text`: all of them, or at least `wanted`.
    fn pieces(&self, prompt: &str, text: &str, wanted: usize) -> Result<Pieces, ModelError> {
        let text = text.trim();
        let mut window = (wanted + CUT_WORD_TOKENS) * BYTES_PER_TOKEN;
        loop {
            let (part, clean) = cut(text, window.min(TEXT_BYTES_MAX));
            let mut input = if prompt.is_empty() {
                Cow::Borrowed(part)
            } else {
                Cow::Owned(format!("{prompt}{part}"))
            };
            if self.lower_case {
                input = Cow::Owned(input.to_lowercase());
            }
            let ids = self.raw(&input)?;
            let all = part.len() == text.len();
            // A word that the cut went through may have other pieces than the whole: it must lie beyond what is kept.
            let sure = ids.len().saturating_sub(if clean { 0 } else { CUT_WORD_TOKENS });
            if all || sure >= wanted || window >= TEXT_BYTES_MAX {
                let only_prompt =
                    !prompt.is_empty() && (part.is_empty() || ids.len() <= self.raw(prompt)?.len());
                return Ok(Pieces {
                    ids,
                    cut: !all,
                    only_prompt,
                });
            }
            window *= 4;
        }
    }

    /// Word pieces of a prompt.
    pub(crate) fn prompt(&self, prompt: &str) -> Result<Vec<u32>, ModelError> {
        match self.lower_case {
            true => self.raw(&prompt.to_lowercase()),
            false => self.raw(prompt),
        }
    }

    /// The token of words that the model does not know, under the names that BERT and T5 have for it.
    pub(crate) fn unknown(&self) -> Option<u32> {
        ["[UNK]", "<unk>"]
            .iter()
            .find_map(|name| self.tokenizer.token_to_id(name))
    }

    /// Word pieces of the whole input, without special tokens.
    pub(crate) fn raw(&self, input: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self
            .tokenizer
            .encode_fast(input, false)
            .map_err(|error| self.refuse(format!("a text could not be split into tokens: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }
}

#[derive(Default)]
struct Pieces {
    ids: Vec<u32>,
    /// Whether the text was longer than what was looked at.
    cut: bool,
    /// Whether all pieces are the prompt's.
    only_prompt: bool,
}

/// The first `bytes` of a text, ended at white space if there is some in the last quarter (then `true`), else anywhere.
fn cut(text: &str, bytes: usize) -> (&str, bool) {
    if text.len() <= bytes {
        return (text, true);
    }
    let end = text.floor_char_boundary(bytes);
    let from = text.floor_char_boundary(bytes - bytes / 4);
    // Only these: of the other white space, BERT's tokenizer drops what counts as control, and joins the words.
    match text[from..end].rfind([' ', '\n', '\t', '\r']) {
        Some(space) => (&text[..from + space], true),
        None => (&text[..end], false),
    }
}

/// How many tokens of two halves fit into `room`: the longer one gives way first.
fn share(head: usize, tail: usize, room: usize) -> (usize, usize) {
    if head + tail <= room {
        return (head, tail);
    }
    let short = head.min(tail).min(room / 2);
    if head <= tail {
        (short, room - short)
    } else {
        (room - short, short)
    }
}

fn plain_encoding(ids: &[u32], type_id: u32) -> Encoding {
    let n = ids.len();
    Encoding::new(
        ids.to_vec(),
        vec![type_id; n],
        vec![String::new(); n],
        vec![None; n],
        vec![(0, 0); n],
        vec![0; n],
        vec![1; n],
        Vec::new(),
        Default::default(),
    )
}
