//! The arena: plays the tournaments of many groups at once, so that the judge always has enough
//! votes to work on.
//!
//! Pure except for the judge that the caller passes: no threads, no clock. A round of one group
//! never waits for another group. The same calls in the same order give the same results.

mod evidence;
mod group;
mod match_state;
mod opening;
mod players;
mod request;
mod result;
mod rewards;
mod work;

use std::collections::BTreeMap;

pub(crate) use request::Handles;
pub use request::{GroupHandle, GroupRequest};
pub use result::{GroupProgress, GroupResult};
pub use work::GroupWork;

use crate::config::RewardConfig;
use crate::error::Error;
use crate::judge::{Judge, VoteId, VoteOutcome};
use evidence::VoteSource;
use group::OpenGroup;

/// The tournaments of all open groups.
pub struct Arena {
    config: RewardConfig,
    record_latency: bool,
    groups: BTreeMap<GroupHandle, OpenGroup>,
    in_flight: BTreeMap<VoteId, GroupHandle>,
    handles: Handles,
    n_votes: u64,
}

impl Arena {
    /// An arena without groups. With `record_latency`, votes have the judge's times.
    pub fn new(config: &RewardConfig, record_latency: bool) -> Self {
        Self {
            config: config.clone(),
            record_latency,
            groups: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            handles: Handles::default(),
            n_votes: 0,
        }
    }

    /// Takes a group in; its first votes are requested at the next [`Arena::pump`]. The handle
    /// names it from then on.
    ///
    /// # Errors
    /// [`Error::Group`] for a group without completions, [`Error::Config`] for wrong
    /// tournament settings of its own.
    pub fn add(&mut self, request: GroupRequest) -> Result<GroupHandle, Error> {
        if request.completions.is_empty() {
            return Err(Error::Group {
                group_id: request.group_id.0,
                reason: "completions is empty, wanted at least one".to_owned(),
            });
        }
        let tournament = request.tournament.as_ref().unwrap_or(&self.config.tournament).clone();
        if let Some(problem) = tournament.validate().into_iter().next() {
            return Err(Error::Config(format!("tournament.{problem}")));
        }
        let handle = self.handles.next();
        self.groups.insert(handle, OpenGroup::new(request, tournament));
        Ok(handle)
    }

    /// Number of groups that are not finished.
    pub fn n_open(&self) -> usize {
        self.groups.len()
    }

    /// Number of votes that were requested and have no outcome yet.
    pub fn n_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Requests all votes that can be requested, lets the judge work for a moment, and returns the
    /// finished groups by handle.
    pub fn pump(&mut self, judge: &mut dyn Judge) -> Vec<(GroupHandle, GroupResult)> {
        self.request_votes(judge);
        let outcomes = judge.poll();
        self.take_outcomes(outcomes, judge)
    }

    /// Requests all votes that can be requested now and were not requested before.
    pub fn request_votes(&mut self, judge: &mut dyn Judge) {
        for (&handle, group) in &mut self.groups {
            group
                .take_wanted_votes(&mut || {
                    self.n_votes += 1;
                    let id = VoteId(self.n_votes);
                    self.in_flight.insert(id, handle);
                    id
                })
                .into_iter()
                .for_each(|request| judge.submit(request));
        }
    }

    /// Takes outcomes of the judge, and returns the finished groups by handle.
    pub fn take_outcomes(
        &mut self,
        outcomes: Vec<VoteOutcome>,
        judge: &mut dyn Judge,
    ) -> Vec<(GroupHandle, GroupResult)> {
        for (id, outcome) in outcomes {
            // a second outcome of the same vote is ignored
            let Some(handle) = self.in_flight.remove(&id) else {
                continue;
            };
            if let Some(group) = self.groups.get_mut(&handle) {
                let record_latency = self.record_latency;
                let source = VoteSource { judge: judge.name(), record_latency };
                for id in group.take_outcome(id, outcome, source) {
                    self.in_flight.remove(&id);
                    judge.cancel(id);
                }
            }
        }
        let done: Vec<GroupHandle> = self
            .groups
            .iter()
            .filter(|(_, group)| group.is_done())
            .map(|(&handle, _)| handle)
            .collect();
        done.into_iter()
            .filter_map(|handle| Some((handle, self.groups.remove(&handle)?.finish(&self.config))))
            .collect()
    }

    /// Progress of each open group.
    pub fn progress(&self) -> impl Iterator<Item = (GroupHandle, GroupProgress)> {
        self.groups.iter().map(|(&handle, group)| (handle, group.progress()))
    }

    /// Drops an open group and cancels its votes in flight; false if the group is not open.
    pub fn cancel(&mut self, handle: GroupHandle, judge: &mut dyn Judge) -> bool {
        let was_open = self.groups.remove(&handle).is_some();
        if was_open {
            let unneeded = self.in_flight.extract_if(.., |_, of| *of == handle);
            unneeded.for_each(|(id, _)| judge.cancel(id));
        }
        was_open
    }
}

#[cfg(test)]
mod tests;
