//! One match in play or over: its votes by presentation order, which votes to request, and when it
//! is decided.
//!
//! It does not know its tournament, nor what a judge is.

use joust_schema::ids::MatchId;
use joust_schema::seed::Seed;

use crate::index::PlayerIdx;
use crate::judge::VoteId;
use crate::rating::VoteCounts;
use crate::tournament::{MatchScore, ReadyMatch};
use crate::votes::VoteRule;

/// Maximum number of further attempts after one without a valid verdict.
const MAX_RETRIES: u32 = 1;

/// Position of a match among those of its group, in the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MatchIdx(pub(super) usize);

/// An attempt at a vote of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VoteAttempt {
    /// Position of the vote in its match, counted from 0.
    pub(super) vote: u32,
    /// Number of attempts before this one.
    pub(super) attempt: u32,
}

/// Outcome of an attempt, as the match counts it.
pub(super) enum CountedVote {
    /// A valid verdict for player a (true) or b.
    Valid { for_a: bool },
    /// No valid verdict; another attempt may give one if `can_retry`.
    Invalid { can_retry: bool },
}

/// A match in play or over.
pub(super) struct MatchState {
    pub(super) players: ReadyMatch,
    pub(super) id: MatchId,
    seed: Seed,
    /// Whether player a is shown first in even votes.
    a_opens: bool,
    /// Valid votes by presentation order.
    pub(super) a_first: VoteCounts,
    pub(super) b_first: VoteCounts,
    n_requested: u32,
    n_finished: u32,
    n_invalid: u32,
    retries: Vec<VoteAttempt>,
    in_flight: Vec<VoteId>,
    is_decided: bool,
}

impl MatchState {
    pub(super) fn new(players: ReadyMatch, id: MatchId, seed: Seed, a_opens: bool) -> Self {
        Self {
            players,
            id,
            seed,
            a_opens,
            a_first: VoteCounts::default(),
            b_first: VoteCounts::default(),
            n_requested: 0,
            n_finished: 0,
            n_invalid: 0,
            retries: Vec::new(),
            in_flight: Vec::new(),
            is_decided: false,
        }
    }

    /// The players in the order in which even votes show them.
    pub(super) fn in_opening_order(&self) -> [PlayerIdx; 2] {
        let ReadyMatch { a, b, .. } = self.players;
        if self.a_opens { [a, b] } else { [b, a] }
    }

    /// Whether player a is shown first in this vote: the order alternates.
    pub(super) fn a_shown_first(&self, vote: u32) -> bool {
        self.a_opens == vote.is_multiple_of(2)
    }

    /// Seed of the judge's draws in an attempt.
    pub(super) fn vote_seed(&self, VoteAttempt { vote, attempt }: VoteAttempt) -> Seed {
        self.seed.child("vote", u64::from(vote)).child("attempt", u64::from(attempt))
    }

    /// Valid votes so far.
    pub(super) fn score(&self) -> MatchScore {
        MatchScore {
            votes_a: self.a_first.a + self.b_first.a,
            votes_b: self.a_first.b + self.b_first.b,
        }
    }

    /// Number of votes that stayed without a valid verdict.
    pub(super) fn n_invalid(&self) -> u32 {
        self.n_invalid
    }

    /// Number of votes that are finished, invalid ones included.
    pub(super) fn n_finished(&self) -> u32 {
        self.n_finished
    }

    /// The attempts to request now: retries, and, once all requested votes are finished, as many
    /// new votes as the rule wants. Each attempt is returned once.
    pub(super) fn take_wanted_votes(&mut self, rule: &VoteRule) -> Vec<VoteAttempt> {
        let mut wanted = std::mem::take(&mut self.retries);
        let all_finished = self.n_requested == self.n_finished;
        if all_finished && !self.is_decided {
            let MatchScore { votes_a, votes_b } = self.score();
            let n_new = rule.n_wanted(votes_a, votes_b, self.n_finished);
            let votes = self.n_requested..self.n_requested + n_new;
            wanted.extend(votes.map(|vote| VoteAttempt { vote, attempt: 0 }));
            self.n_requested += n_new;
        }
        wanted
    }

    /// Records that an attempt was submitted to the judge.
    pub(super) fn add_in_flight(&mut self, id: VoteId) {
        self.in_flight.push(id);
    }

    /// Counts the outcome of an attempt.
    pub(super) fn count(&mut self, id: VoteId, attempt: VoteAttempt, outcome: CountedVote) {
        self.in_flight.retain(|in_flight| *in_flight != id);
        match outcome {
            CountedVote::Valid { for_a } => {
                let a_shown_first = self.a_shown_first(attempt.vote);
                let order = if a_shown_first { &mut self.a_first } else { &mut self.b_first };
                *(if for_a { &mut order.a } else { &mut order.b }) += 1;
                self.n_finished += 1;
            }
            CountedVote::Invalid { can_retry } if can_retry && attempt.attempt < MAX_RETRIES => {
                self.retries.push(VoteAttempt { attempt: attempt.attempt + 1, ..attempt });
            }
            CountedVote::Invalid { .. } => {
                self.n_invalid += 1;
                self.n_finished += 1;
            }
        }
    }

    /// Ends the match if the rule needs no further vote. Returns the score and the votes in flight,
    /// which are no longer needed; `None` if the match goes on or was over before.
    pub(super) fn try_decide(&mut self, rule: &VoteRule) -> Option<(MatchScore, Vec<VoteId>)> {
        let score = self.score();
        if self.is_decided || !rule.is_decided(score.votes_a, score.votes_b, self.n_finished) {
            return None;
        }
        self.is_decided = true;
        self.retries.clear();
        Some((score, std::mem::take(&mut self.in_flight)))
    }
}
