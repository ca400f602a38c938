//! A checkpoint whose tensors are read when they are asked for, one at a time: a model that is
//! quantised as it is loaded never lies in memory as a whole.

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
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct FileTensor {
    pub(crate) file: Arc<Mmap>,
    pub(crate) range: Range<usize>,
    pub(crate) shape: Vec<i64>,
    pub(crate) kind: Kind,
}

impl FileTensor {
    /// The tensor on `device`; its pages of the file count as this process's memory no longer.
    fn read(&self, device: Device) -> Result<Tensor, Error> {
        let tensor = from_bytes(&self.file[self.range.clone()], &self.shape, self.kind, device)?;
        ffi::release_pages(&self.file, self.range.clone());
        Ok(tensor)
    }

    /// Some of its rows: what is between them and the next.
    fn rows(&self, start: i64, n_rows: i64) -> Self {
        let mut shape = self.shape.clone();
        let row_bytes = self.range.len() / (shape[0].max(1) as usize);
        shape[0] = n_rows;
        let start = self.range.start + start as usize * row_bytes;
        let range = start..start + n_rows as usize * row_bytes;
        Self { file: Arc::clone(&self.file), range, shape, kind: self.kind }
    }
}

impl Checkpoint {
    /// The tensors' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor's shape.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.tensors.get(name).map(|stored| match stored {
            TensorLocation::InMemory(tensor) => tensor.size(),
            TensorLocation::FileTensor(place) => place.shape.clone(),
        })
    }

    /// A tensor's number format.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.tensors.get(name).map(|stored| match stored {
            TensorLocation::InMemory(tensor) => tensor.kind(),
            TensorLocation::FileTensor(place) => place.kind,
        })
    }

    /// Bytes of a tensor; 0 where there is none of that name.
    pub fn n_bytes(&self, name: &str) -> usize {
        let n_values: i64 = self.shape(name).map_or(0, |shape| shape.iter().product());
        n_values as usize * self.kind(name).map_or(0, Kind::elt_size_in_bytes)
    }

    /// Reads a tensor onto `device`, in its own number format.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; what libtorch refuses.
    pub fn read(&self, name: &str, device: Device) -> Result<Tensor, Error> {
        match self.tensors.get(name) {
            Some(TensorLocation::InMemory(tensor)) => Ok(tensor.f_to_device(device)?),
            Some(TensorLocation::FileTensor(place)) => place.read(device),
            None => Err(Error::MissingTensor { name: name.to_owned(), path: Default::default() }),
        }
    }

    /// Reads some rows of a tensor of at least one dimension onto `device`.
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
            Some(TensorLocation::FileTensor(place)) => place.rows(start, n_rows).read(device),
            _ => Ok(self.read(name, device)?.f_narrow(0, start, n_rows)?),
        }
    }

    /// All tensors on the CPU.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn read_all(&self) -> Result<WeightMap, Error> {
        self.names().map(|name| Ok((name.to_owned(), self.read(name, Device::Cpu)?))).collect()
    }

    pub(crate) fn insert(&mut self, name: String, place: FileTensor) {
        self.tensors.insert(name, TensorLocation::FileTensor(place));
    }
}

impl From<WeightMap> for Checkpoint {
    fn from(weights: WeightMap) -> Self {
        let stored = |(name, tensor)| (name, TensorLocation::InMemory(tensor));
        Self { tensors: weights.into_iter().map(stored).collect() }
    }
}
