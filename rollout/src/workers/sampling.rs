//! Groups that are being sampled: each can be looked at as soon as it is whole.
//!
//! It does not know what the groups are for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::messages::{PromptOutcome, WorkerReport};
use crate::error::Error;
use crate::group::{RolloutBatch, RolloutGroup};

/// A request that the workers work on. Dropping it waits for them.
pub struct Sampling<'a> {
    replies: WorkerReplies<'a>,
    /// By the index of the prompt.
    outcomes: Vec<Option<PromptOutcome>>,
    n_tokens: usize,
    cancelled: Option<Arc<AtomicBool>>,
}

/// What has happened to the prompts of a [`Sampling`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplingEvent {
    /// The group of the prompt with this index is whole, or the prompt was dropped.
    Finished(usize),
    /// Nothing, in the time that the caller waits.
    Nothing,
    /// All workers are done; nothing follows.
    Over,
}

impl<'a> Sampling<'a> {
    pub(super) fn new(
        replies: WorkerReplies<'a>,
        n_prompts: usize,
        cancelled: Option<Arc<AtomicBool>>,
    ) -> Self {
        let outcomes = (0..n_prompts).map(|_| None).collect();
        Self { replies, outcomes, n_tokens: 0, cancelled }
    }

    /// The next event; `wait` is the longest time to wait for one, without limit if it is none.
    pub fn next(&mut self, wait: Option<Duration>) -> SamplingEvent {
        match self.replies.next(wait) {
            WorkerReply::Outcome(prompt_idx, outcome) => {
                if let PromptOutcome::Group(group) = &outcome {
                    let tokens = group.completions.iter().map(|row| row.completion_token_ids.len());
                    self.n_tokens += tokens.sum::<usize>();
                }
                self.outcomes[prompt_idx] = Some(outcome);
                SamplingEvent::Finished(prompt_idx)
            }
            WorkerReply::Nothing => SamplingEvent::Nothing,
            WorkerReply::Over => SamplingEvent::Over,
        }
    }

    /// The group of the prompt with this index, once it is whole.
    pub fn group(&self, prompt_idx: usize) -> Option<&RolloutGroup> {
        match self.outcomes.get(prompt_idx)? {
            Some(PromptOutcome::Group(group)) => Some(group),
            Some(PromptOutcome::Dropped(_)) | None => None,
        }
    }

    /// Number of tokens in the groups that are whole.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Waits for the workers, and returns all groups in the order of the prompts.
    ///
    /// # Errors
    /// [`Error::Worker`] where a worker failed: the one with the lowest number;
    /// [`Error::Cancelled`].
    pub fn finish(mut self) -> Result<RolloutBatch, Error> {
        while self.next(None) != SamplingEvent::Over {}
        self.replies.check()?;
        if self.cancelled.as_ref().is_some_and(|cancelled| cancelled.load(Ordering::Acquire)) {
            return Err(Error::Cancelled);
        }
        let mut batch = RolloutBatch { n_tokens: self.n_tokens, ..RolloutBatch::default() };
        for outcome in std::mem::take(&mut self.outcomes).into_iter().flatten() {
            match outcome {
                PromptOutcome::Group(group) => batch.groups.push(*group),
                PromptOutcome::Dropped(dropped) => batch.dropped.push(dropped),
            }
        }
        Ok(batch)
    }
}

impl Drop for Sampling<'_> {
    fn drop(&mut self) {
        // reports that nobody takes would be those of the next command
        while self.next(None) != SamplingEvent::Over {}
    }
}

/// The replies to a command that every worker has.
pub(super) struct WorkerReplies<'a> {
    reports: &'a Receiver<WorkerReport>,
    /// Number of workers that are not done.
    n_busy: usize,
    /// Reasons of failures by worker.
    failures: BTreeMap<usize, String>,
}

/// A reply of a worker.
pub(super) enum WorkerReply {
    Outcome(usize, PromptOutcome),
    /// None has come in the time that the caller waits.
    Nothing,
    /// All workers are done.
    Over,
}

impl<'a> WorkerReplies<'a> {
    pub(super) fn new(reports: &'a Receiver<WorkerReport>, n_workers: usize) -> Self {
        Self { reports, n_busy: n_workers, failures: BTreeMap::new() }
    }

    fn next(&mut self, wait: Option<Duration>) -> WorkerReply {
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
                Ok(WorkerReport::Failed { worker, reason }) => {
                    self.failures.insert(worker, reason);
                    self.n_busy -= 1;
                }
                Err(RecvTimeoutError::Timeout) => return WorkerReply::Nothing,
                Err(RecvTimeoutError::Disconnected) => {
                    self.failures.insert(0, "all threads have ended".to_owned());
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
    pub(super) fn finish(mut self) -> Result<(), Error> {
        while !matches!(self.next(None), WorkerReply::Over) {}
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        match self.failures.first_key_value() {
            Some((&worker, reason)) => Err(Error::Worker { worker, reason: reason.clone() }),
            None => Ok(()),
        }
    }
}
