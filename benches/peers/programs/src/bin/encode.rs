//! Our encoder: `encode time MODEL TEXTS.json MAX_TOKENS THREADS` serves runs over all texts;
//! `encode hidden MODEL TEXTS.json MAX_TOKENS THREADS OUT` writes every hidden state to OUT as
//! f32, one text after another, `[layer, token, D]`, layer 0 being the embeddings.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use stratal::{EncodeOptions, Encoder, Passage};
use stratal_peers::{argument, serve, tell, timed};

fn main() {
    let texts = std::fs::read(argument::<PathBuf>(3, "file of texts")).expect("the texts can be read");
    let texts: Vec<String> = serde_json::from_slice(&texts).expect("the texts are a list");
    let passages: Vec<Passage> = texts.iter().map(|text| Passage { title: None, text }).collect();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(argument(5, "number of threads"))
        .build();
    let encoder = Encoder::from_folder(argument::<PathBuf>(2, "model folder"))
        .expect("the folder holds an encoder")
        .max_tokens(argument(4, "limit of tokens"))
        .pool(Arc::new(pool.expect("threads start")));
    match argument::<String>(1, "mode").as_str() {
        "time" => {
            time(&encoder, &passages[..passages.len().min(200)]);
            serve(json!({}), || time(&encoder, &passages));
        }
        "hidden" => tell(&hidden(
            &encoder,
            &passages,
            &argument(6, "file for hidden states"),
        )),
        other => panic!("unknown mode {other:?}"),
    }
}

fn time(encoder: &Encoder, passages: &[Passage]) -> Value {
    let (embeddings, mut spent) = timed(|| encoder.encode_documents(passages, &EncodeOptions::default()));
    let vectors = embeddings.expect("the texts are good").vectors;
    spent["checksum"] = json!(vectors.iter().map(|value| f64::from(value.abs())).sum::<f64>());
    spent
}

fn hidden(encoder: &Encoder, passages: &[Passage], out: &PathBuf) -> Value {
    let mut out = BufWriter::new(std::fs::File::create(out).expect("the file can be made"));
    let dimension = encoder.dimension();
    let (mut tokens, mut layers) = (Vec::new(), 0);
    for passage in passages {
        let states = encoder.hidden_states(*passage).expect("the text is good");
        tokens.push(states[0].len() / dimension);
        layers = states.len();
        for value in states.iter().flatten() {
            out.write_all(&value.to_le_bytes()).expect("room on the disk");
        }
    }
    out.flush().expect("room on the disk");
    json!({ "tokens": tokens, "layers": layers, "dimension": dimension })
}
