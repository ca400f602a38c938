//! The interface of a tournament format, on slots: knockout, Swiss, round robin.
//!
//! It does not know players; `Tournament` translates between them and slots.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::score::MatchScore;
use crate::index::SlotIdx;

/// A match between two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotMatch {
    pub(super) a: SlotIdx,
    pub(super) b: SlotIdx,
    /// The round, counted from 0.
    pub(super) round: u32,
    /// Whether `a` is shown first in even votes.
    pub(super) a_opens: bool,
}

/// Decides which slots meet and which one wins.
pub(super) trait TournamentFormat: Debug + Send {
    /// Returns the matches that can be played now and were not returned before.
    fn take_ready_matches(&mut self) -> Vec<SlotMatch>;

    /// Takes the score of a match in play; false if `a` and `b`, in either order, play no match.
    fn record_score(&mut self, a: SlotIdx, b: SlotIdx, score: MatchScore) -> bool;

    /// Whether every match was recorded.
    fn is_done(&self) -> bool;

    /// The best slot, once done.
    fn winner(&self) -> Option<SlotIdx>;

    /// Number of matches of the whole tournament.
    fn n_matches_planned(&self) -> usize;
}

/// Matches that were handed out and not recorded yet.
#[derive(Debug, Default)]
pub(super) struct MatchesInPlay(BTreeSet<[SlotIdx; 2]>);

impl MatchesInPlay {
    pub(super) fn insert(&mut self, a: SlotIdx, b: SlotIdx) {
        self.0.insert([a.min(b), a.max(b)]);
    }

    /// Removes the match between `a` and `b`, in either order; false if there is none.
    pub(super) fn remove(&mut self, a: SlotIdx, b: SlotIdx) -> bool {
        self.0.remove(&[a.min(b), a.max(b)])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
