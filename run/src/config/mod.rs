//! What the commands that take config files read from them.

use std::path::PathBuf;

use joust_schema::config::check;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

pub mod dpo;
pub mod merge;
pub mod reference;
pub mod renamed;
pub mod sft;
pub mod train;
pub mod tuning;

/// The run and its folder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunSection {
    /// Name of the run: one part of a path, not hidden. The run folder is `output_dir/name`.
    pub name: String,
    /// Folder of the run folders.
    pub output_dir: PathBuf,
    /// Seed of all random draws of the run.
    pub seed: u64,
    /// Number of threads per tensor operation. 0: libtorch's own choice.
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// The processes of the run, where a launcher starts several.
    pub ranks: RanksSection,
}

impl Default for RunSection {
    fn default() -> Self {
        let (name, output_dir) = ("run".to_owned(), "outputs".into());
        Self { name, output_dir, seed: 0, threads: 0, ranks: RanksSection::default() }
    }
}

/// Several processes of a run: how long they wait for each other.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RanksSection {
    /// Seconds within which all processes have to come.
    #[schemars(range(min = 1.0, max = 1e6))]
    pub join_timeout_s: f64,
    /// Seconds that a process waits for another one that hangs, or works longer on its part of a
    /// step.
    #[schemars(range(min = 1.0, max = 1e6))]
    pub timeout_s: f64,
}

impl Default for RanksSection {
    fn default() -> Self {
        Self { join_timeout_s: 300.0, timeout_s: 1_800.0 }
    }
}

impl RunSection {
    /// Tells libtorch how many threads one operation may use.
    pub fn set_threads(&self) {
        if self.threads > 0 {
            joust_engine::device::set_threads(self.threads);
        }
    }

    /// Problems that the bounds of the keys do not show: a name that is no single part of a path.
    pub(crate) fn problems(&self) -> Vec<String> {
        let name = &self.name;
        let is_part = !name.is_empty()
            && name.len() <= 200
            && !name.starts_with('.')
            && !name.contains(['/', '\\'])
            && !name.contains(char::is_control);
        let mut problems = of_section("run", self);
        if !is_part {
            problems.push(format!(
                "run.name is {name:?}, wanted the name of one folder: 1 to 200 bytes, without a \
                 slash and without a dot at its beginning"
            ));
        }
        problems
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
    /// Minutes after which an interim checkpoint is written beside those of `every`, at the end of
    /// a step. It bounds the work that a killed run loses, and is deleted once there is a newer
    /// checkpoint. Where writing takes long, interim checkpoints are rarer: they take at most about
    /// a twentieth of the time. 0: none. A run that is asked to stop writes one in any case.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub every_minutes: f64,
    /// Number of checkpoints that are kept, interim checkpoints not counted; older checkpoints are
    /// deleted. 0: all are kept.
    pub keep_last: usize,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self { every: 0, every_minutes: 10.0, keep_last: 2 }
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
