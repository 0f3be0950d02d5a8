//! The identity, and copies that keep it.

use super::*;

// B90
#[test]
fn the_identity_follows_everything_that_changes_a_vector_and_nothing_else() {
    let folder = model();
    let encoder = Encoder::from_folder(folder.path()).unwrap();
    let identity = encoder.identity();
    assert_eq!(identity.hash.len(), 64);
    assert_eq!(encoder.clone().name("other").identity().hash, identity.hash);
    assert_eq!(Encoder::from_folder(folder.path()).unwrap().identity(), identity);
    let mut hashes = vec![identity.hash.clone()];
    let e = &encoder;
    for changed in [
        e.clone().layers([1]),
        e.clone().layers([2, 1]),
        e.clone().layers([1, 2]),
        e.clone().pooling(Pooling::Cls),
        e.clone().normalize(true),
        e.clone().template(Template::TitleAndText),
        e.clone().template(Template::TitleAndTextSegments),
        e.clone().max_tokens(39),
        e.clone().prompts("a", ""),
        e.clone().prompts("", "a"),
    ] {
        hashes.push(changed.identity().hash);
    }
    let file = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).unwrap();
    hashes.push(Encoder::from_folder(folder.path()).unwrap().identity().hash);
    edit(folder.path(), "tokenizer.json", "version", json!("1.1"));
    if let Ok(encoder) = Encoder::from_folder(folder.path()) {
        hashes.push(encoder.identity().hash);
    }
    edit(folder.path(), "config.json", "layer_norm_eps", json!(1e-5));
    edit(folder.path(), "tokenizer.json", "version", json!("1.0"));
    hashes.push(Encoder::from_folder(folder.path()).unwrap().identity().hash);
    let all = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), all);
}

// B90
#[test]
fn a_copy_with_the_saved_settings_is_the_same_encoder() {
    let folder = model();
    modules(
        folder.path(),
        &[("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")],
    );
    put(
        folder.path(),
        "sentence_bert_config.json",
        json!({ "max_seq_length": 20, "do_lower_case": true }),
    );
    let encoder = Encoder::from_folder(folder.path())
        .unwrap()
        .name("tiny")
        .layers([2, 1])
        .template(Template::TitleAndText)
        .prompts("q ", "");
    let saved = serde_json::to_string(encoder.settings()).unwrap();
    let kept = tempfile::tempdir().unwrap();
    let place = kept.path().join("models").join(encoder.identity().hash);
    encoder.copy_files_to(&place).unwrap();
    let settings: EncoderSettings = serde_json::from_str(&saved).unwrap();
    let again = Encoder::from_folder(&place).unwrap().with_settings(settings);
    assert_eq!(again.identity(), encoder.identity());
    assert_eq!(
        documents(&again, &["a tree"]).unwrap(),
        documents(&encoder, &["a tree"]).unwrap()
    );
    // The copy stands alone, and can be copied on.
    drop(folder);
    let further = kept.path().join("further");
    again.copy_files_to(&further).unwrap();
    assert!(matches!(
        encoder.copy_files_to(kept.path().join("late")),
        Err(ModelError::Io { .. })
    ));
    fs::write(further.join("tokenizer.json"), "{}").unwrap();
    fs::write(place.join("model.safetensors"), "changed since").unwrap();
    assert!(matches!(
        again.copy_files_to(kept.path().join("no")),
        Err(ModelError::SourceChanged { .. })
    ));
}
