//! The pool of worker threads that sample groups. Each thread has an engine of its own.
//!
//! Prompt i goes to worker i mod n, and every draw is keyed by prompt: the number of threads and
//! their timing change nothing. A worker reports its failures, panics included.

mod messages;
mod pending;
mod render;
pub(crate) mod request;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crossbeam::channel::{Receiver, Sender, bounded};
use joust_engine::Engine;
use joust_engine::model::Decoder;

use crate::config::RolloutConfig;
use crate::error::Error;
use crate::group::RolloutBatch;
use messages::{GroupJob, PromptOutcome, WorkerCommand, WorkerReport};
use request::{GenerateRequest, RolloutProgress};

/// The threads, and the channels to and from them.
pub struct RolloutWorkers {
    commands: Vec<Sender<WorkerCommand>>,
    reports: Receiver<WorkerReport>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl RolloutWorkers {
    /// Starts one thread per engine.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong with the settings, or where no thread
    /// can be started.
    pub fn spawn(engines: Vec<Engine>, config: &RolloutConfig) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::Config(problem));
        }
        if engines.is_empty() {
            return Err(Error::Config("no engine was given, wanted one per worker".to_owned()));
        }
        let (report, reports) = bounded(config.queue_capacity);
        let (mut commands, mut threads) = (Vec::new(), Vec::new());
        for (idx, engine) in engines.into_iter().enumerate() {
            // a worker has one command at a time: the next one waits until it is done
            let (command, receive) = bounded(1);
            let (report, config) = (report.clone(), config.clone());
            let thread = std::thread::Builder::new()
                .name(format!("rollout-{idx}"))
                .spawn(move || worker::run(idx, engine, &config, &receive, &report))
                .map_err(|error| Error::Config(format!("no thread for worker {idx}: {error}")))?;
            commands.push(command);
            threads.push(thread);
        }
        Ok(Self { commands, reports, threads })
    }

    /// Number of workers.
    pub fn n_workers(&self) -> usize {
        self.commands.len()
    }

    /// Samples a group for every prompt.
    ///
    /// A prompt that cannot be sampled from (too long for the context, refused by the chat
    /// template) is dropped with its reason.
    ///
    /// # Errors
    /// [`Error::Worker`] where a worker failed; [`Error::Cancelled`].
    pub fn generate(
        &mut self,
        request: &GenerateRequest<'_>,
        progress: &mut dyn FnMut(RolloutProgress),
    ) -> Result<RolloutBatch, Error> {
        let (n_workers, n_prompts) = (self.n_workers(), request.prompts.len());
        for worker in 0..n_workers {
            let prompts = (worker..n_prompts).step_by(n_workers);
            let jobs = prompts.map(|prompt_idx| GroupJob::new(request, prompt_idx)).collect();
            self.send(worker, WorkerCommand::Generate(jobs, request.cancelled.cloned()))?;
        }
        let mut outcomes: Vec<Option<PromptOutcome>> = (0..n_prompts).map(|_| None).collect();
        let mut so_far = RolloutProgress { n_groups_total: n_prompts, ..Default::default() };
        self.collect(&mut |prompt_idx, outcome| {
            if let PromptOutcome::Group(group) = &outcome {
                let tokens = group.completions.iter().map(|row| row.completion_token_ids.len());
                so_far.n_tokens += tokens.sum::<usize>();
            }
            so_far.n_groups += 1;
            outcomes[prompt_idx] = Some(outcome);
            progress(so_far);
        })?;
        if request.cancelled.is_some_and(|cancelled| cancelled.load(Ordering::Acquire)) {
            return Err(Error::Cancelled);
        }
        let mut batch = RolloutBatch { n_tokens: so_far.n_tokens, ..RolloutBatch::default() };
        for outcome in outcomes.into_iter().flatten() {
            match outcome {
                PromptOutcome::Group(group) => batch.groups.push(*group),
                PromptOutcome::Dropped(dropped) => batch.dropped.push(dropped),
            }
        }
        Ok(batch)
    }

    /// Replaces the weights of every worker by those of `policy`, cast to the number format of the
    /// worker.
    ///
    /// # Errors
    /// [`Error::Worker`] where a worker cannot take them.
    pub fn publish(&mut self, policy: &Decoder) -> Result<(), Error> {
        for worker in 0..self.n_workers() {
            self.send(worker, WorkerCommand::Publish(Box::new(policy.shared())))?;
        }
        self.collect(&mut |_, _| {})
    }

    fn send(&self, worker: usize, command: WorkerCommand) -> Result<(), Error> {
        let ended = || Error::Worker { worker, reason: "its thread has ended".to_owned() };
        self.commands[worker].send(command).map_err(|_| ended())
    }

    /// Passes outcomes on until every worker is done; fails with the failure of the worker with the
    /// lowest number.
    fn collect(&self, take: &mut dyn FnMut(usize, PromptOutcome)) -> Result<(), Error> {
        let mut failures = BTreeMap::new();
        let mut n_done = 0;
        while n_done < self.n_workers() {
            match self.reports.recv() {
                Ok(WorkerReport::Outcome(prompt_idx, outcome)) => take(prompt_idx, outcome),
                Ok(WorkerReport::Done) => n_done += 1,
                Ok(WorkerReport::Failed { worker, reason }) => {
                    failures.insert(worker, reason);
                    n_done += 1;
                }
                Err(_) => {
                    let reason = "all threads have ended".to_owned();
                    return Err(Error::Worker { worker: 0, reason });
                }
            }
        }
        match failures.into_iter().next() {
            Some((worker, reason)) => Err(Error::Worker { worker, reason }),
            None => Ok(()),
        }
    }
}

impl Drop for RolloutWorkers {
    fn drop(&mut self) {
        self.commands.clear();
        for thread in self.threads.drain(..) {
            // panics were reported where they were caught
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
