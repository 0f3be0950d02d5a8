//! Texts to vectors.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::Encoder;
use crate::encoder::ModelError;
use crate::encoder::batch::{self, Embeddings, EncodeOptions, Passage};
use crate::encoder::lexical::{LexicalParts, beside};
use crate::encoder::tokens::Tokens;

impl Encoder {
    /// Encodes passages: `[n, m, D]`, a vector for each layer of the layer set.
    ///
    /// Of one text at most the first MiB is looked at, whatever the length limit.
    ///
    /// # Errors
    /// [`ModelError::EmptyText`] for a passage of which no token is left, [`ModelError::Setting`] for settings that do
    /// not fit the model, [`ModelError::Cancelled`], [`ModelError::VectorNotFinite`]. Nothing is returned in part.
    pub fn encode_documents(
        &self,
        passages: &[Passage<'_>],
        options: &EncodeOptions<'_>,
    ) -> Result<Embeddings, ModelError> {
        let s = &self.settings;
        let mix = self.mix();
        let layers = mix.map_or(&s.layers, |mix| &mix.layers);
        let (vectors, parts) = self.encode(passages.len(), false, layers, options, |i| {
            let Passage { title, text } = passages[i];
            self.tokens(&s.passage_prompt, title, text)
        })?;
        let vectors = match mix {
            Some(mix) => mix.apply(vectors),
            None => vectors,
        };
        Ok(beside(vectors, parts))
    }

    /// Encodes queries: `[n, 1, D]`, from the first layer of the layer set.
    ///
    /// # Errors
    /// As [`Encoder::encode_documents`].
    pub fn encode_queries(&self, queries: &[&str]) -> Result<Embeddings, ModelError> {
        let layers = &self.settings.layers;
        self.encode_questions(queries, &layers[..layers.len().min(1)])
    }

    /// Encodes queries from the whole layer set: `[n, m, D]`.
    pub(crate) fn encode_queries_by_layer(&self, queries: &[&str]) -> Result<Embeddings, ModelError> {
        self.encode_questions(queries, &self.settings.layers)
    }

    fn encode_questions(&self, queries: &[&str], layers: &[usize]) -> Result<Embeddings, ModelError> {
        let s = &self.settings;
        let none = EncodeOptions::default();
        let (vectors, parts) = self.encode(queries.len(), true, layers, &none, |i| {
            self.tokens(&s.query_prompt, None, queries[i])
        })?;
        Ok(beside(vectors, parts))
    }

    /// The hidden states of all layers for one passage: `L + 1` arrays `[tokens, D]`, the first being the embedding
    /// output.
    ///
    /// # Errors
    /// As [`Encoder::encode_documents`].
    pub fn hidden_states(&self, passage: Passage<'_>) -> Result<Vec<Vec<f32>>, ModelError> {
        self.validate()?;
        let prompt = &self.settings.passage_prompt;
        let tokens = self
            .tokens(prompt, passage.title, passage.text)?
            .ok_or(ModelError::EmptyText { index: 0 })?;
        let packed = &self.model.packed;
        let mut states = Vec::new();
        let last = self.model.architecture.layers();
        packed.hidden_states(&[&tokens], last, &mut packed.scratch(), |_, layer| {
            states.push(layer.to_vec());
        });
        Ok(states)
    }

    /// The last layer's states `[tokens, D]` of one text, by the questions' encoder and prompt if it is a question.
    pub(crate) fn last_states(&self, text: Passage<'_>, question: bool) -> Result<Vec<f32>, ModelError> {
        self.validate()?;
        let (s, model) = (&self.settings, &self.model);
        let own = model.questions.as_ref().filter(|_| question);
        let packed = own.map_or(&model.packed, |questions| &questions.packed);
        let prompt = match question {
            true => &s.query_prompt,
            false => &s.passage_prompt,
        };
        let tokens = self
            .tokens(prompt, text.title, text.text)?
            .ok_or(ModelError::EmptyText { index: 0 })?;
        let last = model.architecture.layers();
        let mut states = Vec::new();
        packed.hidden_states(&[&tokens], last, &mut packed.scratch(), |layer, all| {
            if layer == last {
                states = all.to_vec();
            }
        });
        Ok(states)
    }

    /// The tokens of a question; `None` if none is left.
    pub(crate) fn question_tokens(&self, text: &str, limit: usize) -> Result<Option<Tokens>, ModelError> {
        let s = &self.settings;
        let tokenizer = &self.model.tokenizer;
        tokenizer.tokens(&s.query_prompt, None, text, s.template, limit.min(s.max_tokens))
    }

    /// The tokens of a passage; `None` if none is left.
    pub(crate) fn passage_tokens(
        &self,
        passage: Passage<'_>,
        limit: usize,
    ) -> Result<Option<Tokens>, ModelError> {
        let s = &self.settings;
        let Passage { title, text } = passage;
        let tokenizer = &self.model.tokenizer;
        tokenizer.tokens(
            &s.passage_prompt,
            title,
            text,
            s.template,
            limit.min(s.max_tokens),
        )
    }

    fn tokens(&self, prompt: &str, title: Option<&str>, text: &str) -> Result<Option<Tokens>, ModelError> {
        let s = &self.settings;
        self.model
            .tokenizer
            .tokens(prompt, title, text, s.template, s.max_tokens)
    }

    /// The vectors of the model, and the texts' lexical parts if they are to have some.
    fn encode(
        &self,
        n: usize,
        is_question: bool,
        layers: &[usize],
        options: &EncodeOptions<'_>,
        tokens: impl Fn(usize) -> Result<Option<Tokens>, ModelError> + Sync,
    ) -> Result<(Embeddings, Option<LexicalParts>), ModelError> {
        self.validate()?;
        self.threads()?.install(|| {
            let texts = (0..n)
                .into_par_iter()
                .map(|index| {
                    if options.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                        return Err(ModelError::Cancelled { done: 0, total: n });
                    }
                    tokens(index)?.ok_or(ModelError::EmptyText { index })
                })
                .collect::<Vec<_>>();
            // One after another: of several bad texts the first is named.
            let texts = texts.into_iter().collect::<Result<Vec<_>, _>>()?;
            let lexical = self.lexical().map(|lexical| {
                let tokenizer = &self.model.tokenizer;
                let prompt = is_question.then(|| tokenizer.prompt(&self.settings.query_prompt));
                Ok::<_, ModelError>(lexical.parts(&texts, prompt.transpose()?.as_deref()))
            });
            let parts = lexical.transpose()?;
            let model = &self.model;
            if let Some(on_device) = &self.on_device {
                let vectors = on_device.encode(is_question, &self.settings, layers, &texts, options)?;
                return Ok((vectors, parts));
            }
            let own = model.questions.as_ref().filter(|_| is_question);
            let packed = own.map_or(&model.packed, |questions| &questions.packed);
            let vectors = batch::encode(
                packed,
                model.architecture.dimension(),
                &self.settings,
                layers,
                texts,
                options,
            )?;
            Ok((vectors, parts))
        })
    }

    pub(crate) fn threads(&self) -> Result<&Arc<ThreadPool>, ModelError> {
        if let Some(pool) = &self.pool {
            return Ok(pool);
        }
        let own = self.model.own_pool.get_or_init(|| {
            rayon::ThreadPoolBuilder::new()
                .thread_name(|i| format!("stratal-encode-{i}"))
                .build()
                .map(Arc::new)
                .map_err(|error| error.to_string())
        });
        own.as_ref().map_err(|reason| ModelError::Threads {
            reason: reason.clone(),
        })
    }
}
