//! The tournament of one group: requests votes, counts them, and makes the result.
//!
//! It does not know other groups, nor the judge. `match_state` knows when a match is decided,
//! `opening` which player is shown first, `evidence` how rows look, and `rewards` how votes become
//! rewards.

use std::collections::{BTreeMap, BTreeSet};

use joust_schema::ids::MatchId;
use joust_schema::tables::Verdict;

use super::evidence::{Evidence, VoteSource};
use super::match_state::{CountedVote, MatchIdx, MatchState, VoteAttempt};
use super::opening::Openings;
use super::players::Players;
use super::request::GroupRequest;
use super::result::{GroupProgress, GroupResult};
use super::rewards::{Standing, rewards};
use crate::config::{RewardConfig, TournamentConfig};
use crate::index::PlayerIdx;
use crate::judge::{JudgeError, VoteId, VoteReply, VoteRequest};
use crate::rating::MatchVotes;
use crate::tournament::{ReadyMatch, Tournament, TournamentKind};

/// A group whose tournament is being played.
pub(super) struct OpenGroup {
    request: GroupRequest,
    rules: TournamentConfig,
    players: Players,
    tournament: Tournament,
    openings: Openings,
    matches: Vec<MatchState>,
    /// Matches that are not decided, in the order in which their votes are requested. The order is
    /// by the keys of the players in opening order: prompts with a common prefix follow each other,
    /// and the judge's prefix cache is used.
    undecided: BTreeSet<([u64; 2], MatchIdx)>,
    in_flight: BTreeMap<VoteId, (MatchIdx, VoteAttempt)>,
    evidence: Evidence,
}

impl OpenGroup {
    pub(super) fn new(request: GroupRequest, rules: TournamentConfig) -> Self {
        let players = Players::of(&request.completions);
        let seed = request.seed.child("tournament", 0);
        let tournament = Tournament::new(rules.kind, players.keys(), rules.rounds, seed);
        Self {
            request,
            rules,
            openings: Openings::new(players.n()),
            players,
            tournament,
            matches: Vec::new(),
            undecided: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            evidence: Evidence::default(),
        }
    }

    /// Begins the matches that are ready, and returns the votes that can be requested now and were
    /// not requested before.
    pub(super) fn take_wanted_votes(
        &mut self,
        next_id: &mut dyn FnMut() -> VoteId,
    ) -> Vec<VoteRequest> {
        if self.players.n() < 2 {
            return Vec::new();
        }
        for ready in self.tournament.take_ready_matches() {
            self.begin_match(ready);
        }
        let mut requests = Vec::new();
        for &(_, idx) in &self.undecided {
            let state = &mut self.matches[idx.0];
            for attempt in state.take_wanted_votes(&self.rules.votes) {
                let id = next_id();
                state.add_in_flight(id);
                self.in_flight.insert(id, (idx, attempt));
                requests.push(vote_request(id, &self.request, &self.players, state, attempt));
            }
        }
        requests
    }

    fn begin_match(&mut self, ready: ReadyMatch) {
        let keys = [ready.a, ready.b].map(|player| self.players.key(player));
        // keyed by the two answers: permuting the members changes no draw
        let key = format!("{:016x}{:016x}", keys[0], keys[1]);
        let seed = self.request.seed.child_str("match", &key);
        let a_opens = self.openings.a_opens(ready.a, ready.b, seed);
        let [member_a, member_b] =
            [ready.a, ready.b].map(|player| self.players.first_member(player));
        let group_id = &self.request.group_id;
        let id = MatchId(format!("{group_id}/{}-{member_a}-{member_b}", ready.round + 1));
        let state = MatchState::new(ready, id, seed, a_opens);
        self.undecided.insert(self.request_order(&state, MatchIdx(self.matches.len())));
        self.matches.push(state);
    }

    fn request_order(&self, state: &MatchState, idx: MatchIdx) -> ([u64; 2], MatchIdx) {
        (state.in_opening_order().map(|player| self.players.key(player)), idx)
    }

