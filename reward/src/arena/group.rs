//! One group on its way through its tournament: which votes to ask for, what they decide.
//!
//! Equal completions are one player: between them a judge could only guess. They share its matches
//! and its rating.

use std::collections::BTreeMap;

use joust_schema::ids::{MatchId, Member};
use joust_schema::seed::Seed;
use joust_schema::tables::{Match, Verdict, Vote};

use super::ratings::{Standing, rewards};
use super::request::GroupRequest;
use super::result::{GroupResult, NO_REPLY, Progress};
use crate::config::{RewardConfig, TournamentConfig};
use crate::judge::{JudgeError, VoteId, VoteReply, VoteRequest};
use crate::prompt::strip_thinking;
use crate::rating::{Game, Order};
use crate::tournament::{MatchScore, Pairing, Tournament, TournamentKind};

/// Times that a vote without a valid verdict is asked for again.
const SECOND_TRIES: u32 = 1;

/// A match in play or played.
struct Bout {
    pairing: Pairing,
    seed: Seed,
    id: MatchId,
    /// Whether player a is shown first at even votes.
    a_first_at_even: bool,
    /// Valid votes by the order of presentation.
    a_first: Order,
    b_first: Order,
    n_asked: u32,
    n_finished: u32,
    n_invalid: u32,
    /// Votes to be asked for again: place and attempt.
    again: Vec<(u32, u32)>,
    is_recorded: bool,
}

/// A vote that has been asked for.
struct Asked {
    bout: usize,
    vote: u32,
    attempt: u32,
    a_shown_first: bool,
    seed: Seed,
}

/// A group whose tournament is being played.
pub(super) struct OpenGroup {
    request: GroupRequest,
    rules: TournamentConfig,
    /// Completions as the judge sees them, one a player.
    players: Vec<String>,
    /// The player that each member is.
    player_of: Vec<usize>,
    keys: Vec<u64>,
    tournament: Tournament,
    bouts: Vec<Bout>,
    /// Matches that each player opened as the answer shown first, less those it did not.
    n_shown_first: Vec<i32>,
    /// Players that were shown first in some match.
    has_opened: Vec<bool>,
    asked: BTreeMap<VoteId, Asked>,
    votes: Vec<(usize, Vote)>,
    /// Votes that the judge refused.
    n_refused: usize,
}

impl OpenGroup {
    pub(super) fn new(request: GroupRequest, rules: TournamentConfig) -> Self {
        let mut players: Vec<String> = Vec::new();
        let mut player_of = Vec::with_capacity(request.completions.len());
        for completion in &request.completions {
            let shown = strip_thinking(completion);
            let known = players.iter().position(|player| player == shown);
            player_of.push(known.unwrap_or_else(|| {
                players.push(shown.to_owned());
                players.len() - 1
            }));
        }
        let key = |player: &String| Seed::new(0).child_str("player", player).0;
        let keys: Vec<u64> = players.iter().map(key).collect();
        let seed = request.seed.child("tournament", 0);
        let tournament = Tournament::new(rules.kind, &keys, rules.rounds, seed);
        let n_shown_first = vec![0; players.len()];
        let has_opened = vec![false; players.len()];
        Self {
            request,
            rules,
            players,
            player_of,
            keys,
            tournament,
            bouts: Vec::new(),
            n_shown_first,
            has_opened,
            asked: BTreeMap::new(),
            votes: Vec::new(),
            n_refused: 0,
        }
    }

    /// The votes that can be asked for now and have not been.
    pub(super) fn ask(&mut self, next_id: &mut dyn FnMut() -> VoteId) -> Vec<VoteRequest> {
        if self.players.len() < 2 {
            return Vec::new();
        }
        for pairing in self.tournament.ready() {
            let bout = self.bout(pairing);
            self.bouts.push(bout);
        }
        let mut requests = Vec::new();
        // questions that begin alike follow each other, so that they meet in the judge's cache
        let mut order: Vec<usize> = (0..self.bouts.len()).collect();
        order.sort_by_key(|&bout| {
            let (first, second) = self.bouts[bout].first_at_even();
            (self.keys[first.idx()], self.keys[second.idx()])
        });
        for bout_idx in order {
            for (vote, attempt) in self.bouts[bout_idx].wanted(&self.rules) {
                let id = next_id();
                let (asked, request) = self.vote(id, bout_idx, vote, attempt);
                self.asked.insert(id, asked);
                requests.push(request);
            }
        }
        requests
    }

