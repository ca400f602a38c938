//! Events of a run, for programs that show or record its progress.

use std::path::Path;

use joust_schema::ids::PromptId;
use joust_trainer::Metrics;

/// An event of a run.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The run goes on from the checkpoint of `step`.
    Resumed {
        /// The checkpoint's step.
        step: u64,
    },
    /// The run goes on with another config than that of the start before.
    ConfigChanged {
        /// The keys, each with both values.
        changes: &'a [String],
    },
    /// A training run is open and ready for its next step.
    TrainingReady {
        /// Number of parameters of the policy.
        n_parameters: usize,
        /// Number of prompts in the file.
        n_prompts: usize,
        /// Name of the judge.
        judge: &'a str,
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
    /// A part of a step is complete: a prompt's group, a tournament.
    Progressed,
    /// Groups without spread are replaced: as many new prompts are sampled and scored.
    GroupsRefilled {
        /// The step.
        step: u64,
        /// Number of new prompts.
        n_groups: usize,
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
    /// All completions were truncated and are left out of the loss: the step has no update.
    AllTruncated {
        /// The step.
        step: u64,
        /// Number of completions.
        n_completions: usize,
        /// Maximum number of tokens of a completion.
        max_tokens: usize,
    },
    /// The accuracy on held-out prompts is measured.
    Evaluated {
        /// The last step before it; 0 at the start of the run.
        step: u64,
        /// The accuracy.
        accuracy: f64,
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
    /// A step is complete and logged.
    StepFinished {
        /// The step, counted from 1.
        step: u64,
        /// Number of steps of the whole run.
        n_steps: u64,
        /// The step's metrics.
        metrics: &'a Metrics,
        /// The newest accuracy on held-out prompts, if it is measured.
        eval_accuracy: Option<f64>,
    },
    /// No prompts are left for a further step.
    PromptsExhausted,
    /// The loop is over; the model is exported next, unless the run was stopped or has failed.
    LoopFinished,
}

/// Receives the events of a run, in their order, on the run's own thread.
pub trait Observer {
    /// Takes one event.
    fn observe(&mut self, event: Event<'_>);
}
