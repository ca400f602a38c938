//! What the commands that take config files read from them.

use std::path::PathBuf;

use joust_schema::config::check;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

pub mod merge;
pub mod reference;
pub mod renamed;
pub mod sft;
pub mod train;

/// The run and its folder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunSection {
    /// Name of the run. The run folder is `output_dir/name`.
    pub name: String,
    /// Folder of the run folders.
    pub output_dir: PathBuf,
    /// Seed of all random draws of the run.
    pub seed: u64,
    /// Number of threads per tensor operation. 0: libtorch's own choice.
    pub threads: usize,
}

impl Default for RunSection {
    fn default() -> Self {
        Self { name: "run".to_owned(), output_dir: "outputs".into(), seed: 0, threads: 0 }
    }
}

impl RunSection {
    /// Tells libtorch how many threads one operation may use.
    pub fn set_threads(&self) {
        if self.threads > 0 {
            joust_engine::device::set_threads(self.threads);
        }
    }

    /// The run's folder.
    pub fn dir(&self) -> PathBuf {
        self.output_dir.join(&self.name)
    }
}

/// Checkpoints: saved training states from which a run goes on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointSection {
    /// Number of steps between checkpoints. 0: one checkpoint after the last step.
    pub every: usize,
    /// Number of checkpoints that are kept; older checkpoints are deleted. 0: all are kept.
    pub keep_last: usize,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self { every: 0, keep_last: 2 }
    }
}

/// Problems of one section: values out of the bounds of their keys, and keys that are missing.
pub(crate) fn of_section<T: Serialize + JsonSchema>(name: &str, section: &T) -> Vec<String> {
    let problems = check::validate(section, &ConfigKeys::of::<T>());
    problems.iter().map(|problem| format!("{name}.{problem}")).collect()
}

/// One error that lists all problems of a config, if there are any.
pub fn refuse(problems: Vec<String>) -> Result<(), Error> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::input(format!("config: {}", problems.join("; ")))),
    }
}