    /// A match to play. The player that was shown first less often opens it, so that what the judge
    /// makes of the place evens out over the tournament. Between equals one that opened a match before
    /// does it again, else a keyed coin decides.
    fn bout(&mut self, pairing: Pairing) -> Bout {
        let (a, b) = (pairing.a.idx(), pairing.b.idx());
        // keyed by what is compared, so that members can be permuted
        let key = format!("{:016x}{:016x}", self.keys[a], self.keys[b]);
        let seed = self.request.seed.child_str("match", &key);
        let [member_a, member_b] = [a, b].map(|player| self.first_member(player));
        let group_id = &self.request.group_id;
        let a_first_at_even = match self.n_shown_first[a].cmp(&self.n_shown_first[b]) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Greater => false,
            // a prompt that begins like an earlier one costs the judge less
            std::cmp::Ordering::Equal if self.has_opened[a] != self.has_opened[b] => {
                self.has_opened[a]
            }
            std::cmp::Ordering::Equal => seed.child("order", 0).unit() < 0.5,
        };
        let (first, second) = if a_first_at_even { (a, b) } else { (b, a) };
        self.has_opened[first] = true;
        self.n_shown_first[first] += 1;
        self.n_shown_first[second] -= 1;
        Bout {
            pairing,
            seed,
            id: MatchId(format!("{group_id}/{}-{member_a}-{member_b}", pairing.round + 1)),
            a_first_at_even,
            a_first: Order::default(),
            b_first: Order::default(),
            n_asked: 0,
            n_finished: 0,
            n_invalid: 0,
            again: Vec::new(),
            is_recorded: false,
        }
    }

    /// The first member that is this player.
    fn first_member(&self, player: usize) -> Member {
        let first = self.player_of.iter().position(|&of| of == player);
        Member(first.expect("every player is somebody's. This is a bug.") as u32)
    }

    fn vote(&self, id: VoteId, bout_idx: usize, vote: u32, attempt: u32) -> (Asked, VoteRequest) {
        let bout = &self.bouts[bout_idx];
        let a_shown_first = bout.a_first_at_even == vote.is_multiple_of(2);
        let seed = bout.seed.child("vote", u64::from(vote)).child("attempt", u64::from(attempt));
        let text = |member: Member| self.players[member.idx()].clone();
        let (a, b) = (text(bout.pairing.a), text(bout.pairing.b));
        let (answer_first, answer_second) = if a_shown_first { (a, b) } else { (b, a) };
        let request = VoteRequest {
            id,
            match_id: bout.id.clone(),
            vote,
            attempt,
            question: self.request.question.clone(),
            answer_first,
            answer_second,
            reference: self.request.reference.clone(),
            seed,
        };
        (Asked { bout: bout_idx, vote, attempt, a_shown_first, seed }, request)
    }

    /// Takes the outcome of a vote, and returns the votes that are no longer needed with it.
    pub(super) fn take(
        &mut self,
        id: VoteId,
        outcome: Result<VoteReply, JudgeError>,
        judge: &str,
        record_latency: bool,
    ) -> Vec<VoteId> {
        let Some(asked) = self.asked.remove(&id) else {
            return Vec::new();
        };
        let bout = &mut self.bouts[asked.bout];
        let is_refused = matches!(outcome, Err(JudgeError::Refused(_)));
        let can_retry = asked.attempt < SECOND_TRIES && !is_refused;
        self.n_refused += usize::from(is_refused);
        let reply = outcome.unwrap_or_else(|error| VoteReply {
            verdict: Verdict::Invalid,
            text: format!("{NO_REPLY}{error}"),
            prompt_tokens: 0,
            cached_prompt_tokens: 0,
            completion_tokens: 0,
            latency_ms: 0.0,
        });
        match reply.verdict.for_a(asked.a_shown_first) {
            Some(a_wins) => {
                let order = if asked.a_shown_first { &mut bout.a_first } else { &mut bout.b_first };
                *(if a_wins { &mut order.a } else { &mut order.b }) += 1;
                bout.n_finished += 1;
            }
            None if can_retry => bout.again.push((asked.vote, asked.attempt + 1)),
            None => {
                bout.n_invalid += 1;
                bout.n_finished += 1;
            }
        }
        let row = Vote {
            match_id: bout.id.clone(),
            vote: asked.vote as i32,
            attempt: asked.attempt as i32,
            a_shown_first: asked.a_shown_first,
            verdict: reply.verdict,
            text: reply.text,
            prompt_tokens: reply.prompt_tokens as i32,
            cached_prompt_tokens: reply.cached_prompt_tokens as i32,
            completion_tokens: reply.completion_tokens as i32,
            latency_ms: record_latency.then_some(reply.latency_ms),
            seed: asked.seed.0 as i64,
            judge: judge.to_owned(),
        };
        self.votes.push((asked.bout, row));
        let bout = &mut self.bouts[asked.bout];
        if !bout.is_recorded && bout.is_over(&self.rules) {
            bout.is_recorded = true;
            let (votes_a, votes_b) = bout.votes();
            let score = MatchScore { votes_a, votes_b };
            self.tournament
                .record(bout.pairing.a, bout.pairing.b, score)
                .expect("a match that was handed out is recorded once. This is a bug.");
            bout.again.clear();
            let waiting = self.asked.iter().filter(|(_, other)| other.bout == asked.bout);
            let unneeded: Vec<VoteId> = waiting.map(|(&id, _)| id).collect();
            for id in &unneeded {
                self.asked.remove(id);
            }
            return unneeded;
        }
        Vec::new()
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            matches_over: self.bouts.iter().filter(|bout| bout.is_recorded).count(),
            matches_begun: self.bouts.len(),
            votes: self.votes.len(),
        }
    }

    /// Whether all matches are over and no vote is on its way.
    pub(super) fn is_done(&self) -> bool {
        self.asked.is_empty() && (self.players.len() < 2 || self.tournament.is_done())
    }

    /// The group's rows.
    pub(super) fn finish(mut self, config: &RewardConfig) -> GroupResult {
        // games in an order that permuting the members does not change, so that sums do not either
        let mut slot_of = vec![0; self.players.len()];
        for (slot, player) in self.tournament.seed_order().iter().enumerate() {
            slot_of[player.idx()] = slot;
        }
        let mut games: Vec<(u32, Game)> = Vec::new();
        for bout in &self.bouts {
            let [a, b] = [bout.pairing.a, bout.pairing.b].map(|player| slot_of[player.idx()]);
            let (a_first, b_first) = (bout.a_first, bout.b_first);
            games.push((bout.pairing.round, Game { a, b, a_first, b_first }));
        }
        games.sort_by_key(|(round, game)| (*round, game.a, game.b));
        let games: Vec<Game> = games.into_iter().map(|(_, game)| game).collect();
        let slots_of_members: Vec<usize> =
            self.player_of.iter().map(|&player| slot_of[player]).collect();
        let keys: Vec<u64> =
            self.tournament.seed_order().iter().map(|player| self.keys[player.idx()]).collect();
        let standing = Standing {
            slot_of: &slots_of_members,
            keys: &keys,
            games: &games,
            seed: self.request.seed.child("rating", 0),
        };
        let (rewards, position_bias) = rewards(&self.request.group_id, &standing, config);
        let winner = self.tournament.winner().filter(|&player| self.has_earned(player));
        let winner = winner.map(|player| self.first_member(player.idx()));
        let mut order: Vec<usize> = (0..self.bouts.len()).collect();
        let place = |bout: &Bout| (bout.pairing.round, bout.id.clone());
        order.sort_by_key(|&bout| place(&self.bouts[bout]));
        let mut rank = vec![0; order.len()];
        for (at, &bout) in order.iter().enumerate() {
            rank[bout] = at;
        }
        let matches = order.iter().map(|&bout| self.match_row(&self.bouts[bout])).collect();
        self.votes.sort_by_key(|(bout, vote)| (rank[*bout], vote.vote, vote.attempt));
        let is_refused = self.n_refused > 0 && self.n_refused == self.votes.len();
        GroupResult {
            group_id: self.request.group_id.clone(),
            rewards,
            matches,
            votes: self.votes.into_iter().map(|(_, vote)| vote).collect(),
            winner,
            position_bias,
            is_refused,
        }
    }

    /// Whether valid votes, and neither coins nor seed order, made this player the winner: a majority
    /// in each of its matches of a knockout, at least one vote elsewhere.
    fn has_earned(&self, player: Member) -> bool {
        let votes = self.bouts.iter().filter_map(|bout| {
            let (votes_a, votes_b) = bout.votes();
            match player {
                _ if bout.pairing.a == player => Some((votes_a, votes_b)),
                _ if bout.pairing.b == player => Some((votes_b, votes_a)),
                _ => None,
            }
        });
        let votes: Vec<(u32, u32)> = votes.collect();
        match self.rules.kind {
            TournamentKind::Knockout => {
                !votes.is_empty() && votes.iter().all(|(own, other)| own > other)
            }
            _ => votes.iter().any(|(own, _)| *own > 0),
        }
    }

    fn match_row(&self, bout: &Bout) -> Match {
        let (votes_a, votes_b) = bout.votes();
        let member_a = self.first_member(bout.pairing.a.idx());
        let member_b = self.first_member(bout.pairing.b.idx());
        Match {
            step: self.request.step,
            group_id: self.request.group_id.clone(),
            match_id: bout.id.clone(),
            round: bout.pairing.round as i32 + 1,
            member_a,
            member_b,
            votes_a: votes_a as i32,
            votes_b: votes_b as i32,
            votes_invalid: bout.n_invalid as i32,
            decided_early: bout.n_finished < self.rules.votes.max,
            winner: match votes_a.cmp(&votes_b) {
                std::cmp::Ordering::Greater => Some(member_a),
                std::cmp::Ordering::Less => Some(member_b),
                std::cmp::Ordering::Equal => None,
            },
        }
    }
}

