//! An open GGUF file: its header, and a memory map of its tensors' bytes. It does not know what the
//! metadata or the tensors mean.

use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::header::GgufHeader;
use super::split::SplitName;
use super::value::{GgufValue, TensorInfo};
use crate::error::Error;

/// An open GGUF file.
#[derive(Debug)]
pub(crate) struct GgufFile {
    pub(super) path: PathBuf,
    /// The parts of the model, mostly one.
    maps: Vec<Mmap>,
    /// Metadata of the first part, and the tensors of all.
    header: GgufHeader,
}

impl GgufFile {
    /// Maps a file and reads its header; of a split model all parts, whichever is named.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, [`Error::BadFile`] where it is truncated or
    /// broken,
    /// [`Error::Unsupported`] where a tensor has a type that `GgmlType` lacks.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let named = SplitName::parse(path);
        let path = named.as_ref().map_or_else(|| path.to_owned(), |name| name.path_of(1));
        let (map, header) = open_part(&path, 1, named.as_ref())?;
        let mut file = Self { path, maps: vec![map], header };
        let n_parts = match file.metadata("split.count").and_then(GgufValue::as_u64) {
            None | Some(0 | 1) => return Ok(file),
            Some(n_parts) => n_parts,
        };
        let Some(name) = named.filter(|name| name.n_parts as u64 == n_parts) else {
            return Err(Error::bad_file(
                &file.path,
                format!(
                    "the first of {n_parts} parts of a model, under another name; name the parts \
                     model-00001-of-{n_parts:05}.gguf and so on"
                ),
            ));
        };
        for part in 2..=name.n_parts {
            let path = name.path_of(part);
            let (map, header) = open_part(&path, part, Some(&name))?;
            for tensor in header.tensors {
                if file.tensor(&tensor.name).is_some() {
                    let reason = format!("tensor {} is in another part, too", tensor.name);
                    return Err(Error::bad_file(&path, reason));
                }
                file.header.tensors.push(TensorInfo { part: part - 1, ..tensor });
            }
            file.maps.push(map);
        }
        let wanted = file.metadata("split.tensors.count").and_then(GgufValue::as_u64);
        match wanted.filter(|wanted| *wanted != file.header.tensors.len() as u64) {
            Some(wanted) => {
                let seen = file.header.tensors.len();
                let reason =
                    format!("all parts have {seen} tensors, split.tensors.count is {wanted}");
                Err(Error::bad_file(&file.path, reason))
            }
            None => Ok(file),
        }
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
        self.maps[info.part]
            .get(info.offset..info.offset + info.n_bytes)
            .expect("a tensor's range was checked when its own file was opened. This is a bug.")
    }
}

/// Maps one file, and checks that it is the part of a split model that its name says.
fn open_part(
    path: &Path,
    part: usize,
    name: Option<&SplitName>,
) -> Result<(Mmap, GgufHeader), Error> {
    if let Some(name) = name.filter(|_| !path.exists()) {
        let reason = format!("part {part} of {} of this model is missing", name.n_parts);
        return Err(Error::bad_file(path, reason));
    }
    let map = crate::ffi::mmap(path)?;
    let header = GgufHeader::parse(path, &map)?;
    let number = |key: &str| header.metadata.get(key).and_then(GgufValue::as_u64);
    if let (Some(no), Some(count)) = (number("split.no"), number("split.count"))
        && (count > 1 || part > 1)
        && (no + 1, count) != (part as u64, name.map_or(count, |name| name.n_parts as u64))
    {
        let reason = format!("is part {} of {count}, by its split.no, not {part}", no + 1);
        return Err(Error::bad_file(path, reason));
    }
    Ok((map, header))
}
