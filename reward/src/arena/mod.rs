//! Plays the tournaments of many groups at once, so that the judge always has enough to do.
//!
//! Pure but for the judge it is handed: no threads, no clock. A round of one group never waits for
//! another group. The same calls in the same order give the same results.

mod group;
mod ratings;

use std::collections::BTreeMap;

use joust_schema::ids::GroupId;
use joust_schema::seed::Seed;
use joust_schema::tables::{Match, Reward, Status, Vote};

use crate::config::{RewardConfig, TournamentConfig};
use crate::error::Error;
use crate::judge::{Judge, VoteId, VoteOutcome};
use group::OpenGroup;

/// A group to be scored.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GroupRequest {
    /// Training step; 0 outside of training.
    pub step: i64,
    /// Names the group in the result.
    pub group_id: GroupId,
    /// What was asked.
    pub question: String,
    /// The completions, member by member.
    pub completions: Vec<String>,
    /// The known answer, where there is one; only rules look at it.
    pub reference: Option<String>,
    /// Key of every draw: bracket, presentation order, the judge's sampling.
    pub seed: Seed,
    /// Another tournament than the configured one.
    pub tournament: Option<TournamentConfig>,
}

/// What became of a group: rows of the `rewards`, `matches` and `votes` tables.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GroupResult {
    /// The group.
    pub group_id: GroupId,
    /// One row a member, in order.
    pub rewards: Vec<Reward>,
    /// By round and members.
    pub matches: Vec<Match>,
    /// By match, place and attempt.
    pub votes: Vec<Vote>,
    /// The member that won the tournament; none where nothing was compared.
    pub winner: Option<joust_schema::ids::Member>,
    /// How much the judge prefers what it is shown first, in log-odds; none where the rating does
    /// not measure it.
    pub position_bias: Option<f64>,
    /// Whether the judge refused every vote: it would again.
    #[serde(default)]
    pub is_refused: bool,
}

/// What the text of a vote begins with that the judge did not give.
const NO_REPLY: &str = "[no reply] ";

impl GroupResult {
    /// Why no member has a reward, where the judge failed for all or refused them.
    pub fn why_all_failed(&self) -> Option<String> {
        let all_failed = self.rewards.iter().all(|row| row.status == Status::JudgeFailed);
        let reason = || match self.votes.last().and_then(|vote| vote.text.strip_prefix(NO_REPLY)) {
            Some(error) => error.lines().next().unwrap_or_default().chars().take(300).collect(),
            None if self.votes.is_empty() => "no votes".to_owned(),
            None => "no verdict in what it said".to_owned(),
        };
        all_failed.then(|| format!("the judge gave no valid vote: {}", reason()))
    }
}

/// How far a group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Progress {
    /// Matches that are over.
    pub matches_over: usize,
    /// Matches that have begun, those that are over included; later rounds add to them.
    pub matches_begun: usize,
    /// Votes that were cast, invalid ones included.
    pub votes: usize,
}

/// The tournaments that are being played.
pub struct Arena {
    config: RewardConfig,
    record_latency: bool,
    groups: BTreeMap<u64, OpenGroup>,
    in_flight: BTreeMap<VoteId, u64>,
    n_groups: u64,
    n_votes: u64,
}

impl Arena {
    /// An empty arena. `record_latency` writes the judge's times into the votes.
    pub fn new(config: &RewardConfig, record_latency: bool) -> Self {
        Self {
            config: config.clone(),
            record_latency,
            groups: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            n_groups: 0,
            n_votes: 0,
        }
    }

    /// Takes a group in; its first votes are asked for at the next [`Arena::pump`].
    ///
    /// # Errors
    /// [`Error::Group`] for a group without completions, [`Error::Config`] for a tournament of its
    /// own that makes no sense.
    pub fn add(&mut self, request: GroupRequest) -> Result<(), Error> {
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
        let group = OpenGroup::new(request, tournament);
        self.groups.insert(self.n_groups, group);
        self.n_groups += 1;
        Ok(())
    }

    /// Groups that are not finished.
    pub fn n_open(&self) -> usize {
        self.groups.len()
    }

    /// Votes that have been asked for and not been given.
    pub fn n_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Asks for every vote that can be asked for, lets the judge work until something is finished,
    /// and returns the groups that are done with it.
    pub fn pump(&mut self, judge: &mut dyn Judge) -> Vec<GroupResult> {
        self.ask(judge);
        let outcomes = judge.poll();
        self.take(outcomes, judge)
    }

    /// Asks for every vote that can be asked for now and has not been.
    pub fn ask(&mut self, judge: &mut dyn Judge) {
        for (&number, group) in &mut self.groups {
            group
                .ask(&mut || {
                    self.n_votes += 1;
                    let id = VoteId(self.n_votes);
                    self.in_flight.insert(id, number);
                    id
                })
                .into_iter()
                .for_each(|request| judge.submit(request));
        }
    }

    /// Takes what the judge has finished, and returns the groups that are done with it.
    pub fn take(&mut self, outcomes: Vec<VoteOutcome>, judge: &mut dyn Judge) -> Vec<GroupResult> {
        for (id, outcome) in outcomes {
            // a judge that answers twice is answered by silence
            let Some(number) = self.in_flight.remove(&id) else {
                continue;
            };
            if let Some(group) = self.groups.get_mut(&number) {
                for id in group.take(id, outcome, judge.name(), self.record_latency) {
                    self.in_flight.remove(&id);
                    judge.cancel(id);
                }
            }
        }
        let done: Vec<u64> = self
            .groups
            .iter()
            .filter(|(_, group)| group.is_done())
            .map(|(&number, _)| number)
            .collect();
        let finished = done.into_iter().filter_map(|number| self.groups.remove(&number));
        finished.map(|group| group.finish(&self.config)).collect()
    }

    /// How far the groups are that are being played.
    pub fn progress(&self) -> impl Iterator<Item = (&GroupId, Progress)> {
        self.groups.values().map(|group| (group.id(), group.progress()))
    }

    /// Drops a group with the votes that are under way for it; says whether it was there.
    pub fn cancel(&mut self, group_id: &GroupId, judge: &mut dyn Judge) -> bool {
        let found = self.groups.iter().find(|(_, group)| group.id() == group_id);
        let Some((&number, _)) = found else { return false };
        self.groups.remove(&number);
        let unneeded = self.in_flight.extract_if(.., |_, of| *of == number);
        unneeded.for_each(|(id, _)| judge.cancel(id));
        true
    }
}

#[cfg(test)]
mod tests;
