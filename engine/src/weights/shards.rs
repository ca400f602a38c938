//! Tensors in pieces of several safetensors files, as torch's `HuggingFaceStorageWriter` writes
//! them: the header says under [`OFFSETS`] where in its tensor each piece begins.
//!
//! Pieces here are flat: a tensor without offsets is one piece, from its first value on. Which
//! tensors are wanted is not known here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::checkpoint::Checkpoint;
use super::safetensors::{open_file, texts_of};
use super::tensor_file::{TensorEntry, TensorFile};
use crate::error::Error;

/// Key of the header's text that has the pieces' places.
const OFFSETS: &str = "DCP_SHARDING_INFO";

/// A flat piece of a tensor.
#[derive(Debug)]
pub struct Piece {
    /// Name of the tensor.
    pub name: String,
    /// Place of the piece's first value in the tensor.
    pub start: usize,
    /// The piece's values. Shape: N.
    pub values: Tensor,
}

/// The name of the file of one shard, from 0, as torch names them.
pub fn shard_name(shard: usize) -> String {
    format!("shard-{:05}-model-00001-of-00001.safetensors", shard + 1)
}

/// Whether a file's name is that of a shard.
fn is_shard(name: &str) -> bool {
    name.starts_with("shard-") && name.ends_with(".safetensors")
}

/// Writes pieces as one shard.
///
/// # Errors
/// [`Error::Io`]; [`Error::Unsupported`] for number formats that safetensors lacks.
pub fn write_shard(path: &Path, pieces: &[Piece]) -> Result<(), Error> {
    let offsets = pieces.iter().map(|it| (it.name.clone(), json!({"saved_offsets": [it.start]})));
    let offsets = Value::Object(offsets.collect::<Map<_, _>>()).to_string();
    let version = "1.0".to_owned();
    let texts =
        BTreeMap::from([(OFFSETS, offsets), ("DCP_VERSION", version), ("format", "pt".to_owned())]);
    let entry = |Piece { name, values, .. }: &Piece| TensorEntry {
        name: name.clone(),
        shape: values.size(),
        kind: values.kind(),
    };
    let mut file = TensorFile::create(path, &texts, pieces.iter().map(entry).collect())?;
    pieces.iter().try_for_each(|piece| file.write(&piece.values))?;
    file.finish()
}

/// The place of a flat piece in its tensor.
fn flat_start(offsets: &Map<String, Value>, name: &str) -> Option<u64> {
    match &offsets.get(name)?.get("saved_offsets")?.as_array()?[..] {
        [start] => start.as_u64(),
        _ => None,
    }
}

/// Tensors whose pieces are read when they are requested.
#[derive(Debug, Default)]
pub struct Shards {
    files: Vec<(PathBuf, Checkpoint)>,
    /// The pieces of each tensor, in their order.
    pieces: BTreeMap<String, Vec<PieceInFile>>,
}

#[derive(Debug)]
struct PieceInFile {
    range: Range<usize>,
    file_idx: usize,
}

impl Shards {
    /// Opens all shards of a folder; none are there where it has none.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadFile`] for a broken file, and for pieces that are not flat.
    pub fn open_folder(dir: &Path) -> Result<Self, Error> {
        let io = |source| Error::io(dir, source);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.file_name().is_some_and(|name| is_shard(&name.to_string_lossy())) {
                paths.push(path);
            }
        }
        paths.sort();
        Self::open(&paths)
    }

    /// Opens files: shards, or files of whole tensors.
    ///
    /// # Errors
    /// As [`Shards::open_folder`].
    pub fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut shards = Self::default();
        for path in paths {
            shards.add(path)?;
        }
        for pieces in shards.pieces.values_mut() {
            pieces.sort_by_key(|piece| (piece.range.start, piece.range.end));
        }
        Ok(shards)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let file = open_file(path)?;
        let bad = |reason: String| Error::bad_file(path, reason);
        let offsets: Option<Map<String, Value>> = match texts_of(path)?.remove(OFFSETS) {
            Some(text) => {
                let read = serde_json::from_str(&text);
                Some(read.map_err(|error| bad(format!("{OFFSETS} of its header: {error}")))?)
            }
            None => None,
        };
        for name in file.names() {
            let shape = file.shape(name).unwrap_or_default();
            let start = match &offsets {
                None => 0,
                Some(offsets) => flat_start(offsets, name)
                    .filter(|_| shape.len() == 1)
                    .ok_or_else(|| bad(format!("tensor {name}: no flat piece with a place")))?,
            };
            let n_values = shape.iter().product::<i64>() as usize;
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            let range = start..start.saturating_add(n_values);
            let piece = PieceInFile { range, file_idx: self.files.len() };
            self.pieces.entry(name.to_owned()).or_default().push(piece);
        }
        self.files.push((path.to_owned(), file));
        Ok(())
    }

    /// Whether no tensors are there.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The tensors with the numbers of their values, as far as pieces of them are there.
    pub fn lengths(&self) -> impl Iterator<Item = (&str, usize)> {
        let length = |pieces: &Vec<PieceInFile>| pieces.iter().map(|it| it.range.end).max();
        self.pieces.iter().map(move |(name, it)| (name.as_str(), length(it).unwrap_or(0)))
    }

    /// Copies the values of `range` of a tensor of `n_values` values into a flat tensor of as many
    /// as the range has. Only what overlaps with the range is read.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::BadTensor`] where pieces are missing, or it has another
    /// number of values; [`Error::BadFile`] for a number format that cannot be read.
    pub fn read(
        &self,
        name: &str,
        n_values: usize,
        range: Range<usize>,
        values: &Tensor,
    ) -> Result<(), Error> {
        let bad = |reason: String| Error::BadTensor { name: name.to_owned(), reason };
        let missing = || Error::MissingTensor { name: name.to_owned(), path: PathBuf::new() };
        let pieces = self.pieces.get(name).ok_or_else(missing)?;
        let mut end = 0;
        for PieceInFile { range: piece, .. } in pieces {
            if piece.start != end {
                let next = piece.start;
                return Err(bad(format!(
                    "has no piece from value {end} on, the next is at {next}"
                )));
            }
            end = piece.end;
        }
        if end != n_values {
            return Err(bad(format!("has {end} values, wanted {n_values}")));
        }
        for PieceInFile { range: piece, file_idx } in pieces {
            let (start, end) = (piece.start.max(range.start), piece.end.min(range.end));
            if start >= end {
                continue;
            }
            let n_values = (end - start) as i64;
            let (path, file) = &self.files[*file_idx];
            let read = file.read_values(name, start - piece.start..end - piece.start);
            let read = read.map_err(|error| error.of_model(path))?;
            let mut target = values.narrow(0, (start - range.start) as i64, n_values);
            target.f_copy_(&read)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
