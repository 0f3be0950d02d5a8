use super::*;
use crate::encoder::Architecture;

#[derive(Deserialize)]
struct T5Fixtures {
    every: usize,
    cases: Vec<T5Case>,
}

#[derive(Deserialize)]
struct T5Case {
    model: String,
    texts: Vec<Vec<u32>>,
    layers: Vec<usize>,
    weights: Vec<f32>,
    value: f64,
    gradients: BTreeMap<String, Vec<f32>>,
}

#[test]
fn gradients_of_all_parameters_of_a_t5_are_pytorchs() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let read = |name: &str| std::fs::read(fixtures.join(name)).unwrap();
    let all: T5Fixtures = serde_json::from_slice(&read("t5-training.json")).unwrap();
    for case in all.cases {
        let file = |name: &str| format!("models/{}/{name}", case.model);
        let config = serde_json::from_slice(&read(&file("config.json"))).unwrap();
        let architecture = Architecture::parse(&fixtures, &config).unwrap();
        let weights = Weights::parse(&fixtures, &read(&file("model.safetensors")), &architecture).unwrap();
        let texts = tokens(&case.texts);
        let head = Head::Layers {
            layers: case.layers.clone(),
            pooling: Pooling::Mean,
            normalize: false,
        };
        for isa in Isa::available() {
            let network = Network::new(isa, Precision::Single, &weights);
            let (value, gradient) = gradient(&network, &head, &refs(&texts), None, &case.weights);
            assert!((value - case.value).abs() < 1e-4, "{value} for {}", case.value);
            assert_pytorchs(&network, &gradient, &case.gradients, all.every);
        }
    }
}

#[test]
fn gradients_of_a_t5_are_slopes_gated_or_not() {
    for (activation, gated) in [(Activation::Relu, false), (Activation::GeluNew, true)] {
        let config = t5::tests::tiny(activation, gated);
        let weights = Weights::T5(t5::tests::random_weights(&config));
        let rates = [(0.0, 0.0), (0.3, 0.4)];
        assert_slopes(weights, &rates[..], !gated, &format!("{config:?}"));
    }
}
