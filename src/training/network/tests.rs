use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::encoder::BertConfig;
use crate::encoder::config::Activation;
use crate::encoder::t5;
use crate::encoder::tests::{random_weights, texts, tiny};
use crate::encoder::{Encoder, Pooling, Weights};

mod t5_gradients;

#[derive(Deserialize)]
struct Fixtures {
    network: Case,
}

#[derive(Deserialize)]
struct Case {
    texts: Vec<Vec<u32>>,
    layers: Vec<usize>,
    every: usize,
    cases: Vec<Gradients>,
}

#[derive(Deserialize)]
struct Gradients {
    pooling: Pooling,
    normalize: bool,
    weights: Vec<f32>,
    value: f64,
    gradients: BTreeMap<String, Vec<f32>>,
}

/// The sum of vectors times weights, and the weights as its gradient.
fn seeded(vectors: &Vectors, weights: &[f32]) -> (f64, Vectors) {
    let value = vectors
        .data
        .iter()
        .zip(weights)
        .map(|(&x, &w)| f64::from(x) * f64::from(w))
        .sum();
    let mut gradient = vectors.zeros();
    gradient.data.copy_from_slice(weights);
    (value, gradient)
}

fn gradient(
    network: &Network,
    head: &Head,
    texts: &[&Tokens],
    dropout: Option<Dropout<'_>>,
    weights: &[f32],
) -> (f64, Vec<f32>) {
    let mut pass = Pass::new();
    let mut gradient = vec![0.0; network.layout.len()];
    network.forward(texts, dropout, true, &mut pass);
    let vectors = head.vectors(&pass, network.dimension());
    let (value, seeds) = seeded(&vectors, weights);
    network.backward(texts, &mut pass, &mut gradient, |l, pass, hidden| {
        head.backward(pass, &seeds, l, hidden)
    });
    (value, gradient)
}

fn refs(texts: &[Tokens]) -> Vec<&Tokens> {
    texts.iter().collect()
}

fn tokens(texts: &[Vec<u32>]) -> Vec<Tokens> {
    let tokens = |ids: &Vec<u32>| Tokens {
        ids: ids.clone(),
        types: Vec::new(),
        truncated: false,
    };
    texts.iter().map(tokens).collect()
}

/// Every tensor's gradient, of which the fixture has each `every`th number, to 1e-4 of its largest.
fn assert_pytorchs(network: &Network, gradient: &[f32], want: &BTreeMap<String, Vec<f32>>, every: usize) {
    let got = network.layout.weights(gradient);
    let got = got.tensors();
    assert_eq!(got.len(), want.len());
    for (name, _, got) in got {
        let want = &want[&name];
        let scale = want.iter().fold(1.0f32, |a, b| a.max(b.abs()));
        assert_eq!(got.len().div_ceil(every), want.len(), "{name}");
        for (got, want) in got.iter().step_by(every).zip(want) {
            assert!(
                (got - want).abs() < 1e-4 * scale,
                "{:?} {name}: {got} for {want}",
                network.isa
            );
        }
    }
}

#[test]
fn gradients_of_all_parameters_are_pytorchs() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let case: Fixtures =
        serde_json::from_slice(&std::fs::read(format!("{fixtures}/training.json")).unwrap()).unwrap();
    let case = case.network;
    let encoder = Encoder::from_folder(format!("{fixtures}/bert")).unwrap();
    let texts = tokens(&case.texts);
    for isa in Isa::available() {
        let network = Network::new(isa, Precision::Single, &encoder.weights());
        for want in &case.cases {
            let head = Head::Layers {
                layers: case.layers.clone(),
                pooling: want.pooling,
                normalize: want.normalize,
            };
            let (value, gradient) = gradient(&network, &head, &refs(&texts), None, &want.weights);
            assert!((value - want.value).abs() < 1e-4, "{value} for {}", want.value);
            assert_pytorchs(&network, &gradient, &want.gradients, case.every);
        }
    }
}

/// One of each architecture, with three layers of 36.
fn both() -> [Weights; 2] {
    let t5 = t5::tests::tiny(Activation::GeluNew, true);
    [
        Weights::Bert(random_weights(&tiny())),
        Weights::T5(t5::tests::random_weights(&t5)),
    ]
}

