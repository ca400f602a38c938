//! Every pair once, in the rounds of the circle method, all handed out at once.
//!
//! Knows which pairs are still out. It does not order the matches: any order of recording gives the
//! same result.

use super::standings::Standings;
use super::{Format, InPlay, MatchScore, SlotPairing};

/// A round robin between slots.
#[derive(Debug)]
pub(super) struct RoundRobin {
    standings: Standings,
    in_play: InPlay,
    handed_out: bool,
}

impl RoundRobin {
    pub(super) fn new(n_slots: usize) -> Self {
        Self {
            standings: Standings::new(n_slots),
            in_play: InPlay::default(),
            handed_out: n_slots < 2,
        }
    }
}

impl Format for RoundRobin {
    fn ready(&mut self) -> Vec<SlotPairing> {
        if self.handed_out {
            return Vec::new();
        }
        self.handed_out = true;
        let pairings = circle(self.standings.n_slots());
        for pairing in &pairings {
            self.in_play.push(pairing.a, pairing.b);
        }
        pairings
    }

    fn record(&mut self, a: usize, b: usize, score: MatchScore) -> bool {
        let played = self.in_play.take(a, b);
        if played {
            self.standings.record(a, b, score);
        }
        played
    }

    fn is_done(&self) -> bool {
        self.handed_out && self.in_play.is_empty()
    }

    fn winner(&self) -> Option<usize> {
        if self.is_done() { self.standings.best() } else { None }
    }

    fn n_matches_planned(&self) -> usize {
        let n_slots = self.standings.n_slots();
        n_slots * n_slots.saturating_sub(1) / 2
    }
}

/// The circle method: one place stays, the others turn by one place a round; whoever faces the
/// extra place of an odd number rests. Nobody plays twice in a round: n - 1 rounds for even n, n
/// for odd n.
fn circle(n_slots: usize) -> Vec<SlotPairing> {
    let n_places = n_slots.next_multiple_of(2);
    let mut places: Vec<usize> = (0..n_places).collect();
    let mut pairings = Vec::with_capacity(n_slots * n_slots / 2);
    for round in 0..n_places.saturating_sub(1) {
        for place in 0..n_places / 2 {
            let (a, b) = (places[place], places[n_places - 1 - place]);
            if a < n_slots && b < n_slots {
                let round = u32::try_from(round).expect("A group is small. This is a bug.");
                pairings.push(SlotPairing { a, b, round });
            }
        }
        places[1..].rotate_right(1);
    }
    pairings
}
