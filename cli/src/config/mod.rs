//! What the commands that take config files read from them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::UserError;

pub(crate) mod merge;
pub(crate) mod reference;
pub(crate) mod score;
pub(crate) mod sft;
pub(crate) mod train;

/// The run and its folder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RunSection {
    /// Name of the run; its folder is `output_dir/name`.
    pub(crate) name: String,
    /// Where runs are written.
    pub(crate) output_dir: PathBuf,
    /// Key of every random draw of the run.
    pub(crate) seed: u64,
    /// Threads that one tensor operation may use; 0 leaves it to libtorch.
    pub(crate) threads: usize,
}

impl Default for RunSection {
    fn default() -> Self {
        Self { name: "run".to_owned(), output_dir: "outputs".into(), seed: 0, threads: 0 }
    }
}

impl RunSection {
    /// Tells libtorch how many threads one operation may use.
    pub(crate) fn set_threads(&self) {
        if self.threads > 0 {
            joust_engine::device::set_threads(self.threads);
        }
    }

    /// The run's folder.
    pub(crate) fn dir(&self) -> PathBuf {
        self.output_dir.join(&self.name)
    }
}

/// When training states are saved.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CheckpointSection {
    /// Steps between checkpoints; 0 saves only after the last step.
    pub(crate) every: usize,
    /// Checkpoints that are kept; older ones are deleted. 0 keeps all.
    pub(crate) keep_last: usize,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self { every: 0, keep_last: 2 }
    }
}

/// One error that lists all problems of a config, if there are any.
pub(crate) fn refuse(problems: Vec<String>) -> anyhow::Result<()> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(UserError::new(format!("config: {}", problems.join("; "))).into()),
    }
}
