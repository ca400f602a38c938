//! Round robin: every pair once, in the rounds of the circle method, all handed out at once.
//!
//! Knows which matches are in play. It does not order them: any order of recording gives the same
//! result.

use super::format::{MatchesInPlay, SlotMatch, TournamentFormat};
use super::opening::Openings;
use super::score::MatchScore;
use super::standings::Standings;
use crate::index::SlotIdx;

/// A round robin between slots.
#[derive(Debug)]
pub(super) struct RoundRobin {
    standings: Standings,
    openings: Openings,
    in_play: MatchesInPlay,
    is_handed_out: bool,
}

impl RoundRobin {
    pub(super) fn new(openings: Openings) -> Self {
        let n_slots = openings.n_slots();
        Self {
            standings: Standings::new(n_slots),
            openings,
            in_play: MatchesInPlay::default(),
            is_handed_out: n_slots < 2,
        }
    }
}

impl TournamentFormat for RoundRobin {
    fn take_ready_matches(&mut self) -> Vec<SlotMatch> {
        if self.is_handed_out {
            return Vec::new();
        }
        self.is_handed_out = true;
        let pairs = circle(self.standings.n_slots()).into_iter();
        pairs
            .map(|(a, b, round)| {
                self.in_play.insert(a, b);
                SlotMatch { a, b, round, a_opens: self.openings.decide(a, b) }
            })
            .collect()
    }

    fn record_score(&mut self, a: SlotIdx, b: SlotIdx, score: MatchScore) -> bool {
        let was_in_play = self.in_play.remove(a, b);
        if was_in_play {
            self.standings.record_score(a, b, score);
        }
        was_in_play
    }

    fn is_done(&self) -> bool {
        self.is_handed_out && self.in_play.is_empty()
    }

    fn winner(&self) -> Option<SlotIdx> {
        if self.is_done() { self.standings.best() } else { None }
    }

    fn n_matches_planned(&self) -> usize {
        let n_slots = self.standings.n_slots();
        n_slots * n_slots.saturating_sub(1) / 2
    }
}

/// The circle method: one position stays, the others rotate by one position per round; the slot
/// opposite the extra position of an odd number rests. No slot plays twice in a round: n - 1 rounds
/// for even n, n for odd n.
fn circle(n_slots: usize) -> Vec<(SlotIdx, SlotIdx, u32)> {
    let n_positions = n_slots.next_multiple_of(2);
    let mut positions: Vec<usize> = (0..n_positions).collect();
    let mut matches = Vec::with_capacity(n_slots * n_slots / 2);
    for round in 0..n_positions.saturating_sub(1) {
        for position in 0..n_positions / 2 {
            let (a, b) = (positions[position], positions[n_positions - 1 - position]);
            if a < n_slots && b < n_slots {
                let round = u32::try_from(round).expect("A group is small. This is a bug.");
                matches.push((SlotIdx(a), SlotIdx(b), round));
            }
        }
        positions[1..].rotate_right(1);
    }
    matches
}
