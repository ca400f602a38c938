//! The thread that calls servers: all groups of a request at once, each reported when it is whole.
//!
//! It does not know what a call says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use joust_fleet::Fleet;

use super::counts::Counts;
use super::group_call::GroupCall;
use super::policy::ServedPolicy;
use super::wire::Wire;
use crate::config::RolloutConfig;
use crate::error::Error;
use crate::group::DroppedPrompt;
use crate::sampling::group_job::GroupJob;
use crate::sampling::reports::{PromptOutcome, WorkerReport};
use crate::workers::worker::{is_failure, panic_text};

/// Time between two looks whether the groups are still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// Sample these groups.
pub(super) struct GenerateCommand {
    pub(super) jobs: Vec<GroupJob>,
    /// What servers with the newest weights call them.
    pub(super) label: String,
    /// Once it is true, the calls are given up. The thread sets it where it gives up by itself.
    pub(super) cancelled: Arc<AtomicBool>,
    /// Once it is true, servers that are all gone are not waited for.
    pub(super) stop: Arc<AtomicBool>,
}

/// What the thread works with.
pub(super) struct SamplingThread {
    pub(super) fleet: Fleet,
    pub(super) wire: Wire,
    pub(super) policy: ServedPolicy,
    pub(super) config: RolloutConfig,
    pub(super) counts: Arc<Counts>,
    pub(super) reports: Sender<WorkerReport>,
}

impl SamplingThread {
    /// Carries out commands until their channel is closed.
    pub(super) fn run(
        self,
        runtime: &tokio::runtime::Runtime,
        commands: &Receiver<GenerateCommand>,
    ) {
        for command in commands {
            let result =
                catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.generate(command))));
            let failed = |error| WorkerReport::Failed { worker: 0, error };
            let report = match result {
                Ok(Ok(())) => WorkerReport::Done,
                Ok(Err(error)) => failed(error),
                Err(panic) => failed(Error::Servers(panic_text(panic.as_ref()))),
            };
            if self.reports.send(report).is_err() {
                return;
            }
        }
    }

    fn report(&self, prompt_idx: usize, outcome: PromptOutcome) {
        // sending fails only once the sampler is dropped, and with it the caller
        drop(self.reports.send(WorkerReport::Outcome(prompt_idx, outcome)));
    }

    /// Samples all groups. The first failure ends the others.
    async fn generate(&self, command: GenerateCommand) -> Result<(), Error> {
        let GenerateCommand { jobs, label, cancelled, stop } = command;
        for server in 0..self.fleet.n_servers() {
            self.fleet.forget_inspection(server).await;
        }
        let mut calls = FuturesUnordered::new();
        for job in jobs {
            let (prompt_idx, prompt_id) = (job.prompt_idx, job.row.prompt_id.clone());
            match self.policy.rendered(job, &self.config) {
                Ok(group) => {
                    let Self { wire, policy, counts, .. } = self;
                    let call = GroupCall { wire, policy, counts, group, label: &label };
                    calls.push(call.sample(&self.fleet));
                }
                Err(error) if is_failure(&error) => return Err(error.into()),
                Err(error) => {
                    let dropped = DroppedPrompt { prompt_id, reason: error.to_string() };
                    self.report(prompt_idx, PromptOutcome::Dropped(dropped));
                }
            }
        }
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                ended = calls.next() => match ended {
                    Some(group) => {
                        let (prompt_idx, group) = group?;
                        self.report(prompt_idx, PromptOutcome::Group(Box::new(group)));
                    }
                    None => return Ok(()),
                },
                _ = look.tick() => {
                    if stop.load(Ordering::Acquire) && self.fleet.are_all_gone() {
                        tracing::warn!("No server is up; the groups are given up, as was asked.");
                        cancelled.store(true, Ordering::Release);
                    }
                    if cancelled.load(Ordering::Acquire) {
                        return Ok(());
                    }
                }
            }
        }
    }
}
