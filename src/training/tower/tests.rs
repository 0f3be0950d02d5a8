use burn::tensor::Device;

use super::*;
use crate::encoder::lanes::Isa;
use crate::encoder::tests::{random_weights, texts, tiny};
use crate::encoder::{BertConfig, Pooling, Weights};
use crate::training::network::Network;
use crate::training::options::Precision;

/// The same weights on slices and as a module on burn's CPU backend.
fn towers(config: &BertConfig) -> [Tower; 2] {
    let weights = Weights::Bert(random_weights(config));
    let network = Network::new(Isa::detect(), Precision::Single, &weights);
    let module = ModuleTower::new(&weights, false, &Device::flex()).unwrap();
    [
        Tower::Slices(Box::new(SliceTower::new(network))),
        Tower::Module(Box::new(module)),
    ]
}

fn gradient(tower: &Tower) -> Vec<f32> {
    match tower {
        Tower::Slices(tower) => tower.gradient().to_vec(),
        Tower::Module(tower) => tower.gradient(),
    }
}

/// Nothing differs by more than 1e-4 of the largest.
fn assert_close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let largest = a.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            (a - b).abs() < 1e-4 * largest,
            "{what}, {i}: {a} and {b}, of {largest}"
        );
    }
}

/// Numbers that stand for a loss's gradient.
fn seeds(of: &Vectors) -> Vectors {
    let mut seeds = of.zeros();
    for (i, x) in seeds.data.iter_mut().enumerate() {
        *x = ((i * 37 + i * i * 11) % 101) as f32 / 50.0 - 1.0;
    }
    seeds
}

fn sides<'a>(texts: &'a [&'a Tokens], head: &'a Head, chunk: usize, dropout: bool) -> Side<'a> {
    Side {
        texts,
        head,
        chunk,
        dropout: dropout.then_some(SideDropout {
            rate: 0.2,
            attention: 0.1,
            seed: 5,
        }),
        trains: true,
    }
}

/// One step of a tower: vectors, gradient and its square.
fn step(tower: &mut Tower, side: &Side<'_>) -> (Vec<f32>, Vec<f32>, f64) {
    let mut kept = Kept::new();
    let vectors = tower.forward(side, &mut kept).unwrap();
    tower.backward(side, &seeds(&vectors), &mut kept).unwrap();
    (vectors.data, gradient(tower), tower.square_norm(1).unwrap())
}

/// Every head, with and without dropout, in one chunk and in several: the module computes what the slices do, drops
/// what they drop, and has their gradients.
#[test]
fn a_module_has_the_vectors_and_gradients_of_slices() {
    let texts = texts(&[5, 40, 17, 1, 9]);
    let texts: Vec<&Tokens> = texts.iter().collect();
    let layers = |pooling, normalize| Head::Layers {
        layers: vec![3, 1],
        pooling,
        normalize,
    };
    let heads = [
        layers(Pooling::Cls, false),
        layers(Pooling::Mean, true),
        Head::Tokens {
            first: 4,
            normalize: true,
        },
        Head::Tokens {
            first: usize::MAX,
            normalize: false,
        },
    ];
    for head in &heads {
        for dropout in [false, true] {
            for chunk in [8, 2] {
                let what = format!("{head:?}, dropout {dropout}, chunks of {chunk}");
                let side = sides(&texts, head, chunk, dropout);
                let [mut slices, mut module] = towers(&tiny());
                let (a, b) = (step(&mut slices, &side), step(&mut module, &side));
                assert_close(&a.0, &b.0, &format!("{what}: vectors"));
                assert_close(&a.1, &b.1, &format!("{what}: gradients"));
                assert!((a.2 / b.2 - 1.0).abs() < 1e-4, "{what}: {} and {}", a.2, b.2);
            }
        }
    }
}

/// Some steps of AdamW with decay lead both to the same place, and a state that was read goes on there.
#[test]
fn a_module_is_updated_as_slices_are_and_goes_on_from_its_state() {
    let texts = texts(&[5, 12, 7]);
    let texts: Vec<&Tokens> = texts.iter().collect();
    let head = Head::Layers {
        layers: vec![3],
        pooling: Pooling::Mean,
        normalize: false,
    };
    let side = sides(&texts, &head, 8, true);
    let [mut slices, mut module] = towers(&tiny());
    for at in 1..=4 {
        if at == 3 {
            let state = module.state().unwrap();
            [_, module] = towers(&tiny());
            module.restore(state);
        }
        for tower in [&mut slices, &mut module] {
            step(tower, &side);
            tower.update(0.5, 1e-3, 0.1, at).unwrap();
        }
        // A gradient that is 0 but for rounding, as those of keys' biases are, moves its parameter by the whole rate
        // one way or the other; all others go together.
        let (a, b) = (slices.parameters().unwrap(), module.parameters().unwrap());
        let apart: Vec<f32> = a.iter().zip(&*b).map(|(a, b)| (a - b).abs()).collect();
        assert!(apart.iter().all(|apart| *apart < 2.1e-3 * at as f32), "step {at}");
        let astray = apart.iter().filter(|apart| **apart > 2e-5).count();
        assert!(
            astray * 50 < apart.len(),
            "step {at}: {astray} of {} went apart",
            apart.len()
        );
    }
    let (a, b) = (slices.state().unwrap(), module.state().unwrap());
    assert_close(&a.first, &b.first, "first moments");
    assert_close(&a.second, &b.second, "second moments");
}

/// What is no longer a number is named.
#[test]
fn a_module_says_which_tensor_left_the_numbers() {
    let texts = texts(&[5]);
    let texts: Vec<&Tokens> = texts.iter().collect();
    let head = Head::Layers {
        layers: vec![3],
        pooling: Pooling::Cls,
        normalize: false,
    };
    let side = sides(&texts, &head, 8, false);
    let [_, mut module] = towers(&tiny());
    step(&mut module, &side);
    let told = module.update(f64::NAN, 1e-3, 0.0, 7).unwrap_err().to_string();
    assert!(told.contains("step 7"), "{told}");
}
