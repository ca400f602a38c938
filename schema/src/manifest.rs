//! The list of a run's finished files, each with its size and hash.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::jsonl;

/// File name of the list in a run's folder.
pub const FILE: &str = "manifest.jsonl";

/// One finished file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Path relative to the run's folder.
    pub file: String,
    /// Table that it holds.
    pub table: String,
    /// Training step that it belongs to.
    pub step: i64,
    /// Number of rows.
    pub rows: usize,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 hash of its content.
    pub blake3: String,
}

impl ManifestEntry {
    /// Describes a finished file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read.
    pub fn of(
        run_dir: &Path,
        file: &str,
        table: &str,
        step: i64,
        rows: usize,
    ) -> Result<Self, Error> {
        let path = run_dir.join(file);
        let content = std::fs::read(&path).map_err(|source| Error::io(&path, source))?;
        Ok(Self {
            file: file.to_owned(),
            table: table.to_owned(),
            step,
            rows,
            bytes: content.len() as u64,
            blake3: blake3::hash(&content).to_hex().to_string(),
        })
    }
}

/// Adds entries to the run's list and waits until they are on disk.
///
/// # Errors
/// [`Error::Io`]
pub fn append(run_dir: &Path, entries: &[ManifestEntry]) -> Result<(), Error> {
    let path = run_dir.join(FILE);
    let io = |source| Error::io(&path, source);
    let mut text = String::new();
    for entry in entries {
        text += &jsonl::to_line(entry).map_err(|error| Error::bad_file(&path, error))?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    file.sync_all().map_err(io)
}

/// Reads the run's list.
///
/// # Errors
/// [`Error::Io`], [`Error::Line`]
pub fn read(run_dir: &Path) -> Result<Vec<ManifestEntry>, Error> {
    jsonl::read(&run_dir.join(FILE))
}

/// Deletes the entries of steps after `last_step`, which a resumed run makes again, and a last line
/// that a kill cut off.
///
/// # Errors
/// [`Error::Io`]; [`Error::Line`] for any other line that is not an entry.
pub fn truncate(run_dir: &Path, last_step: i64) -> Result<(), Error> {
    let path = run_dir.join(FILE);
    if !path.exists() {
        return Ok(());
    }
    let io = |source| Error::io(&path, source);
    let text = std::fs::read(&path).map_err(io)?;
    let n_whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    if n_whole < text.len() {
        let file = OpenOptions::new().write(true).open(&path).map_err(io)?;
        file.set_len(n_whole as u64).map_err(io)?;
    }
    let mut entries = read(run_dir)?;
    entries.retain(|entry| entry.step <= last_step);
    jsonl::write(&run_dir.join(FILE), &entries)
}
