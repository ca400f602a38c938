//! Model folders: opening the model at a path, and writing a model.
//!
//! A model is a folder in Hugging Face's layout, or one GGUF file. The formats of its parts are
//! known elsewhere.

pub mod served;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use joust_schema::atomic::{self, MARK};
use serde_json::{Value, json};
use tch::{Device, Kind};

use crate::config::ModelConfig;
use crate::config::keys::token_ids;
use crate::error::Error;
use crate::gguf;
use crate::json;
use crate::model::{Bucket, Decoder, Precision, TakeBucket};
use crate::tokenizer::{MORE_TEMPLATES, Tokenizer, as_is};
use crate::weights::gguf::{SplitName, is_gguf};
use crate::weights::safetensors::{INDEX, SINGLE};
use crate::weights::{self, Checkpoint, WeightMap};

/// The parts of a model as read from its files.
pub struct ModelFiles {
    /// Path of the folder or GGUF file.
    pub path: PathBuf,
    /// Constants of the model.
    pub config: ModelConfig,
    /// Tensors of the model, read when they are used.
    pub weights: Checkpoint,
    /// Tokenizer with its chat template.
    pub tokenizer: Tokenizer,
}

/// Reads a model: a folder with `config.json`, a GGUF file, or a folder with one GGUF file.
///
/// # Errors
/// [`Error::Io`], [`Error::BadFile`], [`Error::BadConfig`], [`Error::Unsupported`],
/// [`Error::Tokenizer`] or [`Error::Template`] for a missing, broken or unsupported file.
pub fn open(path: &Path) -> Result<ModelFiles, Error> {
    let (config, weights, tokenizer) = match gguf_at(path)? {
        Some(file) => gguf::open(&file)?,
        None => {
            let (config, tokenizer) = (open_config(path)?, Tokenizer::from_folder(path)?);
            let (config, weights) = settle(config, weights::safetensors::open_folder(path)?)
                .map_err(|error| error.of_model(path))?;
            (config, weights, tokenizer)
        }
    };
    Ok(ModelFiles { path: path.to_owned(), config, weights, tokenizer })
}

impl ModelFiles {
    /// Builds the model on `device` in `precision`.
    ///
    /// # Errors
    /// As [`Decoder::from_weights`]; the error names the model's path.
    pub fn decoder(
        &self,
        device: Device,
        precision: impl Into<Precision>,
    ) -> Result<Decoder, Error> {
        Decoder::from_weights(&self.config, &self.weights, device, precision)
            .map_err(|error| error.of_model(&self.path))
    }

    /// Checks that the files have all tensors of the model with the right shapes. Tensors are not
    /// read.
    ///
    /// # Errors
    /// As [`ModelFiles::decoder`].
    pub fn inspect(&self) -> Result<(), Error> {
        Decoder::inspect(&self.config, &self.weights).map_err(|error| error.of_model(&self.path))
    }

    /// Reads the model's parameters bucket by bucket, for `take`; see [`Decoder::drain_weights`].
    ///
    /// # Errors
    /// As [`ModelFiles::decoder`], and those of `take`.
    pub fn drain_buckets(
        &self,
        device: Device,
        kind: Kind,
        multiple: usize,
        take: &mut TakeBucket<'_>,
    ) -> Result<(Decoder, Vec<Bucket>), Error> {
        Decoder::drain_weights(&self.config, &self.weights, (device, kind), multiple, take)
            .map_err(|error| error.of_model(&self.path))
    }
}

/// Brings a checkpoint's names and its head into agreement with the configuration, as transformers
/// does.
///
/// # Errors
/// [`Error::Shape`] for an output head of another shape, [`Error::Tensor`] where one cannot be
/// read.
pub(crate) fn settle(
    mut config: ModelConfig,
    mut weights: Checkpoint,
) -> Result<(ModelConfig, Checkpoint), Error> {
    weights.rename(decoder_name);
    if config.tie_word_embeddings {
        config.tie_word_embeddings = settle_head(&config, &mut weights)?;
    }
    Ok((config, weights))
}

/// The name in a decoder of a tensor that was saved as part of a smaller or a larger model: of the
/// layers alone, or of a model with a wrapper around the decoder.
pub(crate) fn decoder_name(name: &str) -> Option<String> {
    const PREFIX: &str = "model.";
    const PARTS: [&str; 4] = ["model.layers.", "model.embed_tokens.", "model.norm.", "lm_head."];
    let is_known = |name: &str| PARTS.iter().any(|part| name.starts_with(part));
    let longer = format!("{PREFIX}{name}");
    match name.strip_prefix(PREFIX) {
        Some(shorter) if is_known(shorter) => Some(shorter.to_owned()),
        _ if is_known(name) => None,
        _ => is_known(&longer).then_some(longer),
    }
}

