//! BERT in burn: the definition of the model, on any of burn's devices.
//!
//! Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2019); layer norms after each
//! residual sum. Encoding on the CPU takes [`super::packed`], which a test holds to this definition; training has a
//! network of its own on slices.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, FloatDType, Int, Tensor, TensorData};

use super::super::config::Activation;
use super::super::weights::{LinearWeights, NormWeights};
use super::{BertConfig, BertWeights, LayerWeights};

/// A BERT encoder as a module of burn, made by `Encoder::module`.
#[derive(Module, Debug)]
pub struct Bert {
    pub(super) words: Embedding,
    pub(super) positions: Embedding,
    pub(super) types: Embedding,
    pub(super) norm: LayerNorm,
    pub(super) layers: Vec<BertLayer>,
}

#[derive(Module, Debug)]
pub(super) struct BertLayer {
    /// Query, key and value side by side: one product `[D, 3 D]`.
    pub(super) qkv: Linear,
    pub(super) attention_output: Linear,
    pub(super) attention_norm: LayerNorm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) output_norm: LayerNorm,
}

impl Bert {
    /// The model with the weights of a folder, on `device`.
    pub(crate) fn new(weights: &BertWeights, device: &Device) -> Self {
        let config = &weights.config;
        let d = config.hidden_size;
        let embedding = |values: &[f32]| {
            let rows = values.len() / d;
            let mut module = EmbeddingConfig::new(rows, d).init(device);
            module.weight = matrix(values, rows, d, device);
            module
        };
        Self {
            words: embedding(&weights.words),
            positions: embedding(&weights.positions),
            types: embedding(&weights.types),
            norm: norm(&weights.embedding_norm, config, device),
            layers: weights
                .layers
                .iter()
                .map(|layer| BertLayer::new(config, layer, device))
                .collect(),
        }
    }

    /// All hidden states, `L + 1` tensors of shape `[n, tokens, D]`; the first is the embedding output.
    ///
    /// - `ids`, `types`: `[n, tokens]`.
    /// - `padding`: `[n, tokens]`, true where there is no token; such rows of the result mean nothing.
    pub fn hidden_states(
        &self,
        config: &BertConfig,
        ids: Tensor<2, Int>,
        types: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
    ) -> Vec<Tensor<3>> {
        self.states(config, ids, types, padding, &Plain)
    }

    /// [`Bert::hidden_states`] as a pass's regime has them computed.
    pub(crate) fn states(
        &self,
        config: &BertConfig,
        ids: Tensor<2, Int>,
        types: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
        regime: &impl Regime,
    ) -> Vec<Tensor<3>> {
        let [n, tokens] = ids.dims();
        let device = ids.device();
        let d = config.hidden_size;
        // Rows of few kinds by products and a slice, not by lookups: a lookup's derivative on a GPU goes through
        // all tokens one after the other.
        let kinds = Tensor::<1, Int>::arange(0..config.type_vocab_size as i64, &device);
        let kinds = kinds.reshape([1, 1, config.type_vocab_size]);
        let types = types.reshape([n, tokens, 1]).equal(kinds).float();
        let types = types
            .reshape([n * tokens, config.type_vocab_size])
            .matmul(self.types.weight.val())
            .reshape([n, tokens, d]);
        let positions = self
            .positions
            .weight
            .val()
            .narrow(0, 0, tokens)
            .reshape([1, tokens, d]);
        let mut hidden = self.norm.forward(self.words.forward(ids) + types + positions);
        hidden = regime.embedding(hidden);
        let heads = config.num_attention_heads;
        let mask = padding.map(|padding| {
            padding
                .reshape([n, 1, 1, tokens])
                .expand([n, heads, tokens, tokens])
        });
        let mut states = vec![hidden.clone()];
        for (l, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward(config, l, hidden, mask.clone(), regime);
            states.push(hidden.clone());
        }
        states
    }
}

/// How a pass computes: in which precision, and what it leaves out.
pub(crate) trait Regime {
    /// Matrices are multiplied in bf16; sums between them, norms and softmax stay f32.
    fn is_in_bf16(&self) -> bool {
        false
    }

    /// The embeddings after their norm, `[n, tokens, D]`.
    fn embedding(&self, x: Tensor<3>) -> Tensor<3> {
        x
    }

    /// What attention adds to a layer's input, `[n, tokens, D]`.
    fn attention(&self, layer: usize, x: Tensor<3>) -> Tensor<3> {
        let _ = layer;
        x
    }

    /// What a layer's second half adds, `[n, tokens, D]`.
    fn output(&self, layer: usize, x: Tensor<3>) -> Tensor<3> {
        let _ = layer;
        x
    }

    /// The weights of attention, `[n, heads, tokens, tokens]`; `None` leaves them as they are.
    fn weights(&self, layer: usize) -> Option<Tensor<4>> {
        let _ = layer;
        None
    }
}

/// f32, and nothing left out.
pub(crate) struct Plain;

impl Regime for Plain {}

