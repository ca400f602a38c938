//! A run's folder: it is made, resumed, and cleaned of the leftovers of an interrupted run.
//!
//! It knows files and steps. The work of a step is not known here.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use joust_schema::{atomic, jsonl, manifest};
use joust_trainer::{Metrics, checkpoint};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config::RunSection;
use crate::config::renamed::new_name;
use crate::error::Error;

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";

/// Treatment of a run folder that exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExistingRun {
    /// An existing folder is an error.
    #[default]
    Refuse,
    /// Resumes from the newest checkpoint, or starts afresh if there is none.
    Resume,
    /// Deletes the folder first.
    Clean,
}

/// The folder of one run.
pub(crate) struct RunFolder {
    dir: PathBuf,
}

impl RunFolder {
    /// Makes the folder and writes the resolved config into it.
    ///
    /// # Errors
    /// A folder that exists already, unless `existing` allows it; on resuming, a config that
    /// differs from the one of the first start.
    pub(crate) fn open<C: Serialize>(
        run: &RunSection,
        config: &C,
        existing: ExistingRun,
    ) -> Result<Self, Error> {
        let dir = run.dir();
        let text = toml::to_string(config)?;
        let is_there = dir.join(CONFIG).exists();
        let names = std::fs::read_dir(&dir).into_iter().flatten();
        let mut names = names.filter_map(|entry| Some(entry.ok()?.file_name()));
        // the only file that a start leaves if it is killed at once
        let is_empty = names.all(|name| name == "config.toml.tmp");
        if existing == ExistingRun::Clean && dir.exists() {
            if !is_there {
                return Err(Error::input(format!(
                    "{}: --clean deletes only folders of runs, and there is no {CONFIG} in it",
                    dir.display()
                )));
            }
            std::fs::remove_dir_all(&dir)
                .map_err(|source| joust_schema::Error::io(&dir, source))?;
        } else if existing == ExistingRun::Resume && is_there {
            check_same_config(&dir.join(CONFIG), &text)?;
        } else if !is_empty {
            return Err(Error::input(format!(
                "{} is there already; go on with --resume, start over with --clean, or choose \
                 another run.name",
                dir.display()
            )));
        }
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            atomic::write_file(&path, |file| {
                let result = file.write_all(text.as_bytes());
                result.map_err(|source| joust_schema::Error::io(&path, source))
            })
        };
        write(CONFIG, &text)?;
        write("run.json", &format!("{:#}\n", about(run)))?;
        Ok(Self { dir })
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The newest checkpoint if `existing` resumes from it: step and folder. Deletes all records
    /// after it, or all records without one; the run makes them again.
    pub(crate) fn rewind_to_newest(
        &self,
        existing: ExistingRun,
    ) -> Result<Option<(u64, PathBuf)>, Error> {
        let newest = match existing {
            ExistingRun::Resume => checkpoint::latest(&self.dir)?,
            ExistingRun::Refuse | ExistingRun::Clean => None,
        };
        self.rewind(newest.as_ref().map(|(step, _)| *step))?;
        Ok(newest)
    }

    /// Deletes the records after the checkpoint of `step`, or all records without a checkpoint.
    fn rewind(&self, step: Option<u64>) -> Result<(), Error> {
        for dir in [self.dir.clone(), self.dir.join("checkpoints"), self.dir.join("completions")] {
            atomic::sweep(&dir)?;
        }
        let later = |name: &str| {
            let number = name.strip_prefix("step_").or(name.strip_prefix("completions_"));
            let number = number.map(|rest| rest.trim_end_matches(".parquet"));
            number
                .and_then(|rest| rest.parse::<u64>().ok())
                .is_some_and(|number| step.is_none_or(|step| number > step))
        };
        for dir in [self.dir.clone(), self.dir.join("checkpoints"), self.dir.join("completions")] {
            let Ok(entries) = std::fs::read_dir(&dir) else {
                continue;
            };
            for entry in entries {
                let path = entry.map_err(|source| joust_schema::Error::io(&dir, source))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if later(&name) {
                    let removed = match path.is_dir() {
                        true => std::fs::remove_dir_all(&path),
                        false => std::fs::remove_file(&path),
                    };
                    removed.map_err(|source| joust_schema::Error::io(&path, source))?;
                }
            }
        }
        manifest::truncate(&self.dir, step.map_or(-1, |step| step as i64))?;
        let path = self.dir.join(METRICS);
        if path.exists() {
            let mut lines = read_whole_lines(&path)?;
            lines.retain(|line| {
                line["step"].as_u64().is_some_and(|at| step.is_some_and(|step| at <= step))
            });
            jsonl::write(&path, &lines)?;
        }
        Ok(())
    }

    /// Adds one step's metrics to `metrics.jsonl`.
    pub(crate) fn log(&self, step: u64, metrics: &Metrics) -> Result<(), Error> {
        let mut line = Map::from_iter([("step".to_owned(), json!(step))]);
        line.extend(metrics.iter().map(|(name, value)| (name.clone(), json!(value))));
        let path = self.dir.join(METRICS);
        let io = |source| joust_schema::Error::io(&path, source);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(io)?;
        let line = jsonl::to_line(&line).expect("names and numbers serialise. This is a bug.");
        file.write_all(line.as_bytes()).map_err(io)?;
        Ok(())
    }
}

/// The whole lines of a log whose last line a kill may have cut off.
fn read_whole_lines(path: &Path) -> Result<Vec<Value>, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| joust_schema::Error::io(path, source))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn check_same_config(path: &Path, text: &str) -> Result<(), Error> {
    let old =
        std::fs::read_to_string(path).map_err(|source| joust_schema::Error::io(path, source))?;
    let table = |text: &str| {
        text.parse::<toml::Table>()
            .map_err(|error| Error::input(format!("{}: {}", path.display(), error.message())))
    };
    let (old, new) = (table(&old)?, table(text)?);
    match first_difference("", &old, &new) {
        None => Ok(()),
        Some(key) if new_name(&key).is_some() => Err(Error::input(format!(
            "{}: key `{key}` has a new name: {}; finish the run with the version that started it, \
             or start over with --clean",
            path.display(),
            new_name(&key).unwrap_or_default()
        ))),
        Some(key) => Err(Error::input(format!(
            "{}: key `{key}` differs from the config of this start; resume with the same config, \
             or start over with --clean",
            path.display()
        ))),
    }
}

fn first_difference(at: &str, old: &toml::Table, new: &toml::Table) -> Option<String> {
    let keys = old.keys().chain(new.keys());
    for key in keys {
        let name = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match (old.get(key), new.get(key)) {
            (Some(toml::Value::Table(old)), Some(toml::Value::Table(new))) => {
                if let Some(found) = first_difference(&name, old, new) {
                    return Some(found);
                }
            }
            (old, new) if old == new => {}
            _ => return Some(name),
        }
    }
    None
}

/// The content of `run.json`: program, machine and command of the run.
fn about(run: &RunSection) -> Value {
    let git = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output().ok();
    let commit = git
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    json!({
        "name": run.name,
        "seed": run.seed,
        "joust": env!("CARGO_PKG_VERSION"),
        "git_commit": commit,
        "libtorch": joust_engine::ffi::libtorch_version(),
        "threads": run.threads,
        "processors": std::thread::available_parallelism().map_or(1, |n| n.get()),
        "command": std::env::args().collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
