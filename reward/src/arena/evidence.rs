//! Evidence of a group as rows of the `matches` and `votes` tables, in the order of the dump.
//!
//! It does not know how votes are counted.

use std::cmp::Ordering;

use joust_schema::seed::Seed;
use joust_schema::tables::{Match, Verdict, Vote};

use super::match_state::{MatchIdx, MatchState, VoteAttempt};
use super::players::Players;
use super::request::GroupRequest;
use super::result::NO_REPLY;
use crate::judge::{JudgeError, VoteReply};
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
    votes: Vec<(MatchIdx, Vote)>,
    n_refused: usize,
}

impl Evidence {
    /// Number of votes, invalid ones included.
    pub(super) fn n_votes(&self) -> usize {
        self.votes.len()
    }

    /// Whether the judge refused every vote.
    pub(super) fn is_refused(&self) -> bool {
        self.n_refused > 0 && self.n_refused == self.votes.len()
    }

    /// Adds the row of a vote.
    pub(super) fn add_vote(
        &mut self,
        (match_idx, state): (MatchIdx, &MatchState),
        VoteAttempt { vote, attempt }: VoteAttempt,
        seed: Seed,
        outcome: Result<VoteReply, JudgeError>,
        source: VoteSource<'_>,
    ) {
        self.n_refused += usize::from(matches!(outcome, Err(JudgeError::Refused(_))));
        let reply = outcome.unwrap_or_else(|error| {
            VoteReply::without_tokens(Verdict::Invalid, format!("{NO_REPLY}{error}"))
        });
        let row = Vote {
            match_id: state.id.clone(),
            vote: vote as i32,
            attempt: attempt as i32,
            a_shown_first: state.a_shown_first(vote),
            verdict: reply.verdict,
            text: reply.text,
            prompt_tokens: reply.prompt_tokens as i32,
            cached_prompt_tokens: reply.cached_prompt_tokens as i32,
            completion_tokens: reply.completion_tokens as i32,
            latency_ms: source.record_latency.then_some(reply.latency_ms),
            seed: seed.0 as i64,
            judge: source.judge.to_owned(),
        };
        self.votes.push((match_idx, row));
    }

    /// The rows of all matches, by round and id, and of all votes, by match, vote and attempt.
    pub(super) fn into_rows(
        mut self,
        group: &GroupRequest,
        rule: &VoteRule,
        players: &Players,
        matches: &[MatchState],
    ) -> (Vec<Match>, Vec<Vote>) {
        let mut order: Vec<usize> = (0..matches.len()).collect();
        order.sort_by(|&one, &other| {
            let key = |idx: usize| (matches[idx].players.round, &matches[idx].id);
            key(one).cmp(&key(other))
        });
        let mut rank = vec![0; order.len()];
        for (position, &idx) in order.iter().enumerate() {
            rank[idx] = position;
        }
        self.votes.sort_by_key(|(of, vote)| (rank[of.0], vote.vote, vote.attempt));
        let rows = order.iter().map(|&idx| match_row(group, rule, players, &matches[idx]));
        (rows.collect(), self.votes.into_iter().map(|(_, vote)| vote).collect())
    }
}

fn match_row(
    group: &GroupRequest,
    rule: &VoteRule,
    players: &Players,
    state: &MatchState,
) -> Match {
    let score = state.score();
    let member_a = players.first_member(state.players.a);
    let member_b = players.first_member(state.players.b);
    Match {
        step: group.step,
        group_id: group.group_id.clone(),
        match_id: state.id.clone(),
        round: state.players.round as i32 + 1,
        member_a,
        member_b,
        votes_a: score.votes_a as i32,
        votes_b: score.votes_b as i32,
        votes_invalid: state.n_invalid() as i32,
        decided_early: state.n_finished() < rule.max,
        winner: match score.outcome() {
            Ordering::Greater => Some(member_a),
            Ordering::Less => Some(member_b),
            Ordering::Equal => None,
        },
    }
}
