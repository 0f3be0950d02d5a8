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
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::super::config::Activation;
use super::super::weights::{LinearWeights, NormWeights};
use super::{BertConfig, BertWeights, LayerWeights};

/// A BERT encoder as a module of burn, made by `Encoder::module`.
#[derive(Module, Debug)]
pub struct Bert {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    layers: Vec<BertLayer>,
}

#[derive(Module, Debug)]
struct BertLayer {
    /// Query, key and value side by side: one product `[D, 3 D]`.
    qkv: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    output_norm: LayerNorm,
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
        let [n, tokens] = ids.dims();
        let device = ids.device();
        let positions = Tensor::<1, Int>::arange(0..tokens as i64, &device).reshape([1, tokens]);
        let mut hidden = self.words.forward(ids) + self.types.forward(types);
        hidden = self.norm.forward(hidden + self.positions.forward(positions));
        let heads = config.num_attention_heads;
        let mask = padding.map(|padding| {
            padding
                .reshape([n, 1, 1, tokens])
                .expand([n, heads, tokens, tokens])
        });
        let mut states = vec![hidden.clone()];
        for layer in &self.layers {
            hidden = layer.forward(config, hidden, mask.clone());
            states.push(hidden.clone());
        }
        states
    }
}

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

    fn forward(&self, config: &BertConfig, hidden: Tensor<3>, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let [n, tokens, d] = hidden.dims();
        let heads = config.num_attention_heads;
        let split = self
            .qkv
            .forward(hidden.clone())
            .reshape([n, tokens, 3 * heads, d / heads])
            .swap_dims(1, 2);
        let part = |i: usize| split.clone().narrow(1, i * heads, heads);
        let context = attention(
            part(0),
            part(1),
            part(2),
            mask,
            None,
            AttentionModuleOptions::default(),
        )
        .swap_dims(1, 2)
        .reshape([n, tokens, d]);
        let hidden = self
            .attention_norm
            .forward(self.attention_output.forward(context) + hidden);
        let inner = self.up.forward(hidden.clone());
        let inner = match config.activation {
            Activation::Gelu => activation::gelu(inner),
            Activation::GeluNew => activation::gelu_approximate(inner),
            Activation::Relu => activation::relu(inner),
        };
        self.output_norm.forward(self.down.forward(inner) + hidden)
    }
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
