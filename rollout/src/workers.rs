//! Worker threads that sample groups, each around an engine of its own.
//!
//! Prompt i goes to worker i mod n, and every draw is keyed by prompt: which thread does the work,
//! and when, changes nothing. A worker that fails says so; it never takes the program down.

mod worker;

use std::collections::BTreeMap;

use crossbeam::channel::{Receiver, Sender, bounded};
use joust_engine::Engine;
use joust_engine::model::Decoder;
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;

use crate::config::RolloutConfig;
use crate::error::Error;
use crate::group::RolloutBatch;
use crate::prompts::PromptRow;
use worker::{Command, Job, Outcome, Report, run};

/// What one call of [`RolloutWorkers::generate`] is to do.
#[derive(Clone, Copy, Debug)]
pub struct GenerateRequest<'a> {
    /// Training step; 0 outside of training.
    pub step: i64,
    /// The weights that the workers hold.
    pub policy_version: PolicyVersion,
    /// Prompts, a group each.
    pub prompts: &'a [PromptRow],
    /// Key of every draw.
    pub seed: Seed,
    /// Completions a prompt, where it is not the configured number.
    pub group_size: Option<u32>,
    /// Temperature, where it is not the configured one; 0 takes the most probable tokens.
    pub temperature: Option<f64>,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Groups that are finished or dropped.
    pub n_groups: usize,
    /// Groups of the call.
    pub n_groups_total: usize,
    /// Tokens of the finished groups.
    pub n_tokens: usize,
}

/// The threads and the channels to them.
pub struct RolloutWorkers {
    commands: Vec<Sender<Command>>,
    reports: Receiver<Report>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl RolloutWorkers {
    /// Starts one thread an engine.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong with the settings, or where no thread
    /// can be started.
    pub fn spawn(engines: Vec<Engine>, config: &RolloutConfig) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::Config(problem));
        }
        if engines.is_empty() {
            return Err(Error::Config("no engine was given, wanted one a worker".to_owned()));
        }
        let (report, reports) = bounded(config.queue_capacity);
        let (mut commands, mut threads) = (Vec::new(), Vec::new());
        for (worker, engine) in engines.into_iter().enumerate() {
            // one command at a time: the next one waits for the reports of the one before
            let (command, receive) = bounded(1);
            let (report, config) = (report.clone(), config.clone());
            let thread = std::thread::Builder::new()
                .name(format!("rollout-{worker}"))
                .spawn(move || run(worker, engine, &config, &receive, &report))
                .map_err(|error| {
                    Error::Config(format!("no thread for worker {worker}: {error}"))
                })?;
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
    /// [`Error::Worker`] where a worker failed.
    pub fn generate(
        &mut self,
        request: &GenerateRequest<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<RolloutBatch, Error> {
        let n_workers = self.n_workers();
        let mut jobs: Vec<Vec<Job>> = (0..n_workers).map(|_| Vec::new()).collect();
        for (place, prompt) in request.prompts.iter().enumerate() {
            jobs[place % n_workers].push(Job::new(request, place, prompt));
        }
        for (worker, jobs) in jobs.into_iter().enumerate() {
            self.send(worker, Command::Generate(jobs))?;
        }
        let n_prompts = request.prompts.len();
        let mut found: Vec<Option<Outcome>> = (0..n_prompts).map(|_| None).collect();
        let mut at = Progress { n_groups_total: n_prompts, ..Progress::default() };
        self.collect(&mut |place, outcome| {
            if let Outcome::Group(group) = &outcome {
                let tokens = group.completions.iter().map(|row| row.completion_token_ids.len());
                at.n_tokens += tokens.sum::<usize>();
            }
            at.n_groups += 1;
            found[place] = Some(outcome);
            progress(at);
        })?;
        let mut batch = RolloutBatch { n_tokens: at.n_tokens, ..RolloutBatch::default() };
        for outcome in found.into_iter().flatten() {
            match outcome {
                Outcome::Group(group) => batch.groups.push(*group),
                Outcome::Dropped(dropped) => batch.dropped.push(dropped),
            }
        }
        Ok(batch)
    }

    /// Replaces the weights of every worker by those of `policy`, cast to what the workers compute
    /// in.
    ///
    /// # Errors
    /// [`Error::Worker`] where a worker cannot take them.
    pub fn publish(&mut self, policy: &Decoder) -> Result<(), Error> {
        for worker in 0..self.n_workers() {
            self.send(worker, Command::Publish(Box::new(policy.shared())))?;
        }
        self.collect(&mut |_, _| {})
    }

    fn send(&self, worker: usize, command: Command) -> Result<(), Error> {
        let gone = || Error::Worker { worker, reason: "its thread has ended".to_owned() };
        self.commands[worker].send(command).map_err(|_| gone())
    }

    /// Takes reports until every worker has said that it is done, and then the failure of the first
    /// worker that has one.
    fn collect(&self, take: &mut dyn FnMut(usize, Outcome)) -> Result<(), Error> {
        let mut failures = BTreeMap::new();
        let mut n_done = 0;
        while n_done < self.n_workers() {
            match self.reports.recv() {
                Ok(Report::Outcome(place, outcome)) => take(place, outcome),
                Ok(Report::Done) => n_done += 1,
                Ok(Report::Failed { worker, reason }) => {
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
            // a panic was caught and reported; there is nothing more to say about it here
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
