//! A safetensors file that is written tensor by tensor: no two of them need be in memory at once.
//!
//! Its header lists the tensors in the order in which they follow. What they mean is not known
//! here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::safetensors::dtype_of;
use crate::error::Error;
use crate::ffi::tensors;

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// Number of bytes that the header is a multiple of, as other writers of the format have it.
const HEADER_ALIGNMENT: usize = 8;

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its number format.
    pub kind: Kind,
}

/// A file whose header is written.
pub struct TensorFile {
    path: PathBuf,
    out: BufWriter<File>,
    /// The tensors that are still to come, the next one last.
    missing: Vec<TensorEntry>,
}

impl TensorFile {
    /// Begins a file of these tensors, with texts by name for whoever reads the header.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Unsupported`] for number formats that safetensors lacks.
    pub fn create(
        path: &Path,
        texts: &BTreeMap<&str, String>,
        entries: Vec<TensorEntry>,
    ) -> Result<Self, Error> {
        let mut header = Map::from_iter([("__metadata__".to_owned(), json!(texts))]);
        let mut start = 0;
        for TensorEntry { name, shape, kind } in &entries {
            let n_values: i64 = shape.iter().product();
            let end = start + n_values as usize * kind.elt_size_in_bytes();
            let dtype = dtype_of(*kind)?.to_string();
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
            header.insert(name.clone(), entry);
            start = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(HEADER_ALIGNMENT), b' ');
        let io = |source| Error::io(path, source);
        let file = File::create(path).map_err(io)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        out.write_all(&header).map_err(io)?;
        Ok(Self { path: path.to_owned(), out, missing: entries.into_iter().rev().collect() })
    }

    /// Writes the next tensor, in the number format of its entry.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Tensor`] for lack of memory.
    ///
    /// # Panics
    /// Where it has not the shape of the entry whose turn it is.
    pub fn write(&mut self, tensor: &Tensor) -> Result<(), Error> {
        let entry = self.missing.pop().expect("the header lists the tensor. This is a bug.");
        assert_eq!(tensor.size(), entry.shape, "{} has another shape. This is a bug.", entry.name);
        let tensor = tensor.detach().f_to_device(Device::Cpu)?.f_to_kind(entry.kind)?;
        let written = self.out.write_all(tensors::bytes(&tensor.f_contiguous()?));
        written.map_err(|source| Error::io(&self.path, source))
    }

    /// Brings the file to disk.
    ///
    /// # Errors
    /// [`Error::Io`]
    ///
    /// # Panics
    /// Where tensors of the header are missing.
    pub fn finish(mut self) -> Result<(), Error> {
        assert!(self.missing.is_empty(), "all tensors of the header are written. This is a bug.");
        let written = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        written.map_err(|source| Error::io(&self.path, source))
    }
}

#[cfg(test)]
mod tests;
