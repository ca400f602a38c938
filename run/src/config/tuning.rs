//! What the configs of `joust sft` and `joust dpo` have in common.

use std::path::PathBuf;

use joust_engine::{Tokenizer, template_problems};
use joust_schema::ordered_json::JsonFields;
use joust_trainer::TuningLength;
use joust_trainer::optim::ScheduleConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::of_section;
use crate::error::Error;
use crate::inputs::InputPath;

/// Measurement of progress: the loss of held-out examples, which are not learned from.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TuningEvalSection {
    /// File of held-out examples, in the form of `data.path` and rendered with the settings of
    /// `[data]`. Without it, nothing is measured.
    pub path: Option<PathBuf>,
    /// Number of steps between measurements (TRL's `eval_steps`). The end of the run is always
    /// measured. 0: no other measurements.
    pub every: u64,
    /// Maximum number of examples, counted from the beginning of the file. 0: all examples.
    pub max_examples: usize,
}

impl TuningEvalSection {
    /// Problems of the section.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = of_section("eval", self);
        if self.path.is_none() && (self.every > 0 || self.max_examples > 0) {
            problems.push(
                "eval.path is missing, wanted a file with eval.every or eval.max_examples"
                    .to_owned(),
            );
        }
        problems
    }

    /// The file, if there is one, as an input of the run.
    pub(super) fn input(&self) -> Option<InputPath> {
        self.path.as_ref().map(|path| InputPath::file("eval.path", path))
    }

    /// Maximum number of examples that are measured.
    pub(crate) fn n_examples(&self) -> usize {
        match self.max_examples {
            0 => usize::MAX,
            n_examples => n_examples,
        }
    }

    /// Whether step `step` of `n_steps` ends with a measurement.
    pub(crate) fn is_due(&self, step: u64, n_steps: u64) -> bool {
        step == n_steps || (self.every > 0 && step.is_multiple_of(self.every))
    }
}

/// What the chat template of a `[data]` section sees.
#[derive(Clone, Copy)]
pub(crate) struct TemplateSettings<'a> {
    /// Date that chat templates see.
    pub(crate) template_date: &'a str,
    /// Further variables of the chat template.
    pub(crate) template_kwargs: &'a JsonFields,
}

impl TemplateSettings<'_> {
    /// Problems of the section, each named by its key.
    pub(super) fn problems(&self) -> Vec<String> {
        let found = template_problems(self.template_date, self.template_kwargs);
        found.iter().map(|problem| format!("data.{problem}")).collect()
    }

    /// The tokenizer with the variables that the section gives to its chat template.
    ///
    /// # Errors
    /// [`Error::Engine`] for a date that is none.
    pub(crate) fn tokenizer(&self, tokenizer: &Tokenizer) -> Result<Tokenizer, Error> {
        let tokenizer = tokenizer.with_template_date(self.template_date)?;
        Ok(tokenizer.with_template_kwargs(self.template_kwargs))
    }
}

/// Problems of a run's length: how it is given, and with the schedule of the learning rate where
/// the number of steps is known without the data.
pub(super) fn length_problems(
    length: &Result<TuningLength, String>,
    schedule: &ScheduleConfig,
) -> Vec<String> {
    match length {
        Err(problem) => vec![format!("trainer.{problem}")],
        Ok(TuningLength::Epochs(_)) => Vec::new(),
        Ok(TuningLength::Steps(steps)) => schedule_problem(schedule, *steps).into_iter().collect(),
    }
}

/// What is wrong with the schedule of the learning rate in a run of `n_steps` steps.
pub(crate) fn schedule_problem(schedule: &ScheduleConfig, n_steps: u64) -> Option<String> {
    let problem = schedule.problem_with(n_steps)?;
    Some(format!("trainer.learner.optim.schedule.{problem}"))
}
