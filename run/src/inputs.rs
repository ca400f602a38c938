//! The files and folders that a run reads: known by their content, and never written to.
//!
//! It knows which files of a folder matter, and not what is in them.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use joust_schema::Error as FileError;

use crate::error::Error;

/// A file or folder that a run reads, under the config key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputPath {
    /// The dotted key.
    pub(crate) key: Cow<'static, str>,
    pub(crate) path: PathBuf,
    kind: InputKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputKind {
    /// One file.
    File,
    /// A model: a folder, or a GGUF file with its other parts.
    Model,
    /// A folder of recorded votes.
    Dump,
}

/// Endings of the files of a model.
const OF_MODELS: [&str; 5] = ["json", "jinja", "safetensors", "gguf", "model"];

/// A file of at most this size is hashed as a whole.
const WHOLE_BYTES: u64 = 1 << 30;
/// Distance of the samples of a larger file.
const SAMPLE_EVERY: u64 = 16 << 20;
/// Size of a sample.
const SAMPLE_BYTES: u64 = 64 << 10;

impl InputPath {
    pub(crate) fn file(key: impl Into<Cow<'static, str>>, path: &Path) -> Self {
        Self { key: key.into(), path: path.to_owned(), kind: InputKind::File }
    }

    pub(crate) fn model(key: &'static str, path: &Path) -> Self {
        Self { key: key.into(), path: path.to_owned(), kind: InputKind::Model }
    }

    pub(crate) fn dump(key: &'static str, path: &Path) -> Self {
        Self { key: key.into(), path: path.to_owned(), kind: InputKind::Dump }
    }

    /// What the path should lead to.
    fn wanted(&self) -> &'static str {
        match self.kind {
            InputKind::File => "a file",
            InputKind::Model => "a model folder (Hugging Face) or a GGUF file",
            InputKind::Dump => "the folder of a dump",
        }
    }

    /// The files that are read, in a fixed order.
    ///
    /// # Errors
    /// [`Error::Schema`] for a path that cannot be listed.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let is_folder = self.path.is_dir();
        let mut files = match self.kind {
            InputKind::Model if is_folder => {
                let mut files = with_endings(&self.path, &OF_MODELS)?;
                files.extend(with_endings(
                    &self.path.join("additional_chat_templates"),
                    &["jinja"],
                )?);
                files
            }
            InputKind::Model => gguf_parts(&self.path)?,
            InputKind::Dump if is_folder => {
                let mut files = with_endings(&self.path, &["parquet"])?;
                for entry in entries(&self.path)? {
                    files.extend(with_endings(&entry, &["parquet"])?);
                }
                files
            }
            InputKind::Dump | InputKind::File => vec![self.path.clone()],
        };
        files.sort();
        Ok(files)
    }

    /// Hash of the names and contents of all files. Of a file above 1 GiB the hash covers its size
    /// and 64 KiB in every 16 MiB, which every change of a model's weights changes.
    ///
    /// # Errors
    /// [`Error::Schema`] for a file that cannot be read; [`Error::Input`] for a path that does not
    /// exist, a pipe or a device.
    pub(crate) fn digest(&self) -> Result<String, Error> {
        if self.path.as_os_str().is_empty() {
            let (key, wanted) = (&self.key, self.wanted());
            return Err(Error::input(format!("{key} is empty, wanted the path of {wanted}")));
        }
        if self.kind == InputKind::File && self.path.is_dir() {
            let (key, path) = (&self.key, self.path.display());
            return Err(Error::input(format!("{key}: {path} is a folder, wanted a file")));
        }
        if !self.path.exists() {
            return Err(Error::input(format!(
                "{}: {} does not exist; set the key to the path of {}",
                self.key,
                self.path.display(),
                self.wanted()
            )));
        }
        let mut whole = blake3::Hasher::new();
        for file in self.files()? {
            // a run reads its files again, here and where it is resumed
            if file.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
                return Err(Error::input(format!(
                    "{}: {} is a pipe or a device, and a run reads its files more than once; \
                     write it to a file first",
                    self.key,
                    file.display()
                )));
            }
            // the name of a single file is its place and not its content
            if self.path.is_dir() {
                let name = file.strip_prefix(&self.path).unwrap_or(&file);
                whole.update(name.as_os_str().as_encoded_bytes());
            }
            whole.update(&[0]);
            let bad = |source| Error::in_file_of(&self.key, FileError::io(&file, source));
            let hash = hash_file(&file).map_err(bad)?;
            whole.update(hash.as_bytes());
        }
        Ok(whole.finalize().to_hex().to_string())
    }
}

/// The entries of a folder; none where there is no folder.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let io = |source| FileError::io(dir, source);
    let entries = std::fs::read_dir(dir).map_err(io)?;
    entries.map(|entry| Ok(entry.map_err(io)?.path())).collect()
}

/// The files in a folder whose names end in one of `endings`.
fn with_endings(dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let mut files = entries(dir)?;
    files.retain(|path| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        path.is_file() && ending.is_some_and(|ending| endings.contains(&ending))
    });
    Ok(files)
}

/// A GGUF file with its other parts (`name-00001-of-00003.gguf`).
fn gguf_parts(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let stem = |path: &Path| {
        let name = path.file_stem()?.to_str()?;
        let (name, n_parts) = name.rsplit_once("-of-")?;
        Some((name.rsplit_once('-')?.0.to_owned(), n_parts.to_owned()))
    };
    let Some(wanted) = stem(path) else { return Ok(vec![path.to_owned()]) };
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut parts = with_endings(dir, &["gguf"])?;
    parts.retain(|part| stem(part).as_ref() == Some(&wanted));
    Ok(parts)
}

fn hash_file(path: &Path) -> std::io::Result<blake3::Hash> {
    let mut file = File::open(path)?;
    let n_bytes = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    if n_bytes <= WHOLE_BYTES {
        hasher.update_reader(&mut file)?;
        return Ok(hasher.finalize());
    }
    hasher.update(&n_bytes.to_le_bytes());
    let last = n_bytes - SAMPLE_BYTES;
    let starts = (0..n_bytes.div_ceil(SAMPLE_EVERY)).map(|idx| (idx * SAMPLE_EVERY).min(last));
    for start in starts.chain([last]) {
        file.seek(SeekFrom::Start(start))?;
        hasher.update_reader((&mut file).take(SAMPLE_BYTES))?;
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests;
