//! Decides which waiting requests join the running batch: data in, a plan out, no tensors.
//!
//! Requests join in the order in which they came, whenever rows are free, as many at once as fit a
//! token budget (padding counted). It does not know what the model is or how a row is stored.

use std::collections::VecDeque;

use crate::engine::{Request, RequestId};
use crate::error::Error;

/// Limits that a plan keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most samples that run at once.
    pub(crate) max_batch: usize,
    /// Most requests that wait.
    pub(crate) max_queue: usize,
    /// Most prompt tokens of one prefill, padding included; a single longer prompt still runs.
    pub(crate) prefill_tokens: usize,
}

/// A request, or part of one, that starts now.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) request: Request,
    /// The samples of the request that start: `first_sample..first_sample + n_samples`.
    pub(crate) first_sample: u32,
    pub(crate) n_samples: u32,
}

struct Waiting {
    request: Request,
    n_started: u32,
}

/// The waiting queue and the rules for leaving it.
pub(crate) struct Scheduler {
    limits: Limits,
    waiting: VecDeque<Waiting>,
}

impl Scheduler {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, waiting: VecDeque::new() }
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Adds a request at the end of the queue.
    pub(crate) fn push(&mut self, request: Request) -> Result<(), Error> {
        if self.waiting.len() >= self.limits.max_queue {
            return Err(Error::QueueFull { limit: self.limits.max_queue });
        }
        self.waiting.push_back(Waiting { request, n_started: 0 });
        Ok(())
    }

    /// Forgets a waiting request.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.waiting.retain(|waiting| waiting.request.id != id);
    }

    /// Forgets all waiting requests.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Takes the requests that start now, given how many rows are running.
    ///
    /// While the batch is more than half full, newcomers wait until a quarter of it is free: a
    /// prefill for one row would stop all the others for as long as one for many.
    pub(crate) fn admit(&mut self, n_running: usize) -> Vec<Admission> {
        let mut free = self.limits.max_batch.saturating_sub(n_running);
        let mut admitted = Vec::new();
        if n_running > 0 && free < self.limits.max_batch.div_ceil(4) {
            return admitted;
        }
        let (mut n_prompts, mut longest) = (0, 0);
        while free > 0 {
            let Some(waiting) = self.waiting.front_mut() else {
                break;
            };
            longest = longest.max(waiting.request.prompt_token_ids.len());
            n_prompts += 1;
            if n_prompts > 1 && n_prompts * longest > self.limits.prefill_tokens {
                break;
            }
            let n_wanted = waiting.request.params.n - waiting.n_started;
            let n_samples = n_wanted.min(u32::try_from(free).unwrap_or(u32::MAX));
            let first_sample = waiting.n_started;
            waiting.n_started += n_samples;
            free -= n_samples as usize;
            let request = if n_samples < n_wanted {
                waiting.request.clone()
            } else {
                let waiting = self.waiting.pop_front();
                waiting.expect("the queue's front was just looked at. This is a bug.").request
            };
            admitted.push(Admission { request, first_sample, n_samples });
        }
        admitted
    }
}

#[cfg(test)]
mod tests;
