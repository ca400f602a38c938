//! A scored group, and the progress of a group that is being scored.
//!
//! It does not know how a group is scored.

use std::collections::BTreeMap;

use joust_schema::ids::{GroupId, Member};
use joust_schema::tables::{Match, Reward, Status, Vote};

use super::request::GroupRequest;
use crate::part::outcome::PartScores;
use crate::rule::Correctness;
use crate::tally::{VoteTally, may_come_later, why_no_reply};

/// A scored group: rows of the `rewards`, `matches` and `votes` tables.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GroupResult {
    /// Name of the group.
    pub group_id: GroupId,
    /// One row per member, in order.
    pub rewards: Vec<Reward>,
    /// Matches by round and members.
    pub matches: Vec<Match>,
    /// Votes by match, position and attempt.
    pub votes: Vec<Vote>,
    /// The member that won the tournament; none if nothing was compared.
    pub winner: Option<Member>,
    /// Log-odds by which the judge prefers the answer shown first; none if the rating does not
    /// measure it.
    pub position_bias: Option<f64>,
    /// Standard error of `position_bias`.
    #[serde(default)]
    pub position_bias_stderr: Option<f64>,
    /// Log-odds by which the judge prefers longer answers, per unit of the length term; none if the
    /// rating does not measure it. It is measured whether it is controlled or not.
    #[serde(default)]
    pub length_slope: Option<f64>,
    /// Standard error of `length_slope`.
    #[serde(default)]
    pub length_slope_stderr: Option<f64>,
    /// True if the judge refused every vote, and would refuse it again.
    #[serde(default)]
    pub is_refused: bool,
    /// What the rule found out about each member, if it gave the rewards. It is not written:
    /// whoever needs it later compares again.
    #[serde(skip)]
    pub correctness: Vec<Correctness>,
    /// What each part of the reward says, in the order of the config; empty for a reward without
    /// parts.
    #[serde(skip)]
    pub parts: Vec<PartScores>,
}

impl GroupResult {
    /// The result of a group of which no match was played: status and reward member by member.
    pub(crate) fn without_matches(
        request: &GroupRequest,
        rewards: impl IntoIterator<Item = (Status, Option<f64>)>,
    ) -> Self {
        let row = |(member, (status, reward)): (usize, (Status, Option<f64>))| Reward {
            group_id: request.group_id.clone(),
            member: Member(member as u32),
            status,
            reward,
            win_rate: None,
            rating: None,
            rating_stderr: None,
            wins: 0,
            losses: 0,
            rank: None,
            advantage: None,
        };
        Self {
            group_id: request.group_id.clone(),
            rewards: rewards.into_iter().enumerate().map(row).collect(),
            matches: Vec::new(),
            votes: Vec::new(),
            winner: None,
            position_bias: None,
            position_bias_stderr: None,
            length_slope: None,
            length_slope_stderr: None,
            is_refused: false,
            correctness: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// What became of the group's votes.
    pub fn tally(&self) -> VoteTally {
        VoteTally::of(&self.votes)
    }

    /// Per member: whether it has no reward because the judge failed at all of its votes, which
    /// says nothing about it. Another request for them may have replies.
    pub fn lost_members(&self) -> Vec<bool> {
        let mut is_lost = vec![false; self.rewards.len()];
        if self.is_refused || !self.votes.iter().any(may_come_later) {
            return is_lost;
        }
        let members: BTreeMap<_, _> =
            self.matches.iter().map(|row| (&row.match_id, [row.member_a, row.member_b])).collect();
        for (row, is_lost) in self.rewards.iter().zip(&mut is_lost) {
            *is_lost = row.reward.is_none() && row.status == Status::JudgeFailed;
        }
        // a reply without a verdict, or a refusal, is an answer
        for vote in self.votes.iter().filter(|vote| !may_come_later(vote)) {
            for member in members.get(&vote.match_id).into_iter().flatten() {
                is_lost[member.0 as usize] = false;
            }
        }
        is_lost
    }

    /// Why no member has a reward, if the judge failed for all of them or refused all.
    pub fn why_all_failed(&self) -> Option<String> {
        let all_failed = self.rewards.iter().all(|row| row.status == Status::JudgeFailed);
        let reason = || match self.votes.iter().find_map(why_no_reply) {
            Some(error) => error.lines().next().unwrap_or_default().chars().take(600).collect(),
            None if self.votes.is_empty() => "no votes".to_owned(),
            None => match self.tally().n_cut_off {
                0 => "no verdict in what it said".to_owned(),
                n => format!("{n} of {} votes were cut off", self.votes.len()),
            },
        };
        all_failed.then(|| format!("the judge gave no valid vote: {}", reason()))
    }
}

/// Progress of a group that is being scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[schemars(rename = "Progress")]
pub struct GroupProgress {
    /// Number of matches that are over.
    pub matches_over: usize,
    /// Number of matches that have begun, over or not; later rounds add to it.
    pub matches_begun: usize,
    /// Number of votes, invalid ones included.
    pub votes: usize,
}
