//! Owns who meets whom: brackets, Swiss rounds and round robins as state machines without I/O.
//!
//! In: the members' keys and the scores of finished matches. Out: pairings that can be played now,
//! and a winner. It does not know judges, votes one by one, presentation order or ratings; a bye is
//! no match and never leaves here.
//!
//! Inside, members are *slots*: positions in the seed order, which depends on the tournament's seed
//! and on the members' keys only. Everything is decided on slots, so permuting the members (with
//! their keys) permutes pairings and results and changes nothing else. A published Swiss
//! implementation that mixed up list positions and members credited points to the wrong ones; the
//! property tests here rule that out.

mod knockout;
mod matching;
mod round_robin;
mod standings;
mod swiss;

use std::cmp::Ordering;
use std::fmt::Debug;

use joust_schema::ids::Member;
use joust_schema::seed::Seed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::knockout::Knockout;
use self::round_robin::RoundRobin;
use self::swiss::Swiss;

/// Which pairs of a group meet.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum TournamentKind {
    /// A few rounds between members of like score without rematches: most of a round robin's
    /// information for about half of its matches.
    Swiss,
    /// A random bracket, n - 1 matches: the choice for best-of-n, too little information for a
    /// reward.
    Knockout,
    /// Every pair once, n(n-1)/2 matches.
    RoundRobin,
}

/// A match that can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pairing {
    /// One member.
    pub a: Member,
    /// The other member.
    pub b: Member,
    /// The round, counted from 0.
    pub round: u32,
}

/// Valid votes of a finished match. Invalid votes are not counted anywhere here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MatchScore {
    /// Votes for the first named member.
    pub votes_a: u32,
    /// Votes for the second named member.
    pub votes_b: u32,
}

impl MatchScore {
    /// Compares the votes: `Greater` where the first named member won, `Equal` for a draw or
    /// without any valid vote.
    pub fn outcome(self) -> Ordering {
        self.votes_a.cmp(&self.votes_b)
    }

    /// The same match, told from the other member's side.
    fn swapped(self) -> Self {
        Self { votes_a: self.votes_b, votes_b: self.votes_a }
    }
}

/// A score that no match in play is waiting for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// The two members are not playing each other now: never paired, not handed out yet, or
    /// recorded before.
    #[error(
        "no match between members {} and {} is in play, record each pairing from ready() once",
        a.0,
        b.0
    )]
    NotPlaying {
        /// The first named member.
        a: Member,
        /// The second named member.
        b: Member,
    },
}

/// A match between two slots, as the formats see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotPairing {
    a: usize,
    b: usize,
    round: u32,
}

/// What a kind of tournament decides, on slots.
trait Format: Debug + Send {
    /// Hands out the matches that can be played and were not handed out before.
    fn ready(&mut self) -> Vec<SlotPairing>;
    /// Takes the score of a match in play; false where `a` and `b` (in this order or the other)
    /// play no match.
    fn record(&mut self, a: usize, b: usize, score: MatchScore) -> bool;
    /// Tells whether every match was recorded.
    fn is_done(&self) -> bool;
    /// The best slot, once done.
    fn winner(&self) -> Option<usize>;
    /// Matches of the whole tournament.
    fn n_matches_planned(&self) -> usize;
}

/// One group's tournament.
///
/// Call [`ready`](Self::ready), play what it returns in any order, [`record`](Self::record) each
/// score, and call `ready` again after any score until [`is_done`](Self::is_done).
#[derive(Debug)]
pub struct Tournament {
    /// The member in each slot.
    members: Vec<Member>,
    /// The slot of each member.
    slots: Vec<usize>,
    format: Box<dyn Format>,
}

