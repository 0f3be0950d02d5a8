//! Many texts at once: tokens first, then batches by token count, longest first.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::ModelError;
use super::architecture::Packed;
use super::forward::pool;
use super::settings::EncoderSettings;
use super::tokens::Tokens;

/// Tokens in a batch of one worker at most (a single text may be longer); more gain nothing and cost memory.
const BATCH_TOKENS: usize = 512;

/// A passage to encode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage<'a> {
    /// Its title, read only where the template says so.
    pub title: Option<&'a str>,
    /// Its text.
    pub text: &'a str,
}

/// What a long encoding run listens to.
#[derive(Clone, Copy, Default)]
pub struct EncodeOptions<'a> {
    /// Called with (texts done, texts in all) as batches end, from worker threads, one call at a time; the first
    /// number only rises, and the last call of a run that succeeds has both alike.
    pub progress: Option<&'a (dyn Fn(usize, usize) + Sync)>,
    /// Looked at before every batch (some milliseconds of work); raised, the run ends with [`ModelError::Cancelled`].
    pub cancel: Option<&'a AtomicBool>,
}

/// Layer vectors of `n` texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// Texts.
    pub n: usize,
    /// Layer vectors a text.
    pub m: usize,
    /// Elements of a vector, `D`.
    pub dimension: usize,
    /// The vectors, `[n, m, D]`, texts in the order they were given, layers in the order of the settings.
    pub vectors: Vec<f32>,
    /// Tokens that were read of each text, special tokens included.
    pub tokens: Vec<u32>,
    /// Whether a text was longer than the limit, so that its end was left out.
    pub truncated: Vec<bool>,
}

impl Embeddings {
    /// The vectors `[m, D]` of one text.
    ///
    /// # Panics
    /// If `i` is not below `n`.
    pub fn of(&self, i: usize) -> &[f32] {
        let size = self.m * self.dimension;
        &self.vectors[i * size..(i + 1) * size]
    }

    /// How many texts were cut at the length limit.
    pub fn truncated_count(&self) -> usize {
        self.truncated.iter().filter(|&&cut| cut).count()
    }
}

/// Encodes tokenized texts inside the current thread pool.
pub(crate) fn encode(
    model: &Packed,
    dimension: usize,
    settings: &EncoderSettings,
    layers: &[usize],
    texts: Vec<Tokens>,
    options: &EncodeOptions<'_>,
) -> Result<Embeddings, ModelError> {
    let (n, m) = (texts.len(), layers.len());
    let size = m * dimension;
    let batches = plan(&texts, rayon::current_num_threads());
    let done = AtomicUsize::new(0);
    let told = Mutex::new(0);
    // Never waits: a callback that uses this pool may run another batch, on this very thread, before it returns.
    let tell = |last: bool| {
        let Some(progress) = options.progress else { return };
        let Ok(mut told) = told.try_lock() else { return };
        let now = done.load(Ordering::Relaxed);
        if now > *told && (last || now < n) {
            *told = now;
            progress(now, n);
        }
    };
    let parts: Vec<Vec<f32>> = batches
        .par_iter()
        .with_max_len(1)
        .map_init(
            || model.scratch(),
            |scratch, batch| {
                if options.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                    return Err(ModelError::Cancelled {
                        done: done.load(Ordering::Relaxed),
                        total: n,
                    });
                }
                let members: Vec<&Tokens> = batch.iter().map(|&i| &texts[i]).collect();
                let mut vectors = vec![0.0; batch.len() * size];
                let last = layers.iter().copied().max().unwrap_or(0);
                model.hidden_states(&members, last, scratch, |layer, states| {
                    let Some(slot) = layers.iter().position(|&wanted| wanted == layer) else {
                        return;
                    };
                    let mut first = 0;
                    for (text, out) in members.iter().zip(vectors.chunks_exact_mut(size)) {
                        let end = first + text.ids.len() * dimension;
                        let out = &mut out[slot * dimension..(slot + 1) * dimension];
                        pool(&states[first..end], settings.pooling, settings.normalize, out);
                        first = end;
                    }
                });
                for (&index, vector) in batch.iter().zip(vectors.chunks_exact(size)) {
                    if vector.iter().any(|x| !x.is_finite()) {
                        return Err(ModelError::VectorNotFinite { index });
                    }
                }
                done.fetch_add(batch.len(), Ordering::Relaxed);
                tell(false);
                Ok(vectors)
            },
        )
        .collect::<Result<_, _>>()?;
    tell(true);
    let mut vectors = vec![0.0; n * size];
    for (batch, part) in batches.iter().zip(parts) {
        for (&i, vector) in batch.iter().zip(part.chunks_exact(size)) {
            vectors[i * size..(i + 1) * size].copy_from_slice(vector);
        }
    }
    Ok(Embeddings {
        n,
        m,
        dimension,
        vectors,
        tokens: texts.iter().map(|text| text.ids.len() as u32).collect(),
        truncated: texts.iter().map(|text| text.truncated).collect(),
    })
}

/// Batches of text numbers: the longest texts first, so that memory peaks at once and the last batches, which
/// end at different times on different threads, are short.
fn plan(texts: &[Tokens], threads: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(texts[i].ids.len()));
    let total: usize = texts.iter().map(|text| text.ids.len()).sum();
    // Few texts are spread over the threads rather than put into one batch.
    let limit = (total / (threads * 4).max(1)).clamp(64, BATCH_TOKENS);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut filled = limit;
    for i in order {
        let tokens = texts[i].ids.len();
        match batches.last_mut() {
            Some(batch) if filled + tokens <= limit => {
                batch.push(i);
                filled += tokens;
            }
            _ => {
                batches.push(vec![i]);
                filled = tokens;
            }
        }
    }
    batches
}
