//! The tournament of one group: which votes to request, what they decide, and what is left of it
//! when it is over.
//!
//! It does not know other groups, nor the judge. `match_state` knows when a match is decided,
//! `tournament` who meets and who is shown first, `evidence` how rows look, and `judged` how votes
//! become rewards.

use std::collections::{BTreeMap, BTreeSet};

use joust_schema::tables::Verdict;

use super::evidence::{Evidence, VoteSource, match_id};
use super::judged::JudgedGroup;
use super::match_state::{CountedVote, MatchIdx, MatchState, VoteAttempt};
use super::players::Players;
use super::request::GroupRequest;
use super::result::GroupProgress;
use super::rewards::Standing;
use crate::config::TournamentConfig;
use crate::index::PlayerIdx;
use crate::judge::{JudgeError, ShownPair, VoteId, VoteReply, VoteRequest};
use crate::rating::MatchVotes;
use crate::tournament::{ReadyMatch, Tournament, TournamentKind, match_seed};

/// A group whose tournament is being played.
pub(super) struct OpenGroup {
    request: GroupRequest,
    rules: TournamentConfig,
    players: Players,
    tournament: Tournament,
    matches: Vec<MatchState>,
    n_decided: usize,
    /// Matches with votes to request, in the order in which these are requested. The order is by
    /// the keys of the players in opening order: prompts with a common prefix follow each other,
    /// and the judge's prefix cache is used.
    wanting: BTreeSet<([u64; 2], MatchIdx)>,
    in_flight: BTreeMap<VoteId, (MatchIdx, VoteAttempt)>,
    evidence: Evidence,
}

impl OpenGroup {
    pub(super) fn new(request: GroupRequest, rules: TournamentConfig) -> Self {
        let players = Players::of(&request.question, &request.completions);
        let tournament = Tournament::new(&rules.plan(), players.keys(), request.seed);
        let mut group = Self {
            request,
            rules,
            players,
            tournament,
            matches: Vec::new(),
            n_decided: 0,
            wanting: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            evidence: Evidence::default(),
        };
        group.begin_ready_matches();
        group
    }

    fn begin_ready_matches(&mut self) {
        if self.players.n() < 2 {
            return;
        }
        for ready in self.tournament.take_ready_matches() {
            let keys = [ready.a, ready.b].map(|player| self.players.key(player));
            let seed = match_seed(self.request.seed, keys);
            let idx = MatchIdx(self.matches.len());
            self.matches.push(MatchState::new(ready, seed, &self.rules.votes));
            self.wanting.insert(self.request_order(idx));
        }
    }

    fn request_order(&self, idx: MatchIdx) -> ([u64; 2], MatchIdx) {
        let players = self.matches[idx.0].in_opening_order();
        (players.map(|player| self.players.key(player)), idx)
    }

    /// Whether a vote can be requested that was not requested before.
    pub(super) fn wants_votes(&self) -> bool {
        !self.wanting.is_empty()
    }

    /// The next vote to request, which is in flight as `id` from then on.
    pub(super) fn take_wanted_vote(&mut self, id: VoteId) -> Option<VoteRequest> {
        let &(_, idx) = self.wanting.first()?;
        let state = &mut self.matches[idx.0];
        let attempt = state.take_wanted_vote(id);
        let attempt = attempt.expect("A wanting match has a vote to request. This is a bug.");
        if !state.wants_votes() {
            self.wanting.pop_first();
        }
        self.in_flight.insert(id, (idx, attempt));
        Some(self.vote_request(id, &self.matches[idx.0], attempt))
    }

    fn vote_request(&self, id: VoteId, state: &MatchState, attempt: VoteAttempt) -> VoteRequest {
        let ReadyMatch { a, b, .. } = state.players;
        let shown = if state.a_shown_first(attempt.vote) { [a, b] } else { [b, a] };
        let [answer_first, answer_second] =
            shown.map(|player| self.players.answer(player).to_owned());
        VoteRequest {
            id,
            match_id: match_id(&self.request, &self.players, state),
            pair: ShownPair {
                group_id: self.request.group_id.clone(),
                first: self.players.first_member(shown[0]),
                second: self.players.first_member(shown[1]),
            },
            vote: attempt.vote,
            attempt: attempt.attempt,
            question: self.request.question.clone(),
            answer_first,
            answer_second,
            reference: self.request.reference.clone(),
            seed: state.vote_seed(attempt),
        }
    }

