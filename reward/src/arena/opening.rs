//! Decides which player of a match is shown first in its even votes; in odd votes the other player
//! is. Pure.
//!
//! It does not know votes.

use std::cmp::Ordering;

use joust_schema::seed::Seed;

use crate::index::PlayerIdx;

/// The players that opened the matches of a group so far. To *open* a match is to be shown first in
/// its even votes.
pub(super) struct Openings {
    /// Per player: number of matches that it opened, less those that its opponent opened.
    balance: Vec<i32>,
    has_opened: Vec<bool>,
}

impl Openings {
    pub(super) fn new(n_players: usize) -> Self {
        Self { balance: vec![0; n_players], has_opened: vec![false; n_players] }
    }

    /// Decides whether `a` opens its match with `b`, and counts it.
    ///
    /// The player with the lower balance opens, so that the judge's preference for a position evens
    /// out over the tournament. At equal balance a player that opened a match before does it again,
    /// else a coin keyed by `match_seed` decides.
    pub(super) fn a_opens(&mut self, a: PlayerIdx, b: PlayerIdx, match_seed: Seed) -> bool {
        let a_opens = match self.balance[a.0].cmp(&self.balance[b.0]) {
            Ordering::Less => true,
            Ordering::Greater => false,
            // a prompt that begins like an earlier one costs the judge less
            Ordering::Equal if self.has_opened[a.0] != self.has_opened[b.0] => self.has_opened[a.0],
            Ordering::Equal => match_seed.child("order", 0).unit() < 0.5,
        };
        let (first, second) = if a_opens { (a, b) } else { (b, a) };
        self.has_opened[first.0] = true;
        self.balance[first.0] += 1;
        self.balance[second.0] -= 1;
        a_opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PlayerIdx = PlayerIdx(0);
    const B: PlayerIdx = PlayerIdx(1);
    const C: PlayerIdx = PlayerIdx(2);

    #[test]
    fn opening_goes_to_the_lower_balance_then_to_a_player_that_opened_before() {
        let seed = Seed::new(3);
        let mut openings = Openings::new(3);
        let a_opened = openings.a_opens(A, B, seed);
        let (first, second) = if a_opened { (A, B) } else { (B, A) };
        assert!(openings.a_opens(second, first, seed), "the opponent has the lower balance");
        assert!(openings.a_opens(first, C, seed), "at equal balance, C has opened nothing");
        assert!(!openings.a_opens(first, C, seed), "now C has the lower balance");
    }

    #[test]
    fn opening_of_new_players_is_a_fair_coin() {
        let a_opens = |key| Openings::new(2).a_opens(A, B, Seed::new(key));
        let n_a = (0..400).filter(|&key| a_opens(key)).count();
        assert!((150..250).contains(&n_a), "{n_a}");
    }
}
