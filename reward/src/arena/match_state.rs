//! One match in play or over: its votes by position, which votes to request, and when it is
//! decided.
//!
//! What it decides depends on the votes by their positions, never on the order of their arrival. It
//! does not know its tournament, nor what a judge is.

use std::collections::BTreeSet;

use joust_schema::seed::Seed;

use crate::index::PlayerIdx;
use crate::judge::VoteId;
use crate::rating::VoteCounts;
use crate::tournament::{MatchScore, ReadyMatch};
use crate::votes::{FinishedPairs, VoteRule};

/// Maximum number of further attempts after one without a valid verdict.
const MAX_RETRIES: u32 = 1;

/// Position of a match among those of its group, in the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MatchIdx(pub(super) usize);

/// An attempt at a vote of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VoteAttempt {
    /// Position of the vote in its match, counted from 0.
    pub(super) vote: u32,
    /// Number of attempts before this one.
    pub(super) attempt: u32,
}

/// Outcome of an attempt, as the match counts it.
pub(super) enum CountedVote {
    /// A valid verdict for player a (true) or b, and whether a was shown first.
    Valid { for_a: bool, a_shown_first: bool },
    /// No valid verdict; another attempt may give one if `can_retry`.
    Invalid { can_retry: bool },
}

/// A requested vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestedVote {
    /// It has no final outcome yet.
    Open,
    /// It is for player a (true) or b, and showed a first or not.
    Valid { for_a: bool, a_shown_first: bool },
    /// It stays without a valid verdict.
    Invalid,
}

/// A match in play or over.
pub(super) struct MatchState {
    pub(super) players: ReadyMatch,
    seed: Seed,
    /// The requested votes by position.
    votes: Vec<RequestedVote>,
    /// The votes before the first pair that is not finished. Once the match is decided, the votes
    /// that decided it.
    finished: FinishedPairs,
    /// Number of votes that the rule wants requested by now.
    n_wanted: u32,
    retries: BTreeSet<VoteAttempt>,
    in_flight: BTreeSet<VoteId>,
    is_decided: bool,
}

impl MatchState {
    pub(super) fn new(players: ReadyMatch, seed: Seed, rule: &VoteRule) -> Self {
        let finished = FinishedPairs::default();
        Self {
            players,
            seed,
            votes: Vec::new(),
            n_wanted: rule.n_wanted(&finished),
            finished,
            retries: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            is_decided: false,
        }
    }

    /// The players in the order in which even votes show them.
    pub(super) fn in_opening_order(&self) -> [PlayerIdx; 2] {
        let ReadyMatch { a, b, a_opens, .. } = self.players;
        if a_opens { [a, b] } else { [b, a] }
    }

    /// Whether player a is shown first in this vote: the order alternates.
    pub(super) fn a_shown_first(&self, vote: u32) -> bool {
        self.players.a_opens == vote.is_multiple_of(2)
    }

    /// Seed of the judge's draws in an attempt.
    pub(super) fn vote_seed(&self, VoteAttempt { vote, attempt }: VoteAttempt) -> Seed {
        self.seed.child("vote", u64::from(vote)).child("attempt", u64::from(attempt))
    }

    /// Number of votes that count, invalid ones included: the first ones by position. A match
    /// counts none before it is decided.
    pub(super) fn n_counted(&self) -> u32 {
        if self.is_decided { self.finished.n_votes } else { 0 }
    }

    /// The valid votes that count, where player a was shown first and where b was.
    pub(super) fn counts(&self) -> [VoteCounts; 2] {
        let mut counts = [VoteCounts::default(); 2];
        for vote in 0..self.n_counted() {
            if let RequestedVote::Valid { for_a, a_shown_first } = self.votes[vote as usize] {
                let of_order = &mut counts[usize::from(!a_shown_first)];
                *(if for_a { &mut of_order.a } else { &mut of_order.b }) += 1;
            }
        }
        counts
    }

    /// The valid votes that count, by player.
    pub(super) fn score(&self) -> MatchScore {
        let [a_first, b_first] = self.counts();
        MatchScore { votes_a: a_first.a + b_first.a, votes_b: a_first.b + b_first.b }
    }

    /// Number of votes that count and stayed without a valid verdict.
    pub(super) fn n_invalid(&self) -> u32 {
        let MatchScore { votes_a, votes_b } = self.score();
        self.n_counted() - votes_a - votes_b
    }

    /// Whether a vote can be requested that was not requested before.
    pub(super) fn wants_votes(&self) -> bool {
        !self.is_decided && (!self.retries.is_empty() || self.votes.len() < self.n_wanted as usize)
    }

    /// The next attempt to request; each is returned once, and is in flight as `id` from then on.
    pub(super) fn take_wanted_vote(&mut self, id: VoteId) -> Option<VoteAttempt> {
        if !self.wants_votes() {
            return None;
        }
        self.in_flight.insert(id);
        Some(self.retries.pop_first().unwrap_or_else(|| {
            self.votes.push(RequestedVote::Open);
            VoteAttempt { vote: self.votes.len() as u32 - 1, attempt: 0 }
        }))
    }

    /// Counts the outcome of an attempt. If it decides the match, returns the votes in flight: they
    /// are no longer needed.
    pub(super) fn count(
        &mut self,
        id: VoteId,
        attempt: VoteAttempt,
        outcome: CountedVote,
        rule: &VoteRule,
    ) -> Option<BTreeSet<VoteId>> {
        self.in_flight.remove(&id);
        self.votes[attempt.vote as usize] = match outcome {
            CountedVote::Valid { for_a, a_shown_first } => {
                RequestedVote::Valid { for_a, a_shown_first }
            }
            CountedVote::Invalid { can_retry } if can_retry && attempt.attempt < MAX_RETRIES => {
                self.retries.insert(VoteAttempt { attempt: attempt.attempt + 1, ..attempt });
                return None;
            }
            CountedVote::Invalid { .. } => RequestedVote::Invalid,
        };
        while !self.is_decided && self.finish_next_pair(rule) {
            self.is_decided = rule.is_decided(&self.finished);
        }
        self.n_wanted = rule.n_wanted(&self.finished);
        if !self.is_decided {
            return None;
        }
        self.retries.clear();
        self.votes.truncate(self.finished.n_votes as usize);
        Some(std::mem::take(&mut self.in_flight))
    }

    /// Takes the next pair of votes into the finished ones; false if one of them is not finished.
    /// The last vote of an odd number has no partner.
    fn finish_next_pair(&mut self, rule: &VoteRule) -> bool {
        let n_finished = self.finished.n_votes;
        let of = |vote: u32| match self.votes.get(vote as usize) {
            None | Some(RequestedVote::Open) => None,
            Some(RequestedVote::Valid { for_a, .. }) => Some(Some(*for_a)),
            Some(RequestedVote::Invalid) => Some(None),
        };
        match (of(n_finished), of(n_finished + 1)) {
            (Some(one), Some(other)) => self.finished.add([one, other]),
            (Some(last), None) if n_finished + 1 == rule.max => self.finished.add_last(last),
            _ => return false,
        }
        true
    }
}
