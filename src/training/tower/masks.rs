//! Dropout of a module: the elements that training on slices drops, computed on the device.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::SideDropout;
use crate::encoder::bert::module::Regime;
use crate::random;
use crate::training::network::{Drop, Site};

/// How a chunk of texts passes through the module in training.
pub(super) struct Thinned {
    pub in_bf16: bool,
    pub masks: Option<Masks>,
}

/// What is dropped of a chunk of texts.
pub(super) struct Masks {
    device: Device,
    /// A key a token, `[n, tokens]`.
    keys: Vec<u64>,
    n: usize,
    tokens: usize,
    heads: usize,
    drop: Drop,
    attention: Drop,
}

impl Masks {
    /// `keys` has one a text.
    pub fn new(dropout: SideDropout, keys: &[u64], tokens: usize, heads: usize, device: &Device) -> Masks {
        Masks {
            device: device.clone(),
            keys: keys
                .iter()
                .flat_map(|&key| (0..tokens as u64).map(move |at| random::mix(key ^ random::mix(at))))
                .collect(),
            n: keys.len(),
            tokens,
            heads,
            drop: Drop::new(dropout.rate),
            attention: Drop::new(dropout.attention),
        }
    }

    fn states(&self, x: Tensor<3>, site: Site) -> Tensor<3> {
        if self.drop.is_none() {
            return x;
        }
        let d = x.dims()[2];
        let keys = self.keys.iter().map(|&key| site.mix(key));
        x * self.mask(self.drop, keys, d).reshape([self.n, self.tokens, d])
    }

    fn weights(&self, layer: usize) -> Option<Tensor<4>> {
        if self.attention.is_none() {
            return None;
        }
        let (n, tokens, heads) = (self.n, self.tokens, self.heads);
        let keys = (self.keys.chunks_exact(tokens))
            .flat_map(|text| (0..heads).map(move |head| (text, head)))
            .flat_map(|(text, head)| text.iter().map(move |&key| Site::Weights(layer, head).mix(key)));
        let mask = self.mask(self.attention, keys, tokens);
        Some(mask.reshape([n, heads, tokens, tokens]))
    }

    /// `[keys, d]`: 0 where an element is dropped, else the factor of those that stay. Bit for bit what
    /// `network::rows` drops: its hash in the same 32 bits, here with signs.
    fn mask(&self, drop: Drop, keys: impl Iterator<Item = u64>, d: usize) -> Tensor<2> {
        let (low, high): (Vec<i32>, Vec<i32>) = keys.map(|key| (key as i32, (key >> 32) as i32)).unzip();
        let rows = low.len();
        let column = |values: Vec<i32>| self.ints(values, [rows, 1]);
        let columns = (0..d as u32)
            .map(|at| at.wrapping_mul(0x9e37_79b9) as i32)
            .collect();
        let h = column(low) + self.ints(columns, [1, d]);
        let h = shifted(h, 16)
            .mul_scalar(0x85eb_ca6b_u32 as i32)
            .bitwise_xor(column(high));
        let h = shifted(h, 13).mul_scalar(0xc2b2_ae35_u32 as i32);
        let h = shifted(h, 16);
        // Without signs, smaller than the threshold: with signs, both moved by half of the range.
        let dropped = h
            .bitwise_xor_scalar(i32::MIN)
            .lower_scalar((drop.threshold() ^ 0x8000_0000) as i32);
        Tensor::full([rows, d], drop.factor(), &self.device).mask_fill(dropped, 0.0)
    }

    fn ints(&self, values: Vec<i32>, shape: [usize; 2]) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, DType::I32))
    }
}

/// `h ^ (h >> by)`, without sign.
fn shifted(h: Tensor<2, Int>, by: u32) -> Tensor<2, Int> {
    let mask = (u32::MAX >> by) as i32;
    let high = h
        .clone()
        .bitwise_right_shift_scalar(by as i32)
        .bitwise_and_scalar(mask);
    h.bitwise_xor(high)
}

impl Regime for Thinned {
    fn is_in_bf16(&self) -> bool {
        self.in_bf16
    }

    fn embedding(&self, x: Tensor<3>) -> Tensor<3> {
        self.thin(x, Site::Embedding)
    }

    fn attention(&self, layer: usize, x: Tensor<3>) -> Tensor<3> {
        self.thin(x, Site::Attention(layer))
    }

    fn output(&self, layer: usize, x: Tensor<3>) -> Tensor<3> {
        self.thin(x, Site::Output(layer))
    }

    fn weights(&self, layer: usize) -> Option<Tensor<4>> {
        self.masks.as_ref()?.weights(layer)
    }
}

impl Thinned {
    fn thin(&self, x: Tensor<3>, site: Site) -> Tensor<3> {
        match &self.masks {
            Some(masks) => masks.states(x, site),
            None => x,
        }
    }
}
