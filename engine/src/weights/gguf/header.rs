//! The header of a GGUF file: counts, metadata and the tensor table.
//!
//! Every location is checked against the size of the file, so that reading a tensor needs no
//! checks.
//! The only key with a meaning here is the alignment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::cursor::GgufCursor;
use super::value::{GgufValue, TensorInfo};
use crate::error::Error;
use crate::weights::dequant::GgmlType;

pub(super) const MAGIC: &[u8] = b"GGUF";
pub(super) const DEFAULT_ALIGNMENT: usize = 32;
/// ggml's own limit on the dimensions of a tensor.
const MAX_DIMS: usize = 4;

/// Metadata and tensor table of a file.
#[derive(Debug)]
pub(super) struct GgufHeader {
    pub(super) metadata: BTreeMap<String, GgufValue>,
    pub(super) tensors: Vec<TensorInfo>,
}

impl GgufHeader {
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let bad = |reason: String| Error::bad_file(path, reason);
        let mut cursor = GgufCursor::new(bytes);
        let (n_tensors, n_values) = read_counts(&mut cursor).map_err(bad)?;
        let metadata = read_metadata(&mut cursor, n_values).map_err(bad)?;
        let alignment = alignment(&metadata).map_err(bad)?;
        let mut raw = Vec::with_capacity(n_tensors);
        for idx in 0..n_tensors {
            let tensor = RawTensor::read(&mut cursor);
            raw.push(tensor.map_err(|reason| bad(format!("tensor {idx}: {reason}")))?);
        }
        let data_start = cursor.position().next_multiple_of(alignment);
        let mut tensors = Vec::with_capacity(raw.len());
        let mut names = BTreeSet::new();
        for tensor in raw {
            let ggml_type = GgmlType::from_id(tensor.type_id).map_err(|reason| {
                Error::unsupported(format!("{}: tensor {}: {reason}", path.display(), tensor.name))
            })?;
            if !names.insert(tensor.name.clone()) {
                return Err(bad(format!("tensor {} appears twice", tensor.name)));
            }
            let name = tensor.name.clone();
            let info = tensor.locate(ggml_type, data_start, alignment, bytes.len());
            tensors.push(info.map_err(|reason| bad(format!("tensor {name}: {reason}")))?);
        }
        Ok(Self { metadata, tensors })
    }
}

/// An entry of the tensor table, before it is checked against the file.
struct RawTensor {
    name: String,
    /// Dimensions, innermost first.
    dims: Vec<usize>,
    type_id: u32,
    /// Offset from the first byte of tensor data.
    offset: u64,
}

impl RawTensor {
    /// Minimum number of bytes of an entry: two lengths, a type and an offset.
    const MIN_BYTES: usize = 24;

    fn read(cursor: &mut GgufCursor<'_>) -> Result<Self, String> {
        let name = cursor.string("its name")?;
        let n_dims = cursor.u32("its number of dimensions")? as usize;
        if n_dims > MAX_DIMS {
            return Err(format!("{name} has {n_dims} dimensions, at most {MAX_DIMS} are allowed"));
        }
        let dims: Result<Vec<usize>, String> = (0..n_dims)
            .map(|_| {
                let dim = cursor.u64("its shape")?;
                usize::try_from(dim).map_err(|_| format!("{name} has a dimension of {dim}"))
            })
            .collect();
        let dims = dims?;
        let type_id = cursor.u32("its type")?;
        let offset = cursor.u64("its offset")?;
        Ok(Self { name, dims, type_id, offset })
    }

    /// Checks the tensor against the file and gives its location.
    fn locate(
        self,
        ggml_type: GgmlType,
        data_start: usize,
        alignment: usize,
        file_bytes: usize,
    ) -> Result<TensorInfo, String> {
        let row = self.dims.first().copied().unwrap_or(1);
        let block = ggml_type.block_size();
        if !row.is_multiple_of(block) {
            return Err(format!(
                "rows of {row} values do not divide into {ggml_type:?} blocks of {block}"
            ));
        }
        let n_elements =
            self.dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
        let n_bytes = n_elements
            .and_then(|n| (n / block).checked_mul(ggml_type.type_bytes()))
            .ok_or_else(|| format!("the shape {:?} overflows", self.dims))?;
        if !self.offset.is_multiple_of(alignment as u64) {
            return Err(format!("offset {} is not a multiple of {alignment}", self.offset));
        }
        let offset =
            usize::try_from(self.offset).ok().and_then(|offset| data_start.checked_add(offset));
        let end = offset.and_then(|offset| offset.checked_add(n_bytes));
        match (offset, end) {
            (Some(offset), Some(end)) if end <= file_bytes => {
                let shape = self.dims.into_iter().rev().collect();
                Ok(TensorInfo { name: self.name, shape, ggml_type, offset, n_bytes, part: 0 })
            }
            _ => Err(format!(
                "its {n_bytes} bytes at offset {} end after the file, which has {file_bytes} bytes",
                self.offset
            )),
        }
    }
}

fn read_counts(cursor: &mut GgufCursor<'_>) -> Result<(usize, usize), String> {
    if cursor.take(MAGIC.len(), "the magic")? != MAGIC {
        return Err("not a GGUF file: it does not start with GGUF".to_owned());
    }
    let version = cursor.u32("the version")?;
    if version.swap_bytes() <= 3 {
        return Err("the file is big-endian; only little-endian files can be read".to_owned());
    }
    if !(2..=3).contains(&version) {
        return Err(format!("GGUF version {version}; versions 2 and 3 can be read"));
    }
    let n_tensors = cursor.count("tensors", RawTensor::MIN_BYTES)?;
    // minimum of a value: a key's length, a type and a value of one byte
    let n_values = cursor.count("metadata values", 8 + 4 + 1)?;
    Ok((n_tensors, n_values))
}

fn read_metadata(
    cursor: &mut GgufCursor<'_>,
    n: usize,
) -> Result<BTreeMap<String, GgufValue>, String> {
    let mut metadata = BTreeMap::new();
    for idx in 0..n {
        let key = cursor.string("a key").map_err(|reason| format!("metadata {idx}: {reason}"))?;
        let in_key = |reason: String| format!("metadata key {key}: {reason}");
        let type_id = cursor.u32("its type").map_err(in_key)?;
        let value = cursor.value(type_id).map_err(in_key)?;
        if metadata.contains_key(&key) {
            return Err(format!("metadata key {key} appears twice"));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn alignment(metadata: &BTreeMap<String, GgufValue>) -> Result<usize, String> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let alignment = value.as_u64().and_then(|value| u32::try_from(value).ok());
    match alignment {
        Some(alignment) if alignment.is_power_of_two() => Ok(alignment as usize),
        _ => Err(format!("general.alignment is {value:?}, it must be a power of two")),
    }
}
