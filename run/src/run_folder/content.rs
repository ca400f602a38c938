//! What lies in a run's folder: whether it is a run at all, how far it has come, and which files
//! are the run's own.
//!
//! It deletes what joust has written and nothing else.

use std::path::{Path, PathBuf};

use joust_schema::{Error as FileError, atomic, manifest};
use serde_json::Value;

use super::lock;
use crate::error::Error;

/// The resolved config of the newest start.
pub(super) const CONFIG: &str = "config.toml";
/// Program, machine, command and inputs of the first start.
pub(super) const ABOUT: &str = "run.json";
/// One line per start.
pub(super) const STARTS: &str = "starts.jsonl";
/// One line per step.
pub(super) const METRICS: &str = "metrics.jsonl";
/// Folders of steps' records, beside the `step_…` folders.
const CHECKPOINTS: &str = "checkpoints";
const COMPLETIONS: &str = "completions";
/// Folder of the weights that servers read.
pub(crate) const WEIGHTS: &str = "weights";

/// What is at the place of a run's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FolderContent {
    /// Nothing that anybody misses.
    Nothing,
    /// Something that is no run.
    Other,
    /// A run that has made no step: a start failed or was stopped before the first one was over.
    RunWithoutSteps,
    /// A run with steps.
    RunWithSteps,
}

/// Looks at a folder, without touching it.
pub(super) fn look(dir: &Path) -> Result<FolderContent, Error> {
    if std::fs::symlink_metadata(dir).is_ok() && !dir.is_dir() {
        return Err(Error::input(format!(
            "{} is no folder; choose another run.name or run.output_dir",
            dir.display()
        )));
    }
    let names = names(dir)?;
    // the files that a start leaves if it is killed at once
    let is_leftover = |name: &String| {
        name == lock::FILE || name != CONFIG && atomic::finished_name(name) == CONFIG
    };
    if names.iter().all(is_leftover) {
        return Ok(FolderContent::Nothing);
    }
    if !is_run(dir) {
        return Ok(FolderContent::Other);
    }
    let has_steps = names.iter().any(|name| is_step(name))
        || self::names(&dir.join(CHECKPOINTS))?.iter().any(|name| is_step(name))
        || has_logged_steps(&dir.join(METRICS));
    match has_steps {
        true => Ok(FolderContent::RunWithSteps),
        false => Ok(FolderContent::RunWithoutSteps),
    }
}

/// The whole lines of a log whose last line a kill may have cut off.
pub(super) fn read_whole_lines(path: &Path) -> Result<Vec<Value>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::io(path, source))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The run's folder that `path` is or lies in.
pub(crate) fn run_around(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|dir| is_run(dir)).map(Path::to_owned)
}

/// Whether joust gives this name to an entry of a run's folder.
pub(crate) fn is_own_name(name: &str) -> bool {
    let name = atomic::finished_name(name);
    let files = [CONFIG, ABOUT, STARTS, METRICS, manifest::FILE, CHECKPOINTS, COMPLETIONS, WEIGHTS];
    name == lock::FILE || files.contains(&name) || is_step(name)
}

/// Reads the step out of the name of a record; `None` for other names.
pub(super) type StepOfName = fn(&str) -> Option<u64>;

/// The folders with records of steps, and how the records of each are named.
pub(super) fn step_folders(dir: &Path) -> [(PathBuf, StepOfName); 3] {
    [
        (dir.to_owned(), step_of_folder),
        (dir.join(CHECKPOINTS), step_of_folder),
        (dir.join(COMPLETIONS), step_of_completions),
    ]
}

/// `step_00001`
fn step_of_folder(name: &str) -> Option<u64> {
    step_of_digits(name.strip_prefix("step_")?)
}

/// `completions_00001.parquet`
fn step_of_completions(name: &str) -> Option<u64> {
    step_of_digits(name.strip_prefix("completions_")?.strip_suffix(".parquet")?)
}

/// At least five digits, as joust writes them.
fn step_of_digits(digits: &str) -> Option<u64> {
    let is_own = digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_own { digits.parse().ok() } else { None }
}

fn is_step(name: &str) -> bool {
    step_of_folder(name).is_some()
}

fn is_completions(name: &str) -> bool {
    step_of_completions(name).is_some()
}

/// `v000001`, and the weights that a start tries servers with.
fn is_weights(name: &str) -> bool {
    let digits = name.strip_prefix('v').unwrap_or_default();
    name == "drill" || digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_run(dir: &Path) -> bool {
    let config = std::fs::read_to_string(dir.join(CONFIG)).ok();
    let config = config.and_then(|text| text.parse::<toml::Table>().ok());
    let has_section = config.is_some_and(|config| {
        let section = config.get("run").and_then(toml::Value::as_table);
        let keys = ["name", "output_dir", "seed", "threads"];
        section.is_some_and(|section| keys.iter().all(|key| section.contains_key(*key)))
    });
    let about = std::fs::read_to_string(dir.join(ABOUT)).ok();
    let about = about.map(|text| serde_json::from_str::<Value>(&text).unwrap_or_default());
    // a start that was killed at once has no `run.json`
    has_section && about.is_none_or(|about| about["joust"].is_string())
}

fn has_logged_steps(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let rows = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    rows.into_iter().any(|row| row["step"].as_u64().is_some_and(|step| step > 0))
}

/// Names of the entries of a folder; none where there is no folder.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::io(dir, error).into()),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.map_err(|source| FileError::io(dir, source))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

/// Clears what an interrupted run has left unfinished in its folder. What somebody else has put
/// there stays.
pub(super) fn sweep(dir: &Path) -> Result<(), Error> {
    atomic::sweep(dir, is_own_name)?;
    atomic::sweep(&dir.join(CHECKPOINTS), is_step)?;
    atomic::sweep(&dir.join(WEIGHTS), is_weights)?;
    Ok(atomic::sweep(&dir.join(COMPLETIONS), is_completions)?)
}

/// Deletes all that joust has written into a run's folder, except the lock. What somebody else has
/// put there stays.
pub(super) fn delete_run(dir: &Path) -> Result<(), Error> {
    let mut names = names(dir)?;
    // last of all the files by which the folder is known as a run: a kill may come in between
    names.sort_by_key(|name| [ABOUT, CONFIG].iter().position(|last| last == name));
    for name in names {
        let path = dir.join(&name);
        let of_step = match name.as_str() {
            CHECKPOINTS => is_step,
            COMPLETIONS => is_completions,
            WEIGHTS => is_weights,
            name if name == lock::FILE || !is_own_name(name) => continue,
            _ => {
                delete(&path)?;
                continue;
            }
        };
        for inner in self::names(&path)? {
            if of_step(atomic::finished_name(&inner)) {
                delete(&path.join(inner))?;
            }
        }
        // not empty where somebody keeps something there
        let _ = std::fs::remove_dir(&path);
    }
    Ok(())
}

fn delete(path: &Path) -> Result<(), Error> {
    let io = |source| FileError::io(path, source);
    // a link to a folder is deleted, and not the folder
    let is_folder = std::fs::symlink_metadata(path).map_err(io)?.is_dir();
    let deleted =
        if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    Ok(deleted.map_err(io)?)
}

#[cfg(test)]
mod tests;
