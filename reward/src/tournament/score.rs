//! The score of a finished match.
//!
//! It does not know whose match it was.

use std::cmp::Ordering;

/// Number of valid votes of a finished match, per side. Invalid votes are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MatchScore {
    /// Votes for the player named first.
    pub votes_a: u32,
    /// Votes for the player named second.
    pub votes_b: u32,
}

impl MatchScore {
    /// Compares the votes: `Greater` if the player named first won, `Equal` for a draw or without
    /// any valid vote.
    pub fn outcome(self) -> Ordering {
        self.votes_a.cmp(&self.votes_b)
    }

    /// The same score with the players in the other order.
    pub(super) fn swapped(self) -> Self {
        Self { votes_a: self.votes_b, votes_b: self.votes_a }
    }
}
