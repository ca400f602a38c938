//! The pool of worker threads that sample groups. Each thread has an engine of its own.
//!
//! Prompt i goes to worker i mod n, and every draw is keyed by prompt: the number of threads and
//! their timing change nothing. A worker reports its failures, panics included.

mod messages;
pub(crate) mod worker;

use crossbeam::channel::{Receiver, Sender, bounded};
use joust_engine::Engine;
use joust_engine::model::Decoder;
use joust_schema::ids::PolicyVersion;

use crate::config::RolloutConfig;
use crate::error::Error;
use crate::sampler::Sampler;
use crate::sampling::Sampling;
use crate::sampling::group_job::GroupJob;
use crate::sampling::reports::{WorkerReplies, WorkerReport};
use crate::sampling::request::GenerateRequest;
use messages::WorkerCommand;

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

    fn send(&self, worker: usize, command: WorkerCommand) -> Result<(), Error> {
        let ended = || Error::Worker { worker, reason: "its thread has ended".to_owned() };
        self.commands[worker].send(command).map_err(|_| ended())
    }

    /// The replies to a command that was sent to every worker.
    fn replies(&self) -> WorkerReplies<'_> {
        WorkerReplies::new(&self.reports, self.n_workers())
    }
}

impl Sampler for RolloutWorkers {
    fn n_workers(&self) -> usize {
        self.commands.len()
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    /// # Errors
    /// [`Error::Worker`] where a worker's thread has ended.
    fn start(&mut self, request: &GenerateRequest<'_>) -> Result<Sampling<'_>, Error> {
        let (n_workers, n_prompts) = (self.n_workers(), request.prompts.len());
        for worker in 0..n_workers {
            let prompts = (worker..n_prompts).step_by(n_workers);
            let jobs = prompts.map(|prompt_idx| GroupJob::new(request, prompt_idx)).collect();
            self.send(worker, WorkerCommand::Generate(jobs, request.cancelled.cloned()))?;
        }
        Ok(Sampling::new(self.replies(), n_prompts, request.cancelled.cloned()))
    }

    fn release(&mut self) -> Result<(), Error> {
        for worker in 0..self.n_workers() {
            self.send(worker, WorkerCommand::Release)?;
        }
        self.replies().finish()
    }

    /// Replaces the weights of every worker by those of `policy`, cast to the number format of the
    /// worker.
    ///
    /// # Errors
    /// [`Error::Worker`] where a worker cannot take them.
    fn publish(&mut self, policy: &Decoder, _version: PolicyVersion) -> Result<(), Error> {
        for worker in 0..self.n_workers() {
            self.send(worker, WorkerCommand::Publish(Box::new(policy.shared())))?;
        }
        self.replies().finish()
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
