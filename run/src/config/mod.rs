//! What the commands that take config files read from them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

pub mod merge;
pub mod reference;
pub mod sft;
pub mod train;

/// The run and its folder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunSection {
    /// Name of the run; its folder is `output_dir/name`.
    pub name: String,
    /// Where runs are written.
    pub output_dir: PathBuf,
    /// Key of every random draw of the run.
    pub seed: u64,
    /// Threads that one tensor operation may use; 0 leaves it to libtorch.
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

/// When training states are saved.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointSection {
    /// Steps between checkpoints; 0 saves only after the last step.
    pub every: usize,
    /// Checkpoints that are kept; older ones are deleted. 0 keeps all.
    pub keep_last: usize,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self { every: 0, keep_last: 2 }
    }
}

/// One error that lists all problems of a config, if there are any.
pub fn refuse(problems: Vec<String>) -> Result<(), Error> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::input(format!("config: {}", problems.join("; ")))),
    }
}