    /// Takes the outcome of a vote, and returns the votes that it makes unnecessary.
    pub(super) fn take_outcome(
        &mut self,
        id: VoteId,
        outcome: Result<VoteReply, JudgeError>,
        source: VoteSource<'_>,
    ) -> BTreeSet<VoteId> {
        let Some((idx, attempt)) = self.in_flight.remove(&id) else {
            return BTreeSet::new();
        };
        let state = &mut self.matches[idx.0];
        let is_swapped = outcome.as_ref().is_ok_and(|reply| reply.is_swapped);
        let a_shown_first = state.a_shown_first(attempt.vote) != is_swapped;
        let counted = counted(&outcome, a_shown_first);
        let unneeded = state.count(id, attempt, counted, &self.rules.votes);
        let seed = state.vote_seed(attempt);
        self.evidence.add_vote(idx, attempt, (a_shown_first, seed), outcome, source);
        let is_wanting = state.wants_votes();
        let entry = self.request_order(idx);
        match is_wanting {
            true => self.wanting.insert(entry),
            false => self.wanting.remove(&entry),
        };
        match unneeded {
            None => BTreeSet::new(),
            Some(unneeded) => {
                self.end_match(idx);
                for id in &unneeded {
                    self.in_flight.remove(id);
                }
                unneeded
            }
        }
    }

    fn end_match(&mut self, idx: MatchIdx) {
        let state = &self.matches[idx.0];
        self.n_decided += 1;
        self.tournament
            .record_score(state.players.a, state.players.b, state.score())
            .expect("a match that was handed out is recorded once. This is a bug.");
        self.begin_ready_matches();
    }

    pub(super) fn progress(&self) -> GroupProgress {
        GroupProgress {
            matches_over: self.n_decided,
            matches_begun: self.matches.len(),
            votes: self.evidence.n_votes(),
        }
    }

    /// Whether all matches are over and no vote is in flight.
    pub(super) fn is_done(&self) -> bool {
        self.in_flight.is_empty() && (self.players.n() < 2 || self.tournament.is_done())
    }

    /// The group once its tournament is over.
    pub(super) fn finish(self) -> JudgedGroup {
        let standing = self.standing();
        let winner = self.earned_winner().map(|player| self.players.first_member(player));
        let evidence =
            self.evidence.close(&self.request, &self.rules.votes, &self.players, &self.matches);
        JudgedGroup { group_id: self.request.group_id, standing, evidence, winner }
    }

    /// The votes by slot.
    fn standing(&self) -> Standing {
        let slot = |player: PlayerIdx| self.tournament.slot(player).0;
        let of_match = |state: &MatchState| {
            let ReadyMatch { a, b, round, .. } = state.players;
            let [a_first, b_first] = state.counts();
            (round, MatchVotes { a: slot(a), b: slot(b), a_first, b_first })
        };
        // an order that does not depend on the order of the members, so that sums do not either
        let mut matches: Vec<(u32, MatchVotes)> = self.matches.iter().map(of_match).collect();
        matches.sort_by_key(|(round, votes)| (*round, votes.a, votes.b));
        let seed_order = || self.tournament.seed_order().iter();
        let length = |&player: &PlayerIdx| self.players.answer(player).chars().count();
        Standing {
            slot_of_member: self.players.of_members().iter().map(|&player| slot(player)).collect(),
            keys: seed_order().map(|&player| self.players.key(player)).collect(),
            lengths: seed_order().map(length).collect(),
            matches: matches.into_iter().map(|(_, votes)| votes).collect(),
            group_seed: self.request.seed,
        }
    }

    /// The winner of the tournament, if it won by valid votes and not by coins or the seed order:
    /// in a knockout with a majority in each of its matches, elsewhere with at least one vote.
    fn earned_winner(&self) -> Option<PlayerIdx> {
        let winner = self.tournament.winner()?;
        let of_winner = |state: &MatchState| {
            let score = state.score();
            match winner {
                _ if state.players.a == winner => Some((score.votes_a, score.votes_b)),
                _ if state.players.b == winner => Some((score.votes_b, score.votes_a)),
                _ => None,
            }
        };
        let votes: Vec<(u32, u32)> = self.matches.iter().filter_map(of_winner).collect();
        let has_earned = match self.rules.kind {
            TournamentKind::Knockout => {
                !votes.is_empty() && votes.iter().all(|(own, other)| own > other)
            }
            TournamentKind::Swiss | TournamentKind::RoundRobin => {
                votes.iter().any(|(own, _)| *own > 0)
            }
        };
        has_earned.then_some(winner)
    }
}

fn counted(outcome: &Result<VoteReply, JudgeError>, a_shown_first: bool) -> CountedVote {
    let verdict = outcome.as_ref().map_or(Verdict::Invalid, |reply| reply.verdict);
    match verdict.for_a(a_shown_first) {
        Some(for_a) => CountedVote::Valid { for_a, a_shown_first },
        None => CountedVote::Invalid { can_retry: !matches!(outcome, Err(JudgeError::Refused(_))) },
    }
}