/// Whether the output head of a model with tied embeddings is its embedding: not if the checkpoint
/// has a head with other values. A head without embedding becomes the embedding.
fn settle_head(config: &ModelConfig, weights: &mut Checkpoint) -> Result<bool, Error> {
    const HEAD: &str = "lm_head.weight";
    const EMBEDDING: &str = "model.embed_tokens.weight";
    let Some(seen) = weights.shape(HEAD) else { return Ok(true) };
    if !weights.contains(EMBEDDING) {
        weights.rename(|name| (name == HEAD).then(|| EMBEDDING.to_owned()));
        return Ok(true);
    }
    let wanted = vec![config.vocab_size as i64, config.hidden_size as i64];
    if seen != wanted {
        return Err(Error::Shape { name: HEAD.to_owned(), seen, wanted });
    }
    let read = |name| Ok::<_, Error>(weights.read(name, Device::Cpu)?.f_to_kind(Kind::Float)?);
    let is_tied = read(HEAD)?.f_equal(&read(EMBEDDING)?)?;
    if !is_tied {
        tracing::warn!(
            "config.json says tie_word_embeddings, and lm_head.weight differs from the embedding; \
             as in transformers, the model keeps both."
        );
    }
    Ok(is_tied)
}

/// The GGUF file at or in `path`; none for a folder in Hugging Face's layout.
fn gguf_at(path: &Path) -> Result<Option<PathBuf>, Error> {
    let metadata = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if metadata.is_file() {
        return match is_gguf(path) {
            true => Ok(Some(path.to_owned())),
            false => Err(Error::bad_file(path, "not a model; wanted a folder or a .gguf file")),
        };
    }
    let entries = std::fs::read_dir(path).map_err(|source| Error::io(path, source))?;
    let entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // repositories of GGUF files often have the original's config.json beside them
    let has_ending =
        |ending: &str| entries.iter().any(|path| path.extension().is_some_and(|it| it == ending));
    let is_gguf_alone = has_ending("gguf") && !has_ending("safetensors");
    if path.join("config.json").exists() && !is_gguf_alone {
        return Ok(None);
    }
    // of a split model the first part stands for all
    let is_first = |path: &PathBuf| SplitName::parse(path).is_none_or(|name| name.part == 1);
    let all: Vec<PathBuf> = entries.iter().filter(|path| is_gguf(path)).cloned().collect();
    let mut files: Vec<PathBuf> = all.iter().filter(|path| is_first(path)).cloned().collect();
    if files.is_empty()
        && let Some(name) = all.first().and_then(|path| SplitName::parse(path))
    {
        files.push(name.path_of(1));
    }
    match files.len() {
        1 => Ok(files.pop()),
        0 if path.join("adapter_config.json").exists() => Err(Error::bad_file(
            path,
            "an adapter (adapter_config.json), not a model; merge it into its base model first: by \
             export.path of its run (--resume), or peft's merge_and_unload",
        )),
        0 => Err(Error::bad_file(
            path,
            "no model in this folder; wanted config.json or a .gguf file",
        )),
        n => {
            Err(Error::bad_file(path, format!("{n} .gguf files in this folder; name one of them")))
        }
    }
}

/// Checks that `dir` is free, empty, or holds a model that may be overwritten.
///
/// # Errors
/// [`Error::BadFile`] where `dir` is a file, holds files that belong to no model, or cannot be
/// created.
pub fn check_target(dir: &Path) -> Result<(), Error> {
    atomic::check_free(dir).map_err(|error| match error {
        joust_schema::Error::Io { path, source } => Error::io(path, source),
        error => Error::bad_file(dir, format!("cannot be written: {error}")),
    })?;
    if !dir.exists() {
        return Ok(());
    }
    if !dir.is_dir() {
        return Err(Error::bad_file(dir, "is a file; choose another path for the model"));
    }
    let bad = |what: &str| {
        Err(Error::bad_file(dir, format!("this folder holds {what}; choose another for the model")))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|source| Error::io(dir, source))? {
        let path = entry.map_err(|source| Error::io(dir, source))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_known = is_beside_weights(&name) || name.ends_with(".safetensors") || name == MARK;
        if !(path.is_file() && is_known || path.is_dir() && name == MORE_TEMPLATES) {
            return bad(&format!("{name}, which is part of no model"));
        }
        names.push(name);
    }
    let is_model = names.iter().any(|name| name == "config.json")
        && names.iter().any(|name| name.ends_with(".safetensors"));
    match is_model || names.is_empty() {
        true => Ok(()),
        false => bad("something that is no model"),
    }
}

/// Whether a file of a model is not a weight file: configuration, tokenizer, template or
/// documentation.
pub(crate) fn is_beside_weights(name: &str) -> bool {
    const DOCUMENTS: [&str; 4] = ["LICENSE", "NOTICE", "README", "USE_POLICY"];
    const FILES: [&str; 4] = ["vocab.txt", "merges.txt", ".gitattributes", as_is::FILE];
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    DOCUMENTS.iter().any(|document| name.starts_with(document))
        || FILES.contains(&name)
        || ["json", "jinja", "model", "tiktoken"].contains(&ending)
}

