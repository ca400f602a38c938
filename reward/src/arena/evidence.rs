//! Evidence of a group as rows of the `matches` and `votes` tables, in the order of the dump.
//!
//! It does not know how votes are counted.

use std::cmp::Ordering;

use joust_schema::ids::MatchId;
use joust_schema::seed::Seed;
use joust_schema::tables::{Match, Verdict, Vote};

use super::match_state::{MatchIdx, MatchState, VoteAttempt};
use super::players::Players;
use super::request::GroupRequest;
use crate::judge::{JudgeError, VoteReply};
use crate::tally::no_reply_text;
use crate::votes::VoteRule;

/// How the rows of votes are written.
#[derive(Clone, Copy)]
pub(super) struct VoteSource<'a> {
    /// Name of the judge.
    pub(super) judge: &'a str,
    /// Whether the judge's times are written.
    pub(super) record_latency: bool,
}

/// The votes of a group that were cast so far.
#[derive(Default)]
pub(super) struct Evidence {
    votes: Vec<CastVote>,
}

struct CastVote {
    match_idx: MatchIdx,
    attempt: VoteAttempt,
    a_shown_first: bool,
    seed: i64,
    is_refused: bool,
    reply: VoteReply,
    judge: String,
    latency_ms: Option<f64>,
    cut_off: Option<bool>,
}

/// The rows of a finished group.
pub(super) struct EvidenceRows {
    /// All matches, by round and id.
    pub(super) matches: Vec<Match>,
    /// The votes that count, by match, vote and attempt.
    pub(super) votes: Vec<Vote>,
    /// Whether the judge refused every vote.
    pub(super) is_refused: bool,
}

/// The name of a match in the tables, unique within its group.
pub(super) fn match_id(group: &GroupRequest, players: &Players, state: &MatchState) -> MatchId {
    let [a, b] = [state.players.a, state.players.b].map(|player| players.first_member(player));
    MatchId(format!("{}/{}-{a}-{b}", group.group_id, state.players.round + 1))
}

impl Evidence {
    /// Number of votes, invalid ones included.
    pub(super) fn n_votes(&self) -> usize {
        self.votes.len()
    }

    /// Adds a vote.
    pub(super) fn add_vote(
        &mut self,
        match_idx: MatchIdx,
        attempt: VoteAttempt,
        (a_shown_first, seed): (bool, Seed),
        outcome: Result<VoteReply, JudgeError>,
        source: VoteSource<'_>,
    ) {
        let is_refused = matches!(outcome, Err(JudgeError::Refused(_)));
        let cut_off = outcome.as_ref().ok().map(|reply| reply.is_cut_off);
        let reply = outcome.unwrap_or_else(|error| {
            VoteReply::without_tokens(Verdict::Invalid, no_reply_text(&error))
        });
        self.votes.push(CastVote {
            match_idx,
            attempt,
            a_shown_first,
            seed: seed.0 as i64,
            is_refused,
            latency_ms: source.record_latency.then_some(reply.latency_ms),
            reply,
            judge: source.judge.to_owned(),
            cut_off,
        });
    }

    /// The rows of the group. Votes beyond those that decided a match are left out: whether they
    /// were cast depends on time.
    pub(super) fn close(
        mut self,
        group: &GroupRequest,
        rule: &VoteRule,
        players: &Players,
        matches: &[MatchState],
    ) -> EvidenceRows {
        let ids: Vec<MatchId> =
            matches.iter().map(|state| match_id(group, players, state)).collect();
        let mut order: Vec<usize> = (0..matches.len()).collect();
        order.sort_by_key(|&idx| (matches[idx].players.round, &ids[idx]));
        let mut rank = vec![0; order.len()];
        for (position, &idx) in order.iter().enumerate() {
            rank[idx] = position;
        }
        self.votes.retain(|cast| cast.attempt.vote < matches[cast.match_idx.0].n_counted());
        self.votes.sort_by_key(|cast| (rank[cast.match_idx.0], cast.attempt));
        let rows =
            order.iter().map(|&idx| match_row(group, rule, players, &matches[idx], &ids[idx]));
        EvidenceRows {
            matches: rows.collect(),
            is_refused: !self.votes.is_empty() && self.votes.iter().all(|cast| cast.is_refused),
            votes: self.votes.into_iter().map(|cast| cast.into_row(&ids)).collect(),
        }
    }
}

impl CastVote {
    fn into_row(self, ids: &[MatchId]) -> Vote {
        let VoteReply { verdict, text, .. } = self.reply;
        Vote {
            match_id: ids[self.match_idx.0].clone(),
            vote: self.attempt.vote as i32,
            attempt: self.attempt.attempt as i32,
            a_shown_first: self.a_shown_first,
            verdict,
            text,
            prompt_tokens: self.reply.prompt_tokens as i32,
            cached_prompt_tokens: self.reply.cached_prompt_tokens as i32,
            completion_tokens: self.reply.completion_tokens as i32,
            latency_ms: self.latency_ms,
            seed: self.seed,
            judge: self.judge,
            cut_off: self.cut_off,
        }
    }
}

fn match_row(
    group: &GroupRequest,
    rule: &VoteRule,
    players: &Players,
    state: &MatchState,
    id: &MatchId,
) -> Match {
    let score = state.score();
    let [a_first, _] = state.counts();
    let member_a = players.first_member(state.players.a);
    let member_b = players.first_member(state.players.b);
    Match {
        step: group.step,
        group_id: group.group_id.clone(),
        match_id: id.clone(),
        round: state.players.round as i32 + 1,
        member_a,
        member_b,
        votes_a: score.votes_a as i32,
        votes_b: score.votes_b as i32,
        votes_invalid: state.n_invalid() as i32,
        a_first_votes_a: Some(a_first.a as i32),
        a_first_votes_b: Some(a_first.b as i32),
        decided_early: state.n_counted() < rule.max,
        winner: match score.outcome() {
            Ordering::Greater => Some(member_a),
            Ordering::Less => Some(member_b),
            Ordering::Equal => None,
        },
        // known once the group is rated
        position_bias: None,
        position_bias_stderr: None,
        copies_a: Some(players.n_members(state.players.a) as i32),
        copies_b: Some(players.n_members(state.players.b) as i32),
    }
}