    /// Takes the outcome of a vote, and returns the votes that it makes unnecessary.
    pub(super) fn take_outcome(
        &mut self,
        id: VoteId,
        outcome: Result<VoteReply, JudgeError>,
        source: VoteSource<'_>,
    ) -> Vec<VoteId> {
        let Some((idx, attempt)) = self.in_flight.remove(&id) else {
            return Vec::new();
        };
        let state = &mut self.matches[idx.0];
        let counted = counted(&outcome, state.a_shown_first(attempt.vote));
        state.count(id, attempt, counted);
        let seed = state.vote_seed(attempt);
        self.evidence.add_vote((idx, &*state), attempt, seed, outcome, source);
        self.end_match_if_decided(idx)
    }

    /// Ends a match whose votes decide it, and returns its unnecessary votes in flight.
    fn end_match_if_decided(&mut self, idx: MatchIdx) -> Vec<VoteId> {
        let state = &mut self.matches[idx.0];
        let Some((score, unneeded)) = state.try_decide(&self.rules.votes) else {
            return Vec::new();
        };
        self.tournament
            .record_score(state.players.a, state.players.b, score)
            .expect("a match that was handed out is recorded once. This is a bug.");
        let entry = self.request_order(&self.matches[idx.0], idx);
        self.undecided.remove(&entry);
        for id in &unneeded {
            self.in_flight.remove(id);
        }
        unneeded
    }

    pub(super) fn progress(&self) -> GroupProgress {
        GroupProgress {
            matches_over: self.matches.len() - self.undecided.len(),
            matches_begun: self.matches.len(),
            votes: self.evidence.n_votes(),
        }
    }

    /// Whether all matches are over and no vote is in flight.
    pub(super) fn is_done(&self) -> bool {
        self.in_flight.is_empty() && (self.players.n() < 2 || self.tournament.is_done())
    }

    /// The result of the group.
    pub(super) fn finish(self, config: &RewardConfig) -> GroupResult {
        let (rewards, position_bias) = self.rewards(config);
        let winner = self.earned_winner().map(|player| self.players.first_member(player));
        let is_refused = self.evidence.is_refused();
        let rule = &self.rules.votes;
        let (matches, votes) =
            self.evidence.into_rows(&self.request, rule, &self.players, &self.matches);
        GroupResult {
            group_id: self.request.group_id,
            rewards,
            matches,
            votes,
            winner,
            position_bias,
            is_refused,
        }
    }

    /// The rewards of all members, and the judge's position bias if it was measured.
    fn rewards(&self, config: &RewardConfig) -> (Vec<joust_schema::tables::Reward>, Option<f64>) {
        let slot = |player: PlayerIdx| self.tournament.slot(player).0;
        let of_match = |state: &MatchState| {
            let votes = MatchVotes {
                a: slot(state.players.a),
                b: slot(state.players.b),
                a_first: state.a_first,
                b_first: state.b_first,
            };
            (state.players.round, votes)
        };
        // an order that does not depend on the order of the members, so that sums do not either
        let mut matches: Vec<(u32, MatchVotes)> = self.matches.iter().map(of_match).collect();
        matches.sort_by_key(|(round, votes)| (*round, votes.a, votes.b));
        let seed_order = self.tournament.seed_order().iter();
        let standing = Standing {
            slot_of_member: self.players.of_members().iter().map(|&player| slot(player)).collect(),
            keys: seed_order.map(|&player| self.players.key(player)).collect(),
            matches: matches.into_iter().map(|(_, votes)| votes).collect(),
            seed: self.request.seed.child("rating", 0),
        };
        rewards(&self.request.group_id, &standing, config)
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
        Some(for_a) => CountedVote::Valid { for_a },
        None => CountedVote::Invalid { can_retry: !matches!(outcome, Err(JudgeError::Refused(_))) },
    }
}

fn vote_request(
    id: VoteId,
    group: &GroupRequest,
    players: &Players,
    state: &MatchState,
    attempt: VoteAttempt,
) -> VoteRequest {
    let [a, b] = [state.players.a, state.players.b].map(|player| players.answer(player).to_owned());
    let a_shown_first = state.a_shown_first(attempt.vote);
    let (answer_first, answer_second) = if a_shown_first { (a, b) } else { (b, a) };
    VoteRequest {
        id,
        match_id: state.id.clone(),
        vote: attempt.vote,
        attempt: attempt.attempt,
        question: group.question.clone(),
        answer_first,
        answer_second,
        reference: group.reference.clone(),
        seed: state.vote_seed(attempt),
    }
}
