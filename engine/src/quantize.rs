//! Quantises the matrices of a model folder to FP8, file by file. vLLM and this engine load the
//! result as a compressed-tensors checkpoint with one scale per output channel and with inputs that
//! are quantised per token.
//!
//! Each matrix is read, quantised and written before the next one: the model as a whole is never in
//! memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::tensor::{Dtype, View};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::config::ModelConfig;
use crate::config::layer_parts::{LAYER_PARTS, LayerPart, PartKind};
use crate::error::Error;
use crate::ffi::tensors::bytes;
use crate::folder;
use crate::fp8::{self, Quantized};
use crate::json;
use crate::model::Decoder;
use crate::tokenizer::MORE_TEMPLATES;
use crate::weights::Checkpoint;
use crate::weights::safetensors::{
    INDEX, SINGLE, dtype_of, index, open_file, open_folder, sizes, write_views,
};

/// Counts of one quantisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuantizeSummary {
    /// Number of quantised matrices.
    pub n_quantized: usize,
    /// Number of unchanged tensors.
    pub n_kept: usize,
    /// Bytes of all tensors of the input.
    pub bytes_before: usize,
    /// Bytes of all tensors of the output.
    pub bytes_after: usize,
}

/// Writes the model folder `input` with its layers' matrices in FP8 to the empty folder `output`.
/// The write is not atomic: the caller renames the finished folder. `progress` gets the number of
/// bytes read so far and the total number of bytes.
///
/// # Errors
/// [`Error::BadFile`] where `input` is not a folder in Hugging Face's layout, is quantised already,
/// or holds a matrix that cannot be quantised; otherwise the errors of reading and writing.
pub fn quantize_folder(
    input: &Path,
    output: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<QuantizeSummary, Error> {
    let config_path = input.join("config.json");
    if !config_path.exists() {
        let wanted =
            "wanted a folder in Hugging Face's layout, with config.json and safetensors files";
        return Err(Error::bad_file(input, format!("cannot be quantised; {wanted}")));
    }
    let mut config = json::read(&config_path)?;
    let model = ModelConfig::from_json(&config_path, &config)?;
    let all = open_folder(input)?;
    // as it would be loaded; written are the names of the input
    let (model, settled) =
        folder::settle(model, open_folder(input)?).map_err(|error| error.of_model(input))?;
    if model.fp8.is_some() {
        return Err(Error::bad_file(input, "is quantised already, by its config.json"));
    }
    if let Some(name) = all.names().find(|name| all.kind(name) == Some(Kind::Float8e4m3fn)) {
        return Err(Error::bad_file(input, format!("is quantised already: tensor {name} is FP8")));
    }
    // a model that cannot be loaded is refused before anything is written
    Decoder::inspect(&model, &settled).map_err(|error| error.of_model(input))?;
    config["quantization_config"] = quantization_config();
    let shard_of = index(input)?;
    let shards: BTreeSet<String> = match &shard_of {
        Some(shard_of) => shard_of.values().cloned().collect(),
        None => BTreeSet::from([SINGLE.to_owned()]),
    };
    let mut opened = Vec::new();
    for shard in shards {
        opened.push((open_file(&input.join(&shard))?, shard));
    }
    let n_bytes = |(checkpoint, _): &(Checkpoint, String)| -> usize {
        checkpoint.names().map(|name| checkpoint.n_bytes(name)).sum()
    };
    let total = opened.iter().map(n_bytes).sum();
    let mut summary = QuantizeSummary { bytes_before: total, ..QuantizeSummary::default() };
    let mut written = BTreeMap::new();
    let mut n_read = 0;
    let mut progress = |bytes: usize| {
        n_read += bytes;
        progress(n_read, total);
    };
    for (checkpoint, shard) in &opened {
        let path = output.join(shard);
        let names = write_shard(checkpoint, &path, &mut summary, &mut progress)
            .map_err(|error| error.of_model(input))?;
        written.extend(names.into_iter().map(|name| (name, Value::from(shard.as_str()))));
    }
    if summary.n_quantized == 0 {
        return Err(Error::bad_file(input, "no tensor is a matrix of a decoder layer"));
    }
    if shard_of.is_some() {
        let index = json!({
            "metadata": {"total_size": summary.bytes_after},
            "weight_map": written.into_iter().collect::<serde_json::Map<_, _>>(),
        });
        json::write(&output.join(INDEX), &index)?;
    }
    json::write(&output.join("config.json"), &config)?;
    copy_other_files(input, output)?;
    Ok(summary)
}

/// The `quantization_config` of llm-compressor's FP8_DYNAMIC scheme.
fn quantization_config() -> Value {
    json!({
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": 8,
                    "type": "float",
                    "strategy": "channel",
                    "symmetric": true,
                    "dynamic": false,
                },
                "input_activations": {
                    "num_bits": 8,
                    "type": "float",
                    "strategy": "token",
                    "symmetric": true,
                    "dynamic": true,
                },
            },
        },
    })
}

