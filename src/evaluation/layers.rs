//! What the layers of an encoder find, and how alike their vectors are.

use rayon::prelude::*;
use serde::Serialize;

use super::figures::{Figures, figures, scores};
use super::ranking::Ranking;
use crate::Result;
use crate::encoder::{Embeddings, EncodeOptions, Encoder};
use crate::training::PairSet;

/// A comparison of layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// The layers that were compared, as [`Encoder::settings`] has them.
    pub layers: Vec<usize>,
    /// For each layer what it finds alone, with the question's vector from the first of them.
    pub alone: Vec<Figures>,
    /// What all find together, by the maximum.
    pub together: Figures,
    /// For each layer the share of questions at whose gold passage it scores highest.
    pub wins: Vec<f64>,
    /// The mean cosine of a passage's vectors at two layers, `[m, m]`.
    pub similarity: Vec<Vec<f64>>,
}

/// Compares the layers of the encoder's set on the questions and passages of a set.
///
/// # Errors
/// Those of encoding.
pub fn compare_layers(
    encoder: &Encoder,
    set: &PairSet,
    k: usize,
    options: &EncodeOptions<'_>,
) -> Result<LayerReport> {
    // Words are the same at all layers: they would only make them look alike.
    let encoder = &encoder.clone().without_lexical();
    let inputs: Vec<_> = set.passages().iter().map(|passage| passage.as_input()).collect();
    let passages = encoder.encode_documents(&inputs, options)?;
    let (m, d) = (passages.m, passages.dimension);
    let found = |passages: &Embeddings| -> Result<Figures> {
        let ranking = Ranking::by_vectors(encoder, passages, set, k)?;
        Ok(figures(&scores(set, &ranking), k))
    };
    let layer = |l: usize| Embeddings {
        m: 1,
        vectors: (passages.vectors.chunks_exact(m * d))
            .flat_map(|text| text[l * d..(l + 1) * d].iter().copied())
            .collect(),
        ..passages.clone()
    };
    let alone = (0..m).map(|l| found(&layer(l))).collect::<Result<Vec<_>>>()?;
    let mut wins = vec![0.0; m];
    let texts: Vec<&str> = set
        .questions()
        .iter()
        .map(|question| question.text.as_str())
        .collect();
    let questions = encoder.encode_queries(&texts)?;
    for (question, vector) in set.questions().iter().zip(questions.vectors.chunks_exact(d)) {
        let gold = passages.of(question.positives[0]);
        let score = |row: &[f32]| -> f64 {
            row.iter()
                .zip(vector)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum()
        };
        let best = gold.chunks_exact(d).map(score).enumerate();
        let best = best.fold(
            (0, f64::NEG_INFINITY),
            |best, next| if next.1 > best.1 { next } else { best },
        );
        wins[best.0] += 1.0 / texts.len() as f64;
    }
    Ok(LayerReport {
        layers: encoder.settings().layers.clone(),
        alone,
        together: found(&passages)?,
        wins,
        similarity: similarity(&passages),
    })
}

/// Mean cosines between the layers of many texts.
fn similarity(passages: &Embeddings) -> Vec<Vec<f64>> {
    let (m, d) = (passages.m, passages.dimension);
    let texts: Vec<&[f32]> = passages.vectors.chunks_exact(m * d).collect();
    // Texts in pieces of one size, each summed in order: the same sum on any number of threads.
    let parts: Vec<Vec<f64>> = texts
        .par_chunks(512)
        .map(|texts| {
            let mut sums = vec![0.0; m * m];
            for text in texts {
                let row = |l: usize| &text[l * d..(l + 1) * d];
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
                };
                let lengths: Vec<f64> = (0..m).map(|l| dot(row(l), row(l)).sqrt().max(1e-12)).collect();
                for a in 0..m {
                    for b in 0..m {
                        sums[a * m + b] += dot(row(a), row(b)) / (lengths[a] * lengths[b]);
                    }
                }
            }
            sums
        })
        .collect();
    let n = texts.len().max(1) as f64;
    (0..m)
        .map(|a| {
            (0..m)
                .map(|b| parts.iter().map(|part| part[a * m + b]).sum::<f64>() / n)
                .collect()
        })
        .collect()
}
