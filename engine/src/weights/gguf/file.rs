//! An open GGUF file: its header, and a memory map of its tensors' bytes. It does not know what the
//! metadata or the tensors mean.

use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::header::GgufHeader;
use super::value::{GgufValue, TensorInfo};
use crate::error::Error;

/// An open GGUF file.
#[derive(Debug)]
pub(crate) struct GgufFile {
    pub(super) path: PathBuf,
    map: Mmap,
    header: GgufHeader,
}

impl GgufFile {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, [`Error::BadFile`] where it is truncated or
    /// broken,
    /// [`Error::Unsupported`] where a tensor has a type that `GgmlType` lacks.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let map = crate::ffi::mmap(path)?;
        let header = GgufHeader::parse(path, &map)?;
        Ok(Self { path: path.to_owned(), map, header })
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata value of a key.
    pub(crate) fn metadata(&self, key: &str) -> Option<&GgufValue> {
        self.header.metadata.get(key)
    }

    /// The tensors in the order of the file.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.header.tensors.iter()
    }

    /// The tensor with this name, in llama.cpp's spelling.
    pub(crate) fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors().find(|info| info.name == name)
    }

    /// A tensor's bytes, as stored.
    pub(crate) fn bytes(&self, info: &TensorInfo) -> &[u8] {
        self.map
            .get(info.offset..info.offset + info.n_bytes)
            .expect("a tensor's range was checked when its own file was opened. This is a bug.")
    }
}