/// Whether a tensor is a matrix of a layer, which becomes FP8.
fn is_matrix(name: &str) -> bool {
    let in_decoder = folder::decoder_name(name);
    let name = in_decoder.as_deref().unwrap_or(name);
    let rest = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let module = rest.and_then(|(_, part)| part.strip_suffix(".weight"));
    let is_named = |part: &LayerPart| module == Some(part.name);
    LAYER_PARTS.iter().any(|part| part.kind == PartKind::Matrix && is_named(part))
}

/// Writes one file and returns the names of its tensors. `progress` gets the bytes of each tensor
/// after it was read.
fn write_shard(
    checkpoint: &Checkpoint,
    path: &Path,
    summary: &mut QuantizeSummary,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<String>, Error> {
    let state = RefCell::new(WriteProgress { failure: None, progress });
    let mut views = Vec::new();
    for name in checkpoint.names() {
        if checkpoint.unreadable_format(name).is_some() {
            // the model does not need it: the checkpoint was inspected
            continue;
        }
        let shape = checkpoint.shape(name).unwrap_or_default();
        let kind = checkpoint.kind(name).unwrap_or(Kind::Float);
        let mut push = |written: String, dtype: Dtype, shape: Vec<usize>, part: TensorPart| {
            let tensor =
                LazyTensor { checkpoint, name: name.to_owned(), part, dtype, shape, state: &state };
            summary.bytes_after += tensor.data_len();
            views.push((written, tensor));
        };
        if is_matrix(name) && shape.len() == 2 {
            let rows = shape[0] as usize;
            push(name.to_owned(), Dtype::F8_E4M3, sizes(&shape), TensorPart::Values);
            push(format!("{name}_scale"), Dtype::F32, vec![rows, 1], TensorPart::Scale);
            summary.n_quantized += 1;
        } else {
            push(name.to_owned(), dtype_of(kind)?, sizes(&shape), TensorPart::Whole);
            summary.n_kept += 1;
        }
    }
    let names = views.iter().map(|(name, _)| name.clone()).collect();
    write_views(path, views)?;
    match state.into_inner().failure {
        Some(failure) => Err(failure),
        None => Ok(names),
    }
}

struct WriteProgress<'a> {
    /// First failure, kept until the writer has ended: the writer's callbacks cannot return
    /// errors.
    failure: Option<Error>,
    progress: &'a mut dyn FnMut(usize),
}

/// Part of a tensor that is written.
enum TensorPart {
    Whole,
    Values,
    Scale,
}

/// A tensor that is read and quantised only when it is written.
struct LazyTensor<'a, 'b> {
    checkpoint: &'a Checkpoint,
    name: String,
    part: TensorPart,
    dtype: Dtype,
    shape: Vec<usize>,
    state: &'a RefCell<WriteProgress<'b>>,
}

impl LazyTensor<'_, '_> {
    fn tensor(&self) -> Result<Tensor, Error> {
        let tensor = self.checkpoint.read(&self.name, Device::Cpu)?;
        match self.part {
            TensorPart::Whole => Ok(tensor),
            TensorPart::Values => {
                let Quantized { values, .. } = fp8::quantize(&self.name, &tensor)?;
                Ok(values)
            }
            TensorPart::Scale => fp8::channel_scale(&self.name, &tensor),
        }
    }
}

impl View for LazyTensor<'_, '_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut state = self.state.borrow_mut();
        let made = match state.failure {
            Some(_) => None,
            None => self.tensor().map_err(|error| state.failure = Some(error)).ok(),
        };
        if !matches!(self.part, TensorPart::Scale) {
            (state.progress)(self.checkpoint.n_bytes(&self.name));
        }
        match made {
            Some(tensor) => bytes(&tensor).to_vec().into(),
            None => vec![0; self.data_len()].into(),
        }
    }

    fn data_len(&self) -> usize {
        let n_values: usize = self.shape.iter().product();
        n_values * self.dtype.bitsize() / 8
    }
}

/// Copies the model's files that are not weight files: tokenizer, templates, generation settings.
fn copy_other_files(input: &Path, output: &Path) -> Result<(), Error> {
    let io = |path: &Path, source| Error::io(path, source);
    for entry in std::fs::read_dir(input).map_err(|source| io(input, source))? {
        let path = entry.map_err(|source| io(input, source))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = output.join(&name);
        if name == MORE_TEMPLATES && path.is_dir() {
            std::fs::create_dir(&target).map_err(|source| io(&target, source))?;
            copy_other_files(&path, &target)?;
        }
        // a weight index and another program's quantisation settings describe the input's weights
        let is_about_weights = name.ends_with(".index.json") || name == "hf_quant_config.json";
        let is_wanted = path.is_file() && folder::is_beside_weights(&name) && !is_about_weights;
        if is_wanted && !target.exists() {
            std::fs::copy(&path, &target).map_err(|source| io(&path, source))?;
        }
    }
    Ok(())
}
