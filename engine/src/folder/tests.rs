//! Model folders as people have them, against transformers: recorded by `make_folders.py` in
//! `tests/golden/folders/variants.json`. Each folder gives transformers' numbers, or is refused
//! with the name of the key or tensor.

use std::path::Path;

use serde_json::Value;
use tch::{Device, Kind};

use crate::config::ModelConfig;
use crate::golden;
use crate::tokenizer::Tokenizer;
use crate::{folder, forced};

/// Largest distance of a log-probability in f32.
const TOLERANCE: f32 = 1e-4;

/// Writes the files of a variant.
pub(crate) fn write(dir: &Path, files: &Value, common: &Value) {
    for (name, content) in files.as_object().unwrap() {
        let path = dir.join(name);
        if let Some(blob) = content.get("weights") {
            let blob = golden::path("folders/weights").join(blob.as_str().unwrap());
            std::fs::copy(blob, &path).unwrap();
            continue;
        }
        let text = match content {
            Value::String(_) => common[name].to_string(),
            other => match other.get("text") {
                Some(text) => text.as_str().unwrap().to_owned(),
                None => other.to_string(),
            },
        };
        std::fs::write(path, text).unwrap();
    }
}

/// Log-probabilities of the sequence after its first token, or the refusal.
fn logprobs(dir: &Path, sequence: &[u32]) -> Result<Vec<f32>, String> {
    let files = folder::open(dir).map_err(|error| error.to_string())?;
    let model = files.decoder(Device::Cpu, Kind::Float).map_err(|error| error.to_string())?;
    forced::logprobs(&model, &sequence[..1], &sequence[1..]).map_err(|error| error.to_string())
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn folders_give_the_numbers_of_transformers_or_are_refused_by_name() {
    let golden = golden::read("folders/variants.json");
    let sequence = golden::ids(&golden["sequence"]);
    let variants = golden["variants"].as_object().unwrap();
    assert!(variants.len() >= 60);
    let (mut wrong, mut n_equal, mut n_refused) = (Vec::new(), 0, 0);
    for (name, variant) in variants {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &variant["files"], &golden["common"]);
        let seen = logprobs(dir.path(), &sequence);
        let (names, may_refuse) = (texts(&variant["names"]), texts(&variant["may_refuse"]));
        let is_named = |error: &str, names: &[&str]| {
            !error.contains('\n') && names.iter().any(|name| error.contains(name))
        };
        let problem = match (&seen, variant["logprobs"].is_null()) {
            (Ok(seen), false) => {
                let wanted = golden::numbers(&variant["logprobs"]);
                let off = seen.iter().zip(&wanted).map(|(a, b)| (a - b).abs());
                let off = off.fold(0.0, f32::max);
                n_equal += 1;
                (off >= TOLERANCE || seen.len() != wanted.len()).then(|| format!("{off} off"))
            }
            (Err(error), false) => {
                n_refused += 1;
                (!is_named(error, &may_refuse)).then(|| error.clone())
            }
            (Err(error), true) => {
                n_refused += 1;
                let names = [&names[..], &may_refuse].concat();
                (!is_named(error, &names)).then(|| error.clone())
            }
            // where transformers fails for reasons of its own
            (Ok(_), true) if variant["may_load"] == true => None,
            (Ok(_), true) => Some("loads".to_owned()),
        };
        wrong.extend(problem.map(|problem| format!("{name}: {problem}")));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), variants.len(), wrong.join("\n"));
    assert!(n_equal >= 90, "{n_equal} equal, {n_refused} refused");
}

#[test]
fn folders_have_the_special_and_added_tokens_of_transformers() {
    let golden = golden::read("folders/variants.json");
    let mut n_checked = 0;
    for (name, variant) in golden["variants"].as_object().unwrap() {
        let Some(wanted) = variant["tokenizer"].as_object() else { continue };
        let Some(wanted_ids) = wanted.get("token_ids") else { continue };
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &variant["files"], &golden["common"]);
        let tokenizer = match Tokenizer::from_folder(dir.path()) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                let error = error.to_string();
                let named = texts(&variant["tokenizer_may_refuse"]);
                assert!(named.iter().any(|name| error.contains(name)), "{name}: {error}");
                continue;
            }
        };
        let seen = tokenizer.encode(wanted["text"].as_str().unwrap()).unwrap();
        assert_eq!(seen, golden::ids(wanted_ids), "{name}");
        assert_eq!(tokenizer.decode(&seen, true), wanted["decoded"].as_str().unwrap(), "{name}");
        let bos = wanted["bos_token"].as_str();
        assert_eq!(tokenizer.bos_id(), bos.and_then(|bos| tokenizer.token_id(bos)), "{name}");
        let eos = wanted["eos_token"].as_str().and_then(|eos| tokenizer.token_id(eos));
        assert_eq!(tokenizer.eos_ids(), Vec::from_iter(eos), "{name}");
        n_checked += 1;
    }
    assert!(n_checked >= 60, "{n_checked}");
}

#[test]
fn written_folders_give_the_same_numbers_again() {
    let golden = golden::read("folders/variants.json");
    let sequence = golden::ids(&golden["sequence"]);
    let names = [
        "qwen2: yarn beside rope_parameters",
        "qwen2: yarn truncate false",
        "llama: tied with another head",
        "llama: rope_parameters llama3",
        "qwen2: sliding window beyond the layers",
        "llama: base model without prefix, tied",
        "qwen2: added_tokens.json",
        "qwen2: qwen3 with biases",
        "llama: mistral",
        "llama: mistral with a window as long as the context",
    ];
    for name in names {
        let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let variant = &golden["variants"][name];
        write(dir.path(), &variant["files"], &golden["common"]);
        let files = folder::open(dir.path()).unwrap();
        let weights = files.decoder(Device::Cpu, Kind::Float).unwrap().to_weights(Kind::Float);
        folder::save(out.path(), &files.config, &weights, &files.tokenizer).unwrap();
        let wanted = golden::numbers(&variant["logprobs"]);
        let seen = logprobs(out.path(), &sequence).unwrap();
        let off = seen.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < TOLERANCE, "{name}: {off}");
        let again: ModelConfig = folder::open_config(out.path()).unwrap();
        assert_eq!(again.rope_scaling, files.config.rope_scaling, "{name}");
        let text = variant["tokenizer"]["text"].as_str().unwrap();
        let tokenizer = Tokenizer::from_folder(out.path()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), files.tokenizer.encode(text).unwrap());
    }
}

#[test]
fn folders_of_gguf_files_beside_a_config_and_of_slow_tokenizers_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| std::fs::write(dir.path().join(name), "{}").unwrap();
    write("config.json");
    write("m-Q4_K_M.gguf");
    assert_eq!(super::gguf_at(dir.path()).unwrap(), Some(dir.path().join("m-Q4_K_M.gguf")));
    write("m-Q8_0.gguf");
    let message = super::gguf_at(dir.path()).unwrap_err().to_string();
    assert!(message.ends_with("2 .gguf files in this folder; name one of them"), "{message}");
    write("model.safetensors");
    assert_eq!(super::gguf_at(dir.path()).unwrap(), None);
    write("vocab.json");
    let message = Tokenizer::from_folder(dir.path()).err().unwrap().to_string();
    assert!(
        message.contains("no tokenizer.json in this folder; transformers writes it"),
        "{message}"
    );
}
