//! The arithmetic against plain references, and the forward pass against the model's definition in burn.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::prelude::*;

use super::architecture::Architecture;
use super::bert::{Bert, BertConfig, BertWeights, LayerWeights, PackedBert};
use super::config::Activation;
use super::elementwise::{add_norm, exponentials};
use super::lanes::Isa;
use super::matrix::{Finish, Panels, Rows, product};
use super::settings::Template;
use super::tokens::{TextTokenizer, Tokens};
use super::weights::{LinearWeights, NormWeights};
use super::{EncodeOptions, Encoder, Lexical, LexicalOptions, ModelError, Passage, Pooling};

/// Numbers that repeat from run to run: a splitmix64 stream mapped to -1..1.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(super) fn many(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.next() * scale).collect()
    }
}

fn product_by_hand(a: Rows<'_>, weight: &[f32], k: usize, n: usize) -> Vec<f64> {
    let mut out = vec![0.0; a.rows * n];
    for i in 0..a.rows {
        for j in 0..n {
            out[i * n + j] = (0..k)
                .map(|x| f64::from(a.data[i * a.stride + x]) * f64::from(weight[j * k + x]))
                .sum();
        }
    }
    out
}

#[test]
fn products_of_every_shape_agree_with_the_plain_sum_on_every_instruction_set() {
    let mut numbers = Numbers(1);
    for isa in Isa::available() {
        for (m, k, n) in [
            (1, 1, 1),
            (3, 7, 15),
            (14, 32, 32),
            (15, 33, 33),
            (29, 5, 64),
            (57, 384, 70),
            (6, 100, 31),
        ] {
            let stride = k + 3;
            let data = numbers.many(m * stride, 1.0);
            let a = Rows {
                data: &data,
                stride,
                rows: m,
            };
            let weight = numbers.many(n * k, 1.0);
            let bias = numbers.many(n, 1.0);
            let b = Panels::from_weights(isa, k, &[&weight]);
            let finish = Finish {
                bias: &bias,
                activation: None,
            };
            let out_stride = n + 2;
            let mut out = vec![7.0; m * out_stride];
            product(isa, a, &b, finish, &mut out, out_stride);
            let expected = product_by_hand(a, &weight, k, n);
            for i in 0..m {
                for j in 0..n {
                    let want = expected[i * n + j] + f64::from(bias[j]);
                    let got = f64::from(out[i * out_stride + j]);
                    assert!(
                        (want - got).abs() < 1e-4,
                        "{isa:?} {m}x{k}x{n} at {i},{j}: {got} for {want}"
                    );
                }
                assert!(
                    out[i * out_stride + n..(i + 1) * out_stride]
                        .iter()
                        .all(|&x| x == 7.0)
                );
            }
        }
    }
}

/// The error function by its series and continued fraction, in f64.
fn normal_cdf(x: f64) -> f64 {
    // Simpson's rule from 0 to x: slow and plain.
    let steps = 2000;
    let h = x / f64::from(steps);
    let f = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let inner: f64 = (1..steps)
        .map(|i| f(h * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 })
        .sum();
    0.5 + (f(0.0) + inner + f(x)) * h / 3.0
}

