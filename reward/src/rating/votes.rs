//! The valid votes of a match, by presentation order.
//!
//! Plain data. Players are numbered as the caller numbers them: 0..n, the same for all matches of a
//! group.

/// Valid votes of one match in one presentation order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VoteCounts {
    /// Votes for player a.
    pub a: u32,
    /// Votes for player b.
    pub b: u32,
}

/// The valid votes of one match between two players of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MatchVotes {
    /// Number of one player.
    pub a: usize,
    /// Number of the other player, different from `a`.
    pub b: usize,
    /// Votes cast when a was shown first.
    pub a_first: VoteCounts,
    /// Votes cast when b was shown first.
    pub b_first: VoteCounts,
}

impl MatchVotes {
    /// Votes for a in both orders.
    pub fn votes_a(&self) -> u64 {
        u64::from(self.a_first.a) + u64::from(self.b_first.a)
    }

    /// Votes for b in both orders.
    pub fn votes_b(&self) -> u64 {
        u64::from(self.a_first.b) + u64::from(self.b_first.b)
    }
}

/// The valid votes of the matches of a group.
#[derive(Clone, Copy, Debug)]
pub struct GroupVotes<'a> {
    /// Number of players.
    pub n: usize,
    /// The matches.
    pub matches: &'a [MatchVotes],
}
