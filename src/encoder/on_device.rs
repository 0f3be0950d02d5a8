//! Encoding by the module of burn on one of its devices: batches of texts of like length, padded to the longest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::ModelError;
use super::architecture::Weights;
use super::batch::{Embeddings, EncodeOptions};
use super::bert::module::{Plain, Regime};
use super::bert::{Bert, BertConfig};
use super::settings::{EncoderSettings, Pooling};
use super::tokens::Tokens;

/// Tokens of a batch at most, padding included (a single text may be longer).
const BATCH_TOKENS: usize = 1 << 15;

/// A model that lies on a device.
pub(crate) struct OnDevice {
    pub device: Device,
    config: BertConfig,
    passages: Bert,
    /// The questions' own, where it was trained apart.
    questions: Option<Bert>,
}

impl OnDevice {
    /// Brings the weights to `device`; `None` for an architecture that has no module.
    pub fn new(device: Device, passages: &Weights, questions: Option<&Weights>) -> Option<Arc<OnDevice>> {
        let Weights::Bert(weights) = passages else {
            return None;
        };
        let questions = match questions {
            Some(Weights::Bert(weights)) => Some(Bert::new(weights, &device)),
            _ => None,
        };
        Some(Arc::new(OnDevice {
            config: weights.config.clone(),
            passages: Bert::new(weights, &device),
            questions,
            device,
        }))
    }

    /// As `batch::encode` does on the CPU.
    pub fn encode(
        &self,
        is_question: bool,
        settings: &EncoderSettings,
        layers: &[usize],
        texts: &[Tokens],
        options: &EncodeOptions<'_>,
    ) -> Result<Embeddings, ModelError> {
        let module = match &self.questions {
            Some(own) if is_question => own,
            _ => &self.passages,
        };
        let (n, m, d) = (texts.len(), layers.len(), self.config.hidden_size);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(texts[i].ids.len()));
        let mut vectors = vec![0.0; n * m * d];
        let mut done = 0;
        while done < n {
            if options.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Err(ModelError::Cancelled { done, total: n });
            }
            let longest = texts[order[done]].ids.len().max(1);
            let batch = &order[done..n.min(done + (BATCH_TOKENS / longest).max(1))];
            let members: Vec<&Tokens> = batch.iter().map(|&i| &texts[i]).collect();
            let padded = Padded::new(&members, &self.device);
            let states = padded.states(module, &self.config, &Plain);
            let rows = normalized(
                padded.pooled(&states, layers, settings.pooling),
                settings.normalize,
            );
            let read = read(rows)?;
            for (&index, own) in batch.iter().zip(read.chunks_exact(m * d)) {
                if own.iter().any(|x| !x.is_finite()) {
                    return Err(ModelError::VectorNotFinite { index });
                }
                vectors[index * m * d..(index + 1) * m * d].copy_from_slice(own);
            }
            done += batch.len();
            if let Some(progress) = options.progress {
                progress(done, n);
            }
        }
        Ok(Embeddings {
            n,
            m,
            dimension: d,
            vectors,
            tokens: texts.iter().map(|text| text.ids.len() as u32).collect(),
            truncated: texts.iter().map(|text| text.truncated).collect(),
        })
    }
}

/// A batch of texts on a device.
pub(crate) struct Padded {
    ids: Tensor<2, Int>,
    types: Tensor<2, Int>,
    /// `[n, tokens]`, true where there is no token.
    padding: Tensor<2, Bool>,
    is_padded: bool,
}

impl Padded {
    pub fn new(texts: &[&Tokens], device: &Device) -> Padded {
        let n = texts.len();
        let tokens = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
        let filled = |values: &[u32]| {
            let values = values.iter().map(|&value| value as i32);
            values
                .chain(std::iter::repeat(0))
                .take(tokens)
                .collect::<Vec<i32>>()
        };
        let ints = |values: Vec<i32>| Tensor::from_data(TensorData::new(values, [n, tokens]), device);
        let padding: Vec<bool> = texts
            .iter()
            .flat_map(|text| (0..tokens).map(|at| at >= text.ids.len()))
            .collect();
        Padded {
            ids: ints(texts.iter().flat_map(|text| filled(&text.ids)).collect()),
            types: ints(texts.iter().flat_map(|text| filled(&text.types)).collect()),
            is_padded: padding.contains(&true),
            padding: Tensor::from_data(TensorData::new(padding, [n, tokens]), device),
        }
    }

    /// Tokens of a text, padding included.
    pub fn tokens(&self) -> usize {
        self.padding.dims()[1]
    }

    /// All hidden states, each `[n, tokens, D]`.
    pub fn states(&self, module: &Bert, config: &BertConfig, regime: &impl Regime) -> Vec<Tensor<3>> {
        let mask = self.is_padded.then(|| self.padding.clone());
        module.states(config, self.ids.clone(), self.types.clone(), mask, regime)
    }

    /// The vectors of some layers, `[n, layers, D]`.
    pub fn pooled(&self, states: &[Tensor<3>], layers: &[usize], pooling: Pooling) -> Tensor<3> {
        let [n, tokens] = self.padding.dims();
        let pooled = layers.iter().map(|&layer| {
            let states = states[layer].clone();
            match pooling {
                Pooling::Cls => states.narrow(1, 0, 1),
                Pooling::Mean => {
                    let there = self.padding.clone().bool_not().float().reshape([n, 1, tokens]);
                    let shares = there.clone() / there.sum_dim(2);
                    shares.matmul(states)
                }
            }
        });
        Tensor::cat(pooled.collect(), 1)
    }
}

/// Vectors `[.., .., D]` scaled to length 1, if so asked.
pub(crate) fn normalized(vectors: Tensor<3>, normalize: bool) -> Tensor<3> {
    if !normalize {
        return vectors;
    }
    let lengths = (vectors.clone() * vectors.clone())
        .sum_dim(2)
        .sqrt()
        .clamp_min(1e-12);
    vectors / lengths
}

/// What lies on a device, on the host.
pub(crate) fn read<const N: usize>(tensor: Tensor<N>) -> Result<Vec<f32>, ModelError> {
    let failed = |reason: String| ModelError::Device { reason };
    let data = tensor
        .try_into_data()
        .map_err(|error| failed(error.to_string()))?;
    data.try_to_vec().map_err(|error| failed(error.to_string()))
}
