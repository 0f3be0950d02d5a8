use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::super::architecture::Architecture;
use super::super::config::Activation;
use super::super::lanes::Isa;
use super::super::settings::Template;
use super::super::tests::{Numbers, long_texts, texts};
use super::super::tokens::{TextTokenizer, Tokens};
use super::super::weights::LinearWeights;
use super::position::bucket;
use super::*;

pub(crate) fn tiny(activation: Activation, gated: bool) -> T5Config {
    T5Config {
        d_model: 36,
        d_kv: 7,
        d_ff: 45,
        num_layers: 3,
        num_heads: 3,
        vocab_size: 50,
        relative_attention_num_buckets: 10,
        relative_attention_max_distance: 40,
        layer_norm_epsilon: 1e-5,
        activation,
        gated,
        n_positions: 512,
    }
}

pub(crate) fn random_weights(config: &T5Config) -> T5Weights {
    let mut r = Numbers(5);
    let (d, inner, wide) = (config.d_model, config.attention_size(), config.d_ff);
    let norm = |r: &mut Numbers| -> Vec<f32> { r.many(d, 0.3).iter().map(|x| 1.0 + x).collect() };
    let linear = |r: &mut Numbers, output: usize, input: usize| {
        LinearWeights::without_bias(r.many(output * input, 0.4))
    };
    let layers = (0..config.num_layers)
        .map(|_| T5Layer {
            attention_norm: norm(&mut r),
            query: linear(&mut r, inner, d),
            key: linear(&mut r, inner, d),
            value: linear(&mut r, inner, d),
            output: linear(&mut r, d, inner),
            dense_norm: norm(&mut r),
            up: linear(&mut r, wide, d),
            gate: config.gated.then(|| linear(&mut r, wide, d)),
            down: linear(&mut r, d, wide),
        })
        .collect();
    T5Weights {
        words: r.many(config.vocab_size * d, 1.0),
        distances: r.many(config.relative_attention_num_buckets * config.num_heads, 1.0),
        layers,
        norm: norm(&mut r),
        config: config.clone(),
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

#[test]
fn every_distance_is_in_the_references_bucket() {
    for case in json("distances.json").as_array().unwrap() {
        let config = T5Config {
            relative_attention_num_buckets: case["buckets"].as_u64().unwrap() as usize,
            relative_attention_max_distance: case["farthest"].as_u64().unwrap() as usize,
            ..tiny(Activation::Relu, false)
        };
        for (side, sign) in [("before", -1), ("behind", 1)] {
            let runs: Vec<(isize, usize)> = serde_json::from_value(case[side].clone()).unwrap();
            for distance in 0..2000 {
                let run = runs.iter().rev().find(|(first, _)| *first <= distance).unwrap();
                let got = bucket(&config, sign * distance);
                assert_eq!(got, run.1, "{case} {distance} {side}");
            }
        }
    }
}

fn states(model: &PackedT5, texts: &[&Tokens], config: &T5Config) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    model.hidden_states(texts, config.num_layers, &mut model.scratch(), |_, layer| {
        all.push(layer.to_vec());
    });
    all
}

#[test]
fn a_text_has_the_same_states_to_the_bit_in_any_company() {
    for gated in [false, true] {
        let config = tiny(Activation::GeluNew, gated);
        for isa in Isa::available() {
            let model = PackedT5::new(isa, random_weights(&config));
            let texts = texts(&[130, 64, 41, 14, 2, 1]);
            let together = states(&model, &texts.iter().collect::<Vec<_>>(), &config);
            let mut row = 0;
            for text in &texts {
                let size = text.ids.len() * config.d_model;
                for (alone, together) in states(&model, &[text], &config).iter().zip(&together) {
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
}

#[test]
fn instruction_sets_agree() {
    let config = tiny(Activation::GeluNew, true);
    let texts = texts(&[130, 9]);
    let all: Vec<_> = Isa::available()
        .into_iter()
        .map(|isa| {
            let model = PackedT5::new(isa, random_weights(&config));
            (isa, states(&model, &texts.iter().collect::<Vec<_>>(), &config))
        })
        .collect();
    for pair in all.windows(2) {
        if pair[1].0 == Isa::Portable {
            let (a, b) = (pair[0].1.concat(), pair[1].1.concat());
            let scale = a.iter().fold(1.0f32, |m, x| m.max(x.abs()));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * scale));
        } else {
            assert!(pair[0].1 == pair[1].1, "AVX-512 and AVX2 differ");
        }
    }
}

#[test]
fn packed_weights_come_back_as_they_were() {
    for gated in [false, true] {
        let weights = random_weights(&tiny(Activation::Relu, gated));
        for isa in Isa::available() {
            let back = PackedT5::new(isa, random_weights(&weights.config)).weights();
            assert!(weights.tensors() == back.tensors());
        }
    }
}

fn fixture_tokenizer() -> TextTokenizer {
    let file = fixture("t5-tokenizer.json");
    let architecture = Architecture::T5(T5Config {
        vocab_size: 100,
        ..tiny(Activation::Relu, false)
    });
    TextTokenizer::parse(&file, &std::fs::read(&file).unwrap(), &architecture, false).unwrap()
}

#[test]
fn tokens_of_texts_and_pairs_are_the_references() {
    let tokenizer = fixture_tokenizer();
    let expected = json("t5-relu/expected.json");
    let ids = |case: &Value| -> Vec<u32> { serde_json::from_value(case["ids"].clone()).unwrap() };
    for case in expected["samples"].as_array().unwrap() {
        let got = tokenizer.tokens("", None, case["text"].as_str().unwrap(), Template::Text, 512);
        assert_eq!(got.unwrap().unwrap().ids, ids(case));
    }
    for case in expected["pairs"].as_array().unwrap() {
        let most = case["max_tokens"].as_u64().unwrap() as usize;
        let (title, text) = (case["title"].as_str(), case["text"].as_str().unwrap());
        let got = tokenizer.tokens("", title, text, Template::TitleAndText, most);
        assert_eq!(got.unwrap().unwrap().ids, ids(case), "{case}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn reading_only_the_beginning_of_a_long_text_changes_none_of_its_first_tokens(text in long_texts(), limit in 5usize..41) {
        let tokenizer = fixture_tokenizer();
        let all = tokenizer.raw(text.trim()).unwrap();
        let got = tokenizer.tokens("", None, &text, Template::Text, limit).unwrap();
        match got {
            None => prop_assert!(all.is_empty()),
            Some(got) => {
                let kept = all.len().min(limit - 1);
                prop_assert_eq!(&got.ids[..got.ids.len() - 1], &all[..kept]);
                prop_assert_eq!(got.truncated, all.len() > kept);
            }
        }
    }
}
