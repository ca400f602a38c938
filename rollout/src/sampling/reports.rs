//! What worker threads report about a command, and the wait for it.
//!
//! It does not know what the commands are.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use crate::error::Error;
use crate::group::{DroppedPrompt, RolloutGroup};

/// The result for one prompt.
pub(crate) enum PromptOutcome {
    Group(Box<RolloutGroup>),
    Dropped(DroppedPrompt),
}

/// A message from a worker. Each command ends in `Done` or `Failed`.
pub(crate) enum WorkerReport {
    /// The result for the prompt with this index.
    Outcome(usize, PromptOutcome),
    /// The command is carried out.
    Done,
    /// The command failed.
    Failed { worker: usize, error: Error },
}

/// The replies to a command that every worker has.
pub(crate) struct WorkerReplies<'a> {
    reports: &'a Receiver<WorkerReport>,
    /// Number of workers that are not done.
    n_busy: usize,
    /// Failures by worker.
    failures: BTreeMap<usize, Error>,
}

/// A reply of a worker.
pub(crate) enum WorkerReply {
    Outcome(usize, PromptOutcome),
    /// None has come in the time that the caller waits.
    Nothing,
    /// All workers are done.
    Over,
}

impl<'a> WorkerReplies<'a> {
    pub(crate) fn new(reports: &'a Receiver<WorkerReport>, n_workers: usize) -> Self {
        Self { reports, n_busy: n_workers, failures: BTreeMap::new() }
    }

    pub(crate) fn next(&mut self, wait: Option<Duration>) -> WorkerReply {
        while self.n_busy > 0 {
            let report = match wait {
                Some(wait) => self.reports.recv_timeout(wait),
                None => self.reports.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match report {
                Ok(WorkerReport::Outcome(prompt_idx, outcome)) => {
                    return WorkerReply::Outcome(prompt_idx, outcome);
                }
                Ok(WorkerReport::Done) => self.n_busy -= 1,
                Ok(WorkerReport::Failed { worker, error }) => {
                    self.failures.insert(worker, error);
                    self.n_busy -= 1;
                }
                Err(RecvTimeoutError::Timeout) => return WorkerReply::Nothing,
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "all threads have ended".to_owned();
                    self.failures.insert(0, Error::Worker { worker: 0, reason });
                    self.n_busy = 0;
                }
            }
        }
        WorkerReply::Over
    }

    /// Waits until all workers are done.
    ///
    /// # Errors
    /// The failure of the worker with the lowest number.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        while !matches!(self.next(None), WorkerReply::Over) {}
        self.check()
    }

    /// Fails where a worker has failed, with the failure of the one with the lowest number.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        match self.failures.pop_first() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}
