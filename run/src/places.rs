//! Places of a run that must not meet: what it reads, its folder, and the folder of its export.
//!
//! It compares paths as the file system sees them: links are followed, and of a path that does not
//! exist yet, the part that does.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::inputs::InputPath;
use crate::run_folder::{is_own_name, run_around};

/// Refuses inputs in the run's own folder: `--clean` and old checkpoints are deleted there.
pub(crate) fn check_inputs(run_dir: &Path, inputs: &[InputPath]) -> Result<(), Error> {
    let own = real(run_dir)?;
    for input in inputs {
        if real(&input.path)?.starts_with(&own) {
            return Err(Error::input(format!(
                "{}: {} lies in the run's own folder, whose files the run deletes; choose another \
                 run.name",
                input.key,
                input.path.display()
            )));
        }
    }
    Ok(())
}

/// Refuses an export that would replace an input, or a part of a run.
pub(crate) fn check_export(
    export: &Path,
    run_dir: &Path,
    inputs: &[InputPath],
) -> Result<(), Error> {
    let refuse =
        |reason: String| Err(Error::input(format!("export.path {} {reason}", export.display())));
    let (target, own) = (real(export)?, real(run_dir)?);
    for input in inputs {
        let path = real(&input.path)?;
        let mut files = input.files()?.into_iter().filter_map(|file| file.canonicalize().ok());
        // a folder may hold links to files elsewhere, which are inputs too
        let meets = target.starts_with(&path)
            || path.starts_with(&target)
            || files.any(|file| file.starts_with(&target));
        if meets {
            return refuse(format!(
                "is {} ({}), or one lies in the other: the export would replace an input; choose \
                 another folder",
                input.path.display(),
                input.key
            ));
        }
    }
    if own.starts_with(&target) {
        return refuse("holds the run's own folder; choose another folder".to_owned());
    }
    if let Ok(inside) = target.strip_prefix(&own) {
        let first = inside.components().next().map(|part| part.as_os_str().to_string_lossy());
        if first.is_some_and(|name| is_own_name(&name)) {
            return refuse("lies among the run's own records; choose another folder".to_owned());
        }
        return Ok(());
    }
    match run_around(&target) {
        Some(run) => {
            refuse(format!("lies in another run, {}; choose another folder", run.display()))
        }
        None => Ok(()),
    }
}

/// The path without links. Of a path that does not exist, the longest part that does is resolved.
fn real(path: &Path) -> Result<PathBuf, Error> {
    let io = |source| joust_schema::Error::io(path, source);
    let mut existing = std::path::absolute(path).map_err(io)?;
    let mut rest = Vec::new();
    while std::fs::symlink_metadata(&existing).is_err() {
        let (Some(name), Some(parent)) = (existing.file_name(), existing.parent()) else { break };
        rest.push(name.to_owned());
        existing = parent.to_owned();
    }
    let mut real = existing.canonicalize().map_err(io)?;
    real.extend(rest.into_iter().rev());
    Ok(real)
}

#[cfg(test)]
mod tests;