#[test]
fn activations_agree_with_their_formulas() {
    // The identity as a product: activations are reached only through one.
    for isa in Isa::available() {
        let x: Vec<f32> = (-600..600).map(|i| i as f32 / 60.0).collect();
        let one = Panels::from_weights(isa, 1, &[&[1.0]]);
        for activation in [Activation::Gelu, Activation::GeluNew, Activation::Relu] {
            let mut out = vec![0.0; x.len()];
            let rows = Rows {
                data: &x,
                stride: 1,
                rows: x.len(),
            };
            let finish = Finish {
                bias: &[],
                activation: Some(activation),
            };
            product(isa, rows, &one, finish, &mut out, 1);
            for (&x, &got) in x.iter().zip(&out) {
                let x = f64::from(x);
                let want = match activation {
                    Activation::Gelu => x * normal_cdf(x),
                    Activation::GeluNew => {
                        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                        0.5 * x * (1.0 + u.tanh())
                    }
                    Activation::Relu => x.max(0.0),
                };
                let close = 4e-7 * x.abs().max(1.0);
                assert!(
                    (want - f64::from(got)).abs() < close,
                    "{isa:?} {activation:?}({x}) = {got}, not {want}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_finite_never_turns_into_a_number() {
    for isa in Isa::available() {
        let one = Panels::from_weights(isa, 1, &[&[1.0]]);
        for activation in [Activation::Gelu, Activation::GeluNew, Activation::Relu] {
            let x = [f32::NAN, f32::INFINITY, 1.0];
            let mut out = [0.0; 3];
            let rows = Rows {
                data: &x,
                stride: 1,
                rows: 3,
            };
            let finish = Finish {
                bias: &[],
                activation: Some(activation),
            };
            product(isa, rows, &one, finish, &mut out, 1);
            assert!(!out[0].is_finite() && !out[1].is_finite() && out[2].is_finite());
        }
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = [0.5; 16];
            x[3] = bad;
            let mut sums = [0.0];
            exponentials(isa, &mut x, 16, 7, 1.0, &mut sums);
            assert!(!sums[0].is_finite(), "{isa:?} {bad}");
        }
    }
}

#[test]
fn norms_and_exponentials_agree_with_plain_ones() {
    let mut numbers = Numbers(2);
    for isa in Isa::available() {
        for d in [1, 15, 16, 17, 48, 384] {
            let mut x = numbers.many(3 * d, 2.0);
            let residual = numbers.many(3 * d, 2.0);
            let (scale, shift) = (numbers.many(d, 1.0), numbers.many(d, 1.0));
            let before: Vec<f64> = x.iter().zip(&residual).map(|(a, b)| f64::from(a + b)).collect();
            add_norm(isa, &mut x, &residual, &scale, &shift, 1e-5);
            for (row, got) in before.chunks(d).zip(x.chunks(d)) {
                let mean = row.iter().sum::<f64>() / d as f64;
                let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / d as f64;
                for j in 0..d {
                    let want = (row[j] - mean) / (variance + 1e-5).sqrt() * f64::from(scale[j])
                        + f64::from(shift[j]);
                    assert!((want - f64::from(got[j])).abs() < 2e-5, "{isa:?} {d} at {j}");
                }
            }
        }
        for n in [1, 16, 31, 33] {
            let stride = 48;
            let mut x = numbers.many(2 * stride, 30.0);
            let before = x.clone();
            let mut sums = [0.0; 2];
            exponentials(isa, &mut x, stride, n, 0.5, &mut sums);
            for r in 0..2 {
                let row = &before[r * stride..r * stride + n];
                let top = row.iter().copied().fold(f32::MIN, f32::max);
                let want: Vec<f64> = row.iter().map(|v| (0.5 * f64::from(v - top)).exp()).collect();
                for (want, &got) in want.iter().zip(&x[r * stride..]) {
                    assert!((want - f64::from(got)).abs() < 1e-6);
                }
                assert!((want.iter().sum::<f64>() / f64::from(sums[r]) - 1.0).abs() < 1e-6);
            }
        }
    }
}

pub(crate) fn tiny() -> BertConfig {
    BertConfig {
        hidden_size: 36,
        num_hidden_layers: 3,
        num_attention_heads: 3,
        intermediate_size: 70,
        vocab_size: 50,
        max_position_embeddings: 130,
        type_vocab_size: 2,
        layer_norm_eps: 1e-5,
        activation: Activation::Gelu,
    }
}

pub(crate) fn random_weights(config: &BertConfig) -> BertWeights {
    let mut r = Numbers(3);
    let d = config.hidden_size;
    let norm = |r: &mut Numbers| NormWeights {
        scale: r.many(d, 0.3).iter().map(|x| 1.0 + x).collect(),
        shift: r.many(d, 0.3),
    };
    let linear = |r: &mut Numbers, output: usize, input: usize| LinearWeights {
        weight: r.many(output * input, 0.4),
        bias: r.many(output, 0.2),
    };
    let inner = config.intermediate_size;
    let layers = (0..config.num_hidden_layers)
        .map(|_| LayerWeights {
            query: linear(&mut r, d, d),
            key: linear(&mut r, d, d),
            value: linear(&mut r, d, d),
            attention_output: linear(&mut r, d, d),
            attention_norm: norm(&mut r),
            up: linear(&mut r, inner, d),
            down: linear(&mut r, d, inner),
            output_norm: norm(&mut r),
        })
        .collect();
    BertWeights {
        config: config.clone(),
        words: r.many(config.vocab_size * d, 1.0),
        positions: r.many(config.max_position_embeddings * d, 0.5),
        types: r.many(config.type_vocab_size * d, 0.5),
        embedding_norm: norm(&mut r),
        layers,
    }
}

pub(crate) fn texts(lengths: &[usize]) -> Vec<Tokens> {
    let mut r = Numbers(4);
    let mut id = move || ((r.next() + 1.0) * 24.9) as u32;
    lengths
        .iter()
        .map(|&n| Tokens {
            ids: (0..n).map(|_| id()).collect(),
            types: (0..n).map(|i| u32::from(i > n / 2)).collect(),
            truncated: false,
        })
        .collect()
}

fn states(bert: &PackedBert, texts: &[&Tokens], config: &BertConfig) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    bert.hidden_states(
        texts,
        config.num_hidden_layers,
        &mut bert.scratch(),
        |_, layer| all.push(layer.to_vec()),
    );
    all
}

#[test]
fn the_forward_pass_computes_what_the_definition_in_burn_computes() {
    for activation in [Activation::Gelu, Activation::GeluNew, Activation::Relu] {
        let config = BertConfig { activation, ..tiny() };
        let device = Device::flex();
        let definition = Bert::new(&random_weights(&config), &device);
        let texts = texts(&[5, 130, 17, 1]);
        let longest = 130;
        let padded = |f: &dyn Fn(&Tokens, usize) -> i64| -> Tensor<2, Int> {
            let values: Vec<i64> = texts
                .iter()
                .flat_map(|t| (0..longest).map(move |i| f(t, i)))
                .collect();
            Tensor::from_data(TensorData::new(values, [texts.len(), longest]), &device)
        };
        let ids = padded(&|t, i| t.ids.get(i).copied().unwrap_or(0).into());
        let types = padded(&|t, i| t.types.get(i).copied().unwrap_or(0).into());
        let padding = padded(&|t, i| i64::from(i >= t.ids.len())).equal_elem(1);
        let expected: Vec<Vec<f32>> = definition
            .hidden_states(&config, ids, types, Some(padding))
            .into_iter()
            .map(|layer| layer.into_data().try_to_vec::<f32>().unwrap())
            .collect();
        for isa in Isa::available() {
            let bert = PackedBert::new(isa, random_weights(&config));
            let got = states(&bert, &texts.iter().collect::<Vec<_>>(), &config);
            assert_eq!(got.len(), expected.len());
            let d = config.hidden_size;
            for (layer, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let mut row = 0;
                for (t, text) in texts.iter().enumerate() {
                    for i in 0..text.ids.len() * d {
                        let want = expected[t * longest * d + i];
                        let here = got[row + i];
                        assert!(
                            (want - here).abs() < 1e-5,
                            "{isa:?} {activation:?} layer {layer} text {t}: {here} for {want}"
                        );
                    }
                    row += text.ids.len() * d;
                }
            }
        }
    }
}

#[test]
fn packed_weights_come_back_as_they_were() {
    let config = tiny();
    for isa in Isa::available() {
        let (a, b) = (
            random_weights(&config),
            PackedBert::new(isa, random_weights(&config)).weights(),
        );
        for (a, b) in a.layers.iter().zip(&b.layers) {
            let linears = [
                (&a.query, &b.query),
                (&a.key, &b.key),
                (&a.value, &b.value),
                (&a.up, &b.up),
                (&a.down, &b.down),
            ];
            for (a, b) in linears
                .into_iter()
                .chain([(&a.attention_output, &b.attention_output)])
            {
                assert!(a.weight == b.weight && a.bias == b.bias);
            }
        }
    }
}

#[test]
fn a_text_has_the_same_states_to_the_bit_in_any_company() {
    let config = tiny();
    for isa in Isa::available() {
        let bert = PackedBert::new(isa, random_weights(&config));
        let texts = texts(&[130, 64, 41, 14, 13, 2, 1]);
        let together = states(&bert, &texts.iter().collect::<Vec<_>>(), &config);
        let mut row = 0;
        for text in &texts {
            let alone = states(&bert, &[text], &config);
            let size = text.ids.len() * config.hidden_size;
            for (alone, together) in alone.iter().zip(&together) {
                assert_eq!(
                    alone[..],
                    together[row..row + size],
                    "{isa:?}, {} tokens",
                    text.ids.len()
                );
            }
            row += size;
        }
    }
}

#[test]
fn instruction_sets_with_fused_multiply_add_agree_to_the_bit() {
    let config = tiny();
    let texts = texts(&[130, 9]);
    let all: Vec<_> = Isa::available()
        .into_iter()
        .filter(|&isa| isa != Isa::Portable)
        .map(|isa| {
            states(
                &PackedBert::new(isa, random_weights(&config)),
                &texts.iter().collect::<Vec<_>>(),
                &config,
            )
        })
        .collect();
    for pair in all.windows(2) {
        assert!(pair[0] == pair[1], "AVX-512 and AVX2 differ");
    }
}

fn fixture_tokenizer() -> TextTokenizer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert/tokenizer.json");
    let architecture = Architecture::Bert(BertConfig {
        vocab_size: 64,
        ..tiny()
    });
    TextTokenizer::parse(&file, &std::fs::read(&file).unwrap(), &architecture, false).unwrap()
}

/// Texts longer than what is looked at first, of everything that could make a cut show.
pub(super) fn long_texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("tree ".to_string()),
        4 => Just("leaves".to_string()),
        2 => Just(" ".to_string()),
        1 => "[a-z]{1,8}",
        1 => "[a-z]{90,130}",
        1 => Just("e\u{301}\u{302}".to_string()),
        1 => Just("中文".to_string()),
        1 => Just("’s, ".to_string()),
        1 => prop_oneof![Just("\u{b}"), Just("\u{85}"), Just("\u{2003}"), Just("\u{200b}"), Just("\n"), Just("👩‍👧")].prop_map(str::to_string),
    ];
    (proptest::collection::vec(piece, 1..30), 1usize..600)
        .prop_map(|(pieces, times)| pieces.concat().repeat(times))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn reading_only_the_beginning_of_a_long_text_changes_none_of_its_first_tokens(text in long_texts(), limit in 5usize..41) {
        let tokenizer = fixture_tokenizer();
        let all = tokenizer.raw(text.trim()).unwrap();
        let got = tokenizer.tokens("", None, &text, Template::Text, limit).unwrap();
        match got {
            None => prop_assert!(all.is_empty()),
            Some(got) => {
                let kept = all.len().min(limit - 2);
                prop_assert_eq!(&got.ids[1..got.ids.len() - 1], &all[..kept]);
                prop_assert_eq!(got.truncated, all.len() > kept);
            }
        }
    }
}