/// Checks that neither folder is, or lies in, the other.
///
/// # Errors
/// [`Error::BadFile`] where the folders overlap, [`Error::Io`] where `input` does not exist.
pub fn check_apart(input: &Path, output: &Path) -> Result<(), Error> {
    let real = |path: &Path| path.canonicalize().map_err(|source| Error::io(path, source));
    let input = real(input)?;
    // the output may not exist yet: its longest existing ancestor is resolved
    let mut existing = std::path::absolute(output).map_err(|source| Error::io(output, source))?;
    let mut rest = PathBuf::new();
    while !existing.exists() {
        let Some(name) = existing.file_name() else { break };
        rest = Path::new(name).join(rest);
        existing.pop();
    }
    let real_output = real(&existing)?.join(rest);
    match input.starts_with(&real_output) || real_output.starts_with(&input) {
        true => Err(Error::bad_file(
            output,
            format!("is {}, or one lies in the other; choose another folder", input.display()),
        )),
        false => Ok(()),
    }
}

/// Reads a model's constants, without its weights: of a folder with a `config.json`, or of the
/// header of a GGUF file.
///
/// # Errors
/// [`Error::Io`], [`Error::BadFile`], [`Error::BadConfig`] or [`Error::Unsupported`] for a missing,
/// broken or unsupported `config.json`, `generation_config.json` or GGUF file.
pub fn constants(path: &Path) -> Result<ModelConfig, Error> {
    match gguf_at(path)? {
        Some(file) => gguf::open_config(&file),
        None => open_config(path),
    }
}

/// As [`constants`], of a folder with a `config.json`.
///
/// # Errors
/// As [`constants`]; [`Error::BadFile`] for a file.
pub fn open_config(dir: &Path) -> Result<ModelConfig, Error> {
    if dir.is_file() {
        return Err(Error::bad_file(dir, "is a file; wanted a folder with a config.json"));
    }
    let path = dir.join("config.json");
    let mut config = ModelConfig::from_json(&path, &json::read(&path)?)?;
    // chat models often list further end tokens only for generation
    let path = dir.join("generation_config.json");
    if path.exists() {
        let generation = json::read(&path)?;
        if !generation.is_object() {
            return Err(Error::bad_file(&path, "generation_config.json is no JSON object"));
        }
        let ids = token_ids(generation.get("eos_token_id"))
            .ok_or_else(|| Error::bad_config(&path, "key `eos_token_id` is no token id"))?;
        for id in ids {
            if !config.eos_token_ids.contains(&id) {
                config.eos_token_ids.push(id);
            }
        }
        if let Value::Object(generation) = generation {
            config.kept.generation = generation;
        }
    }
    Ok(config)
}

/// Writes a model folder that transformers and vLLM load. The write is not atomic: the caller
/// renames the finished folder.
///
/// # Errors
/// [`Error::Io`]
pub fn save(
    dir: &Path,
    config: &ModelConfig,
    weights: &WeightMap,
    tokenizer: &Tokenizer,
) -> Result<(), Error> {
    let kind = weights.values().next().map_or(Kind::Float, tch::Tensor::kind);
    save_beside_weights(dir, config, kind, tokenizer)?;
    weights::write_file(&dir.join(SINGLE), weights)
}

/// Writes all files of a model folder but those of its weights, which have the format `kind`.
///
/// # Errors
/// [`Error::Io`]
pub fn save_beside_weights(
    dir: &Path,
    config: &ModelConfig,
    kind: Kind,
    tokenizer: &Tokenizer,
) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|source| Error::io(dir, source))?;
    json::write(&dir.join("config.json"), &config.to_json(kind))?;
    let mut generation = config.kept.generation.clone();
    if generation.is_empty() {
        generation.insert("_from_model_config".to_owned(), json!(true));
        generation.insert("bos_token_id".to_owned(), json!(config.bos_token_id));
    }
    generation.insert("eos_token_id".to_owned(), config.eos_json());
    json::write(&dir.join("generation_config.json"), &Value::Object(generation))?;
    tokenizer.save(dir)
}

/// The name of a weight file, from 0, of `n_files`.
pub fn weight_file_name(file: usize, n_files: usize) -> String {
    match n_files {
        1 => SINGLE.to_owned(),
        _ => format!("model-{:05}-of-{n_files:05}.safetensors", file + 1),
    }
}

/// Writes the list of the weight file of each tensor.
///
/// # Errors
/// [`Error::Io`]
pub fn save_index(
    dir: &Path,
    file_of: &BTreeMap<String, String>,
    n_bytes: usize,
) -> Result<(), Error> {
    let index = json!({ "metadata": { "total_size": n_bytes }, "weight_map": file_of });
    json::write(&dir.join(INDEX), &index)
}

#[cfg(test)]
pub(crate) mod tests;
