//! The arena: plays the tournaments of many groups at once, so that the judge always has enough
//! votes to work on.
//!
//! Pure except for the judge that the caller passes: no threads, no clock. A round of one group
//! never waits for another group. A result depends on its group and the judge's replies, not on the
//! order in which these arrive. Requests are made as the judge takes them, never all at once.

mod evidence;
mod group;
mod judged;
mod match_state;
mod players;
mod request;
mod result;
mod rewards;
mod turns;
mod work;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use judged::{JudgedGroup, rate_together};
pub(crate) use request::Handles;
pub use request::{GroupHandle, GroupRequest};
pub use result::{GroupProgress, GroupResult};
pub use work::GroupWork;

use crate::config::RewardConfig;
use crate::error::Error;
use crate::judge::{Judge, VoteId, VoteOutcome};
use evidence::VoteSource;
use group::OpenGroup;
use turns::Turns;

/// Maximum number of votes in flight at a judge without a limit of its own.
const MAX_IN_FLIGHT_WITHOUT_LIMIT: usize = 256;

/// Maximum number of votes in flight: twice what the judge works on at once, so that it never runs
/// out of work.
fn max_in_flight(capacity: usize) -> usize {
    match capacity {
        usize::MAX => MAX_IN_FLIGHT_WITHOUT_LIMIT,
        capacity => capacity.saturating_mul(2).max(1),
    }
}

/// The tournaments of all open groups.
pub struct Arena {
    config: RewardConfig,
    record_latency: bool,
    groups: BTreeMap<GroupHandle, OpenGroup>,
    turns: Turns,
    /// Groups whose tournament is over.
    done: BTreeSet<GroupHandle>,
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
            turns: Turns::default(),
            done: BTreeSet::new(),
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
        self.note(handle);
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

    /// Takes note of what an open group needs next.
    fn note(&mut self, handle: GroupHandle) {
        let Some(group) = self.groups.get(&handle) else { return };
        if group.wants_votes() {
            self.turns.add(handle);
        }
        if group.is_done() {
            self.done.insert(handle);
        }
    }

    /// Requests votes, lets the judge work for a moment, and returns the finished groups by handle,
    /// each with a position bias that is fitted to it alone.
    pub fn pump(&mut self, judge: &mut dyn Judge) -> Vec<(GroupHandle, GroupResult)> {
        let judged = self.pump_judged(judge);
        judged.into_iter().map(|(handle, group)| (handle, group.rate_alone(&self.config))).collect()
    }

    /// As [`Arena::pump`], but the groups are not rated yet.
    pub(crate) fn pump_judged(&mut self, judge: &mut dyn Judge) -> Vec<(GroupHandle, JudgedGroup)> {
        self.request_votes(judge);
        let outcomes = judge.poll();
        self.take_outcomes(outcomes, judge)
    }

    /// Requests votes that were not requested before, up to twice as many as the judge works on at
    /// once.
    pub fn request_votes(&mut self, judge: &mut dyn Judge) {
        let max_in_flight = max_in_flight(judge.capacity());
        while self.in_flight.len() < max_in_flight
            && let Some(handle) = self.turns.next()
        {
            let id = VoteId(self.n_votes + 1);
            let group = self.groups.get_mut(&handle);
            match group.and_then(|group| group.take_wanted_vote(id)) {
                Some(request) => {
                    self.n_votes += 1;
                    self.in_flight.insert(id, handle);
                    judge.submit(request);
                }
                None => self.turns.end_first(),
            }
        }
    }

    /// Takes outcomes of the judge, and returns the finished groups by handle.
    fn take_outcomes(
        &mut self,
        outcomes: Vec<VoteOutcome>,
        judge: &mut dyn Judge,
    ) -> Vec<(GroupHandle, JudgedGroup)> {
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
                self.note(handle);
            }
        }
        let done = std::mem::take(&mut self.done);
        done.into_iter()
            .filter_map(|handle| Some((handle, self.groups.remove(&handle)?.finish())))
            .collect()
    }

    /// Progress of each open group.
    pub fn progress(&self) -> impl Iterator<Item = (GroupHandle, GroupProgress)> {
        self.groups.iter().map(|(&handle, group)| (handle, group.progress()))
    }

    /// Drops an open group and cancels its votes in flight; false if the group is not open.
    pub fn cancel(&mut self, handle: GroupHandle, judge: &mut dyn Judge) -> bool {
        let was_open = self.groups.remove(&handle).is_some();
        self.done.remove(&handle);
        if was_open {
            let unneeded = self.in_flight.extract_if(.., |_, of| *of == handle);
            unneeded.for_each(|(id, _)| judge.cancel(id));
        }
        was_open
    }
}

#[cfg(test)]
mod tests;
