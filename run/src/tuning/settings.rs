//! The settings that all kinds of runs on given texts have.

use std::path::Path;

use joust_engine::device::DeviceChoice;
use joust_trainer::{LearnerConfig, TuningLength};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::sft::ExportSection;
use crate::config::tuning::{TuningEvalSection, schedule_problem};
use crate::config::{CheckpointSection, RunSection, refuse};
use crate::error::Error;
use crate::inputs::InputPath;

/// A config of such a run.
pub(crate) trait TuningConfig: Default + Serialize + JsonSchema {
    /// All problems, each named by its key.
    fn problems(&self) -> Vec<String>;
    /// The files and folders that the run reads.
    fn inputs(&self) -> Vec<InputPath>;
    /// The settings that all kinds have.
    fn settings(&self) -> TuningSettings<'_>;
}

/// Settings of a run on given texts, where its config has them.
pub(crate) struct TuningSettings<'a> {
    pub(crate) run: &'a RunSection,
    pub(crate) eval: &'a TuningEvalSection,
    pub(crate) checkpoint: &'a CheckpointSection,
    pub(crate) export: &'a ExportSection,
    /// Device of the model in training.
    pub(crate) device: DeviceChoice,
    /// The model in training, without adapters.
    pub(crate) base: &'a Path,
    pub(crate) learner: &'a LearnerConfig,
    /// Length of the run, or why it has none.
    pub(crate) length: Result<TuningLength, String>,
    /// Number of examples per update.
    pub(crate) batch_size: usize,
}

impl TuningSettings<'_> {
    /// Number of updates of the whole run on `n_examples` examples; `None` for examples that do not
    /// repeat.
    ///
    /// # Errors
    /// [`Error::Input`] for a length that the config or the data do not give, and for a schedule
    /// that is longer than it.
    pub(crate) fn n_steps(&self, n_examples: Option<u64>) -> Result<u64, Error> {
        let length = self.length.clone().map_err(Error::input)?;
        let n_steps = length.n_steps(n_examples, self.batch_size);
        let n_steps = n_steps
            .ok_or_else(|| Error::input("trainer.epochs is set for examples that do not repeat"))?;
        let problem = schedule_problem(&self.learner.optim.schedule, n_steps);
        refuse(problem.into_iter().collect())?;
        Ok(n_steps)
    }
}
