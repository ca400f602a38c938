//! Files of a dump: its Parquet tables, and the completions in them. Knows no output.

use std::path::{Path, PathBuf};

use joust_schema::parquet;
use joust_schema::tables::Completion;

use crate::failure::UserError;

/// The Parquet files at `path`: the file itself, or those of a folder and its subfolders, sorted.
pub(super) fn parquet_files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let metadata =
        std::fs::metadata(path).map_err(|source| joust_schema::Error::io(path, source))?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let io = |source| joust_schema::Error::io(&folder, source);
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "parquet") {
                found.push(path);
            }
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err(UserError::new(format!("{}: no Parquet files here", path.display())).into()),
        false => Ok(found),
    }
}

/// The completions of a run, or of one of its files; those of each file by themselves.
pub(super) fn read_completions(path: &Path) -> anyhow::Result<Vec<Vec<Completion>>> {
    let is_view = |file: &&PathBuf| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("completions"))
    };
    let all = parquet_files(path)?;
    let views: Vec<&PathBuf> =
        if path.is_file() { all.iter().collect() } else { all.iter().filter(is_view).collect() };
    if views.is_empty() {
        let text =
            format!("{}: no completions_*.parquet here; wanted a run's folder", path.display());
        return Err(UserError::new(text).into());
    }
    let read = |file: &PathBuf| Ok(parquet::read::<Completion>(file)?);
    views.into_iter().map(read).collect()
}