/// Both ways of encoding, over texts of several lengths and more than one batch: on a device each text has the vectors
/// that it has on the CPU, up to rounding.
#[test]
fn a_device_of_burn_gives_the_vectors_of_the_cpu() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert");
    let words = ["the", "tree", "keeps", "leaves", "before", "vector", "log"];
    let texts: Vec<String> = (0..40)
        .map(|i| {
            (0..1 + i * i % 37)
                .map(|j| words[(i * 3 + j) % words.len()])
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let passages: Vec<Passage> = texts.iter().map(|text| Passage { title: None, text }).collect();
    let home = tempfile::tempdir().unwrap();
    let plain = Encoder::from_folder(folder).unwrap();
    let words = Lexical::count(&plain, &passages, &LexicalOptions::default()).unwrap();
    let weighing = plain.save_with_lexical(&words, home.path().join("weighing"));
    for (encoder, pooling, normalize) in [
        (plain, Pooling::Mean, true),
        (weighing.unwrap(), Pooling::Cls, false),
    ] {
        let on_cpu = encoder.pooling(pooling).normalize(normalize).layers([2, 0]);
        let on_device = on_cpu.clone().on(Device::flex(), true).unwrap();
        let done = std::sync::atomic::AtomicUsize::new(0);
        let progress = |now: usize, all: usize| {
            assert!(now <= all);
            done.store(now, std::sync::atomic::Ordering::Relaxed);
        };
        let options = EncodeOptions {
            progress: Some(&progress),
            ..EncodeOptions::default()
        };
        let (a, b) = (
            on_cpu
                .encode_documents(&passages, &EncodeOptions::default())
                .unwrap(),
            on_device.encode_documents(&passages, &options).unwrap(),
        );
        assert_eq!(done.into_inner(), texts.len());
        assert_eq!(
            (a.n, a.m, &a.tokens, &a.truncated),
            (b.n, b.m, &b.tokens, &b.truncated)
        );
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(&a.vectors, &b.vectors), "{pooling:?}");
        let asked = ["leaves of the tree", "log"];
        let (a, b) = (
            on_cpu.encode_queries(&asked).unwrap(),
            on_device.encode_queries(&asked).unwrap(),
        );
        assert!(
            a.vectors.len() == b.vectors.len() && close(&a.vectors, &b.vectors),
            "{pooling:?}"
        );
    }
    let raised = std::sync::atomic::AtomicBool::new(true);
    let options = EncodeOptions {
        cancel: Some(&raised),
        ..EncodeOptions::default()
    };
    let on_device = Encoder::from_folder(folder)
        .unwrap()
        .on(Device::flex(), true)
        .unwrap();
    let cancelled = on_device.encode_documents(&passages, &options);
    assert!(matches!(cancelled, Err(ModelError::Cancelled { .. })));
}
