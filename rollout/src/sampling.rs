//! Groups that are being sampled: each can be looked at as soon as it is whole.
//!
//! It does not know what the groups are for.

pub(crate) mod group_job;
pub(crate) mod render;
pub(crate) mod reports;
pub(crate) mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::Error;
use crate::group::{RolloutBatch, RolloutGroup};
use reports::{PromptOutcome, WorkerReplies, WorkerReply};

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
    pub(crate) fn new(
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
    /// The error of a worker that failed, the one with the lowest number; [`Error::Cancelled`].
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
