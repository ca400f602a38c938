//! A checkpoint whose tensors are read one at a time, when the caller asks for them: a model that
//! is quantised while it is loaded is never in memory as a whole. It knows nothing of file formats.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::ffi;
use crate::ffi::tensors::from_bytes;

/// Tensors by their checkpoint name, on the CPU, in the file's number format.
pub type WeightMap = BTreeMap<String, Tensor>;

/// Tensors by name, in files or in memory.
#[derive(Debug, Default)]
pub struct Checkpoint {
    tensors: BTreeMap<String, TensorLocation>,
}

#[derive(Debug)]
enum TensorLocation {
    InMemory(Tensor),
    FileTensor(FileTensor),
    /// A tensor in a number format that libtorch or this engine lacks.
    Unreadable {
        shape: Vec<i64>,
        /// Name of the format.
        format: String,
    },
}

/// Location of a tensor in a memory-mapped file.
#[derive(Clone, Debug)]
pub(crate) struct FileTensor {
    pub(crate) file: Arc<Mmap>,
    pub(crate) range: Range<usize>,
    pub(crate) shape: Vec<i64>,
    pub(crate) kind: Kind,
}

impl FileTensor {
    /// Reads the tensor onto `device` and releases its pages of the file, which then no longer
    /// count as this process's memory.
    fn read(&self, device: Device) -> Result<Tensor, Error> {
        let tensor = from_bytes(&self.file[self.range.clone()], &self.shape, self.kind, device)?;
        ffi::release_pages(&self.file, self.range.clone());
        Ok(tensor)
    }

    /// Location of `n_rows` rows from `start` on.
    fn rows(&self, start: i64, n_rows: i64) -> Self {
        let mut shape = self.shape.clone();
        let row_bytes = self.range.len() / (shape[0].max(1) as usize);
        shape[0] = n_rows;
        let start = self.range.start + start as usize * row_bytes;
        let range = start..start + n_rows as usize * row_bytes;
        Self { file: Arc::clone(&self.file), range, shape, kind: self.kind }
    }

    /// Location of some of the values, as a flat tensor.
    fn values(&self, values: &Range<usize>) -> Self {
        let value_bytes = self.kind.elt_size_in_bytes();
        let start = self.range.start + values.start * value_bytes;
        let range = start..start + values.len() * value_bytes;
        let shape = vec![values.len() as i64];
        Self { file: Arc::clone(&self.file), range, shape, kind: self.kind }
    }
}

impl Checkpoint {
    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether the checkpoint has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape of a tensor; none where the checkpoint lacks it.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.tensors.get(name).map(|location| match location {
            TensorLocation::InMemory(tensor) => tensor.size(),
            TensorLocation::FileTensor(file) => file.shape.clone(),
            TensorLocation::Unreadable { shape, .. } => shape.clone(),
        })
    }

    /// Number format of a tensor; none where the checkpoint lacks it, or where it cannot be read.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        match self.tensors.get(name)? {
            TensorLocation::InMemory(tensor) => Some(tensor.kind()),
            TensorLocation::FileTensor(file) => Some(file.kind),
            TensorLocation::Unreadable { .. } => None,
        }
    }

    /// Name of the number format of a tensor that cannot be read; none for all others.
    pub(crate) fn unreadable_format(&self, name: &str) -> Option<&str> {
        match self.tensors.get(name)? {
            TensorLocation::Unreadable { format, .. } => Some(format),
            _ => None,
        }
    }

    /// Bytes of a tensor; 0 where the checkpoint lacks it.
    pub fn n_bytes(&self, name: &str) -> usize {
        let n_values: i64 = self.shape(name).map_or(0, |shape| shape.iter().product());
        n_values as usize * self.kind(name).map_or(0, Kind::elt_size_in_bytes)
    }

    /// Reads a tensor onto `device`, in its own number format.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::BadTensor`] for a number format that cannot be read;
    /// [`Error::Tensor`] where libtorch refuses, for lack of memory for example.
    pub fn read(&self, name: &str, device: Device) -> Result<Tensor, Error> {
        match self.tensors.get(name) {
            Some(TensorLocation::InMemory(tensor)) => Ok(tensor.f_to_device(device)?),
            Some(TensorLocation::FileTensor(file)) => file.read(device),
            Some(TensorLocation::Unreadable { format, .. }) => Err(Error::BadTensor {
                name: name.to_owned(),
                reason: format!("is of type {format}, which no weight is"),
            }),
            None => Err(Error::MissingTensor { name: name.to_owned(), path: Default::default() }),
        }
    }

    /// Reads `n_rows` rows from `start` on, of a tensor with at least one dimension, onto `device`.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn read_rows(
        &self,
        name: &str,
        start: i64,
        n_rows: i64,
        device: Device,
    ) -> Result<Tensor, Error> {
        match self.tensors.get(name) {
            Some(TensorLocation::FileTensor(file)) => file.rows(start, n_rows).read(device),
            _ => Ok(self.read(name, device)?.f_narrow(0, start, n_rows)?),
        }
    }

    /// Reads some of a tensor's values, counted row by row, onto the CPU as a flat tensor.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub(crate) fn read_values(&self, name: &str, values: Range<usize>) -> Result<Tensor, Error> {
        match self.tensors.get(name) {
            Some(TensorLocation::FileTensor(file)) => file.values(&values).read(Device::Cpu),
            _ => {
                let flat = self.read(name, Device::Cpu)?.f_flatten(0, -1)?;
                Ok(flat.f_narrow(0, values.start as i64, values.len() as i64)?)
            }
        }
    }

    /// Reads all tensors onto the CPU.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn read_all(&self) -> Result<WeightMap, Error> {
        self.names().map(|name| Ok((name.to_owned(), self.read(name, Device::Cpu)?))).collect()
    }

    /// Gives every tensor the name that `renamed` returns for it. A tensor that has that name
    /// already keeps it.
    pub(crate) fn rename(&mut self, renamed: impl Fn(&str) -> Option<String>) {
        let changes = self.tensors.keys().filter_map(|name| Some((name.clone(), renamed(name)?)));
        for (old, new) in changes.collect::<Vec<_>>() {
            if let Some(location) = self.tensors.remove(&old) {
                self.tensors.entry(new).or_insert(location);
            }
        }
    }

    /// Adds a tensor of a file whose number format cannot be read.
    pub(crate) fn insert_unreadable(&mut self, name: &str, shape: Vec<i64>, format: String) {
        self.tensors.insert(name.to_owned(), TensorLocation::Unreadable { shape, format });
    }

    /// Adds a tensor of a file.
    pub(crate) fn insert(&mut self, name: String, location: FileTensor) {
        self.tensors.insert(name, TensorLocation::FileTensor(location));
    }
}

impl From<WeightMap> for Checkpoint {
    fn from(weights: WeightMap) -> Self {
        let located = |(name, tensor)| (name, TensorLocation::InMemory(tensor));
        Self { tensors: weights.into_iter().map(located).collect() }
    }
}