impl BertLayer {
    fn new(config: &BertConfig, weights: &LayerWeights, device: &Device) -> Self {
        let d = config.hidden_size;
        Self {
            qkv: linear(&[&weights.query, &weights.key, &weights.value], d, device),
            attention_output: linear(&[&weights.attention_output], d, device),
            attention_norm: norm(&weights.attention_norm, config, device),
            up: linear(&[&weights.up], d, device),
            down: linear(&[&weights.down], config.intermediate_size, device),
            output_norm: norm(&weights.output_norm, config, device),
        }
    }

    fn forward(
        &self,
        config: &BertConfig,
        l: usize,
        hidden: Tensor<3>,
        mask: Option<Tensor<4, Bool>>,
        regime: &impl Regime,
    ) -> Tensor<3> {
        let [n, tokens, d] = hidden.dims();
        let heads = config.num_attention_heads;
        let map = |linear: &Linear, x: Tensor<3>| map(linear, x, regime.is_in_bf16());
        let split = map(&self.qkv, hidden.clone())
            .reshape([n, tokens, 3 * heads, d / heads])
            .swap_dims(1, 2);
        let part = |i: usize| split.clone().narrow(1, i * heads, heads);
        let context = attend([part(0), part(1), part(2)], mask, l, regime)
            .swap_dims(1, 2)
            .reshape([n, tokens, d]);
        let added = regime.attention(l, map(&self.attention_output, context));
        let hidden = self.attention_norm.forward(added + hidden);
        let inner = map(&self.up, hidden.clone());
        let inner = match config.activation {
            Activation::Gelu => activation::gelu(inner),
            Activation::GeluNew => activation::gelu_approximate(inner),
            Activation::Relu => activation::relu(inner),
        };
        let added = regime.output(l, map(&self.down, inner));
        self.output_norm.forward(added + hidden)
    }
}

/// `x W + b`.
fn map(linear: &Linear, x: Tensor<3>, in_bf16: bool) -> Tensor<3> {
    if !in_bf16 {
        return linear.forward(x);
    }
    let weight = linear.weight.val().cast(FloatDType::BF16);
    let product = burn::tensor::module::linear(x.cast(FloatDType::BF16), weight, None).cast(FloatDType::F32);
    match &linear.bias {
        Some(bias) => product + bias.val().unsqueeze(),
        None => product,
    }
}

/// Attention of queries, keys and values `[n, heads, tokens, D / heads]`.
fn attend(
    [query, key, value]: [Tensor<4>; 3],
    mask: Option<Tensor<4, Bool>>,
    layer: usize,
    regime: &impl Regime,
) -> Tensor<4> {
    let weights = regime.weights(layer);
    if weights.is_none() && !regime.is_in_bf16() {
        return attention(query, key, value, mask, None, AttentionModuleOptions::default());
    }
    let product = |a: Tensor<4>, b: Tensor<4>| match regime.is_in_bf16() {
        true => a
            .cast(FloatDType::BF16)
            .matmul(b.cast(FloatDType::BF16))
            .cast(FloatDType::F32),
        false => a.matmul(b),
    };
    let factor = 1.0 / (query.dims()[3] as f64).sqrt();
    let mut scores = product(query * factor, key.swap_dims(2, 3));
    if let Some(mask) = mask {
        scores = scores.mask_fill(mask, f32::MIN);
    }
    let mut shares = activation::softmax(scores, 3);
    if let Some(weights) = weights {
        shares = shares * weights;
    }
    product(shares, value)
}

fn matrix(values: &[f32], rows: usize, columns: usize, device: &Device) -> Param<Tensor<2>> {
    Param::from_tensor(Tensor::from_data(
        TensorData::new(values.to_vec(), [rows, columns]),
        device,
    ))
}

fn vector(values: Vec<f32>, device: &Device) -> Param<Tensor<1>> {
    let n = values.len();
    Param::from_tensor(Tensor::from_data(TensorData::new(values, [n]), device))
}

/// Several maps of one input as one: burn keeps `[input, output]`, PyTorch `[output, input]`.
fn linear(parts: &[&LinearWeights], input: usize, device: &Device) -> Linear {
    let output: usize = parts.iter().map(|part| part.bias.len()).sum();
    let mut weight = vec![0.0; input * output];
    let mut column = 0;
    for part in parts {
        for row in part.weight.chunks_exact(input) {
            for (i, &value) in row.iter().enumerate() {
                weight[i * output + column] = value;
            }
            column += 1;
        }
    }
    let bias = parts.iter().flat_map(|part| part.bias.iter().copied()).collect();
    let mut module = LinearConfig::new(input, output).init(device);
    module.weight = matrix(&weight, input, output, device);
    module.bias = Some(vector(bias, device));
    module
}

fn norm(weights: &NormWeights, config: &BertConfig, device: &Device) -> LayerNorm {
    let mut module = LayerNormConfig::new(config.hidden_size)
        .with_epsilon(config.layer_norm_eps)
        .init(device);
    module.gamma = vector(weights.scale.clone(), device);
    module.beta = Some(vector(weights.shift.clone(), device));
    module
}
