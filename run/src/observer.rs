//! Events of a run, for programs that show or record its progress.

use std::path::Path;

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
