//! Safetensors files, single or in shards, through a memory map.
//!
//! It checks that the files hold what their headers promise; which tensors a model needs is not
//! known here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, View};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::WeightMap;
use crate::error::Error;
use crate::ffi;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Reads all tensors of a model folder.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadFile`] name the file; a tensor that the index promises and no
/// shard holds is [`Error::MissingTensor`].
pub(crate) fn read_folder(dir: &Path) -> Result<WeightMap, Error> {
    let index_path = dir.join(INDEX);
    if dir.join(SINGLE).exists() || !index_path.exists() {
        return read_file(&dir.join(SINGLE));
    }
    let mut weights = WeightMap::new();
    let shard_of = read_index(&index_path)?;
    let shards: BTreeSet<&String> = shard_of.values().collect();
    for shard in shards {
        read_into(&dir.join(shard), &mut weights)?;
    }
    match shard_of.keys().find(|name| !weights.contains_key(*name)) {
        Some(name) => Err(Error::MissingTensor { name: name.clone(), path: index_path }),
        None => Ok(weights),
    }
}

/// Reads all tensors of one safetensors file.
///
/// # Errors
/// [`Error::Io`], [`Error::BadFile`]
pub fn read_file(path: &Path) -> Result<WeightMap, Error> {
    let mut weights = WeightMap::new();
    read_into(path, &mut weights)?;
    Ok(weights)
}

fn read_index(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
    let index: Value =
        serde_json::from_str(&text).map_err(|error| Error::bad_file(path, error.to_string()))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::bad_file(path, "key `weight_map` is missing"))?;
    let entry = |(name, shard): (&String, &Value)| match shard.as_str() {
        // a shard lies in the folder itself, never elsewhere
        Some(shard) if !shard.contains('/') && shard != ".." => {
            Ok((name.clone(), shard.to_owned()))
        }
        _ => {
            Err(Error::bad_file(path, format!("tensor {name} lies in {shard}, wanted a file name")))
        }
    };
    map.iter().map(entry).collect()
}

fn read_into(path: &Path, weights: &mut WeightMap) -> Result<(), Error> {
    let map = ffi::mmap(path)?;
    let tensors = SafeTensors::deserialize(&map).map_err(|error| {
        Error::bad_file(path, format!("not a readable safetensors file: {error}"))
    })?;
    for (name, view) in tensors.iter() {
        let kind = kind_of(view.dtype()).ok_or_else(|| Error::Unsupported {
            what: format!("{}: tensor {name} of type {:?}", path.display(), view.dtype()),
        })?;
        let shape: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?;
        weights.insert(name.to_owned(), tensor);
    }
    Ok(())
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::Double),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::I64 => Some(Kind::Int64),
        _ => None,
    }
}

fn dtype_of(kind: Kind) -> Result<Dtype, Error> {
    match kind {
        Kind::Double => Ok(Dtype::F64),
        Kind::Float => Ok(Dtype::F32),
        Kind::Half => Ok(Dtype::F16),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Int64 => Ok(Dtype::I64),
        other => Err(Error::Unsupported { what: format!("writing tensors of type {other:?}") }),
    }
}

/// Writes tensors as one file, in the form that transformers expects.
///
/// # Errors
/// [`Error::Io`]; [`Error::Unsupported`] for number formats that checkpoints do not have.
pub fn write_file(path: &Path, weights: &WeightMap) -> Result<(), Error> {
    let bad = |error: safetensors::SafeTensorError| Error::bad_file(path, error.to_string());
    let written = |(name, tensor): (&String, &Tensor)| {
        let shape = tensor.size().iter().map(|&dim| dim as usize).collect();
        let tensor = tensor.shallow_clone();
        Ok((name.clone(), Written { dtype: dtype_of(tensor.kind())?, shape, tensor }))
    };
    let views = weights.iter().map(written).collect::<Result<Vec<_>, Error>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::tensor::serialize_to_file(views, Some(metadata), path).map_err(bad)?;
    // the library makes files that nobody else can read
    let everyone = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(path, everyone).map_err(|source| Error::io(path, source))
}

/// A tensor whose bytes are made when they are written, one tensor at a time.
struct Written {
    dtype: Dtype,
    shape: Vec<usize>,
    tensor: Tensor,
}

impl View for Written {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.to_device(Device::Cpu).contiguous();
        let mut bytes = vec![0u8; self.data_len()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}