/// `rates` are those of dropout and of attention's weights, `kinks` those of ReLU.
fn assert_slopes(weights: Weights, rates: &[(f32, f32)], kinks: bool, what: &str) {
    let texts = texts(&[5, 9]);
    let head = Head::Layers {
        layers: vec![3, 1],
        pooling: Pooling::Mean,
        normalize: false,
    };
    let mut network = Network::new(Isa::detect(), Precision::Single, &weights);
    let weights: Vec<f32> = (0..4 * network.dimension())
        .map(|i| ((i * 37 % 11) as f32 - 5.0) / 5.0)
        .collect();
    for &(rate, attention) in rates {
        let dropout = Some(Dropout {
            rate,
            attention,
            keys: &[5, 6],
        });
        let (_, got) = gradient(&network, &head, &refs(&texts), dropout, &weights);
        let mut tried = 0;
        for at in (0..network.layout.len()).step_by(131) {
            let before = network.parameters[at];
            let mut value = |step: f32| {
                network.parameters[at] = before + step;
                network.pack();
                gradient(&network, &head, &refs(&texts), dropout, &weights).0
            };
            // Where widths differ a kink of ReLU lies between, and there is no slope to compare with. One that lies
            // within the second width shows in what is left of the slope on each side.
            let wide = (value(4e-3) - value(-4e-3)) / 8e-3;
            let (ahead, behind) = (value(2e-3), value(-2e-3));
            let narrow = (ahead - behind) / 4e-3;
            let middle = value(0.0);
            let bend = (ahead - 2.0 * middle + behind) / 2e-3;
            let bent = kinks && bend.abs() > 2e-2 * narrow.abs().max(1.0);
            if bent || (wide - narrow).abs() > 5e-3 * narrow.abs().max(1.0) {
                continue;
            }
            tried += usize::from(got[at] != 0.0);
            let want = narrow.max(-1e9);
            assert!(
                (f64::from(got[at]) - want).abs() < 1e-2 * want.abs().max(1.0),
                "{what} dropout {rate} and {attention} {}: {} for {want}",
                network.layout.name(at),
                got[at]
            );
        }
        assert!(tried > 100, "{what}: {tried} parameters were compared");
    }
}

#[test]
fn gradients_are_slopes_for_every_activation_with_and_without_dropout() {
    for activation in [Activation::Gelu, Activation::GeluNew, Activation::Relu] {
        let config = BertConfig { activation, ..tiny() };
        // What is dropped of attention has nothing to do with the activation.
        let rates = [(0.0, 0.0), (0.3, 0.0), (0.2, 0.4)];
        let rates = &rates[..if activation == Activation::Gelu { 3 } else { 2 }];
        let weights = Weights::Bert(random_weights(&config));
        let kinks = activation == Activation::Relu;
        assert_slopes(weights, rates, kinks, &format!("{activation:?}"));
    }
}

/// B83: what a text's dropout is does not depend on the chunk it is in, so chunks add up to the whole.
#[test]
fn chunks_of_a_batch_give_the_gradient_of_the_whole() {
    both().iter().for_each(assert_chunks_add_up);
}

fn assert_chunks_add_up(weights: &Weights) {
    let network = Network::new(Isa::detect(), Precision::Single, weights);
    let texts = texts(&[5, 130, 17, 1, 60, 33]);
    let keys: Vec<u64> = (10..16).collect();
    let d = network.dimension();
    for head in [
        Head::Layers {
            layers: vec![3, 0],
            pooling: Pooling::Cls,
            normalize: true,
        },
        Head::Tokens {
            first: 2,
            normalize: false,
        },
    ] {
        let rows = |i: usize| {
            if matches!(head, Head::Tokens { .. }) {
                2.min(texts[i].ids.len())
            } else {
                2
            }
        };
        let starts: Vec<usize> = (0..=6).map(|i| (0..i).map(rows).sum()).collect();
        let weights: Vec<f32> = (0..starts[6] * d)
            .map(|i| ((i * 29 % 13) as f32 - 6.0) / 6.0)
            .collect();
        let dropout = Dropout {
            rate: 0.1,
            attention: 0.2,
            keys: &keys,
        };
        let (_, whole) = gradient(&network, &head, &refs(&texts), Some(dropout), &weights);
        for chunk in [1, 3, 5] {
            let mut pass = Pass::new();
            let mut sum = vec![0.0; network.layout.len()];
            for from in (0..6).step_by(chunk) {
                let to = (from + chunk).min(6);
                let part = refs(&texts[from..to]);
                let dropout = Dropout {
                    rate: 0.1,
                    attention: 0.2,
                    keys: &keys[from..to],
                };
                network.forward(&part, Some(dropout), true, &mut pass);
                let vectors = head.vectors(&pass, d);
                let (_, seeds) = seeded(&vectors, &weights[starts[from] * d..starts[to] * d]);
                network.backward(&part, &mut pass, &mut sum, |l, pass, hidden| {
                    head.backward(pass, &seeds, l, hidden)
                });
            }
            let top = whole.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            for (at, (a, b)) in whole.iter().zip(&sum).enumerate() {
                assert!(
                    (a - b).abs() < 1e-5 * top,
                    "chunk {chunk} {}: {b} for {a}",
                    network.layout.name(at)
                );
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let texts = texts(&[5, 130, 17, 1, 60, 33, 120]);
    let head = Head::Layers {
        layers: vec![3, 2],
        pooling: Pooling::Mean,
        normalize: true,
    };
    let weights: Vec<f32> = (0..14 * 36).map(|i| ((i * 29 % 13) as f32 - 6.0) / 6.0).collect();
    let run = |model: &Weights, threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let network = Network::new(Isa::detect(), Precision::Single, model);
            gradient(&network, &head, &refs(&texts), None, &weights).1
        })
    };
    for model in &both() {
        assert!(run(model, 1) == run(model, 3));
    }
}

