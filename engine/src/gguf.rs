//! A model from one GGUF file: its constants, its tokenizer and its dequantised tensors. The
//! formats of these parts are known elsewhere.

use std::path::Path;

use serde_json::{Value, json};
use tch::Tensor;

use crate::config::ModelConfig;
use crate::error::Error;
use crate::tokenizer::{Tokenizer, gguf::tokenizer_from_gguf};
use crate::weights::gguf::{GgufFile, hf_name};
use crate::weights::{Checkpoint, WeightMap};

/// Reads a GGUF file; quantised tensors are dequantised to f32.
///
/// # Errors
/// [`Error::BadFile`] for a broken file, [`Error::Unsupported`] for architectures, tokenizers and
/// tensor types that the engine cannot read.
pub(crate) fn open(path: &Path) -> Result<(ModelConfig, Checkpoint, Tokenizer), Error> {
    let file = GgufFile::open(path)?;
    let config = ModelConfig::from_json(path, &file.hf_config()?)?;
    let mut weights = WeightMap::new();
    for info in file.tensors() {
        // tensors without a name here, such as rotary frequencies, follow from the constants
        let Some(name) = hf_name(&info.name) else {
            continue;
        };
        let shape: Vec<i64> = info.shape.iter().map(|&dim| dim as i64).collect();
        weights.insert(name, Tensor::f_from_slice(&file.hf_values(info)?)?.f_view(&shape[..])?);
    }
    Ok((config, weights.into(), open_tokenizer(&file)?))
}

/// Reads a GGUF file's constants alone, which are in its header: tensors are not dequantised.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_config(path: &Path) -> Result<ModelConfig, Error> {
    ModelConfig::from_json(path, &GgufFile::open(path)?.hf_config()?)
}

fn open_tokenizer(file: &GgufFile) -> Result<Tokenizer, Error> {
    let (inner, described) = tokenizer_from_gguf(file)?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": described.bos,
        "eos_token": described.eos,
        "pad_token": described.eos,
        "add_bos_token": described.add_bos,
        "clean_up_tokenization_spaces": false,
    });
    let config = match config {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    Tokenizer::from_parts(inner, config, described.chat_template.into())
}
