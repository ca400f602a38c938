//! The body of a worker thread: renders prompts, runs its engine, and puts groups together.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use crossbeam::channel::{Receiver, Sender};
use joust_engine::{Engine, Error as EngineError, Request, RequestId, SamplingParams};

use super::messages::{GroupJob, PromptOutcome, WorkerCommand, WorkerReport};
use super::pending::PendingGroup;
use super::render::render;
use crate::config::RolloutConfig;
use crate::group::DroppedPrompt;

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
        let report = match result {
            Ok(Ok(())) => WorkerReport::Done,
            Ok(Err(error)) => WorkerReport::Failed { worker, reason: error.to_string() },
            Err(panic) => WorkerReport::Failed { worker, reason: panic_text(panic.as_ref()) },
        };
        if reports.send(report).is_err() {
            return;
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
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
            group.add_sample(sample);
            if group.is_complete() {
                let group = pending.remove(&id).expect(requested).into_group();
                report(id.0 as usize, PromptOutcome::Group(Box::new(group)));
            }
        }
    }
    Ok(())
}

/// True for failures of the machine or the program; other errors concern one prompt.
fn is_failure(error: &EngineError) -> bool {
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
    let question = job.row.prompt.question();
    let prompt = render(&job.row, &question, engine.tokenizer(), config)?;
    let n_samples = job.group_size.unwrap_or(config.group_size);
    let params = SamplingParams {
        max_tokens: config.max_completion_length,
        temperature: job.temperature.unwrap_or(config.temperature),
        top_p: config.top_p,
        top_k: config.top_k,
        n: n_samples,
        seed: job.seed,
        stop: config.stop.clone(),
        ..SamplingParams::default()
    };
    let id = RequestId(job.prompt_idx as u64);
    engine.submit(Request::new(id, prompt.token_ids.clone(), params))?;
    Ok(PendingGroup::new(job, question, prompt, n_samples))
}