#[test]
fn dropout_takes_its_share_and_keeps_the_sum() {
    let config = tiny();
    let isa = Isa::detect();
    let mut x = vec![1.0f32; 200 * 64];
    let keys: Vec<u64> = (0..200).map(crate::random::mix).collect();
    dropout::Drop::new(0.1).apply(isa, &mut x, 64, &keys, dropout::Site::Attention(1));
    let zeros = x.iter().filter(|&&x| x == 0.0).count() as f64 / x.len() as f64;
    assert!((zeros - 0.1).abs() < 0.01, "{zeros}");
    let mut other = vec![1.0f32; 200 * 64];
    dropout::Drop::new(0.1).apply(isa, &mut other, 64, &keys, dropout::Site::Output(1));
    let both = x
        .iter()
        .zip(&other)
        .filter(|(a, b)| **a == 0.0 && **b == 0.0)
        .count();
    assert!((0.005..0.015).contains(&(both as f64 / x.len() as f64)));
    assert!(config.hidden_size > 0);
}

/// Attention's weights keep their sum on the average, whatever is dropped of them; where nothing is, nothing changes.
#[test]
fn dropping_weights_of_attention_keeps_the_mean() {
    // A gate makes a product of what is dropped, so that the mean is off by more.
    let [bert, t5] = both();
    assert_dropping_keeps_the_mean(&bert, 0.1);
    assert_dropping_keeps_the_mean(&t5, 0.15);
}

fn assert_dropping_keeps_the_mean(weights: &Weights, limit: f64) {
    let network = Network::new(Isa::detect(), Precision::Single, weights);
    let texts = texts(&[9]);
    let head = Head::Layers {
        layers: vec![1],
        pooling: Pooling::Mean,
        normalize: false,
    };
    let vectors = |attention: f32, key: u64| {
        let mut pass = Pass::new();
        let dropout = Dropout {
            rate: 0.0,
            attention,
            keys: &[key],
        };
        network.forward(&refs(&texts), Some(dropout), false, &mut pass);
        head.vectors(&pass, network.dimension()).data
    };
    let whole = vectors(0.0, 1);
    assert_eq!(whole, vectors(0.0, 2));
    assert_eq!(vectors(0.2, 1), vectors(0.2, 1));
    assert_ne!(vectors(0.2, 1), vectors(0.2, 2));
    assert_ne!(vectors(0.2, 1), whole);
    let norm = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    let mut mean = vec![0.0f32; whole.len()];
    for key in 0..300 {
        let one = vectors(0.2, key);
        mean.iter_mut().zip(&one).for_each(|(sum, x)| *sum += x / 300.0);
    }
    let off: Vec<f32> = mean.iter().zip(&whole).map(|(a, b)| a - b).collect();
    assert!(
        norm(&off) < limit * norm(&whole),
        "{} of {}",
        norm(&off),
        norm(&whole)
    );
}

/// In bf16 the gradient points where that of f32 does; it is that of other weights by half a percent, no other function.
#[test]
fn gradients_in_half_precision_point_where_the_others_do() {
    // Scores that nothing scales are larger in this T5, and so is what rounding makes of them.
    let [bert, t5] = both();
    assert_half_points_where_single_does(&bert, 0.995, 0.03);
    assert_half_points_where_single_does(&t5, 0.99, 0.06);
}

fn assert_half_points_where_single_does(model: &Weights, least: f64, off: f64) {
    let texts = texts(&[5, 130, 17, 33]);
    let head = Head::Layers {
        layers: vec![3, 1],
        pooling: Pooling::Mean,
        normalize: true,
    };
    let weights: Vec<f32> = (0..8 * 36).map(|i| ((i * 29 % 13) as f32 - 6.0) / 6.0).collect();
    let dropout = Dropout {
        rate: 0.1,
        attention: 0.1,
        keys: &[1, 2, 3, 4],
    };
    let of = |precision| {
        let network = Network::new(Isa::detect(), precision, model);
        gradient(&network, &head, &refs(&texts), Some(dropout), &weights)
    };
    let (single, half) = (of(Precision::Single), of(Precision::Half));
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    let cosine = dot(&single.1, &half.1) / (dot(&single.1, &single.1) * dot(&half.1, &half.1)).sqrt();
    assert!(cosine > least, "{cosine}");
    assert!((single.0 - half.0).abs() < off * single.0.abs().max(1.0));
    match Precision::Half.is_in_bf16() {
        true => assert!(single.1 != half.1),
        false => assert!(single.1 == half.1, "without tiles it is computed in f32"),
    }
    assert!(of(Precision::Half).1 == half.1);
}
