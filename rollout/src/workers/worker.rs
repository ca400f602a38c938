//! The body of a worker thread: renders prompts, runs its engine, and puts groups together.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use crossbeam::channel::{Receiver, Sender};
use joust_engine::{Engine, Error as EngineError, Request, RequestId, Sample};

use super::messages::WorkerCommand;
use crate::config::RolloutConfig;
use crate::error::Error;
use crate::group::{DroppedPrompt, RolloutGroup};
use crate::sampling::group_job::{GroupJob, RenderedGroup, SampledCompletion};
use crate::sampling::reports::{PromptOutcome, WorkerReport};

/// Carries out commands until their channel is closed.
pub(super) fn run(
    worker: usize,
    mut engine: Engine,
    config: &RolloutConfig,
    commands: &Receiver<WorkerCommand>,
    reports: &Sender<WorkerReport>,
) {
    for command in commands {
        let result = catch_unwind(AssertUnwindSafe(|| match command {
            WorkerCommand::Generate(jobs, cancelled) => {
                let is_cancelled =
                    || cancelled.as_ref().is_some_and(|switch| switch.load(Ordering::Acquire));
                generate(&mut engine, config, jobs, &is_cancelled, reports)
            }
            WorkerCommand::Release => engine.release(),
            WorkerCommand::Publish(weights) => engine.publish(&weights),
        }));
        if !matches!(result, Ok(Ok(()))) {
            // the rest of a failed command is not needed; the next one begins afresh
            engine.clear();
        }
        let failed =
            |reason| WorkerReport::Failed { worker, error: Error::Worker { worker, reason } };
        let report = match result {
            Ok(Ok(())) => WorkerReport::Done,
            Ok(Err(error)) => failed(error.to_string()),
            Err(panic) => failed(panic_text(panic.as_ref())),
        };
        if reports.send(report).is_err() {
            return;
        }
    }
}

/// The first line of a panic's message.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message").lines().next().unwrap_or_default())
}

/// Samples all groups; each is reported once it is complete. Those that are not complete when the
/// command is cancelled are given up.
fn generate(
    engine: &mut Engine,
    config: &RolloutConfig,
    jobs: Vec<GroupJob>,
    is_cancelled: &dyn Fn() -> bool,
    reports: &Sender<WorkerReport>,
) -> Result<(), EngineError> {
    // a resumed run has no prefixes of earlier steps: it must give the same numbers
    engine.forget_prefixes();
    let report = |prompt_idx: usize, outcome: PromptOutcome| {
        // sending fails only once the pool is dropped, and with it the caller
        drop(reports.send(WorkerReport::Outcome(prompt_idx, outcome)));
    };
    let mut pending: BTreeMap<RequestId, PendingGroup> = BTreeMap::new();
    for job in jobs {
        let (prompt_idx, prompt_id) = (job.prompt_idx, job.row.prompt_id.clone());
        match submit(engine, config, job) {
            Ok(group) => drop(pending.insert(RequestId(prompt_idx as u64), group)),
            Err(error) if is_failure(&error) => return Err(error),
            Err(error) => {
                let dropped = DroppedPrompt { prompt_id, reason: error.to_string() };
                report(prompt_idx, PromptOutcome::Dropped(dropped));
            }
        }
    }
    while engine.has_work() {
        if is_cancelled() {
            engine.clear();
            return Ok(());
        }
        for sample in engine.step()? {
            let id = sample.request_id;
            let requested = "samples belong to requests that were made. This is a bug.";
            let group = pending.get_mut(&id).expect(requested);
            group.samples.push(sample);
            if group.is_complete() {
                let group = pending.remove(&id).expect(requested).into_group();
                report(id.0 as usize, PromptOutcome::Group(Box::new(group)));
            }
        }
    }
    Ok(())
}

/// True for failures of the machine or the program; other errors concern one prompt.
pub(crate) fn is_failure(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Tensor(_) | EngineError::QueueFull { .. } | EngineError::BadRequest(_)
    )
}

/// Puts the group of one prompt into the engine.
fn submit(
    engine: &mut Engine,
    config: &RolloutConfig,
    job: GroupJob,
) -> Result<PendingGroup, EngineError> {
    let group = job.rendered(engine.tokenizer(), config)?;
    let id = RequestId(group.prompt_idx() as u64);
    let prompt = group.prompt_token_ids().to_vec();
    engine.submit(Request::new(id, prompt, group.params.clone()))?;
    Ok(PendingGroup { group, samples: Vec::new() })
}

/// A group in the engine, and those of its samples that are finished.
struct PendingGroup {
    group: RenderedGroup,
    samples: Vec<Sample>,
}

impl PendingGroup {
    fn is_complete(&self) -> bool {
        self.samples.len() == self.group.params.n as usize
    }

    /// The complete group, its members in the order of their samples.
    fn into_group(self) -> RolloutGroup {
        let Self { group, mut samples } = self;
        samples.sort_by_key(|sample| sample.index);
        group.with(samples.into_iter().map(SampledCompletion::from).collect())
    }
}