impl Tournament {
    /// Draws the seed order and sets the tournament up.
    ///
    /// `member_keys` holds one key a member, the hash of what distinguishes it (its completion).
    /// Equal keys are ordered by position: give equal completions different keys, or their exchange
    /// changes who plays whom. `rounds` is read by [`TournamentKind::Swiss`] only.
    pub fn new(kind: TournamentKind, member_keys: &[u64], rounds: Option<u32>, seed: Seed) -> Self {
        let mut order: Vec<(Seed, u64, usize)> = member_keys
            .iter()
            .enumerate()
            .map(|(idx, &key)| (seed.child("seed_order", key), key, idx))
            .collect();
        order.sort_by_key(|&(draw, key, idx)| (draw.0, key, idx));
        let n_members = order.len();
        let mut slots = vec![0; n_members];
        for (slot, &(_, _, idx)) in order.iter().enumerate() {
            slots[idx] = slot;
        }
        let slot_keys: Vec<u64> = order.iter().map(|&(_, key, _)| key).collect();
        let members = order
            .iter()
            .map(|&(_, _, idx)| {
                Member(u32::try_from(idx).expect("A group is small. This is a bug."))
            })
            .collect();
        let format: Box<dyn Format> = match kind {
            TournamentKind::Swiss => Box::new(Swiss::new(n_members, rounds)),
            TournamentKind::Knockout => Box::new(Knockout::new(slot_keys, seed)),
            TournamentKind::RoundRobin => Box::new(RoundRobin::new(n_members)),
        };
        Self { members, slots, format }
    }

    /// Hands out the pairings that can be played now and were not handed out before.
    ///
    /// A knockout releases a match as soon as its two players are known, Swiss a round when the one
    /// before is complete, a round robin everything at once.
    pub fn ready(&mut self) -> Vec<Pairing> {
        let pairings = self.format.ready();
        pairings
            .into_iter()
            .map(|SlotPairing { a, b, round }| Pairing {
                a: self.members[a],
                b: self.members[b],
                round,
            })
            .collect()
    }

    /// Records the score of a match in play; `score` counts votes for `a` and for `b` as named
    /// here.
    ///
    /// Equal votes, or none, are a draw: in a knockout a coin keyed by the seed and both members'
    /// keys decides who advances; in Swiss and round robin each gets half a point, which only
    /// orders later pairings and the winner.
    pub fn record(&mut self, a: Member, b: Member, score: MatchScore) -> Result<(), RecordError> {
        let slot = |member: Member| self.slots.get(member.0 as usize).copied();
        let known = slot(a).zip(slot(b));
        match known {
            Some((slot_a, slot_b)) if self.format.record(slot_a, slot_b, score) => Ok(()),
            _ => Err(RecordError::NotPlaying { a, b }),
        }
    }

    /// Tells whether every match was recorded.
    pub fn is_done(&self) -> bool {
        self.format.is_done()
    }

    /// Returns the winner once the tournament is done; none before, and none without members.
    ///
    /// A knockout is won by the last one standing. Swiss and round robin order by points, then by
    /// the points of the opponents met (Buchholz), then by the points from matches among those
    /// still level, then by seed order.
    pub fn winner(&self) -> Option<Member> {
        self.format.winner().map(|slot| self.members[slot])
    }

    /// Returns the number of matches of the whole tournament, byes not counted.
    pub fn n_matches_planned(&self) -> usize {
        self.format.n_matches_planned()
    }

    /// Returns the members in seed order, the order that permuting them does not change.
    pub fn seed_order(&self) -> &[Member] {
        &self.members
    }
}

/// Matches that were handed out and not recorded yet.
#[derive(Debug, Default)]
struct InPlay(Vec<(usize, usize)>);

impl InPlay {
    fn push(&mut self, a: usize, b: usize) {
        self.0.push((a, b));
    }

    /// Removes the match between `a` and `b`, whichever was named first; false where there is none.
    fn take(&mut self, a: usize, b: usize) -> bool {
        let found = self.0.iter().position(|&pair| pair == (a, b) || pair == (b, a));
        found.map(|at| self.0.swap_remove(at)).is_some()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