impl Bout {
    /// The players in the order in which even votes show them.
    fn first_at_even(&self) -> (Member, Member) {
        let Pairing { a, b, .. } = self.pairing;
        if self.a_first_at_even { (a, b) } else { (b, a) }
    }

    /// Valid votes for a and for b.
    fn votes(&self) -> (u32, u32) {
        (self.a_first.a + self.b_first.a, self.a_first.b + self.b_first.b)
    }

    /// Whether the rule says that no further vote is needed.
    fn is_over(&self, rules: &TournamentConfig) -> bool {
        let (votes_a, votes_b) = self.votes();
        rules.votes.is_decided(votes_a, votes_b, self.n_finished)
    }

    /// The votes to ask for now: second tries, and as many new ones as the rule wants.
    fn wanted(&mut self, rules: &TournamentConfig) -> Vec<(u32, u32)> {
        let mut wanted = std::mem::take(&mut self.again);
        let all_in = self.n_asked == self.n_finished;
        if all_in && !self.is_recorded {
            let (votes_a, votes_b) = self.votes();
            let n_new = rules.votes.n_wanted(votes_a, votes_b, self.n_finished);
            wanted.extend((self.n_asked..self.n_asked + n_new).map(|vote| (vote, 0)));
            self.n_asked += n_new;
        }
        wanted
    }
}
