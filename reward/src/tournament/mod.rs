//! Tournaments: which players of a group meet, as state machines without I/O. One file per format.
//!
//! In: the players' keys and the scores of finished matches. Out: matches that can be played now,
//! which player of each is shown first, and a winner. It does not know judges, single votes or
//! ratings. A bye is not a match and is never returned.
//!
//! Formats work on *slots*: positions in the seed order, which depends on the tournament's seed and
//! on the players' keys only. Permuting the players (with their keys) therefore permutes matches
//! and results and changes nothing else. A published Swiss implementation confused list positions
//! with members and credited points to the wrong members; typed indices and property tests rule
//! that out.

mod draw;
mod format;
mod kind;
mod knockout;
mod matching;
mod opening;
mod round_robin;
mod score;
mod size;
mod standings;
mod swiss;

use joust_schema::seed::Seed;

use self::format::{SlotMatch, TournamentFormat};
pub use self::kind::TournamentKind;
use self::knockout::Knockout;
use self::opening::Openings;
pub(crate) use self::opening::match_seed;
use self::round_robin::RoundRobin;
pub use self::score::MatchScore;
pub(crate) use self::size::TournamentSize;
use self::swiss::Swiss;
use crate::index::{PlayerIdx, SlotIdx};

/// The tournament that a group plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TournamentPlan {
    /// Format.
    pub kind: TournamentKind,
    /// Number of rounds; only [`TournamentKind::Swiss`] reads it.
    pub rounds: Option<u32>,
    /// Whether Swiss pairs players so that each is shown first as often as second. Not needed if
    /// the votes of each match show both orders equally often.
    pub balances_openings: bool,
}

/// A match that can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadyMatch {
    /// One player.
    pub a: PlayerIdx,
    /// The other player.
    pub b: PlayerIdx,
    /// The round, counted from 0.
    pub round: u32,
    /// Whether `a` is shown first in even votes, and `b` in odd ones; else the other way round.
    pub a_opens: bool,
}

/// A score for a match that is not in play.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// The two players are not playing each other now: never matched, not handed out yet, or
    /// recorded before.
    #[error(
        "no match between players {a} and {b} is in play, wanted each match of \
         take_ready_matches() to be recorded once"
    )]
    NotPlaying {
        /// The player named first.
        a: PlayerIdx,
        /// The player named second.
        b: PlayerIdx,
    },
}

/// The tournament of one group.
///
/// Call [`take_ready_matches`](Self::take_ready_matches), play its matches in any order,
/// [`record_score`](Self::record_score) each score, and ask for ready matches again after any score
/// until [`is_done`](Self::is_done).
#[derive(Debug)]
pub struct Tournament {
    /// The player in each slot.
    players: Vec<PlayerIdx>,
    /// The slot of each player.
    slots: Vec<SlotIdx>,
    format: Box<dyn TournamentFormat>,
}

impl Tournament {
    /// Draws the seed order and sets the tournament up, with all draws from the group's seed.
    ///
    /// `player_keys` holds one key per player, the hash of what distinguishes it (its completion).
    /// Equal keys are ordered by position: give equal completions different keys, or their exchange
    /// changes who plays whom.
    pub fn new(plan: &TournamentPlan, player_keys: &[u64], group_seed: Seed) -> Self {
        let seed = group_seed.child("tournament", 0);
        let mut order: Vec<(Seed, u64, usize)> = player_keys
            .iter()
            .enumerate()
            .map(|(idx, &key)| (seed.child("seed_order", key), key, idx))
            .collect();
        order.sort_by_key(|&(draw, key, idx)| (draw.0, key, idx));
        let n_players = order.len();
        let mut slots = vec![SlotIdx(0); n_players];
        for (slot, &(_, _, idx)) in order.iter().enumerate() {
            slots[idx] = SlotIdx(slot);
        }
        let slot_keys: Vec<u64> = order.iter().map(|&(_, key, _)| key).collect();
        let players = order.iter().map(|&(_, _, idx)| PlayerIdx(idx)).collect();
        let openings = Openings::new(&slot_keys, group_seed);
        let format: Box<dyn TournamentFormat> = match plan.kind {
            TournamentKind::Swiss => {
                Box::new(Swiss::new(openings, plan.rounds, plan.balances_openings))
            }
            TournamentKind::Knockout => Box::new(Knockout::new(slot_keys, openings, seed)),
            TournamentKind::RoundRobin => Box::new(RoundRobin::new(openings)),
        };
        Self { players, slots, format }
    }

    /// Returns the matches that can be played now and were not returned before.
    ///
    /// A knockout returns a match as soon as its two players are known, Swiss a round when the one
    /// before is complete, a round robin all matches at once.
    pub fn take_ready_matches(&mut self) -> Vec<ReadyMatch> {
        let matches = self.format.take_ready_matches();
        let of_players = |SlotMatch { a, b, round, a_opens }| ReadyMatch {
            a: self.players[a.0],
            b: self.players[b.0],
            round,
            a_opens,
        };
        matches.into_iter().map(of_players).collect()
    }

    /// Records the score of a match in play; `score` counts votes for `a` and for `b` as named
    /// here.
    ///
    /// Equal votes, or none, are a draw: in a knockout a coin keyed by the seed and both players'
    /// keys decides who advances; in Swiss and round robin each gets half a point, which only
    /// orders later matches and the winner.
    ///
    /// # Errors
    /// [`RecordError::NotPlaying`] if `a` and `b` are not playing each other.
    pub fn record_score(
        &mut self,
        a: PlayerIdx,
        b: PlayerIdx,
        score: MatchScore,
    ) -> Result<(), RecordError> {
        let slot = |player: PlayerIdx| self.slots.get(player.0).copied();
        match slot(a).zip(slot(b)) {
            Some((slot_a, slot_b)) if self.format.record_score(slot_a, slot_b, score) => Ok(()),
            _ => Err(RecordError::NotPlaying { a, b }),
        }
    }

    /// Whether every match was recorded.
    pub fn is_done(&self) -> bool {
        self.format.is_done()
    }

    /// Returns the winner once the tournament is done; `None` before, and without players.
    ///
    /// A knockout is won by the winner of the final. Swiss and round robin order by points, then by
    /// the points of the opponents met (Buchholz), then by the points from matches among the
    /// players that are still level, then by seed order.
    pub fn winner(&self) -> Option<PlayerIdx> {
        self.format.winner().map(|slot| self.players[slot.0])
    }

    /// Number of matches of the whole tournament, byes not counted.
    pub fn n_matches_planned(&self) -> usize {
        self.format.n_matches_planned()
    }

    /// The players in seed order, the order that permuting them does not change.
    pub fn seed_order(&self) -> &[PlayerIdx] {
        &self.players
    }

    /// The slot of a player.
    pub(crate) fn slot(&self, player: PlayerIdx) -> SlotIdx {
        self.slots[player.0]
    }
}

#[cfg(test)]
mod tests;
