//! Safetensors files, single or in shards, through a memory map.
//!
//! This file checks that safetensors files match their headers. It does not know which tensors a
//! model needs.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::checkpoint::{Checkpoint, FileTensor, WeightMap};
use crate::error::Error;
use crate::ffi;
use crate::ffi::tensors;

/// Name of the weight file of a folder without shards.
pub(crate) const SINGLE: &str = "model.safetensors";
/// Name of the file that lists the shard of each tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Opens the tensors of a model folder.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadFile`] name the file.
pub(crate) fn open_folder(dir: &Path) -> Result<Checkpoint, Error> {
    let mut checkpoint = Checkpoint::default();
    let Some(shard_of) = index(dir)? else {
        let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
        let found = pickled.iter().find(|name| dir.join(name).exists());
        if let (Some(name), false) = (found, dir.join(SINGLE).exists()) {
            let reason = format!(
                "its weights are in {name}; wanted safetensors, as save_pretrained of transformers \
                 writes them"
            );
            return Err(Error::bad_file(dir, reason));
        }
        open_into(&dir.join(SINGLE), &mut checkpoint)?;
        return Ok(checkpoint);
    };
    let shards: BTreeSet<&String> = shard_of.values().collect();
    for shard in shards {
        open_into(&dir.join(shard), &mut checkpoint)?;
    }
    // an index may list what no shard holds, such as the head of a tied model
    Ok(checkpoint)
}

/// File of each tensor, from the folder's index; none for a folder with a single weight file.
pub(crate) fn index(dir: &Path) -> Result<Option<BTreeMap<String, String>>, Error> {
    let path = dir.join(INDEX);
    match dir.join(SINGLE).exists() || !path.exists() {
        true => Ok(None),
        false => read_index(&path).map(Some),
    }
}

/// Opens the tensors of one safetensors file.
///
/// # Errors
/// [`Error::Io`] or [`Error::BadFile`] for a missing or broken file.
pub(crate) fn open_file(path: &Path) -> Result<Checkpoint, Error> {
    let mut checkpoint = Checkpoint::default();
    open_into(path, &mut checkpoint)?;
    Ok(checkpoint)
}

/// The texts by name in the header of a safetensors file.
///
/// # Errors
/// As [`open_file`].
pub(crate) fn texts_of(path: &Path) -> Result<HashMap<String, String>, Error> {
    let file = ffi::mmap(path)?;
    let (_, header) =
        SafeTensors::read_metadata(&file).map_err(|error| unreadable(path, &error))?;
    Ok(header.metadata().clone().unwrap_or_default())
}

fn unreadable(path: &Path, error: &SafeTensorError) -> Error {
    Error::bad_file(path, format!("not a readable safetensors file: {error}"))
}

/// Reads all tensors of one safetensors file.
///
/// # Errors
/// [`Error::Io`] or [`Error::BadFile`] for a missing or broken file, [`Error::BadTensor`] for a
/// number format that the engine lacks.
pub fn read_file(path: &Path) -> Result<WeightMap, Error> {
    open_file(path)?.read_all()
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
    let index: Value =
        serde_json::from_str(&text).map_err(|error| Error::bad_file(path, error.to_string()))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::bad_file(path, "key `weight_map` is missing"))?;
    let entry = |(name, shard): (&String, &Value)| match shard.as_str() {
        // shards outside the folder are refused
        Some(shard) if !shard.contains('/') && shard != ".." => {
            Ok((name.clone(), shard.to_owned()))
        }
        _ => {
            Err(Error::bad_file(path, format!("tensor {name} lies in {shard}, wanted a file name")))
        }
    };
    map.iter().map(entry).collect()
}

fn open_into(path: &Path, checkpoint: &mut Checkpoint) -> Result<(), Error> {
    let file = Arc::new(ffi::mmap(path)?);
    let header = SafeTensors::deserialize(&file).map_err(|error| unreadable(path, &error))?;
    for (name, view) in header.iter() {
        let shape = view.shape().iter().map(|&dim| dim as i64).collect();
        let start = view.data().as_ptr() as usize - file.as_ptr() as usize;
        let range = start..start + view.data().len();
        match kind_of(view.dtype()) {
            Some(kind) => {
                let location = FileTensor { range, shape, file: Arc::clone(&file), kind };
                checkpoint.insert(name.to_owned(), location);
            }
            // many checkpoints have masks and positions that no layer reads
            None => checkpoint.insert_unreadable(name, shape, format!("{:?}", view.dtype())),
        }
    }
    Ok(())
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::Double),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F8_E4M3 => Some(Kind::Float8e4m3fn),
        Dtype::I64 => Some(Kind::Int64),
        _ => None,
    }
}

pub(crate) fn dtype_of(kind: Kind) -> Result<Dtype, Error> {
    match kind {
        Kind::Double => Ok(Dtype::F64),
        Kind::Float => Ok(Dtype::F32),
        Kind::Half => Ok(Dtype::F16),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Float8e4m3fn => Ok(Dtype::F8_E4M3),
        Kind::Int64 => Ok(Dtype::I64),
        other => Err(Error::unsupported(format!("writing tensors of type {other:?}"))),
    }
}

/// Writes tensors as one file, in the form that transformers expects.
///
/// # Errors
/// [`Error::BadFile`] or [`Error::Io`] where the file cannot be written; [`Error::Unsupported`] for
/// number formats that safetensors lacks.
pub fn write_file(path: &Path, weights: &WeightMap) -> Result<(), Error> {
    let view = |(name, tensor): (&String, &Tensor)| {
        let view = TensorView {
            dtype: dtype_of(tensor.kind())?,
            shape: sizes(&tensor.size()),
            tensor: tensor.shallow_clone(),
        };
        Ok((name.clone(), view))
    };
    write_views(path, weights.iter().map(view).collect::<Result<Vec<_>, Error>>()?)
}

/// Writes views as one file. The bytes of each view are made only when they are written.
///
/// # Errors
/// [`Error::BadFile`] or [`Error::Io`] where the file cannot be written.
pub(crate) fn write_views<V: View>(path: &Path, views: Vec<(String, V)>) -> Result<(), Error> {
    let bad = |error: SafeTensorError| match error {
        // a full disk is none of the caller's mistakes
        SafeTensorError::IoError(source) => Error::io(path, source),
        error => Error::bad_file(path, error.to_string()),
    };
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::tensor::serialize_to_file(views, Some(metadata), path).map_err(bad)?;
    // the library creates files that other users cannot read
    let everyone = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(path, everyone).map_err(|source| Error::io(path, source))
}

/// A shape in the type of the safetensors library.
pub(crate) fn sizes(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&dim| dim as usize).collect()
}

/// A tensor whose bytes are copied to the CPU only when they are written.
struct TensorView {
    dtype: Dtype,
    shape: Vec<usize>,
    tensor: Tensor,
}

impl View for TensorView {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.to_device(Device::Cpu).contiguous();
        tensors::bytes(&tensor).to_vec().into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}
