//! The group of one prompt as a call of a fleet.
//!
//! A group counts only if its server held the newest weights when it answered. It does not know how
//! a kind of server is spoken to.

use std::time::Duration;

use joust_fleet::{BadAnswer, Call, CallError, Finished, Fleet};
use joust_schema::seed::Seed;
use serde::Serialize;
use serde_json::Value;

use super::answer::Expected;
use super::counts::{Counts, add};
use super::policy::ServedPolicy;
use super::wire::{Wire, WireRequest};
use crate::error::Error;
use crate::group::RolloutGroup;
use crate::sampling::group_job::{RenderedGroup, SampledCompletion};

/// A group on its way to a server.
pub(super) struct GroupCall<'a> {
    pub(super) wire: &'a Wire,
    pub(super) policy: &'a ServedPolicy,
    pub(super) counts: &'a Counts,
    pub(super) group: RenderedGroup,
    /// What servers with the newest weights call them.
    pub(super) label: &'a str,
}

/// The completions of a group.
pub(super) struct GroupReply {
    completions: Vec<SampledCompletion>,
    /// What the server calls its weights, if its answers say so.
    label: Option<String>,
}

impl GroupCall<'_> {
    /// Samples the group. Returns it with the index of its prompt.
    ///
    /// # Errors
    /// [`Error::Servers`] where no server gives the group, or none from the newest weights.
    pub(super) async fn sample(mut self, fleet: &Fleet) -> Result<(usize, RolloutGroup), Error> {
        let mut n_tried = 0;
        loop {
            let called = fleet.call(&mut self, n_tried).await;
            let Finished { reply, server, attempt } =
                called.map_err(|error| self.failure(&error))?;
            add(&self.counts.retries, u64::from(attempt - n_tried));
            let seen = match reply.label {
                Some(label) => Ok(label),
                None => self.wire.label(fleet.server(server)).await,
            };
            let reason = match seen {
                Ok(label) if label == self.label => {
                    add(&self.counts.groups, 1);
                    let prompt_idx = self.group.prompt_idx();
                    return Ok((prompt_idx, self.group.with(reply.completions)));
                }
                Ok(label) => format!("it holds the weights {label:?}, wanted {:?}", self.label),
                Err(error) => format!("which weights it holds is not known: {error}"),
            };
            let url = fleet.server(server).base();
            tracing::warn!(url, reason, "A group is thrown away and sampled again.");
            add(&self.counts.stale_groups, 1);
            add(&self.counts.retries, 1);
            fleet.forget_inspection(server).await;
            n_tried = attempt + 1;
            if n_tried >= fleet.config().tries {
                return Err(Error::Servers(format!(
                    "no group after {n_tried} calls; {url}: {reason}"
                )));
            }
        }
    }

    fn failure(&self, error: &CallError) -> Error {
        let prompt_id = &self.group.row().prompt_id;
        Error::Servers(format!("no group for prompt {prompt_id}: {error}"))
    }

    /// At temperature 0 all completions are equal, and servers refuse to sample several.
    fn is_greedy(&self) -> bool {
        self.group.params.temperature == 0.0
    }

    fn request(&self) -> WireRequest<'_> {
        WireRequest {
            prompt_token_ids: self.group.prompt_token_ids(),
            params: &self.group.params,
            n_choices: if self.is_greedy() { 1 } else { self.group.params.n as usize },
            end_tokens: self.policy.end.end_tokens().collect(),
        }
    }

    fn completions(&self, answer: &Value) -> Result<GroupReply, BadAnswer> {
        let request = self.request();
        let answered = self.wire.read(answer)?;
        let expected = Expected {
            prompt_token_ids: request.prompt_token_ids,
            params: &self.group.params,
            n_choices: request.n_choices,
            policy: self.policy,
        };
        let mut completions = expected.completions(answered.choices)?;
        if self.is_greedy() {
            completions = vec![completions.swap_remove(0); self.group.params.n as usize];
        }
        Ok(GroupReply { completions, label: answered.label })
    }
}

impl Call for GroupCall<'_> {
    type Reply = GroupReply;

    fn n_slots(&self) -> usize {
        1
    }

    fn body(&mut self) -> Option<impl Serialize> {
        Some(self.wire.body(&self.request()))
    }

    fn read(&mut self, answer: Value, _latency: Duration) -> Result<GroupReply, BadAnswer> {
        let read = self.completions(&answer);
        if read.is_err() {
            add(&self.counts.bad_answers, 1);
        }
        read
    }

    fn seed(&self) -> Seed {
        Seed(self.group.params.seed)
    }
}
