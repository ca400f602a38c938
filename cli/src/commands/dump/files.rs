//! Files of a dump: its Parquet tables, and the completions in them. Knows no output.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use joust_schema::parquet;
use joust_schema::tables::Completion;

use crate::failure::UserError;

/// The Parquet files at `path`: the file itself, or those of a folder and its subfolders, sorted.
/// Links are followed; a file or folder to which several ways lead comes once.
pub(super) fn parquet_files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let metadata =
        std::fs::metadata(path).map_err(|source| joust_schema::Error::io(path, source))?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut is_new = |path: &Path| seen.insert(path.canonicalize().unwrap_or(path.to_owned()));
    is_new(path);
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in sorted_entries(&folder)? {
            if path.is_dir() {
                folders.extend(is_new(&path).then_some(path));
            } else if path.extension().is_some_and(|ending| ending == "parquet") {
                found.extend(is_new(&path).then_some(path));
            }
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err(UserError::new(format!("{}: no Parquet files here", path.display())).into()),
        false => Ok(found),
    }
}

/// The entries of a folder; links come last, so that a file is known by its own name.
fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>, joust_schema::Error> {
    let io = |source| joust_schema::Error::io(folder, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.sort_by_cached_key(|path| (path.is_symlink(), path.clone()));
    Ok(paths)
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
