//! Events of a run, for programs that show or record its progress.

use std::path::Path;

use joust_schema::ids::PromptId;
use joust_trainer::Metrics;

use crate::error::Error;
use crate::training::state::FinishedRun;
use crate::tuning::finished::FinishedTuning;

/// An event of a run.
#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// The run goes on from the checkpoint of `step`.
    Resumed {
        /// The checkpoint's step.
        step: u64,
        /// The keys whose values differ from those of the start before, each with both.
        changes: &'a [String],
    },
    /// A training run is open and ready for its next step.
    TrainingReady {
        /// Number of parameters of the policy.
        n_parameters: usize,
        /// Number of prompts in the file.
        n_prompts: usize,
        /// The servers that sample; none where this machine does.
        sampler: Option<&'a str>,
        /// Name of the judge, if there is one.
        judge: Option<&'a str>,
        /// The run's folder.
        run_dir: &'a Path,
    },
    /// A run on given texts is open and ready for its next step.
    TuningReady {
        /// Number of parameters of the model.
        n_parameters: usize,
        /// Number of steps of the whole run.
        n_steps: u64,
        /// The run's folder.
        run_dir: &'a Path,
    },
    /// The loop begins.
    LoopStarted {
        /// Number of complete steps.
        step: u64,
        /// Number of steps of the whole run.
        n_steps: u64,
    },
    /// Parts of a step are complete: the group of a prompt, tournaments.
    Progressed,
    /// Groups without spread are replaced: as many new prompts are sampled and scored.
    GroupsRefilled {
        /// The step.
        step: u64,
        /// Number of new prompts.
        n_groups: usize,
    },
    /// The run was asked to stop, and the step would have needed further groups: it is given up as
    /// if it had not begun, and the next start repeats it.
    StepGivenUp {
        /// The step.
        step: u64,
    },
    /// The run was asked to stop while all servers that sample were gone: the step is given up as
    /// if it had not begun, and the next start repeats it.
    StepWithoutServers {
        /// The step.
        step: u64,
    },
    /// A prompt of the step cannot be sampled from, and has no group.
    PromptDropped {
        /// The step.
        step: u64,
        /// The prompt.
        prompt_id: &'a PromptId,
        /// Why it has none.
        reason: &'a str,
    },
    /// The chat template ends the assistant's turn by no control token.
    TurnsWithoutEnd,
    /// All completions were truncated and are left out of the loss: the step has no update.
    AllTruncated {
        /// The step.
        step: u64,
        /// Number of completions.
        n_completions: usize,
        /// Maximum number of tokens of a completion.
        max_tokens: usize,
    },
    /// The policy is measured on held-out prompts.
    Evaluated {
        /// The last step before it; 0 at the start of the run.
        step: u64,
        /// What was measured. After a step, the step's metrics have it, too.
        metrics: &'a Metrics,
    },
    /// Held-out prompts cannot be sampled from, and count as wrong.
    HeldOutPromptsDropped {
        /// Number of these prompts.
        n_dropped: usize,
        /// The first of them.
        prompt_id: &'a PromptId,
        /// Why it cannot be sampled from.
        reason: &'a str,
    },
    /// A stop has broken the measurement on held-out prompts off; the next start repeats it.
    EvaluationBrokenOff {
        /// The last step before it.
        step: u64,
    },
    /// A checkpoint is written.
    CheckpointSaved {
        /// Its step.
        step: u64,
    },
    /// After a failure in a step, the state before it could not be saved.
    StateNotSaved {
        /// Why not.
        error: &'a str,
    },
    /// The model is written to the folder of `export.path`.
    ModelExported {
        /// The folder.
        path: &'a Path,
    },
    /// A step is complete.
    StepFinished {
        /// The step, counted from 1.
        step: u64,
        /// Number of steps of the whole run.
        n_steps: u64,
        /// The step's metrics.
        metrics: &'a Metrics,
    },
    /// No prompts are left for a further step.
    PromptsExhausted,
    /// The loop is over; the model is exported next, unless the run was stopped or has failed.
    LoopFinished,
    /// A training run has made all of its steps, and its model is exported.
    TrainingFinished {
        /// The run.
        run: &'a FinishedRun,
    },
    /// A run on given texts has made all of its steps, and its model is exported.
    TuningFinished {
        /// The run.
        run: &'a FinishedTuning,
    },
}

/// Receives the events of a run, in their order, on the run's own thread.
pub trait Observer {
    /// Takes one event.
    ///
    /// # Errors
    /// A failure ends the run.
    fn observe(&mut self, event: Event<'_>) -> Result<(), Error>;
}

impl<T: Observer + ?Sized> Observer for &mut T {
    fn observe(&mut self, event: Event<'_>) -> Result<(), Error> {
        (**self).observe(event)
    }
}

/// Where there is none, nothing is told.
impl<T: Observer> Observer for Option<T> {
    fn observe(&mut self, event: Event<'_>) -> Result<(), Error> {
        self.as_mut().map_or(Ok(()), |observer| observer.observe(event))
    }
}

/// The second one takes an event once the first one has taken it.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn observe(&mut self, event: Event<'_>) -> Result<(), Error> {
        self.0.observe(event)?;
        self.1.observe(event)
    }
}
